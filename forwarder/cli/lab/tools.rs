//! The hidden verbs of `farlane lab`: what runs inside the pods.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::super::Failure;
use crate::lab::traffic::wire::{self, Impairment};
use crate::lab::traffic::{attempts, connections, datagrams, round_trips};

/// Each prints one JSON object on one line, servers `ready` before.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Tool {
    /// Send numbered UDP datagrams
    #[command(hide = true)]
    Generate {
        to: SocketAddr,
        #[arg(long, default_value_t = 64)]
        bytes: usize,
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
        /// Datagrams a second; without it as many as possible
        #[arg(long)]
        rate: Option<f64>,
        /// By so many flows in turn, a few datagrams of each
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        flows: Option<u16>,
    },
    /// Count UDP datagrams until none comes any more
    #[command(hide = true)]
    Receive {
        port: u16,
        #[arg(long, default_value_t = 400)]
        quiet_ms: u64,
    },
    /// Send UDP datagrams back
    #[command(hide = true)]
    Echo { port: u16 },
    /// Measure round trips to an echo
    #[command(hide = true)]
    Ask {
        to: SocketAddr,
        #[arg(long, default_value_t = 10)]
        count: u64,
        #[arg(long, default_value_t = 0)]
        gap_us: u64,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Answer a byte on each TCP connection
    #[command(hide = true)]
    Accept { port: u16 },
    /// Answer every HTTP request with a name
    #[command(hide = true)]
    Answer { port: u16, name: String },
    /// Ask over HTTP every 20 ms, and tell who answered
    #[command(hide = true)]
    Attempts {
        to: SocketAddr,
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
    },
    /// Relay datagrams between two peers as a bad link does
    #[command(hide = true)]
    Wire {
        link: Impairment,
        /// Where we listen for one peer, and where it is
        #[arg(long, num_args = 2)]
        near: Vec<SocketAddr>,
        /// The same for the other one
        #[arg(long, num_args = 2)]
        far: Vec<SocketAddr>,
    },
    /// Make new TCP connections
    #[command(hide = true)]
    Connect {
        to: SocketAddr,
        #[arg(long, default_value_t = 32)]
        clients: usize,
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
    },
}

impl Tool {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let said = match self {
            Tool::Generate {
                to,
                bytes,
                seconds,
                rate,
                flows,
            } => {
                let (length, rate) = (length(*seconds)?, rate.filter(|rate| *rate > 0.0));
                let flows = flows.map(usize::from);
                serde_json::to_string(&datagrams::generate(*to, *bytes, length, rate, flows)?)
            }
            Tool::Receive { port, quiet_ms } => {
                let quiet = Duration::from_millis((*quiet_ms).max(1));
                serde_json::to_string(&datagrams::receive(*port, quiet)?)
            }
            Tool::Echo { port } => return done(round_trips::echo(*port)),
            Tool::Ask {
                to,
                count,
                gap_us,
                seconds,
            } => {
                let gap = Duration::from_micros(*gap_us);
                serde_json::to_string(&round_trips::ask(*to, *count, gap, length(*seconds)?)?)
            }
            Tool::Accept { port } => return done(connections::accept(*port)),
            Tool::Connect {
                to,
                clients,
                seconds,
            } => serde_json::to_string(&connections::connect(*to, *clients, length(*seconds)?)?),
            Tool::Wire { link, near, far } => {
                let ([near, of_near], [far, of_far]) = (near.as_slice(), far.as_slice()) else {
                    return Err("--near and --far take two addresses each".into());
                };
                return done(wire::relay((*near, *of_near), (*far, *of_far), link));
            }
            Tool::Answer { port, name } => return done(attempts::answer(*port, name)),
            Tool::Attempts { to, seconds } => {
                serde_json::to_string(&attempts::attempt(*to, length(*seconds)?)?)
            }
        };
        println!("{}", said?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Of a server, which ends only where it could not begin.
fn done(served: std::io::Result<()>) -> Result<ExitCode, Failure> {
    Ok(served.map(|()| ExitCode::SUCCESS)?)
}

fn length(seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| format!("--seconds {seconds}: {error}").into())
}
