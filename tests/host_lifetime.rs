//! The host's rules over time: what a crash leaves, what a restart takes over, that a clean end
//! leaves nothing, and which hosts are refused. The world is drawn in `host_rules.rs`.

mod common;
#[path = "host_rules/plan.rs"]
mod plan;
#[path = "host_rules/stand_in.rs"]
mod stand_in;

use std::time::Duration;

use common::{eventually, may_run};
use farlane::control::host::{HostPlan, Intercept, OnCrash};
use plan::{
    OWN, REMOTE_NODE, REMOTE_POD, SERVICE, WORLD, assert_same, plan, pods, settle, small_world,
    state,
};
use stand_in::{StandIn, clean};

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
    assert_same(
        &state(&world),
        &left,
        "a second crash leaves what the first did",
    );
    let removed = clean(&host);
    assert_eq!(
        removed.len(),
        5,
        "table, rules and routes of both families: {removed:?}"
    );
    assert_same(&state(&world), &untouched, "cleaned");
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
    assert_same(&state(&world), &masquerading, "cleaned");
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
        assert_same(&state(&world), &complete, "back to the first plan");
        // Somebody loads his own rules with `flush ruleset` at their head.
        settle(&node);
        world.run(&host, &["nft", "flush", "ruleset"]);
        assert!(node.changed(), "the end of the table is heard");
        node.refresh();
        settle(&node);
        for rule in ["182", "183"] {
            assert!(
                world
                    .run(&host, &["ip", "rule", "del", "priority", rule])
                    .ok
            );
        }
        assert!(node.changed(), "the end of a rule is heard");
        node.refresh();
        assert_same(&state(&world), &complete, "what was flushed is there again");
        node.end();
        assert_same(&state(&world), &untouched, "ended");
    }
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
    assert_same(&state(&world), &untouched, "refused");

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
    assert_same(&state(&world), &bridged, "refused, or ended");
    StandIn::start(&host, plan(&world, Intercept::Mesh), &[])
        .unwrap()
        .end();
    assert_same(&state(&world), &bridged, "refused, or ended");
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
    settle(&node);
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
