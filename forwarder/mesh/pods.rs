//! Pods become identities and endpoints: whose each address is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use packet::Address;
use policy::{Endpoint, Identity, Labels, NamedPort, key};

use crate::identity::Numbers;
use crate::inventory::{Inventory, Key, Kind, labels_of};
use crate::nodes::Directory;
use crate::object::{ContainerPort, Object, Pod};
use crate::scope::Scopes;
use crate::status::{Report, Said, State};

/// All pods of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// By cluster, namespace and name.
    entries: BTreeMap<Key, Entry>,
    /// The pods that state an address, whether or not it is theirs.
    stated: BTreeMap<Address, BTreeSet<Key>>,
    /// Sets of labels in use, by cluster.
    sets: BTreeMap<(u8, Labels), Set>,
    identities: BTreeMap<Identity, Labels>,
    /// Pods whose labels got no number: there may be one by now.
    numberless: BTreeSet<Key>,
}

/// A set of labels.
#[derive(Debug, Default)]
struct Set {
    /// Of how many pods.
    users: usize,
    /// None while its cluster has no number for it.
    identity: Option<Identity>,
}

/// A pod with what of its claims holds.
#[derive(Debug)]
pub(crate) struct Entry {
    object: Arc<Object>,
    claims: Claims,
    /// Its own addresses; none of a pod in its node's network.
    addresses: Vec<Address>,
    /// Whether its labels are among those in use.
    counts: bool,
    endpoint: Option<Arc<Endpoint>>,
    view: Arc<PodView>,
}

/// What a pod says of itself, as far as it may.
#[derive(Debug)]
struct Claims {
    addresses: Vec<Address>,
    /// The addresses of its node, if it is in the node's network.
    of_node: Vec<Address>,
    labels: Labels,
    said: Said,
}

/// What pods are judged by.
pub(crate) struct Judges<'a> {
    pub(crate) scopes: &'a Scopes,
    pub(crate) inventory: &'a Inventory,
    pub(crate) directory: &'a Directory,
    /// Churning labels that some policy selects by.
    pub(crate) churning: &'a BTreeSet<&'static str>,
}

/// What has become of pods.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Addresses whose owner may be another, or not what it was.
    pub(crate) addresses: BTreeSet<Address>,
    /// Pods as they were and as they are, with their clusters.
    pub(crate) pods: Vec<(u8, Arc<Object>)>,
    /// Whether the sets of labels in use are others.
    pub(crate) identities: bool,
}

impl Pods {
    /// Looks at these pods anew, and at all whose addresses they may have.
    pub(crate) fn update(
        &mut self,
        judges: &Judges<'_>,
        mut touched: BTreeSet<Key>,
        numbers: &mut Numbers,
        report: &mut Report,
    ) -> Change {
        touched.append(&mut self.numberless);
        let mut change = Change::default();
        let mut released = Vec::new();
        for key in &touched {
            if let Some(old) = self.entries.remove(key) {
                released.extend(self.forget(key, old, &mut change));
            }
            if let Some(entry) = Entry::of(key, judges) {
                for &address in &entry.pod().addresses {
                    self.stated.entry(address).or_default().insert(key.clone());
                    change.addresses.insert(address);
                }
                change.pods.push((key.cluster, entry.object.clone()));
                self.entries.insert(key.clone(), entry);
            }
        }
        let others = change.addresses.iter().filter_map(|a| self.stated.get(a));
        let others: BTreeSet<Key> = others.flatten().cloned().collect();
        for key in others.difference(&touched) {
            let entry = self.entries.get(key);
            change
                .pods
                .extend(entry.map(|e| (key.cluster, e.object.clone())));
        }
        let affected: BTreeSet<Key> = touched.into_iter().chain(others).collect();
        let said = self.settle(&affected, &mut released);
        change.identities = self.number(released, numbers);
        for (key, said) in said {
            self.identify(&key, said, judges.directory, report);
        }
        change
    }

    /// Takes out a pod as it was; returns its labels if they were in use.
    fn forget(&mut self, key: &Key, old: Entry, change: &mut Change) -> Option<(u8, Labels)> {
        for address in &old.pod().addresses {
            change.addresses.insert(*address);
            if let Some(pods) = self.stated.get_mut(address) {
                pods.remove(key);
                if pods.is_empty() {
                    self.stated.remove(address);
                }
            }
        }
        let labels = old.counts.then_some((key.cluster, old.claims.labels));
        change.pods.push((key.cluster, old.object));
        labels
    }

    /// Decides which of their claims hold, and what is to be said of these pods. Their labels come
    /// into use where an address does; those that do not any more are added to `released`.
    fn settle(
        &mut self,
        pods: &BTreeSet<Key>,
        released: &mut Vec<(u8, Labels)>,
    ) -> Vec<(Key, Said)> {
        let mut settled = Vec::with_capacity(pods.len());
        for key in pods {
            let Some(entry) = self.entries.get(key) else {
                continue;
            };
            let mut said = entry.claims.said.clone();
            let mut addresses = entry.claims.addresses.clone();
            let mut claimed: Vec<Address> = addresses.clone();
            claimed.sort_unstable();
            claimed.dedup();
            for address in claimed {
                if let Some(reason) = self.refuses(key, address) {
                    said.say(State::Refused, reason);
                    addresses.retain(|other| *other != address);
                }
            }
            if let Some(entry) = self.entries.get_mut(key) {
                entry.addresses = addresses;
                let counts = !entry.addresses.is_empty();
                match (entry.counts, counts) {
                    (false, true) => {
                        let labels = (key.cluster, entry.claims.labels.clone());
                        // One allocation for all pods of a set.
                        if let Some((known, _)) = self.sets.get_key_value(&labels) {
                            entry.claims.labels = known.1.clone();
                        }
                        self.sets.entry(labels).or_default().users += 1;
                    }
                    (true, false) => {
                        released.push((key.cluster, entry.claims.labels.clone()));
                    }
                    _ => {}
                }
                entry.counts = counts;
            }
            settled.push((key.clone(), said));
        }
        settled
    }

    /// Why a pod does not get an address that it claims: one that several claim belongs to the one
    /// that is not being deleted; if that leaves more than one, to nobody, as it would mean two
    /// things at once.
    fn refuses(&self, key: &Key, address: Address) -> Option<String> {
        let stated = self.stated.get(&address)?.iter();
        let claimants = stated.filter_map(|pod| Some((pod, self.entries.get(pod)?)));
        let mut claimants =
            claimants.filter(|(_, entry)| entry.claims.addresses.contains(&address));
        let other = claimants.clone().find(|(other, _)| *other != key)?.1;
        let staying = claimants
            .clone()
            .filter(|(_, entry)| !entry.pod().terminating);
        let is_winner = staying.count() == 1
            && claimants.any(|(claimant, entry)| claimant == key && !entry.pod().terminating);
        (!is_winner).then(|| format!("{address} is claimed by pod {} too", other.name()))
    }

    /// Numbers sets of labels that are new, and forgets those that nobody uses any more; returns
    /// whether there were any.
    fn number(&mut self, released: Vec<(u8, Labels)>, numbers: &mut Numbers) -> bool {
        let mut differs = false;
        for labels in released {
            if let Some(set) = self.sets.get_mut(&labels) {
                set.users -= 1;
                if set.users == 0 {
                    let identity = set.identity;
                    self.sets.remove(&labels);
                    differs |= identity.is_some_and(|i| self.identities.remove(&i).is_some());
                }
            }
        }
        // In the order of the labels, whatever the order of the pods.
        let new = self.sets.iter().filter(|(_, set)| set.identity.is_none());
        let new: Vec<(u8, Labels)> = new.map(|(labels, _)| labels.clone()).collect();
        for (cluster, labels) in new {
            let in_use = |labels: &Labels| self.sets.contains_key(&(cluster, labels.clone()));
            let Some(identity) = numbers.number(cluster, &labels, in_use) else {
                continue;
            };
            self.identities.insert(identity, labels.clone());
            if let Some(set) = self.sets.get_mut(&(cluster, labels)) {
                set.identity = Some(identity);
            }
            differs = true;
        }
        differs
    }

    /// Makes a pod's endpoint and view, and says what is to be said of it.
    fn identify(&mut self, key: &Key, mut said: Said, directory: &Directory, report: &mut Report) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let identity = if entry.counts {
            let labels = (key.cluster, entry.claims.labels.clone());
            let set = self.sets.get(&labels);
            let identity = set.and_then(|set| set.identity);
            if identity.is_none() {
                let reason = "its cluster has more different sets of labels than numbers for them";
                said.say(State::Refused, reason);
                self.numberless.insert(key.clone());
            }
            identity
        } else {
            None
        };
        entry.endpoint = identity.map(|identity| {
            Arc::new(Endpoint {
                identity,
                named_ports: named_ports(&entry.pod().ports),
                name: entry.name(),
                cluster: Some(key.cluster),
            })
        });
        entry.view = Arc::new(entry.view(key.cluster, directory));
        report.set(key, said);
    }

    /// Whose an address is, if it is a pod's.
    pub(crate) fn at(&self, address: Address) -> Option<(&Key, &Entry)> {
        let stated = self.stated.get(&address)?.iter();
        let mut entries = stated.filter_map(|key| Some((key, self.entries.get(key)?)));
        entries.find(|(_, entry)| entry.addresses.contains(&address))
    }

    /// All pods.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// The pods in a namespace.
    pub(crate) fn within(
        &self,
        cluster: u8,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = (&Key, &Entry)> {
        let first = Key::to::<Pod>(cluster, namespace, &Arc::default());
        let like = first.clone();
        self.entries.range(first..).take_while(move |(key, _)| {
            key.cluster == like.cluster && key.namespace == like.namespace
        })
    }

    /// The pods that state an address.
    pub(crate) fn stating(&self, address: Address) -> impl Iterator<Item = &Key> {
        self.stated.get(&address).into_iter().flatten()
    }

    /// All sets of labels in use, by number.
    pub(crate) fn identities(&self) -> Vec<(Identity, Labels)> {
        let identities = self.identities.iter();
        identities.map(|(i, labels)| (*i, labels.clone())).collect()
    }

    /// All pods, as they are identified.
    pub(crate) fn views(&self) -> Vec<Arc<PodView>> {
        let entries = self.entries.values();
        entries.map(|entry| entry.view.clone()).collect()
    }
}

impl Entry {
    /// The pod that has a name, if there is one, with what it claims.
    fn of(key: &Key, judges: &Judges<'_>) -> Option<Entry> {
        let object = judges.inventory.object(key)?;
        let pod = Pod::of(object)?;
        let mut said = Said::ENFORCED;
        note_forged_labels(pod, &mut said);
        let (mut addresses, mut of_node) = (Vec::new(), Vec::new());
        for &address in &pod.addresses {
            match judges.scopes.refuses(key.cluster, address) {
                Some(reason) => said.say(State::Refused, reason),
                // A node's address is the node's, whoever shares it.
                None if judges.directory.at(address).is_some() => of_node.push(address),
                None if pod.host_network => {
                    let reason = format!("{address} of its node's network is no node's InternalIP");
                    said.say(State::Refused, reason);
                }
                None => addresses.push(address),
            }
        }
        Some(Entry {
            object: object.clone(),
            claims: Claims {
                addresses,
                of_node,
                labels: security_labels(key, pod, judges),
                said,
            },
            addresses: Vec::new(),
            counts: false,
            endpoint: None,
            view: Arc::default(),
        })
    }

    /// The object.
    pub(crate) fn pod(&self) -> &Pod {
        Pod::of(&self.object).expect("it was made of a pod")
    }

    /// The addresses that are believed: its own, and those of its node that it shares.
    pub(crate) fn believed(&self) -> impl Iterator<Item = Address> {
        self.addresses.iter().chain(&self.claims.of_node).copied()
    }

    /// Its own addresses.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What its own addresses belong to.
    pub(crate) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.endpoint.as_ref()
    }

    /// `namespace/name`.
    fn name(&self) -> String {
        format!("{}/{}", self.pod().namespace, self.pod().name)
    }

    fn view(&self, cluster: u8, directory: &Directory) -> PodView {
        let node = self.claims.of_node.first();
        let shared = || Some(directory.at(*node?)?.identity());
        PodView {
            cluster,
            namespace: self.pod().namespace.clone(),
            name: self.pod().name.clone(),
            node: self.pod().node.clone(),
            addresses: self.believed().collect(),
            identity: match &self.endpoint {
                Some(endpoint) => Some(endpoint.identity),
                None if self.addresses.is_empty() => shared(),
                None => None,
            },
        }
    }
}

/// What only we may say of a pod, said by itself, does not count.
fn note_forged_labels(pod: &Pod, said: &mut Said) {
    for label in pod.labels.keys() {
        if key::is_ours(label) {
            let reason = format!("its label {label} is not its own to give, and is left out");
            said.say(State::Partly, reason);
        }
    }
}

/// The labels that make a pod's identity. Those that churn are left out, but for those that some
/// policy selects by: better many identities than a policy that does not hold.
fn security_labels(pod_key: &Key, pod: &Pod, judges: &Judges<'_>) -> Labels {
    let own = labels_of(&pod.labels);
    let inventory = judges.inventory;
    let mut labels = Labels::of_pod(
        judges.scopes.name(pod_key.cluster),
        &pod.namespace,
        &pod.service_account,
        &inventory.labels_of_namespace(pod_key.cluster, &pod_key.namespace),
        &own,
    );
    for churning in judges.churning {
        if let Some(value) = own.value(churning) {
            labels.insert(*churning, value);
        }
    }
    labels
}

/// A pod as people ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
