//! BCP 38, BCP 84: a pod sends only from this node's addresses, a peer only from its own. RFC 6056,
//! RFC 7739: nothing that we choose can be guessed.

use std::time::Duration;

use crate::robust::bytes::ICMP;
use crate::robust::stage::{End, Ends, Stage, Way};
use crate::robust::table::{Row, all_ends, check};
use crate::world::{pod, pod_v6};

pub(crate) const LISTS: [crate::robust::table::List; 1] = [sources];

#[test]
fn a_source_that_is_not_the_senders_is_dropped() {
    check(sources);
}

pub(crate) fn sources(ends: &Ends) -> Vec<Row> {
    let address = |node: u8, number: u8| match ends.v6 {
        true => pod_v6(node, number).to_vec(),
        false => pod(node, number).to_vec(),
    };
    let node = |number: u8| match ends.v6 {
        true => [&[0xfd][..], &[0; 14], &[number]].concat(),
        false => vec![192, 0, 2, number],
    };
    let world = |last: u8| match ends.v6 {
        true => [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[last]].concat(),
        false => vec![198, 51, 100, last],
    };
    let from = |source: Vec<u8>| ends.udp(b"data").with(|ip| ip.source = source).bytes();
    let between = |source: Vec<u8>, destination: Vec<u8>| {
        let ip = ends
            .udp(b"data")
            .with(|ip| (ip.source, ip.destination) = (source, destination));
        ip.bytes()
    };
    let drops = |says, bytes, counter| Row::new(says).drops(bytes, counter);
    match ends.way {
        Way::Peer => vec![
            drops("our own pod's address", from(address(1, 2)), "forgedSource"),
            drops("our own node's address", from(node(1)), "forgedSource"),
            drops(
                "an address of ours that nobody has",
                from(address(1, 9)),
                "forgedSource",
            ),
            drops("an address of the world", from(world(9)), "forgedSource"),
            drops(
                "an address of its own that nobody has",
                from(address(2, 9)),
                "unknownSource",
            ),
            drops(
                "to the world",
                between(ends.near.clone(), world(9)),
                "notOurs",
            ),
            drops(
                "back to itself",
                between(ends.near.clone(), address(2, 2)),
                "notOurs",
            ),
            drops(
                "to nobody",
                between(ends.near.clone(), address(1, 9)),
                "notOurs",
            ),
        ],
        Way::Across | Way::Inside => vec![
            drops(
                "another node's pod's address",
                from(address(2, 1)),
                "forgedSource",
            ),
            drops("another node's address", from(node(2)), "forgedSource"),
            drops(
                "an address of ours that nobody has",
                from(address(1, 9)),
                "forgedSource",
            ),
            drops(
                "from the world to the world",
                between(world(8), world(9)),
                "notOurs",
            ),
            drops(
                "from the world to another node",
                between(world(8), address(2, 1)),
                "notOurs",
            ),
            drops(
                "to nobody here",
                between(ends.near.clone(), address(1, 9)),
                "unknownDestination",
            ),
            drops(
                "to nobody there",
                between(ends.near.clone(), address(2, 9)),
                "unknownDestination",
            ),
        ],
    }
}

#[test]
fn an_error_from_where_its_sender_is_not_goes_nowhere() {
    for ends in all_ends() {
        let mut stage = Stage::new(&ends, Vec::new());
        let datagram = ends.udp(b"datagram").bytes();
        assert_eq!(stage.send(End::Near, &datagram).arrived.len(), 1);
        // The near end says that the far one had complained.
        let forged = ends.unreachable(&datagram).bytes();
        let seen = stage.send(End::Near, &forged);
        let came = (seen.arrived.len(), seen.came_back.len());
        // Which pod of a node has sent a packet is the host's rules' to say, before any TUN.
        let expected = if ends.way == Way::Inside {
            (0, 1)
        } else {
            (0, 0)
        };
        assert_eq!(came, expected, "{ends:?}");
    }
}

/// What of a node's own packets others see: no identification at all (an atomic datagram, RFC 6864
/// §4.1), and echo identifiers that are a part of its secret.
#[test]
fn what_a_node_chooses_is_taken_from_its_secret_or_is_not_there() {
    let ends = Ends::new(Way::Peer, false);
    let mut stage = Stage::new(&ends, Vec::new());
    let mut identifiers = std::collections::BTreeSet::new();
    for _ in 0..40 {
        stage.world.now.time = stage.world.now.time + Duration::from_millis(50);
        let host = &mut stage.world.hosts[0];
        host.forwarder
            .handle_timeout(stage.world.now, &mut host.out);
        stage.settle();
        for packet in stage
            .send(End::Far, &ends.reverse().udp(b"data").bytes())
            .arrived
        {
            if packet[0] == 0x45 && packet[9] == ICMP {
                assert_eq!(packet[4..8], [0, 0, 0x40, 0], "no identification, and DF");
                identifiers.insert([packet[24], packet[25]]);
            }
        }
    }
    // `World` gives node 1 the secret (1, 7): those of the health probes and of the path's.
    assert_eq!(Vec::from_iter(identifiers), [[0, 1], [0, 6]]);
}
