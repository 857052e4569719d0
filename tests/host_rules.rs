//! The host's rules in a real kernel: what passes through the TUNs, what does not, what a crash
//! leaves, and that nothing stays behind. The world is that of `scripts/topology`:
//!
//! ```text
//!   client ─┐                        ┌─ world 198.51.100.254   (the host masquerades its pods)
//!           ├─ eu-1 (the host here) ─┤
//!      web ─┘   farlane0, farlane1   └─ us-1 192.0.2.3, a node of another cluster: 10.2.0.0/16
//! ```

mod common;
#[path = "host_rules/stand_in.rs"]
mod stand_in;

use std::net::UdpSocket;
use std::time::Duration;

use common::{Pod, Topology, eventually, may_run};
use farlane::control::host::{HostPlan, Intercept, OnCrash, WIRE_MARK};
use packet::Address;
use stand_in::{StandIn, clean, inside};

const WORLD: [&str; 2] = ["198.51.100.254", "2001:db8:99::254"];
const REMOTE_POD: [&str; 2] = ["10.2.1.10", "fd10:2::1:10"];
const REMOTE_NODE: [&str; 2] = ["192.0.2.3", "2001:db8::3"];
const OWN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const SERVICE: &str = "10.101.0.80";

fn address(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().unwrap())
}

/// Two workers: the client is the first's, the web server the second's.
fn plan(world: &Topology, intercept: Intercept) -> HostPlan {
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
        wire: vec!["192.0.2.1:51871".parse().unwrap()],
    }
}

fn pods(world: &Topology) -> (&Pod, &Pod) {
    (world.pod("eu-1", "client"), world.pod("eu-1", "web"))
}

fn small_world() -> Topology {
    Topology::up(1, &["eu-1/client", "eu-1/web", "us-1/client"])
}

/// All that Farlane may leave on a host, as iproute2 and nftables print it.
fn state(world: &Topology) -> String {
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

#[test]
fn what_pods_send_and_receive_passes_through_their_workers_tun() {
    if !may_run("what_pods_send_and_receive_passes_through_their_workers_tun") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    world.kube_rules("eu-1", "10.101.0.99", web, 8080);
    let _serving = world.serve(web, 8080);
    let node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    assert_eq!(node.warnings, [""; 0]);
    for family in [0, 1] {
        let (from, to) = (client.addresses()[family], web.addresses()[family]);
        assert_eq!(
            world.ask(client, to, 8080).as_deref(),
            Some("eu-1/web"),
            "{to}"
        );
        assert!(node.seen(0, from, to) > 0, "{from} to {to}");
        assert!(node.seen(1, to, from) > 0, "{to} to {from}");
        // Replies come back with the pod's address, behind the undoing of the masquerading.
        assert!(
            world.pings(&client.namespace, WORLD[family], 2),
            "{}",
            WORLD[family]
        );
        assert_eq!(node.seen(0, from, WORLD[family]), 2);
        assert_eq!(node.seen(0, WORLD[family], from), 2);
        // The host and its own pods meet without us.
        assert!(world.pings(&host, to, 2), "the host to {to}");
        assert!(
            world.pings(&web.namespace, OWN[family], 2),
            "{to} to the host"
        );
        assert_eq!(
            node.seen(1, OWN[family], to) + node.seen(1, to, OWN[family]),
            0
        );
    }
    node.end();
}

#[test]
fn a_source_counts_only_by_its_pods_own_interface() {
    if !may_run("a_source_counts_only_by_its_pods_own_interface") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let node = StandIn::start(&world.namespace("eu-1"), plan(&world, Intercept::All), &[]).unwrap();
    let claim = |pod: &Pod, source: &str, to: &str| {
        world.run(
            &pod.namespace,
            &["ip", "address", "replace", source, "dev", "lo"],
        );
        let sent = world.run(
            &pod.namespace,
            &["ping", "-n", "-c", "1", "-W", "1", "-I", source, to],
        );
        assert!(sent.text.contains("100% packet loss"), "{}", sent.text);
        for mask in ["/32", "/128"] {
            let address = format!("{source}{mask}");
            world.run(
                &pod.namespace,
                &["ip", "address", "del", &address, "dev", "lo"],
            );
        }
    };
    for family in [0, 1] {
        let before = node.counters();
        let other = web.addresses()[family];
        claim(client, other, WORLD[family]);
        let spoofed = node.counters();
        assert_eq!(spoofed.spoofed, before.spoofed + 1, "another pod's source");
        claim(client, REMOTE_POD[family], other);
        assert_eq!(
            node.counters().foreign,
            spoofed.foreign + 1,
            "another cluster's source"
        );
        let outsider = world.pod("us-1", "client");
        claim(outsider, other, client.addresses()[family]);
        for (worker, to) in [(0, WORLD[family]), (1, WORLD[family]), (1, other)] {
            assert_eq!(node.seen(worker, other, to), 0);
            assert_eq!(node.seen(worker, REMOTE_POD[family], to), 0);
        }
    }
    node.end();
}

#[test]
fn other_clusters_are_reached_through_a_tun_by_everybody_but_the_wire() {
    if !may_run("other_clusters_are_reached_through_a_tun_by_everybody_but_the_wire") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    for intercept in [Intercept::All, Intercept::Mesh] {
        let node = StandIn::start(&host, plan(&world, intercept), &[]).unwrap();
        for family in [0, 1] {
            for remote in [REMOTE_POD[family], REMOTE_NODE[family]] {
                for from in [&client.namespace, &web.namespace, &host] {
                    assert!(!world.pings(from, remote, 1));
                }
                assert_eq!(node.seen(0, client.addresses()[family], remote), 1);
                assert_eq!(node.seen(1, web.addresses()[family], remote), 1);
                assert_eq!(
                    node.seen(0, OWN[family], remote),
                    1,
                    "with the node's own source"
                );
            }
            let device = "wire-us-1";
            let bound = [
                "ping",
                "-n",
                "-c",
                "1",
                "-W",
                "1",
                "-I",
                device,
                REMOTE_NODE[family],
            ];
            assert!(
                !world.run(&host, &bound).ok,
                "a socket bound to the wire's device"
            );
            let mark = WIRE_MARK.to_string();
            let wire = [
                "ping",
                "-n",
                "-c",
                "2",
                "-i",
                "0.1",
                "-m",
                &mark,
                REMOTE_NODE[family],
            ];
            let answered = world.run(&host, &wire);
            assert!(answered.ok, "{}", answered.text);
        }
        node.end();
    }
}

#[test]
fn a_crash_closes_and_a_restart_takes_over() {
    if !may_run("a_crash_closes_and_a_restart_takes_over") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    let untouched = state(&world);
    let dark = |why: &str| {
        for family in [0, 1] {
            for to in [web.addresses()[family], WORLD[family], REMOTE_NODE[family]] {
                assert!(!world.pings(&client.namespace, to, 1), "{why}: {to}");
            }
            assert!(
                !world.pings(&host, REMOTE_NODE[family], 1),
                "{why}: from the host"
            );
            assert!(
                world.pings(&host, client.addresses()[family], 1),
                "{why}: probes go on"
            );
        }
    };
    StandIn::start(&host, plan(&world, Intercept::All), &[])
        .unwrap()
        .crash();
    dark("after a crash");
    let left = state(&world);
    let node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    for to in [web.addresses(), WORLD].concat() {
        assert!(
            world.pings(&client.namespace, to, 1),
            "after the restart: {to}"
        );
    }
    assert!(
        !world.pings(&host, REMOTE_NODE[0], 1),
        "a clear packet after the restart"
    );
    node.crash();
    assert_eq!(
        state(&world),
        left,
        "a second crash leaves what the first did"
    );
    let removed = clean(&host);
    assert_eq!(
        removed.len(),
        5,
        "table, rules and routes of both families: {removed:?}"
    );
    assert_eq!(state(&world), untouched);
    assert_eq!(clean(&host), [""; 0], "nothing is left to clean");

    let open = HostPlan {
        on_crash: OnCrash::Open,
        ..plan(&world, Intercept::All)
    };
    world.kube_rules("eu-1", SERVICE, web, 8080);
    let masquerading = state(&world);
    let node = StandIn::start(&host, open, &[]).unwrap();
    assert!(world.pings(&client.namespace, WORLD[0], 1));
    assert_eq!(node.seen(0, client.addresses()[0], WORLD[0]), 1);
    node.crash();
    for to in [web.addresses(), WORLD].concat() {
        assert!(
            world.pings(&client.namespace, to, 1),
            "open after a crash: {to}"
        );
    }
    clean(&host);
    assert_eq!(state(&world), masquerading);
}

#[test]
fn nothing_leaves_in_the_clear_while_a_node_is_killed_and_started_again() {
    if !may_run("nothing_leaves_in_the_clear_while_a_node_is_killed_and_started_again") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let (host, neighbour) = (world.namespace("eu-1"), world.namespace("us-1"));
    let watch = "table inet watch { chain in { type filter hook prerouting priority -400;
        icmp type echo-request counter; icmpv6 type echo-request counter;
    }\n}";
    let file = world.dir().join("watch.nft");
    std::fs::write(&file, watch).unwrap();
    let loaded = world.run(&neighbour, &["nft", "-f", &file.display().to_string()]);
    assert!(loaded.ok, "{}", loaded.text);
    let mut node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    let mut pinging = Vec::new();
    for (number, to) in [REMOTE_NODE, REMOTE_POD].concat().iter().enumerate() {
        for from in [&host, &client.namespace, &web.namespace] {
            let log = format!("ping-{from}-{number}");
            pinging.push(world.spawn(from, &log, &["ping", "-n", "-i", "0.01", to]));
        }
    }
    for round in 0..4 {
        // A ping that starts without a way ends at once, so all of them must be under way first.
        for (worker, from) in [(0, OWN), (0, client.addresses()), (1, web.addresses())] {
            for to in [REMOTE_NODE, REMOTE_POD] {
                for family in [0, 1] {
                    let under_way = || node.seen(worker, from[family], to[family]) > 0;
                    let in_time = eventually(Duration::from_secs(5), under_way);
                    assert!(in_time, "{round}: {} to {}", from[family], to[family]);
                }
            }
        }
        if round < 3 {
            node.crash();
            node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
        }
    }
    let counted = world
        .run(&neighbour, &["nft", "list", "table", "inet", "watch"])
        .out;
    assert_eq!(counted.matches("packets 0 ").count(), 2, "{counted}");
    drop(pinging);
    node.end();
    // The watch sees: with nothing in the way it counts.
    world.pings(&host, REMOTE_NODE[0], 1);
    let counted = world
        .run(&neighbour, &["nft", "list", "table", "inet", "watch"])
        .out;
    assert_eq!(counted.matches("packets 0 ").count(), 1, "{counted}");
}

#[test]
fn a_clean_end_leaves_the_host_as_it_was_whatever_changed_meanwhile() {
    if !may_run("a_clean_end_leaves_the_host_as_it_was_whatever_changed_meanwhile") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    let untouched = state(&world);
    for intercept in [Intercept::All, Intercept::Mesh] {
        let full = plan(&world, intercept);
        let mut less = full.clone();
        less.local_pods.truncate(2);
        less.remote_prefixes.remove(0);
        less.global_frontends.clear();
        let node = StandIn::start(&host, full.clone(), &[]).unwrap();
        let complete = state(&world);
        node.update(less);
        assert!(world.pings(&client.namespace, web.addresses()[0], 1));
        let seen = node.seen(1, web.addresses()[0], client.addresses()[0]);
        assert_eq!(seen, 0, "a pod that is no longer ours");
        node.update(full.clone());
        assert_eq!(state(&world), complete);
        // Somebody loads his own rules with `flush ruleset` at their head.
        world.run(&host, &["nft", "flush", "ruleset"]);
        node.refresh();
        assert_eq!(state(&world), complete, "what was flushed is there again");
        node.end();
        assert_eq!(state(&world), untouched);
    }
}

#[test]
fn with_mesh_a_service_with_a_local_backend_answers_from_its_address() {
    if !may_run("with_mesh_a_service_with_a_local_backend_answers_from_its_address") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    // kube-proxy would send the service to a backend of its own choice: one that is not there.
    let nobody = Pod {
        v4: String::from("10.1.1.77"),
        ..web.clone()
    };
    world.kube_rules("eu-1", SERVICE, &nobody, 8080);
    let _serving = world.serve(web, 8080);
    let services = [(address(SERVICE), address(&web.v4))];
    let node = StandIn::start(&host, plan(&world, Intercept::Mesh), &services).unwrap();
    assert_eq!(
        world.ask(client, SERVICE, 8080).as_deref(),
        Some("eu-1/web")
    );
    assert!(node.seen(0, &client.v4, SERVICE) > 0);
    assert!(
        node.seen(0, &web.v4, &client.v4) > 0,
        "replies come back to the worker that translated"
    );
    // Everything else that is local is none of our business.
    let replies = node.seen(0, &web.v4, &client.v4);
    assert_eq!(
        world.ask(client, &web.v4, 8080).as_deref(),
        Some("eu-1/web")
    );
    assert!(world.pings(&client.namespace, WORLD[0], 1));
    assert_eq!(node.seen(0, &client.v4, &web.v4), 0);
    assert_eq!(node.seen(0, &web.v4, &client.v4), replies);
    assert_eq!(node.seen(0, &client.v4, WORLD[0]), 0);
    node.end();
}

#[test]
fn a_service_whose_backend_is_the_host_itself_answers_from_its_address() {
    if !may_run("a_service_whose_backend_is_the_host_itself_answers_from_its_address") {
        return;
    }
    let world = small_world();
    let (client, _) = pods(&world);
    let host = world.namespace("eu-1");
    let server = Pod {
        name: String::from("api"),
        namespace: host.clone(),
        ..client.clone()
    };
    let _serving = world.serve(&server, 6443);
    let services = [(address(SERVICE), address(OWN[0]))];
    for intercept in [Intercept::All, Intercept::Mesh] {
        let node = StandIn::start(&host, plan(&world, intercept), &services).unwrap();
        assert_eq!(
            world.ask(client, SERVICE, 6443).as_deref(),
            Some("eu-1/api")
        );
        assert!(node.seen(0, OWN[0], &client.v4) > 0);
        // Asked by its own address, the host answers without us.
        let before = node.seen(0, OWN[0], &client.v4);
        assert_eq!(world.ask(client, OWN[0], 6443).as_deref(), Some("eu-1/api"));
        assert_eq!(node.seen(0, OWN[0], &client.v4), before);
        node.end();
    }
}

#[test]
fn what_the_host_translates_towards_a_pod_passes_and_is_answered() {
    if !may_run("what_the_host_translates_towards_a_pod_passes_and_is_answered") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    let outside = Pod {
        namespace: world.namespace("world"),
        ..client.clone()
    };
    let _serving = world.serve(web, 8080);
    // A node port, as kube-proxy writes it: 30080 keeps the client's address, 30081 does not.
    let rules = format!(
        "table ip ports {{
           chain in {{ type nat hook prerouting priority -100;
             tcp dport 30080 dnat to {0}:8080; tcp dport 30081 mark set mark or 0x4000 dnat to {0}:8080; }}
           chain out {{ type nat hook postrouting priority 100; mark and 0x4000 == 0x4000 masquerade; }}
         }}",
        web.v4
    );
    let file = world.dir().join("ports.nft");
    std::fs::write(&file, rules).unwrap();
    let loaded = world.run(&host, &["nft", "-f", &file.display().to_string()]);
    assert!(loaded.ok, "{}", loaded.text);
    let node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    for port in [30080, 30081] {
        let answer = world.ask(&outside, "198.51.100.1", port);
        assert_eq!(
            answer.as_deref(),
            Some("eu-1/web"),
            "port {port} from beyond"
        );
    }
    assert!(
        node.seen(1, WORLD[0], &web.v4) > 0,
        "it was judged on its way to the pod"
    );
    node.end();
}

#[test]
fn the_wire_hears_a_node_inside_the_prefixes_though_the_host_checks_the_way_back_strictly() {
    if !may_run("the_wire_hears_a_node_inside_the_prefixes") {
        return;
    }
    let world = small_world();
    let host = world.namespace("eu-1");
    for key in ["all", "wire-us-1", "world0"] {
        let strict = format!("net.ipv4.conf.{key}.rp_filter=1");
        assert!(world.run(&host, &["sysctl", "-qw", &strict]).ok);
    }
    let node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    let wire = inside(&host, || UdpSocket::bind("192.0.2.1:51871").unwrap());
    wire.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // One that is behind a router, or that was told to be let in.
    let advice = "set net.ipv4.conf.wire-us-1.rp_filter to 2";
    assert!(
        node.warnings.iter().any(|text| text.contains(advice)),
        "{:?}",
        node.warnings
    );
    let link = "/sys/class/net/wire-us-1/address";
    let station = world.run(&host, &["cat", link]).out;
    let neighbour = [
        "ip",
        "neigh",
        "replace",
        OWN[0],
        "dev",
        "wire-eu-1",
        "lladdr",
        station.trim(),
    ];
    assert!(world.run(&world.namespace("us-1"), &neighbour).ok);
    let peer = inside(&world.namespace("us-1"), || {
        UdpSocket::bind("192.0.2.3:51871").unwrap()
    });
    peer.send_to(b"handshake", "192.0.2.1:51871").unwrap();
    let mut bytes = [0; 32];
    let (length, from) = wire.recv_from(&mut bytes).unwrap();
    assert_eq!(
        (&bytes[..length], from.ip().to_string().as_str()),
        (&b"handshake"[..], REMOTE_NODE[0])
    );
    let (client, web) = pods(&world);
    for to in [web.addresses(), WORLD].concat() {
        assert!(world.pings(&client.namespace, to, 1), "{to}");
    }
    node.end();
}

#[test]
fn a_host_that_cannot_work_is_refused_in_a_sentence_and_left_alone() {
    if !may_run("a_host_that_cannot_work_is_refused_in_a_sentence_and_left_alone") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    let refused = |plan: HostPlan| match StandIn::start(&host, plan, &[]) {
        Ok(_) => panic!("it started"),
        Err(sentence) => sentence,
    };
    let sysctl = |setting: &str| assert!(world.run(&host, &["sysctl", "-qw", setting]).ok);
    let untouched = state(&world);
    sysctl("net.ipv4.ip_forward=0");
    let sentence = refused(plan(&world, Intercept::All));
    assert!(
        sentence.contains("sysctl -w net.ipv4.ip_forward=1"),
        "{sentence}"
    );
    sysctl("net.ipv4.ip_forward=1");
    sysctl("net.ipv6.conf.all.forwarding=1");

    let bind = ["ip", "address", "add", "10.101.0.80/32", "dev", "lo"];
    assert!(world.run(&host, &bind).ok);
    let sentence = refused(plan(&world, Intercept::All));
    assert!(
        sentence.contains("kube-proxy in mode iptables or nftables"),
        "{sentence}"
    );
    assert!(
        world
            .run(
                &host,
                &["ip", "address", "del", "10.101.0.80/32", "dev", "lo"]
            )
            .ok
    );
    assert_eq!(state(&world), untouched);

    for command in [
        ["ip", "link", "add", "cni0", "type", "bridge"].as_slice(),
        &["ip", "link", "set", "cni0", "up"],
        &[
            "ip",
            "route",
            "replace",
            &format!("{}/32", client.v4),
            "dev",
            "cni0",
        ],
        &[
            "ip",
            "route",
            "replace",
            &format!("{}/32", web.v4),
            "dev",
            "cni0",
        ],
    ] {
        assert!(world.run(&host, command).ok, "{command:?}");
    }
    let bridged = state(&world);
    let sentence = refused(plan(&world, Intercept::All));
    for part in ["cni0", client.v4.as_str(), "`pods.tun.intercept: mesh`"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    assert_eq!(state(&world), bridged);
    StandIn::start(&host, plan(&world, Intercept::Mesh), &[])
        .unwrap()
        .end();
    assert_eq!(state(&world), bridged);
}

/// Looks again whenever the host says that it changed, until it does not.
fn while_quiet(node: &StandIn) {
    for _ in 0..4 {
        if !node.changed() {
            return;
        }
        node.refresh();
    }
    panic!("each look at the host changes it");
}

#[test]
fn a_firewall_that_drops_is_a_warning_and_a_pod_that_comes_later_is_found() {
    if !may_run("a_firewall_that_drops_is_a_warning_and_a_pod_that_comes_later_is_found") {
        return;
    }
    let world = small_world();
    let (client, web) = pods(&world);
    let host = world.namespace("eu-1");
    let route = [format!("{}/32", web.v4), String::from("pod-web")];
    let deleted = world.run(&host, &["ip", "route", "del", &route[0], "dev", &route[1]]);
    assert!(deleted.ok, "{}", deleted.text);
    for command in [
        ["nft", "add", "table", "ip", "filter"].as_slice(),
        &[
            "nft",
            "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
        ],
    ] {
        assert!(world.run(&host, command).ok, "{command:?}");
    }
    let node = StandIn::start(&host, plan(&world, Intercept::All), &[]).unwrap();
    let warned = |warnings: &[String], part: &str| warnings.iter().any(|text| text.contains(part));
    assert!(
        warned(&node.warnings, "iptables -I FORWARD -i farlane+ -j ACCEPT"),
        "{:?}",
        node.warnings
    );
    assert!(warned(&node.warnings, &web.v4), "{:?}", node.warnings);
    // Our own doing must not ring for ever.
    while_quiet(&node);
    for way in ["iifname", "oifname"] {
        let rule = format!("add rule ip filter FORWARD {way} \"farlane*\" accept");
        assert!(world.run(&host, &["nft", &rule]).ok);
    }
    assert!(
        world
            .run(&host, &["ip", "route", "add", &route[0], "dev", &route[1]])
            .ok
    );
    assert!(node.changed(), "the new route is noticed");
    assert_eq!(node.refresh().warnings, [""; 0]);
    let reached = || world.pings(&client.namespace, &web.v4, 1);
    assert!(eventually(Duration::from_secs(5), reached));
    assert!(node.seen(1, &web.v4, &client.v4) > 0);
    node.end();
}
