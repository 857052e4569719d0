//! Two clusters in network namespaces, for tests: `scripts/topology` draws the world, this holds
//! it, and takes it down again whatever happens to the test.
//!
//! Every wait is bounded; every program that a test starts is ended by its own pid.
#![allow(dead_code)] // each test file uses its own part

pub(crate) mod manifests;
mod mesh;
mod program;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[allow(unused_imports)] // as above
pub(crate) use mesh::{WORLD, unready};
#[allow(unused_imports)] // as above
pub(crate) use program::{Output, Program, bounded, served};

/// The binary under test.
pub(crate) const FARLANE: &str = env!("CARGO_BIN_EXE_farlane");

/// Whether this test may make network namespaces. If not, it says so where `scripts/test` counts
/// (the file that `FARLANE_SKIPS` names), and the caller returns.
pub(crate) fn may_run(test: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if !root {
        skip(test, "network namespaces need root");
    }
    root
}

/// Says that a test is skipped, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(list) = std::env::var_os("FARLANE_SKIPS") {
        let mut list = fs::OpenOptions::new().append(true).open(list).unwrap();
        writeln!(list, "{test}: {reason}").unwrap();
    }
}

/// The path of one of the project's scripts.
pub(crate) fn script(name: &str) -> String {
    format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Asks until the answer is yes; false when it is still no at the end of the time.
pub(crate) fn eventually(within: Duration, mut question: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        if question() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The engine that the programs under test are told to take: what `FARLANE_TEST_ENGINE` says, for a
/// whole run of the tests, else theirs to choose.
pub(crate) fn engine() -> String {
    std::env::var("FARLANE_TEST_ENGINE").unwrap_or_else(|_| "auto".into())
}

/// One pod: a network namespace with two addresses.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) v4: String,
    pub(crate) v6: String,
}

/// The world of one test; dropped, it is gone from the machine.
pub(crate) struct Topology {
    prefix: String,
    dir: PathBuf,
    pods: Vec<Pod>,
    nodes: Vec<String>,
}

impl Topology {
    /// Builds clusters `eu` and `us` of `nodes` nodes each, with pods `NODE/NAME` (none given:
    /// `client`, `web` and `guest` on each node), and writes their node files and manifests.
    pub(crate) fn up(nodes: u8, pods: &[&str]) -> Topology {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("ft{:x}x{number}", std::process::id());
        let dir = std::env::temp_dir().join(format!("farlane-{prefix}"));
        fs::create_dir_all(&dir).unwrap();
        // From here on a panic takes everything down.
        let mut topology = Topology {
            prefix,
            dir,
            pods: Vec::new(),
            nodes: Vec::new(),
        };
        let mut arguments = vec!["--nodes".to_owned(), nodes.to_string()];
        arguments.extend(pods.iter().map(|pod| (*pod).to_owned()));
        topology.script("up", &arguments);
        topology.pods = topology
            .script("pods", &[])
            .lines()
            .map(Pod::from_line)
            .collect();
        topology.nodes = ["eu", "us"]
            .iter()
            .flat_map(|cluster| (1..=nodes).map(move |number| format!("{cluster}-{number}")))
            .collect();
        topology.script("files", &[topology.dir.display().to_string()]);
        for node in &topology.nodes {
            let mut file = fs::File::options()
                .append(true)
                .open(topology.node_file(node))
                .unwrap();
            writeln!(file, "engine: {}", engine()).unwrap();
        }
        topology
    }

    /// Loads masquerade and DNAT rules on a node, as kube-proxy and a masquerading CNI write them.
    pub(crate) fn kube_rules(&self, node: &str, cluster_ip: &str, pod: &Pod, port: u16) {
        let arguments = [node, cluster_ip, &pod.v4, &port.to_string()].map(str::to_owned);
        self.script("kube", &arguments);
    }

    fn script(&self, verb: &str, arguments: &[String]) -> String {
        let output = program::bounded(
            Duration::from_secs(60),
            Command::new(script("topology"))
                .arg(verb)
                .arg(&self.prefix)
                .args(arguments),
        );
        assert!(output.ok, "scripts/topology {verb}: {}", output.text);
        output.text
    }

    /// What the names of this world begin with; different for each test of the machine.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Node names, `eu-1` first.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// A pod by node and name.
    pub(crate) fn pod(&self, node: &str, name: &str) -> &Pod {
        self.pods
            .iter()
            .find(|pod| pod.node == node && pod.name == name)
            .unwrap_or_else(|| panic!("no pod {node}/{name}"))
    }

    /// The namespace of a node, or of `world`.
    pub(crate) fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.prefix)
    }

    /// Where node files, manifests and logs of this world lie.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket of a node's farlane.
    pub(crate) fn socket(&self, node: &str) -> String {
        self.dir
            .join(node)
            .join("farlane.sock")
            .display()
            .to_string()
    }

    /// The node's own file.
    pub(crate) fn node_file(&self, node: &str) -> String {
        self.dir.join(node).join("node.yaml").display().to_string()
    }

    /// Runs a program in a namespace to its end, 20 s at most.
    pub(crate) fn run(&self, namespace: &str, command: &[&str]) -> Output {
        self.run_for(Duration::from_secs(20), namespace, command)
    }

    /// Runs a program in a namespace to its end, bounded.
    pub(crate) fn run_for(&self, bound: Duration, namespace: &str, command: &[&str]) -> Output {
        program::bounded(bound, &mut in_namespace(namespace, command))
    }

    /// Starts a program in a namespace; its output goes to `DIR/log`.
    pub(crate) fn spawn(&self, namespace: &str, log: &str, command: &[&str]) -> Program {
        Program::start(&mut in_namespace(namespace, command), &self.dir.join(log))
    }

    /// Serves the pod's name (`NODE/NAME`) at a port, over HTTP and UDP, and waits until it does.
    pub(crate) fn serve(&self, pod: &Pod, port: u16) -> Program {
        let name = format!("{}/{}", pod.node, pod.name);
        let log = format!("answer-{}-{}-{port}", pod.node, pod.name);
        let answer = script("answer");
        let program = self.spawn(&pod.namespace, &log, &[&answer, &name, &port.to_string()]);
        let log = self.dir.join(log);
        let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        assert!(eventually(Duration::from_secs(10), ready), "{name} serves");
        program
    }

    /// Asks over HTTP with curl; the answer's text, or nothing when there was none in 2 s.
    pub(crate) fn ask(&self, from: &Pod, address: &str, port: u16) -> Option<String> {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let url = format!("http://{host}:{port}/");
        let output = self.run(
            &from.namespace,
            &["curl", "--silent", "--max-time", "2", &url],
        );
        output.ok.then(|| output.text.trim().to_owned())
    }

    /// Whether `count` pings, 0.1 s apart, are all answered.
    pub(crate) fn pings(&self, from: &str, address: &str, count: u32) -> bool {
        let count = count.to_string();
        let command = ["ping", "-n", "-c", &count, "-i", "0.1", "-W", "1", address];
        self.run(from, &command).text.contains(" 0% packet loss")
    }

    /// Writes a manifest of a cluster, renamed into place as `kubectl` users do.
    pub(crate) fn apply(&self, cluster: &str, file: &str, text: &str) {
        let folder = self.dir.join("manifests").join(cluster);
        let draft = folder.join(format!(".{file}.draft"));
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, folder.join(file)).unwrap();
    }

    /// Takes a manifest of a cluster away.
    pub(crate) fn withdraw(&self, cluster: &str, file: &str) {
        fs::remove_file(self.dir.join("manifests").join(cluster).join(file)).unwrap();
    }

    /// Makes each node's key and puts its Node object among its cluster's manifests, as an
    /// operator does with `farlane node`.
    pub(crate) fn exchange_keys(&self) {
        for node in &self.nodes {
            let command = [FARLANE, "node", "--config", &self.node_file(node)];
            let output = self.run(&self.namespace(node), &command);
            assert!(output.ok, "farlane node for {node}: {}", output.text);
            let cluster = node.split('-').next().unwrap();
            self.apply(cluster, &format!("node-{node}.yaml"), &output.out);
        }
    }

    /// Starts `farlane run` on a node and waits until its status says that it is ready.
    pub(crate) fn start(&self, node: &str) -> Program {
        let file = self.node_file(node);
        let log = format!("{node}/log");
        let program = self.spawn(
            &self.namespace(node),
            &log,
            &[FARLANE, "run", "--config", &file],
        );
        let ready = eventually(Duration::from_secs(15), || self.status(node).is_some());
        assert!(
            ready,
            "{node} is not ready; its log:\n{}",
            fs::read_to_string(self.dir.join(log)).unwrap_or_default()
        );
        program
    }

    /// Exchanges keys and starts every node.
    pub(crate) fn start_all(&self) -> Vec<Program> {
        self.exchange_keys();
        self.nodes.iter().map(|node| self.start(node)).collect()
    }

    /// What `farlane status --json` says; nothing while the node does not answer.
    pub(crate) fn status(&self, node: &str) -> Option<serde_json::Value> {
        let command = [FARLANE, "status", "--json", "--socket", &self.socket(node)];
        let output = self.run(&self.namespace(node), &command);
        output
            .ok
            .then(|| serde_json::from_str(&output.out).expect("status prints JSON"))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = fs::read_to_string(self.dir.join(node).join("log"));
                eprintln!("--- log of {node}\n{}", log.unwrap_or_default());
            }
        }
        // Not `script`: an assertion while panicking would abort before the rest is taken down.
        let _ = Command::new(script("topology"))
            .args(["down", &self.prefix])
            .status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Pod {
    fn from_line(line: &str) -> Pod {
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut word = || words.next().expect("five words a pod");
        Pod {
            node: word(),
            name: word(),
            namespace: word(),
            v4: word(),
            v6: word(),
        }
    }

    /// Both addresses, IPv4 first.
    pub(crate) fn addresses(&self) -> [&str; 2] {
        [&self.v4, &self.v6]
    }
}

fn in_namespace(namespace: &str, command: &[&str]) -> Command {
    let mut program = Command::new("ip");
    program.args(["netns", "exec", namespace]).args(command);
    program
}
