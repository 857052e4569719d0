//! Random clusters: small vocabularies, so that selectors meet what they speak of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{
    Affinity, Block, CLUSTER_LABEL, CLUSTER_NAMES, CLUSTERS, Cluster, Inventory, NAME_LABEL, NODES,
    Operator, Peer, Pod, Policy, Port, PortRange, Protocol, Readiness, Requirement, Rule, Selector,
    Service, ServicePort, SliceEndpoint, View, cluster_of, pod_v4, pod_v6,
};
use crate::random::Random;

/// Namespaces of all clusters.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// Names of services.
const SERVICES: [&str; 2] = ["shop", "cart"];
const APPS: [&str; 2] = ["web", "db"];
/// Keys of pods' labels with their values.
const LABELS: [(&str, [&str; 2]); 3] = [
    ("app", APPS),
    ("tier", ["front", "back"]),
    ("env", ["prod", "dev"]),
];
const NAMESPACE_LABELS: [(&str, [&str; 2]); 2] =
    [("team", ["red", "blue"]), ("zone", ["north", "south"])];

/// A whole scenario's beginning.
pub fn view(random: &mut Random) -> View {
    let mut view = View::default();
    let mut next = 0;
    for cluster in 0..CLUSTERS {
        let mut inventory = Inventory::default();
        for name in NAMESPACES {
            // A namespace that only pods name exists, too.
            if random.percent(80) {
                inventory.namespaces.insert(name, namespace_labels(random));
            }
        }
        for node in (0..NODES).filter(|node| cluster_of(*node) == cluster) {
            for _ in 0..random.between(2, 3) {
                next += 1;
                inventory.pods.push(pod(random, node, next));
            }
        }
        view.clusters[cluster].inventory = Arc::new(inventory);
        view.clusters[cluster].policies = Arc::new(policies(random));
    }
    for cluster in 0..CLUSTERS {
        let services = services(random, cluster, &view.clusters[cluster]);
        view.clusters[cluster].services = Arc::new(services);
    }
    view
}

/// A pod with the number `number`, which is its name and its address.
pub fn pod(random: &mut Random, node: usize, number: u8) -> Pod {
    let mut addresses = vec![pod_v4(node, number), pod_v6(node, number)];
    if random.percent(10) {
        addresses.remove(random.index(2));
    }
    Pod {
        namespace: random.pick(&["x", "y", "y", "z"]),
        name: format!("pod-{number}"),
        labels: labels(random),
        node,
        addresses,
        http: random.percent(75).then(|| random.pick(&[80, 80, 81])),
        dns: random.percent(60),
        readiness: match random.below(20) {
            0 => Readiness::Unready,
            1 => Readiness::Terminating,
            _ => Readiness::Ready,
        },
    }
}

/// Labels of a pod.
pub fn labels(random: &mut Random) -> BTreeMap<&'static str, &'static str> {
    some_of(random, &LABELS)
}

/// Labels of a namespace.
pub fn namespace_labels(random: &mut Random) -> BTreeMap<&'static str, &'static str> {
    some_of(random, &NAMESPACE_LABELS)
}

fn some_of(
    random: &mut Random,
    vocabulary: &[(&'static str, [&'static str; 2])],
) -> BTreeMap<&'static str, &'static str> {
    let mut labels = BTreeMap::new();
    for (key, values) in vocabulary {
        if random.percent(75) {
            labels.insert(*key, random.pick(values));
        }
    }
    labels
}

/// The policies of one cluster.
pub fn policies(random: &mut Random) -> Vec<Policy> {
    let count = random.between(0, 5);
    (0..count).map(|number| policy(random, number)).collect()
}

/// One policy.
pub fn policy(random: &mut Random, number: u64) -> Policy {
    let rules = |random: &mut Random| -> Vec<Rule> {
        // No rule at all: default deny.
        let count = random.pick(&[0, 1, 1, 2, 3]);
        (0..count).map(|_| rule(random)).collect()
    };
    let governs = random.below(4);
    let ingress = (governs != 0).then(|| rules(random));
    let egress = (governs <= 1).then(|| rules(random));
    Policy {
        namespace: random.pick(&NAMESPACES),
        name: format!("policy-{number}"),
        subject: selector(random, &LABELS, 1),
        ingress,
        egress,
        unenforceable: random.percent(4),
    }
}

fn rule(random: &mut Random) -> Rule {
    let peers = random.pick(&[0, 1, 1, 1, 2, 2]);
    let ports = random.pick(&[0, 0, 1, 1, 2]);
    Rule {
        peers: (0..peers).map(|_| peer(random)).collect(),
        ports: (0..ports).map(|_| port(random)).collect(),
    }
}

fn peer(random: &mut Random) -> Peer {
    if random.percent(35) {
        return addresses(random);
    }
    let namespaces = random
        .percent(65)
        .then(|| selector(random, &NAMESPACE_LABELS, 1))
        .map(|mut selector| {
            if random.percent(15) {
                selector.0.push(Requirement {
                    key: NAME_LABEL,
                    operator: Operator::In(vec![random.pick(&NAMESPACES), "y"]),
                });
            }
            selector
        });
    let wants_pods = namespaces.is_none() || random.percent(60);
    let pods = wants_pods.then(|| {
        let mut selector = selector(random, &LABELS, 1);
        match random.below(5) {
            0 | 1 => selector.0.push(Requirement {
                key: CLUSTER_LABEL,
                operator: Operator::Exists,
            }),
            2 => selector.0.push(Requirement {
                key: CLUSTER_LABEL,
                operator: Operator::In(vec![random.pick(&CLUSTER_NAMES)]),
            }),
            _ => {}
        }
        selector
    });
    Peer::Pods { namespaces, pods }
}

/// An ipBlock; what it takes out lies within it.
fn addresses(random: &mut Random) -> Peer {
    let block = |address: &str, length| Block {
        address: address.parse().expect("an address"),
        length,
    };
    let (whole, holes) = random.pick(&[
        (("0.0.0.0", 0), [("10.0.0.0", 8), ("198.51.100.0", 24)]),
        (("::", 0), [("fd10::", 16), ("2001:db8:7::", 48)]),
        (("10.0.0.0", 8), [("10.1.0.0", 16), ("10.2.2.0", 24)]),
        (("10.1.0.0", 16), [("10.1.0.0", 24), ("10.1.1.4", 30)]),
        (("10.2.0.0", 15), [("10.2.3.0", 24), ("10.2.2.8", 29)]),
        (("fd10::", 16), [("fd10:1::", 32), ("fd10:2:3::", 48)]),
        (
            ("198.51.100.0", 24),
            [("198.51.100.4", 30), ("198.51.100.128", 25)],
        ),
        (
            ("2001:db8::", 32),
            [("2001:db8:7::", 64), ("2001:db8:8::", 48)],
        ),
    ]);
    let holes = holes.iter().filter(|_| random.percent(35));
    let except = holes
        .map(|(address, length)| block(address, *length))
        .collect();
    Peer::Addresses {
        block: block(whole.0, whole.1),
        except,
    }
}

fn port(random: &mut Random) -> Port {
    let protocol = random.pick(&[
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Udp,
        Protocol::Sctp,
    ]);
    let range = match random.below(7) {
        0 => PortRange::Any,
        1 | 2 => PortRange::Named(if protocol == Protocol::Udp {
            "dns"
        } else {
            "http"
        }),
        3 => PortRange::To(53, random.pick(&[79, 80, 90])),
        _ if protocol == Protocol::Udp => PortRange::One(random.pick(&[53, 53, 80])),
        _ => PortRange::One(random.pick(&[80, 80, 81])),
    };
    Port { protocol, range }
}

fn selector(
    random: &mut Random,
    vocabulary: &[(&'static str, [&'static str; 2])],
    most: u64,
) -> Selector {
    let count = random.between(0, most) + u64::from(random.percent(20));
    let one = |random: &mut Random| {
        let (key, values) = vocabulary[random.index(vocabulary.len())];
        let operator = match random.below(8) {
            0 => Operator::Exists,
            1 => Operator::DoesNotExist,
            2 => Operator::NotIn(vec![random.pick(&values)]),
            3 => Operator::In(vec![random.pick(&values)]),
            4 => Operator::In(values.to_vec()),
            _ => Operator::Is(random.pick(&values)),
        };
        Requirement { key, operator }
    };
    let mut requirements: Vec<Requirement> = (0..count).map(|_| one(random)).collect();
    // A label stands only once in `matchLabels`.
    requirements.dedup_by(|a, b| a.key == b.key);
    Selector(requirements)
}

/// The services of one cluster. Both clusters draw from the same names, so that some are global.
pub fn services(random: &mut Random, cluster: usize, of: &Cluster) -> Vec<Service> {
    let mut services = Vec::new();
    for (number, name) in SERVICES.into_iter().enumerate() {
        if random.percent(85) {
            services.push(service(random, cluster, number as u8 + 1, name, of));
        }
    }
    services
}

fn service(
    random: &mut Random,
    cluster: usize,
    number: u8,
    name: &'static str,
    of: &Cluster,
) -> Service {
    let third = 100 + cluster as u8;
    let four = IpAddr::from([10, third, 0, number]);
    let six = IpAddr::from([0xfd30, u16::from(third), 0, 0, 0, 0, 0, u16::from(number)]);
    let mut ports = vec![ServicePort {
        name: "web",
        protocol: Protocol::Tcp,
        port: 8000,
        target: random.pick(&[
            PortRange::One(80),
            PortRange::One(81),
            PortRange::Named("http"),
        ]),
    }];
    if random.percent(60) {
        ports.push(ServicePort {
            name: "names",
            protocol: Protocol::Udp,
            port: 5300,
            target: random.pick(&[PortRange::One(53), PortRange::Named("dns")]),
        });
    }
    // The same namespace in every cluster, or they would not be one service.
    let namespace = NAMESPACES[usize::from(number) % NAMESPACES.len()];
    let app = random.pick(&APPS);
    let slice = random.percent(25).then(|| slice(random, of));
    Service {
        namespace,
        name,
        addresses: match random.below(4) {
            0 => vec![four],
            1 => vec![six],
            _ => vec![four, six],
        },
        app,
        global: random.percent(75),
        shared: random.percent(85),
        affinity: random.pick(&[Affinity::None, Affinity::Local, Affinity::Remote]),
        client_stays: random.percent(40),
        own_node_only: random.percent(15),
        ports,
        slice,
    }
}

fn slice(random: &mut Random, of: &Cluster) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::new();
    for pod in &of.inventory.pods {
        if random.percent(50) {
            let readiness = match random.below(6) {
                0 => Readiness::Unready,
                1 => Readiness::Terminating,
                _ => Readiness::Ready,
            };
            endpoints.extend(pod.addresses.iter().map(|&address| SliceEndpoint {
                address,
                node: pod.node,
                readiness,
            }));
        }
    }
    endpoints
}
