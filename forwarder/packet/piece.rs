//! Which part of which datagram a fragment is: what its receiver goes by when it puts them together.

use crate::header::{Fragment, be16, be32};
use crate::{Packet, chain};

/// A fragment's place (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What the fragments of one datagram have in common beside their addresses: the
    /// identification, and for IPv4 the protocol above it.
    pub identifier: u32,
    /// Where it begins in the datagram's payload, in bytes.
    pub start: u16,
    /// Where it ends there; more than `start`.
    pub end: u16,
    /// Whether the datagram ends with it.
    pub last: bool,
}

impl Packet {
    /// The place of a fragment; `None` for a whole datagram, atomic fragments (RFC 6946) among them.
    #[cold]
    pub fn piece(&self) -> Option<Piece> {
        if self.header.fragment == Fragment::No {
            return None;
        }
        let bytes = self.bytes();
        // The parse has seen to it that none is empty or ends behind 65,535 bytes.
        if self.header.is_v4() {
            let word = be16(bytes, 6);
            let start = (word & 0x1fff) * 8;
            let network = u16::from(bytes[0] & 15) * 4;
            Some(Piece {
                identifier: u32::from(bytes[9]) << 16 | u32::from(be16(bytes, 4)),
                start,
                end: start + (bytes.len() as u16 - network),
                last: word & 0x2000 == 0,
            })
        } else {
            let at = chain::fragment_header(bytes)?;
            let word = be16(bytes, at + 2);
            let start = word & 0xfff8;
            Some(Piece {
                identifier: be32(bytes, at + 4),
                start,
                end: start + (bytes.len() - at - 8) as u16,
                last: word & 1 == 0,
            })
        }
    }
}
