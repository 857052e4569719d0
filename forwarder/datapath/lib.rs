//! The sans-IO core of a worker: what control decided ([`Snapshot`]), what is known of each flow,
//! and the way of a packet through both ([`Forwarder`]).
//!
//! A packet meets, in this order: `forwarder` (parse) → `pass` (flow table; on a miss or a new
//! epoch `judge`, which is told what `clients` knows) → translation → `lanes` (seal); from the wire
//! `inbound` (open, source, coalesce) → `pass` → translation → the pods. A fragment goes through
//! `pieces`, to be judged as its first was. When a backend dies, `death` goes through the flow table
//! and tells whoever talked with it. Where a part of this is another worker's, by the [`Share`] of
//! addresses, it goes there as a [`Crossing`]. Every way out is a queue of the [`Outbox`] or a
//! [`Reason`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answers;
mod clients;
mod conversation;
mod crossing;
mod cut;
mod death;
mod fair;
mod flow_table;
mod foresight;
mod forwarder;
mod fragments;
mod hairpin;
mod handover;
mod inbound;
mod judge;
mod key;
mod lanes;
mod outbox;
mod pass;
mod path_size;
mod paths;
mod pieces;
mod probe;
mod reason;
mod record;
mod related;
mod share;
mod snapshot;
mod sparse;
mod told;
mod under_way;

pub use crossing::{Crossing, Origin};
pub use forwarder::{Forwarder, Settings};
pub use judge::{Inquiry, Judgement};
pub use key::{Key, Side};
pub use outbox::{Drops, Outbox};
pub use path_size::PathState;
pub use paths::PathStatus;
pub use probe::{Health, HealthChange, ProbeStatus};
pub use reason::Reason;
pub use record::{End, Event, Record, Traffic};
pub use share::Share;
pub use snapshot::{LanePeer, Node, Own, Route, Snapshot};
pub use sparse::Sparse;
