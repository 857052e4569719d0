//! What the workers of a node leave to each other, and by which lanes they speak to another node.

use std::time::Duration;

use datapath::{Crossing, Origin, Reason};
use packet::{Address, Header, Offload, Packet, lane_of};
use proptest::prelude::*;
use tunnel::PublicKey;

use crate::crews::{Crews, PLAIN, View, key};
use crate::robust::stage::{Ends, Way};
use crate::world::{SERVICE, SERVICE_PORT, pod, tcp};

fn ports(bytes: &[u8]) -> (u16, u16) {
    let flow = Header::parse(bytes).expect("a packet").flow;
    (flow.source_port, flow.destination_port)
}

/// Two pods, one of each node, between which no packet goes from lane 0 to lane 0.
fn apart(lanes: u16) -> ([u8; 4], [u8; 4]) {
    let of = |address| lane_of(Address::from_v4(address), lanes);
    let find = |node: u8| (1..9).map(|n| pod(node, n)).find(|a| of(*a) != 0);
    (find(1).expect("a pod"), find(2).expect("a pod"))
}

#[test]
fn a_worker_tells_of_all_its_lanes_whatever_their_numbers() {
    let mut crews = Crews::new(2, 5);
    let mut numbers = |worker| -> Vec<u16> {
        let lanes = crews.worker(1, worker).forwarder.lanes();
        lanes.map(|lane| lane.number()).collect()
    };
    assert_eq!((numbers(0), numbers(1)), (vec![0, 2, 4], vec![1, 3]));
}

#[test]
fn a_pair_of_lanes_that_is_silent_gives_what_waits_to_lane_0_in_order_and_gets_the_rest_back() {
    for workers in [1, 2, 4] {
        let mut crews = Crews::new(workers, 4);
        crews.silent = |lane| lane != 0;
        let (from, to) = apart(4);
        let owner = crews.owner(from);
        for port in 1..=5 {
            crews.frame(1, owner, &tcp((from, port), (to, 80), "S", b""));
            crews.settle();
        }
        crews.pass(Duration::from_millis(900));
        assert!(crews.delivered(2).is_empty(), "the pair is given a second");
        crews.pass(Duration::from_millis(200));
        let came: Vec<u16> = crews.delivered(2).iter().map(|(_, b)| ports(b).0).collect();
        assert_eq!(came, [1, 2, 3, 4, 5], "{workers} workers");
        assert!(crews.carried.iter().all(|lanes| *lanes == (0, 0)));
        let now = crews.now;
        let worker = crews.worker(1, owner);
        assert_eq!(worker.forwarder.fell_back(), 5);
        let silent = worker.forwarder.silent_lanes(now);
        let pair = [from, to].map(|address| lane_of(Address::from_v4(address), 4));
        let is_pair = |(own, _, theirs): &(u16, u32, u16)| [*own, *theirs] == pair;
        assert_eq!(silent.filter(is_pair).count(), 1, "{workers} workers");

        crews.frame(1, owner, &tcp((from, 6), (to, 80), "S", b""));
        crews.settle();
        assert_eq!(crews.delivered(2).len(), 1, "it does not wait any more");

        crews.silent = |_| false;
        crews.pass(Duration::from_secs(6));
        crews.carried.clear();
        crews.frame(1, owner, &tcp((from, 7), (to, 80), "S", b""));
        crews.settle();
        assert_eq!(crews.delivered(2).len(), 1);
        assert_eq!(crews.carried, [(pair[0], pair[1])], "{workers} workers");
    }
}

#[test]
fn what_comes_when_a_pair_is_given_up_goes_behind_what_has_waited() {
    let mut crews = Crews::new(2, 4);
    crews.silent = |lane| lane != 0;
    let (from, to) = apart(4);
    let owner = crews.owner(from);
    crews.pass(Duration::from_millis(100));
    for port in 1..=3 {
        crews.frame(1, owner, &tcp((from, port), (to, 80), "S", b""));
    }
    // In the breath in which the second is over frames are handled before the time.
    crews.now.time = crews.now.time + Duration::from_millis(1_050);
    crews.frame(1, owner, &tcp((from, 4), (to, 80), "S", b""));
    crews.settle();
    crews.pass(Duration::from_millis(100));
    let came: Vec<u16> = crews.delivered(2).iter().map(|(_, b)| ports(b).0).collect();
    assert_eq!(came, [1, 2, 3, 4]);
}

#[test]
fn a_peer_that_knows_no_lanes_gets_everything_from_lane_0_and_reaches_every_pod() {
    let mut crews = Crews::new(3, 4);
    for worker in 0..3 {
        let foreign = View {
            knows_lanes: false,
            ..PLAIN
        };
        crews.adopt(1, worker, foreign);
        crews.adopt(2, worker, foreign);
    }
    for number in 1..9 {
        let (here, there) = (pod(1, number), pod(2, number));
        crews.frame(1, crews.owner(here), &tcp((here, 1), (there, 80), "S", b""));
        crews.settle();
        crews.frame(
            2,
            crews.owner(there),
            &tcp((there, 80), (here, 1), "SA", b""),
        );
        crews.settle();
        for (node, address) in [(1, here), (2, there)] {
            let owner = crews.owner(address);
            let came = crews.delivered(node);
            assert!(
                matches!(&came[..], [(worker, _)] if *worker == owner),
                "{came:?}"
            );
        }
    }
    assert!(crews.carried.iter().all(|lanes| *lanes == (0, 0)));
}

#[test]
fn a_pod_hears_that_a_packet_is_too_big_by_the_name_that_it_called_whichever_worker_finds_out() {
    let mut crews = Crews::new(3, 4);
    let backend = Some((2, 1));
    for worker in 0..3 {
        for node in [1, 2] {
            let foreign = View {
                knows_lanes: false,
                backend,
                ..PLAIN
            };
            crews.adopt(node, worker, foreign);
        }
    }
    let client = (1..9).map(|number| pod(1, number));
    let client = client.into_iter().find(|pod| crews.owner(*pod) != 0);
    let client = client.expect("one that lane 0 is not the owner of");
    let owner = crews.owner(client);
    // IPv4 that must not be cut, and longer than what a stranger's path is taken to carry.
    let mut sent = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4(client, SERVICE, 64).udp(9, SERVICE_PORT);
    builder.write(&mut sent, &[7; 1_300]).expect("written");
    crews.frame(1, owner, &sent);
    crews.settle();
    assert_eq!(crews.drops(1, Reason::PacketTooBig), 1);
    let came = crews.delivered(1);
    let [(worker, error)] = &came[..] else {
        panic!("one answer, not {came:?}")
    };
    assert_eq!(*worker, owner);
    assert_eq!((error[9], error[20]), (1, 3), "unreachable");
    let quoted = &error[28..];
    assert_eq!(quoted[12..20], sent[12..20], "addresses, as they were sent");
    assert_eq!(quoted[20..24], sent[20..24], "ports, as they were sent");
}

#[test]
fn pods_of_one_node_are_judged_where_each_is_owned() {
    let mut crews = Crews::new(4, 4);
    let mut known = [0; 4];
    for (client, server) in [(1, 2), (3, 4), (5, 8)] {
        let (client, server) = (pod(1, client), pod(1, server));
        let owners = (crews.owner(client), crews.owner(server));
        crews.frame(1, owners.0, &tcp((client, 9), (server, 80), "S", b""));
        crews.settle();
        crews.frame(1, owners.1, &tcp((server, 80), (client, 9), "SA", b""));
        crews.settle();
        let came = crews.delivered(1);
        let by: Vec<u16> = came.iter().map(|(worker, _)| *worker).collect();
        let mut expected = [owners.0, owners.1];
        expected.sort_unstable();
        assert_eq!(by, expected);
        // The one has judged it out, the other in; both remember.
        for worker in 0..4 {
            let ends = expected.iter().filter(|owner| **owner == worker).count();
            known[usize::from(worker)] += ends;
            let flows = crews.worker(1, worker).forwarder.flows();
            assert_eq!(flows, known[usize::from(worker)]);
        }
    }
}

#[test]
fn a_packet_that_the_kernel_gave_to_the_wrong_worker_reaches_its_owner() {
    let mut crews = Crews::new(5, 4);
    let (from, to) = apart(4);
    for worker in 0..5 {
        crews.frame(1, worker, &tcp((from, worker), (to, 80), "S", b""));
        crews.settle();
    }
    assert_eq!(crews.delivered(2).len(), 5);
    let owner = crews.owner(from);
    for worker in 0..5 {
        let flows = crews.worker(1, worker).forwarder.flows();
        assert_eq!(flows, if worker == owner { 5 } else { 0 });
    }
}

#[test]
fn the_fragments_of_a_datagram_meet_at_the_owner_of_its_pod_whichever_workers_got_them() {
    let mut crews = Crews::new(5, 4);
    let (from, to) = apart(4);
    let mut ends = Ends::new(Way::Across, false);
    (ends.near, ends.far) = (from.to_vec(), to.to_vec());
    let whole = ends.udp(&[5; 92]);
    for (worker, (start, end)) in (0..).zip([(0, 48), (48, 96), (88, 104), (96, 100)]) {
        let more = start != 96;
        crews.frame(1, worker, &whole.fragment(7, start, end, more));
        crews.settle();
    }
    assert_eq!(crews.delivered(2).len(), 2, "then two overlap");
    let owner = crews.owner(from);
    for worker in 0..5 {
        let drops = &crews.worker(1, worker).out.drops;
        let expected = if worker == owner { 2 } else { 0 };
        assert_eq!(drops.of(Reason::FragmentOverlap), expected);
    }
}

/// Leaves a packet to a worker as another one might.
fn cross(crews: &mut Crews, to: u16, bytes: &[u8], crossing: impl FnOnce(Packet) -> Crossing) {
    let now = crews.now;
    let from = (to + 1) % crews.nodes[0].len() as u16;
    let mut buf = crews.worker(1, from).out.tunnel.arena.take().expect("free");
    buf.extend(bytes);
    let packet = Packet::parse(buf, Offload::default()).expect("a packet");
    let worker = crews.worker(1, to);
    let crossing = crossing(packet);
    worker
        .forwarder
        .handle_crossing(now, crossing, &mut worker.out);
    crews.settle();
}

#[test]
fn where_a_crossed_packet_is_from_is_asked_again() {
    let mut crews = Crews::new(2, 4);
    let (to, from) = apart(4);
    let owner = crews.owner(to);
    let bytes = tcp((from, 1), (to, 80), "S", b"");
    let stranger: PublicKey = key(3, 0).public();
    for origin in [Origin::Here, Origin::Node(stranger)] {
        cross(&mut crews, owner, &bytes, |p| Crossing::In(p, origin));
    }
    assert_eq!(crews.drops(1, Reason::ForgedSource), 2);
    assert!(crews.delivered(1).is_empty());
    let peer = Origin::Node(key(2, 0).public());
    cross(&mut crews, owner, &bytes, |p| Crossing::In(p, peer));
    assert_eq!(crews.delivered(1).len(), 1);
    let other = crews.worker(1, owner).out.tunnel.arena.foreign();
    assert_eq!(other, 3, "their buffers wait to go home");
}

#[test]
fn a_full_batch_drops_by_name() {
    let mut crews = Crews::new(2, 4);
    let (from, to) = apart(4);
    let wrong = 1 - crews.owner(from);
    for port in 0..200 {
        crews.frame(1, wrong, &tcp((from, port), (to, 80), "S", b""));
    }
    assert_eq!(crews.drops(1, Reason::RingFull), 200 - 128);
    let worker = crews.worker(1, wrong);
    worker.out.hand_over(1 - wrong, Err);
    assert_eq!(crews.drops(1, Reason::RingFull), 200);
    crews.settle();
}

fn views() -> impl Strategy<Value = View> {
    let moved = prop::option::of((1u8..3, 1u8..9));
    (1u64..4, any::<bool>(), any::<bool>(), moved).prop_map(
        |(epoch, knows_lanes, another_first, moved)| View {
            epoch,
            knows_lanes,
            another_first,
            moved,
            backend: None,
            dead: false,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_far_apart_the_workers_are_a_packet_crosses_at_most_twice_and_its_error_once(
        (workers, lanes) in (2u16..6, 1u16..9),
        seen in prop::collection::vec((1u8..3, any::<u16>(), views()), 0..12),
        packets in prop::collection::vec((1u8..3, any::<u16>(), 1u8..9, (1u8..3, 1u8..9)), 1..12),
    ) {
        let mut crews = Crews::new(workers, lanes);
        for (node, worker, view) in seen {
            crews.adopt(node, worker % workers, view);
        }
        for (node, worker, from, (other, to)) in packets {
            let before = crews.crossed;
            let bytes = tcp((pod(node, from), 7), (pod(other, to), 80), "S", b"");
            crews.frame(node, worker % workers, &bytes);
            crews.settle();
            // Out and in, or out and to be sealed, at one node; in at the other.
            prop_assert!(crews.crossed - before <= 3 + 3, "{}", crews.crossed - before);
        }
        crews.pass(Duration::from_millis(1_100));
        let (out, into) = crews.nodes.iter_mut().flatten().fold((0, 0), |sum, worker| {
            let ledger = *worker.out.ledger();
            (sum.0 + ledger.crossed_out, sum.1 + ledger.crossed_in)
        });
        prop_assert_eq!(out, into);
        prop_assert_eq!(out, crews.crossed);
    }
}
