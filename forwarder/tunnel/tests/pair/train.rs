//! Super-packets, trains and marks.

use packet::{
    Address, Buf, Offload, Packet, Segmentation, SegmentationKind, Segmenter, checksum,
    echo_request,
};
use tunnel::Refused;

use crate::world::{LEFT, RIGHT, World, millis};

/// A TCP super-packet with a complete checksum field of no worth: segmenting finishes it.
pub(crate) fn super_packet(mut buf: Buf, payload: usize, size: u16) -> Packet {
    let mut bytes = vec![0; 40 + payload];
    bytes[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    bytes[2..4].copy_from_slice(&(40 + payload as u16).to_be_bytes());
    let sum = checksum::internet(&bytes[..20]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes[20..40].copy_from_slice(&[
        0, 80, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
    ]);
    for (number, byte) in bytes[40..].iter_mut().enumerate() {
        *byte = number as u8;
    }
    buf.extend(&bytes);
    let offload = Offload {
        checksum: packet::Checksum::Partial {
            start: 20,
            offset: 16,
        },
        segmentation: Some(Segmentation {
            kind: SegmentationKind::Tcp,
            size,
        }),
    };
    Packet::parse(buf, offload).unwrap()
}

fn segments(packet: &Packet) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(packet);
    let mut all = Vec::new();
    let mut bytes = vec![0; 70_000];
    while let Some(length) = segmenter.next(&mut bytes) {
        all.push(bytes[..length].to_vec());
    }
    all
}

#[test]
fn a_super_packet_leaves_as_one_train_and_comes_out_as_its_segments() {
    let mut world = World::connected();
    let buf = world.sides[LEFT].out.arena.take().unwrap();
    let packet = super_packet(buf, 40_000, 1_380);
    let expected = segments(&packet);
    assert_eq!(expected.len(), 29);
    world.seal(LEFT, packet);
    assert_eq!(world.wire.len(), 1);
    let letter = world.wire.front().unwrap();
    assert_eq!((letter.frames(), letter.stride), (29, 16 + 1_424 + 16));
    world.run(millis(20));
    assert_eq!(world.sides[RIGHT].delivered, expected);
}

#[test]
fn a_super_packet_waits_for_a_handshake_as_all_its_segments() {
    let mut world = World::new();
    let buf = world.sides[LEFT].out.arena.take().unwrap();
    let packet = super_packet(buf, 10_000, 1_000);
    let expected = segments(&packet);
    world.seal(LEFT, packet);
    assert_eq!(world.sides[LEFT].lane.queued(), 10);
    world.run(millis(100));
    assert_eq!(world.sides[RIGHT].delivered, expected);
}

#[test]
fn trains_keep_to_64_frames_and_65507_bytes() {
    let mut world = World::connected();
    for size in [100, 500, 1_380] {
        for _ in 0..3 {
            let buf = world.sides[LEFT].out.arena.take().unwrap();
            let packet = super_packet(buf, 60_000, size);
            world.push(LEFT, packet);
        }
    }
    let left = &mut world.sides[LEFT];
    let mut frames = 0;
    while let Some(train) = left.out.wire.pop() {
        assert!(train.buf.frames() <= 64 && train.buf.len() <= 65_507);
        frames += train.buf.frames();
        left.out.arena.put(train.buf);
    }
    assert_eq!(frames, 3 * (600 + 120 + 44));
    assert_eq!(left.out.arena.lent(), 0);
}

#[test]
fn packets_of_one_length_to_one_peer_share_a_train() {
    let mut world = World::connected();
    for sequence in 0..10 {
        let packet = world.echo(LEFT, sequence, 0);
        world.push(LEFT, packet);
    }
    assert_eq!(world.sides[LEFT].out.wire.len(), 1);
}

#[test]
fn the_mark_for_congestion_is_copied_out_and_combined_in() {
    let mut world = World::connected();
    for ecn in 0..4 {
        let packet = world.echo(LEFT, u16::from(ecn), ecn);
        world.seal(LEFT, packet);
        let mut letter = world.wire.pop_front().unwrap();
        assert_eq!(letter.ecn, ecn);
        letter.ecn = 3;
        world.deliver(letter);
    }
    // CE outside: what does not know the mark is dropped, all others come out marked.
    assert_eq!(world.refused(RIGHT, Refused::CongestionUnmarkable), 1);
    assert_eq!(world.sequences(RIGHT), [1, 2, 3]);
    let delivered = &world.sides[RIGHT].delivered;
    assert!(delivered.iter().all(|packet| packet[1] & 3 == 3));
    assert!(
        delivered
            .iter()
            .all(|packet| checksum::internet(&packet[..20]) == 0)
    );
}

#[test]
fn a_train_with_a_replayed_and_a_forged_frame_gives_the_others() {
    let mut world = World::connected();
    for sequence in 0..5 {
        let packet = world.echo(LEFT, sequence, 0);
        world.push(LEFT, packet);
    }
    world.collect(LEFT);
    let mut letter = world.wire.pop_front().unwrap();
    let size = letter.stride;
    letter.bytes.copy_within(0..size, size);
    letter.bytes[3 * size + 30] ^= 1;
    world.deliver(letter);
    assert_eq!(world.sequences(RIGHT), [0, 2, 4]);
    assert_eq!(world.refused(RIGHT, Refused::Replayed), 1);
    assert_eq!(world.refused(RIGHT, Refused::DataForged), 1);
}

#[test]
fn ipv6_goes_through_as_ipv4_does() {
    let mut world = World::connected();
    let mut buf = world.sides[LEFT].out.arena.take().unwrap();
    let (from, to) = (Address::from_v6([0xfd; 16]), Address::from_v6([0xfc; 16]));
    echo_request(from, to, 7, 1, &[1; 100], &mut buf);
    let packet = Packet::parse(buf, Offload::default()).unwrap();
    let expected = packet.bytes().to_vec();
    world.seal(LEFT, packet);
    world.wire.front_mut().unwrap().ecn = 1;
    world.run(millis(20));
    assert_eq!(world.sides[RIGHT].delivered, [expected]);
}
