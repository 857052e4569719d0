//! Who reaches whom between two running nodes, by programs that are not ours: everybody, until a
//! NetworkPolicy says otherwise.
//!
//! ```text
//!   client, web, guest ── eu-1 ══ WireGuard ══ us-1 ── client, web, guest
//!                             \               /
//!                              ──── world ────
//! ```

mod common;

use std::time::Duration;

use common::{Pod, Topology, WORLD, eventually, may_run};

/// From whom to whom: between the clusters both ways, and within a node.
fn ways(world: &Topology) -> [(&Pod, &Pod); 3] {
    [
        (world.pod("eu-1", "client"), world.pod("us-1", "web")),
        (world.pod("us-1", "client"), world.pod("eu-1", "web")),
        (world.pod("eu-1", "client"), world.pod("eu-1", "guest")),
    ]
}

#[test]
fn pods_reach_each_other_between_clusters_within_a_node_and_the_world() {
    if !may_run("pods_reach_each_other_between_clusters_within_a_node_and_the_world") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    for (from, to) in ways(&world) {
        let _server = world.serve(to, 8080);
        for family in [0, 1] {
            let address = to.addresses()[family];
            let way = format!("{}/{} to {address}", from.node, from.name);
            assert!(world.pings(&from.namespace, address, 5), "{way}");
            let answer = world.ask(from, address, 8080);
            let name = format!("{}/{}", to.node, to.name);
            assert_eq!(answer.as_ref(), Some(&name), "{way}");
            let beyond = WORLD[family];
            assert!(world.pings(&from.namespace, beyond, 3), "{way}: {beyond}");
        }
    }
    // Hosts too: their own packets to the other cluster's pods and node go through the tunnel.
    for (host, pod, node) in [
        (
            "eu-1",
            world.pod("us-1", "web"),
            ["192.0.2.3", "2001:db8::3"],
        ),
        (
            "us-1",
            world.pod("eu-1", "web"),
            ["192.0.2.1", "2001:db8::1"],
        ),
    ] {
        for address in [pod.addresses(), node].concat() {
            let reached = world.pings(&world.namespace(host), address, 3);
            assert!(reached, "the host {host} to {address}");
        }
    }
}

#[test]
fn iperf3_carries_tcp_and_udp_both_ways() {
    if !may_run("iperf3_carries_tcp_and_udp_both_ways") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    for (from, to) in ways(&world) {
        let serve = ["iperf3", "-s", "--forceflush"];
        let _server = world.spawn(&to.namespace, "iperf3-server", &serve);
        let log = world.dir().join("iperf3-server");
        let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening"));
        assert!(eventually(Duration::from_secs(5), ready), "iperf3 listens");
        for address in to.addresses() {
            let up = || {
                world
                    .run(&from.namespace, &["nc", "-z", address, "5201"])
                    .ok
            };
            assert!(eventually(Duration::from_secs(5), up), "iperf3 listens");
            for reverse in [None, Some("-R")] {
                let tcp = iperf(&world, from, address, reverse, &["-n", "40M"]);
                let received = tcp["sum_received"]["bytes"].as_u64().unwrap_or(0);
                // The receiver's figure is taken at the sender's end, with a window on its way.
                assert!(received > 20_000_000, "TCP to {address} {reverse:?}: {tcp}");
                let udp = ["-u", "-b", "100M", "-n", "4M"];
                let udp = iperf(&world, from, address, reverse, &udp);
                let lost = udp["sum"]["lost_percent"].as_f64().unwrap_or(100.0);
                // A burst that meets a full queue on a busy machine is UDP's business; most arrives.
                assert!(lost < 50.0, "UDP to {address} {reverse:?}: {udp}");
                println!(
                    "{}/{} to {address} {}: TCP {:.0} Mbit/s, UDP at 100 Mbit/s lost {lost} %",
                    from.node,
                    from.name,
                    reverse.unwrap_or(""),
                    tcp["sum_received"]["bits_per_second"]
                        .as_f64()
                        .unwrap_or(0.0)
                        / 1e6,
                );
            }
        }
    }
    for node in world.nodes() {
        let status = world.status(node).expect("the node answers");
        let sum = |names: &[&str]| -> u64 {
            let all = names.iter().map(|name| status["segments"][name].as_u64());
            all.map(|count| count.expect("a count")).sum()
        };
        let drops = status["drops"].as_object().expect("drops by reason");
        let drops: u64 = drops.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(
            sum(&["received", "originated"]),
            sum(&["sent", "consumed", "queued"]) + drops,
            "the books of {node} balance: {status}"
        );
    }
}

/// One run of iperf3; what it says at the end.
fn iperf(
    world: &Topology,
    from: &Pod,
    address: &str,
    reverse: Option<&str>,
    how: &[&str],
) -> serde_json::Value {
    let mut command = vec!["iperf3", "-J", "-c", address];
    command.extend(how);
    command.extend(reverse);
    let output = common::served(|| world.run(&from.namespace, &command));
    assert!(output.ok, "iperf3 to {address}: {}", output.text);
    let document: serde_json::Value = serde_json::from_str(&output.out).expect("iperf3 -J");
    document["end"].clone()
}

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchExpressions:
              - {key: app, operator: In, values: [CLIENTS]}
              - {key: io.cilium.k8s.policy.cluster, operator: Exists}
      ports: [{protocol: TCP, port: http}]
";

/// The guest may send to nobody but `PEERS`.
const EGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guest, namespace: shop}
spec:
  podSelector: {matchLabels: {app: guest}}
  policyTypes: [Egress]
  egress: [PEERS]
";

#[test]
fn a_policy_refuses_one_pod_and_is_loosened_and_tightened_while_running() {
    if !may_run("a_policy_refuses_one_pod_and_is_loosened_and_tightened_while_running") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    let pod = |node, name| world.pod(node, name);
    let web = pod("eu-1", "web");
    let _servers = [web, pod("us-1", "web")].map(|pod| world.serve(pod, 8080));
    let ingress = ("eu-1", "ingressDenied");
    let judged = |guests: bool| {
        for node in ["eu-1", "us-1"] {
            world.decides(pod(node, "client"), web, true, ingress);
            world.decides(pod(node, "guest"), web, guests, ingress);
        }
    };
    judged(true);
    let tight = INGRESS.replace("CLIENTS", "client");
    world.apply_everywhere("eu", "ingress.yaml", &tight);
    judged(false);
    world.apply_everywhere(
        "eu",
        "ingress.yaml",
        &INGRESS.replace("CLIENTS", "client, guest"),
    );
    judged(true);
    world.apply_everywhere("eu", "ingress.yaml", &tight);
    judged(false);
    world.withdraw_everywhere("eu", "ingress.yaml");
    judged(true);

    // The other end: what one of us's pods may send, to the other cluster and at home.
    let guest = pod("us-1", "guest");
    let egress = ("us-1", "egressDenied");
    world.apply_everywhere("us", "egress.yaml", &EGRESS.replace("PEERS", ""));
    for to in [web, pod("us-1", "web")] {
        world.decides(guest, to, false, egress);
        world.decides(pod("us-1", "client"), to, true, egress);
        world.decides(pod("eu-1", "guest"), to, true, egress);
    }
    let loose = EGRESS.replace("PEERS", "{to: [{podSelector: {matchLabels: {app: web}}}]}");
    world.apply_everywhere("us", "egress.yaml", &loose);
    world.decides(guest, pod("us-1", "web"), true, egress);
    // A selector without the cluster's label means the pods of the policy's own cluster.
    world.decides(guest, web, false, egress);
}

#[test]
fn a_flow_that_runs_ends_when_a_policy_comes_that_refuses_it() {
    if !may_run("a_flow_that_runs_ends_when_a_policy_comes_that_refuses_it") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    let (guest, web) = (world.pod("us-1", "guest"), world.pod("eu-1", "web"));
    for (number, address) in web.addresses().into_iter().enumerate() {
        let log = format!("ping-{number}");
        let ping = ["ping", "-n", "-i", "0.05", address];
        let pinging = world.spawn(&guest.namespace, &log, &ping);
        let answers = || {
            let text = std::fs::read_to_string(world.dir().join(&log)).unwrap_or_default();
            text.matches("bytes from").count()
        };
        let more = |than: usize| eventually(Duration::from_secs(5), || answers() > than);
        assert!(more(10), "{address} answers");
        world.apply_everywhere("eu", "ingress.yaml", &INGRESS.replace("CLIENTS", "client"));
        let refused = answers();
        std::thread::sleep(Duration::from_millis(500));
        // One answer may have been on its way.
        assert!(answers() <= refused + 1, "{address} is refused at once");
        world.withdraw_everywhere("eu", "ingress.yaml");
        assert!(more(refused + 10), "{address} answers again");
        drop(pinging);
    }
}
