//! Whatever passes the parse, with whatever a device says about it, can be handled without a panic
//! and stays what its facts say.

use packet::{
    Address, Arena, Checksum, Coalescer, Complaint, Fragment, Header, Kind, Offload, Packet,
    Segmentation, SegmentationKind, echo_reply, icmp_error, reset_for,
};
use proptest::prelude::*;

use crate::samples::{buf, fix_v4_checksum, on_the_wire, sample};

fn offload() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        Just(Checksum::Complete),
        (0u16..100, 0u16..30).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        (
            proptest::sample::select(&[20u16, 40][..]),
            proptest::sample::select(&[6u16, 16][..])
        )
            .prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        any::<(u16, u16)>().prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ];
    let kind = proptest::sample::select(
        &[
            SegmentationKind::Tcp,
            SegmentationKind::TcpEcn,
            SegmentationKind::Udp,
        ][..],
    );
    let segmentation =
        proptest::option::of((kind, 0u16..40).prop_map(|(kind, size)| Segmentation { kind, size }));
    (checksum, segmentation).prop_map(|(checksum, segmentation)| Offload {
        checksum,
        segmentation,
    })
}

/// Everything that can be done to a packet.
pub(crate) fn handle(bytes: &[u8], offload: Offload) -> Result<(), TestCaseError> {
    let before = buf(bytes);
    let mut packet = match Packet::parse(before, offload) {
        Ok(packet) => packet,
        Err((buf, _)) => {
            prop_assert!(buf.len() <= bytes.len());
            return Ok(());
        }
    };
    let header = *packet.header();
    let other = if header.is_v4() {
        Address::from_v4([10, 9, 8, 7])
    } else {
        Address::from_v6([0x20; 16])
    };
    for complaint in [Complaint::TimeExceeded, Complaint::PacketTooBig { mtu: 0 }] {
        let mut into = buf(&[]);
        if icmp_error(&packet, complaint, other, &mut into) {
            prop_assert!(Header::parse(into.as_slice()).is_ok());
        }
    }
    let mut into = buf(&[]);
    if echo_reply(&packet, &mut into) {
        prop_assert!(Header::parse(into.as_slice()).is_ok());
    }
    if reset_for(&packet, &mut into) {
        let answer = Header::parse(into.as_slice());
        prop_assert_eq!(answer.map(|answer| answer.flow), Ok(header.flow.reverse()));
    }
    if let Some(flow) = packet.embedded() {
        packet.set_embedded_source(other, 1);
        packet.set_embedded_destination(other, 1);
        let now = packet.embedded().unwrap();
        prop_assert_eq!((now.source, now.destination), (other, other));
        prop_assert_eq!(now.protocol, flow.protocol);
    }
    facts_beside_the_header(&packet)?;
    packet.set_ecn(3);
    if header.ttl > 1 {
        packet.decrement_ttl();
    }
    packet.set_source(other, 7);
    packet.set_destination(other, 7);
    prop_assert_eq!(Header::parse(packet.bytes()), Ok(*packet.header()));
    let segments = on_the_wire(&packet);
    prop_assert_eq!(segments.len(), packet.segments());
    let mut arena = Arena::new(0, segments.len());
    let mut coalescer = Coalescer::new(2);
    let mut out = Vec::new();
    for segment in &segments {
        let header = Header::parse(segment).unwrap();
        prop_assert_eq!(header.flow, packet.header().flow);
        prop_assert!(segment.len() <= packet.segment_length());
        let pushed = coalescer.push(segment, &header, 0, &mut arena, &mut out);
        prop_assert!(pushed.is_ok());
    }
    coalescer.flush(&mut out);
    let again: Vec<Vec<u8>> = out.iter().flat_map(|(_, p)| on_the_wire(p)).collect();
    prop_assert_eq!(again, segments);
    packet.finish_checksum();
    prop_assert_eq!(packet.into_buf().len(), header.length as usize);
    Ok(())
}

/// What is read only where it is needed agrees with the rest.
fn facts_beside_the_header(packet: &Packet) -> Result<(), TestCaseError> {
    let header = packet.header();
    let piece = packet.piece();
    prop_assert_eq!(piece.is_some(), header.fragment != Fragment::No);
    if let Some(piece) = piece {
        prop_assert_eq!(piece.start == 0, header.fragment == Fragment::First);
        prop_assert!(piece.start < piece.end);
        prop_assert!(piece.last || piece.end.is_multiple_of(8));
        prop_assert!(u32::from(piece.end - piece.start) < header.length);
    }
    prop_assert_eq!(packet.sequence().is_some(), header.kind == Kind::Tcp);
    let quotes_tcp = packet.embedded().is_some_and(|flow| flow.protocol == 6);
    prop_assert_eq!(packet.embedded_sequence().is_some(), quotes_tcp);
    let is_error = header.kind == Kind::IcmpError;
    prop_assert!(packet.too_big_v6().is_none() || (is_error && !header.is_v4()));
    prop_assert!(!packet.lacks_checksum_v6() || header.kind == Kind::Udp);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_passes_the_parse_can_be_handled(
        sample in sample(),
        changes in proptest::collection::vec((0usize..100, any::<u8>()), 0..3),
        offload in offload(),
    ) {
        let mut bytes = sample.bytes();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if bytes[0] >> 4 == 4 {
            fix_v4_checksum(&mut bytes);
        }
        handle(&bytes, offload)?;
    }

    #[test]
    fn noise_does_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        offload in offload(),
    ) {
        handle(&bytes, offload)?;
    }
}
