//! `farlane wireguard` against wireguard-go, as initiator and as responder.
//!
//! ```text
//!   left  10.9.0.1, fd09::1 ── 192.0.2.1 ── 192.0.2.2 ── 10.9.0.2, fd09::2  right
//!                              fd00:77::1   fd00:77::2
//! ```
//!
//! The left side begins: the right one knows no endpoint. wireguard-go is the program that
//! `FARLANE_WIREGUARD_GO` names, or that `scripts/peer-wireguard-go` finds.
//!
//! Six minutes of pings across rekeying are `tests/plain_wireguard.rs`.

mod common;
mod wireguard;

use std::process::Command;
use std::time::Duration;

use common::{FARLANE, Output, Program, bounded, eventually, may_run, script, skip};
use wireguard::{Interface, Keys, Network, preshared_key};

/// One end of the tunnel.
struct Side {
    network: Network,
    interface: Interface,
    keys: Keys,
    /// 1 on the left, 2 on the right: the last number of each address.
    number: u8,
    _program: Program,
}

impl Side {
    fn new(program: &[&str], number: u8) -> Side {
        let (network, interface) = (Network::new(), Interface::new());
        let mut command = program.to_vec();
        command.push(&interface.name);
        let program = interface.serve_by(&network, &command);
        Side {
            network,
            interface,
            keys: Keys::new(),
            number,
            _program: program,
        }
    }

    fn inner_v4(&self) -> String {
        format!("10.9.0.{}", self.number)
    }

    fn inner_v6(&self) -> String {
        format!("fd09::{}", self.number)
    }

    /// Where it is reached outside.
    fn outer(&self, v6: bool) -> String {
        if v6 {
            format!("fd00:77::{}", self.number)
        } else {
            format!("192.0.2.{}", self.number)
        }
    }

    /// Gives it key and peer, and takes its interface up.
    fn configure(&self, peer: &Side, preshared: &str, endpoint: Option<String>) {
        let name = &self.interface.name;
        let private = self.interface.write("private", &self.keys.private);
        let preshared = self.interface.write("preshared", preshared);
        let endpoint = endpoint.map_or(String::new(), |endpoint| format!("endpoint {endpoint}"));
        let (v4, v6, key) = (peer.inner_v4(), peer.inner_v6(), &peer.keys.public);
        self.network.sh(&format!(
            "wg set {name} private-key {private} listen-port 51820 peer {key} \
             preshared-key {preshared} allowed-ips {v4}/32,{v6}/128 {endpoint}; \
             ip addr add {}/24 dev {name}; ip addr add {}/64 dev {name}; \
             ip link set {name} mtu 1420 up",
            self.inner_v4(),
            self.inner_v6(),
        ));
    }

    fn ping(&self, address: &str, count: u32) -> Output {
        let count = count.to_string();
        let command = ["ping", "-n", "-c", &count, "-i", "0.2", "-W", "5", address];
        self.network.run(&command)
    }

    /// `wg show` of its only peer, by one word.
    fn told(&self, word: &str) -> String {
        let shown = self.interface.shows(&self.network, word);
        shown
            .split_once('\t')
            .map_or(String::new(), |(_, told)| told.to_owned())
    }
}

/// Who is on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Begins,
    Answers,
}

const BOTH: [Ours; 2] = [Ours::Begins, Ours::Answers];

/// Two sides, joined and configured.
struct Pair {
    left: Side,
    right: Side,
}

impl Pair {
    fn up(ours: Ours, v6: bool, peer: &str) -> Pair {
        let farlane = [FARLANE, "wireguard", "--foreground"];
        // It detaches even with -f unless it is told so (its `main.go`).
        let other = ["env", "WG_PROCESS_FOREGROUND=1", peer, "-f"];
        let (left, right) = match ours {
            Ours::Begins => (Side::new(&farlane, 1), Side::new(&other, 2)),
            Ours::Answers => (Side::new(&other, 1), Side::new(&farlane, 2)),
        };
        left.network.sh(&format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            right.network.name
        ));
        for side in [&left, &right] {
            side.network.sh(&format!(
                "ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad; ip link set eth0 up",
                side.outer(false),
                side.outer(true)
            ));
        }
        let preshared = preshared_key();
        let outer = right.outer(v6);
        let host = if v6 { format!("[{outer}]") } else { outer };
        right.configure(&left, &preshared, None);
        left.configure(&right, &preshared, Some(format!("{host}:51820")));
        Pair { left, right }
    }

    /// Pings of both families in both directions, the left side first, and nothing lost.
    fn assert_talks(&self, context: &str) {
        for (from, to) in [(&self.left, &self.right), (&self.right, &self.left)] {
            for address in [to.inner_v4(), to.inner_v6()] {
                let output = from.ping(&address, 3);
                assert!(
                    output.text.contains(" 0% packet loss"),
                    "{context}: {address}: {}",
                    output.text
                );
            }
        }
    }
}

/// The wireguard-go to talk to, or nothing, and then it is said that the test is skipped.
fn peer(test: &str) -> Option<String> {
    if !may_run(test) {
        return None;
    }
    if let Ok(path) = std::env::var("FARLANE_WIREGUARD_GO") {
        return Some(path);
    }
    let mut script = Command::new(script("peer-wireguard-go"));
    let output = bounded(Duration::from_secs(300), &mut script);
    if !output.ok {
        skip(test, "no wireguard-go is within reach");
        return None;
    }
    Some(output.out.trim().to_owned())
}

#[test]
fn each_can_begin_over_both_families_with_a_preshared_key() {
    let Some(peer) = peer("each_can_begin_over_both_families_with_a_preshared_key") else {
        return;
    };
    for ours in BOTH {
        for v6 in [false, true] {
            let pair = Pair::up(ours, v6, &peer);
            pair.assert_talks(&format!("{ours:?}, outside IPv6: {v6}"));
            for side in [&pair.left, &pair.right] {
                assert_ne!(side.told("latest-handshakes"), "0");
            }
            // The right side has learned where the left one is.
            let outer = pair.left.outer(v6);
            let learned = pair.right.told("endpoints");
            assert!(learned.contains(&outer), "{learned}");
        }
    }
}

#[test]
fn another_preshared_key_lets_nothing_through() {
    let Some(peer) = peer("another_preshared_key_lets_nothing_through") else {
        return;
    };
    for ours in BOTH {
        let pair = Pair::up(ours, false, &peer);
        let wrong = pair.left.interface.write("wrong", &preshared_key());
        let (name, key) = (&pair.left.interface.name, &pair.right.keys.public);
        pair.left
            .network
            .sh(&format!("wg set {name} peer {key} preshared-key {wrong}"));
        let output = pair.left.ping(&pair.right.inner_v4(), 2);
        assert!(output.text.contains("100% packet loss"), "{}", output.text);
        assert_eq!(pair.left.told("latest-handshakes"), "0");
    }
}

#[test]
fn iperf3_runs_both_ways_over_both_families() {
    let Some(peer) = peer("iperf3_runs_both_ways_over_both_families") else {
        return;
    };
    let pair = Pair::up(Ours::Begins, false, &peer);
    let log = pair.right.interface.file("iperf3");
    let _server = pair.right.network.spawn(&log, &["iperf3", "-s"]);
    let listens = || pair.right.network.sh("ss -ltnH").contains(":5201");
    assert!(eventually(Duration::from_secs(5), listens));
    for address in [pair.right.inner_v4(), pair.right.inner_v6()] {
        for extra in [
            &[][..],
            &["-R"],
            &["-u", "-b", "50M"],
            &["-u", "-b", "50M", "-R"],
        ] {
            let mut command = vec!["iperf3", "-J", "-t", "2", "-c", &address];
            command.extend(extra);
            let output = common::served(|| pair.left.network.run(&command));
            let told: serde_json::Value = serde_json::from_str(&output.out).expect("JSON");
            let sum = ["sum_received", "sum"].map(|name| &told["end"][name]["bytes"]);
            let bytes = sum.iter().find_map(|bytes| bytes.as_u64()).unwrap_or(0);
            // Far less than it is; nothing is measured here.
            assert!(bytes > 1 << 18, "{address} {extra:?}: {}", output.text);
        }
    }
}

#[test]
fn persistent_keepalives_open_a_tunnel_and_keep_it() {
    let Some(peer) = peer("persistent_keepalives_open_a_tunnel_and_keep_it") else {
        return;
    };
    for ours in BOTH {
        let pair = Pair::up(ours, false, &peer);
        // IPv6 would speak by itself on a new interface.
        let keepalive = |side: &Side, other: &Side| {
            let (name, key) = (&side.interface.name, &other.keys.public);
            side.network
                .sh(&format!("wg set {name} peer {key} persistent-keepalive 1"));
        };
        keepalive(&pair.left, &pair.right);
        let within = Duration::from_secs(10);
        let opened = eventually(within, || pair.right.told("latest-handshakes") != "0");
        assert!(opened, "{ours:?}: keep-alives begin a handshake");
        let received = |side: &Side| -> u64 {
            let transfer = side.told("transfer");
            transfer.split('\t').next().unwrap().parse().unwrap()
        };
        for (hears, other) in [(&pair.right, &pair.left), (&pair.left, &pair.right)] {
            keepalive(other, hears);
            let before = received(hears);
            // Three of 32 bytes each.
            let came = eventually(within, || received(hears) >= before + 96);
            assert!(came, "{ours:?}: keep-alives come");
        }
    }
}

#[test]
fn a_side_that_moves_is_followed() {
    let Some(peer) = peer("a_side_that_moves_is_followed") else {
        return;
    };
    for ours in BOTH {
        let pair = Pair::up(ours, false, &peer);
        pair.assert_talks("before");
        pair.left
            .network
            .sh("ip addr del 192.0.2.1/24 dev eth0; ip addr add 192.0.2.3/24 dev eth0");
        pair.assert_talks("moved");
        let endpoint = pair.right.told("endpoints");
        assert_eq!(endpoint, "192.0.2.3:51820", "{ours:?}");
        // And to another port.
        let name = &pair.left.interface.name;
        pair.left
            .network
            .sh(&format!("wg set {name} listen-port 51830"));
        pair.assert_talks("on another port");
        let endpoint = pair.right.told("endpoints");
        assert_eq!(endpoint, "192.0.2.3:51830", "{ours:?}");
    }
}

#[test]
fn the_wire_stays_where_it_was_born_when_the_interface_moves() {
    let Some(peer) = peer("the_wire_stays_where_it_was_born_when_the_interface_moves") else {
        return;
    };
    let pair = Pair::up(Ours::Begins, false, &peer);
    let (inside, side) = (Network::new(), &pair.left);
    let name = &side.interface.name;
    side.network
        .sh(&format!("ip link set {name} netns {}", inside.name));
    inside.sh(&format!(
        "ip addr add {}/24 dev {name}; ip link set {name} up",
        side.inner_v4()
    ));
    let output = inside.run(&["ping", "-n", "-c", "3", "-W", "5", &pair.right.inner_v4()]);
    assert!(output.text.contains(" 0% packet loss"), "{}", output.text);
}
