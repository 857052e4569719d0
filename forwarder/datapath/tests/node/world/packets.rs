//! Packets to give, and how what came of them is read.

use etherparse::{PacketBuilder, PacketBuilderStep, UdpHeader};
use packet::Header;

/// A TCP segment with a payload.
pub(crate) fn tcp(
    (source, source_port): ([u8; 4], u16),
    (destination, destination_port): ([u8; 4], u16),
    flags: &str,
    payload: &[u8],
) -> Vec<u8> {
    let mut builder = PacketBuilder::ipv4(source, destination, 64).tcp(
        source_port,
        destination_port,
        1_000,
        65_000,
    );
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(2_000),
            'F' => builder.fin(),
            'R' => builder.rst(),
            other => panic!("no flag is called {other}"),
        };
    }
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, payload)
        .expect("a vector takes it");
    bytes
}

/// A short UDP datagram.
pub(crate) fn udp(
    (source, source_port): ([u8; 4], u16),
    (destination, destination_port): ([u8; 4], u16),
) -> Vec<u8> {
    let ip = PacketBuilder::ipv4(source, destination, 64);
    datagram(ip.udp(source_port, destination_port))
}

/// The same over IPv6, where packets have no identifiers.
pub(crate) fn udp_v6(
    (source, source_port): ([u8; 16], u16),
    (destination, destination_port): ([u8; 16], u16),
) -> Vec<u8> {
    let ip = PacketBuilder::ipv6(source, destination, 64);
    datagram(ip.udp(source_port, destination_port))
}

fn datagram(builder: PacketBuilderStep<UdpHeader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, b"datagram")
        .expect("a vector takes it");
    bytes
}

/// An ICMP echo request or reply.
pub(crate) fn echo(source: [u8; 4], destination: [u8; 4], ttl: u8, request: bool) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(source, destination, ttl);
    let builder = if request {
        builder.icmpv4_echo_request(77, 1)
    } else {
        builder.icmpv4_echo_reply(77, 1)
    };
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, b"ping")
        .expect("a vector takes it");
    bytes
}

/// The facts of a delivered packet, whose checksums must be right.
pub(crate) fn read(bytes: &[u8]) -> Header {
    let sliced = etherparse::SlicedPacket::from_ip(bytes).expect("a packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("not IPv4")
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    if let Some(etherparse::TransportSlice::Tcp(tcp)) = &sliced.transport {
        let right = tcp.calc_checksum_ipv4(header.source, header.destination);
        assert_eq!(Ok(tcp.checksum()), right);
    }
    Header::parse(bytes).expect("a packet of ours")
}
