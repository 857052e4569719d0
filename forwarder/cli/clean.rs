//! `farlane clean`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::control::{self, host};

/// Remove what a crashed node left on this host, and say what that was
#[derive(Debug, clap::Args)]
pub(super) struct Clean {
    /// The node's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Clean {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let config = super::load(&self.config)?;
        if std::os::unix::net::UnixStream::connect(&config.socket).is_ok() {
            return Err(format!(
                "the node runs (it answers on {}); stop it first, it takes everything away itself",
                config.socket.display()
            )
            .into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Other workers' devices are found by their rules: another program may have one of the same
        // name.
        let first = config.tun.device(0);
        let mut removed = runtime.block_on(host::clean(std::slice::from_ref(&first)))?;
        let remove = control::remove_stale(&config.socket);
        if remove.map_err(|error| format!("the socket {}: {error}", config.socket.display()))? {
            removed.push(format!("the socket {}", config.socket.display()));
        }
        if removed.is_empty() {
            println!("nothing was left");
        }
        for what in removed {
            println!("removed {what}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
