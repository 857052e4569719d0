//! `farlane lab`.

mod bench;
mod compare;
mod demo;
mod show;
mod tools;

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use super::Failure;
use crate::lab::error::LabError;
use crate::lab::interrupt::Interrupt;
use crate::lab::nodes;
use crate::lab::peer::{Kind, NODE, Peer, on_path};
use crate::lab::record::{self, Left};
use crate::lab::tunnel::{ECHO_PORT, IPERF_PORT, Tunnel};
use crate::lab::world::{self, CLIENT, NEIGHBOUR, NODES, PODS, SERVER, World};

/// Measure tunnels on this machine, and compare what was measured
///
/// The lab makes two nodes with a pod each in network namespaces of this machine, and removes them
/// again; nothing else of the host is touched. It needs root, and from Debian: iproute2, iperf3,
/// wireguard-tools, ethtool, nftables.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Lab {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  farlane lab bench --quick                          does everything work, and about how fast?
  farlane lab bench --json a.json --html a.html      the whole sitting, for programs and for eyes
  farlane lab bench --only tcp --rounds 5 --peer wireguard-go=/opt/wireguard-go
  farlane lab compare before.json after.json         what changed beyond noise?
  farlane lab up; farlane lab down                   two nodes to try things on";

/// Each is documented where it stands: a comment here would hide that.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Up(Up),
    Down(Down),
    Bench(bench::Bench),
    Show(show::Show),
    Compare(compare::Compare),
    #[command(flatten)]
    Tool(tools::Tool),
}

impl Lab {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Demo(verb) => verb.run(),
            Verb::Up(verb) => verb.run(),
            Verb::Down(verb) => verb.run(),
            Verb::Bench(verb) => verb.run(),
            Verb::Show(verb) => verb.run(),
            Verb::Compare(verb) => verb.run(),
            Verb::Tool(tool) => tool.run(),
        }
    }
}

/// Put two nodes up, with a pod each, and leave them there
///
/// Both nodes run `farlane run`, with a policy and a global service; pods are network namespaces,
/// which `ip netns exec` enters. What to type is printed.
#[derive(Debug, clap::Args)]
struct Up {
    /// Another peer instead: `farlane wg`, `plain`, or the name of a program such as wireguard-go
    #[arg(long, value_name = "NAME|NAME=PATH", default_value = NODE)]
    peer: String,
}

impl Up {
    fn run(&self) -> Result<ExitCode, Failure> {
        let interrupt = begin(&[])?;
        let peer = self.peer()?;
        let mut world = World::up("up", &PODS, peer.pod_mtu(), &interrupt)?;
        let tunnel = Tunnel::start(&mut world, &peer, None)?;
        world.serve(SERVER, "iperf3", &["iperf3", "-s"], &[])?;
        interrupt.check()?;
        let (run, server) = (world.name().to_owned(), tunnel.address);
        println!(
            "run {run} stands: {} between two nodes; started at {}",
            peer.name,
            world.record().started
        );
        for node in &NODES {
            println!(
                "  node {}    ip netns exec {} bash",
                node.name,
                world.namespace(node.name)
            );
        }
        println!(
            "  pod client   ip netns exec {} bash",
            world.namespace(CLIENT)
        );
        println!(
            "  beside it    ip netns exec {} bash",
            world.namespace(NEIGHBOUR)
        );
        println!(
            "  pod server   ip netns exec {} bash",
            world.namespace(SERVER)
        );
        println!(
            "the server answers at {server}: iperf3 on port {IPERF_PORT}, echo on UDP port {ECHO_PORT}, such as"
        );
        println!(
            "  ip netns exec {} iperf3 -c {server}",
            world.namespace(CLIENT)
        );
        if peer.kind == Kind::Node {
            println!("each node tells what it does, `status` and `explain` as well as");
            let socket = nodes::socket(&world, &NODES[0]);
            println!("  farlane flows --follow --socket {socket}");
        }
        println!("files and logs are in {}", world.dir().display());
        println!("`farlane lab down` removes all of it");
        world.keep();
        Ok(ExitCode::SUCCESS)
    }

    fn peer(&self) -> Result<Peer, Failure> {
        let farlane = std::env::current_exe()?;
        let given: Vec<String> = self
            .peer
            .contains('=')
            .then(|| self.peer.clone())
            .into_iter()
            .collect();
        let name = self.peer.split('=').next().unwrap_or_default();
        let peers = Peer::all(&farlane, &given)?;
        let known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        let known = known.join(", ");
        let peer = peers.iter().find(|peer| peer.name == name).cloned();
        let wrong = || {
            format!("--peer {name}: not found on the PATH; there are {known}; or write NAME=PATH")
                .into()
        };
        peer.ok_or_else(wrong)
    }
}

/// Remove what `up` made, and what a killed run left
///
/// Only runs whose process is gone are touched: their namespaces with all that runs in them, their
/// files, their record.
#[derive(Debug, clap::Args)]
struct Down {
    /// Only this run, such as flab1f3a
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

impl Down {
    fn run(&self) -> Result<ExitCode, Failure> {
        require_root()?;
        let mut all = record::left();
        if let Some(run) = &self.run {
            all.retain(|left| left.run == *run);
            if all.is_empty() {
                return Err(
                    format!("there is no run {run}; `farlane lab down` alone removes all").into(),
                );
            }
        }
        if all.is_empty() {
            println!("nothing was left");
        }
        let (mut held, mut failed) = (false, false);
        for left in &all {
            if left.is_held() {
                held = true;
                eprintln!(
                    "{}; stop it first, it takes everything away itself",
                    left.describe()
                );
                continue;
            }
            match world::remove(left) {
                Ok(()) => println!("removed {}", left.describe()),
                Err(error) => {
                    failed = true;
                    eprintln!("{error}");
                }
            }
        }
        Ok(if failed || held && self.run.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// What every verb that makes something does first: is everything there, what was left, and from
/// now on a signal ends it in order.
fn begin(more: &[(&'static str, &'static str)]) -> Result<Interrupt, Failure> {
    require_root()?;
    let always = [
        ("ip", "iproute2"),
        ("iperf3", "iperf3"),
        ("wg", "wireguard-tools"),
        ("nft", "nftables"),
        ("ss", "iproute2"),
        ("sysctl", "procps"),
    ];
    for (program, package) in always.iter().chain(more) {
        if on_path(program).is_none() {
            return Err(LabError::Missing { program, package }.into());
        }
    }
    name_leftovers(&record::left());
    Ok(Interrupt::watch()?)
}

/// Says whose everything is that stands already. It does not hinder, but it may take time from what
/// is measured.
fn name_leftovers(all: &[Left]) {
    for left in all {
        let advice = match left.is_held() {
            true => "",
            false => "; `farlane lab down` removes it",
        };
        eprintln!("notice: {}{advice}", left.describe());
    }
}

fn require_root() -> Result<(), LabError> {
    let own = std::fs::metadata("/proc/self");
    match own.is_ok_and(|own| own.uid() == 0) {
        true => Ok(()),
        false => Err(LabError::NotRoot),
    }
}
