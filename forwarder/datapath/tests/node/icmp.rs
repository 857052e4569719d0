//! ICMP under policies that go by type: a message that may pass lets no other through.

use datapath::Reason;
use etherparse::PacketBuilder;
use packet::protocol;
use policy::{Direction, Peers, Policy, PortMatch, PortRule, Ports};

use crate::judged::only;
use crate::world::{World, pod};

const A: [u8; 4] = [10, 1, 0, 1];

/// Pod 2-1 takes messages of these types from anybody, and nothing else.
fn takes(types: &[u16]) -> Policy {
    let mut policy = only("2-1", "", Direction::Ingress);
    policy.entries[0].peers = Peers::Any;
    let rule = |kind: &u16| PortRule {
        protocol: protocol::ICMP,
        port: PortMatch::Range(*kind, *kind),
    };
    policy.entries[0].ports = Ports::Of(types.iter().map(rule).collect());
    policy
}

/// A message with an identifier and a sequence number of 7.
fn message(source: [u8; 4], destination: [u8; 4], kind: u8, identifier: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [high, low] = identifier.to_be_bytes();
    PacketBuilder::ipv4(source, destination, 64)
        .icmpv4_raw(kind, 0, [high, low, 0, 7])
        .write(&mut bytes, &[0; 12])
        .expect("a vector takes it");
    bytes
}

fn world(types: &[u16]) -> World {
    let mut world = World::new();
    world.policies = vec![takes(types)];
    world.publish();
    world
}

#[test]
fn a_flow_of_echoes_lets_no_other_type_through() {
    let b = pod(2, 1);
    let mut world = world(&[8]);
    world.send(1, &message(A, b, 8, 0));
    assert_eq!(world.delivered(2).len(), 1);
    for (number, kind) in (1..).zip([13, 17, 15, 10, 42]) {
        world.send(1, &message(A, b, kind, 0));
        assert_eq!(world.delivered(2).len(), 0, "type {kind}");
        assert_eq!(world.drops(2, Reason::IngressDenied), number, "type {kind}");
    }
    // Its own go on, and are answered.
    world.send(1, &message(A, b, 8, 0));
    world.send(2, &message(b, A, 0, 0));
    assert_eq!((world.delivered(2).len(), world.delivered(1).len()), (1, 1));
}

#[test]
fn each_question_is_judged_and_only_its_own_answer_passes() {
    let b = pod(2, 1);
    let mut world = world(&[13]);
    // What comes the other way is free at its source, and not at 1-1.
    let mut closed = takes(&[]);
    closed.subject = only("1-1", "", Direction::Ingress).subject;
    world.policies.push(closed);
    world.publish();
    world.send(1, &message(A, b, 13, 9));
    assert_eq!(world.delivered(2).len(), 1);
    for kind in [13, 16, 18, 17, 9] {
        world.send(2, &message(b, A, kind, 9));
        assert_eq!(world.delivered(1).len(), 0, "type {kind}");
    }
    world.send(2, &message(b, A, 14, 9));
    assert_eq!(world.delivered(1).len(), 1);
}

#[test]
fn a_question_with_the_identifier_of_another_is_no_answer() {
    let b = pod(2, 1);
    let mut world = World::new();
    let mut closed = takes(&[]);
    closed.subject = only("1-1", "", Direction::Ingress).subject;
    world.policies = vec![closed];
    world.publish();
    world.send(1, &message(A, b, 8, 1));
    assert_eq!(world.delivered(2).len(), 1);
    world.send(2, &message(b, A, 8, 1));
    assert_eq!(world.delivered(1).len(), 0, "a question");
    assert_eq!(world.drops(1, Reason::IngressDenied), 1);
    world.send(2, &message(b, A, 0, 1));
    assert_eq!(world.delivered(1).len(), 1, "the answer");
    // Where both may ask, both do, and are answered.
    world.policies = vec![takes(&[8]), {
        let mut open = takes(&[8]);
        open.subject = only("1-1", "", Direction::Ingress).subject;
        open
    }];
    world.publish();
    world.send(1, &message(A, b, 8, 1));
    world.send(2, &message(b, A, 8, 1));
    world.send(1, &message(A, b, 0, 1));
    assert_eq!((world.delivered(2).len(), world.delivered(1).len()), (2, 1));
}

/// A later fragment of a message whose first nobody has seen.
fn orphan(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut bytes = message(source, destination, 8, 0);
    // At byte 64 of its datagram, the last one (RFC 791 §3.1).
    bytes[6..8].copy_from_slice(&8u16.to_be_bytes());
    let header = etherparse::Ipv4Header::from_slice(&bytes)
        .expect("a header")
        .0;
    bytes[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    bytes
}

#[test]
fn an_orphan_fragment_is_no_echo_and_an_echo_no_fragment() {
    let b = pod(2, 1);
    let mut world = World::new();
    let mut deny = takes(&[8]);
    deny.isolates = policy::Isolates::default();
    deny.entries[0].verdict = policy::EntryVerdict::Deny;
    world.policies = vec![deny];
    world.publish();
    world.send(1, &orphan(A, b));
    assert_eq!(world.delivered(2).len(), 1, "only echoes are denied");
    world.send(1, &message(A, b, 8, 0));
    assert_eq!(world.delivered(2).len(), 0);
    assert_eq!(world.drops(2, Reason::IngressDenied), 1);
    world.policies = vec![takes(&[8])];
    world.publish();
    world.send(1, &message(A, b, 8, 0));
    assert_eq!(world.delivered(2).len(), 1);
    world.send(1, &orphan(A, b));
    assert_eq!(world.delivered(2).len(), 0, "no type can be read");
}
