//! Round trips of a small datagram: on an idle tunnel back to back and with a gap, beside a paced
//! TCP flow, and beside one that takes all it can.

use std::time::Duration;

use super::{Findings, Subject, tcp};
use crate::lab::error::LabError;
use crate::lab::statistics::quantile;
use crate::lab::traffic::round_trips::RoundTrips;
use crate::lab::tunnel::ECHO_PORT;
use crate::lab::world::CLIENT;

/// Between an answer and the next question, in the situations that have a gap.
const GAP_US: u64 = 1_000;
/// Whatever the number of round trips: no longer than this.
const LONGEST: Duration = Duration::from_secs(8);

pub(super) fn measure(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let (many, few) = subject.effort.trips;
    let mut findings = Findings::default();
    let idle = ask(subject, many, 0)?;
    enter(
        &mut findings,
        "idle",
        ["idleRoundTripP50Us", "idleRoundTripP99Us"],
        idle,
    );
    let sparse = ask(subject, few, GAP_US)?;
    enter(
        &mut findings,
        "sparse",
        ["sparseRoundTripP50Us", "sparseRoundTripP99Us"],
        sparse,
    );
    let load = tcp::load(subject, Some("1G"))?;
    let gigabit = ask(subject, few, GAP_US)?;
    drop(load);
    enter(
        &mut findings,
        "gigabit",
        ["gigabitRoundTripP50Us", "gigabitRoundTripP99Us"],
        gigabit,
    );
    // The queues of the first load drain.
    subject
        .world
        .interrupt()
        .sleep(Duration::from_millis(500))?;
    let load = tcp::load(subject, None)?;
    let full = ask(subject, few, GAP_US)?;
    drop(load);
    enter(
        &mut findings,
        "full",
        ["fullRoundTripP50Us", "fullRoundTripP99Us"],
        full,
    );
    Ok(findings)
}

fn ask(subject: &Subject<'_>, count: u64, gap_us: u64) -> Result<RoundTrips, LabError> {
    let to = format!("{}:{ECHO_PORT}", subject.tunnel.address);
    let (count, gap, seconds) = (
        count.to_string(),
        gap_us.to_string(),
        LONGEST.as_secs().to_string(),
    );
    let words = [
        "ask",
        &to,
        "--count",
        &count,
        "--gap-us",
        &gap,
        "--seconds",
        &seconds,
    ];
    let trips = subject.ask_own::<RoundTrips>(LONGEST + Duration::from_secs(10), CLIENT, &words)?;
    Ok(trips.with_lost())
}

/// Median and 99th percentile, and all of them for the distribution.
fn enter(
    findings: &mut Findings,
    situation: &'static str,
    names: [&'static str; 2],
    trips: RoundTrips,
) {
    for (name, part) in names.into_iter().zip([0.5, 0.99]) {
        let value = quantile(&trips.microseconds, part);
        findings.figures.extend(value.map(|value| (name, value)));
    }
    findings.trips.push((situation, trips));
}
