//! Two nodes and their pods, in network namespaces of this machine. `scripts/topology` draws it,
//! as for the tests; it is part of this program.
//!
//! ```text
//! client    10.1.1.10 ── eu-1 192.0.2.1 ══ us-1 192.0.2.3 ── server 10.2.1.10
//! neighbour 10.1.1.11 ──┘
//! ```

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::LabError;
use super::interrupt::Interrupt;
use super::program::{self, Output, Program};
use super::record::{self, Left, Record};

const TOPOLOGY: &str = include_str!("../../scripts/topology");
/// Where programs for wg(8) have their sockets.
const WIREGUARD_SOCKETS: &str = "/var/run/wireguard";
/// More than enough for anything that only sets up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pods between which is measured, as `scripts/topology` names them.
pub(crate) const PODS: [&str; 3] = ["eu-1/client", "eu-1/neighbour", "us-1/server"];
/// Where the client's pod is.
pub(crate) const CLIENT: &str = "eu-1-client";
/// Where the server's pod is.
pub(crate) const SERVER: &str = "us-1-server";
/// Where the pod beside the client's is, on the same node.
pub(crate) const NEIGHBOUR: &str = "eu-1-neighbour";
/// Address of the neighbour's pod.
pub(crate) const NEIGHBOUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 11);
/// Address of the server's pod.
pub(crate) const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 2, 1, 10);

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its name, and its namespace's behind the run's.
    pub(crate) name: &'static str,
    /// The cluster.
    pub(crate) cluster: &'static str,
    /// Its address on the underlay.
    pub(crate) address: Ipv4Addr,
    /// Where its pods are.
    pub(crate) pods: &'static str,
    /// Its end of the underlay.
    pub(crate) wire: &'static str,
}

/// Both nodes; each is the other's only neighbour.
pub(crate) const NODES: [Node; 2] = [
    Node {
        name: "eu-1",
        cluster: "eu",
        address: Ipv4Addr::new(192, 0, 2, 1),
        pods: "10.1.0.0/16",
        wire: "wire-us-1",
    },
    Node {
        name: "us-1",
        cluster: "us",
        address: Ipv4Addr::new(192, 0, 2, 3),
        pods: "10.2.0.0/16",
        wire: "wire-eu-1",
    },
];

impl Node {
    /// The other one.
    pub(crate) fn other(&self) -> &'static Node {
        &NODES[usize::from(self.name == NODES[0].name)]
    }
}

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    /// `NODE/NAME`.
    pub(crate) label: String,
    pub(crate) node: String,
    pub(crate) name: String,
    /// Its namespace's name behind the run's.
    pub(crate) place: String,
    pub(crate) v4: String,
    pub(crate) v6: String,
}

impl Pod {
    /// From a line of `scripts/topology pods`.
    fn parse(line: &str) -> Option<Pod> {
        let words: Vec<&str> = line.split(' ').collect();
        let [node, name, namespace, v4, v6] = words.as_slice() else {
            return None;
        };
        Some(Pod {
            label: format!("{node}/{name}"),
            node: (*node).to_owned(),
            name: (*name).to_owned(),
            place: namespace.split_once('-')?.1.to_owned(),
            v4: (*v4).to_owned(),
            v6: (*v6).to_owned(),
        })
    }

    /// `eu` or `us`.
    pub(crate) fn cluster(&self) -> &str {
        self.node.split('-').next().unwrap_or_default()
    }

    /// Its address of a family, `IPv4` or `IPv6`.
    pub(crate) fn address(&self, family: &str) -> &str {
        if family == "IPv6" { &self.v6 } else { &self.v4 }
    }
}

/// The world of one turn; dropped, it is gone from the machine.
#[derive(Debug)]
pub(crate) struct World {
    record: Record,
    interrupt: Interrupt,
    /// This program.
    pub(crate) farlane: PathBuf,
    programs: Vec<Program>,
    kept: bool,
}

impl World {
    /// Builds it, with these pods (`NODE/NAME`) and this MTU for them, on behalf of
    /// `farlane lab VERB`.
    ///
    /// # Errors
    /// [`LabError`]; nothing is left then.
    pub(crate) fn up(
        verb: &str,
        pods: &[&str],
        mtu: u16,
        interrupt: &Interrupt,
    ) -> Result<World, LabError> {
        let farlane = std::env::current_exe();
        let farlane = farlane.map_err(|error| LabError::step("find this program", error))?;
        // From here on whatever is there is taken away with this.
        let world = World {
            record: Record::write(verb)?,
            interrupt: interrupt.clone(),
            farlane,
            programs: Vec::new(),
            kept: false,
        };
        let mut dir = std::fs::DirBuilder::new();
        dir.mode(0o700)
            .create(world.dir())
            .map_err(|error| LabError::file(world.dir(), error))?;
        let mtu = mtu.to_string();
        let up = topology(
            "up",
            world.name(),
            &[&["--mtu", mtu.as_str()], pods].concat(),
        );
        // It takes a second or two; cut short, it would leave what it has made so far.
        let built = program::run(&mut { up }, &Interrupt::default(), PATIENCE);
        built.and_then(|_| interrupt.check())?;
        Ok(world)
    }

    /// The run's name.
    pub(crate) fn name(&self) -> &str {
        &self.record.run
    }

    /// Who made it, and when.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Its files: node files, manifests, keys, logs.
    pub(crate) fn dir(&self) -> &Path {
        &self.record.dir
    }

    /// The network namespace of a node or pod.
    pub(crate) fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.name())
    }

    /// A name for a device of a node that no other run has: `wg` knows interfaces by their sockets,
    /// which all namespaces share.
    pub(crate) fn device(&self, node: &Node) -> String {
        device(self.name(), node)
    }

    /// Writes node files and manifests of both clusters.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn write_files(&self) -> Result<(), LabError> {
        let dir = self.dir().display().to_string();
        let mut files = topology("files", self.name(), &[&dir]);
        program::run(&mut files, &self.interrupt, PATIENCE).map(|_| ())
    }

    /// All pods.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn pods(&self) -> Result<Vec<Pod>, LabError> {
        let mut pods = topology("pods", self.name(), &[]);
        let text = program::run(&mut pods, &self.interrupt, PATIENCE)?;
        Ok(text.lines().filter_map(Pod::parse).collect())
    }

    /// Runs a program at a place to its end, and returns what it printed.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn run(&self, place: &str, words: &[&str]) -> Result<String, LabError> {
        self.run_for(PATIENCE, place, words)
    }

    /// The same, within a bound.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn run_for(
        &self,
        within: Duration,
        place: &str,
        words: &[&str],
    ) -> Result<String, LabError> {
        program::run(&mut self.command(place, words), &self.interrupt, within)
    }

    /// Starts a program at a place, whose output is read.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn start(&self, place: &str, words: &[&str]) -> Result<Program, LabError> {
        Program::start(&mut self.command(place, words), Output::Read)
    }

    /// Starts a program at a place that stays until the world goes; its output goes to the log
    /// PLACE-NAME.log. Returns its process id.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn serve(
        &mut self,
        place: &str,
        name: &str,
        words: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<u32, LabError> {
        let log = self.dir().join(format!("{place}-{name}.log"));
        let mut command = self.command(place, words);
        command.envs(environment.iter().copied());
        let program = Program::start(&mut command, Output::File(&log))?;
        let pid = program.pid();
        self.programs.push(program);
        Ok(pid)
    }

    /// Starts one of the lab's own servers at a place, until the world goes, and waits until it
    /// listens.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn serve_own(&mut self, place: &str, words: &[&str]) -> Result<(), LabError> {
        let farlane = self.farlane.display().to_string();
        let server = self.start(place, &[&[farlane.as_str(), "lab"], words].concat())?;
        self.listening(&server, words[0])?;
        self.programs.push(server);
        Ok(())
    }

    /// Waits until one of the lab's own servers says that it listens.
    ///
    /// # Errors
    /// [`LabError`].
    pub(crate) fn listening(&self, server: &Program, verb: &str) -> Result<(), LabError> {
        let ready = || server.has_said("ready\n");
        match self.interrupt.eventually(PATIENCE, ready)? {
            true => Ok(()),
            false => Err(LabError::step(
                format!("farlane lab {verb}"),
                server.last_words(),
            )),
        }
    }

    /// What a program of this world said last.
    pub(crate) fn last_words(&self, pid: u32) -> String {
        let program = self.programs.iter().find(|program| program.pid() == pid);
        program.map_or(String::new(), Program::last_words)
    }

    /// What ends a wait.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Lets it stand when this process ends.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        for program in self.programs.drain(..) {
            program.let_go();
        }
    }

    fn command(&self, place: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(place)])
            .args(words);
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Clients before servers before tunnels.
        while let Some(mut program) = self.programs.pop() {
            program.stop();
        }
        if let Err(error) = take_down(self.name(), Some(&self.record)) {
            eprintln!("{error}");
        }
    }
}

/// Removes what a run left: its programs, its namespaces, its files, its record.
///
/// # Errors
/// [`LabError::Step`] where something is left still; its record is kept then.
pub(crate) fn remove(left: &Left) -> Result<(), LabError> {
    take_down(&left.run, left.record.as_ref())
}

fn take_down(run: &str, record: Option<&Record>) -> Result<(), LabError> {
    // Not to be interrupted. What is gone already is no error, so what is left tells.
    let taken = program::run(
        &mut topology("down", run, &[]),
        &Interrupt::default(),
        PATIENCE,
    );
    let left = record::left().into_iter().find(|left| left.run == run);
    let left = left.map_or(Vec::new(), |left| left.namespaces);
    if !left.is_empty() {
        let why = taken.map_or_else(
            |error| error.to_string(),
            |_| "its script has not said why".into(),
        );
        let what = format!(
            "{} is not removed, try `farlane lab down {run}`",
            left.join(", ")
        );
        return Err(LabError::step(what, why));
    }
    for node in &NODES {
        // Those who were killed could not.
        let socket = format!("{WIREGUARD_SOCKETS}/{}.sock", device(run, node));
        let _ = std::fs::remove_file(socket);
    }
    if let Some(record) = record {
        // Only what a record of ours names, at the place where ours are.
        if record.dir == std::env::temp_dir().join(format!("farlane-{run}")) {
            let _ = std::fs::remove_dir_all(&record.dir);
        }
        record.remove();
    }
    Ok(())
}

/// `fl1f3aeu` of run `flab1f3a`: an interface's name has 15 letters at most.
fn device(run: &str, node: &Node) -> String {
    format!("fl{}{}", run.trim_start_matches("flab"), node.cluster)
}

fn topology(verb: &str, run: &str, words: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", TOPOLOGY, "scripts/topology", verb, run])
        .args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_the_other_ones_other() {
        for node in &NODES {
            assert_ne!(node.other(), node);
            assert_eq!(node.other().other(), node);
        }
    }
}
