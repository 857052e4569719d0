//! Translation, held against the same packet written anew.

use packet::{Address, Fragment, Header, Kind, Offload, Packet};
use proptest::prelude::*;

use crate::samples::{Sample, buf, fix_v4_checksum, icmp, plain, sample, super_packet, tcp, udp};

/// A new end: address bytes as far as they may vary, and a port.
#[derive(Clone, Copy, Debug)]
struct End {
    is_source: bool,
    tail: [u8; 3],
    port: u16,
}

fn end() -> impl Strategy<Value = End> {
    any::<(bool, [u8; 3], u16)>().prop_map(|(is_source, tail, port)| End {
        is_source,
        tail,
        port,
    })
}

impl End {
    fn octets(&self, sample: &Sample) -> [u8; 16] {
        let mut octets = sample.source;
        octets[13..].copy_from_slice(&self.tail);
        octets
    }

    fn address(&self, sample: &Sample) -> Address {
        Address::from_v6(self.octets(sample))
    }

    /// The same change in what the sample is made of.
    fn apply(&self, sample: &mut Sample, kind: Kind) {
        let octets = self.octets(sample);
        if self.is_source {
            sample.source = octets;
        } else {
            sample.destination = octets;
        }
        let at = match (kind, self.is_source) {
            (Kind::Tcp | Kind::Udp | Kind::Sctp, true) => 0,
            (Kind::Tcp | Kind::Udp | Kind::Sctp, false) => 2,
            (Kind::EchoRequest | Kind::EchoReply, _) => 4,
            _ => return,
        };
        sample.transport[at..at + 2].copy_from_slice(&self.port.to_be_bytes());
    }

    fn translate(&self, packet: &mut Packet, sample: &Sample) {
        if self.is_source {
            packet.set_source(self.address(sample), self.port);
        } else {
            packet.set_destination(self.address(sample), self.port);
        }
    }
}

/// A sample that passes the parse, and that it reads as it was meant.
fn parsed(sample: &Sample, bytes: &[u8]) -> Option<Packet> {
    let packet = Packet::parse(buf(bytes), Offload::default()).ok()?;
    let header = packet.header();
    let is_as_meant = header.flow.protocol == sample.protocol
        && usize::from(header.transport) == bytes.len() - sample.transport.len();
    is_as_meant.then_some(packet)
}

/// The facts are still those of the bytes.
fn check(packet: &Packet) -> Result<(), TestCaseError> {
    prop_assert_eq!(Header::parse(packet.bytes()), Ok(*packet.header()));
    Ok(())
}

fn fixed_sctp(sample: &Sample) -> Vec<u8> {
    let mut sample = sample.clone();
    sample.transport[8..12].fill(0);
    let mut crc = u32::MAX;
    for byte in &sample.transport {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    sample.transport[8..12].copy_from_slice(&(!crc).to_le_bytes());
    sample.bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_translated_packet_is_the_packet_written_anew(sample in sample(), end in end()) {
        let Some(mut packet) = parsed(&sample, &sample.bytes()) else {
            return Ok(());
        };
        let header = *packet.header();
        end.translate(&mut packet, &sample);
        let mut expected = sample.clone();
        end.apply(&mut expected, header.kind);
        let expected = match (header.kind, header.fragment) {
            (_, Fragment::Later) => {
                let mut bytes = sample.bytes();
                let at = usize::from(header.transport);
                bytes[..at].copy_from_slice(&expected.bytes()[..at]);
                bytes
            }
            (Kind::Sctp, Fragment::No) => fixed_sctp(&expected),
            _ => expected.bytes(),
        };
        prop_assert_eq!(packet.bytes(), expected);
        check(&packet)?;
    }

    #[test]
    fn a_udp_packet_without_checksum_never_gets_one(
        v6 in any::<bool>(), end in end(), payload in any::<[u8; 5]>(),
    ) {
        let without = |sample: &Sample| {
            let mut bytes = sample.bytes();
            let at = bytes.len() - sample.transport.len();
            bytes[at + 6..at + 8].fill(0);
            bytes
        };
        let mut sample = plain(v6, 17, udp((1, 2), &payload));
        let mut packet = parsed(&sample, &without(&sample)).unwrap();
        end.translate(&mut packet, &sample);
        end.apply(&mut sample, Kind::Udp);
        prop_assert_eq!(packet.bytes(), without(&sample));
    }

    #[test]
    fn a_partial_checksum_stays_the_sum_of_the_pseudo_header(
        v6 in any::<bool>(),
        is_tcp in any::<bool>(),
        ends in proptest::collection::vec(end(), 1..3),
        length in 1usize..2000,
    ) {
        let mut sample = if is_tcp {
            plain(v6, 6, tcp((1, 2), 3, 16, &[], &vec![7; length]))
        } else {
            plain(v6, 17, udp((1, 2), &vec![7; length]))
        };
        let mut packet = super_packet(&sample, 500);
        for end in ends {
            end.translate(&mut packet, &sample);
            end.apply(&mut sample, packet.header().kind);
            // A folded sum of ffff and of 0 is the same number.
            let again = super_packet(&sample, 500);
            prop_assert_eq!(packet.bytes(), again.bytes());
            prop_assert_eq!(packet.header(), again.header());
        }
    }

    #[test]
    fn ttl_and_ecn_change_nothing_but_themselves(sample in sample(), ecn in 0u8..4) {
        let sample = Sample { ttl: sample.ttl.max(2), ..sample };
        let Some(mut packet) = parsed(&sample, &sample.bytes()) else {
            return Ok(());
        };
        packet.decrement_ttl();
        packet.set_ecn(ecn);
        let expected = Sample { ttl: sample.ttl - 1, class: sample.class & !3 | ecn, ..sample };
        prop_assert_eq!(packet.bytes(), expected.bytes());
        check(&packet)?;
    }

    #[test]
    fn a_translated_quote_is_the_quote_written_anew(
        inner in sample(), end in end(), quoted in 0usize..200,
    ) {
        let Some(inner_packet) = parsed(&inner, &inner.bytes()) else {
            return Ok(());
        };
        let header = *inner_packet.header();
        // Half a checksum cannot be kept right.
        if quoted == usize::from(header.transport) + 17 {
            return Ok(());
        }
        let error = |inner: &Sample| {
            let mut quote = inner.bytes();
            quote.truncate(quoted);
            let (protocol, kind) = if inner.v6 { (58, 1) } else { (1, 3) };
            plain(inner.v6, protocol, icmp(kind, 1, [0; 4], &quote)).bytes()
        };
        let mut packet = Packet::parse(buf(&error(&inner)), Offload::default()).unwrap();
        let is_enough = quoted >= usize::from(header.transport) + 8
            && inner.transport.len() >= 8
            && header.kind != Kind::Unreadable;
        prop_assert_eq!(packet.embedded(), is_enough.then_some(header.flow));
        let mut expected = inner.clone();
        if is_enough {
            end.apply(&mut expected, header.kind);
        }
        if end.is_source {
            packet.set_embedded_source(end.address(&inner), end.port);
        } else {
            packet.set_embedded_destination(end.address(&inner), end.port);
        }
        prop_assert_eq!(packet.bytes(), error(&expected));
        check(&packet)?;
    }
}

#[test]
fn a_quote_with_an_udp_checksum_of_zero_keeps_it() {
    let mut inner = plain(false, 17, udp((1, 2), b"data")).bytes();
    inner[26..28].fill(0);
    let error = plain(false, 1, icmp(3, 3, [0; 4], &inner)).bytes();
    let mut packet = Packet::parse(buf(&error), Offload::default()).unwrap();
    packet.set_embedded_source(Address::from_v4([10, 0, 0, 1]), 99);
    let mut expected = plain(false, 17, udp((99, 2), b"data")).bytes();
    expected[12..16].copy_from_slice(&[10, 0, 0, 1]);
    expected[26..28].fill(0);
    fix_v4_checksum(&mut expected);
    let expected = plain(false, 1, icmp(3, 3, [0; 4], &expected)).bytes();
    assert_eq!(packet.bytes(), expected);
    assert_eq!(packet.embedded().unwrap().source_port, 99);
}

#[test]
fn checksums_that_pass_zero_are_written_as_a_full_sum_writes_them() {
    // Every destination port is tried, so both zeros come up on the way.
    for (protocol, transport) in [
        (6, tcp((1, 2), 3, 16, &[], b"data")),
        (17, udp((1, 2), b"data")),
    ] {
        let mut sample = plain(false, protocol, transport);
        let mut packet = Packet::parse(buf(&sample.bytes()), Offload::default()).unwrap();
        let address = packet.header().flow.destination;
        for port in 0..=u16::MAX {
            packet.set_destination(address, port);
            sample.transport[2..4].copy_from_slice(&port.to_be_bytes());
            assert_eq!(packet.bytes(), sample.bytes(), "port {port}");
        }
    }
}
