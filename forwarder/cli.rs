//! What people type: one file per verb.

mod ask;
mod check;
mod clean;
mod explain;
mod flows;
mod key;
mod lab;
mod node;
mod run;
mod status;
mod wireguard;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The socket of a node whose file names none.
const SOCKET: &str = "/run/farlane/farlane.sock";

/// Pods of all clusters, one mesh: a user-space data plane for kernels without eBPF.
///
/// Farlane takes pod traffic in through a TUN, judges every flow by the identity of its ends,
/// balances global services over the clusters, and carries the rest through WireGuard tunnels.
#[derive(Debug, Parser)]
#[command(name = "farlane", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  farlane check config/examples            is everything right, and supported?
  farlane node --config eu-1.yaml          this node's Node object, for the other clusters
  farlane run --config eu-1.yaml           the node, in the foreground
  farlane status                           what it does now
  farlane explain --from shop/web-0 --to svc:shop/cart --port 80/TCP
  farlane flows --follow --verdict deny    what is denied, as it happens";

/// Each verb says of itself what it does: a word here would take the place of all of that.
#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Check(check::Check),
    Status(status::Status),
    Explain(explain::Explain),
    Flows(flows::Flows),
    Key(key::Key),
    Node(node::Node),
    Clean(clean::Clean),
    Wireguard(wireguard::Wireguard),
    Lab(lab::Lab),
}

/// Where the running node listens.
#[derive(Debug, clap::Args)]
struct Socket {
    /// The node's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// An error that ends a verb: one sentence that says what to do.
type Failure = Box<dyn std::error::Error>;

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let by_name = std::env::args_os().next().is_some_and(|program| {
        std::path::Path::new(&program)
            .file_name()
            .is_some_and(|name| name == "farlane-wg")
    });
    let outcome = if by_name {
        wireguard::Wireguard::parse().run()
    } else {
        match Args::parse().verb {
            Verb::Run(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
            Verb::Status(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(),
            Verb::Flows(verb) => verb.run(),
            Verb::Key(verb) => verb.run(),
            Verb::Node(verb) => verb.run(),
            Verb::Clean(verb) => verb.run(),
            Verb::Wireguard(verb) => verb.run(),
            Verb::Lab(verb) => verb.run(),
        }
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("farlane: {failure}");
        ExitCode::FAILURE
    })
}

/// Log lines on standard error; RUST_LOG chooses which.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for eyes: a journal or a file keeps the words.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Reads a node's file.
fn load(file: &Path) -> Result<config::Config, Failure> {
    read(file).map_err(|problems| problems.join("\n").into())
}

/// Reads a node's file, or says all that is wrong in it, each with its place.
fn read(file: &Path) -> Result<config::Config, Vec<String>> {
    config::Config::load(file).map_err(|problems| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let said = problems.iter().map(|problem| problem.render(&text));
        said.collect()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_of_a_verb_says_all_that_the_verb_says_of_itself() {
        let mut args = Args::command();
        for (verb, said) in [
            ("run", "SIGHUP reads every manifest again"),
            ("check", "A node file is checked with the manifests"),
            ("flows", "The node remembers its last 4,096 records"),
        ] {
            let verb = args.find_subcommand_mut(verb).expect("a verb");
            let help = verb.render_long_help().to_string();
            assert!(help.contains(said), "{help}");
        }
    }
}
