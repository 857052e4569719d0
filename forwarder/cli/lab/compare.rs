//! `farlane lab compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::Failure;
use crate::lab::compare;
use crate::lab::report::Report;

/// Show what changed beyond noise between two sittings
///
/// Each figure of each peer that both files have is compared as its ratio to the reference peer
/// (wireguard-go) in the same round, since a machine as a whole drifts by 10 to 20 % between
/// sittings; the reference itself as it was measured. A change is told if the samples of A and B
/// hardly overlap (exact Mann-Whitney test, p of at most 0.1; with three rounds: not at all) and
/// their medians are at least 3 % apart.
#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    /// What `farlane lab bench --json` wrote before
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// What it wrote after
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// Show what is within noise too
    #[arg(long)]
    all: bool,
}

impl Compare {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let (a, b) = (Report::read(&self.a)?, Report::read(&self.b)?);
        print!("{}", compare::render(&a, &b, self.all));
        Ok(ExitCode::SUCCESS)
    }
}
