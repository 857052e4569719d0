//! From one policy to its rules.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use packet::Prefix;

use crate::addresses::Addresses;
use crate::sets::Sets;
use crate::table::{Part, PolicyTable, PortSet, Roll, Rule};
use crate::{
    Compiler, Direction, Entity, Entry, Identity, Labels, Peer, Peers, Policy, PortMatch, Ports,
    RuleName, Selector, Whose,
};

impl PolicyTable {
    /// Compiles all policies over all identities. Of an identity that is given twice the later
    /// labels count; labels of reserved identities are ignored.
    pub fn compile(policies: &[Policy], identities: &[(Identity, Labels)]) -> PolicyTable {
        let policies: Vec<Arc<Policy>> = policies.iter().cloned().map(Arc::new).collect();
        let known: BTreeMap<Identity, Labels> = identities.iter().cloned().collect();
        let known: Vec<(Identity, Labels)> = known.into_iter().collect();
        Compiler::default().update(&policies, &known)
    }
}

impl Default for PolicyTable {
    /// No policies, and no identities but the reserved ones.
    fn default() -> PolicyTable {
        PolicyTable::compile(&[], &[])
    }
}

/// A policy, compiled. It does not change when others do.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) policy: Arc<Policy>,
    /// Its own among all policies, as long as it is there.
    pub(crate) place: u32,
    /// The set of those whom it governs, by direction if at all.
    pub(crate) subject: u32,
    pub(crate) governs: [bool; 2],
    /// One for each entry.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// Of the policy as a whole, for ingress and for egress; those of its entries follow.
    pub(crate) roll: Arc<Roll>,
}

impl Piece {
    /// Compiles a policy; it uses sets until it leaves.
    pub(crate) fn of(policy: Arc<Policy>, place: u32, sets: &mut Sets) -> Piece {
        let rules = (2..).zip(&policy.entries).map(|(number, entry)| {
            let part = Part {
                policy: place,
                number,
                audit: policy.audit,
            };
            Arc::new(rule(part, entry, sets))
        });
        let rules = rules.collect();
        Piece {
            place,
            subject: sets.enter(Vec::from([policy.subject.clone()])),
            governs: DIRECTIONS.map(|direction| policy.governs(direction)),
            rules,
            roll: Arc::new(roll(&policy)),
            policy,
        }
    }

    /// Lets go of its sets.
    pub(crate) fn leave(&self, sets: &mut Sets) {
        sets.leave(self.subject);
        for rule in &self.rules {
            sets.leave(rule.peers);
        }
    }
}

/// In the order in which a policy as a whole has its two numbers.
pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn roll(policy: &Policy) -> Roll {
    let whole = RuleName {
        policy: Arc::new(policy.name.clone()),
        origin: policy.origin.as_str().into(),
        refused: policy.refused.as_deref().map(Arc::from),
        audit: policy.audit,
        direction: Direction::Ingress,
        index: None,
        verdict: None,
    };
    let mut names = Vec::with_capacity(2 + policy.entries.len());
    names.extend(DIRECTIONS.map(|direction| RuleName {
        direction,
        ..whole.clone()
    }));
    let mut counts = [0; 2];
    for entry in &policy.entries {
        let count = &mut counts[entry.direction as usize];
        names.push(RuleName {
            direction: entry.direction,
            index: Some(*count),
            verdict: Some(entry.verdict),
            ..whole.clone()
        });
        *count += 1;
    }
    Roll {
        decided: names.iter().map(|_| AtomicU64::new(0)).collect(),
        names,
    }
}

fn rule(part: Part, entry: &Entry, sets: &mut Sets) -> Rule {
    Rule {
        part,
        priority: entry.priority,
        verdict: entry.verdict,
        any_peer: entry.peers == Peers::Any
            || chosen(&entry.peers).contains(&Peer::Entity(Entity::All)),
        peers: sets.enter(selectors(&entry.peers)),
        addresses: addresses(&entry.peers, Whose::Anybody),
        outside: addresses(&entry.peers, Whose::Outsider),
        clusters: entities(&entry.peers, |entity| match entity {
            Entity::Cluster(cluster) => Some(cluster),
            _ => None,
        }),
        mesh: chosen(&entry.peers).contains(&Peer::Entity(Entity::Mesh)),
        reserved: entities(&entry.peers, |entity| match entity {
            Entity::One(identity) => Some(identity),
            _ => None,
        }),
        ports: port_set(&entry.ports),
    }
}

/// The peers that are listed, if any are.
fn chosen(peers: &Peers) -> &[Peer] {
    match peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers,
    }
}

fn selectors(peers: &Peers) -> Vec<Selector> {
    let selectors = chosen(peers).iter().filter_map(|peer| match peer {
        Peer::Selector(selector) => Some(selector.clone()),
        Peer::Cidr { .. } | Peer::Entity(_) => None,
    });
    selectors.collect()
}

/// The addresses that match of those whom a block means.
fn addresses(peers: &Peers, wanted: Whose) -> Addresses {
    let each = chosen(peers).iter().map(|peer| blocks(peer, wanted));
    Addresses::of(each.flat_map(|(prefixes, except)| prefixes.iter().map(move |p| (p, except))))
}

/// The blocks of a peer that mean these, with their exceptions. The world's entities are such, too.
fn blocks(peer: &Peer, wanted: Whose) -> (&[Prefix], &[Prefix]) {
    match peer {
        Peer::Cidr {
            prefix,
            except,
            whose,
        } if *whose == wanted => (core::slice::from_ref(prefix), except),
        Peer::Entity(entity) if wanted == Whose::Outsider => match entity {
            Entity::World => (&EVERYWHERE, &[]),
            Entity::WorldV4 => (&EVERYWHERE[..1], &[]),
            Entity::WorldV6 => (&EVERYWHERE[1..], &[]),
            _ => (&[], &[]),
        },
        _ => (&[], &[]),
    }
}

/// Both families: an IPv6 prefix holds no IPv4 address.
static EVERYWHERE: [Prefix; 2] = [Prefix::ALL_V4, Prefix::ALL_V6];

fn entities<T>(peers: &Peers, choose: impl Fn(Entity) -> Option<T>) -> Vec<T> {
    let entities = chosen(peers).iter().filter_map(|peer| match peer {
        Peer::Entity(entity) => choose(*entity),
        _ => None,
    });
    entities.collect()
}

fn port_set(ports: &Ports) -> Option<PortSet> {
    let Ports::Of(rules) = ports else {
        return None;
    };
    let mut set = PortSet::default();
    for rule in rules {
        match &rule.port {
            PortMatch::Any => set.protocols.push(rule.protocol),
            PortMatch::Range(first, last) => set.ranges.push((rule.protocol, *first, *last)),
            PortMatch::Named(name) => set.names.push((rule.protocol, name.clone())),
        }
    }
    Some(set)
}
