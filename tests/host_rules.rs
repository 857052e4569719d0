//! The host's rules in a real kernel: what passes through the TUNs, and what does not.
//! The world is that of `scripts/topology`:
//!
//! ```text
//!   client ─┐                        ┌─ world 198.51.100.254   (the host masquerades its pods)
//!           ├─ eu-1 (the host here) ─┤
//!      web ─┘   farlane0, farlane1   └─ us-1 192.0.2.3, a node of another cluster: 10.2.0.0/16
//! ```

mod common;
#[path = "host_rules/plan.rs"]
mod plan;
#[path = "host_rules/stand_in.rs"]
mod stand_in;

use std::net::UdpSocket;
use std::time::Duration;

use common::{Pod, eventually, may_run};
use farlane::control::host::{Intercept, WIRE_MARK};
use plan::{OWN, REMOTE_NODE, REMOTE_POD, SERVICE, WORLD, address, plan, pods, small_world};
use stand_in::{StandIn, inside};

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
    let claim = |pod: &Pod, source: &str, command: &[&str]| {
        world.run(
            &pod.namespace,
            &["ip", "address", "replace", source, "dev", "lo"],
        );
        let sent = world.run(&pod.namespace, command);
        for mask in ["/32", "/128"] {
            let address = format!("{source}{mask}");
            world.run(
                &pod.namespace,
                &["ip", "address", "del", &address, "dev", "lo"],
            );
        }
        sent
    };
    let ping = |pod: &Pod, source: &str, to: &str| {
        let command = ["ping", "-n", "-c", "1", "-W", "1", "-I", source, to];
        let sent = claim(pod, source, &command);
        assert!(sent.text.contains("100% packet loss"), "{}", sent.text);
    };
    for family in [0, 1] {
        let before = node.counters();
        let other = web.addresses()[family];
        ping(client, other, WORLD[family]);
        let spoofed = node.counters();
        assert_eq!(spoofed.spoofed, before.spoofed + 1, "another pod's source");
        ping(client, REMOTE_POD[family], other);
        assert_eq!(
            node.counters().foreign,
            spoofed.foreign + 1,
            "another cluster's source"
        );
        // Not even to the wire's own socket, which hears everybody else.
        let spoofed = node.counters().spoofed;
        let words = format!(
            "from socket import *; s = socket([AF_INET, AF_INET6][{family}], SOCK_DGRAM); \
             s.bind(('{other}', 0)); s.sendto(b'x', ('{}', 51871))",
            OWN[family]
        );
        let sent = claim(client, other, &["python3", "-c", &words]);
        assert!(sent.ok, "{}", sent.text);
        let dropped = || node.counters().spoofed == spoofed + 1;
        assert!(eventually(Duration::from_secs(2), dropped), "to the wire");
        let outsider = world.pod("us-1", "client");
        ping(outsider, other, client.addresses()[family]);
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
    let replies = node.settled(0, &web.v4, &client.v4);
    assert_eq!(
        world.ask(client, &web.v4, 8080).as_deref(),
        Some("eu-1/web")
    );
    assert!(world.pings(&client.namespace, WORLD[0], 1));
    assert_eq!(node.seen(0, &client.v4, &web.v4), 0);
    assert_eq!(node.settled(0, &web.v4, &client.v4), replies);
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
        let before = node.settled(0, OWN[0], &client.v4);
        assert_eq!(world.ask(client, OWN[0], 6443).as_deref(), Some("eu-1/api"));
        assert_eq!(node.settled(0, OWN[0], &client.v4), before);
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
