//! The sequence numbers of a TCP segment.

use crate::Packet;
use crate::header::{Kind, be32, tcp_flag};

/// What a segment takes of its sender's sequence space, and what it acknowledges of the other's
/// (RFC 9293 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The segment's sequence number.
    pub start: u32,
    /// The one behind it: of a super-packet that behind its last segment. SYN and FIN take one each.
    pub end: u32,
    /// What it acknowledges, if it does.
    pub acknowledged: Option<u32>,
}

impl Packet {
    /// The sequence numbers of a TCP segment; `None` where it is none, or a later fragment of one.
    #[inline]
    pub fn sequence(&self) -> Option<Sequence> {
        if self.header.kind != Kind::Tcp {
            return None;
        }
        let (bytes, at) = (self.bytes(), usize::from(self.header.transport));
        let flags = self.header.tcp_flags;
        let start = be32(bytes, at + 4);
        let marks = u32::from(flags & tcp_flag::SYN != 0) + u32::from(flags & tcp_flag::FIN != 0);
        let length = self.header.payload_length() as u32 + marks;
        Some(Sequence {
            start,
            end: start.wrapping_add(length),
            acknowledged: (flags & tcp_flag::ACK != 0).then(|| be32(bytes, at + 8)),
        })
    }
}
