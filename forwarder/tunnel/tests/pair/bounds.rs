//! Everything has a limit, and what does not fit is counted.

use packet::Now;
use tunnel::{Lane, LaneError, PrivateKey, PublicKey, Reception, Refused};

use crate::world::{LEFT, RIGHT, World, millis, seconds};

#[test]
fn the_oldest_gives_way_when_too_many_wait_for_a_handshake() {
    let mut world = World::new();
    for sequence in 0..100 {
        world.ping(LEFT, sequence);
    }
    assert_eq!(world.sides[LEFT].lane.queued(), 64);
    assert_eq!(world.refused(LEFT, Refused::QueueFull), 36);
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(36..100));
}

#[test]
fn many_silent_peers_cannot_take_all_buffers() {
    let mut world = World::with_buffers(300);
    let now = world.now(LEFT);
    for number in 10..20 {
        let key = PrivateKey::from_bytes([number; 32]).public();
        let left = &mut world.sides[LEFT];
        left.peer = left.lane.add_peer(now, key).unwrap();
        left.lane
            .set_endpoint(left.peer, "192.0.2.9:9".parse().unwrap());
        for sequence in 0..64 {
            world.ping(LEFT, sequence);
        }
    }
    assert_eq!(world.sides[LEFT].lane.queued(), 256);
    assert_eq!(world.sides[LEFT].out.arena.lent(), 256);
    world.loses = Box::new(|_| true);
    world.run(seconds(100));
    assert_eq!(world.sides[LEFT].lane.queued(), 0);
    assert_eq!(world.sides[LEFT].out.arena.lent(), 0);
}

#[test]
fn dead_peers_with_much_traffic_do_not_keep_others_from_waiting() {
    let mut world = World::with_buffers(300);
    let now = world.now(LEFT);
    let alive = world.sides[LEFT].peer;
    for number in 10..14 {
        let key = PrivateKey::from_bytes([number; 32]).public();
        let left = &mut world.sides[LEFT];
        left.peer = left.lane.add_peer(now, key).unwrap();
        let nowhere = "192.0.2.9:9".parse().unwrap();
        left.lane.set_endpoint(left.peer, nowhere);
        for sequence in 0..64 {
            world.ping(LEFT, sequence);
        }
    }
    assert_eq!(world.sides[LEFT].lane.queued(), 256);
    world.wire.clear();
    let dead = core::mem::replace(&mut world.sides[LEFT].peer, alive);
    for sequence in 0..60 {
        world.ping(LEFT, sequence);
        // The dead ones' traffic does not end.
        world.sides[LEFT].peer = dead;
        world.ping(LEFT, sequence);
        world.sides[LEFT].peer = alive;
    }
    assert_eq!(world.sides[LEFT].lane.queued(), 256);
    world.run(millis(100));
    // A fifth of the places, for the newest, in order.
    assert_eq!(world.sequences(RIGHT), Vec::from_iter(9..60));
}

#[test]
fn what_waits_for_a_removed_peer_is_dropped_by_name_and_its_buffers_go_home() {
    let mut world = World::new();
    world.ping(LEFT, 1);
    let left = &mut world.sides[LEFT];
    left.lane.remove_peer(left.peer, &mut left.out);
    world.collect(LEFT);
    assert_eq!(world.refused(LEFT, Refused::PeerRemoved), 1);
    assert_eq!(world.sides[LEFT].out.arena.lent(), 0);
    assert_eq!(world.sides[LEFT].poll_timeout(), None);
    world.ping(LEFT, 2);
    assert_eq!(world.refused(LEFT, Refused::PeerUnknown), 1);
    // The answer to its handshake comes too late.
    world.run(millis(100));
    assert_eq!(world.refused(LEFT, Refused::ResponseUnexpected), 1);
}

#[test]
fn the_name_of_a_removed_peer_is_not_its_successors() {
    let mut world = World::new();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    let old = left.peer;
    left.lane.remove_peer(old, &mut left.out);
    let key = PrivateKey::from_bytes([3; 32]).public();
    let new = left.lane.add_peer(now, key).unwrap();
    assert_eq!(new.index(), old.index());
    left.lane.remove_peer(old, &mut left.out);
    assert_eq!(left.lane.peer(&key), Some(new));
}

#[test]
fn a_full_wire_or_an_empty_arena_drops_and_counts() {
    let mut world = World::connected();
    let right = world.sides[RIGHT].address;
    world.sides[LEFT].out.wire = packet::Batch::with_limit(1);
    // Another way each time, so that nothing joins the train before it.
    for (sequence, ecn) in [(1, 0), (2, 1), (3, 2)] {
        let packet = world.echo(LEFT, sequence, ecn);
        world.push(LEFT, packet);
    }
    let left = &mut world.sides[LEFT];
    assert_eq!(left.out.refused[Refused::WireFull], 2);
    let train = left.out.wire.pop().unwrap();
    assert_eq!((train.path.remote, train.buf.len()), (right, 96));
    left.out.arena.put(train.buf);
    let packet = world.echo(LEFT, 4, 0);
    let arena = &mut world.sides[LEFT].out.arena;
    let _all: Vec<_> = core::iter::from_fn(|| arena.take()).collect();
    world.push(LEFT, packet);
    let left = &mut world.sides[LEFT];
    assert_eq!(left.out.refused[Refused::BufferMissing], 1);
    assert_eq!(left.out.arena.available(), 1);
}

#[test]
fn many_peers_that_are_due_at_once_are_served_a_few_at_a_time() {
    let mut lane = Lane::new(0, PrivateKey::from_bytes([1; 32]), [0; 32]);
    let mut out = tunnel::Outbox::new(0, 256, 256);
    let mut now = Now::default();
    for number in 2..202 {
        let key = PrivateKey::from_bytes([number; 32]).public();
        let peer = lane.add_peer(now, key).unwrap();
        lane.set_endpoint(peer, "192.0.2.9:9".parse().unwrap());
        // All with one interval, whose keep-alives begin handshakes.
        lane.set_keepalive(now, peer, 1, &mut out);
    }
    assert_eq!(out.ledger.originated, 200);
    now.time = now.time + seconds(6);
    let (mut calls, reception) = (0, &mut Reception::default());
    while lane
        .poll_timeout(reception)
        .is_some_and(|due| due <= now.time)
    {
        let before = out.ledger.originated;
        lane.handle_timeout(now, reception, &mut out);
        assert!(out.ledger.originated - before <= 16);
        calls += 1;
    }
    assert_eq!(out.ledger.originated, 400);
    assert!((13..=50).contains(&calls), "{calls}");
}

#[test]
fn keys_that_cannot_be_a_peers_are_refused() {
    let mut lane = Lane::new(0, PrivateKey::from_bytes([1; 32]), [0; 32]);
    let now = Now::default();
    let own = lane.public_key().unwrap();
    let other = PrivateKey::from_bytes([2; 32]).public();
    assert_eq!(lane.add_peer(now, own), Err(LaneError::KeyOwn));
    let zero = PublicKey::from_bytes([0; 32]);
    assert_eq!(lane.add_peer(now, zero), Err(LaneError::KeyLowOrder));
    assert!(lane.add_peer(now, other).is_ok());
    assert_eq!(lane.add_peer(now, other), Err(LaneError::PeerExists));
}

#[test]
fn the_same_private_key_again_changes_nothing() {
    let mut world = World::connected();
    let now = world.now(LEFT);
    let lane = &mut world.sides[LEFT].lane;
    lane.set_private_key(now, Some(PrivateKey::from_bytes([1; 32])));
    assert!(world.is_live(LEFT));
}

#[test]
fn secrets_are_not_printed() {
    let key = PrivateKey::from_bytes([0xab; 32]);
    let lane = Lane::new(0, key.clone(), [0; 32]);
    let text = format!("{key:?} {lane:?}");
    assert!(
        !text.contains("171, 171") && !text.contains("abab"),
        "{text}"
    );
}
