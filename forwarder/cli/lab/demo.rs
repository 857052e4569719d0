//! `farlane lab demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::Failure;
use crate::lab::demo;
use crate::lab::error::LabError;

/// Show what Farlane does: reach, services, throughput, fail-over between two clusters
///
/// Two clusters of a node and three pods each, in network namespaces of this machine, for about a
/// minute. Exit code 0 only if everything is as the policies and services say. It drives curl, ping,
/// iperf3 and tcpdump.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Write what was seen, for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let interrupt = super::begin(&[
            ("curl", "curl"),
            ("ping", "iputils-ping"),
            ("tcpdump", "tcpdump"),
        ])?;
        let seen = demo::run(&interrupt)?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&seen)? + "\n";
            std::fs::write(file, text).map_err(|error| LabError::file(file, error))?;
        }
        Ok(match seen["ok"] == true {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
