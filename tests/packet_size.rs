//! The right packet size over an underlay that silently drops what is larger: two running nodes,
//! nothing set, and programs that are not ours.
//!
//! ```text
//!   client ── eu-1 ══ wire, whose both ends drop datagrams longer than N ══ us-1 ── web
//! ```

mod common;

use std::time::{Duration, Instant};

use common::{Pod, Program, Topology, eventually, may_run};
use serde_json::Value;

/// What underlays really carried, in bytes of outer IP packet.
const UNDERLAYS: [u32; 6] = [1_280, 1_296, 1_368, 1_420, 1_500, 9_000];
/// Those that are tried once more with IPv6 outside: what it must carry, a tunnel's, and the widest.
const UNDERLAYS_V6: [u32; 3] = [1_280, 1_420, 9_000];
/// The two ends of the wire: node and device.
const ENDS: [(&str, &str); 2] = [("eu-1", "wire-us-1"), ("us-1", "wire-eu-1")];
/// What IPv6 inside must have.
const LEAST_V6: u64 = 1_280;

/// By which family the nodes speak with each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outside {
    V4,
    V6,
}

impl Outside {
    /// What the tunnel adds to a packet.
    fn overhead(self) -> u64 {
        match self {
            Outside::V4 => 60,
            Outside::V6 => 80,
        }
    }
}

/// A world whose wire takes frames of `mtu` bytes, one datagram each.
fn world(mtu: u32) -> Topology {
    let world = Topology::up(1, &["eu-1/client", "us-1/web"]);
    for (node, device) in ENDS {
        // What the kernel keeps together it would hand over together: no wire does that.
        let segments = ["gso_max_segs", "1"];
        set_link(&world, &world.namespace(node), device, mtu, &segments);
    }
    world
}

fn set_link(world: &Topology, namespace: &str, device: &str, mtu: u32, more: &[&str]) {
    let mtu = mtu.to_string();
    let change = ["ip", "link", "set", device, "mtu", &mtu];
    let output = world.run(namespace, &[&change[..], more].concat());
    assert!(output.ok, "{}", output.text);
}

/// Lets all pods send packets of `mtu` bytes.
fn widen_pods(world: &Topology, mtu: u32) {
    for (node, name) in [("eu-1", "client"), ("us-1", "web")] {
        let device = format!("pod-{name}");
        set_link(world, &world.namespace(node), &device, mtu, &[]);
        set_link(world, &world.pod(node, name).namespace, "eth0", mtu, &[]);
    }
}

/// Lets the nodes listen at their IPv6 addresses.
fn speak_v6(world: &Topology) {
    for node in world.nodes() {
        let file = world.node_file(node);
        let text = std::fs::read_to_string(&file).expect("the node's file");
        let (before, listen) = text.split_once("listen: \"192.0.2.").expect("it listens");
        let (number, after) = listen.split_once(':').expect("at a port");
        let text = format!("{before}listen: \"[2001:db8::{number}]:{after}");
        std::fs::write(&file, text).expect("written");
    }
}

/// From now on the wire drops what is longer than `most` bytes, both ways, and says nothing.
fn narrow(world: &Topology, most: u32) {
    for (node, device) in ENDS {
        let rules = format!(
            "add table netdev underlay; \
             add chain netdev underlay in {{ type filter hook ingress device {device} priority 0; }}; \
             flush chain netdev underlay in; \
             add rule netdev underlay in meta length > {most} counter drop"
        );
        let output = world.run(&world.namespace(node), &["nft", &rules]);
        assert!(output.ok, "{}", output.text);
    }
}

fn serve(world: &Topology, pod: &Pod) -> Program {
    let serve = ["iperf3", "-s", "--forceflush"];
    let server = world.spawn(&pod.namespace, "iperf3-server", &serve);
    let log = world.dir().join("iperf3-server");
    let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening"));
    assert!(eventually(Duration::from_secs(5), ready), "iperf3 listens");
    server
}

/// One run of iperf3, if it came to its end in time.
fn iperf(world: &Topology, from: &Pod, address: &str, how: &[&str]) -> Option<Value> {
    let timeout = ["--connect-timeout", "1000", "-J", "-c", address];
    let command = [&["iperf3"], &timeout[..], how].concat();
    let output = world.run_for(Duration::from_secs(20), &from.namespace, &command);
    let document: Value = serde_json::from_str(&output.out).ok()?;
    (output.ok && document.get("error").is_none()).then(|| document["end"].clone())
}

/// Whether some megabytes arrive by TCP.
fn tcp_passes(world: &Topology, from: &Pod, address: &str, reverse: bool) -> bool {
    let how: &[&str] = if reverse {
        &["-n", "2M", "-R"]
    } else {
        &["-n", "2M"]
    };
    iperf(world, from, address, how).is_some()
}

/// Of a hundred datagrams of `bytes` bytes, how many arrive.
fn datagrams_arrive(world: &Topology, from: &Pod, address: &str, bytes: u32, reverse: bool) -> u64 {
    let bytes = bytes.to_string();
    let mut how = vec!["-u", "-l", &bytes, "-k", "100", "-b", "10M"];
    how.extend(reverse.then_some("-R"));
    let Some(end) = iperf(world, from, address, &how) else {
        return 0;
    };
    let lost = end["sum"]["lost_packets"].as_u64().unwrap_or(100);
    let all = end["sum"]["packets"].as_u64().unwrap_or(0);
    all.saturating_sub(lost)
}

/// What a node's status says of its only peer.
fn peer(world: &Topology, node: &str) -> Value {
    let status = world.status(node).expect("the node answers");
    status["peers"][0].clone()
}

/// Over an underlay that carries `underlay` bytes, what it carries is found, and TCP and datagrams
/// that are longer pass both ways in both families.
fn all_passes(underlay: u32, outside: Outside, jumbo: bool) {
    let world = world(underlay.max(1_500));
    let (client, web) = (world.pod("eu-1", "client"), world.pod("us-1", "web"));
    narrow(&world, underlay);
    if jumbo {
        widen_pods(&world, underlay);
    }
    if outside == Outside::V6 {
        speak_v6(&world);
    }
    world.exchange_keys();
    let started = Instant::now();
    let nodes = world.nodes().iter().map(|node| world.start(node));
    let _nodes: Vec<Program> = nodes.collect();
    let _server = serve(&world, web);
    let found = || {
        let is_found = |node: &&str| peer(&world, node)["pathState"] == "found";
        ENDS.map(|(node, _)| node).iter().all(is_found)
    };
    let case = format!("{underlay}, {outside:?} outside");
    assert!(eventually(Duration::from_secs(10), found), "{case}");
    let found_ms = started.elapsed().as_millis();
    let inner = u64::from(underlay) - outside.overhead();
    let said = peer(&world, "eu-1");
    let size = said["pathMtuBytes"].as_u64();
    assert_eq!(size, Some(u64::from(underlay)), "{case}: {said}");
    assert_eq!(said["carriesIpv6"], inner >= LEAST_V6, "{case}: {said}");
    let is_v6 = said["lanes"][0]["endpoint"]
        .as_str()
        .is_some_and(|e| e.contains('['));
    assert_eq!(is_v6, outside == Outside::V6, "{case}: {said}");
    let bytes = if jumbo { 8_000 } else { 4_000 };
    for address in web.addresses() {
        for reverse in [false, true] {
            let way = format!("{case}, {address}, reverse {reverse}");
            let begun = Instant::now();
            let passes = || tcp_passes(&world, client, address, reverse);
            assert!(eventually(Duration::from_secs(10), passes), "TCP {way}");
            let tcp_ms = begun.elapsed().as_millis();
            let carried = address.contains('.') || inner >= LEAST_V6;
            let mut arrived = 0;
            if carried {
                let passes = || {
                    arrived = datagrams_arrive(&world, client, address, bytes, reverse);
                    arrived > 80
                };
                assert!(
                    eventually(Duration::from_secs(10), passes),
                    "UDP {way}: {arrived}"
                );
            }
            println!(
                "{way}: found {found_ms} ms after the start, 2 MB of TCP in {tcp_ms} ms, {arrived} of 100 datagrams of {bytes} bytes"
            );
        }
    }
}

#[test]
fn over_underlays_that_drop_silently_tcp_and_large_datagrams_pass_with_nothing_set() {
    if !may_run("over_underlays_that_drop_silently_tcp_and_large_datagrams_pass_with_nothing_set") {
        return;
    }
    for underlay in UNDERLAYS {
        all_passes(underlay, Outside::V4, false);
    }
}

#[test]
fn the_same_passes_between_nodes_that_speak_ipv6() {
    if !may_run("the_same_passes_between_nodes_that_speak_ipv6") {
        return;
    }
    for underlay in UNDERLAYS_V6 {
        all_passes(underlay, Outside::V6, false);
    }
}

#[test]
fn pods_with_jumbo_packets_use_a_wide_underlay() {
    if !may_run("pods_with_jumbo_packets_use_a_wide_underlay") {
        return;
    }
    all_passes(9_000, Outside::V4, true);
    all_passes(9_000, Outside::V6, true);
}

#[test]
fn a_flow_goes_on_when_its_path_shrinks_under_it() {
    if !may_run("a_flow_goes_on_when_its_path_shrinks_under_it") {
        return;
    }
    let world = world(1_500);
    let (client, web) = (world.pod("eu-1", "client"), world.pod("us-1", "web"));
    narrow(&world, 1_500);
    let _nodes = world.start_mesh();
    let _server = serve(&world, web);
    let v6 = web.addresses()[1];
    let first = |address: &str| {
        eventually(Duration::from_secs(10), || {
            tcp_passes(&world, client, address, false)
        })
    };
    for (address, to) in [
        (web.addresses()[0], 1_420),
        (v6, 1_368),
        // Less than IPv6 promises inside, and the connection runs already.
        (v6, 1_300),
        (web.addresses()[0], 1_280),
    ] {
        assert!(first(address), "{address}");
        // Received at this end, so that the figures are of what arrived.
        let log = format!("flow-{to}");
        let command = [
            "iperf3", "-J", "-R", "-i", "0.25", "-t", "14", "-c", address,
        ];
        let begun = Instant::now();
        let mut flow = world.spawn(&client.namespace, &log, &command);
        std::thread::sleep(Duration::from_secs(4));
        let shrunk = begun.elapsed().as_secs_f64();
        narrow(&world, to);
        assert_eq!(flow.wait(Duration::from_secs(30)), Some(0), "iperf3 ends");
        let text = std::fs::read_to_string(world.dir().join(&log)).unwrap();
        let document: Value = serde_json::from_str(&text).expect("iperf3 -J");
        let silent = silence(&document, shrunk);
        println!("{address}: the path shrinks to {to}, the flow is silent for {silent:.2} s");
        assert!(silent < 5.0, "{address} to {to}: {silent} s");
    }
}

/// The longest silence of a flow after `since` seconds of its life.
fn silence(document: &Value, since: f64) -> f64 {
    let (mut longest, mut current) = (0_f64, 0_f64);
    for interval in document["intervals"].as_array().expect("intervals") {
        let sum = &interval["sum"];
        let end = sum["end"].as_f64().unwrap_or(0.0);
        let length = sum["seconds"].as_f64().unwrap_or(0.0);
        let is_silent = sum["bytes"].as_u64() == Some(0) && end > since;
        current = if is_silent { current + length } else { 0.0 };
        longest = longest.max(current);
    }
    longest
}
