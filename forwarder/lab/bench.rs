//! A sitting: rounds, in each of which every peer has its turn in a fresh world, so that what drifts
//! on a machine meets all of them alike (A B A B).

use std::time::Instant;

use super::error::LabError;
use super::interrupt::Interrupt;
use super::machine::{self, Machine};
use super::measure::Stage;
use super::peer::{Kind, Peer};
use super::progress::Progress;
use super::report::{FORMAT, Ledger, PeerInfo, Problem, Report, Trips};
use super::stage::{Effort, Findings, Subject};
use super::tunnel::Tunnel;
use super::world::{PODS, World};

/// About how long a world takes to come and go.
const WORLD_SECONDS: f64 = 4.0;

/// What a sitting is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) peers: Vec<Peer>,
    /// In the order of a turn.
    pub(crate) stages: Vec<Stage>,
    pub(crate) rounds: usize,
    pub(crate) effort: Effort,
    /// Name of the peer that ratios are against.
    pub(crate) reference: String,
    /// What the link between the nodes does, as it was written; nothing where it is a good one.
    pub(crate) link: Option<String>,
}

impl Plan {
    /// About how long it takes.
    pub(crate) fn seconds(&self) -> f64 {
        let stages = self.stages.iter();
        let turn: f64 = stages.map(|stage| self.effort.seconds(*stage)).sum();
        (turn + WORLD_SECONDS) * (self.peers.len() * self.rounds) as f64
    }

    /// Measures everything.
    ///
    /// # Errors
    /// [`LabError::Interrupted`], and what ends every turn alike; what goes wrong with one peer is a
    /// problem in the report.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<Report, LabError> {
        let names: Vec<String> = self.peers.iter().map(|peer| peer.name.clone()).collect();
        let info = |peer: &Peer| {
            Ok(PeerInfo {
                name: peer.name.clone(),
                program: peer.program.display().to_string(),
                version: peer.version(interrupt)?,
            })
        };
        let peers = self
            .peers
            .iter()
            .map(info)
            .collect::<Result<_, LabError>>()?;
        let mut sitting = Sitting {
            plan: self,
            interrupt,
            progress: Progress::new(self.seconds()),
            ledger: Ledger::new(&self.stages, &names, self.rounds),
            trips: Vec::new(),
            problems: Vec::new(),
        };
        let (date, begun) = (machine::now(), Instant::now());
        for round in 0..self.rounds {
            for peer in &self.peers {
                sitting.turn(peer, round)?;
            }
        }
        let Sitting {
            ledger,
            trips,
            problems,
            progress,
            ..
        } = sitting;
        drop(progress);
        let reference = names
            .contains(&self.reference)
            .then(|| self.reference.clone());
        Ok(Report {
            format: FORMAT,
            farlane: env!("CARGO_PKG_VERSION").into(),
            date,
            seconds: begun.elapsed().as_secs_f64().round(),
            machine: Machine::read(),
            rounds: self.rounds,
            run_seconds: self.effort.run_seconds,
            link: self.link.clone(),
            measures: ledger.close(reference.as_deref()),
            reference,
            peers,
            round_trips: trips,
            problems,
        })
    }
}

/// A plan on its way.
struct Sitting<'a> {
    plan: &'a Plan,
    interrupt: &'a Interrupt,
    progress: Progress,
    ledger: Ledger,
    trips: Vec<Trips>,
    problems: Vec<Problem>,
}

impl Sitting<'_> {
    /// One peer in a world of its own, through all stages.
    fn turn(&mut self, peer: &Peer, round: usize) -> Result<(), LabError> {
        let plan = self.plan;
        self.step(peer, round, "two nodes, three pods", WORLD_SECONDS);
        let mut world = World::up("bench", &PODS, peer.pod_mtu(), self.interrupt)?;
        let tunnel = match Tunnel::start(&mut world, peer, plan.link.as_deref()) {
            Ok(tunnel) => tunnel,
            Err(error) => return self.note(peer, round, "start", error),
        };
        let mut subject = Subject {
            world: &mut world,
            peer,
            tunnel: &tunnel,
            effort: &plan.effort,
            iperf: Vec::new(),
        };
        for stage in &plan.stages {
            self.step(peer, round, stage.title(), plan.effort.seconds(*stage));
            match subject.measure(*stage) {
                Ok(findings) => self.enter(peer, round, findings),
                Err(error) => self.note(peer, round, stage.title(), error)?,
            }
        }
        let loaded = subject.loaded_memory();
        if peer.kind != Kind::Plain {
            self.enter(peer, round, loaded);
        }
        Ok(())
    }

    fn step(&mut self, peer: &Peer, round: usize, what: &str, seconds: f64) {
        let (round, rounds) = (round + 1, self.plan.rounds);
        let line = format!("round {round} of {rounds}, {}: {what}", peer.name);
        self.progress.step(&line, seconds);
    }

    fn enter(&mut self, peer: &Peer, round: usize, findings: Findings) {
        for (name, value) in findings.figures {
            self.ledger.enter(name, &peer.name, round, value);
        }
        for (situation, trips) in findings.trips {
            self.trips.push(Trips {
                peer: peer.name.clone(),
                round,
                situation: situation.to_owned(),
                microseconds: trips.microseconds,
                lost: trips.lost,
            });
        }
    }

    /// A peer that cannot do something loses that, not the others' figures.
    fn note(
        &mut self,
        peer: &Peer,
        round: usize,
        stage: &str,
        error: LabError,
    ) -> Result<(), LabError> {
        if matches!(error, LabError::Interrupted) {
            return Err(error);
        }
        self.progress
            .say(&format!("{}, {stage}: {error}", peer.name));
        self.problems.push(Problem {
            peer: peer.name.clone(),
            round,
            stage: stage.to_owned(),
            reason: error.to_string(),
        });
        Ok(())
    }
}
