//! One stage of a turn: what it is measured on, how hard, and what comes out.

mod connections;
mod datagrams;
mod latency;
mod memory;
mod tcp;

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::error::LabError;
use super::machine;
use super::measure::Stage;
use super::peer::Peer;
use super::program::Program;
use super::traffic::round_trips::RoundTrips;
use super::tunnel::Tunnel;
use super::world::World;

/// How long and how often, in one place: a quick run differs from a thorough one by this alone.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    /// Length of one TCP run, after the second in which it finds its pace.
    pub(crate) run_seconds: f64,
    /// Length of one trial with datagrams.
    pub(crate) trial_seconds: f64,
    /// Halvings of the loss-free rate.
    pub(crate) bisections: u32,
    /// Sizes of a flood in bytes of payload, of those that have a measure.
    pub(crate) flood_bytes: Vec<usize>,
    /// Flows of a flood of 64 bytes, of those that have a measure.
    pub(crate) flood_flows: Vec<usize>,
    /// Round trips back to back, and with a gap.
    pub(crate) trips: (u64, u64),
    /// How long an idle tunnel is watched.
    pub(crate) idle_seconds: f64,
}

impl Effort {
    /// Enough for a median that means something.
    pub(crate) fn thorough() -> Effort {
        Effort {
            run_seconds: 5.0,
            trial_seconds: 1.0,
            bisections: 8,
            flood_bytes: vec![64, 200, 600, 1_372],
            flood_flows: vec![1, 30, 1_000],
            trips: (4_000, 1_500),
            idle_seconds: 3.0,
        }
    }

    /// Enough to see that everything works, and roughly where it stands.
    pub(crate) fn quick() -> Effort {
        Effort {
            run_seconds: 1.0,
            trial_seconds: 0.4,
            bisections: 5,
            flood_bytes: vec![64, 1_372],
            flood_flows: vec![1, 1_000],
            trips: (1_000, 300),
            idle_seconds: 1.0,
        }
    }

    /// About how long a stage takes.
    pub(crate) fn seconds(&self, stage: Stage) -> f64 {
        let trial = self.trial_seconds + 0.7;
        match stage {
            Stage::Tcp | Stage::NoGso => 3.0 * (self.run_seconds + 1.4),
            Stage::LossFree => 2.0 * f64::from(self.bisections + 1) * trial,
            Stage::Flood => (self.flood_bytes.len() + self.flood_flows.len()) as f64 * trial,
            Stage::Latency => 4.0 + self.trips.0 as f64 * 3e-4 + self.trips.1 as f64 * 4e-3,
            Stage::Local => self.run_seconds + 1.4,
            Stage::Connections => self.run_seconds + 0.3,
            Stage::Memory => self.idle_seconds,
        }
    }
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Measures by name.
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// Round trips by situation.
    pub(crate) trips: Vec<(&'static str, RoundTrips)>,
}

/// What a stage measures.
pub(crate) struct Subject<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) peer: &'a Peer,
    pub(crate) tunnel: &'a Tunnel,
    pub(crate) effort: &'a Effort,
    /// Where iperf3 serves already.
    pub(crate) iperf: Vec<&'static str>,
}

impl Subject<'_> {
    /// Measures one stage.
    ///
    /// # Errors
    /// [`LabError`]; the next stage can be measured all the same, but for an interruption.
    pub(crate) fn measure(&mut self, stage: Stage) -> Result<Findings, LabError> {
        match stage {
            Stage::Tcp => tcp::measure(self, &tcp::NAMES),
            Stage::NoGso => tcp::measure_without_offload(self),
            Stage::Local => tcp::measure_local(self),
            Stage::LossFree => datagrams::loss_free(self),
            Stage::Flood => datagrams::flood(self),
            Stage::Latency => latency::measure(self),
            Stage::Connections => connections::measure(self),
            Stage::Memory => memory::idle(self),
        }
    }

    /// What the tunnel has needed at most, when everything else is done.
    pub(crate) fn loaded_memory(&self) -> Findings {
        memory::loaded(self)
    }

    /// CPU seconds of both tunnel processes so far; nothing where there are none.
    fn cpu_seconds(&self) -> Option<f64> {
        let processes = &self.tunnel.processes;
        let all: Option<Vec<f64>> = processes
            .iter()
            .map(|pid| machine::cpu_seconds(*pid))
            .collect();
        all.filter(|all| !all.is_empty())
            .map(|all| all.iter().sum())
    }

    /// Runs one of the lab's own programs at a place and reads what it says.
    fn ask_own<T: DeserializeOwned>(
        &self,
        within: Duration,
        place: &str,
        words: &[&str],
    ) -> Result<T, LabError> {
        let farlane = self.world.farlane.display().to_string();
        let words = [&[farlane.as_str(), "lab"], words].concat();
        let text = self.world.run_for(within, place, &words)?;
        parse(words[2], &text)
    }

    /// Starts one of the lab's own servers for a single trial, and waits until it listens.
    fn start_own(&self, place: &str, words: &[&str]) -> Result<Program, LabError> {
        let farlane = self.world.farlane.display().to_string();
        let all = [&[farlane.as_str(), "lab"], words].concat();
        let server = self.world.start(place, &all)?;
        self.world.listening(&server, words[0])?;
        Ok(server)
    }
}

/// Reads the last line of what one of the lab's own programs printed.
fn parse<T: DeserializeOwned>(verb: &str, text: &str) -> Result<T, LabError> {
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| LabError::step(format!("farlane lab {verb}"), error))
}
