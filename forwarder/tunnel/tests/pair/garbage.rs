//! Whatever comes in: no panic, no answer, and it is counted.

use proptest::prelude::*;

use crate::world::{LATENCY, LEFT, Letter, RIGHT, World, millis};

fn letter(world: &World, bytes: Vec<u8>, stride: usize) -> Letter {
    Letter {
        at: world.time + LATENCY,
        to: RIGHT,
        from: "198.51.100.66:6".parse().unwrap(),
        ecn: 0,
        bytes,
        stride,
    }
}

#[test]
fn an_empty_datagram_is_nothing() {
    let mut world = World::connected();
    let letter = letter(&world, Vec::new(), 0);
    world.deliver(letter);
    assert_eq!(world.counts(), (0, 0));
}

#[test]
fn a_datagram_as_long_as_a_buffer_is_dropped() {
    let mut world = World::connected();
    for kind in 0..6 {
        let mut bytes = vec![0; packet::FRAME_MAX];
        bytes[0] = kind;
        let letter = letter(&world, bytes, 0xffff_ffff);
        world.deliver(letter);
    }
    assert_eq!(world.sides[RIGHT].out.refused.total(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_are_neither_answered_nor_delivered(
        kind in 0u8..6,
        mut bytes in prop::collection::vec(any::<u8>(), 1..400),
        stride in 1usize..400,
    ) {
        let mut world = World::connected();
        bytes[0] = kind;
        if bytes.len() > 3 {
            bytes[1..4].fill(0);
        }
        let letter = letter(&world, bytes, stride);
        let frames = letter.frames() as u64;
        world.deliver(letter);
        prop_assert_eq!(world.sides[RIGHT].out.refused.total(), frames);
        prop_assert!(world.log.is_empty());
        prop_assert_eq!(world.counts(), (0, 0));
    }

    #[test]
    fn every_changed_bit_of_a_message_is_noticed(which in 0usize..3, at in 0usize..92, bit in 0u8..8) {
        let mut world = World::new();
        world.ping(LEFT, 1);
        for _ in 0..which {
            world.run(LATENCY);
        }
        let mut letter = world.wire.pop_front().unwrap();
        let to = letter.to;
        // Without a load the second MAC is not looked at.
        prop_assume!(letter.kind() == 4 || at < letter.bytes.len() - 16);
        letter.bytes[at] ^= 1 << bit;
        let before = world.log.len();
        world.deliver(letter);
        prop_assert_eq!(world.sides[to].out.refused.total(), 1);
        prop_assert_eq!(world.log.len(), before);
        prop_assert_eq!(world.counts(), (0, 0));
    }

    #[test]
    fn the_books_balance_and_order_holds_whatever_is_lost_repeated_or_late(
        steps in prop::collection::vec((0u8..8, 0u64..20_000), 1..120)
    ) {
        let mut world = World::new();
        world.introduce(RIGHT);
        let mut kept: Vec<Letter> = Vec::new();
        for (number, (what, time)) in steps.into_iter().enumerate() {
            match what {
                0..3 => world.ping(LEFT, number as u16),
                3 | 4 => world.ping(RIGHT, number as u16),
                5 => kept.extend(world.wire.pop_front()),
                6 => if let Some(letter) = kept.last().cloned() { world.deliver(letter) },
                _ => world.run(millis(time)),
            }
        }
        world.run(millis(200_000));
        for side in &world.sides {
            prop_assert_eq!(side.lane.queued(), 0);
            prop_assert_eq!(side.out.arena.lent(), 0);
        }
    }
}
