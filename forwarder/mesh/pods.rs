//! Pods become identities and endpoints: whose each address is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use packet::Address;
use policy::{Endpoint, Identity, Labels, NamedPort, key};

use crate::identity::Numbers;
use crate::inventory::{ClusterObjects, Held, labels_of};
use crate::nodes::{Directory, Reach};
use crate::object::{ContainerPort, Pod};
use crate::scope::Scopes;
use crate::status::{Report, State};

/// A pod with what of its claims holds.
pub(crate) struct PodEntry<'w> {
    pub(crate) cluster: u8,
    pub(crate) pod: &'w Pod,
    /// Its own addresses; none of a pod in its node's network.
    pub(crate) addresses: Vec<Address>,
    /// The addresses of its node, if it is in the node's network.
    pub(crate) of_node: Vec<Address>,
    pub(crate) labels: Labels,
    held: Held<'w, Pod>,
}

/// All pods of all clusters, by cluster, namespace and name.
pub(crate) fn entries<'w>(
    scopes: &Scopes,
    clusters: &BTreeMap<u8, ClusterObjects<'w>>,
    directory: &Directory,
    selected: &BTreeSet<&str>,
    report: &mut Report,
) -> Vec<PodEntry<'w>> {
    let mut entries = Vec::new();
    for (&cluster, objects) in clusters {
        for &held in &objects.pods {
            let pod = held.object;
            report.enforced(cluster, held.located);
            note_forged_labels(cluster, held, report);
            let (mut addresses, mut of_node) = (Vec::new(), Vec::new());
            for &address in &pod.addresses {
                match scopes.refuses(cluster, address) {
                    Some(reason) => report.say(cluster, held.located, State::Refused, reason),
                    // A node's address is the node's, whoever shares it.
                    None if directory.at(address).is_some() => of_node.push(address),
                    None if pod.host_network => {
                        let reason =
                            format!("{address} of its node's network is no node's InternalIP");
                        report.say(cluster, held.located, State::Refused, reason);
                    }
                    None => addresses.push(address),
                }
            }
            entries.push(PodEntry {
                cluster,
                pod,
                addresses,
                of_node,
                labels: security_labels(scopes.name(cluster), objects, pod, selected),
                held,
            });
        }
    }
    settle(&mut entries, report);
    entries
}

/// The labels that make a pod's identity. Those that churn are left out, but for those that some
/// policy selects by: better many identities than a policy that does not hold.
fn security_labels(
    cluster: &str,
    objects: &ClusterObjects<'_>,
    pod: &Pod,
    selected: &BTreeSet<&str>,
) -> Labels {
    let none = Labels::new();
    let namespace = objects
        .namespaces
        .get(pod.namespace.as_str())
        .unwrap_or(&none);
    let own = labels_of(&pod.labels);
    let mut labels = Labels::of_pod(
        cluster,
        &pod.namespace,
        &pod.service_account,
        namespace,
        &own,
    );
    for churning in key::CHURN.iter().filter(|key| selected.contains(**key)) {
        if let Some(value) = own.value(churning) {
            labels.insert(*churning, value);
        }
    }
    labels
}

/// What only we may say of a pod, said by itself, does not count.
fn note_forged_labels(cluster: u8, held: Held<'_, Pod>, report: &mut Report) {
    for label in held.object.labels.keys() {
        if label.starts_with("io.cilium.")
            || label == key::NAMESPACE
            || label.starts_with("reserved:")
        {
            let reason = format!("its label {label} is not its own to give, and is left out");
            report.say(cluster, held.located, State::Partly, reason);
        }
    }
}

/// An address that several pods claim belongs to the one that is not being deleted; if that leaves
/// more than one, to nobody: it would mean two things at once.
fn settle(entries: &mut [PodEntry<'_>], report: &mut Report) {
    let mut claims: BTreeMap<Address, Vec<usize>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        for &address in &entry.addresses {
            let claim = claims.entry(address).or_default();
            if claim.last() != Some(&index) {
                claim.push(index);
            }
        }
    }
    for (address, claimants) in claims {
        if claimants.len() < 2 {
            continue;
        }
        let staying: Vec<usize> = claimants
            .iter()
            .copied()
            .filter(|&index| !entries[index].pod.terminating)
            .collect();
        let winner = match staying.as_slice() {
            [one] => Some(*one),
            _ => None,
        };
        for &index in claimants.iter().filter(|&&index| Some(index) != winner) {
            let other = claimants.iter().find(|&&other| other != index);
            let other = other.map_or(String::new(), |&other| entries[other].name());
            let reason = format!("{address} is claimed by pod {other} too");
            let entry = &mut entries[index];
            entry.addresses.retain(|a| *a != address);
            report.say(entry.cluster, entry.held.located, State::Refused, reason);
        }
    }
}

impl PodEntry<'_> {
    /// `namespace/name`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.pod.namespace, self.pod.name)
    }
}

/// A pod as people ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Id of its cluster.
    pub cluster: u8,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of its node; empty while it is not scheduled.
    pub node: String,
    /// The addresses that are believed; of a pod in its node's network they are the node's.
    pub addresses: Vec<Address>,
    /// Its identity; none while it has no address that is believed.
    pub identity: Option<Identity>,
}

/// All pods, as they are identified.
pub(crate) fn views(
    entries: &[PodEntry<'_>],
    endpoints: &BTreeMap<Address, Arc<Endpoint>>,
) -> Vec<PodView> {
    let view = |entry: &PodEntry<'_>| {
        let believed = entry.addresses.iter().chain(&entry.of_node);
        let addresses: Vec<Address> = believed.copied().collect();
        let endpoint = addresses.first().and_then(|first| endpoints.get(first));
        PodView {
            cluster: entry.cluster,
            namespace: entry.pod.namespace.clone(),
            name: entry.pod.name.clone(),
            node: entry.pod.node.clone(),
            identity: endpoint.map(|endpoint| endpoint.identity),
            addresses,
        }
    };
    entries.iter().map(view).collect()
}

/// Who everybody is.
pub(crate) struct Identified {
    /// All sets of labels in use, by number.
    pub(crate) identities: Vec<(Identity, Labels)>,
    /// Whose each address is.
    pub(crate) endpoints: BTreeMap<Address, Arc<Endpoint>>,
}

/// Numbers the pods' labels, and says whose each address is.
pub(crate) fn identify(
    entries: &[PodEntry<'_>],
    directory: &Directory,
    numbers: &mut Numbers,
    report: &mut Report,
) -> Identified {
    let mut used: BTreeMap<u8, BTreeSet<&Labels>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.addresses.is_empty()) {
        used.entry(entry.cluster).or_default().insert(&entry.labels);
    }
    let assigned = numbers.assign(&used);
    let mut endpoints = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.addresses.is_empty()) {
        let Some(&identity) = assigned.get(&(entry.cluster, &entry.labels)) else {
            let reason = "its cluster has more than 65,535 different sets of labels";
            report.say(entry.cluster, entry.held.located, State::Refused, reason);
            continue;
        };
        let endpoint = Arc::new(Endpoint {
            identity,
            named_ports: named_ports(&entry.pod.ports),
            name: entry.name(),
            cluster: Some(entry.cluster),
        });
        endpoints.extend(entry.addresses.iter().map(|a| (*a, endpoint.clone())));
    }
    for node in &directory.entries {
        let identity = match node.reach {
            Reach::Own => Identity::HOST,
            _ => Identity::REMOTE_NODE,
        };
        let endpoint = Arc::new(Endpoint {
            name: node.name.clone(),
            cluster: Some(node.cluster),
            ..Endpoint::of(identity)
        });
        endpoints.extend(node.addresses.iter().map(|a| (*a, endpoint.clone())));
    }
    let identities = assigned
        .into_iter()
        .map(|((_, labels), identity)| (identity, labels.clone()))
        .collect::<BTreeMap<_, _>>();
    Identified {
        identities: identities.into_iter().collect(),
        endpoints,
    }
}

/// Of two ports with one name and protocol the first counts, as for Kubernetes.
fn named_ports(ports: &[ContainerPort]) -> Arc<[NamedPort]> {
    let mut named: BTreeMap<(&str, u8), u16> = BTreeMap::new();
    for port in ports {
        named
            .entry((&port.name, port.protocol))
            .or_insert(port.port);
    }
    named
        .into_iter()
        .map(|((name, protocol), port)| NamedPort {
            name: name.into(),
            protocol,
            port,
        })
        .collect()
}
