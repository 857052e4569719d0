//! Whether the other node answers.

use std::time::Duration;

use datapath::{Health, HealthChange};

use crate::world::World;

fn health(world: &World) -> Health {
    world.hosts[0]
        .forwarder
        .probe_status()
        .next()
        .expect("one node")
        .health
}

fn changes(world: &mut World) -> Vec<HealthChange> {
    world.hosts[0].forwarder.take_health_changes().collect()
}

#[test]
fn a_node_that_ceases_to_answer_is_silent_within_a_second_and_comes_back_without_flapping() {
    let mut world = World::new();
    world.pass(Duration::from_secs(2));
    assert_eq!(health(&world), Health::Answering);
    let told = changes(&mut world);
    assert_eq!(told.len(), 1, "a worker before it may have said otherwise");
    assert!(told[0].answering);
    world.cut = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(health(&world), Health::Silent);
    let told = changes(&mut world);
    assert_eq!(told.len(), 1);
    assert!(!told[0].answering);
    assert_eq!(told[0].node, "node-2");
    world.cut = false;
    world.pass(Duration::from_millis(300));
    assert_eq!(health(&world), Health::Silent, "one answer is not enough");
    world.pass(Duration::from_secs(1));
    assert_eq!(health(&world), Health::Answering);
    assert_eq!(changes(&mut world).len(), 1);
}

#[test]
fn a_silent_node_that_moves_or_goes_is_taken_to_answer_again() {
    let mut world = World::new();
    world.pass(Duration::from_secs(2));
    world.cut = true;
    world.pass(Duration::from_secs(1));
    assert!(
        changes(&mut world)
            .last()
            .is_some_and(|told| !told.answering)
    );
    world.moved = true;
    world.publish();
    let told = changes(&mut world);
    assert_eq!(told.len(), 1);
    assert!(told[0].answering);
}

#[test]
fn probes_of_a_silent_node_do_not_fill_the_queue() {
    let mut world = World::new();
    world.cut = true;
    world.pass(Duration::from_secs(30));
    assert_eq!(world.hosts[0].forwarder.queued(), 1);
}

#[test]
fn a_node_that_was_never_heard_is_silent_after_a_few_seconds() {
    let mut world = World::new();
    world.cut = true;
    world.pass(Duration::from_secs(2));
    assert_eq!(health(&world), Health::Unknown);
    world.pass(Duration::from_secs(2));
    assert_eq!(health(&world), Health::Silent);
}
