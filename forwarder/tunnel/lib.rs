//! WireGuard as a sans-IO state machine: time, packets and datagrams are arguments, and so is the
//! place where the results go. A [`Lane`] is one WireGuard device.
//!
//! Towards the wire a packet meets `lane` → `send` (segments, copies) → `session` (encrypts) →
//! `train`. From it a datagram meets `lane` → `messages` (what is it?) → `session` (replay,
//! decrypts) → `inner` (length, ECN); handshakes meet `greet` → `reception` (is it welcome? with
//! `backlog`, `cookie`, `limiter`, and for strangers `replies` and `returners`, which remember by
//! `crowd`) → `handshake` → `noise` → `crypto`. `deadlines` are one peer's timers, `timers` says
//! whose come next. A [`Reception`] is what the lanes of one worker share.
//!
//! Sources: the WireGuard whitepaper (wireguard.com/papers/wireguard.pdf), Linux
//! `drivers/net/wireguard`, wireguard-go.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod allowed;
mod backlog;
mod cookie;
mod crowd;
mod crypto;
mod deadlines;
mod greet;
mod handshake;
mod indices;
mod inner;
mod keys;
mod lane;
mod limiter;
mod messages;
mod noise;
mod outbox;
mod peer;
mod queue;
mod random;
mod reception;
mod refused;
mod replay;
mod replies;
mod returners;
mod send;
mod session;
mod setup;
mod stamp;
mod timers;
mod train;
mod unopened;
mod unsealed;

pub use deadlines::Patience;
pub use inner::Inner;
pub use keys::{PresharedKey, PrivateKey, PublicKey};
pub use lane::Lane;
pub use outbox::Outbox;
pub use peer::PeerId;
pub use reception::Reception;
pub use refused::{Refusals, Refused};
pub use setup::{LaneError, PeerStatus};
pub use unopened::Unopened;
pub use unsealed::{Sealing, Unsealed};
