//! Pods become identities and endpoints: whose each address is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use packet::Address;
use policy::{Endpoint, Identity, Labels, NamedPort};

use crate::identity::Numbers;
use crate::inventory::{Inventory, Key, Kind};
use crate::labeller::{Labeller, note_forged_labels};
use crate::nodes::Directory;
use crate::object::{ContainerPort, Object, Pod};
use crate::scope::Scopes;
use crate::sets::Sets;
use crate::status::{Report, Said, State};

/// All pods of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// By cluster, namespace and name.
    entries: BTreeMap<Key, Entry>,
    /// The pods that state an address, whether or not it is theirs.
    stated: BTreeMap<Address, BTreeSet<Key>>,
    sets: Sets,
    /// Pods whose labels got no number: there may be one by now.
    numberless: BTreeSet<Key>,
}

/// A pod with what of its claims holds.
#[derive(Debug)]
pub(crate) struct Entry {
    object: Arc<Object>,
    claims: Claims,
    /// Its own addresses; none of a pod in its node's network.
    addresses: Vec<Address>,
    /// The place of its labels among those in use, if they are.
    set: Option<usize>,
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
    /// Pods of which more than the identity is not what it was, as they were and as they are, with
    /// their clusters.
    pub(crate) pods: Vec<(u8, Arc<Object>)>,
    /// Whether the sets of labels in use are others.
    pub(crate) identities: bool,
}

/// What of a pod does not hang on its labels.
struct Seen {
    object: Arc<Object>,
    believed: Vec<Address>,
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
        let mut labeller = Labeller::new(judges);
        let mut before: BTreeMap<Key, Option<Seen>> = BTreeMap::new();
        let mut contested = BTreeSet::new();
        for key in touched {
            let old = self.entries.remove(&key);
            let new = Entry::of(&key, judges, &mut labeller);
            let stated = [&old, &new].into_iter().flatten();
            let stated = stated.flat_map(|entry| &entry.pod().addresses).copied();
            let stated: Vec<Address> = stated.collect();
            change.addresses.extend(&stated);
            if !matches!((&old, &new), (Some(old), Some(new)) if new.claims_the_same(old)) {
                contested.extend(stated);
                self.state(&key, old.as_ref(), new.as_ref());
            }
            if let Some(place) = old.as_ref().and_then(|old| old.set) {
                self.sets.leave(place);
            }
            before.insert(key.clone(), old.as_ref().map(Seen::of));
            if let Some(new) = new {
                self.entries.insert(key, new);
            }
        }
        let others = contested.iter().filter_map(|a| self.stated.get(a));
        for key in others.flatten() {
            let entry = || self.entries.get(key).map(Seen::of);
            before.entry(key.clone()).or_insert_with(entry);
        }
        let said = self.settle(before.keys());
        change.identities = self.sets.number(numbers);
        for (key, said) in said {
            self.identify(&key, said, judges.directory, report);
        }
        for (key, before) in before {
            let after = self.entries.get(&key);
            if !matches!((&before, after), (Some(before), Some(after)) if before.is(after)) {
                let before = before.map(|before| before.object);
                let both = before.into_iter().chain(after.map(|a| a.object.clone()));
                change.pods.extend(both.map(|object| (key.cluster, object)));
            }
        }
        change
    }

    /// Takes notice of what addresses a pod states no more, and which it does.
    fn state(&mut self, key: &Key, old: Option<&Entry>, new: Option<&Entry>) {
        for address in old.into_iter().flat_map(|old| &old.pod().addresses) {
            if let Some(pods) = self.stated.get_mut(address) {
                pods.remove(key);
                if pods.is_empty() {
                    self.stated.remove(address);
                }
            }
        }
        for address in new.into_iter().flat_map(|new| &new.pod().addresses) {
            self.stated.entry(*address).or_default().insert(key.clone());
        }
    }

    /// Decides which of their claims hold, and what is to be said of these pods. Their labels come
    /// into use where an address does.
    fn settle<'k>(&mut self, pods: impl Iterator<Item = &'k Key>) -> Vec<(Key, Said)> {
        let mut settled = Vec::new();
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
                match (entry.set, entry.addresses.is_empty()) {
                    (None, false) => {
                        let place = self.sets.enter(key.cluster, &entry.claims.labels);
                        entry.claims.labels = self.sets.labels(place).clone();
                        entry.set = Some(place);
                    }
                    (Some(place), true) => {
                        self.sets.leave(place);
                        entry.set = None;
                    }
                    _ => {}
                }
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

    /// Makes a pod's endpoint and view, and says what is to be said of it.
    fn identify(&mut self, key: &Key, mut said: Said, directory: &Directory, report: &mut Report) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let identity = entry.set.and_then(|place| self.sets.identity(place));
        if entry.set.is_some() && identity.is_none() {
            let reason = "its cluster has more different sets of labels than numbers for them";
            said.say(State::Refused, reason);
            self.numberless.insert(key.clone());
        }
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
        self.sets.identities()
    }

    /// All pods, as they are identified.
    pub(crate) fn views(&self) -> Vec<Arc<PodView>> {
        let entries = self.entries.values();
        entries.map(|entry| entry.view.clone()).collect()
    }
}

impl Entry {
    /// The pod that has a name, if there is one, with what it claims.
    fn of<'a>(key: &Key, judges: &'a Judges<'_>, labeller: &mut Labeller<'a>) -> Option<Entry> {
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
                labels: labeller.labels(key, pod),
                said,
            },
            addresses: Vec::new(),
            set: None,
            endpoint: None,
            view: Arc::default(),
        })
    }

    /// Whether nobody's claim to an address is better or worse for it.
    fn claims_the_same(&self, old: &Entry) -> bool {
        Arc::ptr_eq(&self.object, &old.object) && self.claims.addresses == old.claims.addresses
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

impl Seen {
    fn of(entry: &Entry) -> Seen {
        Seen {
            object: entry.object.clone(),
            believed: entry.believed().collect(),
        }
    }

    fn is(&self, entry: &Entry) -> bool {
        let believed = self.believed.iter().copied();
        Arc::ptr_eq(&self.object, &entry.object) && believed.eq(entry.believed())
    }
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
