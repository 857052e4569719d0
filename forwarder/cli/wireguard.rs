//! `farlane wireguard`, also called by the name `farlane-wg`.

use std::process::ExitCode;

use clap::Parser;

use super::Failure;
use crate::wireguard;

/// Make a plain WireGuard interface for wg and wg-quick.
///
/// It makes a TUN with this name, goes into the background, and listens on
/// /var/run/wireguard/IFNAME.sock for wg(8). It ends when the link is deleted, or on SIGTERM.
/// With WG_QUICK_USERSPACE_IMPLEMENTATION=farlane-wg (a link to farlane), wg-quick uses it.
#[derive(Debug, Parser)]
pub(super) struct Wireguard {
    /// Name of the interface, such as wg0
    #[arg(value_name = "IFNAME")]
    name: String,
    /// Stay in the foreground, with the log on standard error
    #[arg(short, long)]
    foreground: bool,
    /// Be the program in the background, which tells its parent how it went
    #[arg(long, hide = true)]
    detached: bool,
}

impl Wireguard {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        if self.foreground {
            super::log();
            wireguard::run(&self.name, || {})?;
        } else if self.detached {
            wireguard::serve_detached(&self.name)?;
        } else {
            wireguard::detach(&self.name)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
