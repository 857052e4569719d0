//! What a node leaves on its host: nothing after a clean end, a closed door after a crash.

mod common;

use common::{FARLANE, Topology, eventually, may_run};
use std::time::Duration;

/// Devices, rules, routes of all tables and nftables of a node's namespace, without counters and
/// what the kernel numbers by itself.
fn traces(world: &Topology, node: &str) -> Vec<String> {
    let namespace = world.namespace(node);
    let show = |command: &[&str]| world.run(&namespace, command).out;
    let text = [
        show(&["ip", "-o", "link"]),
        show(&["ip", "rule"]),
        show(&["ip", "-6", "rule"]),
        show(&["ip", "route", "show", "table", "all"]),
        show(&["ip", "-6", "route", "show", "table", "all"]),
        show(&["nft", "list", "tables"]),
    ]
    .join("\n");
    // The neighbour cache's and link-local routes come and go with traffic.
    text.lines()
        .filter(|line| !line.contains("expires") && !line.contains("fe80"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn a_clean_end_leaves_the_host_as_it_was() {
    if !may_run("a_clean_end_leaves_the_host_as_it_was") {
        return;
    }
    let world = Topology::up(1, &[]);
    let before = traces(&world, "eu-1");
    world.exchange_keys();
    let node = world.start("eu-1");
    assert_ne!(traces(&world, "eu-1"), before);
    assert_eq!(node.stop(), Some(0));
    assert_eq!(traces(&world, "eu-1"), before);
    assert!(!std::path::Path::new(&world.socket("eu-1")).exists());
}

#[test]
fn a_node_that_was_killed_stays_closed_starts_again_at_once_and_can_be_cleaned() {
    if !may_run("a_node_that_was_killed_stays_closed_starts_again_at_once_and_can_be_cleaned") {
        return;
    }
    let world = Topology::up(1, &[]);
    let before = traces(&world, "eu-1");
    let mut nodes = world.start_and_join();
    let (a, b) = (world.pod("eu-1", "client"), world.pod("us-1", "client"));
    let reach = || world.pings(&a.namespace, &b.v4, 1) && world.pings(&a.namespace, &b.v6, 1);

    let mut killed = nodes.remove(0);
    killed.signal("KILL");
    killed.wait(Duration::from_secs(5));
    let capture = world.dir().join("leak.pcap").display().to_string();
    let filter = "host 10.2.1.10 or host fd10:2::1:10";
    let watch = ["tcpdump", "-i", "any", "-U", "-w", &capture, filter];
    // The world's side of the default route: where a pod's packets would go if the door were open.
    let watching = world.spawn(&world.namespace("world"), "tcpdump", &watch);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!reach());
    watching.stop();
    let leaked = world.run(
        &world.namespace("world"),
        &["tcpdump", "-n", "-r", &capture],
    );
    assert_eq!(leaked.out, "", "closed, not open");

    let mut again = world.start("eu-1");
    assert!(eventually(Duration::from_secs(10), reach));
    again.signal("KILL");
    again.wait(Duration::from_secs(5));
    let clean = [FARLANE, "clean", "--config", &world.node_file("eu-1")];
    let cleaned = world.run(&world.namespace("eu-1"), &clean);
    assert!(cleaned.ok, "{}", cleaned.text);
    assert_eq!(traces(&world, "eu-1"), before);
}
