//! Who may speak with whom, and whose addresses count.

use datapath::Reason;
use policy::{
    Direction, Entry, EntryVerdict, Isolates, Peer, Peers, Policy, PolicyName, Ports, Selector,
    Tier,
};

use packet::{Address, Complaint, Offload, Packet, icmp_error};

use crate::world::{World, echo, pod, pod_v6, read, tcp, udp_v6};

/// Only pod `allowed` may speak to pod `subject`; both are `NODE-POD`.
pub(crate) fn only(subject: &str, allowed: &str, direction: Direction) -> Policy {
    Policy {
        name: PolicyName {
            kind: "NetworkPolicy".into(),
            namespace: "test".into(),
            name: "only".into(),
        },
        origin: "test.yaml:1".into(),
        subject: Selector::default().with("pod", subject),
        entries: vec![Entry {
            direction,
            tier: Tier::Normal,
            priority: 0,
            verdict: EntryVerdict::Allow,
            peers: Peers::Of(vec![Peer::Selector(
                Selector::default().with("pod", allowed),
            )]),
            ports: Ports::Any,
        }],
        isolates: Isolates {
            ingress: direction == Direction::Ingress,
            egress: direction == Direction::Egress,
        },
        refused: None,
        audit: false,
    }
}

#[test]
fn a_pod_reaches_a_pod_of_the_other_node_and_one_of_its_own() {
    let mut world = World::new();
    for target in [pod(2, 1), pod(1, 2)] {
        world.send(1, &echo(pod(1, 1), target, 64, true));
        let node = target[1];
        let arrived = world.delivered(node);
        assert_eq!(arrived.len(), 1);
        assert_eq!(read(&arrived[0]).flow.destination.v4(), Some(target));
        world.send(node, &echo(target, pod(1, 1), 64, false));
        assert_eq!(world.delivered(1).len(), 1);
    }
}

#[test]
fn what_waits_to_be_made_whole_is_judged_by_the_snapshot_by_which_its_source_was_proven() {
    let mut world = World::new();
    let datagram = udp_v6((pod_v6(1, 1), 5000), (pod_v6(2, 1), 53));
    // The first waits for the handshake, and begins the flow.
    world.send(1, &datagram);
    assert_eq!(world.delivered(2).len(), 1);
    world.more = true;
    (0..2).for_each(|_| world.give(1, &datagram));
    world.settle();
    assert_eq!(world.hosts[1].forwarder.queued(), 2);
    assert!(world.delivered(2).is_empty());
    world.policies = vec![only("2-1", "2-9", Direction::Ingress)];
    world.publish();
    world.settle();
    assert_eq!(world.hosts[1].forwarder.queued(), 0);
    assert_eq!(world.delivered(2).len(), 1, "one packet of two segments");
    world.send(1, &datagram);
    assert_eq!(world.drops(2, Reason::IngressDenied), 1);
}

#[test]
fn an_answer_without_a_question_is_dropped() {
    let mut world = World::new();
    world.send(1, &echo(pod(1, 1), pod(2, 1), 64, false));
    assert_eq!(world.drops(1, Reason::NoFlow), 1);
    assert!(world.delivered(2).is_empty());
}

#[test]
fn ingress_is_judged_at_the_destination_and_egress_at_the_source() {
    let mut world = World::new();
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    world.send(1, &echo(pod(1, 1), pod(2, 1), 64, true));
    assert_eq!(world.drops(2, Reason::IngressDenied), 1);
    world.send(1, &echo(pod(1, 2), pod(2, 1), 64, true));
    assert_eq!(world.delivered(2).len(), 1);

    world.policies = vec![only("1-3", "2-2", Direction::Egress)];
    world.publish();
    world.send(1, &echo(pod(1, 3), pod(2, 1), 64, true));
    assert_eq!(world.drops(1, Reason::EgressDenied), 1);
    world.send(1, &echo(pod(1, 3), pod(2, 2), 64, true));
    assert_eq!(world.delivered(2).len(), 1);
}

#[test]
fn a_tightened_policy_cuts_a_flow_at_its_next_forward_packet() {
    let mut world = World::new();
    let client = (pod(1, 1), 40_000);
    let server = (pod(2, 1), 8080);
    world.send(1, &tcp(client, server, "S", b""));
    world.send(2, &tcp(server, client, "SA", b""));
    world.send(1, &tcp(client, server, "A", b"one"));
    assert_eq!((world.delivered(2).len(), world.delivered(1).len()), (2, 1));
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    world.send(1, &tcp(client, server, "A", b"two"));
    assert!(world.delivered(2).is_empty());
    assert_eq!(world.drops(2, Reason::IngressDenied), 1);
    // And opens at once when it is loosened.
    world.policies.clear();
    world.publish();
    world.send(1, &tcp(client, server, "A", b"two"));
    assert_eq!(world.delivered(2).len(), 1);
}

/// An ICMP error of `from` about `offender`, addressed to `to`.
fn complaint(world: &mut World, offender: &[u8], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let arena = &mut world.hosts[0].out.tunnel.arena;
    let (mut about, mut error) = (arena.take().unwrap(), arena.take().unwrap());
    about.extend(offender);
    let about = Packet::parse(about, Offload::default()).expect("a packet");
    let from = Address::from_v4(from);
    assert!(icmp_error(
        &about,
        Complaint::PortUnreachable,
        from,
        &mut error
    ));
    let mut error = Packet::parse(error, Offload::default()).expect("a packet");
    error.set_destination(Address::from_v4(to), 0);
    let bytes = error.bytes().to_vec();
    arena.put(about.into_buf());
    arena.put(error.into_buf());
    bytes
}

#[test]
fn an_error_about_an_allowed_flow_goes_to_its_sender_and_to_nobody_else() {
    let mut world = World::new();
    world.policies = vec![only("2-2", "2-1", Direction::Ingress)];
    world.publish();
    let (ours, theirs) = ((pod(1, 1), 40_000), (pod(2, 1), 8080));
    world.send(1, &tcp(ours, theirs, "S", b""));
    world.send(2, &tcp(theirs, ours, "SA", b""));
    world.delivered(2);
    let answer = tcp(theirs, ours, "A", b"data");
    for to in [pod(2, 2), pod(1, 2), [192, 0, 2, 2], [8, 8, 8, 8]] {
        let error = complaint(&mut world, &answer, ours.0, to);
        world.delivered(1);
        world.send(1, &error);
        world.inject_from_peer(2, &error);
        assert!(world.delivered(1).is_empty() && world.delivered(2).is_empty());
    }
    let error = complaint(&mut world, &answer, ours.0, theirs.0);
    world.send(1, &error);
    assert_eq!(world.delivered(2).len(), 1);
}

#[test]
fn a_flow_that_a_policy_has_cut_is_not_opened_again_by_what_its_server_still_sends() {
    for (policy, reason) in [
        (
            only("2-1", "1-2", Direction::Ingress),
            Reason::IngressDenied,
        ),
        (only("1-1", "2-2", Direction::Egress), Reason::EgressDenied),
    ] {
        let mut world = World::new();
        let client = (pod(1, 1), 40_000);
        let server = (pod(2, 1), 8080);
        world.send(1, &tcp(client, server, "S", b""));
        world.send(2, &tcp(server, client, "SA", b""));
        world.delivered(2);
        world.policies = vec![policy];
        world.publish();
        for _ in 0..3 {
            world.send(1, &tcp(client, server, "A", b"more"));
            world.send(2, &tcp(server, client, "SA", b""));
            world.send(2, &tcp(server, client, "A", b"late"));
        }
        assert!(world.delivered(2).is_empty(), "{reason:?}");
        // A connection of the server's own is another matter: nothing forbids it.
        world.delivered(1);
        world.send(2, &tcp(server, client, "S", b""));
        assert_eq!(world.delivered(1).len(), 1, "{reason:?}");
    }
}

#[test]
fn a_peer_may_send_only_from_its_own_addresses() {
    let mut world = World::new();
    world.send(1, &echo(pod(1, 1), pod(2, 1), 64, true));
    world.delivered(1);
    // Of our own pod, of our own node, of nobody, and of the world.
    for source in [pod(1, 2), [192, 0, 2, 1], pod(1, 9), [8, 8, 8, 8]] {
        world.inject_from_peer(1, &echo(source, pod(1, 1), 64, true));
    }
    assert_eq!(world.drops(1, Reason::ForgedSource), 4);
    assert!(world.delivered(1).is_empty());
    world.inject_from_peer(1, &echo(pod(2, 1), pod(1, 1), 64, true));
    assert_eq!(world.delivered(1).len(), 1);
}

#[test]
fn an_address_that_nobody_has_is_denied_in_both_directions() {
    let mut world = World::new();
    world.send(1, &echo(pod(1, 1), pod(1, 9), 64, true));
    assert_eq!(world.drops(1, Reason::UnknownDestination), 1);
    world.send(1, &echo(pod(1, 9), pod(1, 1), 64, true));
    assert_eq!(world.drops(1, Reason::ForgedSource), 1);
    world.inject_from_peer(1, &echo(pod(2, 9), pod(1, 1), 64, true));
    assert_eq!(world.drops(1, Reason::UnknownSource), 1);
}

#[test]
fn a_packet_whose_time_has_run_out_is_answered_and_not_forwarded() {
    let mut world = World::new();
    world.send(1, &echo(pod(1, 1), pod(2, 1), 1, true));
    assert_eq!(world.drops(1, Reason::TimeExceeded), 1);
    assert!(world.delivered(2).is_empty());
    let answers = world.delivered(1);
    assert_eq!(answers.len(), 1);
    let answer = read(&answers[0]);
    assert_eq!(answer.flow.destination.v4(), Some(pod(1, 1)));
    assert_eq!(answer.flow.source.v4(), Some([192, 0, 2, 1]));
}

#[test]
fn a_full_table_refuses_what_would_push_out_a_living_flow() {
    let mut world = World::new();
    for number in 0..80_u16 {
        let client = (pod(1, 1), 30_000 + number);
        let server = (pod(2, 1), 8080);
        world.send(1, &tcp(client, server, "S", b""));
        world.send(2, &tcp(server, client, "SA", b""));
    }
    assert!(world.drops(1, Reason::FlowTableFull) > 0);
    assert_eq!(world.hosts[0].forwarder.flows(), 64);
}

#[test]
fn a_blind_reset_ends_no_flow() {
    let mut world = World::new();
    world.policies = vec![only("1-1", "nobody", Direction::Ingress)];
    world.publish();
    let (client, server) = ((pod(1, 1), 40_000), (pod(2, 1), 8080));
    let connect = |world: &mut World| {
        world.send(1, &tcp(client, server, "S", b""));
        world.send(2, &tcp(server, client, "SA", b""));
        world.send(1, &tcp(client, server, "A", b"question"));
        assert_eq!((world.delivered(2).len(), world.delivered(1).len()), (2, 1));
    };
    let reset = |number: u32| {
        let mut bytes = tcp(server, client, "R", b"");
        bytes[24..28].copy_from_slice(&number.to_be_bytes());
        let (ip, rest) = etherparse::Ipv4Header::from_slice(&bytes).expect("a header");
        let (tcp, _) = etherparse::TcpHeader::from_slice(rest).expect("a header");
        let sum = tcp.calc_checksum_ipv4(&ip, &[]).expect("a checksum");
        bytes[36..38].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let minute = core::time::Duration::from_secs(60);
    for (number, answers) in [(77_777_777, 1), (1_001, 0)] {
        connect(&mut world);
        world.send(2, &reset(number));
        assert_eq!(
            world.delivered(1).len(),
            1,
            "it is for its receiver to judge"
        );
        world.pass(minute);
        world.send(2, &tcp(server, client, "A", b"answer"));
        assert_eq!(
            world.delivered(1).len(),
            answers,
            "after a reset at {number}"
        );
    }
}
