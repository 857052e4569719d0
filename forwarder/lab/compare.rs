//! What changed between two sittings, beyond noise.
//!
//! A machine drifts by 10 to 20 % from one sitting to the next, so what is compared are ratios:
//! where both have the reference, each sample is divided by the reference's of the same round, whose
//! turn was minutes before or after. Else, and for the reference itself, the samples are compared as
//! they are. Two sets of samples differ if
//!
//! - by the test of Mann and Whitney it is at most 10 % probable that they come from one and the same
//!   thing, which with three rounds means that they do not overlap at all (with fewer nothing can be
//!   told), and
//! - their medians are at least 3 % apart: what is less is not worth a word.

use std::fmt::Write;

use super::measure::{Better, Measure, show};
use super::report::Report;
use super::statistics::{mann_whitney, median};

/// More probable differences are noise.
const PROBABILITY: f64 = 0.1;
/// Smaller differences are noise, in parts of the first median.
const SMALLEST: f64 = 0.03;
/// The test needs so many samples on each side to tell anything at [`PROBABILITY`].
const FEWEST: usize = 3;

/// What became of one measure of one peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    Noise,
    /// Too few samples to tell.
    Unknown,
}

impl Verdict {
    fn word(self, measure: &Measure) -> &'static str {
        // Speeds get faster, what is less gets smaller; latency gets faster too.
        let latency = measure.unit == "µs";
        match self {
            Verdict::Better if measure.better == Better::More || latency => "faster",
            Verdict::Worse if measure.better == Better::More || latency => "slower",
            Verdict::Better => "less",
            Verdict::Worse => "more",
            Verdict::Noise => "within noise",
            Verdict::Unknown => "too few rounds",
        }
    }
}

/// The change of one measure of one peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) measure: &'static str,
    pub(crate) peer: String,
    /// Medians as they were measured.
    pub(crate) medians: (f64, f64),
    /// Half of the range of each side's samples, in parts of its median.
    pub(crate) spreads: (f64, f64),
    /// Change of the median of what was compared, in parts of the first.
    pub(crate) change: f64,
    pub(crate) probability: f64,
    pub(crate) verdict: Verdict,
}

/// All that both have.
pub(crate) fn changes(a: &Report, b: &Report) -> Vec<Change> {
    let mut changes = Vec::new();
    for measure in a.measured() {
        for peer in &a.peers {
            changes.extend(change(a, b, measure, &peer.name));
        }
    }
    changes
}

fn change(a: &Report, b: &Report, measure: &'static Measure, peer: &str) -> Option<Change> {
    let medians = a
        .median(measure.key, peer)
        .zip(b.median(measure.key, peer))?;
    let shared = a
        .reference
        .as_deref()
        .filter(|_| a.reference == b.reference);
    let against = shared.filter(|reference| {
        *reference != peer && has(a, measure, reference) && has(b, measure, reference)
    });
    let (first, second) = (
        samples(a, measure, peer, against),
        samples(b, measure, peer, against),
    );
    let (from, to) = median(&first).zip(median(&second))?;
    let change = if from == to { 0.0 } else { to / from - 1.0 };
    let probability = mann_whitney(&first, &second);
    let more_is_better = measure.better == Better::More;
    let verdict = if first.len() < FEWEST || second.len() < FEWEST {
        Verdict::Unknown
    } else if probability > PROBABILITY + 1e-9 || change.abs() < SMALLEST {
        Verdict::Noise
    } else if (change > 0.0) == more_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    Some(Change {
        measure: measure.key,
        peer: peer.to_owned(),
        medians,
        spreads: (spread(&first), spread(&second)),
        change,
        probability,
        verdict,
    })
}

fn has(report: &Report, measure: &Measure, peer: &str) -> bool {
    report
        .median(measure.key, peer)
        .is_some_and(|median| median > 0.0)
}

/// Samples of the rounds that have one, over the reference's of the same round where there is one.
fn samples(report: &Report, measure: &Measure, peer: &str, against: Option<&str>) -> Vec<f64> {
    let of = |peer: &str| {
        let samples = report.samples(measure.key, peer);
        samples.map_or(Vec::new(), |samples| samples.samples.clone())
    };
    let own = of(peer);
    let Some(against) = against else {
        return own.into_iter().flatten().collect();
    };
    let pairs = own.into_iter().zip(of(against));
    let pairs = pairs.filter_map(|(own, of)| own.zip(of.filter(|of| *of > 0.0)));
    pairs.map(|(own, of)| own / of).collect()
}

fn spread(samples: &[f64]) -> f64 {
    let least = samples.iter().copied().reduce(f64::min);
    let most = samples.iter().copied().reduce(f64::max);
    let range = least.zip(most).map_or(0.0, |(least, most)| most - least);
    let middle = median(samples).unwrap_or(0.0).abs();
    if middle > 0.0 {
        range / 2.0 / middle
    } else {
        0.0
    }
}

/// What ratios are against, by its version.
fn reference_version(report: &Report) -> &str {
    let name = report.reference.as_deref();
    let mut peers = report.peers.iter();
    let peer = peers.find(|peer| Some(peer.name.as_str()) == name);
    peer.map_or("nothing", |peer| peer.version.as_str())
}

/// For a terminal: what changed first, then how much did not.
pub(crate) fn render(a: &Report, b: &Report, all: bool) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(a, b, all, &mut text);
    text
}

fn write_all(a: &Report, b: &Report, all: bool, text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "A  {}, farlane {}, {} rounds",
        a.date, a.farlane, a.rounds
    )?;
    writeln!(
        text,
        "B  {}, farlane {}, {} rounds",
        b.date, b.farlane, b.rounds
    )?;
    if a.machine != b.machine {
        writeln!(text, "not the same machine:")?;
        writeln!(text, "   A {}", a.machine.describe())?;
        writeln!(text, "   B {}", b.machine.describe())?;
    }
    if a.link != b.link {
        let name = |report: &Report| report.link.clone().unwrap_or("a good link".into());
        writeln!(
            text,
            "not over the same link: A over {}, B over {}",
            name(a),
            name(b)
        )?;
    }
    if a.run_seconds != b.run_seconds {
        let (a, b) = (a.run_seconds, b.run_seconds);
        writeln!(text, "not runs of one length: A {a} s, B {b} s")?;
    }
    let versions = (reference_version(a), reference_version(b));
    if a.reference == b.reference && versions.0 != versions.1 {
        let (a, b) = versions;
        writeln!(text, "not against the same program: A {a}, B {b}")?;
    }
    let changes = changes(a, b);
    if changes.is_empty() {
        return writeln!(text, "nothing was measured in both");
    }
    let shown: Vec<&Change> = changes
        .iter()
        .filter(|change| all || is_told(change))
        .collect();
    if shown.is_empty() {
        writeln!(text, "\nnothing changed beyond noise")?;
    } else {
        writeln!(text)?;
        let heads = ["A", "spread", "B", "spread", "change", "p"];
        let [one, two, three, four, five, six] = heads;
        writeln!(
            text,
            "{:27} {:12} {one:>7} {two:>6} {three:>7} {four:>6} {five:>7} {six:>5}  verdict",
            "", "peer"
        )?;
    }
    for change in shown {
        line(change, text)?;
    }
    let count = |verdict| {
        changes
            .iter()
            .filter(|change| change.verdict == verdict)
            .count()
    };
    writeln!(
        text,
        "\nof {} figures {} better, {} worse, {} within noise, {} with too few rounds",
        changes.len(),
        count(Verdict::Better),
        count(Verdict::Worse),
        count(Verdict::Noise),
        count(Verdict::Unknown)
    )?;
    match a
        .reference
        .as_deref()
        .filter(|_| a.reference == b.reference)
    {
        Some(reference) => writeln!(
            text,
            "changes are of the ratio to {reference} of the same round, its own as measured"
        ),
        None => writeln!(
            text,
            "without a reference in both, a machine's drift counts as a change"
        ),
    }
}

fn is_told(change: &Change) -> bool {
    matches!(change.verdict, Verdict::Better | Verdict::Worse)
}

fn line(change: &Change, text: &mut String) -> std::fmt::Result {
    let Some(measure) = Measure::by_key(change.measure) else {
        return Ok(());
    };
    let (a, b) = (
        measure.show(change.medians.0),
        measure.show(change.medians.1),
    );
    let spread = |spread: f64| format!("±{:.0} %", spread * 100.0);
    let (of_a, of_b) = (spread(change.spreads.0), spread(change.spreads.1));
    let by = format!("{:+.0} %", change.change * 100.0);
    let (probability, verdict) = (show(change.probability), change.verdict.word(measure));
    let label: String = measure.label().chars().take(27).collect();
    writeln!(
        text,
        "{label:27} {:12} {a:>7} {of_a:>6} {b:>7} {of_b:>6} {by:>7} {probability:>5}  {verdict}",
        change.peer
    )
}

#[cfg(test)]
mod tests {
    use super::super::measure::Stage;
    use super::super::report::Ledger;
    use super::super::report::tests::example;
    use super::*;

    const TCP: &str = "tcpOneFlowGbitPerSecond";
    const CPU: &str = "tcpCpuSecondsPerGib";

    /// A report with these samples of ours and of the reference.
    fn report(ours: &[f64], reference: &[f64], cpu: &[f64]) -> Report {
        let mut report = example(&["ours", "wireguard-go"], ours.len());
        let names = ["ours".to_owned(), "wireguard-go".to_owned()];
        let mut ledger = Ledger::new(&[Stage::Tcp], &names, ours.len());
        for round in 0..ours.len() {
            ledger.enter(TCP, "ours", round, ours[round]);
            ledger.enter(TCP, "wireguard-go", round, reference[round]);
            ledger.enter(CPU, "ours", round, cpu[round]);
        }
        report.measures = ledger.close(Some("wireguard-go"));
        report
    }

    fn verdict(changes: &[Change], name: &str) -> Verdict {
        let of = changes
            .iter()
            .find(|change| change.measure == name && change.peer == "ours");
        of.unwrap().verdict
    }

    #[test]
    fn a_machine_that_became_slower_as_a_whole_changes_no_ratio() {
        let a = report(&[4.0, 4.1, 4.2], &[2.0, 2.05, 2.1], &[3.0, 3.1, 3.2]);
        let b = report(&[3.2, 3.3, 3.4], &[1.6, 1.65, 1.7], &[3.0, 3.1, 3.2]);
        let changes = changes(&a, &b);
        assert_eq!(verdict(&changes, TCP), Verdict::Noise);
        // The reference as it was measured.
        let reference = changes
            .iter()
            .find(|change| change.peer == "wireguard-go")
            .unwrap();
        assert_eq!(reference.verdict, Verdict::Worse);
    }

    #[test]
    fn what_does_not_overlap_is_a_change_and_less_cpu_is_better() {
        let a = report(&[4.0, 4.1, 4.2], &[2.0, 2.0, 2.0], &[3.0, 3.1, 3.2]);
        let b = report(&[5.0, 5.1, 5.2], &[2.0, 2.0, 2.0], &[2.0, 2.1, 2.2]);
        let found = changes(&a, &b);
        assert_eq!(
            (verdict(&found, TCP), verdict(&found, CPU)),
            (Verdict::Better, Verdict::Better)
        );
        let back = changes(&b, &a);
        assert_eq!(
            (verdict(&back, TCP), verdict(&back, CPU)),
            (Verdict::Worse, Verdict::Worse)
        );
    }

    #[test]
    fn what_overlaps_is_noise_and_so_is_what_is_nearly_the_same() {
        let a = report(&[4.0, 4.6, 5.0], &[2.0, 2.0, 2.0], &[3.0, 3.01, 3.02]);
        let b = report(&[4.5, 5.0, 5.5], &[2.0, 2.0, 2.0], &[3.05, 3.06, 3.07]);
        let found = changes(&a, &b);
        assert_eq!(
            (verdict(&found, TCP), verdict(&found, CPU)),
            (Verdict::Noise, Verdict::Noise)
        );
    }

    #[test]
    fn two_rounds_tell_nothing() {
        let a = report(&[4.0, 4.1], &[2.0, 2.0], &[3.0, 3.0]);
        let b = report(&[9.0, 9.1], &[2.0, 2.0], &[1.0, 1.0]);
        assert_eq!(verdict(&changes(&a, &b), TCP), Verdict::Unknown);
    }

    #[test]
    fn a_report_compared_with_itself_shows_no_change_and_fits_a_hundred_columns() {
        let report = example(&["farlane run", "wireguard-go", "plain"], 3);
        assert!(render(&report, &report, false).contains("nothing changed beyond noise"));
        let all = render(&report, &report, true);
        for line in all.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(all.contains("within noise"));
    }
}
