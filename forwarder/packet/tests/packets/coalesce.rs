//! Coalescing: cutting what comes out gives back what went in, byte for byte and in order.

use packet::{Arena, Coalescer, Flow, Header, NoBuffer, Packet, SEGMENTS_MAX};
use proptest::prelude::*;

use crate::samples::{Sample, on_the_wire, plain, tcp, udp};

const ACK: u8 = 16;
const PSH: u8 = 8;
const FIN: u8 = 1;

/// Puts packets through a coalescer with one flush at the end.
pub(crate) fn coalesce(packets: &[(u32, Vec<u8>)], slots: usize) -> Vec<(u32, Packet)> {
    let mut arena = Arena::new(0, packets.len());
    let mut coalescer = Coalescer::new(slots);
    let mut out = Vec::new();
    for (tag, bytes) in packets {
        let header = Header::parse(bytes).unwrap();
        coalescer
            .push(bytes, &header, *tag, &mut arena, &mut out)
            .unwrap();
        assert!(coalescer.open() <= slots);
    }
    coalescer.flush(&mut out);
    assert_eq!(coalescer.open(), 0);
    for (_, packet) in &out {
        check(packet);
    }
    assert_eq!(arena.lent(), out.len());
    out
}

/// A packet that was put together is as a parse of its bytes would have it.
fn check(packet: &Packet) {
    let mut buf = Arena::new(0, 1).take().unwrap();
    buf.extend(packet.bytes());
    let again = Packet::parse(buf, *packet.offload()).unwrap();
    assert_eq!(again.header(), packet.header());
    assert_eq!(again.offload(), packet.offload());
    assert_eq!(again.segments(), packet.segments());
    assert!(packet.segments() <= SEGMENTS_MAX && packet.bytes().len() <= 65_535);
}

pub(crate) fn cut(packets: &[(u32, Packet)]) -> Vec<(u32, Vec<u8>)> {
    packets
        .iter()
        .flat_map(|(tag, packet)| on_the_wire(packet).into_iter().map(|bytes| (*tag, bytes)))
        .collect()
}

/// A run of segments of one flow, as a sender's stack makes it.
fn run(v6: bool, first: u32, flags: &[u8], length: usize) -> Vec<(u32, Vec<u8>)> {
    flags
        .iter()
        .enumerate()
        .map(|(index, flags)| {
            let sequence = first.wrapping_add((index * length) as u32);
            let mut sample = plain(v6, 6, tcp((1, 2), sequence, *flags, &[], &vec![7; length]));
            sample.identifier = index as u16;
            (0, sample.bytes())
        })
        .collect()
}

#[test]
fn segments_in_sequence_become_one_super_packet() {
    for v6 in [false, true] {
        let packets = run(v6, u32::MAX - 150, &[ACK, ACK, ACK | PSH], 100);
        let out = coalesce(&packets, 4);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].1.segments(), 3);
        assert_eq!(cut(&out), packets);
    }
}

#[test]
fn psh_and_a_short_segment_end_a_super_packet() {
    let packets = run(false, 0, &[ACK, ACK | PSH, ACK, ACK], 100);
    let counts = |out: &[(u32, Packet)]| out.iter().map(|(_, p)| p.segments()).collect::<Vec<_>>();
    assert_eq!(counts(&coalesce(&packets, 4)), [2, 2]);
    let mut packets = run(false, 0, &[ACK, ACK], 100);
    packets.push((0, {
        let mut short = plain(false, 6, tcp((1, 2), 200, ACK, &[], &[7; 99]));
        short.identifier = 2;
        short.bytes()
    }));
    packets.push((0, {
        let mut behind = plain(false, 6, tcp((1, 2), 299, ACK, &[], &[7; 99]));
        behind.identifier = 3;
        behind.bytes()
    }));
    assert_eq!(counts(&coalesce(&packets, 4)), [3, 1]);
}

#[test]
fn what_differs_in_anything_but_its_place_is_not_merged() {
    let changes: [&dyn Fn(&mut Sample); 9] = [
        &|s| s.ttl = 63,
        &|s| s.class = 1,
        &|s| s.class = 0x28,
        &|s| s.identifier = 5,
        &|s| s.fragment = 0,
        &|s| s.transport[4..8].copy_from_slice(&101u32.to_be_bytes()),
        &|s| s.transport[11] += 1,
        &|s| s.transport[15] += 1,
        &|s| s.transport[13] = ACK | FIN,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut packets = run(false, 0, &[ACK], 100);
        let mut second = plain(false, 6, tcp((1, 2), 100, ACK, &[], &[7; 100]));
        second.identifier = 1;
        packets.push((0, second.bytes()));
        assert_eq!(coalesce(&packets, 4).len(), 1, "as it is, it is merged");
        change(&mut second);
        packets[1].1 = second.bytes();
        let out = coalesce(&packets, 4);
        assert_eq!(out.len(), 2, "change {index}");
        assert_eq!(cut(&out), packets);
    }
}

#[test]
fn a_wrong_checksum_stays_wrong_and_alone() {
    let mut packets = run(false, 0, &[ACK, ACK, ACK], 100);
    packets[1].1[60] ^= 1;
    let out = coalesce(&packets, 4);
    assert_eq!(out.len(), 3);
    assert_eq!(cut(&out), packets);
}

#[test]
fn different_tcp_options_are_not_merged() {
    let segment = |index: u16, timestamp: u8| {
        let options = [1, 1, 8, 10, 0, 0, 0, timestamp, 0, 0, 0, 9];
        let sequence = u32::from(index) * 100;
        let mut sample = plain(false, 6, tcp((1, 2), sequence, ACK, &options, &[7; 100]));
        sample.identifier = index;
        (0, sample.bytes())
    };
    let packets = [segment(0, 5), segment(1, 5), segment(2, 6)];
    let out = coalesce(&packets, 4);
    assert_eq!(out.len(), 2);
    assert_eq!(cut(&out), packets);
}

// ffff is as good as 0 in one's complement, but no sum gives it, so cutting could not.
#[test]
fn a_tcp_checksum_of_ffff_stays_as_it_is() {
    let mut packets = run(false, 0, &[ACK, ACK, ACK], 100);
    let mut second = plain(false, 6, tcp((1, 2), 100, ACK, &[], &[7; 100]));
    second.identifier = 1;
    second.transport[20..22].fill(0);
    let sum = [second.bytes()[36], second.bytes()[37]];
    second.transport[20..22].copy_from_slice(&sum);
    packets[1].1 = second.bytes();
    assert_eq!(packets[1].1[36..38], [0, 0]);
    assert_eq!(coalesce(&packets, 4).len(), 1, "as it is, it is merged");
    packets[1].1[36..38].fill(0xff);
    assert_eq!(cut(&coalesce(&packets, 4)), packets);
}

#[test]
fn an_ipv4_checksum_of_ffff_stays_as_it_is() {
    let with_identifier = |sequence: u32, identifier: u16| {
        let mut sample = plain(false, 6, tcp((1, 2), sequence, ACK, &[], &[7; 100]));
        sample.identifier = identifier;
        (0, sample.bytes())
    };
    let (_, bytes) = with_identifier(0, 0);
    let identifier = u16::from_be_bytes([bytes[10], bytes[11]]);
    let mut packets = [
        with_identifier(0, identifier),
        with_identifier(100, identifier + 1),
    ];
    assert_eq!(packets[0].1[10..12], [0, 0]);
    assert_eq!(coalesce(&packets, 4).len(), 1, "as it is, it is merged");
    packets[0].1[10..12].fill(0xff);
    assert_eq!(cut(&coalesce(&packets, 4)), packets);
}

#[test]
fn packets_of_different_tags_are_never_merged_and_stay_in_order() {
    let mut packets = run(false, 0, &[ACK, ACK, ACK], 100);
    packets[1].0 = 1;
    let out = coalesce(&packets, 4);
    assert_eq!(out.len(), 3);
    assert_eq!(cut(&out), packets);
}

#[test]
fn a_fragment_waits_for_everything_between_its_addresses() {
    let mut packets = run(false, 0, &[ACK, ACK], 100);
    let mut fragment = plain(false, 6, vec![7; 100]);
    fragment.fragment = 50;
    packets.push((0, fragment.bytes()));
    let out = coalesce(&packets, 4);
    assert_eq!(out.len(), 2);
    assert_eq!(cut(&out), packets);
}

#[test]
fn a_super_packet_has_its_limits() {
    let out = coalesce(&run(false, 0, &[ACK; 150], 10), 4);
    let counts: Vec<usize> = out.iter().map(|(_, packet)| packet.segments()).collect();
    assert_eq!(counts, [64, 64, 22]);
    let out = coalesce(&run(true, 0, &[ACK; 60], 1400), 4);
    let counts: Vec<usize> = out.iter().map(|(_, packet)| packet.segments()).collect();
    assert_eq!(counts, [46, 14]);
}

#[test]
fn without_a_buffer_only_the_new_packet_is_lost() {
    let mut arena = Arena::new(0, 1);
    let mut coalescer = Coalescer::new(4);
    let mut out = Vec::new();
    let mut push = |coalescer: &mut Coalescer, bytes: &[u8]| {
        let header = Header::parse(bytes).unwrap();
        coalescer.push(bytes, &header, 0, &mut arena, &mut out)
    };
    let packets = run(false, 0, &[ACK, ACK], 100);
    assert_eq!(push(&mut coalescer, &packets[0].1), Ok(()));
    let other = plain(false, 17, udp((1, 2), b"data")).bytes();
    assert_eq!(push(&mut coalescer, &other), Err(NoBuffer));
    assert_eq!(push(&mut coalescer, &packets[1].1), Ok(()));
    coalescer.flush(&mut out);
    assert_eq!(cut(&out), packets);
}

#[test]
fn what_has_begun_to_grow_outlives_the_flush_of_single_packets() {
    let mut arena = Arena::new(0, 3);
    let mut coalescer = Coalescer::new(4);
    let mut out = Vec::new();
    let mut push = |coalescer: &mut Coalescer, bytes: &[u8], out: &mut Vec<_>| {
        let header = Header::parse(bytes).unwrap();
        let pushed = coalescer.push(bytes, &header, 0, &mut arena, out);
        assert_eq!(pushed, Ok(()));
    };
    let packets = run(false, 0, &[ACK; 4], 100);
    let other = plain(false, 17, udp((1, 2), b"data")).bytes();
    push(&mut coalescer, &packets[0].1, &mut out);
    push(&mut coalescer, &other, &mut out);
    push(&mut coalescer, &packets[1].1, &mut out);
    coalescer.flush_singles(&mut out);
    assert_eq!(cut(&out), [(0, other)]);
    assert_eq!((coalescer.open(), coalescer.segments()), (1, 2));
    out.clear();
    push(&mut coalescer, &packets[2].1, &mut out);
    push(&mut coalescer, &packets[3].1, &mut out);
    coalescer.flush(&mut out);
    assert_eq!((out.len(), coalescer.segments()), (1, 0));
    assert_eq!(cut(&out), packets);
}

#[test]
fn datagrams_of_one_size_become_one_super_packet() {
    for v6 in [false, true] {
        let datagram = |identifier: u16, length: usize| {
            let mut sample = plain(v6, 17, udp((1, 2), &vec![7; length]));
            sample.identifier = identifier;
            (0, sample.bytes())
        };
        let packets = [
            datagram(0, 1200),
            datagram(1, 1200),
            datagram(2, 300),
            datagram(3, 1200),
            datagram(4, 1201),
        ];
        let out = coalesce(&packets, 4);
        let counts: Vec<usize> = out.iter().map(|(_, packet)| packet.segments()).collect();
        assert_eq!(counts, [3, 1, 1]);
        assert_eq!(cut(&out), packets);
    }
}

#[test]
fn a_datagram_without_checksum_or_with_bytes_behind_it_stays_alone() {
    let datagram = |identifier: u16| {
        let mut sample = plain(false, 17, udp((1, 2), &[7; 100]));
        sample.identifier = identifier;
        sample
    };
    let mut without = datagram(1).bytes();
    without[26..28].fill(0);
    let mut behind = datagram(3);
    behind.transport.push(0);
    let packets = [
        (0, datagram(0).bytes()),
        (0, without),
        (0, datagram(2).bytes()),
        (0, behind.bytes()),
        (0, datagram(4).bytes()),
    ];
    let out = coalesce(&packets, 4);
    assert_eq!(out.len(), 5);
    assert_eq!(cut(&out), packets);
}

/// One step of a few interleaved senders, most of them well-behaved.
#[derive(Clone, Debug)]
struct Step {
    flow: u16,
    length: usize,
    flags: u8,
    /// 0: go on as a good sender does; else something is different.
    trouble: u8,
    tag: u32,
}

fn step() -> impl Strategy<Value = Step> {
    (
        0u16..5,
        prop_oneof![6 => Just(100usize), 1 => 0usize..150],
        prop_oneof![8 => Just(ACK), 2 => Just(ACK | PSH), 1 => any::<u8>()],
        prop_oneof![12 => Just(0u8), 1 => 1u8..9],
        prop_oneof![20 => Just(0u32), 1 => Just(1u32)],
    )
        .prop_map(|(flow, length, flags, trouble, tag)| Step {
            flow,
            length,
            flags,
            trouble,
            tag,
        })
}

fn packets(v6: bool, steps: &[Step]) -> Vec<(u32, Vec<u8>)> {
    let mut next = [(0u32, 0u16); 5];
    steps
        .iter()
        .map(|step| {
            let (sequence, identifier) = &mut next[usize::from(step.flow)];
            if step.trouble == 1 {
                *sequence += 7;
            }
            let payload: Vec<u8> = (0..step.length).map(|i| i as u8).collect();
            let ports = (step.flow, 80);
            let mut sample = match step.trouble {
                2 => plain(v6, 17, udp(ports, &payload)),
                // Two of the senders speak UDP.
                _ if step.flow > 2 => plain(v6, 17, udp(ports, &payload)),
                _ => plain(v6, 6, tcp(ports, *sequence, step.flags, &[1; 4], &payload)),
            };
            sample.identifier = *identifier;
            match step.trouble {
                3 => sample.ttl = 3,
                4 if !v6 => sample.fragment = 0x0010,
                5 => sample.options = vec![1; 4],
                6 => sample.identifier += 9,
                _ => {}
            }
            let mut bytes = sample.bytes();
            match step.trouble {
                // A checksum that is wrong, and one that is right in the unusual way.
                7 => *bytes.last_mut().unwrap() ^= 0xff,
                8 if !v6 => bytes.extend([0xaa; 9]),
                _ => {}
            }
            *sequence = sequence.wrapping_add(step.length as u32);
            *identifier = identifier.wrapping_add(1);
            (step.tag, bytes)
        })
        .collect()
}

pub(crate) fn flow(bytes: &[u8]) -> Flow {
    Header::parse(bytes).unwrap().flow
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn cutting_gives_back_every_flow_byte_for_byte_and_in_order(
        v6 in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
        slots in 1usize..6,
    ) {
        let packets = packets(v6, &steps);
        let mut before: Vec<(u32, Vec<u8>)> = packets
            .iter()
            .map(|(tag, bytes)| {
                let length = Header::parse(bytes).unwrap().length as usize;
                (*tag, bytes[..length].to_vec())
            })
            .collect();
        let mut after = cut(&coalesce(&packets, slots));
        // A stable sort: the order within a flow stays.
        before.sort_by_key(|(_, bytes)| flow(bytes));
        after.sort_by_key(|(_, bytes)| flow(bytes));
        prop_assert_eq!(after, before);
    }
}
