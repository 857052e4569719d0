//! What is io_uring's alone: frames by the ring, in order; the end of an engine; and a host that
//! refuses it.

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::build::{Ends, offload, udp};
use common::{Worker, in_empty_network, ip, lane, no_new_child, pattern, tun};
use driver::{
    Budget, Dropped, Engine, EngineChoice, EngineError, TunOffloads, Udp, UdpSettings, Uring, Waker,
};

const ENDS: fn() -> Ends = || Ends {
    source: "10.1.0.2".parse().unwrap(),
    destination: "10.1.0.1".parse().unwrap(),
};

/// A worker whose TUN the host answers on, and a socket there that hears what is written.
fn world(name: &str) -> (Worker, UdpSocket) {
    let worker = Worker::new(tun(name, TunOffloads::Udp), Vec::new());
    ip(&format!("addr add 10.1.0.1/24 dev {name}"));
    let hears = UdpSocket::bind("10.1.0.1:5201").unwrap();
    let patience = Some(Duration::from_secs(5));
    hears.set_read_timeout(patience).unwrap();
    (worker, hears)
}

/// Queues a datagram for the pods that carries `number`.
fn queue(worker: &mut Worker, number: u32) {
    let bytes = udp(ENDS(), 0, &number.to_be_bytes());
    let whole = offload(&bytes, None, 0);
    worker.queue_packet(&bytes, whole);
}

#[test]
fn many_frames_arrive_in_order_and_every_buffer_comes_home() {
    in_empty_network("many_frames_arrive_in_order", || {
        let (mut worker, hears) = world("far0");
        let mut buffer = [0; 16];
        let mut next = 0_u32;
        // Fewer than one submission, exactly one, more, and one at a time in between.
        for count in [1, 40, 64, 1, 65, 200, 3] {
            for number in next..next + count {
                queue(&mut worker, number);
            }
            worker.transmit().unwrap();
            for number in next..next + count {
                let length = hears.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], number.to_be_bytes());
            }
            next += count;
            worker.turn(0).unwrap();
            worker.forget_frames();
            worker.assert_settled(next.into(), 0, &[]);
        }
    });
}

#[test]
fn frames_for_a_device_that_is_down_are_counted_and_later_ones_go() {
    in_empty_network("frames_for_a_device_that_is_down", || {
        let (mut worker, hears) = world("far0");
        ip("link set far0 down");
        for number in 0..100 {
            queue(&mut worker, number);
        }
        worker.transmit().unwrap();
        ip("link set far0 up");
        for number in 100..200 {
            queue(&mut worker, number);
        }
        worker.transmit().unwrap();
        let mut buffer = [0; 16];
        for number in 100..200_u32 {
            let length = hears.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], number.to_be_bytes());
        }
        worker.turn(0).unwrap();
        worker.forget_frames();
        worker.assert_settled(100, 0, &[(Dropped::PodsDown, 100)]);
    });
}

#[test]
fn a_device_that_is_deleted_under_many_frames_ends_the_engine() {
    in_empty_network("a_device_that_is_deleted_under_many_frames", || {
        let (mut worker, _hears) = world("gone0");
        for number in 0..100 {
            queue(&mut worker, number);
        }
        ip("link delete gone0");
        let error = worker.transmit().unwrap_err();
        assert!(matches!(error, EngineError::Deleted { .. }), "{error}");
        // What was not tried stays queued; all else is counted.
        let queued = worker.pods.len() as u64;
        assert_eq!(worker.sent.dropped(Dropped::PodsDown) + queued, 100);
        assert_eq!(worker.arena.lent() as u64, queued);
    });
}

#[test]
fn what_an_engine_held_is_free_when_it_is_dropped() {
    in_empty_network("what_an_engine_held_is_free", || {
        // More of them than the kernel ends in one go.
        let ports = 51_820..51_868_u16;
        for _ in 0..20 {
            let lanes = ports.clone().map(|port| {
                let address = format!("127.0.0.1:{port}");
                lane(port, &address, |_| ())
            });
            let mut worker = Worker::new(tun("far0", TunOffloads::Udp), lanes.collect());
            worker.turn(0).unwrap();
            worker.transmit().unwrap();
            let _alone = no_new_child();
            drop(worker);
            for port in ports.clone() {
                drop(UdpSocket::bind(("127.0.0.1", port)).expect("the port is free"));
            }
        }
    });
}

#[test]
fn a_call_of_the_waker_while_frames_are_written_is_not_lost() {
    in_empty_network("a_call_of_the_waker", || {
        let (mut worker, _hears) = world("far0");
        for _ in 0..20 {
            worker.turn(0).unwrap();
            worker.forget_frames();
        }
        for round in 0..20 {
            worker.engine.waker().wake().unwrap();
            for number in 0..64 {
                queue(&mut worker, number);
            }
            worker.transmit().unwrap();
            let start = Instant::now();
            worker.turn(20_000).unwrap();
            worker.forget_frames();
            assert!(start.elapsed() < Duration::from_secs(10), "{round}");
        }
    });
}

#[test]
fn a_turn_that_sleeps_after_a_flood_is_woken_by_what_comes_then() {
    in_empty_network("a_turn_that_sleeps_after_a_flood", || {
        let to = lane(0, "127.0.0.1:0", |_| ());
        let remote = to.addresses()[0];
        let budget = Budget {
            items: 4,
            ..Budget::default()
        };
        let mut worker = Worker::with_budget(tun("far0", TunOffloads::Udp), vec![to], budget);
        let sends = UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 0..10 {
            let mut left = 50;
            for _ in 0..left {
                sends.send_to(&[1], remote).unwrap();
            }
            while left > 0 {
                worker.turn(5_000).unwrap();
                assert!(!worker.datagrams.is_empty(), "{left} are left");
                left -= worker.forget_datagrams();
                worker.forget_frames();
            }
            let later = sends.try_clone().unwrap();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                later.send_to(&[2], remote).unwrap();
            });
            let start = Instant::now();
            while worker.datagrams.is_empty() {
                worker.turn(20_000).unwrap();
                worker.forget_frames();
                assert!(start.elapsed() < Duration::from_secs(10), "{round}");
            }
            worker.forget_datagrams();
            thread.join().unwrap();
        }
    });
}

#[test]
fn an_engine_may_be_made_on_another_thread_than_the_worker_s() {
    in_empty_network("an_engine_may_be_made_on_another_thread", || {
        let lanes = vec![
            lane(0, "127.0.0.1:0", |_| ()),
            lane(1, "127.0.0.1:0", |_| ()),
        ];
        let remote = lanes[1].addresses()[0];
        let mut worker = Worker::new(tun("far0", TunOffloads::Udp), lanes);
        let thread = std::thread::spawn(move || {
            worker.queue(0, remote, 0, 100, &pattern(1000, 1));
            assert_eq!(worker.exchange(10).len(), 10);
        });
        thread.join().unwrap();
    });
}

#[test]
fn where_io_uring_is_forbidden_epoll_runs_and_says_why() {
    in_empty_network("where_io_uring_is_forbidden", || {
        forbid_io_uring();
        let device = tun("far0", TunOffloads::Udp);
        let why = Uring::try_on(&device).unwrap_err();
        assert!(why.contains("seccomp"), "{why}");
        let udp = Udp::bind(0, UdpSettings::any(0)).unwrap();
        let waker = Waker::new().unwrap();
        let engine = EngineChoice::Uring.open(waker, device, vec![udp], Budget::default());
        let features = engine.expect("epoll needs none of it").features();
        let told = |name| {
            features
                .iter()
                .find(|feature| feature.name == name)
                .unwrap()
        };
        assert!(told("engine.epoll").on && !told("engine.uring").on);
        assert_eq!(told("engine.uring").why, why);
    });
}

/// From now on this thread may make no ring, as in a container by default (seccomp(2)).
fn forbid_io_uring() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut lines = [
        line(LOAD, 0, 0), // seccomp_data.nr
        line(EQUAL, 1, libc::SYS_io_uring_setup as u32),
        line(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        line(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog {
        len: lines.len() as u16,
        filter: lines.as_mut_ptr(),
    };
    // SAFETY: prctl takes numbers here, and the filter outlives the call, which copies it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
