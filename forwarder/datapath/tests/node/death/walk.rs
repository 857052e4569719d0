//! How a large table is walked, and by whom.

use super::*;

#[test]
fn a_large_table_is_walked_in_pieces_and_nobody_in_it_is_forgotten() {
    const CONNECTIONS: u16 = 50_000;
    const SLOTS: usize = 1_024;
    const ANSWERS: usize = 64;
    // Both ends are of one node, which remembers two judgements of each.
    let mut world = World::with_flows(100_000);
    publish(&mut world, &[(1, 2, true)]);
    let mut ends = both()[V4];
    ends.backend.0 = pod(1, 2).into();
    for port in 1..=CONNECTIONS {
        ends.client.1 = port;
        world.give(1, &asks(&ends, SYN, 100, 0).bytes(b""));
        let sequence = u32::from(port) << 8;
        world.give(1, &answers(&ends, SYN | ACK, sequence, 101).bytes(b""));
        world.deliver_to_pods(0);
    }
    assert_eq!(world.hosts[0].forwarder.flows(), 100_000);
    assert_eq!(world.delivered(1).len(), 100_000);
    world.gone = vec![(1, 2)];
    publish(&mut world, &[(2, 1, true)]);
    let (mut breaths, mut told) = (0, vec![false; usize::from(CONNECTIONS) + 1]);
    loop {
        let host = &mut world.hosts[0];
        let due = host.forwarder.poll_timeout();
        if due.is_none_or(|due| due > world.now.time) {
            break;
        }
        host.forwarder.handle_timeout(world.now, &mut host.out);
        world.deliver_to_pods(0);
        world.balance(0);
        let heard = heard(&mut world);
        assert!(heard.len() <= ANSWERS);
        for segment in heard {
            let port = segment.to.1;
            ends.client.1 = port;
            assert_eq!(segment, reset(&ends, (u32::from(port) << 8) + 1));
            assert!(!std::mem::replace(&mut told[usize::from(port)], true));
        }
        breaths += 1;
        if breaths == 100 {
            // It begins again when more changes in between.
            publish(&mut world, &[(2, 1, true), (2, 2, true)]);
        }
    }
    assert!(told[1..].iter().all(|told| *told));
    assert!((100_000 / SLOTS..2_000).contains(&breaths), "{breaths}");
}

#[test]
fn what_finds_no_room_waits_for_it() {
    let mut world = with_backends(&[(2, 1, true)]);
    let ends = both()[V4];
    talk(&mut world, &ends);
    // The queue towards the pods is full.
    for port in 0..128 {
        let to = world::udp(([8, 8, 8, 8], port), (pod(1, 2), 9));
        world.give(1, &to);
    }
    publish(&mut world, &[(2, 1, false)]);
    let host = &mut world.hosts[0];
    host.forwarder.handle_timeout(world.now, &mut host.out);
    let due = host.forwarder.poll_timeout().expect("it goes on");
    assert!(due > world.now.time, "but does not spin");
    world.deliver_to_pods(0);
    assert_eq!(heard(&mut world), []);
    world.now.time = due;
    breathe(&mut world);
    assert_eq!(heard(&mut world), [reset(&ends, 5_031)]);
    assert_eq!(world.drops(1, Reason::PodsFull), 0);
}

#[test]
fn the_worker_that_owns_a_client_tells_it_and_no_other_does() {
    for workers in [1, 3] {
        let mut crews = Crews::new(workers, 4);
        let view = |epoch, dead| View {
            epoch,
            backend: Some((2, 1)),
            dead,
            ..PLAIN
        };
        let adopt = |crews: &mut Crews, view| {
            for worker in 0..workers {
                crews.adopt(1, worker, view);
            }
        };
        adopt(&mut crews, view(2, false));
        let clients: Vec<Ends> = (1..9)
            .map(|number| {
                let mut ends = both()[V4];
                ends.client.0 = pod(1, number).into();
                ends
            })
            .collect();
        let owner = |crews: &Crews, ends: &Ends| match ends.client.0 {
            IpAddr::V4(client) => crews.owner(client.octets()),
            IpAddr::V6(_) => panic!("not IPv4"),
        };
        let server = crews.owner(pod(2, 1));
        for ends in &clients {
            let worker = owner(&crews, ends);
            crews.frame(1, worker, &asks(ends, SYN, 100, 0).bytes(b""));
            crews.settle();
            let answer = answers(ends, SYN | ACK, 5_000, 101).bytes(b"");
            crews.frame(2, server, &answer);
            crews.settle();
        }
        assert_eq!(crews.delivered(1).len(), clients.len());
        adopt(&mut crews, view(3, true));
        crews.pass(Duration::from_millis(50));
        let mut told: Vec<(u16, Segment)> = crews
            .delivered(1)
            .iter()
            .filter_map(|(worker, bytes)| Some((*worker, Segment::read(bytes)?)))
            .collect();
        told.sort_by_key(|(_, segment)| segment.to);
        let expected = clients.iter();
        let expected = expected.map(|ends| (owner(&crews, ends), reset(ends, 5_001)));
        assert_eq!(told, expected.collect::<Vec<_>>());
        // Whichever worker's TUN gives what comes then, the owner answers it.
        for (worker, ends) in (0..workers).cycle().zip(&clients) {
            crews.frame(1, worker, &asks(ends, ACK, 101, 4_999).bytes(b""));
            crews.settle();
            let came = crews.delivered(1);
            let [(by, bytes)] = &came[..] else {
                panic!("one answer, not {came:?}")
            };
            assert_eq!(*by, owner(&crews, ends));
            assert_eq!(Segment::read(bytes), Some(reset(ends, 4_999)));
        }
    }
}
