//! `farlane lab bench`.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::Failure;
use crate::lab::bench::Plan;
use crate::lab::error::LabError;
use crate::lab::html;
use crate::lab::measure::Stage;
use crate::lab::peer::{Kind, Peer, REFERENCE};
use crate::lab::stage::Effort;
use crate::lab::table;
use crate::lab::traffic::wire::Impairment;

/// Measure our tunnel and others in turn: throughput, packets, round trips, CPU, memory
///
/// In each round every peer has a turn in a fresh world of two nodes and three pods: `farlane run`
/// (with identities, a policy and a service), `farlane wireguard`, each program that is found on the
/// PATH (wireguard-go, boringtun-cli, gotatun, nebula) or given by --peer, and plain kernel
/// forwarding, which is what this machine can carry at most. A machine drifts by 10 to 20 %, so only
/// ratios of one sitting mean something; the table has them against --against.
///
/// Exit code 0 if everything was measured, 1 if something was not: it is named then.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A fair wireguard-go is one with segmentation offload, such as Debian's backports have; the stable
one is five times slower. In the sources, scripts/peer-wireguard-go prints the path of one.")]
pub(super) struct Bench {
    /// Only these stages
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STAGE,...")]
    only: Vec<Stage>,
    /// Another peer, or where a known one is; a plain WireGuard program is called as PATH IFNAME
    #[arg(long, value_name = "NAME=PATH")]
    peer: Vec<String>,
    /// Only these peers, by name; `ours` is both of ours
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    peers: Vec<String>,
    /// Turns of each peer; with fewer than three, `compare` can tell nothing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// Length of one TCP run in seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: Option<u16>,
    /// One round of one-second runs: does everything work, and about how fast?
    #[arg(long)]
    quick: bool,
    /// Let the link between the nodes be a bad one, each way, such as
    /// delay=20ms,jitter=2ms,loss=0.5%,reorder=1%,rate=100M; only peers for wg(8) are measured then
    #[arg(long, value_name = "LINK", value_parser = a_link)]
    link: Option<String>,
    /// Peer that ratios are against
    #[arg(long, value_name = "NAME", default_value = REFERENCE)]
    against: String,
    /// Write every sample, for programs and for `farlane lab compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one page with plots, which opens from disk without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Bench {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let plan = self.plan()?;
        let interrupt = super::begin(&[("ethtool", "ethtool")])?;
        // Before an hour of measuring, not after; what an earlier sitting wrote stays till then.
        for file in self.json.iter().chain(&self.html) {
            let opened = OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(|error| LabError::file(file, error))?;
        }
        if !plan.peers.iter().any(|peer| peer.name == plan.reference) {
            eprintln!(
                "notice: there is no {}, so there are no ratios; name one by --peer {}=PATH or --against",
                plan.reference, plan.reference
            );
        }
        let report = plan.run(&interrupt)?;
        print!("{}", table::render(&report));
        if let Some(file) = &self.json {
            report.write(file)?;
        }
        if let Some(file) = &self.html {
            html::write(&report, file)?;
        }
        Ok(if report.problems.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let farlane = std::env::current_exe()?;
        let mut peers = Peer::all(&farlane, &self.peer)?;
        let wanted = |peer: &Peer| {
            let ours = peer.program == farlane && self.peers.iter().any(|name| name == "ours");
            self.peers.is_empty() || ours || self.peers.contains(&peer.name)
        };
        for name in self.peers.iter().filter(|name| *name != "ours") {
            if peers.iter().all(|peer| peer.name != *name) {
                let known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
                return Err(format!("--peers {name}: there are {}, ours", known.join(", ")).into());
            }
        }
        peers.retain(wanted);
        if self.link.is_some() {
            peers.retain(|peer| matches!(peer.kind, Kind::Wireguard(_)));
        }
        if peers.is_empty() {
            return Err("no peer is left to measure".into());
        }
        let mut effort = match self.quick {
            true => Effort::quick(),
            false => Effort::thorough(),
        };
        if let Some(seconds) = self.seconds {
            effort.run_seconds = f64::from(seconds);
        }
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 3 });
        let stages = Stage::ALL.into_iter();
        Ok(Plan {
            peers,
            stages: stages
                .filter(|stage| self.only.is_empty() || self.only.contains(stage))
                .collect(),
            rounds: usize::from(rounds),
            effort,
            reference: self.against.clone(),
            link: self.link.clone(),
        })
    }
}

/// What is wrong with a link is said before anything is made.
fn a_link(text: &str) -> Result<String, String> {
    text.parse::<Impairment>().map(|_| text.to_owned())
}
