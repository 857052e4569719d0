//! One pod's many flows beside another's few, where the tables are full: each node's holds 64.

use datapath::Reason;

use crate::world::{World, pod, tcp, udp};

/// Whether a client of node 1 and a server of node 2 hear of each other.
fn connects(world: &mut World, client: ([u8; 4], u16), server: ([u8; 4], u16)) -> bool {
    world.delivered(1);
    world.send(1, &tcp(client, server, "S", b""));
    let asked = world.delivered(2).len();
    world.send(2, &tcp(server, client, "SA", b""));
    (asked, world.delivered(1).len()) == (1, 1)
}

/// How many of the clients' connections carry data.
fn carried(world: &mut World, clients: &[([u8; 4], u16)], server: ([u8; 4], u16)) -> usize {
    for client in clients {
        world.send(1, &tcp(*client, server, "A", b"data"));
    }
    world.delivered(2).len()
}

fn clients(number: u8, count: u16) -> Vec<([u8; 4], u16)> {
    let ports = 30_000..30_000 + count;
    ports.map(|port| (pod(1, number), port)).collect()
}

const FRIEND: ([u8; 4], u16) = ([10, 2, 0, 1], 8080);
const SERVER: ([u8; 4], u16) = ([10, 2, 0, 2], 8080);

#[test]
fn a_pod_whose_connections_a_friend_answers_leaves_another_pod_its_own() {
    let mut world = World::new();
    let hogs = clients(1, 200);
    for client in &hogs[..100] {
        connects(&mut world, *client, FRIEND);
    }
    assert_eq!(world.drops(1, Reason::FlowTableFull), 36);
    assert_eq!(
        carried(&mut world, &hogs[..64], FRIEND),
        64,
        "alone it has all"
    );
    let others = clients(2, 32);
    for client in &others {
        assert!(connects(&mut world, *client, SERVER));
    }
    for client in &hogs[100..] {
        assert!(!connects(&mut world, *client, FRIEND));
    }
    assert_eq!(carried(&mut world, &others, SERVER), 32);
    assert_eq!(
        carried(&mut world, &hogs[..64], FRIEND),
        32,
        "as it has half"
    );
}

#[test]
fn a_connection_opens_while_another_pod_floods() {
    let mut world = World::new();
    let flood = |world: &mut World, ports: std::ops::Range<u16>| {
        for port in ports {
            world.send(1, &udp((pod(1, 1), port), FRIEND));
        }
        world.delivered(2);
    };
    flood(&mut world, 1_000..1_200);
    let slow = (pod(1, 2), 40_000);
    world.send(1, &tcp(slow, SERVER, "S", b""));
    assert_eq!(world.delivered(2).len(), 1);
    flood(&mut world, 1_200..1_500);
    world.send(2, &tcp(SERVER, slow, "SA", b""));
    assert_eq!(world.delivered(1).len(), 1, "its answer comes late");
    flood(&mut world, 1_500..1_600);
    assert_eq!(carried(&mut world, &[slow], SERVER), 1);
    assert_eq!(world.drops(1, Reason::FlowTableFull), 0);
}

#[test]
fn a_change_takes_nothing_from_who_has_more_than_a_share() {
    let mut world = World::new();
    let (hogs, others) = (clients(1, 60), clients(2, 10));
    for client in &hogs {
        assert!(connects(&mut world, *client, FRIEND));
    }
    for client in &others {
        assert!(connects(&mut world, *client, SERVER));
    }
    for _ in 0..2 {
        assert_eq!(carried(&mut world, &others, SERVER), 10);
        assert_eq!(carried(&mut world, &hogs, FRIEND), 54);
        world.publish();
    }
}
