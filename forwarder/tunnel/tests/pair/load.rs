//! Under load: who must prove where it is, and that it then gets in.

use core::net::SocketAddr;

use packet::Now;
use tunnel::{Lane, Outbox, PrivateKey, Refused};

use crate::world::{LATENCY, LEFT, Letter, RIGHT, World, millis, seconds};

/// A first message to the right side with a right first MAC, from a key that is nobody's.
fn forged() -> Letter {
    let mut stranger = World::new();
    let now = stranger.now(LEFT);
    let left = &mut stranger.sides[LEFT];
    left.lane.set_private_key(now, Some(key(9)));
    stranger.ping(LEFT, 1);
    stranger.wire.pop_front().unwrap()
}

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes([byte; 32])
}

fn source(number: u32) -> SocketAddr {
    SocketAddr::from(((0x0a09_0000 + number).to_be_bytes(), 4_000))
}

/// Hands over `count` forged messages, each from an address of its own, and takes what is sent back
/// from the wire: it goes to those addresses.
fn flood(world: &mut World, count: u32) -> Vec<Letter> {
    let forged = forged();
    let before = world.wire.len();
    for number in 0..count {
        let from = source(number);
        world.deliver(Letter {
            from,
            ..forged.clone()
        });
    }
    world.wire.split_off(before).into()
}

/// A world whose right side is under load.
fn loaded() -> World {
    let mut world = World::new();
    flood(&mut world, 16 + 128);
    assert_eq!(world.sides[RIGHT].lane.queued(), 128);
    assert_eq!(world.log, []);
    world
}

#[test]
fn under_load_a_right_first_mac_is_answered_by_less_than_it_asked_with() {
    let mut world = loaded();
    let answers = flood(&mut world, 30);
    assert_eq!(answers.len(), 30);
    assert!(answers.iter().all(|a| a.kind() == 3 && a.bytes.len() == 64));
    assert_eq!(world.refused(RIGHT, Refused::CookieWanted), 30);
    let mut wrong = forged();
    wrong.bytes[120] ^= 1;
    world.deliver(wrong);
    assert_eq!(world.refused(RIGHT, Refused::MacWrong), 1);
    assert!(world.wire.is_empty());
    // What waited is worked off, unanswered, and a second later nobody is asked any more.
    world.run(millis(999));
    assert_eq!(world.refused(RIGHT, Refused::InitiatorUnknown), 16 + 128);
    assert_eq!(world.sides[RIGHT].lane.queued(), 0);
    assert_eq!(flood(&mut world, 1).len(), 1);
    world.run(seconds(1));
    assert_eq!(flood(&mut world, 1).len(), 0);
}

#[test]
fn under_load_a_peer_connects_with_its_second_message() {
    let mut world = loaded();
    world.ping(LEFT, 1);
    for _ in 0..60 {
        flood(&mut world, 200);
        world.run(millis(100));
        if world.is_live(LEFT) {
            break;
        }
    }
    assert_eq!(world.sequences(RIGHT), [1]);
    assert_eq!(world.sent(LEFT, 1), 2);
    assert!(world.time.as_nanos() < 5_500_000_000);
}

#[test]
fn under_load_an_answer_must_prove_where_it_is_from_too() {
    let mut world = World::new();
    world.introduce(RIGHT);
    // The right side begins, while it is under load itself.
    flood(&mut world, 16 + 128);
    world.ping(RIGHT, 1);
    world.run(LATENCY * 2);
    assert_eq!(world.refused(RIGHT, Refused::CookieWanted), 1);
    assert!(!world.is_live(RIGHT));
    for _ in 0..60 {
        flood(&mut world, 200);
        world.run(millis(100));
    }
    // The left side's second answer has the cookie under it.
    assert_eq!(world.sequences(LEFT), [1]);
    assert_eq!((world.sent(RIGHT, 1), world.sent(LEFT, 2)), (2, 2));
}

#[test]
fn one_source_that_floods_brings_nobody_but_itself_into_cookie_mode() {
    let mut world = World::new();
    let forged = forged();
    for _ in 0..5_000 {
        world.deliver(forged.clone());
    }
    assert_eq!(world.sides[RIGHT].lane.queued(), 16);
    let before = world.log.len();
    world.wire.clear();
    world.ping(LEFT, 1);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [1]);
    let kinds: Vec<_> = world.log[before..].iter().map(|r| (r.by, r.kind)).collect();
    assert_eq!(kinds, [(LEFT, 1), (RIGHT, 2), (LEFT, 4)]);
}

#[test]
fn who_floods_in_a_peers_name_does_not_lock_it_out() {
    let mut world = World::new();
    let forged = forged();
    // From the peer's own address, all the time.
    let home = world.sides[LEFT].address;
    world.ping(LEFT, 1);
    let mut own = world.wire.pop_front();
    for _ in 0..700 {
        for _ in 0..100 {
            let from = home;
            world.deliver(Letter {
                from,
                ..forged.clone()
            });
        }
        // Cookies for the forged messages reach the peer, too, who did not send those.
        if let Some(own) = own.take() {
            world.deliver(own);
        }
        world.run(millis(10));
    }
    assert_eq!(world.sequences(RIGHT), [1]);
    assert_eq!(world.sent(LEFT, 1), 2);
}

#[test]
fn whom_a_flood_from_everywhere_keeps_from_a_cookie_gets_in_when_it_comes_again() {
    let mut world = loaded();
    let forged = forged();
    let anywhere = |number: u32| {
        let address = number.wrapping_mul(2_654_435_761);
        SocketAddr::from((address.to_be_bytes(), 4_000_u16.wrapping_add(number as u16)))
    };
    let mut number = 0;
    let mut flood = |world: &mut World, count: u32| {
        for _ in 0..count {
            number += 1;
            let from = anywhere(number);
            let forged = forged.clone();
            world.deliver(Letter { from, ..forged });
            world
                .wire
                .retain(|letter| letter.to == RIGHT || letter.kind() != 3);
        }
    };
    // 100,000 a second, until even its /16 is known, so that nothing tells the peer from the others.
    for _ in 0..200 {
        flood(&mut world, 1_000);
        world.run(millis(10));
    }
    flood(&mut world, 1_000);
    world.ping(LEFT, 1);
    let first = world.wire.pop_front().unwrap();
    world.deliver(first);
    assert!(world.wire.is_empty());
    for _ in 0..540 {
        flood(&mut world, 1_000);
        world.run(millis(10));
    }
    assert_eq!(world.sequences(RIGHT), [1]);
    assert_eq!(world.sent(LEFT, 1), 2);
    assert_eq!(world.refused(LEFT, Refused::CookieForged), 0);
}

#[test]
fn a_cookie_reply_moves_no_endpoint_and_is_not_answered() {
    let mut world = loaded();
    world.ping(LEFT, 1);
    world.run(LATENCY);
    let mut reply = world.wire.pop_front().unwrap();
    assert_eq!(reply.kind(), 3);
    reply.from = "198.51.100.66:6".parse().unwrap();
    let before = (world.log.len(), world.sides[LEFT].lane.peers().next());
    world.deliver(reply.clone());
    let after = world.sides[LEFT].lane.peers().next();
    let endpoint = |status: Option<tunnel::PeerStatus>| status.and_then(|peer| peer.endpoint);
    assert_eq!(endpoint(after), endpoint(before.1));
    assert_eq!(world.log.len(), before.0);
    // It counts once.
    world.deliver(reply);
    assert_eq!(world.refused(LEFT, Refused::CookieUnexpected), 1);
    world.run(seconds(6));
    assert_eq!(world.sequences(RIGHT), [1]);
}

#[test]
fn who_has_proven_its_address_is_held_to_twenty_a_second() {
    let mut world = loaded();
    world.ping(LEFT, 1);
    let mut signed = None;
    while signed.is_none() {
        flood(&mut world, 200);
        world.run(millis(1));
        let first = world.wire.front().filter(|letter| letter.kind() == 1);
        signed = first.filter(|first| first.bytes[132..] != [0; 16]).cloned();
    }
    for _ in 0..50 {
        world.deliver(signed.clone().unwrap());
    }
    assert_eq!(world.refused(RIGHT, Refused::HandshakeTooOften), 45);
    world.run(seconds(1));
    assert_eq!(world.refused(RIGHT, Refused::InitiationReplayed), 4);
}

#[test]
fn a_flood_of_one_lane_keeps_nobody_from_another_lane_of_the_worker() {
    let mut world = World::new();
    // Beside the right lane stands another one of its worker, under 100,000 messages a second.
    let (mut other, mut out) = (Lane::new(1, key(3), [9; 32]), Outbox::new(0, 64, 64));
    let mut stranger = Lane::new(0, key(9), [1; 32]);
    let peer = stranger.add_peer(Now::default(), key(3).public()).unwrap();
    stranger.set_endpoint(peer, "192.0.2.3:3000".parse().unwrap());
    stranger.greet(Now::default(), peer, &mut out);
    let mut train = out.wire.pop().unwrap();
    train.lane = 1;
    for round in 0..3_000 {
        let now = world.now(RIGHT);
        let reception = &mut world.sides[RIGHT].reception;
        for number in 0..100 {
            train.path = source(100 * round + number).into();
            other.open(now, &mut train, reception, &mut Vec::new(), &mut out);
            while let Some(reply) = out.wire.pop() {
                out.arena.put(reply.buf);
            }
        }
        other.handle_timeout(now, reception, &mut out);
        if round == 2_000 {
            world.ping(LEFT, 1);
        }
        world.run(millis(1));
    }
    assert!(out.refused[Refused::CookieWanted] > 10_000);
    assert_eq!(world.sequences(RIGHT), [1]);
    let kinds: Vec<_> = world.log.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [1, 2, 4]);
}

#[test]
fn no_more_than_1024_handshakes_wait_whatever_comes() {
    let mut world = World::new();
    for _ in 0..3 {
        flood(&mut world, 20_000);
        assert!(world.sides[RIGHT].lane.queued() <= 1_024);
    }
    assert!(world.refused(RIGHT, Refused::CookieWithheld) > 50_000);
    let replied: usize = world.log.iter().map(|record| record.length).sum();
    assert!(replied < 60_000 * 148 / 10);
}
