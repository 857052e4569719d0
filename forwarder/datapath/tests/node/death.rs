//! When a backend dies: who talks with it through a service is told, and nobody else is.

mod datagrams;
mod forgotten;
mod relabelled;
mod walk;

use std::net::IpAddr;
use std::time::Duration;

use datapath::{End, Event, Reason};
use etherparse::{IpSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use packet::tcp_flag::{ACK, FIN, RST, SYN};
use policy::Direction;

use crate::crews::{Crews, PLAIN, View};
use crate::judged::only;
use crate::told::told;
use crate::world::{self, SERVICE, SERVICE_PORT, SERVICE_V6, World, pod, pod_v6};

/// An address and a port.
type Socket = (IpAddr, u16);

/// Who talks with whom, by family.
#[derive(Clone, Copy)]
struct Ends {
    client: Socket,
    service: Socket,
    /// Pod 1 of node 2.
    backend: Socket,
}

const V4: usize = 0;

fn both() -> [Ends; 2] {
    let v4 = |octets: [u8; 4]| IpAddr::from(octets);
    let v6 = |octets: [u8; 16]| IpAddr::from(octets);
    let ends = |client, service, backend| Ends {
        client: (client, 40_000),
        service: (service, SERVICE_PORT),
        backend: (backend, 8080),
    };
    [
        ends(v4(pod(1, 1)), v4(SERVICE), v4(pod(2, 1))),
        ends(v6(pod_v6(1, 1)), v6(SERVICE_V6), v6(pod_v6(2, 1))),
    ]
}

/// A TCP segment, as etherparse writes it or has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    from: Socket,
    to: Socket,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
}

impl Segment {
    fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let ip = match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            other => panic!("two families: {other:?}"),
        };
        let mut tcp = ip.tcp(self.from.1, self.to.1, self.sequence, 65_000);
        for (flag, set) in [
            (SYN, etherparse::PacketBuilderStep::syn as fn(_) -> _),
            (FIN, etherparse::PacketBuilderStep::fin),
            (RST, etherparse::PacketBuilderStep::rst),
        ] {
            if self.flags & flag != 0 {
                tcp = set(tcp);
            }
        }
        if self.flags & ACK != 0 {
            tcp = tcp.ack(self.acknowledged);
        }
        let mut bytes = Vec::new();
        tcp.write(&mut bytes, payload).expect("a vector takes it");
        bytes
    }

    /// `None` where it is something else; its checksums must be right.
    fn read(bytes: &[u8]) -> Option<Segment> {
        let packet = SlicedPacket::from_ip(bytes).expect("a packet");
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
            return None;
        };
        let (from, to) = match IpSlice::from_slice(bytes).expect("a packet") {
            IpSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let right = tcp.calc_checksum_ipv4(header.source, header.destination);
                assert_eq!(Ok(tcp.checksum()), right);
                (
                    IpAddr::from(header.source),
                    IpAddr::from(header.destination),
                )
            }
            IpSlice::Ipv6(ip) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv6(from, to));
                (IpAddr::from(from), IpAddr::from(to))
            }
        };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Some(Segment {
            from: (from, tcp.source_port()),
            to: (to, tcp.destination_port()),
            flags: flag(tcp.syn(), SYN)
                | flag(tcp.ack(), ACK)
                | flag(tcp.fin(), FIN)
                | flag(tcp.rst(), RST),
            sequence: tcp.sequence_number(),
            acknowledged: tcp.acknowledgment_number(),
        })
    }
}

/// What a client sends at these numbers.
fn asks(ends: &Ends, flags: u8, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        from: ends.client,
        to: ends.service,
        flags,
        sequence,
        acknowledged,
    }
}

/// What the backend does.
fn answers(ends: &Ends, flags: u8, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        from: ends.backend,
        to: ends.client,
        flags,
        sequence,
        acknowledged,
    }
}

/// The reset that a client gets.
fn reset(ends: &Ends, sequence: u32) -> Segment {
    Segment {
        from: ends.service,
        to: ends.client,
        flags: RST,
        sequence,
        acknowledged: 0,
    }
}

/// A world in which the service has these backends.
fn with_backends(backends: &[(u8, u8, bool)]) -> World {
    let mut world = World::new();
    publish(&mut world, backends);
    world
}

fn publish(world: &mut World, backends: &[(u8, u8, bool)]) {
    world.backends = backends.to_vec();
    world.publish();
}

/// All that is due now happens, and no time passes.
fn breathe(world: &mut World) {
    for host in &mut world.hosts {
        host.forwarder.handle_timeout(world.now, &mut host.out);
    }
    world.settle();
}

/// A connection with pod 1 of node 2, by which 10 bytes went and 30 came back: the client expects 5,031
/// next.
fn talk(world: &mut World, ends: &Ends) {
    let said = [
        (1, asks(ends, SYN, 100, 0), 0),
        (2, answers(ends, SYN | ACK, 5_000, 101), 0),
        (1, asks(ends, ACK, 101, 5_001), 10),
        (2, answers(ends, ACK, 5_001, 111), 30),
        (1, asks(ends, ACK, 111, 5_031), 0),
    ];
    for (node, segment, bytes) in said {
        world.send(node, &segment.bytes(&vec![7; bytes]));
        let arrived = world.delivered(3 - node);
        assert_eq!(arrived.len(), 1, "{segment:?}");
    }
}

/// The segments that node 1 has given to its pods since it was last asked.
fn heard(world: &mut World) -> Vec<Segment> {
    let delivered = world.delivered(1);
    let heard = delivered.iter().filter_map(|bytes| Segment::read(bytes));
    heard.collect()
}

/// What the client hears when it sends a segment.
fn reply(world: &mut World, segment: Segment, payload: &[u8]) -> Vec<Segment> {
    world.send(1, &segment.bytes(payload));
    heard(world)
}

/// RFC 9293 §3.10.7.1: what acknowledges nothing is acknowledged, and a reset is never answered.
fn answers_as_closed(world: &mut World, ends: &Ends) {
    let acknowledges = Segment {
        flags: RST | ACK,
        acknowledged: 115,
        ..reset(ends, 0)
    };
    let nothing = asks(ends, 0, 111, 0);
    assert_eq!(reply(world, nothing, b"more"), [acknowledges]);
    for flags in [RST, RST | ACK] {
        let reset = asks(ends, flags, 115, 5_031);
        assert_eq!(reply(world, reset, b""), []);
    }
}

#[test]
fn a_client_is_reset_at_once_at_the_number_that_it_expects() {
    for ends in both() {
        let mut world = with_backends(&[(2, 1, true)]);
        talk(&mut world, &ends);
        publish(&mut world, &[(2, 1, false), (1, 2, true)]);
        let due = world.hosts[0].forwarder.poll_timeout();
        assert!(due.is_some_and(|due| due <= world.now.time), "{due:?}");
        let originated = world.hosts[0].out.ledger().originated;
        world.cut = true;
        breathe(&mut world);
        assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
        assert!(world.hosts[0].out.ledger().originated > originated);
        for _ in 0..3 {
            world.publish();
            breathe(&mut world);
        }
        assert_eq!(heard(&mut world), [], "once");
        assert_eq!(world.delivered(2), [[0; 0]; 0], "and nobody else");
    }
}

#[test]
fn a_pod_that_nobody_has_any_more_is_dead_too() {
    for ends in both() {
        let mut world = with_backends(&[(2, 1, true)]);
        talk(&mut world, &ends);
        world.gone = vec![(2, 1)];
        publish(&mut world, &[(1, 2, true)]);
        breathe(&mut world);
        assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
    }
}

#[test]
fn a_client_whose_service_is_served_by_a_pod_of_its_own_node_is_reset_too() {
    let mut ends = both()[V4];
    ends.backend.0 = pod(1, 2).into();
    let mut world = with_backends(&[(1, 2, true)]);
    world.send(1, &asks(&ends, SYN, 100, 0).bytes(b""));
    world.send(1, &answers(&ends, SYN | ACK, 5_000, 101).bytes(b""));
    assert_eq!(heard(&mut world).len(), 2);
    world.gone = vec![(1, 2)];
    publish(&mut world, &[(2, 1, true)]);
    breathe(&mut world);
    assert_eq!(heard(&mut world), [reset(&ends, 5_001)]);
}

#[test]
fn a_host_is_told_as_its_pods_are() {
    let mut ends = both()[V4];
    ends.client.0 = [192, 0, 2, 1].into();
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
}

#[test]
fn what_is_still_sent_is_answered_at_the_number_that_it_acknowledges() {
    for ends in both() {
        let mut world = with_backends(&[(2, 1, true)]);
        talk(&mut world, &ends);
        publish(&mut world, &[(2, 1, false)]);
        breathe(&mut world);
        heard(&mut world);
        // A client that has not got the last 20 bytes says so (RFC 5961 §3.2).
        let challenge = asks(&ends, ACK, 111, 5_011);
        assert_eq!(reply(&mut world, challenge, b""), [reset(&ends, 5_011)]);
        let data = asks(&ends, ACK, 111, 5_031);
        assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
        answers_as_closed(&mut world, &ends);
        assert_eq!(world.drops(1, Reason::BackendGone), 5);
        assert!(world.delivered(2).is_empty(), "nothing reaches the backend");
    }
}

#[test]
fn a_broken_connection_stays_broken_when_its_backend_is_back_and_a_new_one_begins_with_a_syn() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    heard(&mut world);
    publish(&mut world, &[(2, 1, true)]);
    breathe(&mut world);
    let data = asks(&ends, ACK, 111, 5_031);
    assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
    // Nor does the client hear anything more of it.
    let late = answers(&ends, ACK, 5_031, 111).bytes(b"late");
    world.send(2, &late);
    assert_eq!(heard(&mut world), []);
    assert!(world.delivered(2).is_empty());
    talk(&mut world, &ends);
}

#[test]
fn a_syn_that_comes_after_the_reset_goes_to_another_backend() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    publish(&mut world, &[(2, 1, false), (1, 2, true)]);
    breathe(&mut world);
    heard(&mut world);
    world.send(1, &asks(&ends, SYN, 900, 0).bytes(b""));
    let [syn] = heard(&mut world).try_into().expect("one segment");
    assert_eq!((syn.to, syn.flags), ((pod(1, 2).into(), 8080), SYN));
}

#[test]
fn who_sends_before_its_turn_comes_is_answered_at_once_and_a_syn_begins_anew() {
    for gone in [false, true] {
        for ends in both() {
            let mut world = with_backends(&[(2, 1, true)]);
            talk(&mut world, &ends);
            let mut other = ends;
            other.client.1 += 1;
            talk(&mut world, &other);
            if gone {
                world.gone = vec![(2, 1)];
            }
            let after: &[_] = match gone {
                true => &[(1, 2, true)],
                false => &[(2, 1, false), (1, 2, true)],
            };
            publish(&mut world, after);
            told(&mut world, 1);
            let data = asks(&ends, ACK, 111, 5_031);
            assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
            let [record] = told(&mut world, 1).try_into().expect("one record");
            let Event::Ended { why, .. } = record.event else {
                panic!("no end: {record:?}")
            };
            assert_eq!(why, End::Cut(Reason::BackendGone));
            world.send(1, &asks(&other, SYN, 900, 0).bytes(b""));
            let [syn] = heard(&mut world).try_into().expect("one segment");
            assert_eq!((syn.to.1, syn.flags), (8080, SYN));
            breathe(&mut world);
            assert_eq!(heard(&mut world), [], "all has been said");
        }
    }
}

#[test]
fn nobody_is_told_of_what_is_not_dead_or_was_never_answered_or_is_over() {
    let ends = both()[V4];
    let direct = Ends {
        service: ends.backend,
        ..ends
    };
    let closed = |world: &mut World| {
        talk(world, &ends);
        world.send(1, &asks(&ends, FIN | ACK, 111, 5_031).bytes(b""));
        world.send(2, &answers(&ends, FIN | ACK, 5_031, 112).bytes(b""));
    };
    let is_dead: &[(u8, u8, bool)] = &[(2, 1, false), (2, 2, true)];
    let other_chosen: &[(u8, u8, bool)] = &[(2, 2, true)];
    let begin: [(&str, &dyn Fn(&mut World), &[(u8, u8, bool)]); 5] = [
        ("not chosen", &|world| talk(world, &ends), other_chosen),
        ("no service", &|world| talk(world, &ends), &[]),
        ("direct", &|world| talk(world, &direct), is_dead),
        (
            "never answered",
            &|world| world.send(1, &asks(&ends, SYN, 100, 0).bytes(b"")),
            is_dead,
        ),
        ("over", &closed, is_dead),
    ];
    for (what, begin, after) in begin {
        let mut world = with_backends(&[(2, 1, true)]);
        begin(&mut world);
        heard(&mut world);
        publish(&mut world, after);
        breathe(&mut world);
        assert_eq!(heard(&mut world), [], "{what}");
    }
}

#[test]
fn a_change_of_policy_looks_for_nobody() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    breathe(&mut world);
    world.policies = vec![only("1-2", "2-2", Direction::Egress)];
    world.publish();
    let due = world.hosts[0].forwarder.poll_timeout();
    assert!(due.is_none_or(|due| due > world.now.time), "{due:?}");
    breathe(&mut world);
    assert_eq!(heard(&mut world), []);
    // And one that was cut by a policy hears of a dead backend once it may go on.
    world.policies = vec![only("1-1", "2-2", Direction::Egress)];
    world.publish();
    let data = asks(&ends, ACK, 111, 5_031);
    assert_eq!(reply(&mut world, data, b"more"), []);
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    assert_eq!(
        reply(&mut world, data, b"more"),
        [],
        "a policy says nothing"
    );
    world.policies.clear();
    world.publish();
    assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
}

#[test]
fn who_sends_on_regardless_is_answered_so_often_and_no_more() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    heard(&mut world);
    let data = asks(&ends, ACK, 111, 5_031);
    let mut told = 0;
    for _ in 0..3_000 {
        told += reply(&mut world, data, b"more").len();
    }
    assert_eq!(told, 1_000);
    world.now.time = world.now.time + Duration::from_millis(10);
    for _ in 0..30 {
        told += reply(&mut world, data, b"more").len();
    }
    assert_eq!(told, 1_010);
}

#[test]
fn it_is_told_as_a_cut_with_its_reason_and_once() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    told(&mut world, 1);
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    let [record] = told(&mut world, 1).try_into().expect("one record");
    let Event::Ended {
        why,
        forward,
        reply,
        ..
    } = record.event
    else {
        panic!("no end: {record:?}")
    };
    assert_eq!(why, End::Cut(Reason::BackendGone));
    assert_eq!((forward.packets, reply.packets), (3, 2));
    assert_eq!(
        record.destination,
        (packet::Address::from_v4(pod(2, 1)), 8080)
    );
    assert_eq!(record.rule, None);
    let data = asks(&ends, ACK, 111, 5_031).bytes(b"more");
    world.send(1, &data);
    world.publish();
    world.send(1, &data);
    world.pass(Duration::from_secs(20));
    assert!(told(&mut world, 1).is_empty());
}
