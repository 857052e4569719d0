//! How a session begins, and what can go wrong at that.

use tunnel::{PresharedKey, PrivateKey, Refused};

use crate::world::{LEFT, RIGHT, World, millis, seconds};

#[test]
fn a_packet_brings_about_a_handshake_and_comes_out_behind_it() {
    let mut world = World::new();
    world.ping(LEFT, 1);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [1]);
    let sent: Vec<_> = world.log.iter().map(|r| (r.by, r.kind, r.length)).collect();
    // 148 and 92 bytes, then 16 + 49 padded to 64 + 16.
    assert_eq!(sent, [(LEFT, 1, 148), (RIGHT, 2, 92), (LEFT, 4, 96)]);
}

#[test]
fn packets_that_wait_for_a_handshake_come_out_in_order() {
    let mut world = World::new();
    for sequence in 0..20 {
        world.ping(LEFT, sequence);
    }
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(0..20));
    assert_eq!(world.sent(LEFT, 1), 1);
}

#[test]
fn without_waiting_packets_the_initiator_confirms_with_a_keepalive() {
    let mut world = World::new();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    left.lane.set_keepalive(now, left.peer, 60, &mut left.out);
    world.collect(LEFT);
    world.run(millis(100));
    assert!(world.is_live(LEFT) && world.is_live(RIGHT));
    let last = world.log.last().unwrap();
    assert_eq!((last.by, last.kind, last.length), (LEFT, 4, 32));
}

#[test]
fn any_lost_message_of_a_handshake_is_made_good_by_the_next_attempt() {
    for lost in [1, 2] {
        let mut world = World::new();
        let mut left = 1;
        world.loses = Box::new(move |letter| {
            let lose = letter.kind() == lost && left > 0;
            left -= i32::from(lose);
            lose
        });
        world.ping(LEFT, 1);
        world.run(seconds(5));
        assert_eq!(world.counts(), (0, 0));
        world.run(millis(400));
        assert_eq!(world.sequences(RIGHT), [1], "message {lost} was lost");
        assert_eq!(world.sent(LEFT, 1), 2);
    }
}

#[test]
fn a_lost_confirmation_does_not_keep_the_responder_silent_for_long() {
    let mut world = World::new();
    let mut first = true;
    world.loses = Box::new(move |letter| letter.kind() == 4 && core::mem::take(&mut first));
    world.ping(LEFT, 1);
    world.run(millis(100));
    assert!(world.is_live(LEFT) && !world.is_live(RIGHT));
    // The responder has not heard in the new session: it sends nothing in it, and asks for its own.
    world.ping(RIGHT, 2);
    world.run(millis(100));
    assert_eq!((world.sequences(LEFT), world.sent(RIGHT, 1)), (vec![2], 1));
}

#[test]
fn the_responder_sends_nothing_in_a_session_that_was_not_confirmed() {
    let mut world = World::new();
    // The initiator goes silent behind its first message.
    world.loses = Box::new(|letter| letter.to == LEFT || letter.kind() == 4);
    world.ping(LEFT, 1);
    world.run(millis(100));
    world.ping(RIGHT, 2);
    world.run(seconds(60));
    assert_eq!(world.sent(RIGHT, 4), 0);
    assert!(!world.is_live(RIGHT));
}

#[test]
fn both_may_begin_at_the_same_moment_and_nothing_is_lost() {
    let mut world = World::new();
    world.introduce(RIGHT);
    world.ping(LEFT, 1);
    world.ping(RIGHT, 2);
    world.run(millis(200));
    assert_eq!(world.sequences(RIGHT), [1]);
    assert_eq!(world.sequences(LEFT), [2]);
    for sequence in 3..13 {
        world.ping(LEFT, sequence);
        world.ping(RIGHT, sequence);
        world.run(millis(100));
    }
    assert_eq!(world.counts(), (11, 11));
    assert_eq!((world.sent(LEFT, 1), world.sent(RIGHT, 1)), (1, 1));
}

#[test]
fn different_preshared_keys_make_no_session() {
    let mut world = World::new();
    let left = &mut world.sides[LEFT];
    let key = PresharedKey::from_bytes([5; 32]);
    left.lane.set_preshared_key(left.peer, Some(key));
    world.ping(LEFT, 1);
    world.run(seconds(12));
    assert_eq!(world.counts(), (0, 0));
    assert!(world.refused(LEFT, Refused::ResponseForged) >= 2);
}

#[test]
fn a_changed_preshared_key_is_used_at_the_next_handshake_and_tears_nothing() {
    let mut world = World::connected();
    for side in &mut world.sides {
        let key = PresharedKey::from_bytes([6; 32]);
        side.lane.set_preshared_key(side.peer, Some(key));
    }
    world.ping(LEFT, 1);
    world.run(millis(100));
    assert_eq!((world.sequences(RIGHT), world.sent(LEFT, 1)), (vec![1], 0));
    world.run(seconds(121));
    world.ping(LEFT, 2);
    world.run(millis(100));
    world.ping(LEFT, 3);
    world.run(millis(100));
    assert_eq!(
        (world.sequences(RIGHT), world.sent(RIGHT, 2)),
        (vec![1, 2, 3], 1)
    );
    assert_eq!(world.refused(LEFT, Refused::ResponseForged), 0);
}

#[test]
fn a_replayed_first_message_is_not_answered() {
    let mut world = World::new();
    world.ping(LEFT, 1);
    let first = world.wire.front().unwrap().clone();
    world.run(seconds(1));
    world.log.clear();
    world.deliver(first);
    assert_eq!(world.refused(RIGHT, Refused::InitiationReplayed), 1);
    assert_eq!(world.log, []);
}

#[test]
fn a_first_message_within_twenty_milliseconds_of_the_last_is_not_answered() {
    let mut world = World::new();
    // Two lanes with one key: the second one's stamp is later, its message comes 1 ms later.
    let mut twin = World::new();
    twin.sides[LEFT].clock_ns += 1_000_000_000;
    world.ping(LEFT, 1);
    twin.ping(LEFT, 2);
    let (first, second) = (
        world.wire.pop_front().unwrap(),
        twin.wire.pop_front().unwrap(),
    );
    world.deliver(first);
    world.time = world.time + millis(19);
    world.deliver(second.clone());
    assert_eq!(world.refused(RIGHT, Refused::InitiationTooSoon), 1);
    assert_eq!(world.sent(RIGHT, 2), 1);
    world.time = world.time + millis(1);
    world.deliver(second);
    assert_eq!(world.sent(RIGHT, 2), 2);
}

#[test]
fn an_unknown_key_is_not_answered() {
    let mut world = World::new();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    left.lane
        .set_private_key(now, Some(PrivateKey::from_bytes([9; 32])));
    world.ping(LEFT, 1);
    world.run(seconds(1));
    assert_eq!(world.refused(RIGHT, Refused::InitiatorUnknown), 1);
    assert!(world.log.iter().all(|record| record.by == LEFT));
}

#[test]
fn the_first_mac_is_asked_for_before_anything_else() {
    let mut world = World::new();
    world.ping(LEFT, 1);
    let mut first = world.wire.pop_front().unwrap();
    first.bytes[50] ^= 1;
    world.deliver(first);
    assert_eq!(world.refused(RIGHT, Refused::MacWrong), 1);
}

#[test]
fn a_wrong_answer_does_not_end_the_handshake() {
    let mut world = World::new();
    world.ping(LEFT, 1);
    world.run(millis(10));
    let right = world.wire.front().unwrap().clone();
    // All but the second MAC, which is not looked at.
    for byte in 0..76 {
        let mut wrong = right.clone();
        wrong.bytes[byte] ^= 0x10;
        world.deliver(wrong);
    }
    assert_eq!(world.refused(LEFT, Refused::TypeUnknown), 4);
    assert_eq!(world.refused(LEFT, Refused::MacWrong), 72);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [1]);
}

#[test]
fn a_handshake_is_given_up_after_ninety_seconds_and_what_waits_is_counted() {
    let mut world = World::new();
    world.loses = Box::new(|_| true);
    world.ping(LEFT, 1);
    world.run(seconds(120));
    assert_eq!(world.refused(LEFT, Refused::HandshakeUnanswered), 1);
    assert_eq!(world.sides[LEFT].lane.queued(), 0);
    assert_eq!(world.sent(LEFT, 1), 18);
    // The next packet tries anew.
    world.loses = Box::new(|_| false);
    world.ping(LEFT, 2);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [2]);
}

#[test]
fn traffic_does_not_make_first_messages_more_frequent() {
    let mut world = World::new();
    world.loses = Box::new(|_| true);
    for sequence in 0..600 {
        world.ping(LEFT, sequence);
        world.run(millis(100));
    }
    let at: Vec<_> = world.log.iter().map(|record| record.at).collect();
    assert!(at.len() <= 12 && at.len() >= 11, "{} in a minute", at.len());
    assert!(
        at.windows(2)
            .all(|pair| pair[1].since(pair[0]) >= seconds(5))
    );
}

#[test]
fn a_clock_that_steps_back_does_not_stop_handshakes() {
    let mut world = World::connected();
    world.sides[LEFT].clock_ns -= 1_000_000_000_000_000;
    for sequence in 1..40 {
        world.run(seconds(10));
        world.ping(LEFT, sequence);
    }
    world.run(millis(100));
    assert_eq!(world.counts(), (0, 39));
    assert!(world.sent(RIGHT, 2) >= 3);
    assert_eq!(world.refused(RIGHT, Refused::InitiationReplayed), 0);
}

#[test]
fn a_clock_that_jumps_by_decades_does_not_stop_handshakes() {
    let mut world = World::connected();
    let year = 31_557_600_000_000_000;
    let mut last = 0;
    for clock in [60 * year, 0, 250 * year, 30 * year] {
        world.sides[LEFT].clock_ns = clock;
        world.sides[RIGHT].clock_ns = 90 * year - clock.min(90 * year);
        for _ in 0..20 {
            world.run(seconds(10));
            last += 1;
            world.ping(LEFT, last);
        }
        world.run(seconds(1));
        assert!(world.is_live(LEFT) && world.is_live(RIGHT));
    }
    assert_eq!(world.counts(), (0, usize::from(last)));
    assert!(world.sent(RIGHT, 2) >= 6);
}

#[test]
fn a_peer_that_comes_back_gets_no_older_stamps() {
    let mut world = World::connected();
    let now = world.now(LEFT);
    let key = world.sides[RIGHT].lane.public_key().unwrap();
    let left = &mut world.sides[LEFT];
    left.lane.remove_peer(left.peer, &mut left.out);
    left.peer = left.lane.add_peer(now, key).unwrap();
    left.clock_ns -= 1_000_000_000_000;
    world.introduce(LEFT);
    world.ping(LEFT, 5);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [5]);
}

#[test]
fn a_new_private_key_ends_sessions_and_waiting_packets_use_it() {
    let mut world = World::connected();
    let (key, public) = (
        PrivateKey::from_bytes([9; 32]),
        PrivateKey::from_bytes([9; 32]).public(),
    );
    let now = world.now(LEFT);
    world.sides[LEFT].lane.set_private_key(now, None);
    assert!(!world.is_live(LEFT));
    world.ping(LEFT, 1);
    assert_eq!(world.refused(LEFT, Refused::KeyMissing), 1);
    world.sides[LEFT].lane.set_private_key(now, Some(key));
    let right = &mut world.sides[RIGHT];
    right.lane.remove_peer(right.peer, &mut right.out);
    right.peer = right.lane.add_peer(now, public).unwrap();
    world.ping(LEFT, 2);
    world.run(seconds(6));
    assert_eq!(world.sequences(RIGHT), [2]);
}
