//! The ground of wireguard-go's `tests/netns.sh`, walked by tests of our own: interfaces that leave
//! the network of their birth, roaming, NAT, source addresses, routes, and their end.
//!
//! ```text
//!   left                     outside                     right
//!   the interface of left ── lo: 127.0.0.1:1, [::1]:1
//!                            lo: 127.0.0.1:2, [::1]:2 ── the interface of right
//!   192.168.241.1, fd00::1                               192.168.241.2, fd00::2
//! ```
//!
//! That is the first topology: both programs are born `outside` and keep their sockets there. In the
//! others each stays where it was born, and veths join the networks.

mod common;
mod wireguard;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{eventually, may_run};
use wireguard::end::{End, SOON, born_outside, carries_tcp, introduce, is_up, join, joined};
use wireguard::{Interface, Keys, Network, preshared_key};

#[test]
fn an_interface_in_another_network_speaks_by_the_socket_where_it_was_born() {
    if !may_run("an_interface_in_another_network_speaks_by_the_socket_where_it_was_born") {
        return;
    }
    let (outside, left, right) = born_outside();
    for (to_right, to_left) in [
        ("127.0.0.1:20000", "127.0.0.1:10000"),
        ("[::1]:20000", "[::1]:10000"),
    ] {
        left.set_endpoint(&right, to_right);
        right.set_endpoint(&left, to_left);
        for mtu in [1420, 34816 - 80] {
            left.set_mtu(mtu);
            right.set_mtu(mtu);
            assert!(left.ping(&right) && right.ping(&left), "{to_right}, {mtu}");
            assert!(left.ping_v6(&right) && right.ping_v6(&left));
            let whole = mtu - 48;
            assert!(left.ping_with("fd00::2", whole), "{to_right}, {mtu}");
            assert!(carries_tcp(&left, &right, "192.168.241.2"));
            assert!(carries_tcp(&right, &left, "fd00::1"));
        }
    }
    let inside = left.network.sh("ss -Hlun");
    assert!(!inside.contains(":10000"), "{inside}");
    assert!(outside.sh("ss -Hlun").contains(":10000"));
}

#[test]
fn statistics_count_handshakes_and_udp_payloads_as_the_kernel_does() {
    if !may_run("statistics_count_handshakes_and_udp_payloads_as_the_kernel_does") {
        return;
    }
    let (_outside, left, right) = born_outside();
    left.set_endpoint(&right, "127.0.0.1:20000");
    assert!(left.ping(&right));
    // An initiation and a response; 84 bytes of ping, padded to 96, and 32 around them.
    assert_eq!(left.transfer(), (92 + 128, 148 + 128));
    assert_eq!(right.transfer(), (148 + 128, 92 + 128));
    // Of a length that sixteen does not divide: padded up to the link's MTU, and no further.
    for (mtu, padded) in [(1420, 1392), (1390, 1390), (1280, 1280)] {
        left.set_mtu(mtu);
        right.set_mtu(mtu);
        let length = 1390.min(mtu);
        let followed = eventually(SOON, || {
            let before = left.transfer();
            assert!(left.ping_with("192.168.241.2", length - 28));
            let after = left.transfer();
            (after.0 - before.0, after.1 - before.1) == (padded + 32, padded + 32)
        });
        assert!(followed, "mtu {mtu}");
    }
}

#[test]
fn an_end_that_moves_is_followed_in_both_families() {
    if !may_run("an_end_that_moves_is_followed_in_both_families") {
        return;
    }
    let (outside, left, right) = born_outside();
    left.set_endpoint(&right, "127.0.0.1:20000");
    assert!(left.ping(&right));
    assert_eq!(right.endpoint(), "127.0.0.1:10000");
    outside.sh("ip -4 addr del 127.0.0.1/8 dev lo; ip -4 addr add 127.212.121.99/8 dev lo");
    left.set("listen-port 9999");
    left.set_endpoint(&right, "127.0.0.1:20000");
    assert!(left.ping_v6(&right));
    assert_eq!(right.endpoint(), "127.212.121.99:9999");
    left.set("listen-port 9998");
    left.set_endpoint(&right, "[::1]:20000");
    assert!(left.ping(&right));
    assert_eq!(right.endpoint(), "[::1]:9998");
    // The one who answers moves, and speaks first.
    right.set("listen-port 9997");
    assert!(right.ping(&left));
    assert_eq!(left.endpoint(), "[::1]:9997");
}

#[test]
fn an_address_belongs_to_the_peer_with_the_most_specific_prefix() {
    if !may_run("an_address_belongs_to_the_peer_with_the_most_specific_prefix") {
        return;
    }
    let (_outside, left, right) = born_outside();
    left.set_endpoint(&right, "127.0.0.1:20000");
    left.set(&format!(
        "peer {} allowed-ips 192.168.241.0/24",
        right.keys.public
    ));
    assert!(left.ping(&right) && right.ping(&left));
    let other = Keys::new().public;
    left.set(&format!("peer {other} allowed-ips 192.168.241.2/32"));
    assert!(!right.ping(&left), "it sends what is another's");
    left.set(&format!("peer {other} remove"));
    assert!(right.ping(&left));
    // The same prefix under another peer: it moves, and back.
    left.set(&format!("peer {other} allowed-ips 192.168.241.0/24"));
    assert!(!right.ping(&left));
    left.set(&format!(
        "peer {} allowed-ips 192.168.241.0/24",
        right.keys.public
    ));
    assert!(right.ping(&left));
}

#[test]
fn a_peer_behind_nat_is_reached_as_long_as_it_keeps_itself_alive() {
    if !may_run("a_peer_behind_nat_is_reached_as_long_as_it_keeps_itself_alive") {
        return;
    }
    let (router, left, right) = (Network::new(), End::new(1, None), End::new(2, None));
    introduce(&left, &right);
    join(&router, "inner", &left.network, "wire");
    join(&router, "outer", &right.network, "wire");
    router.sh(
        "ip addr add 192.168.1.1/24 dev inner; ip addr add 10.0.0.1/24 dev outer; \
         ip link set inner up; ip link set outer up; sysctl -qw net.ipv4.ip_forward=1; \
         iptables -t nat -A POSTROUTING -s 192.168.1.0/24 -d 10.0.0.0/24 -j SNAT --to 10.0.0.1; \
         sysctl -qw net.netfilter.nf_conntrack_udp_timeout=2 \
         net.netfilter.nf_conntrack_udp_timeout_stream=2",
    );
    left.network.sh(
        "ip addr add 192.168.1.100/24 dev wire; ip link set wire up; \
         ip route add default via 192.168.1.1",
    );
    right
        .network
        .sh("ip addr add 10.0.0.100/24 dev wire; ip link set wire up");
    left.set_endpoint(&right, "10.0.0.100:20000");
    left.set(&format!(
        "peer {} persistent-keepalive 1",
        right.keys.public
    ));
    assert!(left.ping(&right) && right.ping(&left));
    assert_eq!(right.endpoint(), "10.0.0.1:10000");
    // Longer than the router remembers a flow that is silent.
    std::thread::sleep(Duration::from_secs(4));
    assert!(right.ping(&left));
}

#[test]
fn a_source_address_that_goes_is_left_for_another() {
    if !may_run("a_source_address_that_goes_is_left_for_another") {
        return;
    }
    let (left, right) = joined();
    left.network.sh(
        "sysctl -qw net.ipv4.conf.wire.promote_secondaries=1; ip addr add 10.0.0.1/24 dev wire; \
         ip addr add fd00:aa::1/96 dev wire nodad; ip link set wire up",
    );
    right.network.sh(
        "ip addr add 10.0.0.2/24 dev wire; ip addr add fd00:aa::2/96 dev wire nodad; \
         ip link set wire up",
    );
    is_up(&left, &right);
    for (endpoint, old, new, length) in [
        ("10.0.0.2:20000", "10.0.0.1", "10.0.0.10", 24),
        ("[fd00:aa::2]:20000", "fd00:aa::1", "fd00:aa::10", 96),
    ] {
        left.set_endpoint(&right, endpoint);
        assert!(left.ping(&right), "{endpoint}");
        assert!(right.endpoint().contains(old));
        left.network.sh(&format!(
            "ip addr add {new}/{length} dev wire; ip addr del {old}/{length} dev wire"
        ));
        // The very next one is answered, by the new address.
        assert!(left.ping(&right), "{endpoint}");
        assert!(right.endpoint().contains(new), "{}", right.endpoint());
    }
}

#[test]
fn answers_leave_by_the_address_that_was_spoken_to() {
    if !may_run("answers_leave_by_the_address_that_was_spoken_to") {
        return;
    }
    let (left, right) = joined();
    left.network
        .sh("for n in 1 2; do ip addr add 10.0.0.$n/24 dev wire; \
         ip addr add fd00:aa::$n/96 dev wire nodad; done; ip link set wire up");
    right.network.sh(
        "ip addr add 10.0.0.3/24 dev wire; ip addr add fd00:aa::3/96 dev wire nodad; \
         ip link set wire up",
    );
    is_up(&left, &right);
    let link_local = left.network.sh("ip -6 -br addr show dev wire scope link");
    let link_local = link_local.split_whitespace().find_map(|word| {
        let address = word.strip_suffix("/64")?;
        Some(format!("[{address}%wire]:10000"))
    });
    let mut endpoints = vec![
        "10.0.0.1:10000".to_owned(),
        "[fd00:aa::1]:10000".to_owned(),
        "10.0.0.2:10000".to_owned(),
        "[fd00:aa::2]:10000".to_owned(),
    ];
    endpoints.extend(link_local);
    for endpoint in endpoints {
        right.set_endpoint(&left, &endpoint);
        assert!(right.ping(&left), "{endpoint}");
        // An answer from elsewhere would have moved it.
        let told = right.endpoint();
        let (address, _) = endpoint.split_once('%').unwrap_or((&endpoint, ""));
        assert!(
            told.starts_with(address.trim_end_matches("]:10000")),
            "{told}"
        );
    }
}

#[test]
fn a_source_address_goes_with_its_route() {
    if !may_run("a_source_address_goes_with_its_route") {
        return;
    }
    // Two wires; what is at the right's 10.9.9.9 is reached by the first, then by the second.
    let (left, right) = joined();
    join(&left.network, "other", &right.network, "other");
    for (end, number) in [(&left, 1), (&right, 2)] {
        end.network.sh(&format!(
            "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.wire.rp_filter=0 \
             net.ipv4.conf.other.rp_filter=0; ip addr add 10.0.1.{number}/24 dev wire; \
             ip addr add 10.0.2.{number}/24 dev other; ip link set wire up; ip link set other up"
        ));
    }
    right.network.sh("ip addr add 10.9.9.9/32 dev lo");
    left.network.sh("ip route add 10.9.9.9 via 10.0.1.2");
    left.set_endpoint(&right, "10.9.9.9:20000");
    assert!(left.ping(&right));
    assert_eq!(right.endpoint(), "10.0.1.1:10000");
    left.network.sh("ip route replace 10.9.9.9 via 10.0.2.2");
    let moved = eventually(SOON, || {
        left.ping(&right) && right.endpoint() == "10.0.2.1:10000"
    });
    assert!(moved, "{}", right.endpoint());
    // A change that moves nothing leaves the source where the peer has spoken to.
    right.set_endpoint(&left, "10.0.1.1:10000");
    assert!(right.ping(&left));
    assert_eq!(right.endpoint(), "10.0.1.1:10000");
}

#[test]
fn a_mark_keeps_the_tunnel_out_of_the_tunnel() {
    if !may_run("a_mark_keeps_the_tunnel_out_of_the_tunnel") {
        return;
    }
    let (left, right) = joined();
    left.network
        .sh("ip addr add 10.0.0.1/24 dev wire; ip link set wire up");
    right.network.sh(
        "ip addr add 10.0.0.2/24 dev wire; ip link set wire up; ip addr add 203.0.113.7/32 dev lo",
    );
    left.set_endpoint(&right, "10.0.0.2:20000");
    left.set(&format!("peer {} allowed-ips 0.0.0.0/0", right.keys.public));
    // As wg-quick does it where the whole internet is a peer's: all that has no mark goes in.
    left.network.sh(&format!(
        "ip route add default dev {} table 51820; ip rule add not fwmark 51820 table 51820",
        left.interface.name
    ));
    assert!(!left.ping_with("203.0.113.7", 56), "it goes round");
    left.set("fwmark 51820");
    // What was sealed before may still be on its way round.
    assert!(eventually(SOON, || left.ping_with("203.0.113.7", 56)));
    assert!(left.ping_with("10.0.0.2", 56));
}

#[test]
fn a_preshared_key_must_be_the_same_and_changes_without_a_break() {
    if !may_run("a_preshared_key_must_be_the_same_and_changes_without_a_break") {
        return;
    }
    let (_outside, left, right) = born_outside();
    left.set_endpoint(&right, "127.0.0.1:20000");
    let key = |end: &End, text: &str| end.interface.write("other", text);
    let (one, two) = (preshared_key(), preshared_key());
    let (of_left, of_right) = (key(&left, &one), key(&right, &two));
    left.set(&format!(
        "peer {} preshared-key {of_left}",
        right.keys.public
    ));
    right.set(&format!(
        "peer {} preshared-key {of_right}",
        left.keys.public
    ));
    assert!(!left.ping(&right));
    let of_right = key(&right, &one);
    right.set(&format!(
        "peer {} preshared-key {of_right}",
        left.keys.public
    ));
    // WireGuard tries again after 5 s.
    assert!(eventually(SOON, || left.ping(&right)));
    // Another one while the session lives: it stays in use.
    let of_left = key(&left, &two);
    left.set(&format!(
        "peer {} preshared-key {of_left}",
        right.keys.public
    ));
    assert!(left.ping(&right));
}

#[test]
fn peers_are_replaced_while_traffic_flows() {
    if !may_run("peers_are_replaced_while_traffic_flows") {
        return;
    }
    let (_outside, left, right) = born_outside();
    left.set_endpoint(&right, "127.0.0.1:20000");
    right.set_endpoint(&left, "127.0.0.1:10000");
    assert!(left.ping(&right));
    let log = left.interface.file("ping");
    let ping = ["ping", "-n", "-i", "0.02", "-c", "250", "192.168.241.2"];
    let mut pings = left.network.spawn(&log, &ping);
    // Everything that leaves the peer as it is, over and over, and 20,000 others that come and go.
    let mut many = String::from("set=1\n");
    for number in 0u32..20_000 {
        many += &format!("public_key={}{number:08x}\n", "5a".repeat(28));
        many += &format!("allowed_ip=10.{}.{}.0/24\n", number >> 8, number & 255);
    }
    assert_eq!(left.interface.request(&(many + "\n")), ["errno=0"]);
    let told = left.interface.request("get=1\n\n");
    let peers = told.iter().filter(|line| line.starts_with("public_key="));
    assert_eq!(
        (peers.count(), told.last().unwrap().as_str()),
        (20_001, "errno=0")
    );
    let configuration = left
        .network
        .sh(&format!("wg showconf {}", left.interface.name));
    let only = configuration
        .split("[Peer]\n")
        .find(|peer| peer.contains(&right.keys.public));
    let only = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 10000\n[Peer]\n{}",
        left.keys.private,
        only.unwrap()
    );
    let file = left.interface.write("only", &only);
    left.network
        .sh(&format!("wg syncconf {} {file}", left.interface.name));
    assert_eq!(
        left.interface.shows(&left.network, "peers"),
        right.keys.public
    );
    pings.wait(Duration::from_secs(60));
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    // All at once: the session goes, and the next packet makes another.
    left.network
        .sh(&format!("wg setconf {} {file}", left.interface.name));
    assert!(eventually(SOON, || left.ping(&right)));
}

#[test]
fn it_ends_with_its_link_or_its_network_wherever_they_are() {
    if !may_run("it_ends_with_its_link_or_its_network_wherever_they_are") {
        return;
    }
    let outside = Network::new();
    let (mut left, right) = (End::new(1, Some(&outside)), End::new(2, Some(&outside)));
    introduce(&left, &right);
    left.set_endpoint(&right, "127.0.0.1:20000");
    assert!(left.ping(&right));
    // Renamed and renumbered, down and up again: it is still the same.
    let name = left.interface.name.clone();
    left.network.sh(&format!(
        "ip link set {name} down; ip link set {name} name renamed; ip link set renamed up; \
         ip -6 addr add fd00::1/64 dev renamed"
    ));
    assert!(left.ping(&right) && left.ping_v6(&right));
    left.network.sh("ip link delete renamed");
    assert_eq!(left.program.wait(SOON), Some(0), "{}", left.interface.log());
    assert!(!left.interface.socket().exists());
    // The whole network goes, with the link in it.
    let End {
        network,
        interface,
        mut program,
        ..
    } = right;
    drop(network);
    assert_eq!(program.wait(SOON), Some(0), "{}", interface.log());
    assert!(!interface.socket().exists());
}

#[test]
fn a_host_without_ipv6_is_served_in_silence() {
    if !may_run("a_host_without_ipv6_is_served_in_silence") {
        return;
    }
    let outside = Network::new();
    outside.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let (left, right) = (End::new(1, Some(&outside)), End::new(2, Some(&outside)));
    introduce(&left, &right);
    left.set_endpoint(&right, "[2001:db8::7]:20000");
    assert!(!left.ping(&right), "there is nobody");
    left.set_endpoint(&right, "127.0.0.1:20000");
    assert!(eventually(SOON, || left.ping(&right)) && left.ping_v6(&right));
    for end in [&left, &right] {
        let log = end.interface.log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn its_socket_is_its_owners_alone_and_to_remove_it_ends_the_program() {
    if !may_run("its_socket_is_its_owners_alone_and_to_remove_it_ends_the_program") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let mut program = interface.serve(&network);
    let mode = fs::metadata(interface.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(interface.socket()).unwrap();
    assert_eq!(program.wait(SOON), Some(0), "{}", interface.log());
}
