//! Who may reach whom, and by which backends: read straight from the objects, as slowly and as
//! plainly as it can be. Shares no code with what it judges.
//!
//! Sources: NetworkPolicy (networking.k8s.io/v1); Cilium's rule that a selector without the label
//! of the cluster means the own one (1.19); `service.cilium.io/affinity` as Cilium's
//! `SelectBackends` has it; "a Pod cannot block access to itself" (Kubernetes, network policies).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::inspect::Tuple;
use crate::model::{
    Affinity, Block, CLUSTER_LABEL, CLUSTER_NAMES, CLUSTERS, NAME_LABEL, NODES, Operator, Peer,
    Pod, Policy, PortRange, Protocol, Readiness, Rule, Selector, Service, ServicePort, View,
    cluster_of, node_v4, node_v6,
};

/// Whose an address is.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'v> {
    /// A pod's.
    Pod(&'v Pod),
    /// A node's.
    Node(usize),
    /// Nobody's in the mesh.
    World,
    /// It lies within the mesh, but nobody is known to have it.
    Unknown,
}

/// Which end is governed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The destination's.
    Ingress,
    /// The source's.
    Egress,
}

/// One end's judgement on a flow.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Which end.
    pub direction: Direction,
    /// The source.
    pub source: IpAddr,
    /// The destination, behind any service.
    pub destination: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination's port.
    pub port: u16,
}

/// Whose an address is, as far as `view` knows.
pub fn owner(view: &View, address: IpAddr) -> Owner<'_> {
    if let Some((_, pod)) = view.pods().find(|(_, p)| p.addresses.contains(&address)) {
        return Owner::Pod(pod);
    }
    if let Some(node) = (0..NODES).find(|n| [node_v4(*n), node_v6(*n)].contains(&address)) {
        return Owner::Node(node);
    }
    let in_mesh = (1..=CLUSTERS as u8).any(|cluster| {
        let four = Block {
            address: IpAddr::from([10, cluster, 0, 0]),
            length: 16,
        };
        let six = Block {
            address: IpAddr::from([0xfd10, cluster.into(), 0, 0, 0, 0, 0, 0]),
            length: 32,
        };
        four.contains(address) || six.contains(address)
    });
    match in_mesh {
        true => Owner::Unknown,
        false => Owner::World,
    }
}

/// All that tells the owner of an address from another one for policies: of a pod its labels and where
/// it is, not its name.
pub fn identity(view: &View, address: IpAddr) -> String {
    match owner(view, address) {
        Owner::Pod(pod) => {
            let cluster = cluster_of(pod.node);
            let namespaces = &view.clusters[cluster].inventory.namespaces;
            let labels = (&pod.labels, namespaces.get(pod.namespace));
            format!("{cluster} {} {labels:?}", pod.namespace)
        }
        other => format!("{other:?}"),
    }
}

/// Whether the node `own`, knowing `view`, lets a flow pass at one of its ends.
pub fn allows(view: &View, own: usize, question: &Question) -> bool {
    let (subject, peer) = match question.direction {
        Direction::Egress => (question.source, question.destination),
        Direction::Ingress => (question.destination, question.source),
    };
    let (subject, peer_owner) = (owner(view, subject), owner(view, peer));
    if matches!(subject, Owner::Unknown) || matches!(peer_owner, Owner::Unknown) {
        return false;
    }
    let Owner::Pod(subject) = subject else {
        return true;
    };
    if question.source == question.destination {
        return true;
    }
    if question.direction == Direction::Ingress && matches!(peer_owner, Owner::Node(n) if n == own)
    {
        return true;
    }
    let cluster = cluster_of(subject.node);
    let policies = view.clusters[cluster].policies.iter();
    let governing: Vec<(&Policy, &Vec<Rule>)> = policies
        .filter(|policy| {
            policy.namespace == subject.namespace && selects(&policy.subject, &subject.labels)
        })
        .filter_map(|policy| {
            let rules = match question.direction {
                Direction::Ingress => policy.ingress.as_ref(),
                Direction::Egress => policy.egress.as_ref(),
            };
            rules.map(|rules| (policy, rules))
        })
        .collect();
    if governing.iter().any(|(policy, _)| policy.unenforceable) {
        return false;
    }
    governing.is_empty()
        || governing.iter().any(|(policy, rules)| {
            rules
                .iter()
                .any(|rule| matches(view, cluster, policy, rule, peer, question))
        })
}

fn matches(
    view: &View,
    cluster: usize,
    policy: &Policy,
    rule: &Rule,
    peer: IpAddr,
    question: &Question,
) -> bool {
    let peers = rule.peers.is_empty()
        || rule.peers.iter().any(|candidate| match candidate {
            Peer::Addresses { block, except } => {
                block.contains(peer) && !except.iter().any(|hole| hole.contains(peer))
            }
            Peer::Pods { namespaces, pods } => match owner(view, peer) {
                Owner::Pod(pod) => selects_pod(
                    view,
                    cluster,
                    policy,
                    namespaces.as_ref(),
                    pods.as_ref(),
                    pod,
                ),
                _ => false,
            },
        });
    let ports = rule.ports.is_empty()
        || rule.ports.iter().any(|port| {
            port.protocol == question.protocol
                && match port.range {
                    PortRange::Any => true,
                    PortRange::One(one) => question.port == one,
                    PortRange::To(first, last) => (first..=last).contains(&question.port),
                    PortRange::Named(name) => match owner(view, question.destination) {
                        Owner::Pod(pod) => number(pod, name, port.protocol) == Some(question.port),
                        _ => false,
                    },
                }
        });
    peers && ports
}

fn selects_pod(
    view: &View,
    cluster: usize,
    policy: &Policy,
    namespaces: Option<&Selector>,
    pods: Option<&Selector>,
    pod: &Pod,
) -> bool {
    let theirs = cluster_of(pod.node);
    let mut labels = pod.labels.clone();
    labels.insert(CLUSTER_LABEL, CLUSTER_NAMES[theirs]);
    let names_cluster = pods.is_some_and(|s| s.0.iter().any(|r| r.key == CLUSTER_LABEL));
    if !names_cluster && theirs != cluster {
        return false;
    }
    if pods.is_some_and(|selector| !selects(selector, &labels)) {
        return false;
    }
    match namespaces {
        None => pod.namespace == policy.namespace,
        Some(selector) => {
            let known = &view.clusters[theirs].inventory.namespaces;
            let mut labels = known.get(pod.namespace).cloned().unwrap_or_default();
            labels.insert(NAME_LABEL, pod.namespace);
            selects(selector, &labels)
        }
    }
}

fn selects(selector: &Selector, labels: &BTreeMap<&str, &str>) -> bool {
    selector.0.iter().all(|requirement| {
        let value = labels.get(requirement.key);
        match &requirement.operator {
            Operator::Is(wanted) => value == Some(wanted),
            Operator::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Operator::NotIn(unwanted) => !value.is_some_and(|value| unwanted.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    })
}

/// The number of a pod's named port.
fn number(pod: &Pod, name: &str, protocol: Protocol) -> Option<u16> {
    match (name, protocol) {
        ("http", Protocol::Tcp) => pod.http,
        ("dns", Protocol::Udp) => pod.dns.then_some(53),
        _ => None,
    }
}

/// The service and its port that an address and a port are of, in a cluster.
pub fn service_at(
    view: &View,
    cluster: usize,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Option<(&Service, &ServicePort)> {
    let service = service_of(view, cluster, address)?;
    let mut ports = service.ports.iter();
    let port = ports.find(|p| p.port == port && p.protocol == protocol)?;
    Some((service, port))
}

/// The service whose address this is, in a cluster.
pub fn service_of(view: &View, cluster: usize, address: IpAddr) -> Option<&Service> {
    let services = &view.clusters[cluster].services;
    services.iter().find(|s| s.addresses.contains(&address))
}

#[derive(Clone, Copy)]
struct Candidate {
    address: IpAddr,
    port: u16,
    /// As its pod or slice says.
    node: usize,
    local: bool,
    terminating: bool,
    healthy: bool,
}

/// The backends that take new flows of a client on the node `own`, which holds the nodes `silent`
/// to be silent.
pub fn backends(
    view: &View,
    own: usize,
    silent: &BTreeSet<usize>,
    service: &Service,
    port: &ServicePort,
    v4: bool,
) -> Vec<(IpAddr, u16)> {
    let mut all = known_backends(view, own, silent, service, port);
    all.retain(|candidate| candidate.address.is_ipv4() == v4);
    if service.own_node_only {
        all.retain(|candidate| candidate.node == own);
    }
    let serves = |c: &&Candidate| c.healthy;
    let active = |c: &&Candidate| c.healthy && !c.terminating;
    let local = |c: &&Candidate| c.local;
    let (use_local, use_remote) = match service.affinity {
        Affinity::None => (true, true),
        Affinity::Local => {
            let remote = !all.iter().filter(local).any(|c| active(&c))
                && all.iter().filter(|c| !c.local).any(|c| serves(&c));
            (true, remote)
        }
        Affinity::Remote => {
            let local_too = !all.iter().filter(|c| !c.local).any(|c| serves(&c))
                && all.iter().filter(local).any(|c| serves(&c));
            (local_too, true)
        }
    };
    all.retain(|c| if c.local { use_local } else { use_remote });
    let any_active = all.iter().any(|c| active(&c));
    all.iter()
        .filter(|c| c.healthy && c.terminating != any_active)
        .map(|c| (c.address, c.port))
        .collect()
}

/// Whether the backend that a flow to a service has is known to be dead on the node `own`, which
/// holds the nodes `silent` to be silent: the service knows it as one that does not answer, or nobody
/// has its address any more.
pub fn is_dead(
    view: &View,
    own: usize,
    silent: &BTreeSet<usize>,
    flow: &Tuple,
    backend: (IpAddr, u16),
) -> bool {
    let (address, port) = flow.destination;
    let found = service_at(view, cluster_of(own), address, port, flow.protocol);
    let listed = found.and_then(|(service, port)| {
        let known = known_backends(view, own, silent, service, port);
        known
            .into_iter()
            .find(|c| (c.address, c.port) == backend)
            .map(|c| c.healthy)
    });
    match listed {
        Some(healthy) => !healthy,
        None => matches!(owner(view, backend.0), Owner::Unknown),
    }
}

/// All backends of a service's port, as far as the clusters share theirs.
fn known_backends(
    view: &View,
    own: usize,
    silent: &BTreeSet<usize>,
    service: &Service,
    port: &ServicePort,
) -> Vec<Candidate> {
    let mut all = Vec::new();
    for cluster in 0..CLUSTERS {
        let local = cluster == cluster_of(own);
        let services = &view.clusters[cluster].services;
        let name = (service.namespace, service.name);
        let theirs = services.iter().find(|s| (s.namespace, s.name) == name);
        let Some(theirs) = theirs else { continue };
        let mut ports = theirs.ports.iter();
        let same = ports.find(|p| p.name == port.name && p.protocol == port.protocol);
        let Some(same) = same else { continue };
        // Without the annotation `global` nothing is shared.
        let shared = service.global && theirs.global && theirs.shared;
        if !(local || shared) {
            continue;
        }
        all.extend(candidates(view, own, silent, cluster, theirs, same));
    }
    all
}

fn candidates(
    view: &View,
    own: usize,
    silent: &BTreeSet<usize>,
    cluster: usize,
    service: &Service,
    port: &ServicePort,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut add = |address, port, node, readiness| {
        if readiness == Readiness::Unready {
            return;
        }
        let healthy = match owner(view, address) {
            Owner::Pod(pod) => pod.node == own || !silent.contains(&pod.node),
            // The address of a pod that is gone is still within its node's prefix.
            _ => {
                let node = node_of_prefix(address);
                node.is_some_and(|node| node != own && !silent.contains(&node))
            }
        };
        found.push(Candidate {
            address,
            port,
            node,
            local: cluster == cluster_of(own),
            terminating: readiness == Readiness::Terminating,
            healthy,
        });
    };
    if let Some(slice) = &service.slice {
        let target = slice_port(port);
        for endpoint in slice {
            add(endpoint.address, target, endpoint.node, endpoint.readiness);
        }
        return found;
    }
    for pod in &view.clusters[cluster].inventory.pods {
        let selected =
            pod.namespace == service.namespace && pod.labels.get("app") == Some(&service.app);
        let target = match port.target {
            PortRange::One(number) => Some(number),
            PortRange::Named(name) => number(pod, name, port.protocol),
            PortRange::Any | PortRange::To(..) => None,
        };
        if let (true, Some(target)) = (selected, target) {
            for &address in &pod.addresses {
                add(address, target, pod.node, pod.readiness);
            }
        }
    }
    found
}

/// The number that an EndpointSlice gives a port.
fn slice_port(port: &ServicePort) -> u16 {
    match (port.target, port.protocol) {
        (PortRange::One(number), _) => number,
        (_, Protocol::Udp) => 53,
        _ => 80,
    }
}

/// The node within whose pod prefixes an address lies.
pub fn node_of_prefix(address: IpAddr) -> Option<usize> {
    (0..NODES).find(|&node| {
        let cluster = cluster_of(node) as u8 + 1;
        let four = Block {
            address: IpAddr::from([10, cluster, node as u8, 0]),
            length: 24,
        };
        let six = Block {
            address: IpAddr::from([0xfd10, cluster.into(), node as u16, 0, 0, 0, 0, 0]),
            length: 48,
        };
        four.contains(address) || six.contains(address)
    })
}
