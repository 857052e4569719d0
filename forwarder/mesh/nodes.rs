//! Node objects become peers, once it is sure that none takes what is another's.

use std::collections::BTreeMap;
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
        Endpoint {
            name: self.name.clone(),
            cluster: Some(self.cluster),
            ..Endpoint::of(self.identity())
        }
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
    by_address: BTreeMap<Address, usize>,
}

impl Directory {
    /// How a node is reached, if it is known.
    pub(crate) fn reach(&self, cluster: u8, name: &str) -> Option<Reach> {
        let index = self.by_name.get(&cluster)?.get(name)?;
        self.entries.get(*index).map(|node| node.reach)
    }

    /// Whose InternalIP this is.
    pub(crate) fn at(&self, address: Address) -> Option<&Entry> {
        let index = self.by_address.get(&address)?;
        self.entries.get(*index)
    }

    /// All InternalIPs, ascending.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.by_address.keys().copied()
    }
}

/// Whose everything is already, so that nobody else gets it.
struct Claims {
    keys: BTreeMap<[u8; 32], String>,
    /// Accepted pod prefixes do not overlap; by first address, IPv6 apart.
    prefixes: BTreeMap<(bool, Address), (Prefix, String)>,
}

/// Looks at all nodes. Who is believed depends on all of them, and they seldom change: so each
/// change of one costs a look at all.
pub(crate) fn directory(
    settings: &Settings,
    scopes: &Scopes,
    inventory: &Inventory,
    report: &mut Report,
) -> Directory {
    let own_name = format!("this node, {}", settings.node);
    let keys = settings.keys.iter();
    let mut claims = Claims {
        keys: keys
            .map(|key| (*key.as_bytes(), own_name.clone()))
            .collect(),
        prefixes: BTreeMap::new(),
    };
    let mut directory = Directory {
        own: Own {
            node: settings.node.clone(),
            cluster: settings.id,
            addresses: Vec::new(),
        },
        ..Directory::default()
    };
    let is_own = |key: &Key| key.cluster == settings.id && *key.name == *settings.node;
    let clusters = scopes.clusters();
    let mut all: Vec<(&Key, &Node)> = clusters.flat_map(|c| inventory.all(c)).collect();
    all.sort_by_key(|(key, _)| (!is_own(key), key.cluster != settings.id, key.cluster));
    for (key, node) in all {
        let mut builder = Builder {
            cluster: key.cluster,
            scopes,
            node,
            said: Said::ENFORCED,
        };
        builder.add(is_own(key), &mut claims, &mut directory);
        report.set(key, builder.said);
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

/// One node on its way into the directory.
struct Builder<'a> {
    cluster: u8,
    scopes: &'a Scopes,
    node: &'a Node,
    said: Said,
}

impl Builder<'_> {
    fn add(&mut self, own: bool, claims: &mut Claims, directory: &mut Directory) {
        let node = self.node;
        let addresses = self.addresses(directory);
        let pod_prefixes = self.pod_prefixes(claims);
        let reach = if own {
            directory.own.addresses.clone_from(&addresses);
            if addresses.is_empty() {
                self.say(State::Refused, "it has no InternalIP to answer by");
            }
            Reach::Own
        } else {
            match self.lanes(&addresses, claims) {
                Some(lanes) => {
                    directory.peers.push(Peer {
                        name: node.name.clone(),
                        cluster: self.cluster,
                        cluster_name: self.scopes.name(self.cluster).into(),
                        addresses: addresses.clone(),
                        lanes,
                        knows_lanes: node.knows_lanes,
                    });
                    Reach::Peer((directory.peers.len() - 1) as u32)
                }
                None => Reach::None,
            }
        };
        let index = directory.entries.len();
        directory
            .by_name
            .entry(self.cluster)
            .or_default()
            .insert(node.name.clone(), index);
        for address in &addresses {
            directory.by_address.insert(*address, index);
        }
        directory.entries.push(Entry {
            cluster: self.cluster,
            name: node.name.clone(),
            reach,
            addresses,
            pod_prefixes,
        });
    }

    fn addresses(&mut self, directory: &Directory) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for &address in &self.node.addresses {
            if let Some(reason) = self.scopes.refuses(self.cluster, address) {
                self.say(State::Refused, reason);
            } else if let Some(other) = directory.at(address) {
                let reason = format!("{address} is the InternalIP of node {} already", other.name);
                self.say(State::Refused, reason);
            } else if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn pod_prefixes(&mut self, claims: &mut Claims) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for &prefix in &self.node.pod_prefixes {
            if let Some(reason) = self.scopes.refuses_prefix(self.cluster, prefix) {
                self.say(State::Refused, reason);
            } else if let Some((other, whose)) = claims.overlapping(prefix) {
                let reason = format!("{prefix} overlaps {other} of node {whose}");
                self.say(State::Refused, reason);
            } else {
                let key = (prefix.is_v4(), prefix.address());
                claims
                    .prefixes
                    .insert(key, (prefix, self.node.name.clone()));
                prefixes.push(prefix);
            }
        }
        prefixes
    }

    /// The lanes of a peer; `None` if there is none to be had.
    fn lanes(&mut self, addresses: &[Address], claims: &mut Claims) -> Option<Vec<LanePeer>> {
        let node = self.node;
        if node.lanes.is_empty() {
            self.say(
                State::Refused,
                "it has no annotation network.cilium.io/wg-pub-key, so nothing can be sent to it",
            );
            return None;
        }
        let taken = node
            .lanes
            .iter()
            .find_map(|lane| claims.keys.get(&lane.key));
        if let Some(whose) = taken {
            let reason = format!("its key is that of {whose}: no two nodes may have one");
            self.say(State::Refused, reason);
            return None;
        }
        let v4_first = addresses.iter().find(|a| a.is_v4()).or(addresses.first());
        let mut lanes = Vec::with_capacity(node.lanes.len());
        for (lane, number) in node.lanes.iter().zip(0u16..) {
            let Some(endpoint) = endpoint(lane, number, v4_first) else {
                self.say(
                    State::Refused,
                    "it has neither an endpoint nor an InternalIP to send to",
                );
                return None;
            };
            let key = PublicKey::from_bytes(lane.key);
            lanes.push(LanePeer { key, endpoint });
        }
        let name = format!(
            "node {} of cluster {}",
            node.name,
            self.scopes.name(self.cluster)
        );
        claims
            .keys
            .extend(node.lanes.iter().map(|lane| (lane.key, name.clone())));
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
    fn overlapping(&self, prefix: Prefix) -> Option<&(Prefix, String)> {
        let key = (prefix.is_v4(), prefix.address());
        let before = self.prefixes.range(..=key).next_back();
        let after = self.prefixes.range(key..).next();
        let mut near = before.into_iter().chain(after).map(|(_, claim)| claim);
        near.find(|(other, _)| other.overlaps(&prefix))
    }
}
