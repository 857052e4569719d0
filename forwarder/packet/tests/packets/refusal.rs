//! What the parse refuses, and what it must let pass: facts/robustness, case by case.

use packet::{Fragment, Header, Kind, Malformed};

use crate::samples::{fix_v4_checksum, icmp, plain, tcp, udp};

/// One packet for each reason: the name of the reason is the name of the case.
#[test]
fn each_reason_has_a_packet_that_is_refused_for_it() {
    for (reason, bytes) in malformed_packets() {
        assert_eq!(Header::parse(&bytes), Err(reason), "{bytes:02x?}");
    }
    let seen: Vec<Malformed> = malformed_packets().into_iter().map(|(r, _)| r).collect();
    for reason in Malformed::ALL {
        // The device's word is no part of the bytes.
        assert!(
            seen.contains(reason) || *reason == Malformed::Offload,
            "{reason}"
        );
    }
}

fn malformed_packets() -> Vec<(Malformed, Vec<u8>)> {
    let tcp = || tcp((1, 2), 3, 0x10, &[], b"data");
    let v4 = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plain(false, 6, tcp()).bytes();
        change(&mut bytes);
        fix_v4_checksum(&mut bytes);
        bytes
    };
    let v6 = |extensions: &[(u8, Vec<u8>)]| {
        let mut sample = plain(true, 6, tcp());
        sample.extensions = extensions.to_vec();
        sample.bytes()
    };
    let with_source = |octets: &[u8; 16]| {
        let mut sample = plain(true, 6, tcp());
        sample.source = *octets;
        sample.bytes()
    };
    let destination_options = (60, vec![0; 8]);
    let fragment = |offset: u16, more: u16| {
        let [high, low] = (offset * 8 + more).to_be_bytes();
        (44, vec![0, 0, high, low, 0, 0, 0, 9])
    };
    vec![
        (Malformed::Truncated, vec![]),
        (Malformed::Truncated, v4(&|b| b.truncate(43))),
        (Malformed::Truncated, v6(&[])[..63].to_vec()),
        (Malformed::Version, v4(&|b| b[0] = 0x55)),
        (Malformed::HeaderLength, v4(&|b| b[0] = 0x44)),
        (Malformed::HeaderLength, v4(&|b| b[3] = 19)),
        (Malformed::HeaderChecksum, {
            let mut bytes = plain(false, 6, tcp()).bytes();
            bytes[10] ^= 1;
            bytes
        }),
        (Malformed::Options, with_options(&[7, 1, 0, 0])),
        (Malformed::Options, with_options(&[7, 5, 0, 0])),
        (Malformed::Options, with_options(&[1, 1, 1, 7])),
        (Malformed::SourceRoute, with_options(&[131, 3, 4, 0])),
        (Malformed::SourceRoute, with_options(&[1, 137, 3, 4])),
        (
            Malformed::SourceRoute,
            v6(&[(43, vec![0, 0, 4, 1, 0, 0, 0, 0])]),
        ),
        (Malformed::RoutingHeaderZero, v6(&[(43, vec![0; 8])])),
        (Malformed::MartianSource, v4(&|b| b[12] = 127)),
        (Malformed::MartianSource, v4(&|b| b[12] = 0)),
        (Malformed::MartianSource, v4(&|b| b[12] = 224)),
        (Malformed::MartianSource, v4(&|b| b[12..16].fill(255))),
        (Malformed::MartianSource, with_source(&[0; 16])),
        (Malformed::MartianSource, with_source(&[0xff; 16])),
        (Malformed::MartianDestination, v4(&|b| b[16] = 127)),
        (Malformed::MartianDestination, v4(&|b| b[16] = 240)),
        (Malformed::MartianDestination, {
            let mut sample = plain(true, 6, tcp());
            sample.destination = std::net::Ipv6Addr::LOCALHOST.octets();
            sample.bytes()
        }),
        (
            Malformed::MappedAddress,
            with_source(
                &std::net::Ipv4Addr::new(192, 0, 2, 1)
                    .to_ipv6_mapped()
                    .octets(),
            ),
        ),
        // TCP at offset 1, and a first fragment with 16 of its 20 bytes.
        (
            Malformed::TinyFragment,
            v4(&|b| b[6..8].copy_from_slice(&[0, 1])),
        ),
        (
            Malformed::TinyFragment,
            v4(&|b| {
                b[6..8].copy_from_slice(&[0x20, 0]);
                b[3] = 36;
            }),
        ),
        (Malformed::TinyFragment, v6(&[fragment(1, 0)])),
        (Malformed::TinyFragment, {
            let mut sample = plain(true, 6, Vec::new());
            sample.extensions = vec![fragment(0, 1), (60, vec![0, 1, 0, 0, 0, 0, 0, 0])];
            sample.bytes()
        }),
        (Malformed::FragmentLength, {
            let mut sample = plain(false, 17, vec![0; 7]);
            sample.fragment = 0x2002;
            sample.bytes()
        }),
        (Malformed::FragmentLength, {
            let mut sample = plain(false, 17, Vec::new());
            sample.fragment = 0x0002;
            sample.bytes()
        }),
        (Malformed::FragmentEnd, {
            let mut sample = plain(false, 17, vec![0; 16]);
            sample.fragment = 0x1fff;
            sample.bytes()
        }),
        (
            Malformed::ExtensionHeader,
            v6(&[(60, vec![0, 9, 0, 0, 0, 0, 0, 0])]),
        ),
        (
            Malformed::ExtensionHeader,
            v6(&[fragment(0, 0), fragment(0, 0)]),
        ),
        (
            Malformed::HopByHopOrder,
            v6(&[destination_options.clone(), (0, vec![0; 8])]),
        ),
        (Malformed::ExtensionChain, v6(&vec![destination_options; 9])),
        (
            Malformed::TransportLength,
            plain(false, 6, vec![0x50; 19]).bytes(),
        ),
        (
            Malformed::TransportLength,
            plain(false, 6, vec![0x60; 20]).bytes(),
        ),
        (
            Malformed::TransportLength,
            plain(true, 58, vec![128; 7]).bytes(),
        ),
        (
            Malformed::TcpHeader,
            plain(false, 6, vec![0x40; 20]).bytes(),
        ),
        (Malformed::UdpLength, plain(false, 17, vec![0; 8]).bytes()),
        (
            Malformed::UdpLength,
            plain(true, 17, vec![0, 1, 0, 2, 0, 9, 0, 0]).bytes(),
        ),
    ]
}

fn with_options(options: &[u8]) -> Vec<u8> {
    let mut sample = plain(false, 6, tcp((1, 2), 3, 0x10, &[], b"data"));
    sample.options = options.to_vec();
    sample.bytes()
}

#[test]
fn unknown_options_and_extension_headers_pass_untouched() {
    assert_eq!(
        Header::parse(&with_options(&[148, 4, 0, 0])).unwrap().kind,
        Kind::Tcp
    );
    assert_eq!(
        Header::parse(&with_options(&[77, 4, 0, 0])).unwrap().kind,
        Kind::Tcp
    );
    let mut sample = plain(true, 6, tcp((1, 2), 3, 0x10, &[], b"data"));
    sample.extensions = vec![(0, vec![0; 8]), (253, vec![0; 8])];
    let header = Header::parse(&sample.bytes()).unwrap();
    assert_eq!((header.kind, header.flow.protocol), (Kind::Unreadable, 253));
    assert_eq!(
        (header.flow.source_port, header.flow.destination_port),
        (0, 0)
    );
}

#[test]
fn ports_are_found_behind_extension_headers() {
    let mut sample = plain(true, 17, udp((5, 6), b"data"));
    let routing_at_its_end = (43, vec![0, 0, 4, 0, 0, 0, 0, 0]);
    let atomic_fragment = (44, vec![0; 8]);
    sample.extensions = vec![
        (0, vec![0; 8]),
        routing_at_its_end,
        atomic_fragment,
        (60, vec![0; 8]),
    ];
    let header = Header::parse(&sample.bytes()).unwrap();
    assert_eq!((header.kind, header.fragment), (Kind::Udp, Fragment::No));
    assert_eq!(
        (header.flow.source_port, header.flow.destination_port),
        (5, 6)
    );
    assert_eq!((header.transport, header.payload), (72, 80));
}

#[test]
fn only_the_first_fragment_has_ports() {
    let mut sample = plain(false, 17, udp((5, 6), &[0; 1000]));
    sample.transport.truncate(496);
    sample.fragment = 0x2000;
    let first = Header::parse(&sample.bytes()).unwrap();
    assert_eq!((first.kind, first.fragment), (Kind::Udp, Fragment::First));
    assert_eq!(first.flow.destination_port, 6);
    sample.fragment = 62;
    let later = Header::parse(&sample.bytes()).unwrap();
    assert_eq!(
        (later.kind, later.fragment),
        (Kind::Unreadable, Fragment::Later)
    );
    assert_eq!((later.flow.destination_port, later.flow.protocol), (0, 17));
}

#[test]
fn icmp_of_the_other_family_is_not_icmp() {
    let echo = || icmp(128, 0, [0, 9, 0, 1], b"data");
    let in_v4 = Header::parse(&plain(false, 58, echo()).bytes()).unwrap();
    assert_eq!(in_v4.kind, Kind::Other);
    let in_v6 = Header::parse(&plain(true, 1, echo()).bytes()).unwrap();
    assert_eq!(in_v6.kind, Kind::Other);
}

#[test]
fn an_echo_has_its_identifier_in_both_ports() {
    for (v6, protocol, kind) in [(false, 1, 8), (true, 58, 128)] {
        let sample = plain(v6, protocol, icmp(kind, 0, [1, 2, 0, 1], b"data"));
        let header = Header::parse(&sample.bytes()).unwrap();
        assert_eq!(header.kind, Kind::EchoRequest);
        assert_eq!(header.flow.source_port, 0x0102);
        assert_eq!(header.flow.destination_port, 0x0102);
    }
}
