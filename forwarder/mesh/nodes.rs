//! Node objects become peers, once it is sure that none takes what is another's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use datapath::{LanePeer, Node as Peer, Own};
use packet::{Address, Prefix};
use policy::{Endpoint, Identity};
use tunnel::PublicKey;

use crate::inventory::{Inventory, Key};
use crate::object::{Lane, Node};
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::status::{Report, Said, State};

/// WireGuard's port where an object does not say one: Cilium's.
const PORT: u16 = 51871;

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is this one.
    Own,
    /// By its peer, an index into [`Directory::peers`].
    Peer(u32),
    /// Not at all: it has no key, or was refused.
    None,
}

/// A node with what of its claims holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) cluster: u8,
    pub(crate) name: String,
    pub(crate) reach: Reach,
    pub(crate) addresses: Vec<Address>,
    pub(crate) pod_prefixes: Vec<Prefix>,
}

impl Entry {
    /// What its addresses belong to.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::named(self.identity(), self.cluster, self.name.clone(), "")
    }

    /// Nodes are known by what they are.
    pub(crate) fn identity(&self) -> Identity {
        match self.reach {
            Reach::Own => Identity::HOST,
            Reach::Peer(_) | Reach::None => Identity::REMOTE_NODE,
        }
    }
}

/// All nodes of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// The own node first, then the own cluster's, then the others', each by name: in this order
    /// they are believed.
    pub(crate) entries: Vec<Entry>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) own: Own,
    by_name: BTreeMap<u8, BTreeMap<String, usize>>,
    claims: Claims,
    /// Whether any node was refused what is another's, or has a key of no use that another may take.
    contested: bool,
}

/// What has become of nodes.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Their own addresses, where they are other ones or another node's.
    pub(crate) addresses: BTreeSet<Address>,
    /// Whether anything may be elsewhere.
    pub(crate) moved: bool,
    /// Whether it is not the same peers, or the own node is not what it was.
    pub(crate) differs: bool,
}

impl Directory {
    /// How a node is reached, if it is known.
    pub(crate) fn reach(&self, cluster: u8, name: &str) -> Option<Reach> {
        let index = self.by_name.get(&cluster)?.get(name)?;
        self.entries.get(*index).map(|node| node.reach)
    }

    /// Whose InternalIP this is.
    pub(crate) fn at(&self, address: Address) -> Option<&Entry> {
        let index = self.claims.addresses.get(&address)?;
        self.entries.get(*index)
    }

    /// What is not as it was in another directory.
    pub(crate) fn since(&self, old: &Directory) -> Change {
        fn whose(directory: &Directory, address: Address) -> Option<(u8, &str, Identity)> {
            let index = *directory.claims.addresses.get(&address)?;
            let node = directory.entries.get(index)?;
            Some((node.cluster, node.name.as_str(), node.identity()))
        }
        let addresses = old
            .claims
            .addresses
            .keys()
            .chain(self.claims.addresses.keys());
        let others = addresses.filter(|a| whose(old, **a) != whose(self, **a));
        Change {
            addresses: others.copied().collect(),
            moved: old.entries != self.entries,
            differs: old.peers != self.peers || old.own != self.own,
        }
    }

    /// Looks at one node anew. Nobody else is better or worse for it as long as no node claims what
    /// is another's, and the peers stay the same nodes; where that is not so nothing is changed, and
    /// all must be looked at.
    pub(crate) fn renew(
        &mut self,
        key: &Key,
        scopes: &Scopes,
        inventory: &Inventory,
        report: &mut Report,
    ) -> Option<Change> {
        let node = inventory.get::<Node>(key)?;
        let index = *self.by_name.get(&key.cluster)?.get(&*key.name)?;
        let reach = self.entries[index].reach;
        if self.contested {
            return None;
        }
        self.release(index);
        let mut judge = Judge::of(key, node, scopes);
        let holds = judge.holds(reach == Reach::Own, self);
        let is_peer = matches!(reach, Reach::Peer(_));
        if judge.contested || is_peer != holds.lanes.is_some() {
            self.claim(index);
            return None;
        }
        let old = &self.entries[index].addresses;
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (old.iter().collect(), holds.addresses.iter().collect());
        let mut change = Change {
            addresses: old.symmetric_difference(&new).map(|a| **a).collect(),
            ..Change::default()
        };
        match reach {
            Reach::Own => {
                change.differs = self.own.addresses != holds.addresses;
                self.own.addresses.clone_from(&holds.addresses);
            }
            Reach::Peer(peer) => {
                let place = &mut self.peers[peer as usize];
                let peer = judge.peer(&holds);
                change.differs = peer.as_ref() != Some(&*place);
                *place = peer?;
            }
            Reach::None => {}
        }
        let entry = judge.entry(reach, holds);
        change.moved = entry != self.entries[index];
        self.entries[index] = entry;
        self.claim(index);
        report.set(key, judge.said);
        Some(change)
    }

    /// Adds a node behind all others.
    fn add(&mut self, own: bool, judge: &mut Judge<'_>) {
        let holds = judge.holds(own, self);
        let reach = if own {
            self.own.addresses.clone_from(&holds.addresses);
            Reach::Own
        } else {
            match judge.peer(&holds) {
                Some(peer) => {
                    self.peers.push(peer);
                    Reach::Peer((self.peers.len() - 1) as u32)
                }
                None => Reach::None,
            }
        };
        let index = self.entries.len();
        let names = self.by_name.entry(judge.cluster).or_default();
        names.insert(judge.node.name.clone(), index);
        self.entries.push(judge.entry(reach, holds));
        self.contested |= judge.contested;
        self.claim(index);
    }

    /// What a node holds is nobody else's.
    fn claim(&mut self, index: usize) {
        let (claims, entry) = (&mut self.claims, &self.entries[index]);
        for address in &entry.addresses {
            claims.addresses.insert(*address, index);
        }
        for prefix in &entry.pod_prefixes {
            claims.prefixes.insert(place(prefix), (*prefix, index));
        }
        if let Reach::Peer(peer) = entry.reach {
            for lane in &self.peers[peer as usize].lanes {
                claims.keys.insert(*lane.key.as_bytes(), Some(index));
            }
        }
    }

    /// What a node holds is free again.
    fn release(&mut self, index: usize) {
        let (claims, entry) = (&mut self.claims, &self.entries[index]);
        for address in &entry.addresses {
            claims.addresses.remove(address);
        }
        for prefix in &entry.pod_prefixes {
            claims.prefixes.remove(&place(prefix));
        }
        if let Reach::Peer(peer) = entry.reach {
            for lane in &self.peers[peer as usize].lanes {
                claims.keys.remove(lane.key.as_bytes());
            }
        }
    }
}

/// Whose everything is already, so that nobody else gets it; by index into the entries.
#[derive(Debug, Default)]
struct Claims {
    addresses: BTreeMap<Address, usize>,
    /// Those of this node's lanes are nobody's.
    keys: BTreeMap<[u8; 32], Option<usize>>,
    /// Accepted pod prefixes do not overlap; by first address, IPv6 apart.
    prefixes: BTreeMap<(bool, Address), (Prefix, usize)>,
}

fn place(prefix: &Prefix) -> (bool, Address) {
    (prefix.is_v4(), prefix.address())
}

/// Looks at all nodes: who is believed depends on all of them.
pub(crate) fn directory(
    settings: &Settings,
    scopes: &Scopes,
    inventory: &Inventory,
    report: &mut Report,
) -> Directory {
    let keys = settings.keys.iter();
    let mut directory = Directory {
        own: Own {
            node: settings.node.clone(),
            cluster: settings.id,
            addresses: Vec::new(),
        },
        claims: Claims {
            keys: keys.map(|key| (*key.as_bytes(), None)).collect(),
            ..Claims::default()
        },
        ..Directory::default()
    };
    let is_own = |key: &Key| key.cluster == settings.id && *key.name == *settings.node;
    let clusters = scopes.clusters();
    let mut all: Vec<(&Key, &Node)> = clusters.flat_map(|c| inventory.all(c)).collect();
    all.sort_by_key(|(key, _)| (!is_own(key), key.cluster != settings.id, key.cluster));
    for (key, node) in all {
        let mut judge = Judge::of(key, node, scopes);
        directory.add(is_own(key), &mut judge);
        report.set(key, judge.said);
    }
    let missing = directory.reach(settings.id, &settings.node).is_none();
    let reason = || {
        format!(
            "no manifest of cluster {} has the Node {}, which is this one: it has no address to answer by",
            settings.cluster, settings.node
        )
    };
    let own = Key::to::<Node>(settings.id, &Arc::default(), &settings.node.as_str().into());
    report.missing(own, missing.then(reason));
    directory
}

/// What of a node's claims holds.
struct Holds {
    addresses: Vec<Address>,
    pod_prefixes: Vec<Prefix>,
    /// None of the own node, and of one that cannot be a peer.
    lanes: Option<Vec<LanePeer>>,
}

/// One node on its way into the directory.
struct Judge<'a> {
    cluster: u8,
    scopes: &'a Scopes,
    node: &'a Node,
    said: Said,
    /// Whether it claims what is another's, or what another may take.
    contested: bool,
}

impl<'a> Judge<'a> {
    /// Nothing is said of it yet.
    fn of(key: &Key, node: &'a Node, scopes: &'a Scopes) -> Judge<'a> {
        Judge {
            cluster: key.cluster,
            scopes,
            node,
            said: Said::ENFORCED,
            contested: false,
        }
    }

    /// Decides what of its claims holds, beside all who are in the directory.
    fn holds(&mut self, own: bool, directory: &Directory) -> Holds {
        let addresses = self.addresses(directory);
        let pod_prefixes = self.pod_prefixes(directory);
        if own && addresses.is_empty() {
            self.say(State::Refused, "it has no InternalIP to answer by");
        }
        let lanes = if own {
            None
        } else {
            self.lanes(&addresses, directory)
        };
        Holds {
            addresses,
            pod_prefixes,
            lanes,
        }
    }

    fn peer(&self, holds: &Holds) -> Option<Peer> {
        Some(Peer {
            name: self.node.name.clone(),
            cluster: self.cluster,
            cluster_name: self.scopes.name(self.cluster).into(),
            addresses: holds.addresses.clone(),
            lanes: holds.lanes.clone()?,
            knows_lanes: self.node.knows_lanes,
        })
    }

    fn entry(&self, reach: Reach, holds: Holds) -> Entry {
        Entry {
            cluster: self.cluster,
            name: self.node.name.clone(),
            reach,
            addresses: holds.addresses,
            pod_prefixes: holds.pod_prefixes,
        }
    }

    fn addresses(&mut self, directory: &Directory) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for &address in &self.node.addresses {
            if let Some(reason) = self.scopes.refuses(self.cluster, address) {
                self.say(State::Refused, reason);
            } else if let Some(other) = directory.at(address) {
                self.contested = true;
                let reason = format!("{address} is the InternalIP of node {} already", other.name);
                self.say(State::Refused, reason);
            } else if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn pod_prefixes(&mut self, directory: &Directory) -> Vec<Prefix> {
        let mut prefixes: Vec<Prefix> = Vec::new();
        for &prefix in &self.node.pod_prefixes {
            if let Some(reason) = self.scopes.refuses_prefix(self.cluster, prefix) {
                self.say(State::Refused, reason);
            } else if let Some((other, whose)) = directory.claims.overlapping(prefix) {
                self.contested = true;
                let whose = &directory.entries[whose].name;
                let reason = format!("{prefix} overlaps {other} of node {whose}");
                self.say(State::Refused, reason);
            } else if let Some(other) = prefixes.iter().find(|other| other.overlaps(&prefix)) {
                let reason = format!("{prefix} overlaps {other} of node {}", self.node.name);
                self.say(State::Refused, reason);
            } else {
                prefixes.push(prefix);
            }
        }
        prefixes
    }

    /// The lanes of a peer; `None` if there is none to be had.
    fn lanes(&mut self, addresses: &[Address], directory: &Directory) -> Option<Vec<LanePeer>> {
        let node = self.node;
        if node.lanes.is_empty() {
            self.say(
                State::Refused,
                "it has no annotation network.cilium.io/wg-pub-key, so nothing can be sent to it",
            );
            return None;
        }
        let keys = &directory.claims.keys;
        let taken = node.lanes.iter().find_map(|lane| keys.get(&lane.key));
        if let Some(whose) = taken {
            self.contested = true;
            let whose = match whose.and_then(|index| directory.entries.get(index)) {
                Some(other) => format!(
                    "node {} of cluster {}",
                    other.name,
                    self.scopes.name(other.cluster)
                ),
                None => format!("this node, {}", directory.own.node),
            };
            let reason = format!("its key is that of {whose}: no two nodes may have one");
            self.say(State::Refused, reason);
            return None;
        }
        let v4_first = addresses.iter().find(|a| a.is_v4()).or(addresses.first());
        let mut lanes = Vec::with_capacity(node.lanes.len());
        for (lane, number) in node.lanes.iter().zip(0u16..) {
            let Some(endpoint) = endpoint(lane, number, v4_first) else {
                self.contested = true;
                self.say(
                    State::Refused,
                    "it has neither an endpoint nor an InternalIP to send to",
                );
                return None;
            };
            let key = PublicKey::from_bytes(lane.key);
            lanes.push(LanePeer { key, endpoint });
        }
        Some(lanes)
    }

    fn say(&mut self, state: State, reason: impl Into<String>) {
        self.said.say(state, reason);
    }
}

fn endpoint(lane: &Lane, number: u16, address: Option<&Address>) -> Option<SocketAddr> {
    let default = || Some(SocketAddr::new(address?.to_ip(), PORT.checked_add(number)?));
    lane.endpoint.or_else(default)
}

impl Claims {
    fn overlapping(&self, prefix: Prefix) -> Option<(Prefix, usize)> {
        let before = self.prefixes.range(..=place(&prefix)).next_back();
        let after = self.prefixes.range(place(&prefix)..).next();
        let mut near = before.into_iter().chain(after).map(|(_, claim)| *claim);
        near.find(|(other, _)| other.overlaps(&prefix))
    }
}
