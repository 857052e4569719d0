//! What the tests of the host's rules share: the plan of its node, and what the host looks like.
#![allow(dead_code)] // each test file uses its own part

use farlane::control::host::{HostPlan, Intercept, OnCrash};
use packet::Address;

use crate::common::{Pod, Topology};
use crate::stand_in::StandIn;

pub(crate) const WORLD: [&str; 2] = ["198.51.100.254", "2001:db8:99::254"];
pub(crate) const REMOTE_POD: [&str; 2] = ["10.2.1.10", "fd10:2::1:10"];
pub(crate) const REMOTE_NODE: [&str; 2] = ["192.0.2.3", "2001:db8::3"];
pub(crate) const OWN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub(crate) const SERVICE: &str = "10.101.0.80";

pub(crate) fn address(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().unwrap())
}

/// Two workers: the client is the first's, the web server the second's.
pub(crate) fn plan(world: &Topology, intercept: Intercept) -> HostPlan {
    let (client, web) = pods(world);
    let owned = |pod: &Pod, worker| pod.addresses().map(|ip| (address(ip), worker));
    HostPlan {
        tuns: vec![String::from("farlane0"), String::from("farlane1")],
        mtu: 1420,
        intercept,
        on_crash: OnCrash::Closed,
        local_pods: [owned(client, 0), owned(web, 1)].concat(),
        remote_prefixes: [
            "10.2.0.0/16",
            "fd10:2::/64",
            "192.0.2.3/32",
            "2001:db8::3/128",
        ]
        .map(|prefix| prefix.parse().unwrap())
        .to_vec(),
        global_frontends: vec![address(SERVICE)],
        service_frontends: vec![address(SERVICE)],
        own_addresses: OWN.map(address).to_vec(),
        wire: ["192.0.2.1:51871", "[2001:db8::1]:51871"]
            .map(|socket| socket.parse().unwrap())
            .to_vec(),
    }
}

pub(crate) fn pods(world: &Topology) -> (&Pod, &Pod) {
    (world.pod("eu-1", "client"), world.pod("eu-1", "web"))
}

pub(crate) fn small_world() -> Topology {
    Topology::up(1, &["eu-1/client", "eu-1/web", "us-1/client"])
}

/// All that Farlane may leave on a host, as iproute2 and nftables print it.
pub(crate) fn state(world: &Topology) -> String {
    let host = world.namespace("eu-1");
    let commands: [&[&str]; 6] = [
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "-br", "address"],
        &["nft", "-s", "list", "ruleset"],
    ];
    commands
        .map(|command| world.run(&host, command).text)
        .concat()
}

/// Shows only what differs: a state has hundreds of lines.
pub(crate) fn assert_same(found: &str, expected: &str, what: &str) {
    let only_in = |one: &str, other: &str| -> Vec<String> {
        let other: Vec<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.map(str::to_owned).collect()
    };
    let (more, less) = (only_in(found, expected), only_in(expected, found));
    assert!(found == expected, "{what}: more {more:#?}, less {less:#?}");
}

/// Looks again whenever the host says that it changed, until it does not.
pub(crate) fn settle(node: &StandIn) {
    for _ in 0..4 {
        if !node.changed() {
            return;
        }
        node.refresh();
    }
    panic!("each look at the host changes it");
}
