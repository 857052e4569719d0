//! The kernel's doors: TUN, UDP, clocks and randomness, and the engines that move batches between
//! them and the core. The only room with unsafe code.
//!
//! A worker makes a [`Tun`] and one [`Udp`] per lane, and hands them to an [`Engine`]. From then on
//! it calls [`Engine::turn`] (sleep, receive) and [`Engine::transmit`] once per breath. Every
//! offload is probed by trying it, can be switched off, and says in a [`Feature`] whether it runs
//! and if not, why.
//!
//! Unsafe code stands only in the leaf files named after the kernel thing: `link`, `tun`, `tun_io`,
//! `udp_receive`, `udp_transmit`, `volley`, `sockaddr`, `sockopt`, `clock`, `waker`, and
//! in `uring`'s `ring` and `writes`.

mod choice;
mod clock;
mod cmsg;
mod devices;
mod dropped;
mod engine;
mod epoll;
mod error;
mod features;
#[cfg(test)]
mod fuzz;
mod link;
mod sockaddr;
mod sockopt;
mod source;
mod spin;
mod tun;
mod tun_io;
mod udp;
mod udp_receive;
mod udp_transmit;
mod uring;
mod vnet;
mod volley;
mod waker;

pub use choice::EngineChoice;
pub use clock::{now, random};
pub use devices::Budget;
pub use dropped::Dropped;
pub use engine::{Engine, Sent};
pub use epoll::Epoll;
pub use error::{EngineError, TunError, UdpError};
pub use features::Feature;
pub use link::{Link, LinkState, interface_index};
pub use tun::{Tun, TunOffloads, TunSettings};
pub use udp::{Udp, UdpSettings};
pub use uring::Uring;
pub use volley::Volley;
pub use waker::Waker;
