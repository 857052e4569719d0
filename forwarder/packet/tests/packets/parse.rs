//! Our parse and etherparse agree about every packet, or the difference is explained here.

use etherparse::{IpSlice, SlicedPacket, TcpHeaderSlice, TransportSlice};
use packet::{Address, Fragment, Header, Kind, Malformed, protocol};
use proptest::prelude::*;

use crate::samples::{fix_v4_checksum, naive_checksum, sample};

/// Fails unless both read the same, or the reason why not is a good one.
pub(crate) fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    match Header::parse(bytes) {
        Ok(header) => accepted(bytes, &header),
        Err(reason) => refused(bytes, reason),
    }
}

fn accepted(bytes: &[u8], header: &Header) -> Result<(), TestCaseError> {
    let bytes = &bytes[..header.length as usize];
    let ip = match IpSlice::from_slice(bytes) {
        Ok(ip) => ip,
        // etherparse reads on behind the header of a later fragment, and looks into an
        // authentication header in IPv4; there is nothing to read, or nothing that we would use.
        Err(error) => {
            let is_explained = header.fragment == Fragment::Later || header.flow.protocol == 51;
            prop_assert!(is_explained, "{error:?}");
            return Ok(());
        }
    };
    prop_assert_eq!(Address::from(ip.source_addr()), header.flow.source);
    prop_assert_eq!(
        Address::from(ip.destination_addr()),
        header.flow.destination
    );
    let (ttl, class) = match &ip {
        IpSlice::Ipv4(v4) => {
            let h = v4.header();
            prop_assert_eq!(h.dont_fragment(), header.dont_fragment);
            (h.ttl(), h.dcp().value() << 2 | h.ecn().value())
        }
        IpSlice::Ipv6(v6) => (v6.header().hop_limit(), v6.header().traffic_class()),
    };
    prop_assert_eq!((ttl, class), (header.ttl, header.traffic_class));
    if header.fragment == Fragment::Later || header.kind == Kind::Unreadable {
        let of_icmp = header.fragment == Fragment::Later
            && matches!(header.flow.protocol, protocol::ICMP | protocol::ICMPV6);
        prop_assert_eq!(
            (header.flow.source_port, header.flow.destination_port),
            (0, u16::from(of_icmp))
        );
        return Ok(());
    }
    // It walks the authentication header of IPv4 too, which we take for the end.
    if stops_early(&ip) || header.flow.protocol == 51 {
        return Ok(());
    }
    let payload = ip.payload();
    prop_assert_eq!(payload.fragmented, header.fragment == Fragment::First);
    prop_assert_eq!(payload.ip_number.0, header.flow.protocol);
    prop_assert_eq!(
        bytes.len() - payload.payload.len(),
        usize::from(header.transport)
    );
    transport(payload.payload, header)
}

/// Slices the transport header alone, because etherparse does not in fragments.
fn transport(bytes: &[u8], header: &Header) -> Result<(), TestCaseError> {
    let length = usize::from(header.payload - header.transport);
    let ports = (header.flow.source_port, header.flow.destination_port);
    match header.kind {
        Kind::Tcp => {
            let tcp = TcpHeaderSlice::from_slice(bytes).unwrap();
            prop_assert_eq!((tcp.source_port(), tcp.destination_port()), ports);
            prop_assert_eq!(tcp.slice().len(), length);
            prop_assert_eq!(tcp.slice()[13], header.tcp_flags);
        }
        Kind::Udp => {
            let udp = etherparse::UdpHeaderSlice::from_slice(bytes).unwrap();
            prop_assert_eq!((udp.source_port(), udp.destination_port()), ports);
            prop_assert_eq!(length, 8);
        }
        Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError | Kind::Icmp(_) => {
            icmp_kind(bytes, header)?;
        }
        Kind::Sctp => prop_assert_eq!(u16::from_be_bytes([bytes[0], bytes[1]]), ports.0),
        Kind::Other | Kind::Unreadable => {
            let v4 = header.is_v4();
            let own = if v4 { 1 } else { 58 };
            prop_assert!(![6, 17, 132, own].contains(&header.flow.protocol));
            prop_assert_eq!(length, 0);
        }
    }
    Ok(())
}

fn icmp_kind(bytes: &[u8], header: &Header) -> Result<(), TestCaseError> {
    use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type};
    let (kind, identifier) = if header.is_v4() {
        // etherparse wants a timestamp message to have its whole length.
        let Ok(message) = Icmpv4Slice::from_slice(bytes) else {
            return Ok(());
        };
        match message.icmp_type() {
            Icmpv4Type::EchoRequest(echo) => (Kind::EchoRequest, echo.id),
            Icmpv4Type::EchoReply(echo) => (Kind::EchoReply, echo.id),
            Icmpv4Type::DestinationUnreachable(_)
            | Icmpv4Type::Redirect(_)
            | Icmpv4Type::TimeExceeded(_)
            | Icmpv4Type::ParameterProblem(_) => (Kind::IcmpError, 0),
            // What it does not name, or names only with certain codes: by number.
            _ => return Ok(()),
        }
    } else {
        let message = Icmpv6Slice::from_slice(bytes).unwrap();
        match message.icmp_type() {
            Icmpv6Type::EchoRequest(echo) => (Kind::EchoRequest, echo.id),
            Icmpv6Type::EchoReply(echo) => (Kind::EchoReply, echo.id),
            _ if message.type_u8() < 128 => (Kind::IcmpError, 0),
            _ => return Ok(()),
        }
    };
    prop_assert_eq!(kind, header.kind);
    prop_assert_eq!(identifier, header.flow.source_port);
    prop_assert_eq!(identifier, header.flow.destination_port);
    Ok(())
}

fn refused(bytes: &[u8], reason: Malformed) -> Result<(), TestCaseError> {
    let theirs = SlicedPacket::from_ip(bytes);
    let ip = IpSlice::from_slice(bytes);
    if ip.as_ref().is_ok_and(stops_early) {
        return Ok(());
    }
    let is_explained = match reason {
        // etherparse refuses these too.
        Malformed::Version | Malformed::HeaderLength | Malformed::HopByHopOrder => theirs.is_err(),
        // But into a fragment it does not look.
        Malformed::TcpHeader => theirs.is_err() || ip.is_ok_and(|ip| ip.payload().fragmented),
        // A length of zero is no length to etherparse, in IPv6 and in UDP.
        Malformed::Truncated | Malformed::TransportLength => {
            theirs.is_err() || has_zero_length(bytes) || is_short_of_what_etherparse_skips(&theirs)
        }
        Malformed::UdpLength => {
            theirs.is_err()
                || has_zero_length(bytes)
                || matches!(&theirs, Ok(p) if p.transport.is_none() || is_udp_of_zero(p))
        }
        // It takes a second fragment header, and stops in front of the chains that we walk.
        Malformed::ExtensionHeader => bytes[0] >> 4 == 6,
        Malformed::ExtensionChain => count_extensions(bytes) > 8,
        // The rest etherparse does not judge; the fact that the reason names can be seen.
        Malformed::HeaderChecksum => naive_checksum(&bytes[..usize::from(bytes[0] & 15) * 4]) != 0,
        Malformed::Options => bytes[0] & 15 > 5,
        Malformed::SourceRoute if bytes[0] >> 4 == 4 => {
            bytes[20..].iter().any(|b| matches!(b, 131 | 137))
        }
        Malformed::SourceRoute | Malformed::RoutingHeaderZero => bytes[0] >> 4 == 6,
        Malformed::MartianSource => ip.map_or(true, |ip| is_martian(ip.source_addr(), true)),
        Malformed::MartianDestination => {
            ip.map_or(true, |ip| is_martian(ip.destination_addr(), false))
        }
        Malformed::MappedAddress => [8, 24].iter().any(|at| bytes[*at..at + 10] == [0; 10]),
        Malformed::TinyFragment | Malformed::FragmentLength | Malformed::FragmentEnd => {
            ip.map_or(true, |ip| ip.payload().fragmented)
        }
        Malformed::Offload => false,
    };
    prop_assert!(is_explained, "{reason} of {bytes:02x?}");
    Ok(())
}

/// Mobility, host identity and shim6 are extension headers that etherparse does not walk.
fn stops_early(ip: &IpSlice<'_>) -> bool {
    matches!(ip.payload().ip_number.0, 135 | 139 | 140)
}

fn has_zero_length(bytes: &[u8]) -> bool {
    bytes.len() >= 6 && bytes[0] >> 4 == 6 && bytes[4..6] == [0, 0]
}

fn is_udp_of_zero(packet: &SlicedPacket<'_>) -> bool {
    matches!(&packet.transport, Some(TransportSlice::Udp(udp)) if udp.length() == 0)
}

/// It knows no SCTP, and stops in front of some extension headers.
fn is_short_of_what_etherparse_skips(packet: &Result<SlicedPacket<'_>, impl Sized>) -> bool {
    matches!(packet, Ok(packet) if packet.transport.is_none())
}

fn count_extensions(bytes: &[u8]) -> usize {
    let (mut number, mut at, mut count) = (bytes[6], 40, 0);
    while matches!(number, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) && at + 2 <= bytes.len() {
        let length = match number {
            44 => 8,
            51 => (usize::from(bytes[at + 1]) + 2) * 4,
            _ => (usize::from(bytes[at + 1]) + 1) * 8,
        };
        number = bytes[at];
        at += length;
        count += 1;
    }
    count
}

fn is_martian(address: std::net::IpAddr, source: bool) -> bool {
    match address {
        std::net::IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            let is_class_e = first >= 240 && (source || !a.is_broadcast());
            first == 0 || a.is_loopback() || is_class_e || (source && a.is_multicast())
        }
        std::net::IpAddr::V6(a) => a.is_unspecified() || a.is_loopback() || a.is_multicast(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn we_agree_with_etherparse_about_packets(sample in sample()) {
        agree(&sample.bytes())?;
    }

    #[test]
    fn we_agree_with_etherparse_about_mutated_packets(
        sample in sample(),
        changes in proptest::collection::vec((0usize..100, any::<u8>()), 0..4),
        cut in prop_oneof![3 => Just(None), 1 => (0usize..140).prop_map(Some)],
        fix in any::<bool>(),
    ) {
        let mut bytes = sample.bytes();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if fix && bytes.len() >= 20 && bytes[0] >> 4 == 4 {
            fix_v4_checksum(&mut bytes);
        }
        agree(&bytes)?;
    }

    #[test]
    fn we_agree_with_etherparse_about_noise(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        v6 in any::<bool>(),
    ) {
        if bytes.len() >= 40 {
            let length = bytes.len() as u16;
            let (version, at, length) = if v6 { (0x60, 4, length - 40) } else { (0x40, 2, length) };
            bytes[0] = version | (bytes[0] & 15);
            bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
            if !v6 {
                fix_v4_checksum(&mut bytes);
            }
        }
        agree(&bytes)?;
    }

    #[test]
    fn what_lies_behind_the_packet_changes_nothing(
        sample in sample(),
        behind in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut bytes = sample.bytes();
        let alone = Header::parse(&bytes);
        bytes.extend(behind);
        prop_assert_eq!(Header::parse(&bytes), alone);
    }
}
