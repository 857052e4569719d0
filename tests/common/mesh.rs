//! What tests of running nodes do again and again: change a manifest and wait until it is in
//! force, ask over and over, look at counters.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Output, Pod, Program, Topology, eventually};

/// The place beyond the hosts.
pub(crate) const WORLD: [&str; 2] = ["198.51.100.254", "2001:db8:99::254"];

/// The same manifests with the pods called `name` not ready.
pub(crate) fn unready(manifests: &str, name: &str) -> String {
    let line = format!("  name: {name}\n");
    let documents = manifests.split("---\n").map(|document| {
        if document.contains(&line) {
            document.replace("status: \"True\"", "status: \"False\"")
        } else {
            document.to_owned()
        }
    });
    documents.collect::<Vec<_>>().join("---\n")
}

impl Topology {
    /// Exchanges keys, starts every node and waits until each has heard all others.
    pub(crate) fn start_mesh(&self) -> Vec<Program> {
        let nodes = self.start_all();
        self.await_peers();
        nodes
    }

    /// Waits until every node has heard all others.
    pub(crate) fn await_peers(&self) {
        for node in self.nodes() {
            assert!(
                eventually(Duration::from_secs(15), || self.peers_answer(node)),
                "{node} hears its peers: {:?}",
                self.status(node)
            );
        }
    }

    /// Whether all peers of a node answer its probes.
    pub(crate) fn peers_answer(&self, node: &str) -> bool {
        self.status(node).is_some_and(|status| {
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            !peers.is_empty() && peers.iter().all(|peer| peer["health"] == "answering")
        })
    }

    /// The text of a manifest as it lies there.
    pub(crate) fn manifest(&self, cluster: &str, file: &str) -> String {
        fs::read_to_string(self.dir().join("manifests").join(cluster).join(file)).unwrap()
    }

    /// Applies a manifest and waits until every node's status shows its SHA-256, as `sha256sum`
    /// computes it, and every worker has it; how long that took.
    pub(crate) fn apply_everywhere(&self, cluster: &str, file: &str, text: &str) -> Duration {
        let start = Instant::now();
        self.apply(cluster, file, text);
        let hash = self.sha256(cluster, file);
        let id = if cluster == "eu" { 1 } else { 2 };
        let in_force = |node: &str| {
            self.status(node).is_some_and(|status| {
                let sources = status["sources"].as_array().cloned().unwrap_or_default();
                status["appliedEverywhere"] == true
                    && sources.iter().any(|source| {
                        source["cluster"] == id
                            && source["file"] == file
                            && source["applied"] == hash.as_str()
                    })
            })
        };
        for node in self.nodes() {
            assert!(
                eventually(Duration::from_secs(10), || in_force(node)),
                "{cluster}/{file} is in force on {node}: {:?}",
                self.status(node)
            );
        }
        start.elapsed()
    }

    /// Takes a manifest away and waits until no node's status shows it.
    pub(crate) fn withdraw_everywhere(&self, cluster: &str, file: &str) {
        self.withdraw(cluster, file);
        let id = if cluster == "eu" { 1 } else { 2 };
        let gone = |node: &str| {
            self.status(node).is_some_and(|status| {
                let sources = status["sources"].as_array().cloned().unwrap_or_default();
                status["appliedEverywhere"] == true
                    && !sources
                        .iter()
                        .any(|source| source["cluster"] == id && source["file"] == file)
            })
        };
        for node in self.nodes() {
            let within = Duration::from_secs(10);
            assert!(eventually(within, || gone(node)), "{file} on {node}");
        }
    }

    fn sha256(&self, cluster: &str, file: &str) -> String {
        let path = self.dir().join("manifests").join(cluster).join(file);
        let output = Command::new("sha256sum").arg(path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').next().unwrap().to_owned()
    }

    /// Asks again until the answer is `wanted`, 5 s at most; the last answer.
    pub(crate) fn ask_until(&self, from: &Pod, to: &str, port: u16, wanted: &str) -> String {
        let mut last = String::new();
        eventually(Duration::from_secs(5), || {
            last = self.ask(from, to, port).unwrap_or_default();
            last == wanted
        });
        last
    }

    /// One of a node's counters of drops.
    pub(crate) fn drops(&self, node: &str, reason: &str) -> u64 {
        let status = self.status(node).expect("the node answers");
        status["drops"][reason].as_u64().unwrap_or(0)
    }

    /// What a policy decides for one way to port 8080, in both families: `true` is allowed. A refusal
    /// is believed when its counter moves (`judge`: a node and a reason), not only because nothing
    /// comes back.
    pub(crate) fn decides(&self, from: &Pod, to: &Pod, allowed: bool, judge: (&str, &str)) {
        let name = format!("{}/{}", to.node, to.name);
        for address in to.addresses() {
            let way = format!("{}/{} to {address}", from.node, from.name);
            if allowed {
                assert_eq!(self.ask_until(from, address, 8080, &name), name, "{way}");
                continue;
            }
            let (node, reason) = judge;
            let before = self.drops(node, reason);
            let url = match address.contains(':') {
                true => format!("http://[{address}]:8080/"),
                false => format!("http://{address}:8080/"),
            };
            let command = ["curl", "--silent", "--max-time", "0.5", &url];
            let output = self.run(&from.namespace, &command);
            assert!(!output.ok, "{way} is refused, but: {}", output.text);
            let after = self.drops(node, reason);
            assert!(after > before, "{way} counts as {reason} on {node}");
        }
    }

    /// All that Farlane may leave on a host, as iproute2 and nftables print it.
    pub(crate) fn host_state(&self, node: &str) -> String {
        let host = self.namespace(node);
        let commands: [&[&str]; 6] = [
            &["ip", "rule"],
            &["ip", "-6", "rule"],
            &["ip", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["ip", "-br", "address"],
            &["nft", "-s", "list", "ruleset"],
        ];
        commands
            .map(|command| self.run(&host, command).text)
            .concat()
    }

    /// Python's own words in a namespace, for packets that no ordinary program sends.
    pub(crate) fn python(&self, namespace: &str, program: &str, arguments: &[&str]) -> Output {
        let command = [&["python3", "-c", program], arguments].concat();
        self.run(namespace, &command)
    }
}
