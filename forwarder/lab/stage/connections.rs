//! New TCP connections a second from a pod through a service to the other cluster.

use std::time::Duration;

use super::{Findings, Subject};
use crate::lab::error::LabError;
use crate::lab::traffic::connections::Connected;
use crate::lab::tunnel::ACCEPT_PORT;
use crate::lab::world::{CLIENT, SERVER};

/// Clients that connect one time after the other.
const CLIENTS: &str = "32";

pub(super) fn measure(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let port = ACCEPT_PORT.to_string();
    subject.world.serve_own(SERVER, &["accept", &port])?;
    let to = format!("{}:{ACCEPT_PORT}", subject.tunnel.service);
    let seconds = subject.effort.run_seconds.to_string();
    let words = ["connect", &to, "--clients", CLIENTS, "--seconds", &seconds];
    let within = Duration::from_secs_f64(subject.effort.run_seconds + 20.0);
    let done: Connected = subject.ask_own(within, CLIENT, &words)?;
    if done.connected == 0 {
        let said = format!("no connection to {to} succeeds, {} failed", done.failed);
        return Err(LabError::step("new connections", said));
    }
    let rate = done.connected as f64 / done.seconds.max(1e-9);
    Ok(Findings {
        figures: vec![("newConnectionsPerSecond", rate)],
        trips: Vec::new(),
    })
}
