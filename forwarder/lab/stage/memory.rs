//! What a tunnel process takes while nothing happens, and what it has taken at most. Of the two
//! processes the larger one counts.

use std::time::{Duration, Instant};

use super::{Findings, Subject};
use crate::lab::error::LabError;
use crate::lab::machine;

pub(super) fn idle(subject: &mut Subject<'_>) -> Result<Findings, LabError> {
    let processes = subject.tunnel.processes.clone();
    let scheduled = || processes.iter().map(|pid| machine::scheduled_seconds(*pid));
    let (before, begun) = (scheduled().collect::<Vec<_>>(), Instant::now());
    let watched = Duration::from_secs_f64(subject.effort.idle_seconds);
    subject.world.interrupt().sleep(watched)?;
    let seconds = begun.elapsed().as_secs_f64();
    let took = scheduled()
        .zip(before)
        .filter_map(|(after, before)| Some(after? - before?));
    let cpu = took
        .map(|took| 100.0 * took.max(0.0) / seconds)
        .reduce(f64::max);
    let memory = largest(subject, |(now, _)| now);
    let mut figures = Vec::new();
    figures.extend(memory.map(|memory| ("idleMemoryMib", memory)));
    figures.extend(cpu.map(|cpu| ("idleCpuPercent", cpu)));
    Ok(Findings {
        figures,
        trips: Vec::new(),
    })
}

pub(super) fn loaded(subject: &Subject<'_>) -> Findings {
    let most = largest(subject, |(_, most)| most);
    Findings {
        figures: most
            .map(|most| ("loadedMemoryMib", most))
            .into_iter()
            .collect(),
        trips: Vec::new(),
    }
}

fn largest(subject: &Subject<'_>, of: fn((f64, f64)) -> f64) -> Option<f64> {
    let processes = subject.tunnel.processes.iter();
    let all = processes
        .filter_map(|pid| machine::memory_mib(*pid))
        .map(of);
    all.reduce(f64::max)
}
