//! `farlane run`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::node;

/// Run this node, in the foreground
///
/// It makes the TUN, the rules and the socket that the node's file names, and takes them away at
/// SIGTERM or SIGINT. SIGHUP reads every manifest again. The log goes to standard error; RUST_LOG
/// chooses how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The node's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        super::log();
        node::run(super::load(&self.config)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
