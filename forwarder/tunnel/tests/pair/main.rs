//! Two lanes against each other under virtual time, on a wire that can lose, keep and forge.
//!
//! ```text
//!   left 192.0.2.1:1000 ── wire, 10 ms ── right 192.0.2.2:2000
//!   pods 10.0.0.1                          pods 10.0.0.2
//! ```

mod against_boringtun;
mod bounds;
mod fuzz;
mod garbage;
mod handshake;
mod keepalive;
mod load;
mod rekey;
mod roaming;
mod train;
mod world;
