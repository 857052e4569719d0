//! What the wire between two nodes shows: WireGuard, and nothing else of the pods.

mod common;

use common::{Program, Topology, eventually, may_run};
use std::time::Duration;

/// Watches the wire of `eu-1` for UDP, TCP and ICMP echo of both families, which is all that pods
/// and hosts of these tests send.
fn watch(world: &Topology) -> (Program, String) {
    let capture = world.dir().join("wire.pcap").display().to_string();
    let filter = "udp or tcp or icmp or (icmp6 and (ip6[40] == 128 or ip6[40] == 129))";
    let watch = ["tcpdump", "-i", "wire-us-1", "-U", "-w", &capture, filter];
    let program = world.spawn(&world.namespace("eu-1"), "tcpdump", &watch);
    let begun = || std::fs::metadata(&capture).is_ok_and(|file| file.len() >= 24);
    assert!(eventually(Duration::from_secs(10), begun));
    (program, capture)
}

/// How many packets tshark takes for WireGuard, and lines of those that it does not.
fn dissect(world: &Topology, capture: &str) -> (usize, Vec<String>) {
    let read = |filter: &str| {
        // The node's port and one for each further lane; by itself tshark knows only 51820.
        let ports = (51871..51875).map(|port| format!("udp.port=={port},wg"));
        let ports: Vec<String> = ports.collect();
        let mut command = vec!["tshark", "-n", "-r", capture];
        command.extend(ports.iter().flat_map(|port| ["-d", port]));
        command.extend(["-Y", filter]);
        let output = world.run_for(Duration::from_secs(60), &world.namespace("eu-1"), &command);
        assert!(output.ok, "{}", output.text);
        output.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    (read("wg").len(), read("!wg"))
}

#[test]
fn the_underlay_carries_only_wireguard_also_for_what_the_host_itself_sends() {
    if !may_run("the_underlay_carries_only_wireguard_also_for_what_the_host_itself_sends") {
        return;
    }
    let world = Topology::up(1, &[]);
    let (wire, capture) = watch(&world);
    let _nodes = world.start_and_join();
    let (a, b) = (world.pod("eu-1", "client"), world.pod("us-1", "client"));
    let _serving = world.serve(b, 8080);
    for address in b.addresses() {
        assert_eq!(world.ask(a, address, 8080).as_deref(), Some("us-1/client"));
        // The host's own packets to a remote pod: answered or not, never in the clear.
        world.pings(&world.namespace("eu-1"), address, 2);
        let datagram = format!("echo hello | socat -t 0.2 - UDP:{}:9", bracketed(address));
        world.run(&a.namespace, &["sh", "-c", &datagram]);
        world.run(&world.namespace("eu-1"), &["sh", "-c", &datagram]);
    }
    std::thread::sleep(Duration::from_millis(300));
    wire.stop();
    let (sealed, clear) = dissect(&world, &capture);
    assert!(sealed > 10, "{sealed} packets of the tunnel");
    assert_eq!(clear, Vec::<String>::new());
}

#[test]
fn a_masquerading_host_with_dnat_rules_changes_nothing_and_pods_keep_the_world() {
    if !may_run("a_masquerading_host_with_dnat_rules_changes_nothing_and_pods_keep_the_world") {
        return;
    }
    let world = Topology::up(1, &[]);
    for (node, cluster_ip) in [("eu-1", "10.101.0.80"), ("us-1", "10.102.0.80")] {
        world.kube_rules(node, cluster_ip, world.pod(node, "web"), 8080);
    }
    let (wire, capture) = watch(&world);
    let _nodes = world.start_and_join();
    let (a, b) = (world.pod("eu-1", "client"), world.pod("us-1", "client"));
    let _serving = [world.serve(b, 8080), world.serve(a, 8080)];
    for (from, to, name) in [(a, b, "us-1/client"), (b, a, "eu-1/client")] {
        for address in to.addresses() {
            assert_eq!(world.ask(from, address, 8080).as_deref(), Some(name));
        }
        for address in ["198.51.100.254", "2001:db8:99::254"] {
            assert!(world.pings(&from.namespace, address, 2), "{address}");
        }
    }
    wire.stop();
    let (sealed, clear) = dissect(&world, &capture);
    assert!(sealed > 10, "{sealed} packets of the tunnel");
    assert_eq!(clear, Vec::<String>::new());
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
