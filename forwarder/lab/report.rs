//! What `farlane lab bench --json` writes: every sample, and what is needed to judge them. The
//! table, the page and `compare` are made from this alone.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::LabError;
use super::machine::Machine;
use super::measure::{self, Better, Measure, Stage};
use super::statistics::median;

/// Of this shape; a reader refuses another.
pub(crate) const FORMAT: u32 = 1;

/// One sitting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) format: u32,
    /// Version of the farlane that measured.
    pub(crate) farlane: String,
    /// When it began, RFC 3339.
    pub(crate) date: String,
    /// How long it took.
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    /// Turns of each peer.
    pub(crate) rounds: usize,
    /// Length of one TCP run.
    pub(crate) run_seconds: f64,
    /// What the link between the nodes did, such as `delay=20ms,loss=1%`; null for a good one.
    #[serde(default)]
    pub(crate) link: Option<String>,
    /// The peer that ratios are against, where it was measured.
    pub(crate) reference: Option<String>,
    pub(crate) peers: Vec<PeerInfo>,
    pub(crate) measures: Vec<Series>,
    /// Every single round trip.
    pub(crate) round_trips: Vec<Trips>,
    /// What could not be measured.
    pub(crate) problems: Vec<Problem>,
}

/// One of those measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerInfo {
    pub(crate) name: String,
    /// Its path; empty for plain forwarding.
    pub(crate) program: String,
    pub(crate) version: String,
}

/// One measure, of all peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Series {
    /// Its name, with its unit.
    pub(crate) name: String,
    pub(crate) better: Better,
    pub(crate) peers: Vec<Samples>,
}

/// One measure of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Samples {
    pub(crate) peer: String,
    /// One for each round; null where it could not be measured.
    pub(crate) samples: Vec<Option<f64>>,
    pub(crate) median: Option<f64>,
    /// Median over the reference's median.
    pub(crate) ratio: Option<f64>,
}

/// Round trips of one peer in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trips {
    pub(crate) peer: String,
    pub(crate) round: usize,
    /// `idle`, `sparse`, `gigabit` or `full`.
    pub(crate) situation: String,
    /// A lost one counts 200,000.
    pub(crate) microseconds: Vec<f64>,
    /// How many of them were lost.
    pub(crate) lost: u64,
}

/// What could not be measured, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    pub(crate) peer: String,
    pub(crate) round: usize,
    /// What was tried.
    pub(crate) stage: String,
    pub(crate) reason: String,
}

impl Report {
    /// Reads one.
    ///
    /// # Errors
    /// [`LabError::File`] with line and column where it is not what `bench` writes.
    pub(crate) fn read(path: &Path) -> Result<Report, LabError> {
        let text = std::fs::read_to_string(path).map_err(|error| LabError::file(path, error))?;
        Report::parse(&text).map_err(|reason| LabError::file(path, reason))
    }

    fn parse(text: &str) -> Result<Report, String> {
        /// Looked at first: a newer one may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let no_report = |error| format!("not a report of `farlane lab bench --json`: {error}");
        let head: Head = serde_json::from_str(text).map_err(no_report)?;
        if head.format != FORMAT {
            let found = head.format;
            return Err(format!(
                "a report of format {found}; this farlane reads format {FORMAT}"
            ));
        }
        serde_json::from_str(text).map_err(no_report)
    }

    /// Writes it, in one line: most of it are round trips.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub(crate) fn write(&self, path: &Path) -> Result<(), LabError> {
        let text = serde_json::to_string(self).map_err(|error| LabError::file(path, error))?;
        std::fs::write(path, text + "\n").map_err(|error| LabError::file(path, error))
    }

    /// Samples of a measure by peer.
    pub(crate) fn samples(&self, name: &str, peer: &str) -> Option<&Samples> {
        let series = self.measures.iter().find(|series| series.name == name)?;
        series.peers.iter().find(|samples| samples.peer == peer)
    }

    /// The measures of the table that have a value of any peer, in its order.
    pub(crate) fn measured(&self) -> Vec<&'static Measure> {
        let has = |measure: &&Measure| {
            let peers = self.peers.iter();
            let mut medians = peers.map(|peer| self.median(measure.key, &peer.name));
            medians.any(|median| median.is_some())
        };
        measure::all().filter(has).collect()
    }

    /// Median of a measure of a peer.
    pub(crate) fn median(&self, name: &str, peer: &str) -> Option<f64> {
        self.samples(name, peer)?.median
    }

    /// All round trips of a peer in a situation, of all rounds.
    pub(crate) fn trips(&self, situation: &str, peer: &str) -> Vec<f64> {
        self.round_trips
            .iter()
            .filter(|trips| trips.situation == situation && trips.peer == peer)
            .flat_map(|trips| trips.microseconds.iter().copied())
            .collect()
    }
}

/// Collects samples while rounds go on.
#[derive(Debug)]
pub(crate) struct Ledger {
    rounds: usize,
    series: Vec<Series>,
}

impl Ledger {
    /// For the measures of these stages and these peers.
    pub(crate) fn new(stages: &[Stage], peers: &[String], rounds: usize) -> Ledger {
        let empty = |peer: &String| Samples {
            peer: peer.clone(),
            samples: vec![None; rounds],
            median: None,
            ratio: None,
        };
        let series = measure::all().filter(|measure| stages.contains(&measure.stage));
        let series = series.map(|measure| Series {
            name: measure.key.to_owned(),
            better: measure.better,
            peers: peers.iter().map(empty).collect(),
        });
        Ledger {
            rounds,
            series: series.collect(),
        }
    }

    /// Enters a sample; one of a measure that nobody asked for is passed over.
    pub(crate) fn enter(&mut self, name: &str, peer: &str, round: usize, value: f64) {
        debug_assert!(round < self.rounds, "rounds are counted from 0");
        let series = self.series.iter_mut().find(|series| series.name == name);
        let samples =
            series.and_then(|series| series.peers.iter_mut().find(|one| one.peer == peer));
        if let Some(samples) = samples {
            // Six digits are more than any of them is worth.
            let digits = 5 - value.abs().max(1e-3).log10().floor() as i32;
            let factor = 10f64.powi(digits);
            samples.samples[round] = Some((value * factor).round() / factor);
        }
    }

    /// Medians and ratios of what was entered.
    pub(crate) fn close(mut self, reference: Option<&str>) -> Vec<Series> {
        for series in &mut self.series {
            for samples in &mut series.peers {
                let values: Vec<f64> = samples.samples.iter().copied().flatten().collect();
                samples.median = median(&values);
            }
            let against = series
                .peers
                .iter()
                .find(|one| Some(one.peer.as_str()) == reference);
            let against = against
                .and_then(|one| one.median)
                .filter(|median| *median > 0.0);
            for samples in &mut series.peers {
                let ratio = samples.median.zip(against).map(|(own, of)| own / of);
                samples.ratio = ratio.map(|ratio| (ratio * 1e4).round() / 1e4);
            }
        }
        self.series
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with every measure, made up.
    pub(crate) fn example(peers: &[&str], rounds: usize) -> Report {
        let names: Vec<String> = peers.iter().map(|peer| (*peer).to_owned()).collect();
        let mut ledger = Ledger::new(&Stage::ALL, &names, rounds);
        let mut round_trips = Vec::new();
        for (number, peer) in names.iter().enumerate() {
            for round in 0..rounds {
                for measure in measure::all() {
                    let value = measure.scale * (1.0 + number as f64 + 0.01 * round as f64);
                    ledger.enter(measure.key, peer, round, value);
                }
                for situation in ["idle", "sparse", "gigabit", "full"] {
                    let microseconds = (1..200).map(|n| f64::from(n) * (number + 1) as f64);
                    round_trips.push(Trips {
                        peer: peer.clone(),
                        round,
                        situation: situation.into(),
                        microseconds: microseconds.collect(),
                        lost: 0,
                    });
                }
            }
        }
        let reference = peers
            .contains(&"wireguard-go")
            .then(|| "wireguard-go".to_owned());
        Report {
            format: FORMAT,
            farlane: "0.1.0".into(),
            date: "2026-11-28T04:00:00Z".into(),
            seconds: 100.0,
            machine: Machine::read(),
            rounds,
            run_seconds: 5.0,
            link: None,
            measures: ledger.close(reference.as_deref()),
            reference,
            peers: names
                .into_iter()
                .map(|name| PeerInfo {
                    program: format!("/bin/{name}"),
                    version: format!("{name} 1"),
                    name,
                })
                .collect(),
            round_trips,
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = example(&["farlane run", "wireguard-go"], 3);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(Report::parse(&text).unwrap(), report);
        assert!(text.contains("\"roundTrips\"") && text.contains("\"memoryMib\""));
    }

    #[test]
    fn medians_and_ratios_follow_from_the_samples_and_a_failed_round_is_left_out() {
        let peers = ["a".to_owned(), "b".to_owned()];
        let mut ledger = Ledger::new(&[Stage::Tcp], &peers, 3);
        for (peer, round, value) in [
            ("a", 0, 4.0),
            ("a", 2, 6.0),
            ("b", 0, 2.0),
            ("b", 1, 2.5),
            ("b", 2, 9.0),
        ] {
            ledger.enter("tcpOneFlowGbitPerSecond", peer, round, value);
        }
        let series = ledger.close(Some("b"));
        assert_eq!(series[0].peers[0].samples, [Some(4.0), None, Some(6.0)]);
        assert_eq!(series[0].peers[0].median, Some(5.0));
        assert_eq!(series[0].peers[0].ratio, Some(2.0));
        assert_eq!(series[1].peers[0].median, None);
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "not a report"),
            ("{\"format\": 1}", "missing field"),
            ("{\"format\": 9}", "format 9"),
            ("[1]", "not a report"),
        ] {
            let reason = Report::parse(text).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
        let path = Path::new("/no/such/file.json");
        let error = Report::read(path).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/file.json: "), "{error}");
    }
}
