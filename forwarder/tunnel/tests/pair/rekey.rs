//! How a session is followed by the next without anybody noticing.

use tunnel::Refused;

use crate::world::{LATENCY, LEFT, Letter, RIGHT, World, millis, seconds};

/// `ping -i 0.2` over six minutes: how many of the requests came out on each side.
fn six_minutes(world: &mut World, senders: &[usize]) {
    for sequence in 0..1_800 {
        for side in senders {
            world.ping(*side, sequence);
        }
        world.run(millis(200));
    }
    world.run(seconds(1));
}

#[test]
fn six_minutes_of_pings_from_the_initiator_lose_nothing() {
    let mut world = World::new();
    six_minutes(&mut world, &[LEFT]);
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(0..1_800));
    assert_eq!(world.sent(RIGHT, 2), 3);
}

#[test]
fn six_minutes_of_pings_from_both_lose_nothing() {
    let mut world = World::new();
    world.introduce(RIGHT);
    six_minutes(&mut world, &[LEFT, RIGHT]);
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(0..1_800));
    assert_eq!(world.sequences(LEFT), Vec::from_iter(0..1_800));
}

#[test]
fn six_minutes_of_pings_from_the_responder_lose_nothing() {
    let mut world = World::connected();
    six_minutes(&mut world, &[RIGHT]);
    assert_eq!(world.sequences(LEFT), Vec::from_iter(0..1_800));
    // The initiator renews on receiving, at 165 s; each other session is then the responder's to
    // confirm, never its own to begin.
    assert!(world.sent(LEFT, 1) >= 2 && world.sent(RIGHT, 1) == 0);
}

#[test]
fn a_lost_message_while_renewing_loses_no_packet() {
    for lost in [1, 2] {
        let mut world = World::connected();
        let mut left = 3;
        world.loses = Box::new(move |letter| {
            let lose = letter.kind() == lost && left > 0;
            left -= i32::from(lose);
            lose
        });
        six_minutes(&mut world, &[LEFT, RIGHT]);
        assert_eq!(world.counts(), (1_800, 1_800), "message {lost} was lost");
    }
}

#[test]
fn data_of_the_previous_session_is_opened_after_the_new_one_is_in_use() {
    let mut world = World::connected();
    world.run(seconds(121));
    // Sealed in the old session, under way for very long.
    world.ping(LEFT, 1);
    let late: Letter = world.wire.pop_front().unwrap();
    assert_eq!(late.kind(), 4);
    world.run(LATENCY * 5);
    world.ping(LEFT, 2);
    world.run(seconds(1));
    assert_eq!(world.sequences(RIGHT), [2]);
    world.deliver(late);
    assert_eq!(world.sequences(RIGHT), [2, 1]);
}

#[test]
fn while_the_new_session_waits_for_its_confirmation_both_talk_in_the_old_one() {
    let mut world = World::connected();
    world.run(seconds(121));
    // The initiator renews; its answer, and with it the confirmation, is lost.
    world.loses = Box::new(|letter| letter.kind() == 2);
    world.ping(LEFT, 1);
    world.run(LATENCY * 2);
    assert_eq!(world.sent(RIGHT, 2), 1);
    for sequence in 2..30 {
        world.ping(LEFT, sequence);
        world.ping(RIGHT, sequence);
        world.run(millis(100));
    }
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(1..30));
    assert_eq!(world.sequences(LEFT), Vec::from_iter(2..30));
}

#[test]
fn both_renew_at_the_same_moment_and_what_is_under_way_comes_out() {
    let mut world = World::new();
    world.introduce(RIGHT);
    world.ping(LEFT, 1);
    world.ping(RIGHT, 1);
    world.run(seconds(121));
    for sequence in 2..200 {
        world.ping(LEFT, sequence);
        world.ping(RIGHT, sequence);
        world.run(millis(3));
    }
    world.run(seconds(1));
    assert!(world.sent(LEFT, 1) == 2 && world.sent(RIGHT, 1) == 2);
    assert_eq!(world.counts(), (199, 199));
}

#[test]
fn a_session_is_not_used_past_180_seconds() {
    let mut world = World::connected();
    let mut old = World::connected();
    old.ping(LEFT, 9);
    let late = old.wire.pop_front().unwrap();
    world.run(seconds(181));
    assert!(!world.is_live(LEFT) && !world.is_live(RIGHT));
    world.deliver(late);
    assert_eq!(world.refused(RIGHT, Refused::SessionExpired), 1);
    world.ping(RIGHT, 1);
    world.run(millis(100));
    assert_eq!((world.sequences(LEFT), world.sent(RIGHT, 1)), (vec![1], 1));
}

#[test]
fn the_keys_of_a_silent_peer_are_wiped_after_540_seconds() {
    let mut world = World::connected();
    let mut old = World::connected();
    old.ping(LEFT, 9);
    let late = old.wire.pop_front().unwrap();
    world.run(seconds(538));
    world.deliver(late.clone());
    assert_eq!(world.refused(RIGHT, Refused::SessionExpired), 1);
    world.run(seconds(3));
    world.deliver(late);
    assert_eq!(world.refused(RIGHT, Refused::SessionUnknown), 1);
    for side in &world.sides {
        assert_eq!(side.poll_timeout(), None);
    }
}

#[test]
fn a_peer_that_has_forgotten_us_is_noticed_and_greeted_again() {
    let mut world = World::connected();
    let fresh = World::new();
    let [_, right] = fresh.sides;
    let mut books = right;
    core::mem::swap(&mut world.sides[RIGHT], &mut books);
    world.ping(LEFT, 1);
    world.run(seconds(14));
    assert_eq!(
        (
            world.refused(RIGHT, Refused::SessionUnknown),
            world.sent(LEFT, 1)
        ),
        (1, 0)
    );
    world.run(seconds(2));
    assert_eq!(world.sent(RIGHT, 2), 1);
    world.ping(LEFT, 2);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [2]);
}
