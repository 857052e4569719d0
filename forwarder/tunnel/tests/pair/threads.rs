//! What other threads seal and open for a lane, as they may come and go in between.

use packet::{Datagrams, Path};
use proptest::prelude::*;
use tunnel::{Inner, Refused, Sealing, Unopened};

use crate::train::super_packet;
use crate::world::{LEFT, RIGHT, World, seconds};

/// What a lane is given to seal.
#[derive(Clone, Copy, Debug)]
enum Given {
    Echo,
    Super { payload: usize, size: u16 },
}

fn given() -> impl Strategy<Value = Given> {
    let long = (1_usize..40_000, 200_u16..1_380);
    prop_oneof![
        Just(Given::Echo),
        long.prop_map(|(payload, size)| Given::Super { payload, size }),
    ]
}

impl World {
    fn give(&mut self, given: &[Given]) {
        for (number, given) in (0..).zip(given) {
            let packet = match *given {
                Given::Echo => self.echo(LEFT, number, 0),
                Given::Super { payload, size } => {
                    let buf = self.sides[LEFT].out.arena.take().unwrap();
                    super_packet(buf, payload, size)
                }
            };
            self.push(LEFT, packet);
        }
    }

    /// Opens trains that were given to other threads, in order; how many packets came out.
    fn open_tried(&mut self, trains: Vec<Unopened>) -> usize {
        let now = self.now(RIGHT);
        let side = &mut self.sides[RIGHT];
        let mut opened: Vec<Inner> = Vec::new();
        for mut train in trains {
            let (reception, out) = (&mut side.reception, &mut side.out);
            side.lane
                .open_tried(now, &mut train, reception, &mut opened, out);
            side.out.arena.put(train.into_datagrams().buf);
        }
        opened.len()
    }

    /// The same train once more, in a buffer of the right side.
    fn copy(&mut self, train: &Datagrams) -> Datagrams {
        let mut buf = self.sides[RIGHT].out.arena.take().unwrap();
        buf.extend(train.buf.as_slice());
        buf.set_stride(train.buf.stride());
        Datagrams { buf, ..*train }
    }

    /// Seals `echoes` packets, and gives the train as the other side receives it.
    fn train(&mut self, echoes: usize) -> Datagrams {
        self.give(&vec![Given::Echo; echoes]);
        let sent = self.sides[LEFT].out.wire.pop().unwrap();
        let mut train = self.copy(&sent);
        self.sides[LEFT].out.arena.put(sent.buf);
        train.path = Path::from(self.sides[LEFT].address);
        train
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_later_in_any_order_is_what_is_sealed_at_once(
        given in proptest::collection::vec(given(), 1..12),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        // Two worlds of the same seeds: keys and counters are the same.
        let [mut at_once, mut later] = [(); 2].map(|()| World::connected());
        at_once.give(&given);
        later.sides[LEFT].out.sealing = Sealing::Later;
        later.give(&given);
        let out = &mut later.sides[LEFT].out;
        prop_assert!(out.wire.is_empty());
        let mut trains: Vec<_> = core::iter::from_fn(|| out.unsealed.pop()).collect();
        for pick in picks {
            pick.get_mut(&mut trains).seal();
        }
        for train in trains {
            let sealed = train.into_datagrams();
            let expected = at_once.sides[LEFT].out.wire.pop();
            let expected = expected.expect("as many trains");
            prop_assert_eq!(sealed.buf.as_slice(), expected.buf.as_slice());
            prop_assert_eq!(sealed.buf.stride(), expected.buf.stride());
        }
        prop_assert!(at_once.sides[LEFT].out.wire.is_empty());
    }
}

#[test]
fn what_is_sealed_at_once_waits_behind_what_is_not_and_joins_none_of_it() {
    let mut world = World::connected();
    world.sides[LEFT].out.sealing = Sealing::Later;
    world.give(&[Given::Echo]);
    world.sides[LEFT].out.sealing = Sealing::Behind;
    world.give(&[Given::Echo, Given::Echo]);
    let out = &mut world.sides[LEFT].out;
    assert_eq!((out.wire.len(), out.queued()), (0, 3));
    let trains = core::iter::from_fn(|| out.unsealed.pop());
    let trains: Vec<_> = trains
        .map(|train| (train.is_sealed(), train.messages()))
        .collect();
    assert_eq!(trains, [(false, 1), (true, 2)]);
}

#[test]
fn a_train_that_nobody_has_sealed_leaves_sealed() {
    let mut world = World::connected();
    world.sides[LEFT].out.sealing = Sealing::Later;
    world.give(&[Given::Echo]);
    let train = world.sides[LEFT].out.unsealed.pop().unwrap();
    assert!(!train.is_sealed());
    let mut letter = world.letter(LEFT, train.into_datagrams());
    letter.at = world.time;
    world.deliver(letter);
    assert_eq!(world.sequences(RIGHT), [0]);
}

#[test]
fn the_same_train_in_two_threads_is_a_replay_of_itself() {
    let mut world = World::connected();
    let train = world.train(5);
    let again = world.copy(&train);
    let now = world.now(RIGHT);
    let lane = &mut world.sides[RIGHT].lane;
    let mut trains = vec![lane.unopened(now, again), lane.unopened(now, train)];
    trains.iter_mut().rev().for_each(Unopened::open);
    assert_eq!(world.open_tried(trains), 5);
    assert_eq!(world.refused(RIGHT, Refused::Replayed), 5);
}

#[test]
fn a_train_whose_session_ends_while_another_thread_opens_it_is_refused() {
    let mut world = World::connected();
    let train = world.train(2);
    let now = world.now(RIGHT);
    let side = &mut world.sides[RIGHT];
    let mut train = side.lane.unopened(now, train);
    assert!(train.has_key());
    train.open();
    side.lane.remove_peer(side.peer, &mut side.out);
    assert_eq!(world.open_tried(vec![train]), 0);
    assert_eq!(world.refused(RIGHT, Refused::SessionUnknown), 2);

    let mut world = World::connected();
    let train = world.train(2);
    let now = world.now(RIGHT);
    let mut train = world.sides[RIGHT].lane.unopened(now, train);
    train.open();
    world.time = world.time + seconds(180);
    assert_eq!(world.open_tried(vec![train]), 0);
    assert_eq!(world.refused(RIGHT, Refused::SessionExpired), 2);
}

#[test]
fn messages_of_others_in_a_train_are_left_to_the_lane() {
    let mut world = World::connected();
    let mut train = world.train(6);
    let size = train.buf.stride();
    let bytes = train.buf.as_mut_slice();
    bytes[size] = 1;
    bytes[2 * size + 4] ^= 1;
    bytes[3 * size + 30] ^= 1;
    let now = world.now(RIGHT);
    let mut train = world.sides[RIGHT].lane.unopened(now, train);
    train.open();
    // Once is enough: a second time would decrypt what is decrypted.
    train.open();
    assert_eq!(world.open_tried(vec![train]), 3);
    let refused = [
        Refused::LengthWrong,
        Refused::SessionUnknown,
        Refused::DataForged,
    ];
    assert_eq!(
        refused.map(|reason| world.refused(RIGHT, reason)),
        [1, 1, 1]
    );
}

#[test]
fn a_handshake_has_no_key() {
    let mut world = World::new();
    world.ping(LEFT, 0);
    let letter = world.wire.pop_front().unwrap();
    let mut buf = world.sides[RIGHT].out.arena.take().unwrap();
    buf.extend(&letter.bytes);
    let train = Datagrams {
        lane: 0,
        path: letter.from.into(),
        ecn: 0,
        buf,
    };
    let now = world.now(RIGHT);
    assert!(!world.sides[RIGHT].lane.unopened(now, train).has_key());
}

#[test]
fn a_train_that_begins_with_a_replay_or_is_too_old_has_no_key() {
    let mut world = World::connected();
    let train = world.train(3);
    let again = world.copy(&train);
    let now = world.now(RIGHT);
    let first = world.sides[RIGHT].lane.unopened(now, train);
    assert!(first.has_key());
    assert_eq!(world.open_tried(vec![first]), 3);
    let again = world.sides[RIGHT].lane.unopened(now, again);
    assert!(!again.has_key());
    assert_eq!(world.open_tried(vec![again]), 0);
    assert_eq!(world.refused(RIGHT, Refused::Replayed), 3);

    let train = world.train(3);
    world.time = world.time + seconds(180);
    let now = world.now(RIGHT);
    assert!(!world.sides[RIGHT].lane.unopened(now, train).has_key());
}
