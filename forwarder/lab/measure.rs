//! What is measured: the stages that somebody can choose, and the figures that each gives.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Stage {
    /// One flow, four flows and one in reverse, by iperf3; CPU of both tunnels for each GiB
    Tcp,
    /// The same with segmentation offload off on the underlay, as on a NIC without it
    NoGso,
    /// One flow between two pods of one node: through `farlane run`, else by the kernel's routing
    Local,
    /// The most datagrams a second of which fewer than 0.2 % are lost, of 64 and of 1,372 bytes
    LossFree,
    /// What arrives of datagrams that are sent as fast as possible, by their size
    Flood,
    /// Round trips: idle, under 1 Gbit/s of TCP, under all that TCP can carry
    Latency,
    /// New TCP connections a second through a service
    Connections,
    /// Memory of a tunnel process, idle and loaded, and what an idle one takes of a core
    Memory,
}

impl Stage {
    /// Every stage, in the order of a turn.
    pub(crate) const ALL: [Stage; 8] = [
        Stage::Memory,
        Stage::Tcp,
        Stage::Local,
        Stage::LossFree,
        Stage::Flood,
        Stage::Latency,
        Stage::Connections,
        // Last: what the switch does to a program that has found its offloads is not undone.
        Stage::NoGso,
    ];

    /// For a line of progress.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Stage::Tcp => "TCP throughput",
            Stage::NoGso => "TCP without segmentation offload",
            Stage::Local => "TCP between pods of one node",
            Stage::LossFree => "UDP without loss",
            Stage::Flood => "UDP flood",
            Stage::Latency => "round trips",
            Stage::Connections => "new connections",
            Stage::Memory => "idle CPU and memory",
        }
    }
}

/// Which way is up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Better {
    More,
    Less,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Its name in JSON, with its unit.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    /// For people: behind a number divided by `scale`.
    pub(crate) unit: &'static str,
    pub(crate) scale: f64,
    pub(crate) better: Better,
    pub(crate) stage: Stage,
}

const fn measure(
    stage: Stage,
    key: &'static str,
    title: &'static str,
    (unit, scale): (&'static str, f64),
    better: Better,
) -> Measure {
    Measure {
        key,
        title,
        unit,
        scale,
        better,
        stage,
    }
}

const GBIT: (&str, f64) = ("Gbit/s", 1.0);
const KPPS: (&str, f64) = ("kpps", 1_000.0);
const MICROSECONDS: (&str, f64) = ("µs", 1.0);
const CPU: (&str, f64) = ("s/GiB", 1.0);
const MIB: (&str, f64) = ("MiB", 1.0);
use Better::{Less, More};
use Stage::{Connections, Flood, Latency, Local, LossFree, Memory, NoGso, Tcp};

/// All of them, in the order of the table.
#[rustfmt::skip]
pub(crate) const MEASURES: [Measure; 29] = [
    measure(Tcp, "tcpOneFlowGbitPerSecond", "TCP one flow", GBIT, More),
    measure(Tcp, "tcpFourFlowsGbitPerSecond", "TCP four flows", GBIT, More),
    measure(Tcp, "tcpReverseGbitPerSecond", "TCP reverse", GBIT, More),
    measure(Tcp, "tcpCpuSecondsPerGib", "CPU of both tunnels", CPU, Less),
    measure(NoGso, "noGsoTcpOneFlowGbitPerSecond", "no GSO: one flow", GBIT, More),
    measure(NoGso, "noGsoTcpFourFlowsGbitPerSecond", "no GSO: four flows", GBIT, More),
    measure(NoGso, "noGsoTcpReverseGbitPerSecond", "no GSO: reverse", GBIT, More),
    measure(NoGso, "noGsoTcpCpuSecondsPerGib", "no GSO: CPU of both", CPU, Less),
    measure(Local, "localTcpGbitPerSecond", "TCP on one node", GBIT, More),
    measure(LossFree, "lossFree64BytePacketsPerSecond", "UDP 64 B loss-free", KPPS, More),
    measure(LossFree, "lossFree1372BytePacketsPerSecond", "UDP 1372 B loss-free", KPPS, More),
    measure(Flood, "flood64BytePacketsPerSecond", "UDP 64 B flood", KPPS, More),
    measure(Flood, "flood200BytePacketsPerSecond", "UDP 200 B flood", KPPS, More),
    measure(Flood, "flood600BytePacketsPerSecond", "UDP 600 B flood", KPPS, More),
    measure(Flood, "flood1372BytePacketsPerSecond", "UDP 1372 B flood", KPPS, More),
    measure(Flood, "flood1FlowPacketsPerSecond", "64 B by 1 flow", KPPS, More),
    measure(Flood, "flood30FlowsPacketsPerSecond", "64 B by 30 flows", KPPS, More),
    measure(Flood, "flood1000FlowsPacketsPerSecond", "64 B by 1000 flows", KPPS, More),
    measure(Latency, "idleRoundTripP50Us", "RTT idle p50", MICROSECONDS, Less),
    measure(Latency, "idleRoundTripP99Us", "RTT idle p99", MICROSECONDS, Less),
    measure(Latency, "sparseRoundTripP50Us", "RTT each 1 ms p50", MICROSECONDS, Less),
    measure(Latency, "sparseRoundTripP99Us", "RTT each 1 ms p99", MICROSECONDS, Less),
    measure(Latency, "gigabitRoundTripP50Us", "RTT at 1 Gbit/s p50", MICROSECONDS, Less),
    measure(Latency, "gigabitRoundTripP99Us", "RTT at 1 Gbit/s p99", MICROSECONDS, Less),
    measure(Latency, "fullRoundTripP50Us", "RTT at full TCP p50", MICROSECONDS, Less),
    measure(Latency, "fullRoundTripP99Us", "RTT at full TCP p99", MICROSECONDS, Less),
    measure(Connections, "newConnectionsPerSecond", "new connections", ("k/s", 1_000.0), More),
    measure(Memory, "idleMemoryMib", "memory idle", MIB, Less),
    measure(Memory, "loadedMemoryMib", "memory loaded", MIB, Less),
];

/// What an idle process takes of a core; beside the table's measures, since a ratio of two numbers
/// near zero says nothing.
pub(crate) const IDLE_CPU: Measure =
    measure(Memory, "idleCpuPercent", "idle CPU", ("%", 1.0), Less);

impl Measure {
    /// By its name in JSON.
    pub(crate) fn by_key(key: &str) -> Option<&'static Measure> {
        all().find(|measure| measure.key == key)
    }

    /// A value for people: three significant digits, at most two behind the point.
    pub(crate) fn show(&self, value: f64) -> String {
        show(value / self.scale)
    }

    /// Title and unit.
    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.title, self.unit)
    }
}

/// Those of the table, and the idle CPU.
pub(crate) fn all() -> impl Iterator<Item = &'static Measure> {
    MEASURES.iter().chain(std::iter::once(&IDLE_CPU))
}

/// Three significant digits, at most two behind the point.
pub(crate) fn show(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_has_a_name_of_its_own_and_a_stage_that_is_run() {
        let mut keys: Vec<&str> = all().map(|measure| measure.key).collect();
        assert!(all().all(|measure| Stage::ALL.contains(&measure.stage)));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), MEASURES.len() + 1);
        assert_eq!(Stage::ALL.len(), Stage::value_variants().len());
    }

    #[test]
    fn numbers_are_shown_with_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (5.067, "5.07"),
            (37.25, "37.2"),
            (99.96, "100"),
            (1_234.5, "1234"),
        ] {
            assert_eq!(show(value), text);
        }
    }
}
