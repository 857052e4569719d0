//! What a box between two ends says for one that cannot any more: the reset that ends a TCP connection
//! (RFC 9293 §3.5.3), and the datagram that an ICMP error is about when its own is long gone. Whether
//! and how often to say it is for who sends it.

use crate::checksum::Sum;
use crate::header::{Fragment, Kind, tcp_flag};
use crate::icmp::may_be_answered;
use crate::network::{network_length, write_network};
use crate::{Buf, Flow, Packet};

/// Without options.
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Makes a reset of the connection `flow`, as its source would send it, in `into`. `sequence` is its
/// number, and to be believed must be the very one that the receiver expects next (RFC 5961 §3.2);
/// `acknowledged` is what it acknowledges, if it does.
///
/// False, and `into` is empty, where the two ends are of two families.
pub fn reset(flow: &Flow, sequence: u32, acknowledged: Option<u32>, into: &mut Buf) -> bool {
    let Some((tcp, pseudo)) = begin(flow, TCP_HEADER, into) else {
        return false;
    };
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledged.unwrap_or(0).to_be_bytes());
    tcp[12] = (TCP_HEADER / 4 * 16) as u8;
    tcp[13] = tcp_flag::RST | acknowledged.map_or(0, |_| tcp_flag::ACK);
    let sum = pseudo.bytes(tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Makes the reset that answers a segment of a connection that is none (RFC 9293 §3.10.7.1), in
/// `into`: its number is what the segment acknowledges, so that the sender believes it. It is never
/// longer than the segment.
///
/// False, and `into` is empty, where `segment` is no whole TCP segment, is a reset itself, or came to
/// many.
pub fn reset_for(segment: &Packet, into: &mut Buf) -> bool {
    into.reset();
    let header = segment.header();
    let is_whole = header.kind == Kind::Tcp && header.fragment == Fragment::No;
    if !is_whole || header.tcp_flags & tcp_flag::RST != 0 || !may_be_answered(segment) {
        return false;
    }
    let Some(asked) = segment.sequence() else {
        return false;
    };
    let flow = header.flow.reverse();
    match asked.acknowledged {
        Some(expected) => reset(&flow, expected, None, into),
        None => reset(&flow, 0, Some(asked.end), into),
    }
}

/// Makes a UDP datagram without a payload, as the source of `flow` would send it, in `into`: for an
/// ICMP error to quote, when nothing is kept of those that were sent.
///
/// False, and `into` is empty, where the two ends are of two families.
pub fn empty_datagram(flow: &Flow, into: &mut Buf) -> bool {
    let Some((udp, pseudo)) = begin(flow, UDP_HEADER, into) else {
        return false;
    };
    udp[5] = UDP_HEADER as u8;
    // Zero would say that there is none (RFC 768).
    let sum = match pseudo.bytes(udp).checksum() {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Begins a packet of `flow` that is nothing but headers: the transport's, of `length` bytes, has its
/// ports. With the sum of its pseudo-header.
fn begin<'b>(flow: &Flow, length: usize, into: &'b mut Buf) -> Option<(&'b mut [u8], Sum)> {
    into.reset();
    if flow.source.is_v4() != flow.destination.is_v4() {
        return None;
    }
    into.grow_back(network_length(flow.source) + length);
    let bytes = into.as_mut_slice();
    let ends = (flow.source, flow.destination);
    let (at, pseudo) = write_network(bytes, ends, flow.protocol, 0);
    let transport = &mut bytes[at..];
    transport.fill(0);
    transport[..2].copy_from_slice(&flow.source_port.to_be_bytes());
    transport[2..4].copy_from_slice(&flow.destination_port.to_be_bytes());
    Some((transport, pseudo))
}
