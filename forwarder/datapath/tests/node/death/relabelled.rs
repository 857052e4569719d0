//! A pod whose labels change is the same pod: its connections go on as far as policies let them. One
//! that gets the address of another is not.

use super::*;

#[test]
fn a_connection_goes_on_when_either_end_has_other_labels() {
    for ends in both() {
        for relabelled in [(1, 1), (2, 1)] {
            for listed in [true, false] {
                let mut world = with_backends(&[(2, 1, true)]);
                talk(&mut world, &ends);
                world.relabelled = vec![relabelled];
                // Its service may have selected it by what it had.
                publish(
                    &mut world,
                    if listed {
                        &[(2, 1, true)]
                    } else {
                        &[(1, 2, true)]
                    },
                );
                breathe(&mut world);
                assert_eq!(heard(&mut world), []);
                world.send(1, &asks(&ends, ACK, 111, 5_031).bytes(b"more"));
                assert_eq!(world.delivered(2).len(), 1, "{relabelled:?}");
                world.send(2, &answers(&ends, ACK, 5_031, 115).bytes(b"answer"));
                let answer = Segment {
                    from: ends.service,
                    ..answers(&ends, ACK, 5_031, 115)
                };
                assert_eq!(heard(&mut world), [answer]);
            }
        }
    }
}

#[test]
fn what_its_new_labels_may_not_is_cut() {
    let ends = both()[V4];
    for relabelled in [(1, 1), (2, 1)] {
        let mut world = with_backends(&[(2, 1, true)]);
        world.policies = vec![
            only("1-1", "2-1", Direction::Egress),
            only("1-5", "2-9", Direction::Egress),
        ];
        world.publish();
        talk(&mut world, &ends);
        world.relabelled = vec![relabelled];
        world.publish();
        world.send(1, &asks(&ends, ACK, 111, 5_031).bytes(b"more"));
        assert!(world.delivered(2).is_empty(), "{relabelled:?}");
        assert_eq!(heard(&mut world), []);
    }
}

#[test]
fn who_was_done_is_done_with_other_labels_too() {
    let ends = both()[V4];
    let mut world = with_backends(&[(2, 1, true)]);
    talk(&mut world, &ends);
    world.send(1, &asks(&ends, FIN | ACK, 111, 5_031).bytes(b""));
    world.relabelled = vec![(1, 1)];
    world.publish();
    world.send(1, &asks(&ends, ACK, 112, 5_031).bytes(b""));
    world.send(2, &answers(&ends, FIN | ACK, 5_031, 112).bytes(b""));
    assert_eq!(world.hosts[0].forwarder.flows(), 1);
    // Both ends are closed: it is remembered no longer than late segments live.
    world.pass(Duration::from_secs(250));
    assert_eq!(world.hosts[0].forwarder.flows(), 0);
}

#[test]
fn a_pod_that_has_the_address_of_a_dead_one_is_not_taken_for_it() {
    for ends in both() {
        let mut world = with_backends(&[(2, 1, true)]);
        talk(&mut world, &ends);
        world.others = vec![(2, 1)];
        publish(&mut world, &[(1, 2, true)]);
        breathe(&mut world);
        assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
        // It may serve as well, and does not know the connection.
        let mut world = with_backends(&[(2, 1, true)]);
        talk(&mut world, &ends);
        world.others = vec![(2, 1)];
        world.publish();
        breathe(&mut world);
        assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
        let data = asks(&ends, ACK, 111, 5_031);
        assert_eq!(reply(&mut world, data, b"more"), [reset(&ends, 5_031)]);
    }
}

#[test]
fn what_answered_a_pod_is_judged_anew_where_another_has_its_address() {
    let ends = both()[V4];
    let mut world = World::new();
    world.policies = vec![only("1-1", "1-2", Direction::Ingress)];
    world.publish();
    let answer = datagrams::datagram(ends.backend, ends.client);
    world.send(1, &datagrams::datagram(ends.client, ends.backend));
    world.send(2, &answer);
    assert_eq!(world.delivered(1).len(), 1, "it has asked");
    world.relabelled = vec![(1, 1)];
    world.publish();
    world.send(2, &answer);
    assert_eq!(world.delivered(1).len(), 1, "it is the same one");
    (world.relabelled, world.others) = (vec![], vec![(1, 1)]);
    world.publish();
    world.send(2, &answer);
    assert!(world.delivered(1).is_empty());
    assert_eq!(world.drops(1, Reason::IngressDenied), 1);
}
