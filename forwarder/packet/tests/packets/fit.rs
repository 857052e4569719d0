//! What makes a packet fit its way: a SYN that announces less, and IPv4 fragments; etherparse and a
//! naive reader judge.

use etherparse::{Ipv4HeaderSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use packet::{Arena, Fragmenter, Header, Offload, Packet};
use proptest::prelude::*;

use crate::samples::{
    Sample, assert_right_checksums, buf, on_the_wire, plain, sample, super_packet, tcp, udp,
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

/// Options as etherparse reads them, and the maximum segment size among them.
fn options(packet: &[u8]) -> (Vec<TcpOptionElement>, Option<u16>) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("not TCP")
    };
    let all: Vec<_> = tcp.options_iterator().map_while(Result::ok).collect();
    let mss = all.iter().find_map(|option| match option {
        TcpOptionElement::MaximumSegmentSize(mss) => Some(*mss),
        _ => None,
    });
    let rest = all
        .into_iter()
        .filter(|option| !matches!(option, TcpOptionElement::MaximumSegmentSize(_)));
    (rest.collect(), mss)
}

/// A SYN or its answer: `before` no-operations, the announcement, and what Linux sends behind it.
fn syn(v6: bool, flags: u8, before: usize, mss: u16, payload: &[u8]) -> Sample {
    let mut options = vec![1; before];
    options.extend([2, 4]);
    options.extend(mss.to_be_bytes());
    options.extend([4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 9]);
    options.resize(options.len().next_multiple_of(4), 0);
    plain(v6, 6, tcp((40_000, 80), 7, flags, &options, payload))
}

fn parse(bytes: &[u8]) -> Packet {
    Packet::parse(buf(bytes), Offload::default()).unwrap()
}

proptest! {
    #[test]
    fn a_syn_announces_no_more_than_gets_through_and_never_more_than_it_did(
        (v6, answers, before) in (any::<bool>(), any::<bool>(), 0usize..6),
        (mss, mtu) in (any::<u16>(), prop_oneof![0usize..3_000, Just(65_535usize)]),
        payload in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let flags = if answers { SYN | ACK } else { SYN };
        let bytes = syn(v6, flags, before, mss, &payload).bytes();
        let mut packet = parse(&bytes);
        let most = mtu.saturating_sub(if v6 { 60 } else { 40 });
        let lowered = packet.clamp_mss(mtu);
        prop_assert_eq!(lowered, usize::from(mss) > most);
        let (before, after) = (options(&bytes), options(packet.bytes()));
        prop_assert_eq!(before.0, after.0);
        prop_assert_eq!(after.1.map(usize::from), Some(usize::from(mss).min(most)));
        assert_right_checksums(packet.bytes());
        prop_assert_eq!(Header::parse(packet.bytes()), Ok(*packet.header()));
        prop_assert!(lowered || packet.bytes() == bytes);
    }

    #[test]
    fn a_partial_checksum_stays_partial_and_comes_out_right(mss in 1_300u16.., before in 0usize..4) {
        let sample = syn(false, SYN, before, mss, &[9; 40]);
        // Twice as long as the payload: one segment, so a plain packet with its checksum open.
        let mut packet = super_packet(&sample, 80);
        prop_assert!(packet.clamp_mss(1_240));
        packet.finish_checksum();
        prop_assert_eq!(options(packet.bytes()).1, Some(1_200));
        assert_right_checksums(packet.bytes());
    }

    #[test]
    fn what_is_no_syn_and_what_cannot_be_read_stays_as_it_is(sample in sample(), mtu in 0usize..2_000) {
        let bytes = sample.bytes();
        let Ok(mut packet) = Packet::parse(buf(&bytes), Offload::default()) else {
            return Ok(());
        };
        let is_syn = packet.header().tcp_flags & SYN != 0;
        if !packet.clamp_mss(mtu) {
            prop_assert_eq!(packet.bytes(), &bytes[..packet.bytes().len()]);
        } else {
            prop_assert!(is_syn);
            let changed = packet.bytes().iter().zip(&bytes).filter(|(a, b)| a != b);
            prop_assert!(changed.count() <= 4, "the announcement and the checksum");
        }
        prop_assert_eq!(Header::parse(packet.bytes()), Ok(*packet.header()));
    }

    #[test]
    fn tcp_that_is_cut_smaller_is_the_same_stream_in_more_segments(
        (v6, sequence, size) in (any::<bool>(), any::<u32>(), 200u16..2_000),
        (length, mtu, flags) in (1usize..9_000, 150usize..2_000, 0u8..4),
        is_super in any::<bool>(),
    ) {
        let flags = ACK | if flags & 1 == 0 { 0 } else { FIN } | if flags & 2 == 0 { 0 } else { PSH };
        // The time stamps that Linux sends (RFC 7323 §3.2).
        let options = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let payload: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
        let sample = plain(v6, 6, tcp((40_000, 80), sequence, flags, &options, &payload));
        let mut packet = match is_super {
            true => super_packet(&sample, size),
            false => parse(&sample.bytes()),
        };
        prop_assert!(packet.can_resegment(mtu));
        packet.resegment(mtu);
        let segments = on_the_wire(&packet);
        prop_assert_eq!(segments.len(), packet.segments());
        let mut together: Vec<u8> = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            prop_assert!(segment.len() <= mtu);
            assert_right_checksums(segment);
            let header = Header::parse(segment).unwrap();
            let sliced = SlicedPacket::from_ip(segment).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
                panic!("not TCP")
            };
            let at = sequence.wrapping_add(together.len() as u32);
            prop_assert_eq!(tcp.sequence_number(), at);
            prop_assert_eq!(tcp.options(), options);
            let last = number + 1 == segments.len();
            let seen = header.tcp_flags & (FIN | PSH);
            prop_assert_eq!(seen, if last { flags & (FIN | PSH) } else { 0 });
            together.extend(tcp.payload());
        }
        prop_assert_eq!(together, payload);
    }

    #[test]
    fn fragments_are_no_longer_than_they_may_be_and_together_what_was_cut(
        (identifier, length) in (any::<u16>(), 0usize..5_000),
        (mtu, offset, more) in (68usize..2_000, 0u16..600, any::<bool>()),
        options in prop_oneof![
            Just(Vec::new()),
            // Router alert is copied, record route is not (RFC 791 §3.1).
            Just(vec![148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0]),
            Just(vec![7, 3, 4, 1, 1, 148, 4, 0, 0, 0, 0, 0]),
        ],
    ) {
        let length = if more { length / 8 * 8 + 8 } else { length + 1 };
        let mut sample = plain(false, 250, (0..length).map(|n| n as u8).collect());
        sample.fragment = offset | if more { 0x2000 } else { 0 };
        (sample.identifier, sample.options) = (identifier, options);
        let bytes = sample.bytes();
        let packet = parse(&bytes);
        let mut arena = Arena::new(0, 1);
        let mut into = arena.take().unwrap();
        let mut fragmenter = Fragmenter::new(&packet, mtu).unwrap();
        let mut together: Vec<u8> = Vec::new();
        let mut first = true;
        while fragmenter.remaining() > 0 {
            fragmenter.next(&mut into);
            let fragment = into.as_slice();
            prop_assert!(fragment.len() <= mtu || fragment == bytes);
            let header = Ipv4HeaderSlice::from_slice(fragment).unwrap().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!(usize::from(header.total_len), fragment.len());
            prop_assert_eq!(header.identification, identifier);
            let at = usize::from(header.fragment_offset.value()) * 8;
            prop_assert_eq!(at, usize::from(offset) * 8 + together.len());
            together.extend(&fragment[header.header_len()..]);
            let last = fragmenter.remaining() == 0;
            prop_assert_eq!(header.more_fragments, more || !last);
            let kept = fragment[20..header.header_len()].windows(2).any(|w| w == [148, 4]);
            prop_assert_eq!(kept, !sample.options.is_empty());
            if first {
                prop_assert_eq!(&fragment[20..header.header_len()], &sample.options[..]);
            } else {
                prop_assert!(header.header_len() <= 24);
            }
            prop_assert!(Header::parse(fragment).is_ok());
            first = false;
        }
        prop_assert_eq!(together, sample.transport);
        fragmenter.next(&mut into);
        prop_assert!(into.is_empty());
        arena.put(into);
    }
}

#[test]
fn what_must_not_be_cut_is_not() {
    let v4 = plain(false, 17, udp((1, 2), &[0; 3_000]));
    assert!(
        Fragmenter::new(&parse(&v4.bytes()), 1_400).is_none(),
        "it says DF"
    );
    let v6 = plain(true, 17, udp((1, 2), &[0; 3_000]));
    assert!(Fragmenter::new(&parse(&v6.bytes()), 1_400).is_none());
    let mut free = v4.clone();
    free.fragment = 0;
    assert!(Fragmenter::new(&parse(&free.bytes()), 1_400).is_some());
    assert!(Fragmenter::new(&parse(&free.bytes()), 67).is_none());
    let whole = super_packet(&free, 1_000);
    assert!(
        Fragmenter::new(&whole, 1_400).is_none(),
        "to be cut into segments"
    );
}

#[test]
fn what_counts_as_one_whole_segment_is_not_cut_smaller() {
    let segment = |flags, options: &[u8]| {
        let transport = tcp((1, 2), 7, flags, options, &[9; 1_000]);
        plain(true, 6, transport).bytes()
    };
    assert!(parse(&segment(ACK, &[])).can_resegment(600));
    for flags in [SYN, RST | ACK, URG | ACK] {
        assert!(!parse(&segment(flags, &[])).can_resegment(600), "{flags}");
    }
    // Signatures (RFC 2385, RFC 5925), and what cannot be read to its end.
    for options in [
        &[19, 4, 0, 0],
        &[1, 29, 3, 0],
        &[8, 40, 0, 0],
        &[5, 1, 0, 0],
    ] {
        let packet = parse(&segment(ACK, options));
        assert!(!packet.can_resegment(600), "{options:?}");
    }
    let mut broken = segment(ACK, &[]);
    broken[70] ^= 1;
    let mut packet = parse(&broken);
    packet.resegment(600);
    assert_eq!(packet.segments(), 1, "a wrong checksum would be made right");
    let udp = parse(&plain(true, 17, udp((1, 2), &[0; 1_000])).bytes());
    assert!(!udp.can_resegment(600));
    assert!(
        !parse(&segment(ACK, &[])).can_resegment(100),
        "hardly a byte a piece"
    );
}
