//! The fast parse: from bytes to facts, for the packets that nearly all packets are. Whatever is
//! unusual (IPv4 options, IPv6 extension headers, fragments) goes on in `chain.rs`.

use crate::flow::icmp_ports;
use crate::{Address, Flow, Malformed, chain, checksum::Sum, protocol};

/// What a packet is to those who judge and translate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP, with ports.
    Tcp,
    /// UDP, with ports.
    Udp,
    /// SCTP, with ports.
    Sctp,
    /// ICMP or ICMPv6 echo request; its identifier stands for both ports.
    EchoRequest,
    /// ICMP or ICMPv6 echo reply; its identifier stands for both ports.
    EchoReply,
    /// An ICMP message that quotes another packet: every ICMPv6 type under 128; ICMP destination
    /// unreachable, source quench, redirect, time exceeded, parameter problem.
    IcmpError,
    /// Any other ICMP or ICMPv6 message, of this type.
    Icmp(u8),
    /// A transport without ports, or one that we do not look into.
    Other,
    /// No port can be found, though there may be one: a later fragment, or an extension header
    /// that nobody knows.
    Unreadable,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// All of it; an atomic fragment (RFC 6946) too.
    No,
    /// The first fragment: it has all headers.
    First,
    /// A later fragment: it has none behind IP's.
    Later,
}

/// The facts of a checked packet. They are true of the bytes that they were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The five-tuple.
    pub flow: Flow,
    /// What kind of packet.
    pub kind: Kind,
    /// Which part of a datagram.
    pub fragment: Fragment,
    /// Bytes of the IP packet, header included.
    pub length: u32,
    /// Where the transport header begins, in bytes from the IP header's start; for a later
    /// fragment and an unreadable packet, where what cannot be read begins.
    pub transport: u16,
    /// Where the bytes behind the transport header begin; equal to `transport` where its length
    /// is not known.
    pub payload: u16,
    /// IPv4 time to live, or IPv6 hop limit.
    pub ttl: u8,
    /// IPv4 type of service, or IPv6 traffic class: DSCP in the upper six bits, ECN in the lower
    /// two.
    pub traffic_class: u8,
    /// Byte 13 of the TCP header (CWR ECE URG ACK PSH RST SYN FIN); 0 where it is not TCP.
    pub tcp_flags: u8,
    /// Whether a router must not fragment it: IPv4's DF; always true for IPv6.
    pub dont_fragment: bool,
}

/// Bits of [`Header::tcp_flags`] (RFC 9293 §3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

impl Header {
    /// Reads and checks one IP packet. `bytes` may be longer than the packet.
    ///
    /// Transport checksums are not verified: that is the receiver's business, and costs a pass
    /// over the payload.
    ///
    /// # Errors
    /// The first thing that is wrong, as facts/robustness of the project lists it: nothing that a
    /// router must not forward, and nothing whose ports could be read differently by a receiver.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => parse_v4(bytes),
            Some(6) => parse_v6(bytes),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    /// Whether it is an IPv4 packet.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.flow.source.is_v4()
    }

    /// Bytes behind the transport header.
    #[inline]
    pub fn payload_length(&self) -> usize {
        self.length as usize - usize::from(self.payload)
    }
}

/// What lies behind the IP header and all its extensions.
pub(crate) struct Transport {
    pub(crate) kind: Kind,
    pub(crate) fragment: Fragment,
    pub(crate) protocol: u8,
    /// Where it begins and where what it carries begins, in bytes from the IP header's start.
    pub(crate) at: usize,
    pub(crate) payload: usize,
    pub(crate) ports: (u16, u16),
    pub(crate) tcp_flags: u8,
}

impl Transport {
    /// One whose header is not read.
    #[inline]
    pub(crate) const fn opaque(kind: Kind, protocol: u8, at: usize, fragment: Fragment) -> Self {
        Transport {
            kind,
            fragment,
            protocol,
            at,
            payload: at,
            ports: (0, 0),
            tcp_flags: 0,
        }
    }
}

#[inline]
fn parse_v4(bytes: &[u8]) -> Result<Header, Malformed> {
    let ip = bytes.first_chunk::<20>().ok_or(Malformed::Truncated)?;
    let ihl = usize::from(ip[0] & 15) * 4;
    let length = usize::from(be16(ip, 2));
    if ihl < 20 || length < ihl {
        return Err(Malformed::HeaderLength);
    }
    let packet = bytes.get(..length).ok_or(Malformed::Truncated)?;
    let mut sum = Sum::ZERO.bytes(ip);
    if ihl > 20 {
        sum = sum.bytes(&packet[20..ihl]);
    }
    if sum.fold() != 0xffff {
        return Err(Malformed::HeaderChecksum);
    }
    if ihl > 20 {
        chain::check_options(&packet[20..ihl])?;
    }
    check_v4_addresses(ip)?;
    let fragment_word = be16(ip, 6);
    let transport = if fragment_word & 0x3fff == 0 {
        read_transport(packet, ihl, ip[9], protocol::ICMP, Fragment::No)?
    } else {
        chain::parse_v4_fragment(packet, ihl, fragment_word, ip[9])?
    };
    let flow = Flow {
        source: Address::from_v4([ip[12], ip[13], ip[14], ip[15]]),
        destination: Address::from_v4([ip[16], ip[17], ip[18], ip[19]]),
        source_port: transport.ports.0,
        destination_port: transport.ports.1,
        protocol: transport.protocol,
    };
    Ok(Header {
        flow,
        kind: transport.kind,
        fragment: transport.fragment,
        length: length as u32,
        transport: transport.at as u16,
        payload: transport.payload as u16,
        ttl: ip[8],
        traffic_class: ip[1],
        tcp_flags: transport.tcp_flags,
        dont_fragment: fragment_word & 0x4000 != 0,
    })
}

#[inline]
fn parse_v6(bytes: &[u8]) -> Result<Header, Malformed> {
    let ip = bytes.first_chunk::<40>().ok_or(Malformed::Truncated)?;
    let length = 40 + usize::from(be16(ip, 4));
    let packet = bytes.get(..length).ok_or(Malformed::Truncated)?;
    let source = check_v6_source(ip)?;
    let destination = check_v6_destination(ip)?;
    let transport = match ip[6] {
        protocol::TCP | protocol::UDP => {
            read_transport(packet, 40, ip[6], protocol::ICMPV6, Fragment::No)?
        }
        first => chain::parse_v6(packet, first)?,
    };
    Ok(Header {
        flow: Flow {
            source,
            destination,
            source_port: transport.ports.0,
            destination_port: transport.ports.1,
            protocol: transport.protocol,
        },
        kind: transport.kind,
        fragment: transport.fragment,
        length: length as u32,
        transport: transport.at as u16,
        payload: transport.payload as u16,
        ttl: ip[7],
        traffic_class: (ip[0] << 4) | (ip[1] >> 4),
        tcp_flags: transport.tcp_flags,
        dont_fragment: true,
    })
}

/// RFC 1812 §5.3.7: what is neither a host's source nor a destination outside of a host.
#[inline]
fn check_v4_addresses(ip: &[u8; 20]) -> Result<(), Malformed> {
    if matches!(ip[12], 0 | 127 | 224..) {
        return Err(Malformed::MartianSource);
    }
    if matches!(ip[16], 0 | 127 | 240..) && ip[16..20] != [255; 4] {
        return Err(Malformed::MartianDestination);
    }
    Ok(())
}

#[inline]
fn check_v6_source(ip: &[u8; 40]) -> Result<Address, Malformed> {
    let mut octets = [0; 16];
    octets.copy_from_slice(&ip[8..24]);
    let source = Address::from_v6(octets);
    if octets[0] == 0xff || is_v6_of_no_wire(&octets) {
        return Err(Malformed::MartianSource);
    }
    if source.is_v4() {
        return Err(Malformed::MappedAddress);
    }
    Ok(source)
}

#[inline]
fn check_v6_destination(ip: &[u8; 40]) -> Result<Address, Malformed> {
    let mut octets = [0; 16];
    octets.copy_from_slice(&ip[24..40]);
    let destination = Address::from_v6(octets);
    // ff00 and ff01: reserved and interface-local multicast, which no node may send on
    // (RFC 4291 §2.7).
    if is_v6_of_no_wire(&octets) || (octets[0] == 0xff && matches!(octets[1] & 15, 0 | 1)) {
        return Err(Malformed::MartianDestination);
    }
    if destination.is_v4() {
        return Err(Malformed::MappedAddress);
    }
    Ok(destination)
}

/// `::` and `::1`.
#[inline]
fn is_v6_of_no_wire(octets: &[u8; 16]) -> bool {
    u128::from_be_bytes(*octets) <= 1
}

/// Reads the transport header at `at` of a whole packet. `icmp` is the family's own ICMP.
///
/// A first fragment must hold the whole header (RFC 1858, RFC 7112): who judges it sees what the
/// receiver will see.
#[inline]
pub(crate) fn read_transport(
    packet: &[u8],
    at: usize,
    number: u8,
    icmp: u8,
    fragment: Fragment,
) -> Result<Transport, Malformed> {
    let bytes = &packet[at..];
    let short = match fragment {
        Fragment::No => Malformed::TransportLength,
        Fragment::First | Fragment::Later => Malformed::TinyFragment,
    };
    let mut transport = Transport::opaque(Kind::Other, number, at, fragment);
    match number {
        protocol::TCP => {
            let tcp = bytes.first_chunk::<20>().ok_or(short)?;
            let length = usize::from(tcp[12] >> 4) * 4;
            if length < 20 {
                return Err(Malformed::TcpHeader);
            }
            if length > bytes.len() {
                return Err(short);
            }
            transport.kind = Kind::Tcp;
            transport.ports = (be16(tcp, 0), be16(tcp, 2));
            transport.tcp_flags = tcp[13];
            transport.payload = at + length;
        }
        protocol::UDP => {
            let udp = bytes.first_chunk::<8>().ok_or(short)?;
            let length = usize::from(be16(udp, 4));
            if length < 8 || (fragment == Fragment::No && length > bytes.len()) {
                return Err(Malformed::UdpLength);
            }
            transport.kind = Kind::Udp;
            transport.ports = (be16(udp, 0), be16(udp, 2));
            transport.payload = at + 8;
        }
        protocol::SCTP => {
            let sctp = bytes.first_chunk::<12>().ok_or(short)?;
            transport.kind = Kind::Sctp;
            transport.ports = (be16(sctp, 0), be16(sctp, 2));
            transport.payload = at + 12;
        }
        _ if number == icmp => {
            let message = bytes.first_chunk::<8>().ok_or(short)?;
            transport.kind = icmp_kind(icmp, message[0]);
            transport.ports = match transport.kind {
                Kind::EchoRequest | Kind::EchoReply => (be16(message, 4), be16(message, 4)),
                Kind::Icmp(kind) => icmp_ports(icmp, kind),
                _ => (0, 0),
            };
            transport.payload = at + 8;
        }
        _ => {}
    }
    Ok(transport)
}

/// What kind of packet a message of this protocol, ICMP or ICMPv6, and of this type is.
pub fn icmp_kind(icmp: u8, kind: u8) -> Kind {
    match (icmp, kind) {
        (protocol::ICMP, 8) | (protocol::ICMPV6, 128) => Kind::EchoRequest,
        (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => Kind::EchoReply,
        // RFC 1122 §3.2.2 and RFC 4443 §2.1.
        (protocol::ICMP, 3 | 4 | 5 | 11 | 12) | (protocol::ICMPV6, ..128) => Kind::IcmpError,
        _ => Kind::Icmp(kind),
    }
}

/// The type of a message of this protocol, ICMP or ICMPv6; `None` of an error, and of what is none.
pub fn icmp_type(icmp: u8, kind: Kind) -> Option<u8> {
    let v4 = icmp == protocol::ICMP;
    match kind {
        Kind::EchoRequest => Some(if v4 { 8 } else { 128 }),
        Kind::EchoReply => Some(if v4 { 0 } else { 129 }),
        Kind::Icmp(kind) => Some(kind),
        _ => None,
    }
}

/// Two bytes in network order.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes in network order.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}
