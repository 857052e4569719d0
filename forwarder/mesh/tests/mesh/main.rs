//! The room as its users see it: manifests in, snapshots and statuses out.
//!
//! ```text
//!   eu (1): eu-1 (us, this node) 192.0.2.1, pods 10.1.0.0/24      us (2): us-1 192.0.2.2
//!           eu-2                 192.0.2.11, pods 10.1.1.0/24             pods 10.2.0.0/24
//! ```

mod admin;
mod bad_input;
mod cilium;
mod codec;
mod events;
mod examples;
mod fuzz;
mod history;
mod mutations;
mod peers;
mod policies;
mod services;
mod trust;

use std::net::IpAddr;
use std::sync::Arc;

use datapath::Snapshot;
use mesh::{Compiled, Event, Scope, Settings, State, Status, World, parse};
use packet::{Address, protocol};
use policy::{Direction, Party, Question, Verdict};
use tunnel::PublicKey;

/// 32 bytes of one value, in base64.
const KEY_2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const KEY_3: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn settings() -> Settings {
    let prefixes = ["10.2.0.0/16", "fd10:2::/64", "192.0.2.2/32"];
    Settings {
        cluster: "eu".into(),
        id: 1,
        node: "eu-1".into(),
        clusters: vec![Scope {
            name: "us".into(),
            id: 2,
            prefixes: prefixes.map(|p| p.parse().unwrap()).into(),
        }],
        keys: vec![PublicKey::from_bytes([1; 32])],
        audit: false,
    }
}

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect(text))
}

/// A world with the nodes of the picture, and short ways to change it.
struct Mesh {
    world: World,
    last: Arc<Compiled>,
}

impl Mesh {
    fn new() -> Mesh {
        let mut world = World::new(settings());
        let last = world.compile();
        let mut mesh = Mesh { world, last };
        mesh.read(
            1,
            "nodes.yaml",
            &node("eu-1", "192.0.2.1", "10.1.0.0/24", None),
        );
        mesh.read(
            1,
            "nodes-2.yaml",
            &node("eu-2", "192.0.2.11", "10.1.1.0/24", Some(KEY_3)),
        );
        mesh.read(
            2,
            "nodes.yaml",
            &node("us-1", "192.0.2.2", "10.2.0.0/24", Some(KEY_2)),
        );
        mesh.world.apply(Event::Loaded);
        mesh.compile();
        mesh
    }

    /// Whatever the text is worth.
    fn read(&mut self, cluster: u8, file: &str, text: &str) {
        let path = format!("{}/{file}", if cluster == 1 { "eu" } else { "us" });
        self.world.apply(Event::File {
            cluster,
            parsed: parse(&path, text),
            file: path,
            hash: format!("{text:.20}:{}", text.len()),
        });
    }

    /// A good text, into force.
    fn write(&mut self, cluster: u8, file: &str, text: &str) {
        let parsed = parse(file, text);
        assert_eq!(parsed.problems, [], "{file}");
        self.read(cluster, file, text);
        self.compile();
    }

    fn compile(&mut self) {
        self.last = self.world.compile();
    }

    fn snapshot(&self) -> &Snapshot {
        &self.last.snapshot
    }

    fn status(&self, kind: &str, name: &str) -> &Status {
        let mut statuses = self.last.statuses.iter();
        let found = statuses.find(|s| s.kind == kind && s.name == name);
        found.unwrap_or_else(|| panic!("{kind} {name} in {:#?}", self.last.statuses))
    }

    /// State and reasons of an object, in one line.
    fn says(&self, kind: &str, name: &str) -> String {
        let status = self.status(kind, name);
        format!("{}: {}", status.state.name(), status.reasons.join("; "))
    }

    /// Statuses of objects that are not wholly in force.
    fn complaints(&self) -> Vec<String> {
        let all = self.last.statuses.iter();
        all.filter(|s| s.state != State::Enforced)
            .map(|s| format!("{}:{} {}", s.file, s.at.line, s.reasons.join("; ")))
            .collect()
    }

    /// Whether a flow passes both ends, as far as this cluster judges them.
    fn allows(&self, from: &str, to: &str, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap();
        let protocol = match protocol {
            "TCP" => protocol::TCP,
            "UDP" => protocol::UDP,
            "SCTP" => protocol::SCTP,
            // The number is the type.
            "ICMP" => protocol::ICMP,
            "ICMPv6" => protocol::ICMPV6,
            _ => panic!("{protocol}"),
        };
        let snapshot = self.snapshot();
        let (from, to) = (address(from), address(to));
        let (Some(source), Some(destination)) = (snapshot.endpoint(from), snapshot.endpoint(to))
        else {
            return false;
        };
        let source = Party {
            address: from,
            endpoint: source,
        };
        let destination = Party {
            address: to,
            endpoint: destination,
        };
        let ask = |direction, subject, peer| {
            let question = Question {
                direction,
                subject,
                peer,
                protocol,
                port: Some(number.parse().unwrap()),
            };
            snapshot.policy.decide(&question).verdict == Verdict::Allow
        };
        ask(Direction::Egress, source, destination) && ask(Direction::Ingress, destination, source)
    }
}

/// A Node object.
fn node(name: &str, address: &str, pods: &str, key: Option<&str>) -> String {
    let annotation = match key {
        Some(key) => format!("annotations: {{network.cilium.io/wg-pub-key: {key}}}"),
        None => String::new(),
    };
    format!(
        "---
apiVersion: v1
kind: Node
metadata:
  name: {name}
  {annotation}
spec: {{podCIDRs: [{pods}]}}
status: {{addresses: [{{type: InternalIP, address: {address}}}]}}
"
    )
}

/// A ready Pod with a port named http (8080) for TCP; labels as YAML.
fn pod(namespace: &str, name: &str, node: &str, address: &str, labels: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  nodeName: {node}
  containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]
status:
  phase: Running
  podIPs: [{{ip: \"{address}\"}}]
  conditions: [{{type: Ready, status: \"True\"}}]
"
    )
}

/// A Namespace with labels as YAML.
fn namespace(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
    )
}
