//! Resets and quoted datagrams, with etherparse as the judge of what was made.

use etherparse::{SlicedPacket, TcpSlice, TransportSlice};
use packet::{
    Address, Complaint, Flow, Kind, Offload, Packet, empty_datagram, icmp_error, protocol, reset,
    reset_for,
};
use proptest::prelude::*;

use crate::samples::{assert_right_checksums, buf, plain, sample, super_packet, tcp, udp};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn address(v6: bool, last: [u8; 3]) -> Address {
    match v6 {
        false => Address::from_v4([10, last[0], last[1], last[2]]),
        true => {
            let mut octets = [0xfd; 16];
            octets[13..].copy_from_slice(&last);
            Address::from_v6(octets)
        }
    }
}

fn flow(v6: bool) -> impl Strategy<Value = Flow> {
    let end = || any::<([u8; 3], u16)>();
    (end(), end()).prop_map(move |((source, from), (destination, to))| Flow {
        source: address(v6, source),
        destination: address(v6, destination),
        source_port: from,
        destination_port: to,
        protocol: protocol::TCP,
    })
}

fn flows() -> impl Strategy<Value = Flow> {
    any::<bool>().prop_flat_map(flow)
}

fn parse(bytes: &[u8]) -> Packet {
    Packet::parse(buf(bytes), Offload::default()).expect("a packet")
}

fn segment(bytes: &[u8]) -> TcpSlice<'_> {
    match SlicedPacket::from_ip(bytes).expect("a packet").transport {
        Some(TransportSlice::Tcp(tcp)) => tcp,
        other => panic!("no TCP: {other:?}"),
    }
}

/// Sequence number, and what is acknowledged, of the reset that answers a segment.
fn answer(segment_bytes: &[u8]) -> Option<(u32, Option<u32>)> {
    let mut into = buf(b"left over");
    if !reset_for(&parse(segment_bytes), &mut into) {
        assert!(into.is_empty());
        return None;
    }
    let tcp = segment(into.as_slice());
    assert!(tcp.rst());
    let acknowledged = tcp.ack().then(|| tcp.acknowledgment_number());
    Some((tcp.sequence_number(), acknowledged))
}

#[test]
fn a_segment_is_answered_with_the_number_that_its_sender_believes() {
    for v6 in [false, true] {
        let of = |flags, payload: &[u8]| {
            answer(&plain(v6, 6, tcp((1, 2), u32::MAX, flags, &[], payload)).bytes())
        };
        // RFC 9293 §3.10.7.1; the samples acknowledge 77.
        assert_eq!(of(ACK, b"data"), Some((77, None)));
        assert_eq!(of(ACK | FIN, b""), Some((77, None)));
        assert_eq!(of(0, b"data"), Some((0, Some(3))));
        assert_eq!(of(SYN, b""), Some((0, Some(0))));
        assert_eq!(of(SYN | FIN, b"data"), Some((0, Some(5))));
        assert_eq!(of(RST, b""), None);
        assert_eq!(of(RST | ACK, b"data"), None);
    }
}

#[test]
fn a_super_packet_is_answered_once_and_as_a_whole() {
    for v6 in [false, true] {
        let whole = super_packet(&plain(v6, 6, tcp((1, 2), 3, 0, &[], &[7; 1000])), 100);
        let mut into = buf(&[]);
        assert!(reset_for(&whole, &mut into));
        let tcp = segment(into.as_slice());
        assert_eq!(
            (tcp.sequence_number(), tcp.acknowledgment_number()),
            (0, 1_003)
        );
    }
}

#[test]
fn what_is_no_whole_segment_to_one_is_not_answered() {
    let mut first = plain(false, 6, tcp((1, 2), 3, ACK, &[], &[0; 12]));
    first.fragment = 0x2000;
    let mut later = plain(false, 6, vec![0; 16]);
    later.fragment = 5;
    let mut multicast = plain(false, 6, tcp((1, 2), 3, ACK, &[], b""));
    multicast.destination[12..].copy_from_slice(&[224, 0, 0, 1]);
    let datagram = plain(false, 17, udp((1, 2), b"data"));
    for (what, sample) in [
        ("a first fragment", first),
        ("a later fragment", later),
        ("multicast", multicast),
        ("a datagram", datagram),
    ] {
        assert_eq!(answer(&sample.bytes()), None, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_reset_says_what_it_was_told_to(
        flow in flows(), sequence: u32, acknowledged in proptest::option::of(any::<u32>()),
    ) {
        let mut into = buf(b"left over");
        prop_assert!(reset(&flow, sequence, acknowledged, &mut into));
        assert_right_checksums(into.as_slice());
        let tcp = segment(into.as_slice());
        prop_assert_eq!(tcp.sequence_number(), sequence);
        prop_assert_eq!(tcp.acknowledgment_number(), acknowledged.unwrap_or(0));
        prop_assert_eq!(tcp.ack(), acknowledged.is_some());
        prop_assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && !tcp.psh() && !tcp.urg());
        prop_assert_eq!((tcp.window_size(), tcp.payload()), (0, &b""[..]));
        let read = parse(into.as_slice());
        prop_assert_eq!(read.header().flow, flow);
        prop_assert_eq!(read.bytes(), into.as_slice());
    }

    #[test]
    fn a_datagram_is_one_that_an_error_can_quote(flow in flows()) {
        let flow = Flow { protocol: protocol::UDP, ..flow };
        let mut into = buf(b"left over");
        prop_assert!(empty_datagram(&flow, &mut into));
        assert_right_checksums(into.as_slice());
        let offender = parse(into.as_slice());
        prop_assert_eq!(offender.header().flow, flow);
        prop_assert_eq!(offender.bytes(), into.as_slice());
        let mut error = buf(&[]);
        prop_assert!(icmp_error(&offender, Complaint::PortUnreachable, flow.destination, &mut error));
        assert_right_checksums(error.as_slice());
        let error = parse(error.as_slice());
        prop_assert_eq!(error.header().kind, Kind::IcmpError);
        prop_assert_eq!(error.embedded(), Some(flow));
    }

    #[test]
    fn nothing_is_made_between_two_families(v6: bool, a in flow(false), b in flow(true)) {
        let (source, destination) = match v6 {
            true => (b.source, a.destination),
            false => (a.source, b.destination),
        };
        let flow = Flow { source, destination, ..a };
        let mut into = buf(b"left over");
        prop_assert!(!reset(&flow, 1, None, &mut into) && into.is_empty());
        prop_assert!(!empty_datagram(&flow, &mut into) && into.is_empty());
    }

    #[test]
    fn an_answer_is_no_longer_than_what_it_answers_and_is_not_answered(sample in sample()) {
        let Ok(segment) = Packet::parse(buf(&sample.bytes()), Offload::default()) else {
            return Ok(());
        };
        let mut into = buf(b"left over");
        if !reset_for(&segment, &mut into) {
            return Ok(());
        }
        assert_right_checksums(into.as_slice());
        let answer = parse(into.as_slice());
        prop_assert_eq!(answer.header().flow, segment.header().flow.reverse());
        prop_assert!(answer.bytes().len() <= segment.bytes().len());
        prop_assert!(!reset_for(&answer, &mut into));
    }
}
