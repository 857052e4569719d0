//! Datagrams and trains through real sockets, on the loopback of an empty network.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{
    Came, Worker, in_empty_network, ip, lane, no_new_child, pattern, run, stay_on_one_processor,
    tun,
};
use driver::{Budget, Dropped, Engine, TunOffloads, Udp, UdpError, UdpSettings};
use packet::Batch;

/// Lanes 0 and 1 on 127.0.0.1; the worker, and where lane 1 is.
fn two_lanes(change: impl Fn(&mut UdpSettings)) -> (Worker, SocketAddr) {
    let lanes = vec![
        lane(0, "127.0.0.1:0", &change),
        lane(1, "127.0.0.1:0", &change),
    ];
    let remote = lanes[1].addresses()[0];
    (Worker::new(tun("far%d", TunOffloads::None), lanes), remote)
}

fn payloads(came: &[Came]) -> Vec<&[u8]> {
    came.iter().map(|came| came.bytes.as_slice()).collect()
}

#[test]
fn a_train_leaves_and_arrives_whole_with_its_boundaries() {
    in_empty_network("a_train_leaves_and_arrives_whole", || {
        let (mut worker, remote) = two_lanes(|_| ());
        assert!(worker.is_on("udp.segmentation") && worker.is_on("udp.coalescing"));
        // The last datagram shorter, as long as the others, and alone; the longest train.
        let trains = [
            (1452, 44 * 1452 + 7),
            (1000, 3000),
            (1000, 999),
            (1, 64),
            (1023, 64 * 1023),
        ];
        for (salt, (stride, length)) in trains.into_iter().enumerate() {
            worker.queue(0, remote, 0, stride, &pattern(length, salt));
        }
        let frames: usize = trains.iter().map(|(s, l)| l.div_ceil(*s)).sum();
        let came = worker.exchange(frames);
        let sent: Vec<Vec<u8>> = trains
            .iter()
            .enumerate()
            .map(|(salt, (_, length))| pattern(*length, salt))
            .collect();
        let expected: Vec<&[u8]> = trains
            .iter()
            .zip(&sent)
            .flat_map(|((stride, _), bytes)| bytes.chunks(*stride))
            .collect();
        assert_eq!(payloads(&came), expected);
        let whole: Vec<usize> = trains.iter().map(|(s, l)| l.div_ceil(*s)).collect();
        let mut at = 0;
        for frames in whole {
            assert_eq!(came[at].in_train, frames, "a train was not received whole");
            at += frames;
        }
        assert!(came.iter().all(|came| came.lane == 1));
        worker.assert_settled(0, frames as u64, &[]);
    });
}

#[test]
fn without_the_offloads_the_same_datagrams_go_singly() {
    in_empty_network("without_the_offloads", || {
        for (segmentation, coalescing) in [(false, true), (true, false), (false, false)] {
            let (mut worker, remote) = two_lanes(|settings| {
                settings.segmentation = segmentation;
                settings.coalescing = coalescing;
            });
            assert_eq!(worker.is_on("udp.segmentation"), segmentation);
            assert_eq!(worker.is_on("udp.coalescing"), coalescing);
            let bytes = pattern(100 * 600 + 1, 3);
            worker.queue(0, remote, 0, 600, &bytes); // more datagrams than one sendmmsg takes
            worker.queue(0, remote, 0, 600, &bytes[..1000]);
            let came = worker.exchange(103);
            let expected: Vec<&[u8]> = bytes.chunks(600).chain(bytes[..1000].chunks(600)).collect();
            assert_eq!(payloads(&came), expected);
            assert!(segmentation || came.iter().all(|came| came.in_train == 1));
            worker.assert_settled(0, 103, &[]);
        }
    });
}

#[test]
fn ecn_crosses_in_both_families_and_dscp_stays_zero() {
    in_empty_network("ecn_crosses", || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let lanes = vec![lane(0, address, |_| ()), lane(7, address, |_| ())];
            let (from, to) = (lanes[0].addresses()[0], lanes[1].addresses()[0]);
            let mut worker = Worker::new(tun("far%d", TunOffloads::None), lanes);
            for ecn in 0..4 {
                worker.queue(0, to, ecn, 500, &pattern(1700, ecn.into()));
                worker.queue(0, to, ecn, 500, &pattern(20, ecn.into()));
            }
            let came = worker.exchange(20);
            let ecns: Vec<u8> = came.iter().map(|came| came.ecn).collect();
            assert_eq!(ecns, [0, 1, 2, 3].map(|ecn| [ecn; 5]).concat());
            assert!(
                came.iter()
                    .all(|came| came.remote == from && came.lane == 7)
            );
            worker.assert_settled(0, 20, &[]);
        }
    });
}

#[test]
fn a_full_send_buffer_loses_nothing_and_keeps_the_order() {
    in_empty_network("a_full_send_buffer", || {
        stay_on_one_processor();
        for segmentation in [true, false] {
            let lanes = vec![
                lane(0, "127.0.0.1:0", |settings| {
                    settings.buffer_bytes = 1;
                    settings.segmentation = segmentation;
                }),
                lane(1, "127.0.0.1:0", |_| ()),
            ];
            let remote = lanes[1].addresses()[0];
            let mut worker = Worker::new(tun("far%d", TunOffloads::None), lanes);
            // What waits in the queue of a slow link is what fills the buffer.
            run(
                "tc",
                "qdisc replace dev lo root tbf rate 80mbit burst 20k limit 1m",
            );
            let bytes = pattern(200 * 1000, 1);
            for train in bytes.chunks(10_000) {
                worker.queue(0, remote, 0, 1000, train);
            }
            worker.transmit().unwrap();
            assert!(!worker.wire.is_empty(), "the kernel took it all");
            let came = worker.exchange(200);
            assert_eq!(payloads(&came), bytes.chunks(1000).collect::<Vec<_>>());
            worker.assert_settled(0, 200, &[]);
        }
    });
}

#[test]
fn a_path_shorter_than_the_datagrams_ends_no_offload() {
    in_empty_network("a_path_shorter", || {
        let (mut worker, remote) = two_lanes(|_| ());
        ip("link set lo mtu 1300");
        for round in 0..40 {
            worker.queue(0, remote, 0, 1452, &pattern(4500, round));
        }
        let came = worker.exchange(160);
        assert_eq!(came.len(), 160, "cut by this host and put together again");
        assert_eq!(came[156].bytes, pattern(4500, 39)[..1452]);
        assert!(worker.is_on("udp.segmentation"));
        worker.assert_settled(0, 160, &[]);
    });
}

#[test]
fn a_datagram_that_must_not_be_cut_is_refused_by_name_and_told_where_the_link_is_too_small() {
    in_empty_network("a_datagram_that_must_not_be_cut", || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            ip("link set lo mtu 65536");
            let whole = |settings: &mut UdpSettings| settings.fragments = false;
            let lanes = [0, 1].map(|number| lane(number, address, whole));
            let remote = lanes[1].addresses()[0];
            let mut worker = Worker::new(tun("far%d", TunOffloads::None), lanes.into());
            ip("link set lo mtu 1300");
            let headers = if remote.is_ipv4() { 28 } else { 48 };
            let fits = 1300 - headers;
            worker.queue(0, remote, 0, fits, &pattern(3 * fits, 1));
            worker.queue(0, remote, 0, 1452, &pattern(2 * 1452, 2));
            worker.queue(0, remote, 0, fits + 1, &pattern(fits + 1, 3));
            worker.queue(0, remote, 0, fits, &pattern(fits, 4));
            let came = worker.exchange(4);
            assert_eq!(came.len(), 4, "{address}");
            assert_eq!(came[3].bytes, pattern(fits, 4));
            assert_eq!(worker.sent.too_big, Some((remote.ip(), fits + 1)));
            assert!(worker.is_on("udp.segmentation"));
            worker.assert_settled(0, 4, &[(Dropped::WireTooBig, 3)]);
        }
    });
}

#[test]
fn each_drop_has_its_name_and_the_rest_goes_on() {
    in_empty_network("each_drop_has_its_name", || {
        let (mut worker, remote) = two_lanes(|_| ());
        for route in ["prohibit 198.51.100.1", "blackhole 198.51.100.2"] {
            ip(&format!("route add {route}"));
        }
        let to = |address: &str| address.parse::<SocketAddr>().unwrap();
        worker.queue(0, remote, 0, 100, &pattern(250, 0));
        worker.queue(0, to("203.0.113.1:1"), 0, 100, &pattern(250, 0));
        worker.queue(0, to("198.51.100.1:1"), 0, 100, &pattern(450, 0));
        worker.queue(0, to("198.51.100.2:1"), 0, 100, &pattern(650, 0));
        worker.queue(0, remote, 0, 65_530, &pattern(65_530, 0));
        worker.queue(0, to("[2001:db8::1]:1"), 0, 100, &pattern(150, 0));
        worker.queue(9, remote, 0, 100, &pattern(50, 0));
        worker.queue(0, remote, 0, 100, &pattern(250, 1));
        let came = worker.exchange(6);
        assert_eq!(came.len(), 6);
        assert!(worker.is_on("udp.segmentation"), "a route ended an offload");
        worker.assert_settled(
            0,
            6,
            &[
                (Dropped::WireUnreachable, 3 + 7),
                (Dropped::WireForbidden, 5),
                (Dropped::WireTooBig, 1),
                (Dropped::WireNoSocket, 2 + 1),
            ],
        );
    });
}

#[test]
fn a_lane_moves_to_another_port_and_stays_where_it_is_if_that_is_taken() {
    in_empty_network("a_lane_moves", || {
        let first = Udp::bind(0, UdpSettings::any(0)).unwrap();
        let second = Udp::bind(1, UdpSettings::any(0)).unwrap();
        let (old, taken) = (first.port(), second.port());
        assert!(old != 0 && taken != 0 && old != taken);
        let families = |udp: &Udp| udp.addresses().iter().filter(|a| a.is_ipv4()).count();
        assert_eq!((first.addresses().len(), families(&first)), (2, 1));
        let mut worker = Worker::new(tun("far%d", TunOffloads::None), vec![first, second]);
        let any = |port| UdpSettings::any(port).listen;

        let error = worker.engine.listen(0, &any(taken)).unwrap_err();
        assert!(matches!(error, UdpError::InUse { .. }), "{error}");
        assert_eq!(worker.engine.listen(0, &any(old)).unwrap(), old);
        let alone = no_new_child();
        assert_eq!(worker.engine.listen(0, &any(old + 1)).unwrap(), old + 1);
        assert!(matches!(
            worker.engine.listen(5, &any(0)),
            Err(UdpError::NoLane { lane: 5 })
        ));
        // The old port is free, and the new one is heard.
        drop(std::net::UdpSocket::bind(("127.0.0.1", old)).unwrap());
        drop(alone);
        let remote = SocketAddr::from(([127, 0, 0, 1], old + 1));
        worker.queue(1, remote, 0, 100, &pattern(10, 0));
        let came = worker.exchange(1);
        assert_eq!((came.len(), came[0].lane), (1, 0));
        worker.engine.set_mark(0x10).unwrap();
        worker.queue(1, remote, 0, 100, &pattern(10, 0));
        assert_eq!(worker.exchange(1).len(), 1);
    });
}

#[test]
fn a_budget_that_is_used_up_leaves_the_rest_for_a_turn_that_does_not_sleep() {
    in_empty_network("a_budget_that_is_used_up", || {
        let lanes = vec![
            lane(0, "127.0.0.1:0", |_| ()),
            lane(1, "127.0.0.1:0", |s| s.coalescing = false),
        ];
        let remote = lanes[1].addresses()[0];
        let budget = Budget {
            items: 4,
            bytes: 1 << 20,
            ..Budget::default()
        };
        let mut worker = Worker::with_budget(tun("far%d", TunOffloads::None), lanes, budget);
        worker.queue(0, remote, 0, 100, &pattern(1000, 0));
        worker.transmit().unwrap();
        let start = Instant::now();
        for expected in [4, 4, 2] {
            worker.turn(5000).unwrap();
            assert_eq!(worker.datagrams.len(), expected);
            while let Some(item) = worker.datagrams.pop() {
                worker.arena.put(item.buf);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(2), "a turn slept");
        worker.turn(0).unwrap();
        assert!(worker.datagrams.is_empty());
    });
}

#[test]
fn a_flood_on_one_socket_leaves_the_others_their_part_of_each_turn() {
    in_empty_network("a_flood_on_one_socket", || {
        let both = UdpSettings {
            coalescing: false,
            ..UdpSettings::on(vec![
                "127.0.0.1:0".parse().unwrap(),
                "[::1]:0".parse().unwrap(),
            ])
        };
        let lanes: Vec<Udp> = [0, 1]
            .map(|number| Udp::bind(number, both.clone()).unwrap())
            .into();
        let doors: Vec<SocketAddr> = lanes.iter().flat_map(Udp::addresses).collect();
        let mut worker = Worker::new(tun("far%d", TunOffloads::None), lanes);
        worker.turn(0).unwrap();
        worker.forget_frames();
        worker.datagrams = Batch::with_limit(32);
        let senders = ["127.0.0.1:0", "[::1]:0"].map(|a| std::net::UdpSocket::bind(a).unwrap());
        let send = |door: SocketAddr, count: usize| {
            for _ in 0..count {
                let sender = &senders[usize::from(door.is_ipv6())];
                sender.send_to(b"flood", door).unwrap();
            }
        };
        // Each is flooded in its turn; with few buffers, whoever is first gets them all.
        for (buffers, turns) in [(512, 1), (2, 4)] {
            let kept: Vec<_> = (buffers..512).filter_map(|_| worker.arena.take()).collect();
            for flooded in &doors {
                send(*flooded, 200);
                for quiet in doors.iter().filter(|door| *door != flooded) {
                    send(*quiet, 1);
                }
                let mut turn = || {
                    worker.turn(0).unwrap();
                    worker.forget_frames();
                    let mut heard = Vec::new();
                    while let Some(item) = worker.datagrams.pop() {
                        heard.push((item.lane, item.path.local.unwrap().address));
                        worker.arena.put(item.buf);
                    }
                    heard
                };
                let heard: Vec<_> = (0..turns).flat_map(|_| turn()).collect();
                for (number, door) in doors.iter().enumerate() {
                    let lane = number as u16 / 2;
                    assert!(
                        heard.contains(&(lane, door.ip())),
                        "{door} was not read while {flooded} was flooded: {heard:?}"
                    );
                }
                while !turn().is_empty() {}
            }
            kept.into_iter().for_each(|buf| worker.arena.put(buf));
        }
    });
}

#[test]
fn with_no_buffer_left_the_datagrams_stay_with_the_kernel() {
    in_empty_network("with_no_buffer_left", || {
        let (mut worker, remote) = two_lanes(|settings| settings.coalescing = false);
        worker.queue(0, remote, 0, 100, &pattern(300, 0));
        worker.transmit().unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| worker.arena.take()).collect();
        worker.turn(20).unwrap();
        assert!(worker.datagrams.is_empty());
        for buf in taken {
            worker.arena.put(buf);
        }
        assert_eq!(worker.exchange(3).len(), 3);
        worker.assert_settled(0, 3, &[]);
    });
}

#[test]
fn a_datagram_without_a_payload_is_handed_over_for_the_core_to_count() {
    in_empty_network("a_datagram_without_a_payload", || {
        let (mut worker, remote) = two_lanes(|_| ());
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[], remote).unwrap();
        worker.turn(5000).unwrap();
        let item = worker.datagrams.pop().expect("it came");
        assert!(item.buf.is_empty());
        assert_eq!(item.path.remote, sender.local_addr().unwrap());
        worker.arena.put(item.buf);
    });
}

#[test]
fn the_waker_ends_a_sleep_from_another_thread() {
    in_empty_network("the_waker_ends_a_sleep", || {
        let (mut worker, _) = two_lanes(|_| ());
        worker.turn(0).unwrap(); // what the new TUN had to say
        let waker = worker.engine.waker();
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake().unwrap();
        });
        while start.elapsed() < Duration::from_millis(20) {
            worker.turn(30_000).unwrap();
            worker.forget_frames();
        }
        assert!(start.elapsed() < Duration::from_secs(20));
        thread.join().unwrap();
    });
}

#[test]
fn a_worker_that_spins_hears_all_and_still_sleeps_to_its_deadline() {
    in_empty_network("a_worker_that_spins", || {
        let lanes = vec![
            lane(0, "127.0.0.1:0", |_| ()),
            lane(1, "127.0.0.1:0", |_| ()),
        ];
        let remote = lanes[1].addresses()[0];
        let budget = Budget {
            spin: Duration::from_millis(2),
            ..Budget::default()
        };
        let mut worker = Worker::with_budget(tun("far%d", TunOffloads::None), lanes, budget);
        for round in 0..10 {
            worker.queue(0, remote, 0, 100, &pattern(350, round));
            assert_eq!(worker.exchange(4).len(), 4);
        }
        let start = Instant::now();
        worker.turn(30).unwrap();
        assert!(!worker.frames.is_empty() || start.elapsed() >= Duration::from_millis(30));
    });
}

#[test]
fn addresses_that_cannot_be_listened_on_are_refused_with_what_to_do() {
    in_empty_network("addresses_that_cannot_be_listened_on", || {
        let not_ours = UdpSettings::on(vec!["192.0.2.1:51820".parse().unwrap()]);
        let error = Udp::bind(0, not_ours).unwrap_err();
        assert!(matches!(error, UdpError::NotOurs { .. }), "{error}");
        let held = std::net::UdpSocket::bind("127.0.0.1:51820").unwrap();
        let error = Udp::bind(0, UdpSettings::any(51820)).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(held);
        assert!(Udp::bind(0, UdpSettings::any(51820)).is_ok());
        let error = Udp::bind(3, UdpSettings::on(Vec::new())).unwrap_err();
        assert!(matches!(error, UdpError::NoAddress { lane: 3 }));
    });
}
