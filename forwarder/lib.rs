//! Farlane: a user-space data plane for cluster meshes. This page is the map of the code.
//!
//! ```text
//! packet  ←  policy, balance, tunnel  ←  datapath  ←  mesh      (pure: bytes, facts and time in, decisions out)
//! packet  ←  driver                                             (the kernel's doors; the only unsafe code)
//! all of them meet here:  node · crew · worker · helpers · neighbours · mailbox · control · wireguard · cli
//! ```
//!
//! - [`node`] makes the devices, starts the workers and control, and ends them.
//! - [`crew`] holds the workers' threads, and makes a worker anew that died.
//! - [`worker`] is one breath: sleep, receive, handle, transmit. It shares nothing but its
//!   [`mailbox`] with control, rings with its [`neighbours`], and the cipher's work with its
//!   `helpers`.
//! - [`control`] feeds what it reads (manifests, health) to the world, and gives what the world
//!   compiles to the host's rules and to the workers.
//! - [`flows`] gives names to what the workers tell of flows, remembers the last, and logs them.
//! - [`explain`] asks the data path's judgements about flows that nobody has begun.
//! - [`wireguard`] is a plain interface for `wg`, by the same worker.
//! - [`cli`] has one file per verb.
//! - `lab` measures tunnels in network namespaces of this machine: ours and others, in turn.
//!
//! A packet's way out: `driver::Tun` → `packet::Packet::parse` → `datapath` (flow table; on a miss
//! the snapshot decides: identity, service, policy, route) → translation → `tunnel::Lane::seal` →
//! `driver::Udp`. Its way in: `driver::Udp` → `tunnel::Lane::open` → the source must be the peer's →
//! coalesce → `datapath` → `driver::Tun`.
#![forbid(unsafe_code)]

pub mod cli;
pub mod control;
pub mod crew;
mod dates;
pub mod explain;
pub mod flows;
mod helpers;
pub mod keys;
mod lab;
pub mod mailbox;
pub mod neighbours;
#[cfg(test)]
mod no_devices;
pub mod node;
mod ring;
mod successor;
mod sync;
pub mod wireguard;
pub mod worker;
