//! Pods become identities and endpoints: whose each address is.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, btree_set};
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
    stated: Stated,
    sets: Sets,
    /// Pods whose labels got no number: there may be one by now.
    numberless: BTreeSet<Key>,
}

/// The pods that state an address, whether or not it is theirs.
#[derive(Debug, Default)]
struct Stated(BTreeMap<Address, BTreeSet<Key>>);

/// A pod with what of its claims holds.
#[derive(Debug)]
pub(crate) struct Entry {
    object: Arc<Object>,
    claims: Claims,
    /// Its own addresses; none of a pod in its node's network. All that it claims, until it is
    /// settled whose they are.
    addresses: Vec<Address>,
    /// The place of its labels among those in use: they are if it has an address.
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

/// A pod that is looked at anew.
struct Look {
    key: Key,
    before: Option<Seen>,
    said: Said,
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
        let mut looks = self.renew(judges, touched, &mut change.addresses);
        for look in &mut looks {
            self.settle(look);
        }
        change.identities = self.sets.number(numbers);
        for Look { key, before, said } in looks {
            let after = self.identify(&key, said, judges.directory, report);
            if !matches!((&before, after), (Some(before), Some(after)) if before.is(after)) {
                let before = before.map(|before| before.object);
                let both = before.into_iter().chain(after.map(|a| a.object.clone()));
                change.pods.extend(both.map(|object| (key.cluster, object)));
            }
        }
        change
    }

    /// Asks these pods what they claim; returns with them all whose addresses are claimed by others
    /// than before, and takes notice of the addresses that these pods state.
    fn renew(
        &mut self,
        judges: &Judges<'_>,
        touched: BTreeSet<Key>,
        addresses: &mut BTreeSet<Address>,
    ) -> Vec<Look> {
        let mut labeller = Labeller::new(judges);
        let mut looks = Vec::with_capacity(touched.len());
        let mut contested = BTreeSet::new();
        for key in touched {
            let new = Entry::of(&key, judges, &mut labeller, &mut self.sets);
            let (old, new) = put(&mut self.entries, &key, new);
            let stated = old
                .iter()
                .chain(new)
                .flat_map(|entry| &entry.pod().addresses);
            addresses.extend(stated.clone());
            if !matches!((&old, new), (Some(old), Some(new)) if new.claims_the_same(old)) {
                contested.extend(stated);
                self.stated.change(&key, old.as_ref(), new);
            }
            if let Some(place) = old.as_ref().and_then(|old| old.set) {
                self.sets.leave(place);
            }
            looks.push(Look::of(key, old.as_ref()));
        }
        let others = contested.into_iter().flat_map(|a| self.stated.by(a));
        let is_other = |key: &&Key| looks.binary_search_by(|look| look.key.cmp(key)).is_err();
        let others: BTreeSet<&Key> = others.filter(is_other).collect();
        let others = others.into_iter();
        looks.extend(others.map(|key| Look::of(key.clone(), self.entries.get(key))));
        looks
    }

    /// Decides which of a pod's claims hold, and what is to be said of it. Its labels come into use
    /// where an address does.
    fn settle(&mut self, look: &mut Look) {
        let Some(entry) = self.entries.get(&look.key) else {
            return;
        };
        look.said = entry.claims.said.clone();
        let claimed = entry.claims.addresses.iter();
        let refused = claimed.filter_map(|&a| Some((a, self.refuses(&look.key, a)?)));
        let refused: BTreeMap<Address, String> = refused.collect();
        let held = entry.claims.addresses.iter().copied();
        let held = held.filter(|address| !refused.contains_key(address));
        if !held.clone().eq(entry.addresses.iter().copied()) {
            let held = held.collect();
            self.give(&look.key, held);
        }
        for reason in refused.into_values() {
            look.said.say(State::Refused, reason);
        }
    }

    /// Gives a pod these addresses instead of those that it has.
    fn give(&mut self, key: &Key, addresses: Vec<Address>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
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

    /// Why a pod does not get an address that it claims: one that several claim belongs to the one
    /// that is not being deleted; if that leaves more than one, to nobody, as it would mean two
    /// things at once.
    fn refuses(&self, key: &Key, address: Address) -> Option<String> {
        let stated = self.stated.by(address);
        if stated.len() < 2 {
            return None;
        }
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
    fn identify(
        &mut self,
        key: &Key,
        mut said: Said,
        directory: &Directory,
        report: &mut Report,
    ) -> Option<&Entry> {
        let entry = self.entries.get_mut(key)?;
        let identity = entry.set.and_then(|place| self.sets.identity(place));
        if entry.set.is_some() && identity.is_none() {
            let reason = "its cluster has more different sets of labels than numbers for them";
            said.say(State::Refused, reason);
            self.numberless.insert(key.clone());
        }
        entry.endpoint = identity.map(|identity| {
            Arc::new(Endpoint {
                named_ports: named_ports(&entry.pod().ports),
                ..Endpoint::named(identity, key.cluster, entry.name(), &entry.pod().uid)
            })
        });
        entry.view = Arc::new(entry.view(key.cluster, directory));
        report.set(key, said);
        Some(entry)
    }

    /// Whose an address is, if it is a pod's.
    pub(crate) fn at(&self, address: Address) -> Option<(&Key, &Entry)> {
        let stated = self.stated.by(address);
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
        self.stated.by(address)
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

/// Puts an entry in place of another one; returns that, and where the new one is.
fn put<'e>(
    entries: &'e mut BTreeMap<Key, Entry>,
    key: &Key,
    new: Option<Entry>,
) -> (Option<Entry>, Option<&'e Entry>) {
    match (entries.entry(key.clone()), new) {
        (Slot::Occupied(slot), Some(new)) => {
            let entry = slot.into_mut();
            (Some(std::mem::replace(entry, new)), Some(entry))
        }
        (Slot::Occupied(slot), None) => (Some(slot.remove()), None),
        (Slot::Vacant(slot), Some(new)) => (None, Some(slot.insert(new))),
        (Slot::Vacant(_), None) => (None, None),
    }
}

impl Stated {
    /// Takes notice of what addresses a pod states no more, and which it does.
    fn change(&mut self, key: &Key, old: Option<&Entry>, new: Option<&Entry>) {
        for address in old.into_iter().flat_map(|old| &old.pod().addresses) {
            if let Some(pods) = self.0.get_mut(address) {
                pods.remove(key);
                if pods.is_empty() {
                    self.0.remove(address);
                }
            }
        }
        for address in new.into_iter().flat_map(|new| &new.pod().addresses) {
            self.0.entry(*address).or_default().insert(key.clone());
        }
    }

    /// The pods that state an address.
    fn by(&self, address: Address) -> btree_set::Iter<'_, Key> {
        self.0
            .get(&address)
            .map_or_else(Default::default, BTreeSet::iter)
    }
}

impl Entry {
    /// The pod that has a name, if there is one, as if all that it claims were its own.
    fn of<'a>(
        key: &Key,
        judges: &'a Judges<'_>,
        labeller: &mut Labeller<'a>,
        sets: &mut Sets,
    ) -> Option<Entry> {
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
        let made = labeller.labels(key, pod);
        let set = (!addresses.is_empty()).then(|| made.enter(key.cluster, sets));
        Some(Entry {
            object: object.clone(),
            addresses: addresses.clone(),
            claims: Claims {
                addresses,
                of_node,
                labels: made.labels.clone(),
                said,
            },
            set,
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

impl Look {
    /// Nothing is said of it yet.
    fn of(key: Key, before: Option<&Entry>) -> Look {
        Look {
            key,
            before: before.map(Seen::of),
            said: Said::ENFORCED,
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
