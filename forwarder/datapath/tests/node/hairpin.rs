//! A pod that reaches itself through its own service: what it gets comes from the service, at either
//! of its ends. What is expected is written anew, byte by byte.

mod errors;

use std::time::Duration;

use datapath::{Event, Reason, Record, Side, Traffic};
use packet::Header;
use packet::checksum::crc32c;
use packet::tcp_flag::RST;
use policy::Direction;
use proptest::prelude::*;

use crate::crews::{Crews, PLAIN, View};
use crate::judged::only;
use crate::robust::bytes::{ACK, ICMP, ICMPV6, Ip, SYN, TCP, UDP, icmp, later_by, tcp, udp};
use crate::robust::stage::{Ends, Way};
use crate::world::{OTHER_PORT, SERVICE, SERVICE_PORT, SERVICE_V6, World, identity, pod, pod_v6};

const SCTP: u8 = 132;
const BACKEND_PORT: u16 = 8080;
const CLIENT_PORT: u16 = 40_000;

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Pod 1-1.
    Pod(u16),
    /// Another pod of its node.
    Other(u16),
    Service(u16),
}
use At::{Other, Pod, Service};

impl At {
    fn address(self, v6: bool) -> Vec<u8> {
        match (self, v6) {
            (Pod(_), false) => pod(1, 1).to_vec(),
            (Pod(_), true) => pod_v6(1, 1).to_vec(),
            (Other(_), false) => pod(1, 2).to_vec(),
            (Other(_), true) => pod_v6(1, 2).to_vec(),
            (Service(_), false) => SERVICE.to_vec(),
            (Service(_), true) => SERVICE_V6.to_vec(),
        }
    }

    fn port(self) -> u16 {
        let (Pod(port) | Other(port) | Service(port)) = self;
        port
    }
}

/// What a conversation is made of: its packets, by both ends and what is carried.
#[derive(Clone, Copy, Debug)]
struct Talk {
    v6: bool,
    protocol: u8,
}

const TALKS: [Talk; 6] = {
    const fn talk(protocol: u8, v6: bool) -> Talk {
        Talk { v6, protocol }
    }
    [
        talk(TCP, false),
        talk(TCP, true),
        talk(UDP, false),
        talk(UDP, true),
        talk(SCTP, false),
        talk(SCTP, true),
    ]
};

impl Talk {
    /// A packet; TCP's flags and numbers are those of `segment`.
    fn packet(self, from: At, to: At, segment: (u8, u32, u32), payload: &[u8]) -> Ip {
        let ports = (from.port(), to.port());
        let (flags, sequence, acknowledged) = segment;
        let transport = match self.protocol {
            TCP => tcp(ports, (sequence, acknowledged), flags, payload),
            UDP => udp(ports, payload),
            _ => sctp(ports, payload),
        };
        Ip::new(&self.ends(from, to), self.protocol, transport)
    }

    /// An ICMP error.
    fn error(self, from: At, to: At, quoted: &[u8]) -> Vec<u8> {
        let (protocol, kind, code) = match self.v6 {
            true => (ICMPV6, 1, 4),
            false => (ICMP, 3, 3),
        };
        let message = icmp(kind, code, [0; 4], quoted);
        Ip::new(&self.ends(from, to), protocol, message).bytes()
    }

    fn ends(self, from: At, to: At) -> Ends {
        Ends {
            near: from.address(self.v6),
            far: to.address(self.v6),
            ..Ends::new(Way::Inside, self.v6)
        }
    }

    /// The client asks and is answered; both packets as they were sent.
    fn exchange(self, world: &mut World, client: u16) -> [Vec<u8>; 2] {
        let ask = self.packet(Pod(client), Service(80), (SYN, 1_000, 0), b"question");
        let asked = self.packet(
            Service(client),
            Pod(BACKEND_PORT),
            (SYN, 1_000, 0),
            b"question",
        );
        let segment = (SYN | ACK, 5_000, 1_000);
        let answer = self.packet(Pod(BACKEND_PORT), Service(client), segment, b"answer");
        let answered = self.packet(Service(80), Pod(client), segment, b"answer");
        for (sent, arrives) in [(&ask, asked), (&answer, answered)] {
            bounce(world, &sent.bytes(), &later_by(&arrives.bytes(), 1));
        }
        [ask.bytes(), answer.bytes()]
    }
}

/// A data chunk with its CRC (RFC 9260 §6.8).
fn sctp((from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([1, 2, 3, 4, 0, 0, 0, 0]);
    bytes.extend(payload);
    let crc = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The pod sends a packet, and gets another for it.
fn bounce(world: &mut World, sent: &[u8], arrives: &[u8]) {
    world.send(1, sent);
    let came = world.delivered(1);
    assert_eq!(came, [arrives], "{:?}", drops(world));
    assert!(world.delivered(2).is_empty());
}

/// The pod sends a packet, and nobody gets one.
fn vanish(world: &mut World, sent: &[u8], reason: Reason) {
    let before = world.drops(1, reason);
    world.send(1, sent);
    assert!(world.delivered(1).is_empty() && world.delivered(2).is_empty());
    assert_eq!(
        world.drops(1, reason),
        before + 1,
        "{reason:?} {:?}",
        drops(world)
    );
}

fn drops(world: &World) -> Vec<Reason> {
    let all = Reason::ALL.iter().copied();
    all.filter(|reason| world.drops(1, *reason) > 0).collect()
}

/// A world in which pod 1-1 is the only backend of the service.
fn alone() -> World {
    with(&[(1, 1, true)])
}

fn with(backends: &[(u8, u8, bool)]) -> World {
    let mut world = World::new();
    world.backends = backends.to_vec();
    world.publish();
    world
}

fn told(world: &mut World) -> Vec<Record> {
    let mut told = Vec::new();
    world.hosts[0].forwarder.hand_over_records(|record| {
        told.push(record);
        true
    });
    told
}

#[test]
fn a_pod_that_is_the_only_backend_gets_its_own_questions_and_answers_from_the_service() {
    for talk in TALKS {
        let mut world = alone();
        for client in [CLIENT_PORT, 1, u16::MAX] {
            talk.exchange(&mut world, client);
        }
    }
}

#[test]
fn a_pod_that_is_one_of_several_backends_is_chosen_as_the_others_are() {
    let talk = TALKS[2];
    let mut world = with(&[(1, 1, true), (1, 2, true), (2, 1, true)]);
    let mut chosen = [0; 3];
    for client in 1..=60 {
        let question = talk.packet(Pod(client), Service(80), (SYN, 1, 0), b"who?");
        world.send(1, &question.bytes());
        let here = world.delivered(1);
        let place = match (here.first(), world.delivered(2).len()) {
            (Some(packet), 0) if packet[16..20] == pod(1, 1) => {
                assert_eq!(packet[12..16], SERVICE);
                0
            }
            (Some(packet), 0) => {
                assert_eq!(packet[12..20], [pod(1, 1), pod(1, 2)].concat());
                1
            }
            (None, 1) => 2,
            other => panic!("{other:?}"),
        };
        chosen[place] += 1;
    }
    assert!(chosen.iter().all(|count| *count >= 10), "{chosen:?}");
}

#[test]
fn no_policy_keeps_a_pod_from_itself_not_even_one_that_cannot_be_enforced() {
    let talk = TALKS[0];
    let closed = [Direction::Ingress, Direction::Egress].map(|way| only("1-1", "nobody", way));
    let mut refused = closed.clone();
    refused.iter_mut().for_each(|policy| {
        policy.refused = Some("from the future".into());
    });
    for (policies, reason) in [
        (closed, Reason::IngressDenied),
        (refused, Reason::PolicyRefused),
    ] {
        let mut world = alone();
        world.policies = policies.to_vec();
        world.publish();
        talk.exchange(&mut world, CLIENT_PORT);
        // Others are kept from it all the same, by way of the service too.
        let others = talk.packet(Other(7), Service(80), (SYN, 1, 0), b"");
        vanish(&mut world, &others.bytes(), reason);
        // And a flow goes on when they come in its middle.
        world.policies.clear();
        world.publish();
        talk.exchange(&mut world, 9);
        world.policies = policies.to_vec();
        world.publish();
        talk.exchange(&mut world, 9);
    }
}

#[test]
fn udp_without_a_checksum_has_none_behind_the_translation_or_does_not_pass() {
    let bare = |talk: Talk, from, to| {
        let packet = talk.packet(from, to, (0, 0, 0), b"no checksum");
        packet.with(|ip| ip.bare = true).bytes()
    };
    let mut world = alone();
    let [v4, v6] = [TALKS[2], TALKS[3]];
    let (client, backend) = (Pod(CLIENT_PORT), Pod(BACKEND_PORT));
    for (from, to, new_from, new_to) in [
        (client, Service(80), Service(CLIENT_PORT), backend),
        (backend, Service(CLIENT_PORT), Service(80), client),
    ] {
        let arrives = later_by(&bare(v4, new_from, new_to), 1);
        bounce(&mut world, &bare(v4, from, to), &arrives);
    }
    v6.exchange(&mut world, CLIENT_PORT);
    vanish(
        &mut world,
        &bare(v6, client, Service(80)),
        Reason::NoChecksum,
    );
    let answer = bare(v6, backend, Service(CLIENT_PORT));
    vanish(&mut world, &answer, Reason::NoChecksum);
}

#[test]
fn fragments_follow_their_first() {
    for talk in [TALKS[2], TALKS[3]] {
        let mut world = alone();
        let (client, backend) = (Pod(CLIENT_PORT), Pod(BACKEND_PORT));
        for (from, to, new_from, new_to) in [
            (client, Service(80), Service(CLIENT_PORT), backend),
            (backend, Service(CLIENT_PORT), Service(80), client),
        ] {
            let [sent, arrives] = [(from, to), (new_from, new_to)]
                .map(|(f, t)| talk.packet(f, t, (0, 0, 0), &[7; 92]));
            for (start, end) in [(0, 48), (48, 96), (96, 100)] {
                let piece = |ip: &Ip| ip.fragment(9, start, end, end < 100);
                bounce(&mut world, &piece(&sent), &later_by(&piece(&arrives), 1));
            }
        }
        // One whose first nobody has seen is no service's.
        let orphan = talk.packet(client, Service(80), (0, 0, 0), &[7; 92]);
        vanish(
            &mut world,
            &orphan.fragment(10, 48, 96, true),
            Reason::ServiceFragment,
        );
    }
}

#[test]
fn an_answer_that_looks_like_a_question_to_the_service_is_one_only_without_its_flow() {
    for talk in TALKS {
        let mut world = alone();
        // What the pod answers goes to the service's own port.
        for _ in 0..2 {
            talk.exchange(&mut world, SERVICE_PORT);
            talk.exchange(&mut world, OTHER_PORT);
            world.publish();
        }
        world.now.time = world.now.time + Duration::from_secs(8_100);
        if talk.protocol == TCP {
            let late = talk.packet(Pod(BACKEND_PORT), Service(80), (ACK, 1, 1), b"late");
            world.send(1, &late.bytes());
            assert_eq!(drops(&world), [Reason::NoFlowForService]);
            let [reset] = world.delivered(1).try_into().expect("one answer");
            let header = Header::parse(&reset).expect("a packet");
            assert_eq!(header.flow.destination_port, BACKEND_PORT);
            assert_eq!(header.tcp_flags, RST);
            continue;
        }
        let question = talk.packet(Pod(BACKEND_PORT), Service(80), (0, 0, 0), b"new");
        let arrives = talk.packet(Service(BACKEND_PORT), Pod(BACKEND_PORT), (0, 0, 0), b"new");
        bounce(
            &mut world,
            &question.bytes(),
            &later_by(&arrives.bytes(), 1),
        );
    }
}

#[test]
fn two_flows_whose_answers_would_be_the_same_are_not_both_begun() {
    for talk in TALKS {
        let mut world = alone();
        talk.exchange(&mut world, CLIENT_PORT);
        let other = |client| talk.packet(Pod(client), Service(OTHER_PORT), (SYN, 1, 0), b"");
        vanish(&mut world, &other(CLIENT_PORT).bytes(), Reason::FlowClash);
        let arrives = talk.packet(Service(9), Pod(BACKEND_PORT), (SYN, 1, 0), b"");
        bounce(
            &mut world,
            &other(9).bytes(),
            &later_by(&arrives.bytes(), 1),
        );
        // The first lives on.
        talk.exchange(&mut world, CLIENT_PORT);
        // With one port at all of its ends a flow would be its own answer.
        world.target = SERVICE_PORT;
        world.publish();
        let same = talk.packet(Pod(SERVICE_PORT), Service(SERVICE_PORT), (SYN, 1, 0), b"");
        for _ in 0..2 {
            vanish(&mut world, &same.bytes(), Reason::FlowClash);
        }
    }
}

#[test]
fn a_change_leaves_a_flow_its_backend_as_any_other() {
    let elsewhere = [(1, 1, false), (2, 1, true)];
    for talk in TALKS {
        let mut world = alone();
        talk.exchange(&mut world, CLIENT_PORT);
        for _ in 0..3 {
            world.publish();
            talk.exchange(&mut world, CLIENT_PORT);
        }
        // Not a backend any more, but alive: it stays.
        world.backends = vec![(2, 1, true)];
        world.publish();
        let more = (ACK, 1_009, 5_007);
        let again = talk.packet(Pod(CLIENT_PORT), Service(80), more, b"more");
        let arrives = talk.packet(Service(CLIENT_PORT), Pod(BACKEND_PORT), more, b"more");
        bounce(&mut world, &again.bytes(), &later_by(&arrives.bytes(), 1));
        // Dead, as far as anybody knows: datagrams go to another then, and TCP is reset.
        world.backends = elsewhere.to_vec();
        world.publish();
        world.send(1, &again.bytes());
        if talk.protocol == TCP {
            assert_eq!(drops(&world), [Reason::BackendGone]);
            let [reset] = world.delivered(1).try_into().expect("one answer");
            assert_eq!(
                Header::parse(&reset).map(|header| header.tcp_flags),
                Ok(RST)
            );
            continue;
        }
        assert_eq!((world.delivered(1).len(), world.delivered(2).len()), (0, 1));
        // What it still answers comes from the service.
        let late = talk.packet(Pod(BACKEND_PORT), Service(CLIENT_PORT), more, b"late");
        let arrives = talk.packet(Service(80), Pod(CLIENT_PORT), more, b"late");
        bounce(&mut world, &late.bytes(), &later_by(&arrives.bytes(), 1));
    }
}

#[test]
fn it_is_told_once_with_the_pod_at_both_ends_and_the_traffic_of_both_directions() {
    let talk = TALKS[2];
    let mut world = alone();
    let [ask, answer] = talk.exchange(&mut world, CLIENT_PORT);
    talk.exchange(&mut world, CLIENT_PORT);
    let [began] = told(&mut world).try_into().expect("one record");
    assert_eq!((began.event, began.side), (Event::Began, Side::Out));
    let who = Some(identity(1, 1));
    assert_eq!((began.subject, began.peer), (who, who));
    assert_eq!(began.destination.1, BACKEND_PORT);
    assert_eq!(began.destination.0, began.flow.source);
    assert_eq!(began.flow.destination.v4(), Some(SERVICE));
    world.pass(Duration::from_secs(150));
    let [ended] = told(&mut world).try_into().expect("one record");
    let Event::Ended { forward, reply, .. } = ended.event else {
        panic!("{ended:?}")
    };
    let twice = |bytes: &[u8]| Traffic {
        packets: 2,
        bytes: 2 * bytes.len() as u64,
    };
    assert_eq!((forward, reply), (twice(&ask), twice(&answer)));
    assert_eq!(world.hosts[0].forwarder.flows(), 0);
}

#[test]
fn both_ends_are_one_workers_whichever_got_the_packet() {
    let talk = TALKS[2];
    let mut crews = Crews::new(4, 4);
    for worker in 0..4 {
        let view = View {
            epoch: 2,
            backend: Some((1, 1)),
            ..PLAIN
        };
        crews.adopt(1, worker, view);
    }
    let owner = crews.owner(pod(1, 1));
    let (client, backend) = (Pod(CLIENT_PORT), Pod(BACKEND_PORT));
    for worker in 0..4 {
        for (from, to, new_from, new_to) in [
            (client, Service(80), Service(CLIENT_PORT), backend),
            (backend, Service(CLIENT_PORT), Service(80), client),
        ] {
            let [sent, arrives] =
                [(from, to), (new_from, new_to)].map(|(f, t)| talk.packet(f, t, (0, 0, 0), b"?"));
            let before = crews.crossed;
            crews.frame(1, worker, &sent.bytes());
            crews.settle();
            let arrives = later_by(&arrives.bytes(), 1);
            assert_eq!(crews.delivered(1), [(owner, arrives.clone())]);
            assert_eq!(crews.crossed - before, u64::from(worker != owner));
            crews.frame(1, worker, &talk.error(Pod(0), Service(0), &arrives));
            crews.settle();
            let came = crews.delivered(1);
            let [(by, error)] = &came[..] else {
                panic!("one error, not {came:?}")
            };
            assert_eq!(*by, owner);
            assert_eq!(error[28..][12..20], sent.bytes()[12..20]);
        }
    }
    for worker in 0..4 {
        let flows = crews.worker(1, worker).forwarder.flows();
        assert_eq!(flows, usize::from(worker == owner));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the client sends, and whatever is answered to what it gets for that: what comes back
    /// has exactly the reverse of the flow that it sent, and is otherwise what was sent, but for the
    /// time to live.
    #[test]
    fn what_comes_back_has_the_reverse_of_the_flow_that_was_sent(
        number in 0..TALKS.len(),
        client in 1..=u16::MAX,
        frontend in prop::sample::select(vec![SERVICE_PORT, OTHER_PORT]),
        target in 1..=u16::MAX,
        class in any::<u8>(),
        numbers in any::<(u32, u32)>(),
        payloads in any::<[Vec<u8>; 2]>(),
    ) {
        prop_assume!(!(client == target && client == frontend));
        let talk = TALKS[number];
        let mut world = alone();
        world.target = target;
        world.publish();
        let segment = |flags| (flags, numbers.0, numbers.1);
        let packet = |from, to, flags, payload: &[u8]| {
            let packet = talk.packet(from, to, segment(flags), payload);
            packet.with(|ip| ip.class = class).bytes()
        };
        let [question, answer] = &payloads;
        let (back, flags) = (SYN | ACK, SYN);
        let asked = packet(Service(client), Pod(target), flags, question);
        bounce(&mut world, &packet(Pod(client), Service(frontend), flags, question), &later_by(&asked, 1));
        let answered = packet(Service(frontend), Pod(client), back, answer);
        bounce(&mut world, &packet(Pod(target), Service(client), back, answer), &later_by(&answered, 1));
    }
}
