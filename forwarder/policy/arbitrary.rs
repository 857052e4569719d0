//! Random worlds for tests: so small that policies, peers and ports meet often.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use packet::{Address, Prefix, protocol};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::*;

/// Everything that a table is made of, and who speaks with whom, how.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) policies: Vec<Policy>,
    pub(crate) identities: Vec<(Identity, Labels)>,
    parties: Vec<(Address, Endpoint)>,
    ports: Vec<(u8, Option<u16>)>,
}

impl World {
    /// Everybody with everybody, by each port, judged at both ends: [`QUESTIONS`] of them.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Question<'_>> {
        let parties = || {
            let parties = self.parties.iter();
            parties.map(|(address, endpoint)| Party {
                address: *address,
                endpoint,
            })
        };
        let pairs = parties().flat_map(move |subject| parties().map(move |peer| (subject, peer)));
        let flows = pairs.flat_map(|pair| self.ports.iter().map(move |port| (pair, *port)));
        flows.flat_map(|((subject, peer), (protocol, port))| {
            [Direction::Ingress, Direction::Egress].map(|direction| Question {
                direction,
                subject,
                peer,
                protocol,
                port,
            })
        })
    }
}

const PARTIES: usize = 6;
const PORTS: usize = 3;

/// How many questions a world has.
pub(crate) const QUESTIONS: usize = PARTIES * PARTIES * PORTS * 2;

pub(crate) fn world() -> impl Strategy<Value = World> {
    let port = prop_oneof![1 => Just(None), 4 => (79u16..84).prop_map(Some)];
    (
        vec(policy(), 0..7),
        // The same number may come twice, and reserved ones may come with labels.
        vec((identity(), labels()), 0..12),
        vec((address(), endpoint()), PARTIES),
        vec((protocol(), port), PORTS),
    )
        .prop_map(|(policies, identities, parties, ports)| World {
            policies,
            identities,
            parties,
            ports,
        })
}

/// Six with a cluster's numbers, some of them without labels in most worlds, and the odd ones.
fn identity() -> impl Strategy<Value = Identity> {
    let odd = select(&[0, 1, 2, 2, 6, 9, 10, 255, 0x0100_0001, 256][..]);
    prop_oneof![5 => 0x1_0000u32..0x1_0006, 1 => odd].prop_map(Identity)
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(|w| w.to_string())
}

fn label_key() -> impl Strategy<Value = String> {
    word(&["app", "team"])
}

fn label_value() -> impl Strategy<Value = String> {
    word(&["a", "b", "c"])
}

fn labels() -> impl Strategy<Value = Labels> {
    vec((label_key(), label_value()), 0..3).prop_map(|l| l.into_iter().collect())
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || vec(label_value(), 0..3);
    let requirement = prop_oneof![
        4 => (label_key(), values()).prop_map(|(k, v)| Requirement::In(k, v)),
        2 => (label_key(), values()).prop_map(|(k, v)| Requirement::NotIn(k, v)),
        1 => label_key().prop_map(Requirement::Exists),
        1 => label_key().prop_map(Requirement::DoesNotExist),
        1 => Just(Requirement::Exists("nobody-has-it".to_string())),
    ];
    vec(requirement, 0..3).prop_map(|requirements| Selector { requirements })
}

fn named_port() -> impl Strategy<Value = NamedPort> {
    (word(&["http", "dns"]), protocol(), 79u16..84).prop_map(|(name, protocol, port)| NamedPort {
        name,
        protocol,
        port,
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let cluster = prop_oneof![Just(None), (1u8..3).prop_map(Some)];
    (identity(), vec(named_port(), 0..3), cluster).prop_map(|(identity, named_ports, cluster)| {
        Endpoint {
            named_ports: named_ports.into(),
            // Nodes have reserved identities, and are in clusters all the same.
            cluster: identity.cluster().or(cluster),
            ..Endpoint::of(identity)
        }
    })
}

/// Of both families, and around the place where IPv4 stands in IPv6.
fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        4 => (0u8..4, 0u8..4).prop_map(|(c, d)| Address::from_v4([10, 0, c, d])),
        1 => any::<[u8; 4]>().prop_map(Address::from_v4),
        1 => (0u128..0x3_0000_0000_0000).prop_map(|n| Address::from_v6(n.to_be_bytes())),
        1 => any::<[u8; 16]>().prop_map(Address::from_v6),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), any::<u8>()).prop_map(|(address, length)| {
        let bits = if address.is_v4() { 33 } else { 129 };
        // Half of them long, where the addresses of these worlds differ.
        let length = if length % 2 == 0 {
            bits - 1 - length % 12
        } else {
            length % bits
        };
        Prefix::masked(address, length).unwrap_or(Prefix::host(address))
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    (
        selector(),
        vec(entry(), 0..4),
        any::<(bool, bool)>(),
        prop_oneof![9 => Just(None), 1 => Just(Some("it cannot be".to_string()))],
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(
            |(subject, entries, (ingress, egress), refused, audit)| Policy {
                name: PolicyName::default(),
                origin: String::new(),
                subject,
                entries,
                isolates: Isolates { ingress, egress },
                refused,
                audit,
            },
        )
}

fn entry() -> impl Strategy<Value = Entry> {
    (
        direction(),
        select(&[Tier::Admin, Tier::Normal, Tier::Normal, Tier::Baseline][..]),
        0u32..3,
        select(&[EntryVerdict::Allow, EntryVerdict::Deny, EntryVerdict::Pass][..]),
        peers(),
        ports(),
    )
        .prop_map(|(direction, tier, priority, verdict, peers, ports)| Entry {
            direction,
            tier,
            priority,
            verdict,
            peers,
            ports,
        })
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&[Direction::Ingress, Direction::Egress][..])
}

fn protocol() -> impl Strategy<Value = u8> {
    use protocol::{ICMP, SCTP, TCP, UDP};
    select(&[TCP, TCP, TCP, UDP, SCTP, ICMP][..])
}

fn peers() -> impl Strategy<Value = Peers> {
    let peer = prop_oneof![
        selector().prop_map(Peer::Selector),
        (prefix(), vec(prefix(), 0..3), whose()).prop_map(|(prefix, except, whose)| Peer::Cidr {
            prefix,
            except,
            whose,
        }),
        entity().prop_map(Peer::Entity),
    ];
    prop_oneof![1 => Just(Peers::Any), 3 => vec(peer, 0..3).prop_map(Peers::Of)]
}

fn whose() -> impl Strategy<Value = Whose> {
    select(&[Whose::Anybody, Whose::Outsider][..])
}

fn entity() -> impl Strategy<Value = Entity> {
    prop_oneof![
        Just(Entity::All),
        Just(Entity::World),
        Just(Entity::WorldV4),
        Just(Entity::WorldV6),
        (1u8..3).prop_map(Entity::Cluster),
        Just(Entity::Mesh),
        identity().prop_map(Entity::One),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let port = prop_oneof![
        1 => Just(PortMatch::Any),
        // Ranges that end before they begin hold nothing.
        4 => (79u16..84, 79u16..84).prop_map(|(first, last)| PortMatch::Range(first, last)),
        2 => word(&["http", "dns"]).prop_map(PortMatch::Named),
    ];
    let rule = (protocol(), port).prop_map(|(protocol, port)| PortRule { protocol, port });
    prop_oneof![2 => Just(Ports::Any), 3 => vec(rule, 0..3).prop_map(Ports::Of)]
}
