//! The one model in which NetworkPolicy, CiliumNetworkPolicy and ClusterNetworkPolicy are written.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use packet::Prefix;

use crate::{Identity, Selector};

/// Which end of a flow a policy governs: its subject is the destination, or the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// From the subject.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// When entries are asked, in this order. Isolation is asked between `Normal` and `Baseline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// The administrator's, before everything (ClusterNetworkPolicy, tier `Admin`).
    Admin,
    /// The namespaces' own (NetworkPolicy, CiliumNetworkPolicy).
    Normal,
    /// What holds where nobody else has spoken (ClusterNetworkPolicy, tier `Baseline`).
    Baseline,
}

/// What an entry says of what it matches; in the order in which equals are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryVerdict {
    /// Refused.
    Deny,
    /// Let through.
    Allow,
    /// Not for this tier to say: the rest of the tier is skipped.
    Pass,
}

/// What a policy is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName {
    /// Its Kubernetes kind.
    pub kind: String,
    /// Its namespace; empty for a cluster-wide object.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// In which directions a policy denies its subjects what no entry allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Isolates {
    /// Towards the subject.
    pub ingress: bool,
    /// From the subject.
    pub egress: bool,
}

impl Isolates {
    /// Whether it does in this direction.
    #[inline]
    pub const fn has(self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// One policy object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What it is called.
    pub name: PolicyName,
    /// Where it stands, `file:line`.
    pub origin: String,
    /// Whom it governs. Reserved identities (nodes, the world) are never governed.
    pub subject: Selector,
    /// What it says. One entry for each rule of the object, in the object's order: its place among
    /// the entries of its direction is the number by which people are told of it.
    pub entries: Vec<Entry>,
    /// Where it denies what nobody allows.
    pub isolates: Isolates,
    /// Why it cannot be enforced, if it cannot. It then denies its subjects everything, before any
    /// other policy is asked, in the directions that it isolates or has entries of.
    pub refused: Option<String>,
    /// Whether it is on trial: what it denies passes all the same, and is marked. What it allows is
    /// allowed.
    pub audit: bool,
}

impl Policy {
    /// Whether it has something to say in a direction.
    pub fn governs(&self, direction: Direction) -> bool {
        self.isolates.has(direction) || self.entries.iter().any(|e| e.direction == direction)
    }
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Which end it governs.
    pub direction: Direction,
    /// When it is asked.
    pub tier: Tier,
    /// Within the tier, lower first.
    pub priority: u32,
    /// What it says.
    pub verdict: EntryVerdict,
    /// Of flows with whom.
    pub peers: Peers,
    /// Of flows to which destination ports.
    pub ports: Ports,
}

/// The peers that an entry matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everybody, nodes and the world too.
    Any,
    /// Who is matched by one of these; an empty list matches nobody.
    Of(Vec<Peer>),
}

/// One choice of peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// By labels. Reserved identities have none and never match, not even an empty selector.
    Selector(Selector),
    /// By address.
    Cidr {
        /// Addresses in here match …
        prefix: Prefix,
        /// … unless they are in one of these …
        except: Vec<Prefix>,
        /// … or belong to somebody whom the rule cannot mean.
        whose: Whose,
    },
    /// By what it is, whatever its labels.
    Entity(Entity),
}

/// Whom a block of addresses means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// Whoever has the address, pods and nodes too (NetworkPolicy, ClusterNetworkPolicy).
    Anybody,
    /// Who is outside of the mesh: pods and nodes are never known by an address
    /// (CiliumNetworkPolicy).
    Outsider,
}

/// Peers that go by what they are (Cilium, `pkg/policy/api/entity.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// Everybody.
    All,
    /// Everything outside of the mesh.
    World,
    /// What has an IPv4 address there.
    WorldV4,
    /// What has an IPv6 address there.
    WorldV6,
    /// The pods and the nodes of the cluster with this id.
    Cluster(u8),
    /// The pods and the nodes of every cluster.
    Mesh,
    /// Who has this identity: a reserved one.
    One(Identity),
}

/// The destination ports that an entry matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// All traffic, ICMP and unknown protocols too.
    Any,
    /// What one of these matches; an empty list matches nothing.
    Of(Vec<PortRule>),
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortRule {
    /// IP protocol number; only this protocol matches.
    pub protocol: u8,
    /// Which of its ports.
    pub port: PortMatch,
}

/// A choice of ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// Every port, also one that cannot be found (in a later fragment).
    Any,
    /// From the first to the second, both included. A port that cannot be found is in no range. ICMP's
    /// port is the type of the message, as in Cilium.
    Range(u16, u16),
    /// The port that the destination pod has given this name, for this protocol.
    Named(String),
}
