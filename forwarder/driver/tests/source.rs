//! By which of its own addresses a datagram leaves: the one that its other end has spoken to.

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{Came, Worker, in_empty_network, ip, lane, pattern, tun};
use driver::{Dropped, TunOffloads, Udp, UdpSettings};
use packet::{Local, Path};

/// Lane 0 listens on everything, lane 1 is whom it speaks to; both have `address`'s family.
fn host(address: &str, extra: &[&str]) -> (Worker, u16, SocketAddr) {
    for extra in extra {
        own(extra);
    }
    let lanes = vec![
        Udp::bind(0, UdpSettings::any(0)).unwrap(),
        lane(1, address, |_| ()),
    ];
    let (port, other) = (lanes[0].port(), lanes[1].addresses()[0]);
    let worker = Worker::new(tun("far%d", TunOffloads::None), lanes);
    (worker, port, other)
}

/// Gives this host an address, and waits until a datagram to it arrives.
fn own(prefix: &str) {
    // An address that is still looked for elsewhere is not one yet.
    ip(&format!("addr add {prefix} dev lo nodad"));
    let (address, _) = prefix.split_once('/').unwrap();
    let address: IpAddr = address.parse().unwrap();
    let echo = UdpSocket::bind((address, 0)).unwrap();
    let patience = Some(Duration::from_millis(10));
    echo.set_read_timeout(patience).unwrap();
    let to = echo.local_addr().unwrap();
    // Of IPv6's two routes the one that ends here is made last, by a thread of the kernel
    // (`addrconf_dad_work`), and in between what is sent goes nowhere.
    let came = (0..500).any(|_| {
        let _ = echo.send_to(&[0], to);
        echo.recv(&mut [0]).is_ok()
    });
    assert!(came, "{address} leads nowhere");
}

fn sources(came: &[Came]) -> Vec<IpAddr> {
    came.iter().map(|came| came.remote.ip()).collect()
}

#[test]
fn an_answer_leaves_by_the_address_that_was_asked_whole_trains_too() {
    in_empty_network("an_answer_leaves_by_the_address_that_was_asked", || {
        for (other, asked, extra) in [
            ("127.0.0.1:0", "127.0.0.9", &[][..]),
            ("127.0.0.1:0", "192.0.2.7", &["192.0.2.7/32"]),
            ("[::1]:0", "2001:db8::7", &["2001:db8::7/128"]),
        ] {
            let (mut worker, port, other) = host(other, extra);
            let asked: IpAddr = asked.parse().unwrap();
            worker.queue(1, SocketAddr::new(asked, port), 0, 100, &[1]);
            let came = worker.exchange(1);
            let local = came[0].local.expect("the kernel tells");
            assert_eq!(local.address, asked);
            let back = Path {
                remote: other,
                local: Some(local),
            };
            // With the mark of congestion and the length of a train beside it.
            worker.queue(0, back, 3, 1000, &pattern(3500, 1));
            worker.queue(0, back, 0, 1000, &[2]);
            let came = worker.exchange(5);
            assert_eq!(sources(&came), [asked; 5]);
            assert_eq!((came[0].in_train, came[0].ecn), (4, 3));
            worker.assert_settled(0, 6, &[]);
        }
    });
}

#[test]
fn a_source_that_the_kernel_refuses_is_left_out_until_something_comes_by_it() {
    in_empty_network("a_source_that_the_kernel_refuses_is_left_out", || {
        for (other, usual, asked) in [
            ("127.0.0.1:0", "127.0.0.1", "192.0.2.7"),
            ("[::1]:0", "::1", "2001:db8::7"),
        ] {
            let (mut worker, port, other) = host(other, &[]);
            let length = if asked.contains(':') { 128 } else { 32 };
            let prefix = format!("{asked}/{length}");
            own(&prefix);
            let [usual, asked]: [IpAddr; 2] = [usual, asked].map(|text| text.parse().unwrap());
            let ask = |worker: &mut Worker| {
                worker.queue(1, SocketAddr::new(asked, port), 0, 100, &[1]);
                Path {
                    remote: other,
                    local: worker.exchange(1)[0].local,
                }
            };
            let back = ask(&mut worker);
            ip(&format!("addr del {prefix} dev lo"));
            // Several in one call, so that the refused one is not the only one.
            for round in 0..3 {
                worker.queue(0, back, 0, 1000, &pattern(3000, round));
                worker.queue(0, back, 0, 1000, &[2]);
                assert_eq!(sources(&worker.exchange(4)), [usual; 4]);
            }
            assert!(worker.is_on("udp.segmentation"), "trains are not to blame");
            own(&prefix);
            worker.queue(0, back, 0, 1000, &[3]);
            assert_eq!(sources(&worker.exchange(1)), [usual], "not tried again");
            let back = ask(&mut worker);
            worker.queue(0, back, 0, 1000, &[4]);
            assert_eq!(sources(&worker.exchange(1)), [asked]);
            worker.assert_settled(0, 16, &[]);
        }
    });
}

#[test]
fn a_source_is_not_blamed_for_a_destination_that_is_refused() {
    in_empty_network("a_source_is_not_blamed_for_a_destination", || {
        let (mut worker, _, other) = host("127.0.0.1:0", &["192.0.2.7/32"]);
        ip("route add blackhole 203.0.113.0/24");
        let address = "192.0.2.7".parse().unwrap();
        let local = Some(Local {
            address,
            interface: 1,
        });
        let nowhere = Path {
            remote: "203.0.113.1:9".parse().unwrap(),
            local,
        };
        let back = Path {
            remote: other,
            local,
        };
        worker.queue(0, nowhere, 0, 1000, &pattern(3000, 1));
        worker.queue(0, nowhere, 0, 1000, &[1]);
        worker.queue(0, back, 0, 1000, &[2]);
        let came = worker.exchange(1);
        assert_eq!(sources(&came), [address]);
        worker.assert_settled(0, 1, &[(Dropped::WireUnreachable, 4)]);
    });
}

#[test]
fn of_several_sockets_the_one_that_was_asked_answers() {
    in_empty_network("of_several_sockets_the_one_that_was_asked_answers", || {
        let listen = ["127.0.0.5:0", "127.0.0.6:0", "[::1]:0"].map(|text| text.parse().unwrap());
        let lanes = vec![
            Udp::bind(0, UdpSettings::on(listen.to_vec())).unwrap(),
            lane(1, "127.0.0.1:0", |_| ()),
        ];
        let (ours, other) = (lanes[0].addresses(), lanes[1].addresses()[0]);
        let mut worker = Worker::new(tun("far%d", TunOffloads::None), lanes);
        for asked in &ours[..2] {
            worker.queue(1, *asked, 0, 100, &[1]);
            let back = Path {
                remote: other,
                local: worker.exchange(1)[0].local,
            };
            worker.queue(0, back, 0, 100, &[2]);
            assert_eq!(sources(&worker.exchange(1)), [asked.ip()]);
        }
        worker.assert_settled(0, 4, &[]);
    });
}
