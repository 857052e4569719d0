//! Which backend serves a flow.
//!
//! Of all the backends that a service has in the mesh, [`select`] says which may take new flows
//! (Cilium's affinity rule), [`Maglev`] spreads flows over those so that every node, given the same
//! backends in any order, sends the same flow to the same one, and [`ServiceTable`] finds the
//! service that a packet is addressed to. A table is built by the control side and never changes;
//! the packet path only reads it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod affinity;
mod hash;
mod maglev;
mod service;
mod table;

pub use affinity::{Affinity, Backend, State, select};
pub use hash::{client_hash, flow_hash};
pub use maglev::{BACKENDS_MAX, DEFAULT_TABLE_SIZE, Maglev, TABLE_SIZE_MAX};
pub use service::Service;
pub use table::{Frontend, ServiceTable};
