//! Services: the client sees the service's address and nothing else.

use core::time::Duration;

use datapath::Reason;
use packet::tcp_flag::RST;
use packet::{Complaint, Offload, Packet, icmp_error};
use policy::Direction;

use crate::judged::only;
use crate::world::{SERVICE, SERVICE_PORT, World, echo, pod, read, tcp, udp};

const CLIENT: ([u8; 4], u16) = ([10, 1, 0, 1], 40_000);
const FRONTEND: ([u8; 4], u16) = (SERVICE, SERVICE_PORT);

/// A world in which the service has these backends.
fn with_backends(backends: &[(u8, u8, bool)]) -> World {
    let mut world = World::new();
    world.backends = backends.to_vec();
    world.publish();
    world
}

/// Opens a connection through the service and returns the backend that it reached.
fn connect(world: &mut World, client: ([u8; 4], u16), node: u8) -> ([u8; 4], u16) {
    world.send(1, &tcp(client, FRONTEND, "S", b""));
    let arrived = world.delivered(node);
    assert_eq!(arrived.len(), 1, "the SYN arrives on node {node}");
    let flow = read(&arrived[0]).flow;
    let backend = (flow.destination.v4().expect("IPv4"), flow.destination_port);
    world.send(node, &tcp(backend, client, "SA", b""));
    let answer = read(world.delivered(1).last().expect("the answer")).flow;
    assert_eq!(
        (answer.source.v4(), answer.source_port),
        (Some(FRONTEND.0), FRONTEND.1)
    );
    backend
}

#[test]
fn a_remote_backend_answers_from_the_address_of_the_service() {
    let mut world = with_backends(&[(2, 1, true)]);
    assert_eq!(connect(&mut world, CLIENT, 2), (pod(2, 1), 8080));
}

#[test]
fn a_local_backend_answers_from_the_address_of_the_service() {
    let mut world = with_backends(&[(1, 2, true)]);
    assert_eq!(connect(&mut world, CLIENT, 1), (pod(1, 2), 8080));
}

#[test]
fn an_established_flow_keeps_its_backend_when_others_come() {
    let mut world = with_backends(&[(2, 1, true)]);
    connect(&mut world, CLIENT, 2);
    world.backends = vec![(2, 2, true), (2, 3, true)];
    world.publish();
    world.send(1, &tcp(CLIENT, FRONTEND, "A", b"more"));
    let arrived = world.delivered(2);
    assert_eq!(read(&arrived[0]).flow.destination.v4(), Some(pod(2, 1)));
}

#[test]
fn a_syn_that_was_never_answered_gets_another_backend_when_the_first_is_gone() {
    let mut world = with_backends(&[(2, 1, true)]);
    world.cut = true;
    world.send(1, &tcp(CLIENT, FRONTEND, "S", b""));
    world.cut = false;
    world.backends = vec![(2, 1, false), (1, 2, true)];
    world.publish();
    world.send(1, &tcp(CLIENT, FRONTEND, "S", b""));
    let arrived = world.delivered(1);
    assert_eq!(read(&arrived[0]).flow.destination.v4(), Some(pod(1, 2)));
}

#[test]
fn a_late_answer_of_the_backend_that_a_flow_had_comes_from_the_service_too() {
    let mut world = with_backends(&[(2, 1, true)]);
    world.send(1, &udp(CLIENT, FRONTEND));
    assert_eq!(world.delivered(2).len(), 1);
    // It is held to be dead before it answers; the next datagram goes to another.
    world.backends = vec![(2, 1, false), (1, 2, true)];
    world.publish();
    world.send(1, &udp(CLIENT, FRONTEND));
    let arrived = world.delivered(1);
    assert_eq!(read(&arrived[0]).flow.destination.v4(), Some(pod(1, 2)));
    let answers = |world: &mut World, node, backend: [u8; 4]| {
        world.send(node, &udp((backend, 8080), CLIENT));
        let flow = read(world.delivered(1).last().expect("the answer")).flow;
        (flow.source.v4().expect("IPv4"), flow.source_port)
    };
    for _ in 0..2 {
        assert_eq!(answers(&mut world, 2, pod(2, 1)), FRONTEND);
        assert_eq!(answers(&mut world, 1, pod(1, 2)), FRONTEND);
    }
    // Answers alone keep nothing: what comes when nobody has asked for long is a flow of its own.
    for _ in 0..5 {
        world.pass(Duration::from_secs(30));
        world.send(1, &udp(CLIENT, FRONTEND));
        answers(&mut world, 2, pod(2, 1));
    }
    assert_eq!(answers(&mut world, 2, pod(2, 1)), (pod(2, 1), 8080));
    assert_eq!(answers(&mut world, 1, pod(1, 2)), FRONTEND);
}

/// A flow whose backend was held to be dead before it answered, and that has another now, after
/// `between`.
fn moved_after(between: &[(u8, u8, bool)]) -> World {
    let mut world = with_backends(&[(2, 1, true)]);
    world.send(1, &udp(CLIENT, FRONTEND));
    assert_eq!(world.delivered(2).len(), 1);
    world.backends = between.to_vec();
    world.publish();
    world.send(1, &udp(CLIENT, FRONTEND));
    world.backends = vec![(2, 1, false), (1, 2, true)];
    world.publish();
    world.send(1, &udp(CLIENT, FRONTEND));
    let arrived = world.delivered(1).pop().expect("a datagram");
    assert_eq!(read(&arrived).flow.destination.v4(), Some(pod(1, 2)));
    world
}

#[test]
fn a_late_answer_is_known_after_a_moment_without_any_backend_and_after_other_changes() {
    let mut world = moved_after(&[(2, 1, false)]);
    for _ in 0..2 {
        world.send(2, &udp((pod(2, 1), 8080), CLIENT));
        let flow = read(world.delivered(1).last().expect("the answer")).flow;
        assert_eq!(flow.source.v4(), Some(SERVICE));
        world.publish();
    }
}

#[test]
fn a_late_answer_is_refused_once_its_question_is_not_allowed_any_more() {
    let mut world = moved_after(&[(2, 1, false), (1, 2, true)]);
    world.policies = vec![only("1-1", "1-2", Direction::Egress)];
    world.publish();
    world.send(2, &udp((pod(2, 1), 8080), CLIENT));
    assert!(world.delivered(1).is_empty());
    assert_eq!(world.drops(1, Reason::NoFlow), 1);
}

#[test]
fn a_service_without_backends_refuses_by_name_and_tells_the_client() {
    let mut world = with_backends(&[(2, 1, false)]);
    world.send(1, &tcp(CLIENT, FRONTEND, "S", b""));
    assert_eq!(world.drops(1, Reason::NoBackend), 1);
    let answers = world.delivered(1);
    assert_eq!(answers.len(), 1);
    assert_eq!(read(&answers[0]).flow.destination.v4(), Some(CLIENT.0));
    world.send(1, &tcp(CLIENT, (SERVICE, 81), "S", b""));
    assert_eq!(world.drops(1, Reason::NoServicePort), 1);
    world.send(1, &echo(CLIENT.0, SERVICE, 64, true));
    assert_eq!(world.drops(1, Reason::NoServicePort), 2);
}

#[test]
fn the_middle_of_an_unknown_flow_is_not_translated() {
    let mut world = with_backends(&[(2, 1, true)]);
    world.send(1, &tcp(CLIENT, FRONTEND, "A", b"lost"));
    assert_eq!(world.drops(1, Reason::NoFlowForService), 1);
    assert!(world.delivered(2).is_empty());
    let [reset] = world.delivered(1).try_into().expect("one answer");
    let header = read(&reset);
    assert_eq!(header.flow.destination.v4(), Some(CLIENT.0));
    assert_eq!(header.tcp_flags, RST);
}

#[test]
fn an_error_about_a_translated_flow_quotes_what_the_client_sent() {
    let mut world = with_backends(&[(2, 1, true)]);
    let backend = connect(&mut world, CLIENT, 2);
    // The backend's kernel complains about a segment that it received.
    let arena = &mut world.hosts[1].out.tunnel.arena;
    let (mut offender, mut error) = (arena.take().unwrap(), arena.take().unwrap());
    offender.extend(&tcp(CLIENT, backend, "A", b"data"));
    let offender = Packet::parse(offender, Offload::default()).expect("a packet");
    let from = packet::Address::from_v4(backend.0);
    assert!(icmp_error(
        &offender,
        Complaint::PortUnreachable,
        from,
        &mut error
    ));
    let bytes = error.as_slice().to_vec();
    let arena = &mut world.hosts[1].out.tunnel.arena;
    arena.put(offender.into_buf());
    arena.put(error);
    world.send(2, &bytes);
    let arrived = world.delivered(1);
    assert_eq!(arrived.len(), 1);
    let header = read(&arrived[0]);
    assert_eq!(
        header.flow.source.v4(),
        Some(SERVICE),
        "the service complains"
    );
    let quoted = etherparse::SlicedPacket::from_ip(&arrived[0][28..]).expect("the quote");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &quoted.net else {
        panic!("not IPv4")
    };
    assert_eq!(ip.header().destination(), SERVICE);
    let Some(etherparse::TransportSlice::Tcp(tcp)) = &quoted.transport else {
        panic!("no TCP")
    };
    assert_eq!(
        (tcp.source_port(), tcp.destination_port()),
        (CLIENT.1, SERVICE_PORT)
    );
}
