//! From policies and identities to a [`PolicyTable`].
//!
//! Labels are turned into sets of identities once (which of them have this label, with this
//! value), so that a selector costs set operations and not a look at every identity's labels.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use packet::Prefix;

use crate::addresses::Addresses;
use crate::members::Members;
use crate::table::{PolicyTable, PortSet, Program, Rule};
use crate::{
    Direction, Entity, Entry, Identity, Labels, Peer, Peers, Policy, PortMatch, Ports, Requirement,
    RuleId, RuleName, Selector, Whose,
};

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl PolicyTable {
    /// Compiles all policies over all identities. Of an identity that is given twice the later
    /// labels count; labels of reserved identities are ignored.
    pub fn compile(policies: &[Policy], identities: &[(Identity, Labels)]) -> PolicyTable {
        let known: BTreeMap<Identity, &Labels> = identities
            .iter()
            .filter(|(identity, _)| !identity.is_reserved())
            .map(|(identity, labels)| (*identity, labels))
            .collect();
        let index = LabelIndex::of(&known, policies);
        let subjects: Vec<Members> = policies.iter().map(|p| index.select(&p.subject)).collect();
        let (rules, peers, places) = compile_entries(policies, &index);
        let mut programs = vec![Program::default()];
        let assigned = DIRECTIONS.map(|direction| {
            let classes = Classes::of(policies, &subjects, direction, known.len());
            let first = programs.len() as u32;
            let distinct: BTreeSet<u32> = classes.of_identity.iter().copied().collect();
            let mut numbers = BTreeMap::from([(Classes::UNGOVERNED, 0)]);
            for (number, &class) in (first..).zip(distinct.iter().filter(|c| **c != 0)) {
                numbers.insert(class, number);
                programs.push(program(
                    policies,
                    &classes.governing(class),
                    direction,
                    &places,
                ));
            }
            classes.of_identity.iter().map(|c| numbers[c]).collect()
        });
        PolicyTable {
            identities: known.into_keys().collect(),
            assigned,
            programs,
            rules,
            peers,
            names: names(policies),
        }
    }
}

impl Default for PolicyTable {
    /// No policies, and no identities but the reserved ones.
    fn default() -> PolicyTable {
        PolicyTable::compile(&[], &[])
    }
}

/// Which identities have which labels, of the keys that some policy speaks of.
struct LabelIndex<'a> {
    count: usize,
    values: BTreeMap<&'a str, BTreeMap<&'a str, Vec<u32>>>,
}

impl<'a> LabelIndex<'a> {
    fn of(known: &BTreeMap<Identity, &'a Labels>, policies: &'a [Policy]) -> LabelIndex<'a> {
        let mut values: BTreeMap<&str, BTreeMap<&str, Vec<u32>>> = policies
            .iter()
            .flat_map(selectors)
            .flat_map(|selector| &selector.requirements)
            .map(|requirement| (requirement.key(), BTreeMap::new()))
            .collect();
        for (number, labels) in (0..).zip(known.values()) {
            for (key, value) in labels.iter() {
                if let Some(values) = values.get_mut(key) {
                    values.entry(value).or_default().push(number);
                }
            }
        }
        LabelIndex {
            count: known.len(),
            values,
        }
    }

    fn select(&self, selector: &Selector) -> Members {
        let mut selected = Members::all(self.count);
        for requirement in &selector.requirements {
            match requirement {
                Requirement::In(key, values) => selected.keep(&self.with_one_of(key, values)),
                Requirement::NotIn(key, values) => selected.remove(&self.with_one_of(key, values)),
                Requirement::Exists(key) => selected.keep(&self.with(key)),
                Requirement::DoesNotExist(key) => selected.remove(&self.with(key)),
            }
        }
        selected
    }

    fn with_one_of(&self, key: &str, values: &[String]) -> Members {
        let known = self.values.get(key);
        let lists = values.iter().filter_map(|v| known?.get(v.as_str()));
        self.set(lists)
    }

    fn with(&self, key: &str) -> Members {
        let known = self.values.get(key);
        self.set(known.into_iter().flat_map(BTreeMap::values))
    }

    fn set<'b>(&self, lists: impl Iterator<Item = &'b Vec<u32>>) -> Members {
        let mut set = Members::none(self.count);
        for number in lists.flatten() {
            set.insert(*number);
        }
        set
    }
}

fn selectors(policy: &Policy) -> impl Iterator<Item = &Selector> {
    let peers = policy.entries.iter().flat_map(|e| chosen(&e.peers));
    let of_peers = peers.filter_map(|peer| match peer {
        Peer::Selector(selector) => Some(selector),
        Peer::Cidr { .. } | Peer::Entity(_) => None,
    });
    core::iter::once(&policy.subject).chain(of_peers)
}

/// The peers that are listed, if any are.
fn chosen(peers: &Peers) -> &[Peer] {
    match peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers,
    }
}

/// Identities that the same policies govern, found by splitting: each policy takes its subjects
/// out of their class into that class's successor. So a class is a chain of policies, and the
/// same policies always give the same chain.
struct Classes {
    /// The class of each identity.
    of_identity: Vec<u32>,
    /// By class: its predecessor, and the policy that made it of that. The first has neither.
    made: Vec<(u32, usize)>,
}

impl Classes {
    /// Of those whom no policy governs.
    const UNGOVERNED: u32 = 0;

    fn of(
        policies: &[Policy],
        subjects: &[Members],
        direction: Direction,
        identities: usize,
    ) -> Classes {
        let mut of_identity = vec![Classes::UNGOVERNED; identities];
        let mut made = vec![(0, 0)];
        // By class: the last policy that split it, and the successor.
        let mut split: Vec<Option<(usize, u32)>> = vec![None];
        for (number, (policy, subjects)) in policies.iter().zip(subjects).enumerate() {
            if !policy.governs(direction) {
                continue;
            }
            for identity in subjects.iter() {
                let class = &mut of_identity[identity as usize];
                *class = match split[*class as usize] {
                    Some((by, successor)) if by == number => successor,
                    _ => {
                        let successor = made.len() as u32;
                        split[*class as usize] = Some((number, successor));
                        split.push(None);
                        made.push((*class, number));
                        successor
                    }
                };
            }
        }
        Classes { of_identity, made }
    }

    /// The policies that govern a class, ascending.
    fn governing(&self, mut class: u32) -> Vec<usize> {
        let mut policies = Vec::new();
        while class != Classes::UNGOVERNED {
            let (predecessor, policy) = self.made[class as usize];
            policies.push(policy);
            class = predecessor;
        }
        policies.reverse();
        policies
    }
}

/// The first rule number of each policy: the policy as a whole, for ingress and for egress; the
/// numbers of its entries follow.
fn first_rules(policies: &[Policy]) -> impl Iterator<Item = (u32, &Policy)> {
    policies.iter().scan(0, |next, policy| {
        let first = *next;
        *next += 2 + policy.entries.len() as u32;
        Some((first, policy))
    })
}

fn names(policies: &[Policy]) -> Vec<RuleName> {
    let mut names = Vec::new();
    for policy in policies {
        let whole = RuleName {
            policy: Arc::new(policy.name.clone()),
            origin: policy.origin.as_str().into(),
            refused: policy.refused.as_deref().map(Arc::from),
            direction: Direction::Ingress,
            index: None,
            verdict: None,
        };
        let mut counts = [0; 2];
        names.extend(DIRECTIONS.map(|direction| RuleName {
            direction,
            ..whole.clone()
        }));
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
    }
    names
}

/// Where the entries of a policy stand among the sorted rules, with what a program asks of them.
struct Place {
    rule: u32,
    tier: usize,
    direction: Direction,
}

/// Everything that one policy puts into a program.
struct Places {
    first: u32,
    entries: Vec<Place>,
}

fn compile_entries(
    policies: &[Policy],
    index: &LabelIndex<'_>,
) -> (Vec<Rule>, Vec<Members>, Vec<Places>) {
    let mut places: Vec<Places> = Vec::new();
    let mut sorted: Vec<(u32, usize, &Entry)> = Vec::new();
    for (number, (first, policy)) in first_rules(policies).enumerate() {
        let entries = (first + 2..).zip(&policy.entries);
        sorted.extend(entries.map(|(rule, entry)| (rule, number, entry)));
        places.push(Places {
            first,
            entries: Vec::new(),
        });
    }
    sorted.sort_unstable_by_key(|(rule, _, e)| (e.tier, e.priority, e.verdict, *rule));
    let mut sets: BTreeMap<Members, u32> = BTreeMap::new();
    let mut rules = Vec::with_capacity(sorted.len());
    for (place, (id, policy, entry)) in (0..).zip(sorted) {
        let next = sets.len() as u32;
        rules.push(Rule {
            id: RuleId(id),
            verdict: entry.verdict,
            any_peer: entry.peers == Peers::Any
                || chosen(&entry.peers).contains(&Peer::Entity(Entity::All)),
            peers: *sets.entry(peer_set(&entry.peers, index)).or_insert(next),
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
        });
        places[policy].entries.push(Place {
            rule: place,
            tier: entry.tier as usize,
            direction: entry.direction,
        });
    }
    let mut peers: Vec<(u32, Members)> = sets.into_iter().map(|(set, n)| (n, set)).collect();
    peers.sort_unstable_by_key(|(number, _)| *number);
    let peers = peers.into_iter().map(|(_, set)| set).collect();
    (rules, peers, places)
}

fn peer_set(peers: &Peers, index: &LabelIndex<'_>) -> Members {
    let mut set = Members::none(index.count);
    for peer in chosen(peers) {
        if let Peer::Selector(selector) = peer {
            set.add(&index.select(selector));
        }
    }
    set
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

/// The program of a class that these policies govern.
fn program(
    policies: &[Policy],
    governing: &[usize],
    direction: Direction,
    places: &[Places],
) -> Program {
    let mut program = Program::default();
    for &number in governing {
        let (policy, places) = (&policies[number], &places[number]);
        let whole = RuleId(places.first + direction as u32);
        if policy.refused.is_some() {
            program.refusing.push(whole);
        }
        if policy.isolates.has(direction) {
            program.isolating.push(whole);
        }
        for place in places.entries.iter().filter(|p| p.direction == direction) {
            program.tiers[place.tier].push(place.rule);
        }
    }
    for tier in &mut program.tiers {
        tier.sort_unstable();
    }
    program
}
