//! A super-packet cut into the packets that it stands for, exactly as the kernel's software
//! segmentation does (Linux `net/ipv4/tcp_offload.c` tcp_gso_segment, `net/ipv4/udp_offload.c`
//! __udp_gso_segment, `net/ipv4/af_inet.c` inet_gso_segment, `net/ipv6/ip6_offload.c`).

use crate::checksum::Sum;
use crate::header::{be16, tcp_flag};
use crate::packet::{TCP_CHECKSUM, UDP_CHECKSUM, finish};
use crate::{Checksum, Kind, Packet};

/// The segments of one packet, in order, each finished: lengths, IPv4 identifiers, sequence
/// numbers, flags and checksums. A plain packet gives itself.
#[derive(Debug)]
pub struct Segmenter<'a> {
    bytes: &'a [u8],
    checksum: Checksum,
    transport: usize,
    payload: usize,
    /// Payload bytes of each segment but the last; of a plain packet, all.
    size: usize,
    kind: Kind,
    v4: bool,
    /// Payload bytes given out so far.
    done: usize,
    index: usize,
    segments: usize,
    /// What all segments' IPv4 headers have in common: all but length, identifier and checksum.
    network: Sum,
    /// What all segments' transport checksums have in common: addresses, protocol, and the header
    /// but what [`Segmenter::finish_tcp`] and [`Segmenter::finish_udp`] write.
    common: Sum,
}

impl<'a> Segmenter<'a> {
    /// Begins with the first segment.
    pub fn new(packet: &'a Packet) -> Segmenter<'a> {
        let header = packet.header();
        let bytes = packet.bytes();
        let transport = usize::from(header.transport);
        let payload = usize::from(header.payload);
        let mut segmenter = Segmenter {
            bytes,
            checksum: packet.offload().checksum,
            transport,
            payload,
            size: bytes.len() - payload,
            kind: header.kind,
            v4: header.is_v4(),
            done: 0,
            index: 0,
            segments: packet.segments(),
            network: Sum::ZERO,
            common: Sum::ZERO,
        };
        if let Some(segmentation) = packet.offload().segmentation {
            segmenter.size = usize::from(segmentation.size);
            let flow = &header.flow;
            let pseudo = Sum::pseudo_header(flow.source, flow.destination, flow.protocol, 0);
            let l4 = &bytes[transport..payload];
            segmenter.common = match header.kind {
                Kind::Tcp => pseudo
                    .bytes(&l4[..4])
                    .bytes(&l4[8..12])
                    .bytes(&l4[14..16])
                    .bytes(&l4[18..]),
                _ => pseudo.bytes(&l4[..4]),
            };
            if segmenter.v4 {
                segmenter.network = Sum::ZERO
                    .bytes(&bytes[..2])
                    .bytes(&bytes[6..10])
                    .bytes(&bytes[12..transport]);
            }
        }
        segmenter
    }

    /// How many segments are still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.segments - self.index
    }

    /// Bytes of the next segment; 0 after the last.
    #[inline]
    pub fn next_length(&self) -> usize {
        if self.remaining() == 0 {
            return 0;
        }
        self.payload + self.size.min(self.bytes.len() - self.payload - self.done)
    }

    /// Writes the next segment to the front of `out` and gives its length; `None` after the last.
    ///
    /// # Panics
    /// If `out` is shorter than [`Segmenter::next_length`]: our own bug.
    #[inline]
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        let length = self.next_length();
        if length == 0 {
            return None;
        }
        let out = &mut out[..length];
        if self.segments == 1 {
            self.index = 1;
            out.copy_from_slice(self.bytes);
            if let Checksum::Partial { start, offset } = self.checksum {
                let start = usize::from(start);
                finish(out, start, start + usize::from(offset));
            }
            return Some(length);
        }
        let (head, body) = out.split_at_mut(self.payload);
        head.copy_from_slice(&self.bytes[..self.payload]);
        body.copy_from_slice(&self.bytes[self.payload + self.done..][..body.len()]);
        self.finish_network(head, length);
        let sum = self.common.bytes(body);
        let l4_length = (length - self.transport) as u16;
        let l4 = &mut head[self.transport..];
        match self.kind {
            Kind::Tcp => self.finish_tcp(l4, sum, l4_length),
            _ => finish_udp(l4, sum, l4_length),
        }
        self.done += body.len();
        self.index += 1;
        Some(length)
    }

    /// Length; for IPv4 the identifier, one more for each segment, and the checksum.
    #[inline]
    fn finish_network(&self, head: &mut [u8], length: usize) {
        if self.v4 {
            let identifier = be16(head, 4).wrapping_add(self.index as u16);
            let sum = self.network.word(length as u16).word(identifier);
            put16(head, 2, length as u16);
            put16(head, 4, identifier);
            put16(head, 10, sum.checksum());
        } else {
            put16(head, 4, (length - 40) as u16);
        }
    }

    /// Sequence number; CWR on the first segment only, FIN and PSH on the last only; checksum.
    #[inline]
    fn finish_tcp(&self, tcp: &mut [u8], sum: Sum, length: u16) {
        let first = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let sequence = first.wrapping_add(self.done as u32);
        let mut flags = tcp[13];
        if self.index != 0 {
            flags &= !tcp_flag::CWR;
        }
        if self.index + 1 != self.segments {
            flags &= !(tcp_flag::FIN | tcp_flag::PSH);
        }
        let sum = sum
            .word(length)
            .word((sequence >> 16) as u16)
            .word(sequence as u16)
            .word(u16::from_be_bytes([tcp[12], flags]));
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[13] = flags;
        put16(tcp, usize::from(TCP_CHECKSUM), sum.checksum());
    }
}

#[inline]
fn finish_udp(udp: &mut [u8], sum: Sum, length: u16) {
    // The length is summed twice: in the pseudo-header and in the header (RFC 768).
    let checksum = match sum.word(length).word(length).checksum() {
        0 => 0xffff,
        checksum => checksum,
    };
    put16(udp, 4, length);
    put16(udp, usize::from(UDP_CHECKSUM), checksum);
}

#[inline]
fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
