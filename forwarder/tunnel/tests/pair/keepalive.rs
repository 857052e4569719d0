//! What is sent when there is nothing to say.

use crate::world::{LEFT, RIGHT, World, seconds};

#[test]
fn received_data_is_acknowledged_once_after_ten_seconds_and_then_all_is_silent() {
    let mut world = World::connected();
    world.run(seconds(30));
    world.log.clear();
    world.ping(LEFT, 1);
    world.run(seconds(1_000));
    let sent: Vec<_> = world.log.iter().map(|r| (r.by, r.kind, r.length)).collect();
    assert_eq!(sent, [(LEFT, 4, 96), (RIGHT, 4, 32)]);
    assert!(world.log[1].at.since(world.log[0].at) >= seconds(10));
}

#[test]
fn no_keepalive_is_sent_while_data_flows_both_ways() {
    let mut world = World::connected();
    for sequence in 0..60 {
        world.ping(LEFT, sequence);
        world.ping(RIGHT, sequence);
        world.run(seconds(1));
    }
    assert!(world.log.iter().all(|record| record.length == 96));
}

#[test]
fn persistent_keepalives_come_at_their_interval_and_are_not_answered() {
    let mut world = World::connected();
    world.run(seconds(20));
    world.log.clear();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    left.lane.set_keepalive(now, left.peer, 25, &mut left.out);
    world.collect(LEFT);
    world.run(seconds(99));
    let times: Vec<_> = world.log.iter().map(|r| (r.by, r.length)).collect();
    assert_eq!(times, [(LEFT, 32); 4]);
    assert!(
        world
            .log
            .windows(2)
            .all(|pair| pair[1].at.since(pair[0].at) == seconds(25))
    );
}

#[test]
fn the_same_interval_set_again_and_again_postpones_no_keepalive() {
    let mut world = World::connected();
    let set = |world: &mut World| {
        let now = world.now(LEFT);
        let left = &mut world.sides[LEFT];
        left.lane.set_keepalive(now, left.peer, 25, &mut left.out);
        world.collect(LEFT);
    };
    set(&mut world);
    world.run(seconds(1));
    world.log.clear();
    for _ in 0..20 {
        world.run(seconds(10));
        set(&mut world);
    }
    let kept = world.log.iter().filter(|r| (r.by, r.length) == (LEFT, 32));
    assert!(kept.count() >= 7);
}

#[test]
fn a_persistent_keepalive_keeps_the_session_alive_for_ever() {
    let mut world = World::new();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    left.lane.set_keepalive(now, left.peer, 25, &mut left.out);
    world.collect(LEFT);
    for _ in 0..100 {
        world.run(seconds(20));
        assert!(world.is_live(RIGHT));
    }
}

#[test]
fn a_persistent_keepalive_tries_again_when_a_dead_peer_comes_back() {
    let mut world = World::new();
    world.loses = Box::new(|_| true);
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    left.lane.set_keepalive(now, left.peer, 25, &mut left.out);
    world.collect(LEFT);
    world.run(seconds(1_000));
    world.loses = Box::new(|_| false);
    world.run(seconds(30));
    assert!(world.is_live(LEFT) && world.is_live(RIGHT));
}

#[test]
fn without_an_endpoint_a_persistent_keepalive_waits_for_one() {
    let mut world = World::new();
    let now = world.now(RIGHT);
    let right = &mut world.sides[RIGHT];
    right
        .lane
        .set_keepalive(now, right.peer, 10, &mut right.out);
    world.collect(RIGHT);
    world.run(seconds(60));
    assert_eq!(world.log, []);
    world.introduce(RIGHT);
    world.run(seconds(11));
    assert!(world.is_live(LEFT) && world.is_live(RIGHT));
}
