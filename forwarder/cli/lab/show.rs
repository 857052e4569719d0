//! `farlane lab show`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::super::Failure;
use crate::lab::report::Report;
use crate::lab::{html, table};

/// Show what `bench` has written: the table again, or the page
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// What `farlane lab bench --json` wrote
    #[arg(value_name = "REPORT.json")]
    report: PathBuf,
    /// Write one page with plots, which opens from disk without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Show {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let report = Report::read(&self.report)?;
        match &self.html {
            Some(file) => html::write(&report, file)?,
            None => print!("{}", table::render(&report)),
        }
        Ok(ExitCode::SUCCESS)
    }
}
