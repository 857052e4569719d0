//! Who waits for a datagram.

use super::*;

/// A datagram of the client, or of the backend.
pub(super) fn datagram(from: Socket, to: Socket) -> Vec<u8> {
    match (from.0, to.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            world::udp((source.octets(), from.1), (destination.octets(), to.1))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            world::udp_v6((source.octets(), from.1), (destination.octets(), to.1))
        }
        other => panic!("two families: {other:?}"),
    }
}

fn ask_and_answer(world: &mut World, ends: &Ends) {
    world.send(1, &datagram(ends.client, ends.service));
    assert_eq!(world.delivered(2).len(), 1);
    world.send(2, &datagram(ends.backend, ends.client));
    assert_eq!(world.delivered(1).len(), 1);
}

#[test]
fn a_client_that_may_wait_for_a_datagram_is_told_and_asks_another_backend() {
    for (v6, ends) in [false, true].into_iter().zip(both()) {
        let mut world = with_backends(&[(2, 1, true)]);
        ask_and_answer(&mut world, &ends);
        publish(&mut world, &[(2, 1, false), (1, 2, true)]);
        breathe(&mut world);
        let [error] = world.delivered(1).try_into().expect("one error");
        let (at, kind) = if v6 { (40, [1, 4]) } else { (20, [3, 3]) };
        assert_eq!(error[at..at + 2], kind, "port unreachable");
        let quoted = SlicedPacket::from_ip(&error[at + 8..]).expect("what was sent");
        let (from, to) = match &quoted.net {
            Some(NetSlice::Ipv4(ip)) => (
                IpAddr::from(ip.header().source()),
                IpAddr::from(ip.header().destination()),
            ),
            Some(NetSlice::Ipv6(ip)) => (
                IpAddr::from(ip.header().source()),
                IpAddr::from(ip.header().destination()),
            ),
            other => panic!("no IP: {other:?}"),
        };
        let Some(TransportSlice::Udp(udp)) = &quoted.transport else {
            panic!("no UDP")
        };
        assert_eq!((from, udp.source_port()), ends.client);
        assert_eq!((to, udp.destination_port()), ends.service);
        world.publish();
        publish(&mut world, &[(2, 1, false), (1, 2, true), (1, 3, false)]);
        breathe(&mut world);
        assert!(world.delivered(1).is_empty(), "it is told once");
        world.send(1, &datagram(ends.client, ends.service));
        assert_eq!(world.delivered(1).len(), 1, "the other backend has it");
        assert!(world.delivered(2).is_empty());
    }
}

#[test]
fn who_waits_for_no_datagram_any_more_is_not_told() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    ask_and_answer(&mut world, &ends);
    world.pass(Duration::from_secs(5));
    publish(&mut world, &[(2, 1, false), (1, 2, true)]);
    breathe(&mut world);
    assert!(world.delivered(1).is_empty());
}

#[test]
fn errors_about_datagrams_are_as_seldom_as_all_others_and_leave_them_theirs() {
    let mut world = with_backends(&[(2, 1, true)]);
    for port in 0..60 {
        let mut ends = both()[V4];
        ends.client.1 += port;
        ask_and_answer(&mut world, &ends);
    }
    publish(&mut world, &[(2, 1, false)]);
    breathe(&mut world);
    assert_eq!(world.delivered(1).len(), 50);
    world.send(1, &world::echo(pod(1, 1), pod(2, 1), 1, true));
    assert_eq!(world.delivered(1).len(), 1, "its time is exceeded");
}

#[test]
fn who_waits_for_a_pod_with_other_labels_still_hears_from_it() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    ask_and_answer(&mut world, &ends);
    world.relabelled = vec![(2, 1)];
    publish(&mut world, &[(1, 2, true)]);
    breathe(&mut world);
    assert!(world.delivered(1).is_empty());
    world.send(2, &datagram(ends.backend, ends.client));
    let [answer] = world.delivered(1).try_into().expect("one answer");
    assert_eq!(world::read(&answer).flow.source.v4(), Some(SERVICE));
}
