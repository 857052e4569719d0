//! A real TUN in an empty network: what is set, what is read and written, and how it ends.

mod common;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Barrier, mpsc};

use common::build::{Ends, udp};
use common::{Worker, in_empty_network, ip, pattern, tun};
use driver::{
    Dropped, EngineError, Tun, TunError, TunOffloads, TunSettings, Udp, UdpError, UdpSettings,
};
use packet::{Checksum, SegmentationKind};

fn settings(name: &str) -> TunSettings {
    TunSettings {
        name: name.into(),
        mtu: Some(1420),
        up: false,
        offloads: TunOffloads::default(),
    }
}

fn is_test_udp(bytes: &[u8]) -> bool {
    bytes[0] >> 4 == 4 && bytes[9] == 17
}

#[test]
fn it_gets_its_name_and_mtu_and_a_taken_name_is_refused() {
    in_empty_network("it_gets_its_name_and_mtu", || {
        let tun = Tun::create(&settings("farlane0")).unwrap();
        assert_eq!((tun.name(), tun.mtu().unwrap()), ("farlane0", 1420));
        tun.set_mtu(1280).unwrap();
        assert_eq!(tun.mtu().unwrap(), 1280);
        tun.set_up().unwrap();
        for taken in ["farlane0", "lo"] {
            let error = Tun::create(&settings(taken)).unwrap_err();
            assert!(matches!(error, TunError::NameTaken { .. }), "{error}");
        }
        let error = tun.set_mtu(70_000).unwrap_err();
        assert!(matches!(error, TunError::BadMtu { .. }), "{error}");
        let numbered = Tun::create(&settings("far%d")).unwrap();
        assert_eq!(numbered.name(), "far0");
        // It goes with its owner, so that it can be made again. (A child that another test starts
        // has its file too, until it has become another program.)
        drop(tun);
        let again = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Tun::create(&settings("farlane0")).ok()
        });
        assert!(again.is_some());
    });
}

#[test]
fn each_step_of_offloads_can_be_asked_for() {
    in_empty_network("each_step_of_offloads", || {
        use TunOffloads::{Checksum, None, Tcp, TcpEcn, Udp};
        for wanted in [None, Checksum, Tcp, TcpEcn] {
            assert_eq!(tun("far%d", wanted).offloads(), wanted);
        }
        // USO came with Linux 6.2; without it, the step below is it.
        assert!(tun("far%d", Udp).offloads() >= TcpEcn);
    });
}

#[test]
fn a_deleted_interface_ends_the_engine_and_says_its_name() {
    in_empty_network("a_deleted_interface", || {
        let mut worker = Worker::new(tun("gone0", TunOffloads::default()), Vec::new());
        let deleter = std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            ip("link delete gone0");
        });
        let error = (0..20).find_map(|_| {
            let ended = worker.turn(10_000).err();
            worker.forget_frames();
            ended
        });
        deleter.join().unwrap();
        assert!(matches!(error, Some(EngineError::Deleted { name }) if name == "gone0"));
    });
}

#[test]
fn a_link_tells_its_mtu_until_it_is_deleted() {
    in_empty_network("a_link_tells_its_mtu", || {
        let tun = Tun::create(&settings("gone1")).unwrap();
        let link = tun.link().unwrap();
        ip("link set gone1 mtu 1300");
        let mtu = || link.state().unwrap().map(|state| state.mtu);
        assert_eq!(mtu(), Some(1300));
        ip("link delete gone1");
        assert_eq!(mtu(), None);
    });
}

#[test]
fn an_interface_that_is_down_drops_under_that_name() {
    in_empty_network("an_interface_that_is_down", || {
        let down = Tun::create(&settings("down0")).unwrap();
        let mut worker = Worker::new(down, Vec::new());
        let ends = Ends {
            source: "10.1.0.2".parse().unwrap(),
            destination: "10.1.0.1".parse().unwrap(),
        };
        let bytes = udp(ends, 0, &[0; 3000]);
        let offload = common::build::offload(&bytes, Some(SegmentationKind::Udp), 1000);
        worker.queue_packet(&bytes, offload);
        worker.transmit().unwrap();
        worker.assert_settled(0, 0, &[(Dropped::PodsDown, 3)]);
    });
}

/// Takes all rights from this thread alone; the C library's setresuid would take the process's.
fn become_nobody() {
    const NOBODY: libc::c_long = 65_534;
    // SAFETY: the system call takes three numbers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(result, 0);
}

#[test]
fn without_rights_each_step_says_what_to_do() {
    in_empty_network("without_rights", || {
        let mut lane = UdpSettings::any(0);
        become_nobody();
        let error = Tun::create(&settings("farlane0")).unwrap_err();
        assert!(matches!(error, TunError::NoRights { .. }), "{error}");
        // Sockets need none, only less is given; marks and low ports do.
        let udp = Udp::bind(0, lane.clone()).unwrap();
        assert_eq!(udp.addresses().len(), 2);
        lane.mark = 1;
        let error = Udp::bind(0, lane).unwrap_err();
        assert!(error.to_string().contains("firewall mark"), "{error}");
        let error = Udp::bind(0, UdpSettings::any(53)).unwrap_err();
        assert!(matches!(error, UdpError::NoRights { .. }), "{error}");
    });
}

#[test]
fn without_the_device_it_says_how_to_get_it() {
    in_empty_network("without_the_device", || {
        // A mount namespace of this thread, in which /dev/net is empty.
        // SAFETY: unshare touches no memory.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(result, 0);
        common::run("mount", "--make-rprivate /");
        common::run("mount", "-t tmpfs none /dev/net");
        let error = Tun::create(&settings("farlane0")).unwrap_err();
        assert!(error.to_string().contains("modprobe tun"), "{error}");
    });
}

#[test]
fn an_interface_that_moves_to_another_namespace_still_carries_frames() {
    in_empty_network("an_interface_that_moves", || {
        let moving = Tun::create(&settings("far0")).unwrap();
        let mut worker = Worker::new(moving, Vec::new());
        let stay = Arc::new(Barrier::new(2));
        let (send, receive) = mpsc::channel();
        let other = std::thread::spawn({
            let stay = Arc::clone(&stay);
            move || {
                // SAFETY: unshare of the network namespace touches no memory.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
                // SAFETY: gettid touches no memory.
                send.send(unsafe { libc::gettid() }).unwrap();
                stay.wait();
                ip("addr add 10.1.0.1/24 dev far0");
                ip("link set far0 up");
                send_from_host(&[1; 100], 1000);
                stay.wait();
            }
        });
        ip(&format!("link set far0 netns {}", receive.recv().unwrap()));
        stay.wait();
        assert_eq!(worker.receive(1, is_test_udp).len(), 1);
        stay.wait();
        other.join().unwrap();
    });
}

/// Sends `payload` into the TUN `name` as the host does, cut into datagrams of `stride` bytes.
fn send_from_host(payload: &[u8], stride: i32) {
    let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
    // SAFETY: UDP_SEGMENT reads one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const stride).cast(),
            4,
        )
    };
    assert_eq!(result, 0);
    socket.send_to(payload, "10.1.0.2:5201").unwrap();
}

#[test]
fn a_super_packet_of_the_hosts_is_read_whole_and_without_offloads_in_pieces() {
    for offloads in [TunOffloads::Udp, TunOffloads::Checksum, TunOffloads::None] {
        in_empty_network("a_super_packet_of_the_hosts", move || {
            let payload = pattern(10_500, 5);
            let mut worker = Worker::new(tun("far0", offloads), Vec::new());
            ip("addr add 10.1.0.1/24 dev far0");
            let is_whole = worker.is_on("tun.udpSegmentation");
            let expected = if is_whole { 1 } else { 11 };
            send_from_host(&payload, 1000);
            let came = worker.receive(expected, is_test_udp);
            assert_eq!(came.len(), expected);
            let joined: Vec<u8> = came.iter().flat_map(|(b, _)| &b[28..]).copied().collect();
            assert_eq!(joined, payload);
            for (bytes, offload) in &came {
                if is_whole {
                    let whole = common::build::offload(bytes, Some(SegmentationKind::Udp), 1000);
                    assert_eq!(*offload, whole);
                    assert_eq!(worker.packet(bytes, *offload).segments(), 11);
                }
                let partial = offload.checksum != Checksum::Complete;
                assert_eq!(partial, offloads != TunOffloads::None || is_whole);
            }
        });
    }
}

#[test]
fn what_is_written_reaches_the_hosts_sockets_with_every_step_of_offloads() {
    for offloads in [
        TunOffloads::Udp,
        TunOffloads::Tcp,
        TunOffloads::Checksum,
        TunOffloads::None,
    ] {
        in_empty_network("what_is_written_reaches_the_hosts_sockets", move || {
            let ends = Ends {
                source: "10.1.0.2".parse().unwrap(),
                destination: "10.1.0.1".parse().unwrap(),
            };
            let payload = pattern(10_500, 9);
            let bytes = udp(ends, 0, &payload);
            let mut worker = Worker::new(tun("far0", offloads), Vec::new());
            ip("addr add 10.1.0.1/24 dev far0");
            let socket = UdpSocket::bind("10.1.0.1:5201").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(2)))
                .unwrap();
            let offload = common::build::offload(&bytes, Some(SegmentationKind::Udp), 1000);
            worker.queue_packet(&bytes, offload);
            let single = udp(ends, 0, b"single");
            worker.queue_packet(&single, common::build::offload(&single, None, 0));
            worker.transmit().unwrap();
            let mut buffer = [0; 2000];
            let mut came = Vec::new();
            for expected in [[1000; 10].as_slice(), &[500, 6]].concat() {
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(length, expected, "{offloads:?}");
                came.extend_from_slice(&buffer[..length]);
            }
            assert_eq!(came, [payload.as_slice(), b"single"].concat());
            worker.assert_settled(12, 0, &[]);
        });
    }
}
