//! One end of a tunnel, whose program may be born in another network than where its interface lies.

use std::time::Duration;

use super::{Interface, Keys, Network, preshared_key};
use crate::common::{Program, eventually};

/// Longest that something takes which happens by itself.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// One end of the tunnel.
pub(crate) struct End {
    pub(crate) network: Network,
    pub(crate) interface: Interface,
    pub(crate) keys: Keys,
    number: u8,
    pub(crate) program: Program,
}

impl End {
    /// A program that is born in `outside`, or else in the network where its interface is to lie.
    pub(crate) fn new(number: u8, outside: Option<&Network>) -> End {
        let (network, interface) = (Network::new(), Interface::new());
        let program = interface.serve(outside.unwrap_or(&network));
        if let Some(outside) = outside {
            let line = format!("ip link set {} netns {}", interface.name, network.name);
            outside.sh(&line);
        }
        let name = &interface.name;
        network.sh(&format!(
            "ip addr add 192.168.241.{number}/24 dev {name}; ip addr add fd00::{number}/64 dev {name}; \
             ip link set {name} up"
        ));
        End {
            network,
            interface,
            keys: Keys::new(),
            number,
            program,
        }
    }

    /// Gives it its key and its port, 10000 times its number, and its peer.
    pub(crate) fn know(&self, peer: &End, preshared: &str) {
        let private = self.interface.write("private", &self.keys.private);
        let preshared = self.interface.write("preshared", preshared);
        self.set(&format!(
            "private-key {private} listen-port {}0000 peer {} preshared-key {preshared} \
             allowed-ips 192.168.241.{n}/32,fd00::{n}/128",
            self.number,
            peer.keys.public,
            n = peer.number,
        ));
    }

    pub(crate) fn set(&self, what: &str) {
        self.network
            .sh(&format!("wg set {} {what}", self.interface.name));
    }

    pub(crate) fn set_endpoint(&self, peer: &End, endpoint: &str) {
        self.set(&format!("peer {} endpoint '{endpoint}'", peer.keys.public));
    }

    /// Where it sends to.
    pub(crate) fn endpoint(&self) -> String {
        self.told("endpoints")
    }

    /// What `wg show` says of its only peer.
    pub(crate) fn told(&self, word: &str) -> String {
        let shown = self.interface.shows(&self.network, word);
        shown.split_once('\t').unwrap_or_default().1.to_owned()
    }

    /// Bytes received and sent.
    pub(crate) fn transfer(&self) -> (u64, u64) {
        let told = self.told("transfer");
        let (received, sent) = told.split_once('\t').unwrap();
        (received.parse().unwrap(), sent.parse().unwrap())
    }

    /// One ping of so many bytes of payload; whether it is answered within a second.
    pub(crate) fn ping_with(&self, address: &str, bytes: u32) -> bool {
        let bytes = bytes.to_string();
        let command = ["ping", "-n", "-c", "1", "-W", "1", "-s", &bytes, address];
        self.network.run(&command).ok
    }

    pub(crate) fn ping(&self, peer: &End) -> bool {
        self.ping_with(&format!("192.168.241.{}", peer.number), 56)
    }

    pub(crate) fn ping_v6(&self, peer: &End) -> bool {
        self.ping_with(&format!("fd00::{}", peer.number), 56)
    }

    pub(crate) fn set_mtu(&self, mtu: u32) {
        let name = &self.interface.name;
        self.network.sh(&format!("ip link set {name} mtu {mtu}"));
    }
}

/// Two ends born outside, that know each other but not where they are.
pub(crate) fn born_outside() -> (Network, End, End) {
    let outside = Network::new();
    let (left, right) = (End::new(1, Some(&outside)), End::new(2, Some(&outside)));
    introduce(&left, &right);
    (outside, left, right)
}

/// Two ends in networks of their own, joined by a veth that is called `wire` on both sides and has
/// neither address nor is it up.
pub(crate) fn joined() -> (End, End) {
    let (left, right) = (End::new(1, None), End::new(2, None));
    introduce(&left, &right);
    join(&left.network, "wire", &right.network, "wire");
    (left, right)
}

pub(crate) fn introduce(left: &End, right: &End) {
    let preshared = preshared_key();
    left.know(right, &preshared);
    right.know(left, &preshared);
}

pub(crate) fn join(left: &Network, left_name: &str, right: &Network, right_name: &str) {
    left.sh(&format!(
        "ip link add {left_name} type veth peer name {right_name} netns {}",
        right.name
    ));
}

/// Waits until the wire carries on both sides and its addresses are surely nobody else's.
pub(crate) fn is_up(left: &End, right: &End) {
    for end in [left, right] {
        let carries = || {
            let told = end.network.sh("ip addr show dev wire");
            told.contains("state UP") && told.contains("inet6 fe80") && !told.contains("tentative")
        };
        assert!(eventually(SOON, carries), "the wire of {}", end.number);
    }
}

/// Sends 20 MiB over TCP, and says whether all of it arrived.
pub(crate) fn carries_tcp(from: &End, to: &End, address: &str) -> bool {
    let (bind, log) = (format!("-B {address}"), to.interface.file("iperf3"));
    let serve = format!("exec iperf3 -s -1 {bind}");
    let mut server = to.network.spawn(&log, &["sh", "-c", &serve]);
    let listens = || to.network.sh("ss -Htln").contains(":5201");
    assert!(eventually(SOON, listens), "iperf3 listens");
    let client = ["iperf3", "-n", "20M", "-c", address];
    let carried = from.network.run_for(Duration::from_secs(60), &client).ok;
    carried && server.wait(SOON) == Some(0)
}
