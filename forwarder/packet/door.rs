//! What passes between the devices and the core of a worker, whichever driver moves it.

use core::net::{IpAddr, SocketAddr};

use crate::{Buf, Offload};

/// What a TUN hands out: one IP packet or super-packet, not yet checked.
#[derive(Debug)]
pub struct Frame {
    /// From the first byte of the IP header.
    pub buf: Buf,
    /// What the device left undone.
    pub offload: Offload,
}

/// Where a datagram comes from or goes to, and by which of our own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other end.
    pub remote: SocketAddr,
    /// Our end; `None` leaves it to the routing tables, or says that nobody told.
    pub local: Option<Local>,
}

/// One of our own addresses, as a datagram came by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address that the datagram was sent to.
    pub address: IpAddr,
    /// Number of the interface that it came in by; 0 where nobody told.
    pub interface: u32,
}

impl From<SocketAddr> for Path {
    fn from(remote: SocketAddr) -> Path {
        Path {
            remote,
            local: None,
        }
    }
}

/// UDP payloads of one length (the last may be shorter) from or to one address: one datagram, or a
/// train.
#[derive(Debug)]
pub struct Datagrams {
    /// The lane whose socket this came by, or leaves by.
    pub lane: u16,
    /// The two ends.
    pub path: Path,
    /// ECN field of the outer header, two bits (RFC 3168 §5); the outer DSCP is always 0.
    pub ecn: u8,
    /// The payloads.
    pub buf: Buf,
}
