//! `farlane status`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use super::{Failure, Socket, ask};
use crate::control::report::{Peer, Segments, ServicePort, Status as Report};

/// Show the running node: workers, peers, services, drops, drivers
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

impl Status {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let body = ask::ask(&self.socket.socket, "GET", "/status", "")?;
        if self.json {
            println!("{body}");
        } else {
            print!("{}", render(&serde_json::from_str(&body)?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// For people.
fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(report, &mut text);
    text
}

fn write_all(report: &Report, text: &mut String) -> std::fmt::Result {
    let applied = if report.applied_everywhere {
        "applied everywhere"
    } else {
        "not yet applied"
    };
    writeln!(
        text,
        "{} of cluster {}, epoch {}, {applied}",
        report.node, report.cluster, report.epoch
    )?;
    workers(report, text)?;
    peers(report, text)?;
    services(report, text)?;
    policies(report, text)?;
    sources(report, text)?;
    writeln!(text, "\nDROPS")?;
    for (reason, segments) in &report.drops {
        writeln!(text, "{segments:>12}  {reason}")?;
    }
    if report.host.spoofed + report.host.foreign + report.host.clear > 0 {
        writeln!(
            text,
            "by the host's rules: {} spoofed, {} in the clear from outside, {} kept from leaving in the clear",
            report.host.spoofed, report.host.foreign, report.host.clear
        )?;
    }
    let records = &report.flow_records;
    if records.lost + records.unlogged > 0 {
        writeln!(
            text,
            "of the flow records {} were lost, and {} are not in the log",
            records.lost, records.unlogged
        )?;
    }
    writeln!(text, "\nDRIVERS")?;
    let mut said = Vec::new();
    for driver in report.workers.iter().flat_map(|worker| &worker.drivers) {
        // Of most things every worker says the same.
        if said.contains(&driver) {
            continue;
        }
        said.push(driver);
        writeln!(
            text,
            "{:<28} {:<4} {}",
            driver.name,
            if driver.on { "on" } else { "off" },
            driver.why
        )?;
    }
    for warning in &report.host.warnings {
        writeln!(text, "\nWARNING {warning}")?;
    }
    for object in &report.objects {
        let reasons = object.reasons.join("; ");
        writeln!(
            text,
            "\n{} {} {}: {reasons} ({})",
            object.state.to_uppercase(),
            object.kind,
            object.name,
            object.place
        )?;
    }
    Ok(())
}

fn workers(report: &Report, text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "\nWORKER  DEVICE           EPOCH  FLOWS  SEGMENTS IN / OUT / CROSSED"
    )?;
    for worker in &report.workers {
        let silent = if worker.answering {
            ""
        } else {
            "  does not answer"
        };
        let Segments {
            received,
            sent,
            crossed_out,
            ..
        } = &worker.segments;
        writeln!(
            text,
            "{:<7} {:<16} {:<6} {:<6} {received} / {sent} / {crossed_out}{silent}",
            worker.worker, worker.device, worker.epoch, worker.flows,
        )?;
        if let Some(why) = &worker.last_end {
            writeln!(text, "        made anew {} times: {why}", worker.restarts)?;
        }
    }
    Ok(())
}

fn peers(report: &Report, text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "\nPEER                 CLUSTER      HEALTH      RTT        PATH             HANDSHAKE  ENDPOINT"
    )?;
    for peer in &report.peers {
        let lane = peer.lanes.first();
        let rtt = peer
            .rtt_ms
            .map_or_else(|| String::from("-"), |ms| format!("{ms:.2} ms"));
        let handshake = lane.and_then(|lane| lane.last_handshake_ago_s);
        let handshake = handshake.map_or_else(|| String::from("-"), |s| format!("{s:.0} s ago"));
        let endpoint = lane
            .and_then(|lane| lane.endpoint.as_deref())
            .unwrap_or("-");
        writeln!(
            text,
            "{:<20} {:<12} {:<11} {rtt:<10} {:<16} {handshake:<10} {endpoint}",
            peer.node,
            peer.cluster,
            peer.health,
            path(peer)
        )?;
        let silent = (0..)
            .zip(&peer.lanes)
            .filter(|(_, lane)| !lane.unanswered.is_empty());
        let silent: Vec<String> = silent
            .map(|(number, _): (u16, _)| number.to_string())
            .collect();
        if !silent.is_empty() {
            let silent = silent.join(", ");
            writeln!(
                text,
                "  its lanes {silent} do not answer all of ours: lane 0 carries it"
            )?;
        }
    }
    for peer in &report.peers {
        if peer.carries_ipv6 == Some(false) {
            writeln!(
                text,
                "{}: its path leaves IPv6 in the tunnel less than 1280 bytes: TCP passes, by the segment size that it announces",
                peer.node
            )?;
        }
    }
    Ok(())
}

/// The longest datagram in bytes, and what it is worth unless it is proven.
fn path(peer: &Peer) -> String {
    match (peer.path_mtu_bytes, peer.path_state.as_str()) {
        (None, _) => String::from("-"),
        (Some(bytes), "found") => bytes.to_string(),
        (Some(bytes), state) => format!("{bytes} {state}"),
    }
}

fn services(report: &Report, text: &mut String) -> std::fmt::Result {
    let mut by_name: BTreeMap<&str, Vec<&ServicePort>> = BTreeMap::new();
    for service in &report.services {
        by_name.entry(&service.service).or_default().push(service);
    }
    writeln!(
        text,
        "\nSERVICE                   ADDRESS                    BACKENDS IN USE (OF ALL)"
    )?;
    for (name, ports) in by_name {
        for port in ports {
            let used = port.backends.iter().filter(|backend| backend.in_use);
            let used: Vec<String> = used
                .map(|b| format!("{} (cluster {})", b.backend, b.cluster))
                .collect();
            let used = if used.is_empty() {
                String::from("none")
            } else {
                used.join(", ")
            };
            let all = port.backends.len();
            write!(text, "{name:<25} {:<26} {used} (of {all})", port.frontend)?;
            if port.internal_traffic_policy == "local" {
                write!(text, ", of this node only")?;
            }
            if let Some(seconds) = port.session_affinity_seconds {
                write!(text, ", a client stays {seconds} s")?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

/// So many policies are shown: those that have decided most.
const POLICIES: usize = 12;

fn policies(report: &Report, text: &mut String) -> std::fmt::Result {
    if report.policies.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\nPOLICY                                             STATE      HAS DECIDED"
    )?;
    let mut shown: Vec<_> = report.policies.iter().collect();
    shown.sort_by_key(|policy| std::cmp::Reverse(policy.decided));
    for policy in shown.iter().take(POLICIES) {
        let name = format!("{} {}", policy.kind, policy.name);
        writeln!(text, "{name:<50} {:<10} {}", policy.state, policy.decided)?;
    }
    if let Some(more) = shown.len().checked_sub(POLICIES).filter(|more| *more > 0) {
        writeln!(
            text,
            "and {more} more, which --json has too, with their rules"
        )?;
    }
    Ok(())
}

fn sources(report: &Report, text: &mut String) -> std::fmt::Result {
    writeln!(text, "\nCLUSTER  FILE                 IN FORCE (SHA-256)")?;
    for source in &report.sources {
        let hash = source.applied.get(..12).unwrap_or("none yet");
        let stale = if source.applied == source.seen {
            ""
        } else {
            "  last good version"
        };
        writeln!(
            text,
            "{:<8} {:<20} {hash}{stale}",
            source.cluster, source.file
        )?;
        for problem in &source.problems {
            writeln!(text, "         {problem}")?;
        }
    }
    Ok(())
}
