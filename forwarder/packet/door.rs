//! What passes between the devices and the core of a worker, whichever driver moves it.

use core::net::SocketAddr;

use crate::{Buf, Offload};

/// What a TUN hands out: one IP packet or super-packet, not yet checked.
#[derive(Debug)]
pub struct Frame {
    /// From the first byte of the IP header.
    pub buf: Buf,
    /// What the device left undone.
    pub offload: Offload,
}

/// UDP payloads of one length (the last may be shorter) from or to one address: one datagram, or a
/// train.
#[derive(Debug)]
pub struct Datagrams {
    /// The lane whose socket this came by, or leaves by.
    pub lane: u16,
    /// The other end.
    pub remote: SocketAddr,
    /// ECN field of the outer header, two bits (RFC 3168 §5); the outer DSCP is always 0.
    pub ecn: u8,
    /// The payloads.
    pub buf: Buf,
}
