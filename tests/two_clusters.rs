//! The policies of the demo, for every pair of pods: ports by name, peers of every cluster by its
//! label, and guests that stay within their own.

mod common;

use common::manifests::POLICIES;
use common::{Pod, Topology, WORLD, may_run};

/// Whether `from` gets the answer of the pod `to` itself, over both families alike.
fn serves(world: &Topology, from: &Pod, to: &Pod) -> bool {
    let own = format!("{}/{}", to.node, to.name);
    let ask = |address| world.ask(from, address, 8080).as_deref() == Some(&own);
    let [v4, v6] = to.addresses().map(ask);
    assert_eq!(v4, v6, "{} to {own}: IPv4 and IPv6 differ", from.name);
    v4
}

fn pings(world: &Topology, from: &Pod, to: [&str; 2]) -> bool {
    let [v4, v6] = to.map(|address| world.pings(&from.namespace, address, 1));
    assert_eq!(v4, v6, "{} to {to:?}: IPv4 and IPv6 differ", from.name);
    v4
}

#[test]
fn policies_decide_who_reaches_whom_within_and_between_clusters() {
    if !may_run("policies_decide_who_reaches_whom_within_and_between_clusters") {
        return;
    }
    let world = Topology::up(1, &[]);
    for cluster in ["eu", "us"] {
        world.apply(cluster, "policies.yaml", POLICIES);
    }
    let _nodes = world.start_mesh();
    let pod = |node, name| world.pod(node, name);
    let _serving = ["eu-1", "us-1"].map(|node| world.serve(pod(node, "web"), 8080));
    for node in ["eu-1", "us-1"] {
        for web in ["eu-1", "us-1"] {
            assert!(serves(&world, pod(node, "client"), pod(web, "web")));
            assert!(!serves(&world, pod(node, "guest"), pod(web, "web")));
        }
    }
    let (eu, us) = (pod("eu-1", "client"), pod("us-1", "client"));
    let guest = pod("eu-1", "guest");
    assert!(
        !pings(&world, eu, pod("us-1", "web").addresses()),
        "TCP only"
    );
    assert!(pings(&world, us, eu.addresses()));
    assert!(pings(&world, guest, eu.addresses()));
    assert!(!pings(&world, guest, us.addresses()));
    assert!(pings(&world, eu, WORLD));
    assert!(!pings(&world, guest, WORLD));
}
