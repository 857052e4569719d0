//! What fits the path: found by probes, said to pods, announced by TCP, cut where that is allowed.

use std::time::Duration;

use datapath::{PathState, PathStatus, Reason};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use packet::{Fragment, Header, Kind};

use crate::world::{World, pod, pod_v6, read};

/// What WireGuard, UDP and IPv4 add.
const OVERHEAD: usize = 60;

fn path(world: &World) -> PathStatus {
    let status = world.hosts[0].forwarder.probe_status().next();
    status.expect("one node").path.expect("its path")
}

/// Two nodes that have found out that their wire carries so much.
pub(crate) fn over(carries: usize) -> World {
    let mut world = World::new();
    world.carries = carries;
    world.pass(Duration::from_secs(6));
    assert_eq!(path(&world).state, PathState::Found);
    assert_eq!(usize::from(path(&world).size), carries);
    world.delivered(1);
    world.delivered(2);
    world
}

/// A UDP datagram from pod 1-1 to pod 2-1.
fn udp(payload: usize, dont_fragment: bool) -> Vec<u8> {
    let mut ip = etherparse::Ipv4Header::new(
        (8 + payload) as u16,
        64,
        etherparse::IpNumber::UDP,
        pod(1, 1),
        pod(2, 1),
    )
    .expect("no longer than IPv4 allows");
    ip.dont_fragment = dont_fragment;
    ip.identification = 77;
    let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, Default::default()));
    let mut bytes = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    builder
        .udp(9, 53)
        .write(&mut bytes, &payload)
        .expect("written");
    bytes
}

/// A SYN of pod 1-1, or pod 2-1's answer, that announces 1,460 bytes.
fn syn(answer: bool) -> Vec<u8> {
    let (from, to) = if answer { (2, 1) } else { (1, 2) };
    let builder = PacketBuilder::ipv4(pod(from, 1), pod(to, 1), 64);
    let builder = match answer {
        false => builder.tcp(40_000, 80, 1_000, 65_000).syn(),
        true => builder.tcp(80, 40_000, 5_000, 65_000).syn().ack(1_001),
    };
    let builder = builder.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1_460)]);
    let mut bytes = Vec::new();
    builder
        .expect("it fits")
        .write(&mut bytes, &[])
        .expect("written");
    bytes
}

fn announced(bytes: &[u8]) -> u16 {
    // Its checksums are right, or this fails.
    read(bytes);
    let sliced = SlicedPacket::from_ip(bytes).expect("a packet");
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("not TCP")
    };
    match tcp.options_iterator().next() {
        Some(Ok(etherparse::TcpOptionElement::MaximumSegmentSize(mss))) => mss,
        other => panic!("announces {other:?}"),
    }
}

#[test]
fn the_size_of_a_path_is_found_by_probes_that_keep_the_books_balanced() {
    for carries in [1_280, 1_296, 1_368, 1_420, 1_444, 1_500] {
        let world = over(carries);
        let inner = (carries - OVERHEAD).min(1_420);
        assert_eq!(usize::from(path(&world).inner), inner);
        assert_eq!(path(&world).carries_v6, inner >= 1_280);
    }
}

#[test]
fn a_packet_that_must_not_be_cut_and_does_not_fit_is_answered_with_the_inner_size() {
    let mut world = over(1_300);
    let inner = 1_300 - OVERHEAD;
    world.send(1, &udp(inner - 28, true));
    assert_eq!(world.delivered(2).len(), 1, "this one fits to the byte");
    world.send(1, &udp(inner - 27, true));
    assert!(world.delivered(2).is_empty());
    assert_eq!(world.drops(1, Reason::PacketTooBig), 1);
    let errors = world.delivered(1);
    assert_eq!(read(&errors[0]).kind, Kind::IcmpError);
    assert_eq!(errors[0][20..22], [3, 4], "fragmentation needed");
    assert_eq!(errors[0][26..28], (inner as u16).to_be_bytes());
}

#[test]
fn a_datagram_that_may_be_cut_is_and_arrives_in_pieces_that_fit() {
    let mut world = over(1_300);
    let whole = udp(1_392, false);
    world.send(1, &whole);
    let pieces = world.delivered(2);
    assert_eq!(pieces.len(), 2);
    let mut together: Vec<u8> = Vec::new();
    for piece in &pieces {
        assert!(piece.len() <= 1_300 - OVERHEAD);
        let sliced = SlicedPacket::from_ip(piece).expect("a packet");
        let Some(NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("not IPv4")
        };
        let at = usize::from(ip.header().fragments_offset().value()) * 8;
        assert_eq!(at, together.len());
        together.extend(&piece[20..]);
    }
    assert_eq!(together, whole[20..]);
}

#[test]
fn fragments_of_a_pod_pass_both_ways_where_no_rule_names_ports() {
    let mut world = over(1_500);
    let whole = udp(3_000, false);
    let source = packet::Packet::parse(
        {
            let mut buf = packet::Arena::new(0, 1).take().expect("a buffer");
            buf.extend(&whole);
            buf
        },
        packet::Offload::default(),
    )
    .expect("a packet");
    let mut arena = packet::Arena::new(0, 1);
    let mut fragmenter = packet::Fragmenter::new(&source, 1_420).expect("it may be cut");
    while fragmenter.remaining() > 0 {
        let mut buf = arena.take().expect("a buffer");
        fragmenter.next(&mut buf);
        world.send(1, buf.as_slice());
        // The other way: as an answer, and as if the other pod had begun.
        let mut back = buf.as_slice().to_vec();
        let (from, to) = (back[12..16].to_vec(), back[16..20].to_vec());
        back[12..16].copy_from_slice(&to);
        back[16..20].copy_from_slice(&from);
        world.send(2, &back);
        arena.put(buf);
    }
    for node in [1, 2] {
        let pieces: Vec<_> = world.delivered(node).iter().map(|p| read_part(p)).collect();
        let expected = [Fragment::First, Fragment::Later, Fragment::Later];
        assert_eq!(pieces, expected, "node {node}");
    }
}

fn read_part(bytes: &[u8]) -> Fragment {
    Header::parse(bytes).expect("a packet of ours").fragment
}

#[test]
fn a_syn_and_its_answer_announce_what_gets_through_both_ways() {
    for carries in [1_280, 1_300, 1_500] {
        let mut world = over(carries);
        let most = ((carries - OVERHEAD).min(1_420) - 40) as u16;
        world.send(1, &syn(false));
        let arrived = world.delivered(2);
        assert_eq!(announced(&arrived[0]), most);
        world.send(2, &syn(true));
        let answered = world.delivered(1);
        assert_eq!(announced(&answered[0]), most);
    }
}

#[test]
fn a_path_that_shrinks_under_traffic_is_found_out_within_seconds() {
    let mut world = over(1_500);
    world.carries = 1_368;
    let full = udp(1_392, true);
    let mut silent = Duration::ZERO;
    loop {
        world.send(1, &full);
        if world.drops(1, Reason::PacketTooBig) > 0 {
            break;
        }
        world.pass(Duration::from_millis(100));
        silent += Duration::from_millis(100);
        assert!(
            silent < Duration::from_secs(3),
            "nobody says that it is too long"
        );
    }
    let said = world.delivered(1);
    let said = said.last().expect("an error");
    assert_eq!(said[26..28], 1_308_u16.to_be_bytes());
}

/// A TCP segment over IPv6 from pod 1-1 to pod 2-1: the whole packet is `length` bytes long.
fn tcp_v6(length: usize, syn: bool) -> Vec<u8> {
    let builder = PacketBuilder::ipv6(pod_v6(1, 1), pod_v6(2, 1), 64);
    let builder = builder.tcp(40_000, 80, 1_000, 65_000);
    let builder = if syn {
        builder.syn()
    } else {
        builder.ack(9).psh()
    };
    let payload: Vec<u8> = (60..length).map(|n| n as u8).collect();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &payload).expect("written");
    bytes
}

#[test]
fn a_running_connection_over_ipv6_goes_on_where_the_path_carries_less_than_ipv6_promises() {
    let mut world = over(1_500);
    world.send(1, &tcp_v6(60, true));
    assert_eq!(world.delivered(2).len(), 1);
    world.carries = 1_300;
    for _ in 0..40 {
        // What the pod sends before anybody has told it otherwise.
        world.send(1, &tcp_v6(1_420, false));
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(path(&world).size, 1_300);
    let said = world.delivered(1).pop().expect("an error");
    assert_eq!(said[40..42], [2, 0], "packet too big");
    assert_eq!(said[44..48], 1_280_u32.to_be_bytes(), "and no less");
    world.delivered(2);
    let whole = tcp_v6(1_280, false);
    world.send(1, &whole);
    // The far end joins the pieces, or they arrive as they are; none was too long for the wire.
    let arrived = world.delivered(2);
    let payload = arrived.iter().flat_map(|packet| &packet[60..]);
    assert!(payload.eq(&whole[60..]), "{} packets", arrived.len());
    assert_eq!(world.drops(2, Reason::NoFlow), 0);
}

#[test]
fn what_the_own_host_refuses_bounds_the_next_packet_and_is_looked_after_once() {
    let mut world = over(1_500);
    let (now, remote) = (world.now, [192, 0, 2, 2].into());
    let refuse = |world: &mut World, outer: usize| {
        let forwarder = &mut world.hosts[0].forwarder;
        forwarder.handle_too_big(now, remote, outer - 28);
        forwarder.poll_timeout().expect("probes") == now.time
    };
    assert!(!refuse(&mut world, 1_501), "none as long is sent");
    assert!(refuse(&mut world, 1_450), "it is searched at once");
    assert_eq!(usize::from(path(&world).inner), 1_449 - OVERHEAD);
    let host = &mut world.hosts[0];
    host.forwarder.handle_timeout(now, &mut host.out);
    assert!(!refuse(&mut world, 1_440), "it is searched already");
    assert_eq!(usize::from(path(&world).inner), 1_439 - OVERHEAD);
}

#[test]
fn a_foreign_wireguard_gets_what_every_path_carries_until_its_host_answers_echoes() {
    let mut world = World::new();
    world.knows_lanes = false;
    world.publish();
    assert_eq!(path(&world).state, PathState::Foreign);
    assert_eq!(path(&world).size, 1_280);
    world.pass(Duration::from_secs(6));
    assert_eq!(path(&world).state, PathState::Found);
    assert_eq!(path(&world).inner, 1_420);
}
