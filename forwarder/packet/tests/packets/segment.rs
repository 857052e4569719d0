//! Segmentation, held against what the kernel's does, rule by rule, with etherparse as the judge
//! of checksums.

use etherparse::TcpSlice;
use packet::{Checksum, Header, Malformed, Offload, Packet, Segmentation, SegmentationKind};
use proptest::prelude::*;

use crate::samples::{
    Sample, assert_right_checksums, buf, on_the_wire, plain, super_packet, tcp, udp,
};

const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const CWR: u8 = 128;

fn super_sample() -> impl Strategy<Value = (Sample, u16)> {
    (
        any::<(bool, bool, u16, u32, u8)>(),
        proptest::collection::vec(any::<[u8; 4]>(), 0..10),
        proptest::collection::vec(any::<u8>(), 1..6000),
        1u16..1500,
    )
        .prop_map(
            |((v6, is_tcp, identifier, sequence, flags), options, payload, size)| {
                let mut sample = if is_tcp {
                    plain(
                        v6,
                        6,
                        tcp((1, 2), sequence, flags, &options.concat(), &payload),
                    )
                } else {
                    plain(v6, 17, udp((1, 2), &payload))
                };
                sample.identifier = identifier;
                sample.class = flags;
                (sample, size)
            },
        )
}

fn tcp_of(bytes: &[u8]) -> TcpSlice<'_> {
    let header = Header::parse(bytes).unwrap();
    TcpSlice::from_slice(&bytes[usize::from(header.transport)..]).unwrap()
}

proptest! {
    #[test]
    fn every_segment_is_a_packet_with_right_lengths_and_checksums(
        (sample, size) in super_sample(),
    ) {
        let packet = super_packet(&sample, size);
        let segments = on_the_wire(&packet);
        prop_assert_eq!(segments.len(), packet.segments());
        for (index, segment) in segments.iter().enumerate() {
            let header = Header::parse(segment).unwrap();
            prop_assert_eq!(header.length as usize, segment.len());
            prop_assert!(segment.len() <= packet.segment_length());
            prop_assert_eq!(header.flow, packet.header().flow);
            if index + 1 < segments.len() {
                prop_assert_eq!(header.payload_length(), usize::from(size));
            }
            assert_right_checksums(segment);
        }
    }

    #[test]
    fn the_segments_payloads_are_the_payload(( sample, size) in super_sample()) {
        let packet = super_packet(&sample, size);
        let payload: Vec<u8> = on_the_wire(&packet)
            .iter()
            .flat_map(|segment| {
                let header = Header::parse(segment).unwrap();
                segment[usize::from(header.payload)..].to_vec()
            })
            .collect();
        prop_assert_eq!(&payload[..], &packet.bytes()[usize::from(packet.header().payload)..]);
    }
}

#[test]
fn ipv4_identifiers_count_up_and_wrap_round() {
    for sample in [
        plain(false, 6, tcp((1, 2), 3, ACK, &[], &[7; 250])),
        plain(false, 17, udp((1, 2), &[7; 250])),
    ] {
        let sample = Sample {
            identifier: 0xffff,
            ..sample
        };
        let identifiers: Vec<[u8; 2]> = on_the_wire(&super_packet(&sample, 100))
            .iter()
            .map(|segment| [segment[4], segment[5]])
            .collect();
        assert_eq!(identifiers, [[0xff, 0xff], [0, 0], [0, 1]]);
    }
}

#[test]
fn cwr_is_on_the_first_segment_and_fin_and_psh_are_on_the_last() {
    let sample = plain(
        true,
        6,
        tcp((1, 2), u32::MAX - 99, FIN | PSH | ACK | CWR, &[], &[7; 250]),
    );
    let segments = on_the_wire(&super_packet(&sample, 100));
    let flags: Vec<u8> = segments.iter().map(|s| tcp_of(s).slice()[13]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | FIN | PSH]);
    let sequences: Vec<u32> = segments
        .iter()
        .map(|s| tcp_of(s).sequence_number())
        .collect();
    assert_eq!(sequences, [u32::MAX - 99, 0, 100]);
}

#[test]
fn a_udp_segment_whose_sum_is_zero_says_ffff() {
    // What the checksum of the segment would be goes into its payload, and the sum is zero.
    let mut sample = plain(false, 17, udp((1, 2), &[0; 200]));
    let first = &on_the_wire(&super_packet(&sample, 100))[0];
    let sum = [first[26], first[27]];
    sample.transport[8..10].copy_from_slice(&sum);
    let segments = on_the_wire(&super_packet(&sample, 100));
    assert_eq!(segments[0][26..28], [0xff, 0xff]);
    assert_right_checksums(&segments[0]);
}

#[test]
fn a_plain_packet_gives_itself_with_its_checksum_finished() {
    for v6 in [false, true] {
        for sample in [
            plain(v6, 6, tcp((1, 2), 3, ACK, &[], b"some data")),
            plain(v6, 17, udp((1, 2), b"some data")),
        ] {
            let whole = super_packet(&sample, 1000);
            assert_eq!((whole.segments(), whole.offload().segmentation), (1, None));
            assert_eq!(on_the_wire(&whole), [sample.bytes()]);
            let mut whole = whole;
            whole.finish_checksum();
            assert_eq!(whole.bytes(), sample.bytes());
            assert_eq!(whole.offload().checksum, Checksum::Complete);
        }
    }
}

#[test]
fn an_inner_checksum_of_a_tunnel_of_the_pod_is_finished_at_once() {
    // UDP in UDP: the outer one complete, the inner one's field holding the sum of nothing.
    let inner = plain(false, 17, udp((3, 4), b"data"));
    let packet = super_packet(&inner, 1000);
    let outer = plain(false, 17, udp((1, 2), packet.bytes()));
    let offload = Offload {
        checksum: Checksum::Partial {
            start: 28 + 20,
            offset: 6,
        },
        segmentation: None,
    };
    let packet = Packet::parse(buf(&outer.bytes()), offload).unwrap();
    assert_eq!(packet.offload().checksum, Checksum::Complete);
    assert_eq!(packet.bytes()[28..], inner.bytes());
}

#[test]
fn a_device_that_says_what_cannot_be_is_refused() {
    let tcp = plain(false, 6, tcp((1, 2), 3, ACK, &[], &[7; 250]));
    let mut fragment = plain(false, 17, udp((1, 2), &[7; 248]));
    fragment.fragment = 0x2000;
    let mut trailing = plain(false, 17, udp((1, 2), &[7; 248]));
    trailing.transport.push(0);
    let segmentation = |kind, size| Offload {
        segmentation: Some(Segmentation { kind, size }),
        ..Offload::default()
    };
    let partial = |start, offset| Offload {
        checksum: Checksum::Partial { start, offset },
        segmentation: None,
    };
    for (sample, offload) in [
        (&tcp, segmentation(SegmentationKind::Tcp, 0)),
        (&tcp, segmentation(SegmentationKind::Udp, 100)),
        (&fragment, segmentation(SegmentationKind::Udp, 100)),
        (&trailing, segmentation(SegmentationKind::Udp, 100)),
        (&tcp, partial(20, 269)),
        (&tcp, partial(u16::MAX, u16::MAX)),
        (&tcp, partial(0, 10)),
    ] {
        let (_, reason) = Packet::parse(buf(&sample.bytes()), offload).unwrap_err();
        assert_eq!(reason, Malformed::Offload, "{offload:?}");
    }
}
