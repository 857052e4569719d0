//! Who may speak with whom.
//!
//! Every kind of policy that Kubernetes and its networks know is written in one model ([`Policy`],
//! [`Entry`]), judged over identities, not addresses ([`Identity`], [`Labels`]). [`mod@reference`] is
//! that model's definition, slow and plain. [`PolicyTable`] is the same, compiled: made by the
//! control side from all policies and all identities, then asked once per flow and epoch, without
//! a lock or an allocation. A [`Compiler`] makes one after another, and what has not changed once.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod addresses;
#[cfg(test)]
mod arbitrary;
mod compile;
mod compiler;
mod identity;
mod labels;
mod members;
mod model;
mod question;
pub mod reference;
#[cfg(test)]
mod semantics;
mod sets;
mod table;

pub use compiler::Compiler;
pub use identity::Identity;
pub use labels::{Labels, Requirement, Selector, key};
pub use model::{
    Direction, Entity, Entry, EntryVerdict, Isolates, Peer, Peers, Policy, PolicyName, PortMatch,
    PortRule, Ports, Tier, Whose,
};
pub use question::{
    Decision, Endpoint, NamedPort, Owner, Party, Question, RuleId, RuleName, Verdict,
};
pub use table::PolicyTable;
