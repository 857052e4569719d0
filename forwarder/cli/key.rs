//! `farlane key`: what `wg genkey` and `wg pubkey` do, and the node's own key.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tunnel::PrivateKey;
use zeroize::Zeroizing;

use super::Failure;
use crate::keys;

/// Make a WireGuard key, or show the public one
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a new private key
    Generate,
    /// Read a private key from standard input and print its public key
    Public {
        /// Print the public key of the node with this file instead, making its key if it has none
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl Key {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Generate => {
                let key = PrivateKey::from_bytes(driver::random()?);
                println!("{}", *Zeroizing::new(STANDARD.encode(key.as_bytes())));
            }
            Verb::Public { config: None } => {
                let mut text = Zeroizing::new(String::new());
                std::io::stdin().read_to_string(&mut text)?;
                println!("{}", keys::to_text(&keys::parse(&text)?.public()));
            }
            Verb::Public { config: Some(file) } => {
                let config = super::load(file)?;
                println!(
                    "{}",
                    keys::to_text(&keys::load_or_make(&config.state_dir)?.public())
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
