//! Packets a second: the most without loss, and what arrives of a flood.

use std::time::Duration;

use super::{Findings, Subject, parse};
use crate::lab::error::LabError;
use crate::lab::statistics::bisect;
use crate::lab::traffic::datagrams::{Received, Sent};
use crate::lab::tunnel::DATAGRAM_PORT;
use crate::lab::world::{CLIENT, SERVER};

/// Of all that was sent; more is loss.
const LOSS: f64 = 0.002;
/// A sender that reaches less of the rate asked for has not tried it.
const REACHED: f64 = 0.97;
/// A receiver is done when nothing came for so long.
const QUIET_MS: &str = "400";

pub(super) fn loss_free(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let mut findings = Findings::default();
    for (name, bytes) in [
        ("lossFree64BytePacketsPerSecond", 64),
        (
            "lossFree1372BytePacketsPerSecond",
            subject.peer.large_datagram(),
        ),
    ] {
        // No rate above what the sender reaches at all.
        let top = trial(subject, bytes, None, None)?.offered();
        let (steps, shared) = (subject.effort.bisections, &*subject);
        let best = bisect((0.0, top), steps, |rate| {
            let trial = trial(shared, bytes, Some(rate), None)?;
            let passes = trial.lost() <= LOSS && trial.offered() > REACHED * rate;
            Ok::<_, LabError>(passes.then(|| trial.arrived()))
        })?;
        // Nothing without loss is a figure too.
        findings.figures.push((name, best.unwrap_or(0.0)));
    }
    Ok(findings)
}

pub(super) fn flood(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let mut findings = Findings::default();
    for (name, bytes) in [
        ("flood64BytePacketsPerSecond", 64),
        ("flood200BytePacketsPerSecond", 200),
        ("flood600BytePacketsPerSecond", 600),
        ("flood1372BytePacketsPerSecond", 1_372),
    ] {
        if subject.effort.flood_bytes.contains(&bytes) {
            let fits = bytes.min(subject.peer.large_datagram());
            findings
                .figures
                .push((name, trial(subject, fits, None, None)?.arrived()));
        }
    }
    for (name, flows) in [
        ("flood1FlowPacketsPerSecond", 1),
        ("flood30FlowsPacketsPerSecond", 30),
        ("flood1000FlowsPacketsPerSecond", 1_000),
    ] {
        if subject.effort.flood_flows.contains(&flows) {
            let arrived = trial(subject, 64, None, Some(flows))?.arrived();
            findings.figures.push((name, arrived));
        }
    }
    Ok(findings)
}

/// One trial: both ends of it.
struct Trial {
    sent: Sent,
    received: Received,
}

impl Trial {
    /// Datagrams a second that the sender's kernel took.
    fn offered(&self) -> f64 {
        self.sent.sent as f64 / self.sent.seconds.max(1e-9)
    }

    /// Datagrams a second that came out. What was queued on the way comes when nobody sends any more:
    /// that time counts too, or long queues would look fast.
    fn arrived(&self) -> f64 {
        let seconds = self.sent.seconds.max(self.received.seconds);
        self.received.received as f64 / seconds.max(1e-9)
    }

    /// Part of what was sent, 0 to 1.
    fn lost(&self) -> f64 {
        1.0 - self.received.received as f64 / self.sent.sent.max(1) as f64
    }
}

fn trial(
    subject: &Subject<'_>,
    bytes: usize,
    rate: Option<f64>,
    flows: Option<usize>,
) -> Result<Trial, LabError> {
    let port = DATAGRAM_PORT.to_string();
    let receiver = subject.start_own(SERVER, &["receive", &port, "--quiet-ms", QUIET_MS])?;
    let to = format!("{}:{DATAGRAM_PORT}", subject.tunnel.address);
    let (bytes, seconds) = (bytes.to_string(), subject.effort.trial_seconds.to_string());
    let mut words = vec!["generate", &to, "--bytes", &bytes, "--seconds", &seconds];
    let rate = rate.map(|rate| rate.to_string());
    words.extend(rate.iter().flat_map(|rate| ["--rate", rate]));
    let flows = flows.map(|flows| flows.to_string());
    words.extend(flows.iter().flat_map(|flows| ["--flows", flows]));
    let within = Duration::from_secs(20);
    let sent = subject.ask_own(within, CLIENT, &words)?;
    let (_, text, _) = receiver.finish(subject.world.interrupt(), Duration::from_secs(30))?;
    Ok(Trial {
        sent,
        received: parse("receive", &text)?,
    })
}
