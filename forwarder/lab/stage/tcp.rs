//! TCP by iperf3: one flow, four, one in reverse, and the CPU that the tunnels take for it; one flow
//! between two pods of one node.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;

use super::{Findings, Subject};
use crate::lab::error::LabError;
use crate::lab::peer::Kind;
use crate::lab::program::Program;
use crate::lab::tunnel::IPERF_PORT;
use crate::lab::world::{CLIENT, NEIGHBOUR, NEIGHBOUR_ADDRESS, NODES, SERVER};

/// Names of the measures: one flow, four flows, reverse, CPU.
pub(super) const NAMES: [&str; 4] = [
    "tcpOneFlowGbitPerSecond",
    "tcpFourFlowsGbitPerSecond",
    "tcpReverseGbitPerSecond",
    "tcpCpuSecondsPerGib",
];
const NAMES_WITHOUT_OFFLOAD: [&str; 4] = [
    "noGsoTcpOneFlowGbitPerSecond",
    "noGsoTcpFourFlowsGbitPerSecond",
    "noGsoTcpReverseGbitPerSecond",
    "noGsoTcpCpuSecondsPerGib",
];

/// Seconds that iperf3 leaves out at the start, in which TCP finds its pace.
const OMITTED: f64 = 1.0;
/// What a node that carries a flow as fast as it can takes of a core at the very least.
const LEAST_SHARE: f64 = 0.1;
const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn measure(
    subject: &mut Subject<'_>,
    names: &[&'static str; 4],
) -> Result<Findings, LabError> {
    let seconds = subject.effort.run_seconds;
    let mut findings = Findings::default();
    let before = subject.cpu_seconds();
    let server = (SERVER, subject.tunnel.address);
    let one = run(subject, server, &[])?;
    let cpu = subject
        .cpu_seconds()
        .zip(before)
        .map(|(after, before)| after - before);
    findings.figures.push((names[0], one.gbit_per_second()));
    let four = run(subject, server, &["-P", "4"])?;
    findings.figures.push((names[1], four.gbit_per_second()));
    let reverse = run(subject, server, &["-R"])?;
    findings.figures.push((names[2], reverse.gbit_per_second()));
    // The second left out costs CPU too, so its bytes are added in proportion.
    let gib = one.bytes / GIB * (seconds + OMITTED) / seconds;
    if let Some(cpu) = cpu.filter(|_| gib > 0.0) {
        findings.figures.push((names[3], cpu / gib));
    }
    Ok(findings)
}

/// The same with the underlay as a NIC that can segment nothing.
pub(super) fn measure_without_offload(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    for node in &NODES {
        for feature in ["tso", "gso", "tx-udp-segmentation"] {
            let switch = ["ethtool", "-K", node.wire, feature, "off"];
            let switched = subject.world.run(node.name, &switch);
            // Where the other two are unknown there is nothing to switch off.
            if feature == "gso" {
                switched?;
            }
        }
    }
    measure(subject, &NAMES_WITHOUT_OFFLOAD)
}

/// One flow from the client to the pod beside it.
pub(super) fn measure_local(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let before = subject.cpu_seconds();
    let one = run(subject, (NEIGHBOUR, NEIGHBOUR_ADDRESS), &[])?;
    let least = LEAST_SHARE * subject.effort.run_seconds;
    let took = subject.cpu_seconds().zip(before);
    let took = took.map(|(after, before)| after - before);
    if subject.peer.kind == Kind::Node && took.is_some_and(|took| took < least) {
        let said = "it took no CPU worth the name: the flow went past it";
        return Err(LabError::step("farlane run", said));
    }
    Ok(Findings {
        figures: vec![("localTcpGbitPerSecond", one.gbit_per_second())],
        trips: Vec::new(),
    })
}

/// Where iperf3 serves, and at which address the client asks for it.
type Server = (&'static str, Ipv4Addr);

/// What the receiving end of a run counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Received {
    bytes: f64,
    bits_per_second: f64,
}

impl Received {
    fn gbit_per_second(&self) -> f64 {
        self.bits_per_second / 1e9
    }
}

/// One run of iperf3 from the client.
fn run(
    subject: &mut Subject<'_>,
    (place, address): Server,
    words: &[&str],
) -> Result<Received, LabError> {
    serve(subject, place)?;
    let seconds = subject.effort.run_seconds;
    let (to, length, omitted) = (
        address.to_string(),
        seconds.to_string(),
        OMITTED.to_string(),
    );
    let iperf = ["iperf3", "-J", "-c", &to, "-t", &length, "-O", &omitted];
    let all = [&iperf[..], words].concat();
    let within = Duration::from_secs_f64(seconds + OMITTED + 20.0);
    // The server serves one at a time, and needs a moment after one that was cut off.
    let mut last = None;
    subject
        .world
        .interrupt()
        .clone()
        .eventually(Duration::from_secs(5), || {
            let text = subject.world.run_for(within, CLIENT, &all);
            last = Some(text.and_then(|text| parse(&text)));
            let passing = |error: &LabError| {
                ["busy", "refused"]
                    .iter()
                    .any(|word| error.to_string().contains(word))
            };
            !matches!(&last, Some(Err(error)) if passing(error))
        })?;
    last.unwrap_or_else(|| Err(LabError::step("iperf3", "did not run")))
}

/// TCP that goes on until the returned program is dropped; `rate` as iperf3 writes it.
pub(super) fn load(subject: &mut Subject<'_>, rate: Option<&str>) -> Result<Program, LabError> {
    serve(subject, SERVER)?;
    let to = subject.tunnel.address.to_string();
    let mut words = vec!["iperf3", "-c", &to, "-t", "600"];
    words.extend(rate.iter().flat_map(|rate| ["-b", rate]));
    let mut program = subject.world.start(CLIENT, &words)?;
    subject.world.interrupt().sleep(Duration::from_secs(1))?;
    match program.runs() {
        true => Ok(program),
        false => Err(LabError::step("iperf3", program.last_words())),
    }
}

/// Starts iperf3's server where there is none yet.
fn serve(subject: &mut Subject<'_>, place: &'static str) -> Result<(), LabError> {
    if !subject.iperf.contains(&place) {
        let words = ["iperf3", "-s"];
        subject.world.serve(place, "iperf3", &words, &[])?;
        let listens = || {
            let sockets = subject.world.run(place, &["ss", "-ltnH"]);
            sockets.is_ok_and(|text| text.contains(&format!(":{IPERF_PORT} ")))
        };
        let interrupt = subject.world.interrupt().clone();
        if !interrupt.eventually(Duration::from_secs(10), listens)? {
            return Err(LabError::step("iperf3 -s", "does not listen"));
        }
        subject.iperf.push(place);
    }
    Ok(())
}

fn parse(text: &str) -> Result<Received, LabError> {
    #[derive(Deserialize)]
    struct Report {
        error: Option<String>,
        end: Option<End>,
    }
    #[derive(Deserialize)]
    struct End {
        sum_received: Option<Received>,
    }
    let report: Report =
        serde_json::from_str(text).map_err(|error| LabError::step("iperf3", error))?;
    if let Some(error) = report.error {
        return Err(LabError::step("iperf3", error));
    }
    let received = report.end.and_then(|end| end.sum_received);
    received.ok_or_else(|| LabError::step("iperf3", "it received nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_iperf3_received_is_read_and_its_error_is_told() {
        let text = r#"{"start": {}, "end": {"sum_received": {"bytes": 2147483648, "bits_per_second": 4.5e9, "sender": true}}}"#;
        let received = parse(text).unwrap();
        assert!((received.gbit_per_second() - 4.5).abs() < 1e-9);
        for (text, part) in [
            (r#"{"error": "unable to connect"}"#, "unable to connect"),
            (r#"{"end": {}}"#, "received nothing"),
            ("Killed", "iperf3"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(part));
        }
    }
}
