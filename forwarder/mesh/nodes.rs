//! Node objects become peers, once it is sure that none takes what is another's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use datapath::{LanePeer, Node as Peer, Own};
use packet::{Address, Prefix};
use tunnel::PublicKey;

use crate::inventory::{ClusterObjects, Held};
use crate::object::{Lane, Node};
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::status::{Report, State};

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
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) cluster: u8,
    pub(crate) name: String,
    pub(crate) reach: Reach,
    pub(crate) addresses: Vec<Address>,
    pub(crate) pod_prefixes: Vec<Prefix>,
}

/// All nodes of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// The own node first, then the own cluster's, then the others', each by name: in this order
    /// they are believed.
    pub(crate) entries: Vec<Entry>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) own: Own,
    by_name: BTreeMap<(u8, String), usize>,
    by_address: BTreeMap<Address, usize>,
}

impl Directory {
    pub(crate) fn entry(&self, cluster: u8, name: &str) -> Option<&Entry> {
        let index = self.by_name.get(&(cluster, name.to_string()))?;
        self.entries.get(*index)
    }

    /// Whose InternalIP this is.
    pub(crate) fn at(&self, address: Address) -> Option<&Entry> {
        let index = self.by_address.get(&address)?;
        self.entries.get(*index)
    }
}

/// Whose everything is already, so that nobody else gets it.
struct Claims {
    keys: BTreeMap<[u8; 32], String>,
    /// Accepted pod prefixes do not overlap; by first address, IPv6 apart.
    prefixes: BTreeMap<(bool, Address), (Prefix, String)>,
}

pub(crate) fn directory(
    settings: &Settings,
    scopes: &Scopes,
    clusters: &BTreeMap<u8, ClusterObjects<'_>>,
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
    let is_own = |cluster: u8, held: &Held<'_, Node>| {
        cluster == settings.id && held.object.name == settings.node
    };
    let mut all: Vec<(u8, Held<'_, Node>)> = clusters
        .iter()
        .flat_map(|(cluster, objects)| objects.nodes.iter().map(|held| (*cluster, *held)))
        .collect();
    all.sort_by_key(|(cluster, held)| (!is_own(*cluster, held), *cluster != settings.id, *cluster));
    for (cluster, held) in all {
        let own = is_own(cluster, &held);
        let mut builder = Builder {
            cluster,
            scopes,
            held,
            report,
        };
        builder.add(own, &mut claims, &mut directory);
    }
    if directory.entry(settings.id, &settings.node).is_none() {
        let reason = format!(
            "no manifest of cluster {} has the Node {}, which is this one: it has no address to answer by",
            settings.cluster, settings.node
        );
        report.missing(settings.id, "Node", &settings.node, reason);
    }
    directory
}

/// One node on its way into the directory.
struct Builder<'a, 'w> {
    cluster: u8,
    scopes: &'a Scopes,
    held: Held<'w, Node>,
    report: &'a mut Report,
}

impl Builder<'_, '_> {
    fn add(&mut self, own: bool, claims: &mut Claims, directory: &mut Directory) {
        let node = self.held.object;
        self.report.enforced(self.cluster, self.held.located);
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
            .insert((self.cluster, node.name.clone()), index);
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
        for &address in &self.held.object.addresses {
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
        for &prefix in &self.held.object.pod_prefixes {
            if let Some(reason) = self.scopes.refuses_prefix(self.cluster, prefix) {
                self.say(State::Refused, reason);
            } else if let Some((other, whose)) = claims.overlapping(prefix) {
                let reason = format!("{prefix} overlaps {other} of node {whose}");
                self.say(State::Refused, reason);
            } else {
                let key = (prefix.is_v4(), prefix.address());
                claims
                    .prefixes
                    .insert(key, (prefix, self.held.object.name.clone()));
                prefixes.push(prefix);
            }
        }
        prefixes
    }

    /// The lanes of a peer; `None` if there is none to be had.
    fn lanes(&mut self, addresses: &[Address], claims: &mut Claims) -> Option<Vec<LanePeer>> {
        let node = self.held.object;
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
        self.report
            .say(self.cluster, self.held.located, state, reason);
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
