//! Two nodes with real forwarders and snapshots made by hand.
//!
//! ```text
//!   pods 10.1.0.1 … 4 ── node 1, 192.0.2.1 ── wire ── node 2, 192.0.2.2 ── pods 10.2.0.1 … 4
//!                              service 10.96.0.1:80 and [fd96::1]:80 → port 8080 of its backends
//! ```
//!
//! After every step the books of both nodes must balance (`world::World::settle`).

mod clients;
mod crews;
mod death;
mod flooded;
mod fuzz;
mod hairpin;
mod icmp;
mod judged;
mod many;
mod probed;
mod robust;
mod sized;
mod told;
mod translated;
mod workers;
mod world;
