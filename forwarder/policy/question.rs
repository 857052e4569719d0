//! What a policy table is asked, and what it answers.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::hash::Hasher;

use packet::Address;
use siphasher::sip::SipHasher24;

use crate::{Direction, EntryVerdict, Identity, PolicyName};

/// A container port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The port, host order.
    pub port: u16,
}

/// What an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Who it is, for policies.
    pub identity: Identity,
    /// Which ports it has named; only pods have.
    pub named_ports: Arc<[NamedPort]>,
    /// Who it is, for people: `namespace/pod`, or a node's name.
    pub name: String,
    /// Id of the cluster whose pod or node it is; nothing outside of the mesh has one.
    pub cluster: Option<u8>,
    /// Who it is, whatever its labels are.
    pub owner: Owner,
}

/// Who has an address: a pod or a node by its name and its number in its cluster, which stay the same
/// when labels change and the identity with them; what has no name, by its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    /// Nobody finds a second name that comes to the same in any time that matters, though the key is
    /// zero: nodes have no secret in common, and snapshots are compared.
    fn named(cluster: u8, name: &str, uid: &str) -> Owner {
        let mut hasher = SipHasher24::new();
        hasher.write(&[cluster]);
        hasher.write(name.as_bytes());
        // Ends a text, so that no two pairs are read as one.
        hasher.write(&[0]);
        hasher.write(uid.as_bytes());
        Owner(hasher.finish())
    }
}

impl Endpoint {
    /// An endpoint without a name and without named ports, such as the world; of the cluster that
    /// the identity tells, which that of a node does not.
    pub fn of(identity: Identity) -> Endpoint {
        Endpoint {
            identity,
            named_ports: Arc::new([]),
            name: String::new(),
            cluster: identity.cluster(),
            owner: Owner(identity.0.into()),
        }
    }

    /// A pod or node of a cluster, without named ports; `uid` is the pod's, or empty.
    pub fn named(identity: Identity, cluster: u8, name: String, uid: &str) -> Endpoint {
        Endpoint {
            owner: Owner::named(cluster, &name, uid),
            name,
            cluster: Some(cluster),
            ..Endpoint::of(identity)
        }
    }
}

impl Endpoint {
    /// What people call it: its name, or what it is where it has none.
    pub fn called(&self) -> &str {
        match (self.name.as_str(), self.identity.reserved_name()) {
            ("", reserved) => reserved.unwrap_or("unknown"),
            (name, _) => name,
        }
    }
}

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its address in the flow.
    pub address: Address,
    /// Whom that address belongs to.
    pub endpoint: &'a Endpoint,
}

/// May this flow be? Asked for the end that a policy governs.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Which end the subject is.
    pub direction: Direction,
    /// The governed end: the destination of ingress, the source of egress.
    pub subject: Party<'a>,
    /// The other end. For egress to a service: the backend.
    pub peer: Party<'a>,
    /// IP protocol number.
    pub protocol: u8,
    /// The destination port, or the type of an ICMP message; `None` where the protocol has none or it
    /// cannot be found.
    pub port: Option<u16>,
}

impl<'a> Question<'a> {
    /// Who is spoken to: named ports are the destination's.
    #[inline]
    pub const fn destination(&self) -> &Party<'a> {
        match self.direction {
            Direction::Ingress => &self.subject,
            Direction::Egress => &self.peer,
        }
    }
}

/// What comes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
}

/// The number of a rule within one [`PolicyTable`](crate::PolicyTable): an entry, or a policy as a
/// whole. Another table may number otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// An answer, with what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Whether some policy isolates the subject in this direction.
    pub isolated: bool,
    /// Whether it is denied because a policy that governs the subject cannot be enforced.
    pub refused: bool,
    /// Whether it is denied because nobody knows the labels of one of the two identities.
    pub unknown: bool,
    /// Whether it is allowed only because policies are in audit mode: everything else here says why
    /// it would be denied.
    pub audited: bool,
    /// What decided: the entry, or the first of the policies that refuse or isolate. `None` where
    /// no rule decided: nobody governs the subject, or an identity is not known.
    pub rule: Option<RuleId>,
}

impl Decision {
    /// Whether the flow may be.
    #[inline]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// What a rule is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The policy that it is a part of.
    pub policy: Arc<PolicyName>,
    /// Where that stands, `file:line`.
    pub origin: Arc<str>,
    /// Why that cannot be enforced, if it cannot.
    pub refused: Option<Arc<str>>,
    /// Whether the policy is in audit mode.
    pub audit: bool,
    /// In which direction it speaks.
    pub direction: Direction,
    /// Its place among the policy's rules of that direction, from 0; `None` for the policy as a
    /// whole, which isolates or is refused.
    pub index: Option<u32>,
    /// What it says of what it matches; `None` for the policy as a whole.
    pub verdict: Option<EntryVerdict>,
}

impl RuleName {
    /// What it says of what it matches, in a word: `allow`, `deny` or `pass`; of a policy as a whole
    /// `isolates` or `refused`.
    pub const fn says(&self) -> &'static str {
        match self.verdict {
            Some(EntryVerdict::Allow) => "allow",
            Some(EntryVerdict::Deny) => "deny",
            Some(EntryVerdict::Pass) => "pass",
            None if self.refused.is_some() => "refused",
            None => "isolates",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy, self.direction)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        if let Some(why) = &self.refused {
            write!(f, " refused: {why}")?;
        }
        write!(f, " ({})", self.origin)
    }
}
