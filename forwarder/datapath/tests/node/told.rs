//! What is told of flows: begin, denial and end, once each, with what was carried.

use std::time::Duration;

use datapath::{End, Event, Reason, Record, Side, Traffic};
use packet::{Address, protocol};
use policy::{Direction, Identity};

use crate::judged::only;
use crate::world::{SERVICE, SERVICE_PORT, World, echo, identity, pod, tcp, udp};

/// What `node` has told since the last call.
pub(crate) fn told(world: &mut World, node: u8) -> Vec<Record> {
    let host = &mut world.hosts[usize::from(node) - 1];
    let mut told = Vec::new();
    host.forwarder.hand_over_records(|record| {
        told.push(record);
        true
    });
    told
}

fn events(world: &mut World, node: u8) -> Vec<Event> {
    told(world, node)
        .iter()
        .map(|record| record.event)
        .collect()
}

const CLIENT: ([u8; 4], u16) = ([10, 1, 0, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([10, 2, 0, 1], 8080);

#[test]
fn a_connection_is_told_at_both_ends_when_it_begins_and_when_it_is_over() {
    let mut world = World::new();
    let segments = [
        (1, tcp(CLIENT, SERVER, "S", b"")),
        (2, tcp(SERVER, CLIENT, "SA", b"")),
        (1, tcp(CLIENT, SERVER, "A", b"question")),
        (2, tcp(SERVER, CLIENT, "AF", b"answer")),
        (1, tcp(CLIENT, SERVER, "AF", b"")),
    ];
    let mut bytes = [0; 2];
    for (node, segment) in &segments {
        world.send(*node, segment);
        bytes[usize::from(*node) - 1] += segment.len() as u64;
    }
    for (node, side) in [(1, Side::Out), (2, Side::In)] {
        let [began] = told(&mut world, node).try_into().expect("one record");
        assert_eq!((began.event, began.side), (Event::Began, side));
        let ends = (Some(identity(1, 1)), Some(identity(2, 1)));
        let (from, to) = match side {
            Side::Out => (began.subject, began.peer),
            Side::In => (began.peer, began.subject),
        };
        assert_eq!((from, to), ends);
    }
    // It is over, but late segments are still its own: the end is told long before it is forgotten.
    world.pass(Duration::from_secs(16));
    for node in [1, 2] {
        let [
            Event::Ended {
                why,
                forward,
                reply,
                ..
            },
        ] = events(&mut world, node)[..]
        else {
            panic!("one end")
        };
        assert_eq!(why, End::Closed);
        let traffic = |packets, bytes| Traffic { packets, bytes };
        assert_eq!(
            (forward, reply),
            (traffic(3, bytes[0]), traffic(2, bytes[1]))
        );
    }
    world.pass(Duration::from_secs(30));
    assert!(events(&mut world, 1).is_empty(), "told once");
}

#[test]
fn a_denied_flow_is_told_with_the_rule_and_not_with_every_packet() {
    let mut world = World::new();
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    for _ in 0..5 {
        world.send(1, &tcp(CLIENT, SERVER, "S", b""));
    }
    let [denied] = told(&mut world, 2).try_into().expect("one record");
    assert_eq!(denied.event, Event::Denied(Reason::IngressDenied));
    assert!(denied.rule.is_some() && denied.epoch == 2);
    assert_eq!(world.drops(2, Reason::IngressDenied), 5, "all are counted");
    world.pass(Duration::from_secs(10));
    told(&mut world, 1);
    world.send(1, &tcp(CLIENT, SERVER, "S", b""));
    assert_eq!(
        events(&mut world, 2),
        [Event::Denied(Reason::IngressDenied)]
    );
    // Who nobody has is told of, too.
    world.send(1, &echo(pod(1, 1), pod(2, 9), 64, true));
    let [denied] = told(&mut world, 1).try_into().expect("one record");
    assert_eq!(denied.event, Event::Denied(Reason::UnknownDestination));
    assert_eq!((denied.subject, denied.peer), (Some(identity(1, 1)), None));
}

#[test]
fn a_flow_that_a_change_cuts_ends_once_and_one_that_it_leaves_alone_is_not_told() {
    let mut world = World::new();
    let ask = |world: &mut World| {
        world.send(1, &udp((pod(1, 1), 5000), (pod(2, 1), 53)));
        world.send(2, &udp((pod(2, 1), 53), (pod(1, 1), 5000)));
    };
    ask(&mut world);
    assert_eq!(events(&mut world, 2), [Event::Began]);
    for _ in 0..3 {
        world.publish();
        ask(&mut world);
    }
    assert!(events(&mut world, 2).is_empty());
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    ask(&mut world);
    ask(&mut world);
    let [
        Event::Ended {
            why,
            forward,
            reply,
            ..
        },
    ] = events(&mut world, 2)[..]
    else {
        panic!("one end")
    };
    assert_eq!(why, End::Cut(Reason::IngressDenied));
    assert_eq!((forward.packets, reply.packets), (4, 4));
    world.pass(Duration::from_secs(150));
    assert!(events(&mut world, 2).is_empty());
}

#[test]
fn what_is_cut_names_the_rule_and_what_is_allowed_again_begins_anew() {
    let mut world = World::new();
    let question = udp((pod(1, 1), 5000), (pod(2, 1), 53));
    let ask = |world: &mut World| {
        world.send(1, &question);
        world.send(2, &udp((pod(2, 1), 53), (pod(1, 1), 5000)));
    };
    ask(&mut world);
    told(&mut world, 2);
    world.policies = vec![only("2-1", "1-2", Direction::Ingress)];
    world.publish();
    ask(&mut world);
    let [cut] = told(&mut world, 2).try_into().expect("one record");
    assert!(cut.rule.is_some() && cut.epoch == 2, "{cut:?}");
    world.policies.clear();
    world.publish();
    world.send(1, &question);
    assert_eq!(events(&mut world, 2), [Event::Began]);
    world.pass(Duration::from_secs(150));
    let [Event::Ended { forward, .. }] = events(&mut world, 2)[..] else {
        panic!("one end")
    };
    assert_eq!(forward.packets, 1, "what was told before is not told again");
}

#[test]
fn late_segments_of_a_closed_connection_are_not_told_but_data_is() {
    let mut world = World::new();
    for (node, flags) in [(1, "S"), (2, "SA"), (1, "A"), (2, "AF"), (1, "AF")] {
        let (from, to) = if node == 1 {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        world.send(node, &tcp(from, to, flags, b""));
    }
    told(&mut world, 1);
    // The table is swept whole in this time, and the connection is still known.
    world.pass(Duration::from_secs(8));
    assert!(matches!(events(&mut world, 1)[..], [Event::Ended { .. }]));
    world.publish();
    world.send(1, &tcp(CLIENT, SERVER, "A", b""));
    world.pass(Duration::from_secs(8));
    assert!(events(&mut world, 1).is_empty());
    world.send(1, &tcp(CLIENT, SERVER, "A", b"more"));
    world.pass(Duration::from_secs(20));
    let [Event::Ended { forward, .. }] = events(&mut world, 1)[..] else {
        panic!("one end")
    };
    assert_eq!(forward.packets, 2);
}

#[test]
fn a_flow_to_a_service_is_told_with_its_backend_and_when_it_moves() {
    let mut world = World::new();
    world.backends = vec![(2, 1, true)];
    world.publish();
    let question = udp((pod(1, 1), 5000), (SERVICE, SERVICE_PORT));
    world.send(1, &question);
    let [began] = told(&mut world, 1).try_into().expect("one record");
    assert_eq!(began.flow.destination, Address::from_v4(SERVICE));
    assert_eq!(began.flow.protocol, protocol::UDP);
    assert_eq!(began.destination, (Address::from_v4(pod(2, 1)), 8080));
    world.backends = vec![(2, 2, true)];
    world.publish();
    world.send(1, &question);
    let [ended, began] = told(&mut world, 1).try_into().expect("two records");
    assert!(matches!(
        ended.event,
        Event::Ended {
            why: End::Moved,
            ..
        }
    ));
    assert_eq!(ended.destination.0, Address::from_v4(pod(2, 1)));
    assert_eq!(began.event, Event::Began);
    assert_eq!(began.destination.0, Address::from_v4(pod(2, 2)));
    // Nothing but its time ends what was never answered.
    world.pass(Duration::from_secs(150));
    let silent = told(&mut world, 1);
    let [
        Record {
            event:
                Event::Ended {
                    why,
                    lasted,
                    forward,
                    ..
                },
            ..
        },
    ] = silent[..]
    else {
        panic!("one end: {silent:?}")
    };
    assert_eq!((why, forward.packets), (End::Silent, 1));
    assert_eq!(lasted, Duration::ZERO);
}

#[test]
fn a_full_table_tells_whom_it_gave_up() {
    let mut world = World::new();
    let world_address = [203, 0, 113, 7];
    for port in 0..70 {
        world.send(1, &udp((pod(1, 1), 5000 + port), (world_address, 53)));
    }
    let told = told(&mut world, 1);
    let began = told.iter().filter(|r| r.event == Event::Began);
    assert_eq!(began.count(), 70);
    assert!(told.iter().all(|r| r.peer == Some(Identity::WORLD)));
    let evicted = told.iter().filter(|r| {
        matches!(
            r.event,
            Event::Ended {
                why: End::Evicted,
                ..
            }
        )
    });
    assert_eq!(evicted.count(), 6, "64 have room");
}

#[test]
fn a_full_table_tells_of_an_answered_flow_that_made_room_for_another_pod() {
    let mut world = World::new();
    for port in 0..64 {
        let (client, server) = ((pod(1, 1), 5000 + port), (pod(2, 1), 53));
        world.send(1, &udp(client, server));
        world.send(2, &udp(server, client));
    }
    told(&mut world, 1);
    world.send(1, &udp((pod(1, 2), 5000), (pod(2, 1), 53)));
    let [ended, began] = told(&mut world, 1).try_into().expect("two records");
    let Event::Ended { why, reply, .. } = ended.event else {
        panic!("an end: {ended:?}")
    };
    assert_eq!((why, reply.packets), (End::Evicted, 1));
    assert_eq!(ended.subject, Some(identity(1, 1)));
    let who_began = (began.event, began.subject);
    assert_eq!(who_began, (Event::Began, Some(identity(1, 2))));
    // Who has all but one has its share: more of it is denied, and that is told as well.
    world.send(1, &udp((pod(1, 1), 6000), (pod(2, 1), 53)));
    assert_eq!(
        events(&mut world, 1),
        [Event::Denied(Reason::FlowTableFull)]
    );
}
