//! Many packets made one super-packet again, so that a TUN takes them in one write. What the
//! kernel's GRO does (Linux `net/ipv4/tcp_offload.c` tcp_gro_receive, `net/ipv4/udp_offload.c`
//! udp_gro_receive), and stricter: cutting the result gives back every packet byte for byte.

use alloc::vec::Vec;

use crate::checksum::Sum;
use crate::header::{Fragment, Kind, be16, tcp_flag};
use crate::packet::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::{
    Address, Arena, Buf, Checksum, Flow, Header, Offload, Packet, Segmentation, SegmentationKind,
};

/// Segments in one super-packet: as many as a TUN takes for UDP, and UDP_SEGMENT on the way out
/// (Linux UDP_MAX_SEGMENTS before 6.9).
pub const SEGMENTS_MAX: usize = 64;
/// Bytes of one super-packet: what the length field of IPv4 can say.
const LENGTH_MAX: usize = 65_535;

/// There was no buffer in the arena: the packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBuffer;

/// Merges TCP segments and UDP datagrams. Packets of one flow come out in the order they went in,
/// whatever they are.
#[derive(Debug)]
pub struct Coalescer<T = u32> {
    /// At most one for each flow; the oldest first.
    open: Vec<Open<T>>,
    slots: usize,
}

/// A super-packet that may still grow.
#[derive(Debug)]
struct Open<T> {
    tag: T,
    buf: Buf,
    /// Of the first segment; its length is not kept up.
    header: Header,
    /// Payload bytes of the first segment.
    size: u16,
    segments: u16,
    /// TCP's; 0 for UDP.
    next_sequence: u32,
    next_identifier: u16,
}

impl<T: Copy + Eq> Coalescer<T> {
    /// At most `slots` flows grow at the same time; at least one.
    pub fn new(slots: usize) -> Coalescer<T> {
        Coalescer {
            open: Vec::with_capacity(slots.max(1)),
            slots: slots.max(1),
        }
    }

    /// Takes a copy of the packet that `bytes` begin with and `header` was parsed from. What cannot
    /// grow any more is appended to `out`, at most one packet more than there are slots. Packets
    /// with different tags (whom they came from) are never merged.
    ///
    /// # Errors
    /// The arena is empty. The packet is lost, nothing else is.
    pub fn push(
        &mut self,
        bytes: &[u8],
        header: &Header,
        tag: T,
        arena: &mut Arena,
        out: &mut Vec<(T, Packet)>,
    ) -> Result<(), NoBuffer> {
        let bytes = &bytes[..header.length as usize];
        let may_grow = may_merge(bytes, header);
        if let Some(place) = self.open.iter().position(|open| open.is_flow(&header.flow)) {
            let open = &mut self.open[place];
            if may_grow && open.tag == tag && open.accepts(bytes, header) {
                if open.append(bytes, header) {
                    self.close(place, out);
                }
                return Ok(());
            }
            self.close(place, out);
        }
        if header.fragment != Fragment::No || header.kind == Kind::Unreadable {
            self.close_pair(header.flow.source, header.flow.destination, out);
        }
        let mut buf = arena.take().ok_or(NoBuffer)?;
        buf.extend(bytes);
        // PSH ends a super-packet, so nothing may follow this one.
        if !may_grow || header.tcp_flags & tcp_flag::PSH != 0 {
            out.push((tag, Packet::assemble(buf, *header, Offload::default())));
            return Ok(());
        }
        if self.open.len() == self.slots {
            self.close(0, out);
        }
        self.open.push(Open {
            tag,
            buf,
            header: *header,
            size: header.payload_length() as u16,
            segments: 1,
            next_sequence: end_of(bytes, header),
            next_identifier: be16(bytes, 4).wrapping_add(1),
        });
        Ok(())
    }

    /// Appends all that is open to `out`: the end of a batch.
    pub fn flush(&mut self, out: &mut Vec<(T, Packet)>) {
        out.extend(self.open.drain(..).map(Open::into_packet));
    }

    /// Appends what is open and has not begun to grow: a packet of a sparse flow has waited long enough.
    pub fn flush_singles(&mut self, out: &mut Vec<(T, Packet)>) {
        let singles = self.open.extract_if(.., |open| open.segments == 1);
        out.extend(singles.map(Open::into_packet));
    }

    /// Packets that are in what is open.
    pub fn segments(&self) -> usize {
        let segments = self.open.iter().map(|open| usize::from(open.segments));
        segments.sum()
    }

    /// How many flows are growing.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, place: usize, out: &mut Vec<(T, Packet)>) {
        out.push(self.open.remove(place).into_packet());
    }

    /// A packet whose ports are unknown may belong to any flow between its addresses.
    #[cold]
    fn close_pair(&mut self, source: Address, destination: Address, out: &mut Vec<(T, Packet)>) {
        let is_pair = |open: &Open<T>| {
            open.header.flow.source == source && open.header.flow.destination == destination
        };
        while let Some(place) = self.open.iter().position(is_pair) {
            self.close(place, out);
        }
    }
}

impl<T> Open<T> {
    #[inline]
    fn is_flow(&self, flow: &Flow) -> bool {
        let own = &self.header.flow;
        // Ports first: they differ most.
        own.source_port == flow.source_port
            && own.destination_port == flow.destination_port
            && own == flow
    }

    /// Whether a segment that may be merged is this one's continuation.
    fn accepts(&self, bytes: &[u8], header: &Header) -> bool {
        let first = self.buf.as_slice();
        let length = header.payload_length();
        if header.payload != self.header.payload
            || length > usize::from(self.size)
            || usize::from(self.segments) == SEGMENTS_MAX
            || self.buf.len() + length > LENGTH_MAX
        {
            return false;
        }
        // All but length, identifier and checksum.
        let same_network = if header.is_v4() {
            bytes[..2] == first[..2]
                && bytes[6..10] == first[6..10]
                && be16(bytes, 4) == self.next_identifier
        } else {
            bytes[..4] == first[..4] && bytes[6..8] == first[6..8]
        };
        same_network
            && match header.kind {
                Kind::Tcp => self.accepts_tcp(&bytes[usize::from(header.transport)..]),
                _ => true,
            }
    }

    /// In sequence, and equal in all but sequence number, flags and checksum.
    fn accepts_tcp(&self, tcp: &[u8]) -> bool {
        let (start, end) = (self.header.transport, self.header.payload);
        let first = &self.buf.as_slice()[usize::from(start)..usize::from(end)];
        tcp[4..8] == self.next_sequence.to_be_bytes()
            && tcp[8..13] == first[8..13]
            && tcp[14..16] == first[14..16]
            && tcp[18..first.len()] == first[18..]
    }

    /// Appends a segment that was accepted; whether nothing may follow it.
    fn append(&mut self, bytes: &[u8], header: &Header) -> bool {
        self.buf.extend(&bytes[usize::from(header.payload)..]);
        self.segments += 1;
        self.next_sequence = end_of(bytes, header);
        self.next_identifier = self.next_identifier.wrapping_add(1);
        self.header.tcp_flags |= header.tcp_flags;
        header.payload_length() < usize::from(self.size) || header.tcp_flags & tcp_flag::PSH != 0
    }

    fn into_packet(self) -> (T, Packet) {
        let Open {
            tag,
            mut buf,
            mut header,
            size,
            segments,
            ..
        } = self;
        if segments == 1 {
            return (tag, Packet::assemble(buf, header, Offload::default()));
        }
        let length = buf.len();
        header.length = length as u32;
        let transport = usize::from(header.transport);
        let bytes = buf.as_mut_slice();
        if header.is_v4() {
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            bytes[10..12].fill(0);
            let sum = Sum::ZERO.bytes(&bytes[..transport]).checksum();
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        let flow = &header.flow;
        let length = (length - transport) as u16;
        let pseudo = Sum::pseudo_header(
            flow.source,
            flow.destination,
            flow.protocol,
            u32::from(length),
        );
        let l4 = &mut bytes[transport..];
        let (kind, offset) = if header.kind == Kind::Tcp {
            l4[13] = header.tcp_flags;
            (SegmentationKind::Tcp, TCP_CHECKSUM)
        } else {
            l4[4..6].copy_from_slice(&length.to_be_bytes());
            (SegmentationKind::Udp, UDP_CHECKSUM)
        };
        let at = usize::from(offset);
        l4[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        let offload = Offload {
            checksum: Checksum::Partial {
                start: header.transport,
                offset,
            },
            segmentation: Some(Segmentation { kind, size }),
        };
        (tag, Packet::assemble(buf, header, offload))
    }
}

/// Whether a packet may be part of a super-packet at all: TCP data with nothing but ACK and PSH, or
/// UDP that fills its packet; no IP options or extension headers, and checksums that cutting would
/// give it again.
fn may_merge(bytes: &[u8], header: &Header) -> bool {
    let v4 = header.is_v4();
    let l4 = &bytes[usize::from(header.transport)..];
    let is_data = match header.kind {
        Kind::Tcp => header.tcp_flags & !tcp_flag::PSH == tcp_flag::ACK,
        Kind::Udp => usize::from(be16(l4, 4)) == l4.len() && be16(l4, 6) != 0,
        _ => false,
    };
    is_data
        && header.fragment == Fragment::No
        && header.payload_length() > 0
        && header.transport == if v4 { 20 } else { 40 }
        // ffff verifies as 0 does, but is not what a sum gives.
        && !(v4 && bytes[10..12] == [0xff; 2])
        && !(header.kind == Kind::Tcp && l4[16..18] == [0xff; 2])
        && has_right_checksum(l4, &header.flow)
}

/// Whether the checksum of TCP or UDP (`l4`, header and all) is right.
pub(crate) fn has_right_checksum(l4: &[u8], flow: &Flow) -> bool {
    let length = l4.len() as u32;
    Sum::pseudo_header(flow.source, flow.destination, flow.protocol, length)
        .bytes(l4)
        .fold()
        == 0xffff
}

/// The sequence number behind a TCP segment's data.
fn end_of(bytes: &[u8], header: &Header) -> u32 {
    if header.kind != Kind::Tcp {
        return 0;
    }
    let at = usize::from(header.transport) + 4;
    let sequence = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    sequence.wrapping_add(header.payload_length() as u32)
}
