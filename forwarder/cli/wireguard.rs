//! `farlane wireguard`, also called by the name `farlane-wg`.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use driver::EngineChoice;

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
    /// What moves the packets
    #[arg(long, default_value = "auto")]
    engine: Engine,
    /// Be the program in the background, which tells its parent how it went
    #[arg(long, hide = true)]
    detached: bool,
}

/// The choices, as they are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// epoll, until the other is shown to be faster
    Auto,
    /// epoll and plain calls
    Epoll,
    /// io_uring, or epoll where that is refused
    Uring,
}

impl Engine {
    fn choice(self) -> EngineChoice {
        match self {
            Engine::Auto => EngineChoice::Auto,
            Engine::Epoll => EngineChoice::Epoll,
            Engine::Uring => EngineChoice::Uring,
        }
    }

    fn word(self) -> String {
        let word = self.to_possible_value();
        word.map_or_else(String::new, |word| word.get_name().to_owned())
    }
}

impl Wireguard {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        if self.foreground {
            super::log();
            wireguard::run(&self.name, self.engine.choice(), || {})?;
        } else if self.detached {
            wireguard::serve_detached(&self.name, self.engine.choice())?;
        } else {
            wireguard::detach(&self.name, &self.engine.word())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
