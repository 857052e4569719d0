//! Connections that their node has forgotten, or never knew: their clients need not wait either.

use super::*;

const GOES_TO_2: &[(u8, u8, bool)] = &[(2, 1, true)];

#[test]
fn the_middle_of_an_unknown_connection_is_reset_whether_the_service_has_backends_or_not() {
    for (ends, backends) in both().into_iter().zip([GOES_TO_2, &[(2, 1, false)]]) {
        let mut world = with_backends(backends);
        let data = asks(&ends, ACK, 111, 5_031);
        assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
        let over = asks(&ends, FIN | ACK, 115, 5_031);
        assert_eq!(reply(&mut world, over, b""), [reset(&ends, 5_031)]);
        answers_as_closed(&mut world, &ends);
        assert_eq!(world.drops(1, Reason::NoFlowForService), 5);
        assert_eq!(world.hosts[0].forwarder.flows(), 0, "nothing is remembered");
        assert!(world.delivered(2).is_empty(), "nothing reaches a backend");
    }
}

#[test]
fn one_that_was_silent_for_too_long_is_reset_and_its_client_connects_anew() {
    for ends in both() {
        let mut world = with_backends(GOES_TO_2);
        talk(&mut world, &ends);
        world.now.time = world.now.time + Duration::from_secs(8_100);
        let data = asks(&ends, ACK, 111, 5_031);
        assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
        world.send(1, &asks(&ends, SYN, 900, 0).bytes(b""));
        world.pass(Duration::from_secs(6));
        assert_eq!(world.delivered(2).len(), 1);
    }
}

#[test]
fn who_may_not_begin_a_connection_hears_nothing_of_a_forgotten_one() {
    let ends = both()[V4];
    let data = asks(&ends, ACK, 111, 5_031);
    for (allowed, told) in [("2-2", vec![]), ("2-1", vec![reset(&ends, 5_031)])] {
        let mut world = with_backends(GOES_TO_2);
        world.policies = vec![only("1-1", allowed, Direction::Egress)];
        world.publish();
        assert_eq!(reply(&mut world, data, b"more"), told, "{allowed}");
        assert_eq!(world.drops(1, Reason::NoFlowForService), 1);
        assert!(world.delivered(2).is_empty());
    }
}

#[test]
fn only_who_is_here_is_told() {
    let ends = both()[V4];
    let mut world = with_backends(GOES_TO_2);
    let mut data = asks(&ends, ACK, 111, 5_031);
    // From the world, from another node's pod by our TUN, and by the tunnel.
    for stranger in [[8, 8, 8, 8], pod(2, 1)] {
        data.from.0 = stranger.into();
        world.send(1, &data.bytes(b"more"));
    }
    world.inject_from_peer(1, &data.bytes(b"more"));
    assert_eq!(heard(&mut world), []);
    assert!(world.delivered(2).is_empty());
    // Nor is a fragment, which says nothing of a connection that can be believed.
    data.from = ends.client;
    let mut piece = data.bytes(&[7; 44]);
    piece[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
    piece[10..12].fill(0);
    let sum = crate::robust::bytes::naive_checksum(&piece[..20]);
    piece[10..12].copy_from_slice(&sum.to_be_bytes());
    world.send(1, &piece);
    assert_eq!(heard(&mut world), []);
    assert_eq!(world.drops(1, Reason::NoFlowForService), 1);
}

#[test]
fn who_makes_up_connections_is_answered_so_often_and_no_more() {
    let mut ends = both()[V4];
    let mut world = with_backends(GOES_TO_2);
    let mut told = 0;
    for port in 1..=3_000 {
        ends.client.1 = port;
        told += reply(&mut world, asks(&ends, ACK, 111, 5_031), b"more").len();
    }
    assert_eq!(told, 1_000);
}

#[test]
fn a_connection_that_was_reset_is_soon_forgotten_and_neither_passes_nor_hangs_before_or_after() {
    let ends = both()[V4];
    let data = asks(&ends, ACK, 111, 5_031);
    for (silent, walks) in [(0, true), (0, false), (3_000, true)] {
        let mut world = with_backends(GOES_TO_2);
        talk(&mut world, &ends);
        world.now.time = world.now.time + Duration::from_secs(silent);
        publish(&mut world, &[(2, 1, false), (1, 2, true)]);
        if walks {
            breathe(&mut world);
            heard(&mut world);
        }
        for (later, reason) in [
            (0, Reason::BackendGone),
            (235, Reason::BackendGone),
            (10, Reason::NoFlowForService),
        ] {
            world.now.time = world.now.time + Duration::from_secs(later);
            let before = world.drops(1, reason);
            assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
            assert_eq!(world.drops(1, reason), before + 1, "{later} s later");
        }
        assert_eq!(world.hosts[0].forwarder.flows(), 0);
    }
}
