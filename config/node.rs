//! The node's own file: who it is, where its cluster's objects lie, and which doors it opens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use packet::Prefix;

use crate::tree::{Tree, Value, documents};
use crate::{Place, Problem, Reader, read};

/// What the node's file says, with defaults filled in and paths made absolute by the file's own
/// directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file itself.
    pub file: PathBuf,
    /// The cluster that this node is of.
    pub cluster: Cluster,
    /// The name of this node's Node object.
    pub node: String,
    /// Private key and last known state.
    pub state_dir: PathBuf,
    /// Where the node answers `farlane status` and its kin.
    pub socket: PathBuf,
    /// This cluster's objects: a directory, or one file.
    pub manifests: PathBuf,
    /// The other clusters.
    pub clusters: Vec<Remote>,
    /// How pods are reached.
    pub tun: Tun,
    /// How other nodes are reached.
    pub wire: Wire,
    /// How many workers.
    pub workers: Workers,
    /// By what they move them.
    pub engine: Engine,
    /// How many lanes this node publishes.
    pub lanes: u16,
    /// How many flows all workers together remember at most.
    pub flows_max: u32,
    /// Where what happens to flows is written, if it is.
    pub flow_log: Option<FlowLog>,
    /// How peers are asked whether they answer.
    pub probe: Probe,
    /// Whether what policies deny passes all the same, and is only marked.
    pub audit: bool,
}

/// A cluster's name and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// By Cilium's rule.
    pub name: String,
    /// 1 to 255; the upper bits of its identities.
    pub id: u8,
}

/// Another cluster whose state is given by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Who it is.
    pub cluster: Cluster,
    /// Its objects.
    pub manifests: PathBuf,
    /// Its scope: all addresses that its pods and nodes may have.
    pub prefixes: Vec<Prefix>,
}

/// The device towards the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tun {
    /// Name of the first one; [`Tun::device`] makes the others' of it.
    pub name: String,
    /// MTU in bytes.
    pub mtu: Mtu,
    /// What passes through.
    pub intercept: TunIntercept,
    /// What the host does when the process has died.
    pub on_crash: OnCrash,
}

/// The MTU of the device towards the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// The wire's less the tunnel's overhead.
    Auto,
    /// So many bytes.
    Bytes(u16),
}

/// Which traffic of the local pods passes through the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunIntercept {
    /// Everything.
    All,
    /// Only the other clusters' prefixes and the global services' addresses.
    Mesh,
}

/// What happens to intercepted traffic while no process is there to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrash {
    /// It is dropped.
    Closed,
    /// It takes the host's own way.
    Open,
}

/// The side towards other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Addresses of lane 0; lane n has the port plus n.
    pub listen: Vec<SocketAddr>,
}

/// How many workers move packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each core, as far as there are lanes.
    Auto,
    /// So many.
    Count(u16),
}

/// By what workers move packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// epoll, until the other is shown to be faster.
    Auto,
    /// epoll and plain calls.
    Epoll,
    /// io_uring, or epoll where the kernel or a container's profile refuses it.
    Uring,
}

/// A log of flow records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLog {
    /// The file that is written.
    pub file: PathBuf,
    /// How large it may become, in MiB.
    pub max_mib: u32,
    /// How many files are kept, that one among them.
    pub files: u32,
}

/// How peers are asked whether they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Milliseconds between two questions.
    pub interval_ms: u32,
    /// Questions without an answer until a peer is silent.
    pub count: u8,
}

/// How many workers a node can have: what the marks of its host's rules can tell apart.
pub const WORKERS_MAX: u16 = 126;

impl Workers {
    /// How many that is on a machine with so many cores, for a node with so many lanes. At least
    /// one, and each has a lane.
    pub fn count(self, cores: usize, lanes: u16) -> u16 {
        let wanted = match self {
            Workers::Auto => u16::try_from(cores).unwrap_or(u16::MAX),
            Workers::Count(count) => count,
        };
        wanted.min(lanes).clamp(1, WORKERS_MAX)
    }
}

impl Tun {
    /// The name of a worker's device: the first one's, with the worker's number added to the number
    /// at its end (farlane0, farlane1), or put there (mesh, mesh1).
    pub fn device(&self, worker: u16) -> String {
        let stem = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &self.name[stem.len()..];
        match (worker, digits.parse::<u64>()) {
            (0, _) => self.name.clone(),
            (_, Ok(first)) => {
                let number = first + u64::from(worker);
                format!("{stem}{number:0width$}", width = digits.len())
            }
            (_, Err(_)) => format!("{}{worker}", self.name),
        }
    }
}

impl Config {
    /// Reads the node's file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
        let whole = |error: std::io::Error| {
            let message = format!("cannot be read: {error}");
            let file = path.display().to_string();
            vec![Problem::new(&file, Place::default(), message, "")]
        };
        let text = std::fs::read_to_string(path).map_err(whole)?;
        let absolute = std::path::absolute(path).map_err(whole)?;
        Config::parse(&path.display().to_string(), &absolute, &text)
    }

    /// Reads the text of a node's file that lies at the absolute path `at`; problems call it
    /// `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn parse(file: &str, at: &Path, text: &str) -> Result<Config, Vec<Problem>> {
        let trees = documents(file, text).map_err(|problem| vec![problem])?;
        let mut reader = Reader::new(file);
        let empty = Tree {
            value: Value::Map(Vec::new()),
            at: Place { line: 1, column: 1 },
        };
        let first = trees.first().unwrap_or(&empty);
        if let Some(second) = trees.get(1) {
            reader.complain(
                second.at,
                "a node's file is one document",
                "remove the `---`",
            );
        }
        let config = read::config(&mut reader, first, at);
        let problems = reader.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// The name of the cluster with this id, own or other.
    pub fn cluster_name(&self, id: u8) -> Option<&str> {
        std::iter::once(&self.cluster)
            .chain(self.clusters.iter().map(|remote| &remote.cluster))
            .find(|cluster| cluster.id == id)
            .map(|cluster| cluster.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
cluster: {name: eu, id: 1}
node: eu-1
manifests: eu
clusters:
  - {name: us, id: 2, manifests: ../us, prefixes: [10.2.0.0/16, \"fd10:2::/64\"]}
wire: {listen: \"192.0.2.1:51871\"}
";

    fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        Config::parse("eu-1.yaml", Path::new("/etc/farlane/eu-1.yaml"), text)
    }

    /// The problems of the good file with one piece of it replaced.
    fn problems_with(old: &str, new: &str) -> Vec<String> {
        assert!(GOOD.contains(old), "{old}");
        let problems = parse(&GOOD.replace(old, new)).expect_err(new);
        problems
            .iter()
            .map(|p| format!("{p} | {}", p.hint))
            .collect()
    }

    #[test]
    fn what_is_not_written_has_the_documented_default() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/farlane"));
        assert_eq!(config.socket, Path::new("/run/farlane/farlane.sock"));
        assert_eq!(config.tun.name, "farlane0");
        assert_eq!(config.tun.mtu, Mtu::Auto);
        assert_eq!(config.tun.intercept, TunIntercept::All);
        assert_eq!(config.tun.on_crash, OnCrash::Closed);
        assert_eq!(config.workers, Workers::Auto);
        assert_eq!(config.engine, Engine::Auto);
        assert_eq!((config.lanes, config.flows_max), (4, 262_144));
        assert_eq!(config.flow_log, None);
        assert!(!config.audit);
        assert_eq!((config.probe.interval_ms, config.probe.count), (200, 3));
    }

    #[test]
    fn a_log_of_flows_has_a_file_and_bounds() {
        let log = |text: &str| parse(&format!("{GOOD}flows: {{log: {text}}}\n"));
        let read = log("{file: flows.jsonl}").unwrap().flow_log.unwrap();
        assert_eq!(read.file, Path::new("/etc/farlane/flows.jsonl"));
        assert_eq!((read.max_mib, read.files), (64, 4));
        let read = log("{file: /var/log/f, maxMiB: 1, files: 9}").unwrap();
        let read = read.flow_log.unwrap();
        assert_eq!(read.file, Path::new("/var/log/f"));
        assert_eq!((read.max_mib, read.files), (1, 9));
        for (text, said) in [
            ("{}", "`flows.log` has no `file`"),
            (
                "{file: a, maxMiB: 0}",
                "`flows.log.maxMiB` must be a whole number",
            ),
            (
                "{file: a, files: 0}",
                "`flows.log.files` must be a whole number",
            ),
            ("{file: a, keep: 3}", "`flows.log` has no key `keep`"),
        ] {
            let problems = log(text).expect_err(text);
            assert!(problems[0].message.starts_with(said), "{problems:?}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.manifests, Path::new("/etc/farlane/eu"));
        assert_eq!(
            config.clusters[0].manifests,
            Path::new("/etc/farlane/../us")
        );
        let absolute = parse(&GOOD.replace("manifests: eu", "manifests: /srv/eu")).unwrap();
        assert_eq!(absolute.manifests, Path::new("/srv/eu"));
    }

    #[test]
    fn a_list_of_addresses_and_fixed_numbers_are_read() {
        let text = GOOD.replace(
            "listen: \"192.0.2.1:51871\"",
            "listen: [\"192.0.2.1:51871\", \"[2001:db8::1]:51871\"]",
        ) + "workers: 2\nengine: uring\nlanes: 8\npods: {tun: {mtu: 1420, intercept: mesh, onCrash: open}}\n";
        let config = parse(&text).unwrap();
        assert_eq!(config.wire.listen.len(), 2);
        assert_eq!(config.workers, Workers::Count(2));
        assert_eq!(config.engine, Engine::Uring);
        assert_eq!(config.lanes, 8);
        assert_eq!(config.tun.mtu, Mtu::Bytes(1420));
        assert_eq!(config.tun.intercept, TunIntercept::Mesh);
        assert_eq!(config.tun.on_crash, OnCrash::Open);
        assert_eq!(config.cluster_name(2), Some("us"));
    }

    #[test]
    fn each_worker_has_a_device_of_its_own_and_a_lane() {
        let mut tun = parse(GOOD).unwrap().tun;
        let names = |tun: &Tun| [0, 1, 10].map(|worker| tun.device(worker));
        assert_eq!(names(&tun), ["farlane0", "farlane1", "farlane10"]);
        tun.name = "mesh".into();
        assert_eq!(names(&tun), ["mesh", "mesh1", "mesh10"]);
        tun.name = "tun09".into();
        assert_eq!(names(&tun), ["tun09", "tun10", "tun19"]);
        assert_eq!(Workers::Auto.count(2, 4), 2);
        assert_eq!(Workers::Auto.count(64, 4), 4);
        assert_eq!(Workers::Auto.count(0, 1), 1);
        assert_eq!(Workers::Auto.count(256, 256), WORKERS_MAX);
        assert_eq!(Workers::Count(3).count(1, 4), 3);
    }

    #[test]
    fn the_committed_examples_are_good() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let mut seen = 0;
        for entry in std::fs::read_dir(&examples).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                let config = Config::load(&path).unwrap_or_else(|p| panic!("{p:#?}"));
                assert!(config.manifests.is_dir(), "{}", config.manifests.display());
                seen += 1;
            }
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn each_mistake_is_one_clear_problem_at_its_place() {
        let table = [
            (
                "node: eu-1",
                "nodes: eu-1",
                vec![
                    "eu-1.yaml:1:1: the file has no `node` | write the name of this node's Node object",
                    "eu-1.yaml:2:1: the file has no key `nodes` | did you mean `node`?",
                ],
            ),
            (
                "id: 1}",
                "id: 256}",
                vec![
                    "eu-1.yaml:1:25: a cluster's `id` must be a whole number from 1 to 255, not the number 256 | ",
                ],
            ),
            (
                "id: 1}",
                "id: one}",
                vec![
                    "eu-1.yaml:1:25: a cluster's `id` must be a whole number from 1 to 255, not \"one\" | ",
                ],
            ),
            (
                "name: eu",
                "name: Eu_",
                vec![
                    "eu-1.yaml:1:17: a cluster's `name` cannot be \"Eu_\" | a cluster's name is made of a-z, 0-9 and -",
                ],
            ),
            (
                "node: eu-1",
                "node: [eu-1]",
                vec!["eu-1.yaml:2:7: `node` must be text, not a list | "],
            ),
            (
                "\"192.0.2.1:51871\"",
                "192.0.2.1",
                vec![
                    "eu-1.yaml:6:16: `wire.listen`: \"192.0.2.1\" is not an address with a port, such as \"192.0.2.1:51871\" | ",
                ],
            ),
            (
                "id: 2",
                "id: 1",
                vec![
                    "eu-1.yaml:5:20: the clusters `eu` and `us` have the same id | give each its own",
                ],
            ),
            (
                "name: us",
                "name: eu",
                vec!["eu-1.yaml:5:12: two clusters have the name `eu` | give each its own"],
            ),
            (
                "10.2.0.0/16",
                "10.2.0.1/16",
                vec![
                    "eu-1.yaml:5:52: a cluster's `prefixes`: \"10.2.0.1/16\" is not a prefix, such as 10.2.0.0/16 or \"fd10:2::/64\", with zeros behind its length | ",
                ],
            ),
            (
                "wire: {",
                "lanes: 4.5\nwire: {",
                vec![
                    "eu-1.yaml:6:8: `lanes` must be a whole number from 1 to 256, not the number 4.5 | ",
                ],
            ),
            (
                "wire: {",
                "pods: {tun: {intercept: some, nane: x}}\nwire: {",
                vec![
                    "eu-1.yaml:6:25: `pods.tun.intercept` cannot be \"some\" | write one of: all, mesh",
                    "eu-1.yaml:6:31: `pods.tun` has no key `nane` | did you mean `name`?",
                ],
            ),
            (
                "wire: {",
                "workers: 5\nwire: {",
                vec![
                    "eu-1.yaml:6:10: 5 workers cannot share out 4 lanes | each worker needs a lane: take fewer workers, or more `lanes`",
                ],
            ),
            (
                "wire: {",
                "workers: 2\npods: {tun: {name: fifteen-letters}}\nwire: {",
                vec![
                    "eu-1.yaml:7:20: `pods.tun.name` makes fifteen-letters1 of worker 1's, which is too long | a device's name has 1 to 15 characters",
                ],
            ),
            (
                "wire: {",
                "engine: io_uring\nwire: {",
                vec![
                    "eu-1.yaml:6:9: `engine` cannot be \"io_uring\" | write one of: auto, epoll, uring",
                ],
            ),
            (
                "51871\"",
                "65535\"",
                vec![
                    "eu-1.yaml:6:16: 4 lanes from port 65535 on end beyond 65535 | take a lower port",
                ],
            ),
        ];
        for (old, new, expected) in table {
            assert_eq!(problems_with(old, new), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn prefixes_of_two_clusters_must_not_overlap() {
        let second = "  - {name: asia, id: 3, manifests: asia, prefixes: [10.2.128.0/24]}\nwire: {";
        assert_eq!(
            problems_with("wire: {", second),
            [
                "eu-1.yaml:6:53: the prefix 10.2.128.0/24 of cluster `asia` overlaps 10.2.0.0/16 of cluster `us` (line 5) | clusters that share addresses cannot be joined yet"
            ]
        );
    }

    #[test]
    fn all_mistakes_come_at_once_and_an_empty_file_says_what_is_needed() {
        let problems = parse("").unwrap_err();
        let missing: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            missing,
            [
                "the file has no `cluster`",
                "the file has no `node`",
                "the file has no `manifests`",
                "the file has no `wire`",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn a_changed_file_is_read_or_refused_but_never_panics(
            at in 0..400usize,
            remove in 0..30usize,
            insert in "[-a-z0-9:{}\\[\\],\"'&*|>#%@!?\n\t /.]{0,8}",
        ) {
            let mut text: Vec<char> = GOOD.chars().collect();
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
            let text: String = text.into_iter().collect();
            for problem in parse(&text).err().unwrap_or_default() {
                proptest::prop_assert!(!problem.render(&text).is_empty());
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem_of_the_whole_file() {
        let problems = Config::load(Path::new("no-such.yaml")).unwrap_err();
        assert_eq!(problems[0].line, 0);
        assert!(
            problems[0]
                .to_string()
                .starts_with("no-such.yaml: cannot be read: ")
        );
    }
}
