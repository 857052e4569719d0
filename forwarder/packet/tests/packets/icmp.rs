//! ICMP errors and echo, with etherparse as the judge of what was made.

use etherparse::{Icmpv4Slice, Icmpv6Slice};
use packet::{
    Address, Complaint, Header, Kind, Offload, Packet, echo_reply, echo_request, icmp_error,
};
use proptest::prelude::*;

use crate::samples::{
    Sample, assert_right_checksums, buf, icmp, on_the_wire, plain, sample, super_packet, tcp, udp,
};

fn parse(sample: &Sample) -> Packet {
    Packet::parse(buf(&sample.bytes()), Offload::default()).unwrap()
}

fn router(v6: bool) -> Address {
    Address::from_v6(plain(v6, 6, Vec::new()).source)
}

/// The error about a packet, if there may be one.
fn error(offender: &Packet, complaint: Complaint) -> Option<Vec<u8>> {
    let mut into = buf(b"left over");
    let from = router(!offender.header().is_v4());
    if icmp_error(offender, complaint, from, &mut into) {
        Some(into.as_slice().to_vec())
    } else {
        assert!(into.is_empty());
        None
    }
}

const COMPLAINTS: [Complaint; 6] = [
    Complaint::TimeExceeded,
    Complaint::PacketTooBig { mtu: 1400 },
    Complaint::Prohibited,
    Complaint::NoRoute,
    Complaint::HostUnreachable,
    Complaint::PortUnreachable,
];

#[test]
fn every_complaint_has_the_type_and_code_of_its_rfc() {
    let v4 = parse(&plain(false, 17, udp((1, 2), b"data")));
    let types: Vec<[u8; 2]> = COMPLAINTS
        .iter()
        .map(|c| {
            let bytes = error(&v4, *c).unwrap();
            let message = Icmpv4Slice::from_slice(&bytes[20..]).unwrap();
            [message.type_u8(), message.code_u8()]
        })
        .collect();
    assert_eq!(types, [[11, 0], [3, 4], [3, 13], [3, 0], [3, 1], [3, 3]]);
    let v6 = parse(&plain(true, 17, udp((1, 2), b"data")));
    let types: Vec<[u8; 2]> = COMPLAINTS
        .iter()
        .map(|c| {
            let bytes = error(&v6, *c).unwrap();
            let message = Icmpv6Slice::from_slice(&bytes[40..]).unwrap();
            [message.type_u8(), message.code_u8()]
        })
        .collect();
    assert_eq!(types, [[3, 0], [2, 0], [1, 1], [1, 0], [1, 3], [1, 4]]);
}

#[test]
fn the_mtu_stands_where_the_sender_looks_for_it() {
    let complaint = |mtu| Complaint::PacketTooBig { mtu };
    let v4 = parse(&plain(false, 17, udp((1, 2), b"data")));
    assert_eq!(error(&v4, complaint(1000)).unwrap()[24..28], [0, 0, 3, 232]);
    let v6 = parse(&plain(true, 17, udp((1, 2), b"data")));
    assert_eq!(error(&v6, complaint(1400)).unwrap()[44..48], [0, 0, 5, 120]);
    // RFC 8200 §5: no link of IPv6 has less.
    assert_eq!(error(&v6, complaint(1000)).unwrap()[44..48], [0, 0, 5, 0]);
}

#[test]
fn a_quote_is_as_long_as_the_whole_may_be() {
    for (v6, limit, headers) in [(false, 576, 28), (true, 1280, 48)] {
        let long = parse(&plain(v6, 17, udp((1, 2), &[7; 1400])));
        let bytes = error(&long, Complaint::NoRoute).unwrap();
        assert_eq!(bytes.len(), limit);
        assert_eq!(bytes[headers..], long.bytes()[..limit - headers]);
        let short = parse(&plain(v6, 17, udp((1, 2), b"data")));
        let bytes = error(&short, Complaint::NoRoute).unwrap();
        assert_eq!(&bytes[headers..], short.bytes());
    }
}

#[test]
fn of_a_super_packet_the_first_segment_is_quoted() {
    for v6 in [false, true] {
        let whole = super_packet(&plain(v6, 6, tcp((1, 2), 3, 16, &[], &[7; 1000])), 100);
        let bytes = error(&whole, Complaint::TimeExceeded).unwrap();
        let headers = if v6 { 48 } else { 28 };
        assert_eq!(bytes[headers..], on_the_wire(&whole)[0]);
    }
}

#[test]
fn nothing_is_said_where_the_rfcs_forbid_it() {
    let udp = || udp((1, 2), b"data");
    let quote = plain(false, 17, udp()).bytes();
    let quote_v6 = plain(true, 17, udp()).bytes();
    let with_destination = |v6: bool, octets: &[u8]| {
        let mut sample = plain(v6, 17, udp());
        sample.destination[16 - octets.len()..].copy_from_slice(octets);
        sample
    };
    let mut later = plain(false, 17, vec![0; 16]);
    later.fragment = 5;
    let mut unreadable = plain(true, 17, udp());
    unreadable.extensions = vec![(253, vec![0; 8])];
    for (what, sample) in [
        (
            "an unreachable",
            plain(false, 1, icmp(3, 1, [0; 4], &quote)),
        ),
        ("a redirect", plain(false, 1, icmp(5, 1, [0; 4], &quote))),
        (
            "a source quench",
            plain(false, 1, icmp(4, 0, [0; 4], &quote)),
        ),
        (
            "an ICMPv6 error",
            plain(true, 58, icmp(1, 4, [0; 4], &quote_v6)),
        ),
        (
            "an unknown ICMPv6 error",
            plain(true, 58, icmp(100, 0, [0; 4], &quote_v6)),
        ),
        (
            "an ICMPv6 redirect",
            plain(true, 58, icmp(137, 0, [0; 4], &[0; 32])),
        ),
        ("a later fragment", later),
        ("an unreadable packet", unreadable),
        ("multicast", with_destination(false, &[224, 0, 0, 1])),
        ("broadcast", with_destination(false, &[255; 4])),
        (
            "IPv6 multicast",
            with_destination(true, &[&[0xff, 2][..], &[0; 14]].concat()),
        ),
    ] {
        for complaint in COMPLAINTS {
            assert_eq!(error(&parse(&sample), complaint), None, "{what}");
        }
    }
}

#[test]
fn nothing_is_said_in_the_other_family() {
    let offender = parse(&plain(false, 17, udp((1, 2), b"data")));
    let mut into = buf(&[]);
    assert!(!icmp_error(
        &offender,
        Complaint::NoRoute,
        router(true),
        &mut into
    ));
}

#[test]
fn an_echo_request_is_answered_with_all_it_had() {
    for v6 in [false, true] {
        let (from, to) = (router(v6), {
            let octets = plain(v6, 6, Vec::new()).destination;
            Address::from_v6(octets)
        });
        for payload in [&b""[..], b"odd", &[7; 1400]] {
            let mut request = buf(b"left over");
            echo_request(from, to, 0x1234, 7, payload, &mut request);
            assert_right_checksums(request.as_slice());
            let request = Packet::parse(request, Offload::default()).unwrap();
            assert_eq!(request.header().kind, Kind::EchoRequest);
            assert_eq!(request.header().flow.source_port, 0x1234);
            let mut reply = buf(b"left over");
            assert!(echo_reply(&request, &mut reply));
            assert_right_checksums(reply.as_slice());
            let header = Header::parse(reply.as_slice()).unwrap();
            assert_eq!(header.kind, Kind::EchoReply);
            assert_eq!(header.flow, request.header().flow.reverse());
            assert_eq!(header.length as usize, reply.len());
            let behind = usize::from(header.transport) + 4;
            assert_eq!(reply.as_slice()[behind..], request.bytes()[behind..]);
        }
    }
}

#[test]
fn what_is_no_sound_echo_request_is_not_answered() {
    let mut reply = buf(&[]);
    let echo = |kind| plain(false, 1, icmp(kind, 0, [0, 1, 0, 2], b"data"));
    assert!(echo_reply(&parse(&echo(8)), &mut reply));
    assert!(!echo_reply(&parse(&echo(0)), &mut reply), "a reply");
    assert!(reply.is_empty());
    let mut multicast = echo(8);
    multicast.destination[12..].copy_from_slice(&[224, 0, 0, 1]);
    assert!(!echo_reply(&parse(&multicast), &mut reply), "to many");
    let mut bytes = echo(8).bytes();
    bytes[30] ^= 1;
    let corrupt = Packet::parse(buf(&bytes), Offload::default()).unwrap();
    assert!(!echo_reply(&corrupt, &mut reply), "a wrong checksum");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_error_quotes_what_it_is_about_and_is_never_answered(
        sample in sample(), which in 0usize..6,
    ) {
        let Ok(offender) = Packet::parse(buf(&sample.bytes()), Offload::default()) else {
            return Ok(());
        };
        let Some(bytes) = error(&offender, COMPLAINTS[which]) else {
            return Ok(());
        };
        assert_right_checksums(&bytes);
        let answer = Packet::parse(buf(&bytes), Offload::default()).unwrap();
        prop_assert_eq!(answer.bytes(), &bytes[..]);
        prop_assert_eq!(answer.header().kind, Kind::IcmpError);
        prop_assert_eq!(answer.header().flow.destination, offender.header().flow.source);
        let quote = &bytes[usize::from(answer.header().payload)..];
        prop_assert!(offender.bytes().starts_with(quote));
        prop_assert_eq!(error(&answer, COMPLAINTS[which]), None);
        if let Some(embedded) = answer.embedded() {
            prop_assert_eq!(embedded, offender.header().flow);
        }
    }
}
