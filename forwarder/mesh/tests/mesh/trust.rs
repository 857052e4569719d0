//! What a cluster, a node or a pod says of others does not count, and is said at its place.

use datapath::Route;
use policy::Identity;

use crate::{KEY_2, KEY_3, Mesh, address, node, pod};

fn route(mesh: &Mesh, text: &str) -> Route {
    mesh.snapshot().route(address(text))
}

fn identity(mesh: &Mesh, text: &str) -> Option<Identity> {
    mesh.snapshot().endpoint(address(text)).map(|e| e.identity)
}

/// The name of the node that a route leads to.
fn to(mesh: &Mesh, text: &str) -> String {
    match route(mesh, text) {
        Route::Node(index) => mesh.snapshot().nodes[index as usize].name.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_address_has_a_route() {
    let mut mesh = Mesh::new();
    let text = pod("x", "here", "eu-1", "10.1.0.5", "")
        + &pod("x", "there", "eu-2", "10.1.1.5", "")
        + &pod("x", "stray", "eu-2", "10.1.0.6", "")
        + &pod("x", "outside", "eu-2", "10.9.0.6", "")
        + &pod("x", "lost", "eu-7", "10.1.1.6", "");
    mesh.write(1, "pods.yaml", &text);
    let table = [
        ("10.1.0.5", "Pod"),
        ("10.1.0.77", "Nowhere"),
        ("10.1.1.5", "eu-2"),
        ("10.1.1.77", "eu-2"),
        ("10.1.0.6", "eu-2"),
        ("10.9.0.6", "eu-2"),
        ("10.9.0.7", "World"),
        ("10.1.1.6", "Nowhere"),
        ("192.0.2.1", "Own"),
        ("192.0.2.11", "eu-2"),
        ("192.0.2.2", "us-1"),
        ("10.2.0.9", "us-1"),
        ("10.2.7.9", "Nowhere"),
        ("203.0.113.1", "World"),
    ];
    for (text, expected) in table {
        assert_eq!(to(&mesh, text), expected, "{text}");
    }
    assert_eq!(mesh.last.host.local_pods, [address("10.1.0.5")]);
    assert_eq!(mesh.last.host.remote_prefixes.len(), 3);
    assert_eq!(mesh.snapshot().own.addresses, [address("192.0.2.1")]);
}

#[test]
fn nodes_and_pods_in_their_network_have_the_nodes_identity() {
    let mut mesh = Mesh::new();
    let host = |node: &str, address: &str| {
        pod("x", &format!("agent-{node}"), node, address, "app: agent")
            .replace("spec:\n", "spec:\n  hostNetwork: true\n")
    };
    mesh.write(
        1,
        "pods.yaml",
        &(host("eu-1", "192.0.2.1") + &host("eu-2", "192.0.2.11")),
    );
    mesh.write(2, "pods.yaml", &host("us-1", "192.0.2.2"));
    assert_eq!(identity(&mesh, "192.0.2.1"), Some(Identity::HOST));
    assert_eq!(identity(&mesh, "192.0.2.11"), Some(Identity::REMOTE_NODE));
    assert_eq!(identity(&mesh, "192.0.2.2"), Some(Identity::REMOTE_NODE));
    assert_eq!(identity(&mesh, "203.0.113.5"), Some(Identity::WORLD));
    assert_eq!(identity(&mesh, "10.2.3.4"), None);
    assert_eq!(mesh.complaints(), [] as [&str; 0]);
    let agent = mesh
        .last
        .pods
        .iter()
        .find(|p| p.name == "agent-eu-2")
        .unwrap();
    assert_eq!(agent.addresses, [address("192.0.2.11")]);
    assert_eq!(agent.identity, Some(Identity::REMOTE_NODE));
}

#[test]
fn a_node_publishes_its_lanes_with_endpoints() {
    let mut mesh = Mesh::new();
    let lanes: Vec<String> = mesh.snapshot().nodes[1]
        .lanes
        .iter()
        .map(|l| l.endpoint.to_string())
        .collect();
    assert_eq!(lanes, ["192.0.2.2:51871"]);
    let text = node("us-1", "192.0.2.2", "10.2.0.0/24", None).replace(
        "metadata:\n",
        &format!("metadata:\n  annotations: {{farlane.io/lanes: '[{{\"key\": \"{KEY_2}\", \"endpoint\": \"198.51.100.7:7\"}}, {{\"key\": \"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=\"}}]'}}\n"),
    );
    mesh.write(2, "nodes.yaml", &text);
    let node = &mesh.snapshot().nodes[1];
    let lanes: Vec<String> = node.lanes.iter().map(|l| l.endpoint.to_string()).collect();
    assert_eq!(lanes, ["198.51.100.7:7", "192.0.2.2:51872"]);
    assert_eq!((node.cluster, node.cluster_name.as_str()), (2, "us"));
    assert_eq!(node.addresses, [address("192.0.2.2")]);
}

#[test]
fn two_nodes_never_have_one_key_and_nobody_has_ours() {
    let mut mesh = Mesh::new();
    mesh.write(
        2,
        "nodes.yaml",
        &node("us-1", "192.0.2.2", "10.2.0.0/24", Some(KEY_3)),
    );
    assert_eq!(mesh.snapshot().nodes.len(), 1);
    assert_eq!(
        mesh.complaints(),
        ["us/nodes.yaml:2 its key is that of node eu-2 of cluster eu: no two nodes may have one"]
    );
    assert_eq!(route(&mesh, "10.2.0.9"), Route::Nowhere);
    assert_eq!(route(&mesh, "192.0.2.2"), Route::Nowhere);

    let ours = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    mesh.write(
        2,
        "nodes.yaml",
        &node("us-1", "192.0.2.2", "10.2.0.0/24", Some(ours)),
    );
    assert_eq!(
        mesh.complaints(),
        ["us/nodes.yaml:2 its key is that of this node, eu-1: no two nodes may have one"]
    );
}

#[test]
fn a_node_that_takes_the_key_of_one_that_cannot_be_reached_has_it() {
    let mut mesh = Mesh::new();
    let other = "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=";
    let outside = node("us-2", "10.9.9.9", "10.2.1.0/24", Some(other));
    mesh.write(2, "outside.yaml", &outside);
    assert!(mesh.says("Node", "us-2").contains("nor an InternalIP"));
    let taking = node("us-1", "192.0.2.2", "10.2.0.0/24", Some(other));
    mesh.write(2, "nodes.yaml", &taking);
    assert_eq!(mesh.says("Node", "us-1"), "enforced: ");
    assert!(
        mesh.says("Node", "us-2")
            .ends_with("its key is that of node us-1 of cluster us: no two nodes may have one")
    );
}

#[test]
fn a_node_without_a_key_is_nowhere() {
    let mut mesh = Mesh::new();
    mesh.write(
        1,
        "nodes-2.yaml",
        &node("eu-2", "192.0.2.11", "10.1.1.0/24", None),
    );
    assert_eq!(route(&mesh, "10.1.1.9"), Route::Nowhere);
    assert!(
        mesh.says("Node", "eu-2")
            .starts_with("refused: it has no annotation")
    );
}

#[test]
fn a_clusters_nodes_stay_within_its_prefixes() {
    let mut mesh = Mesh::new();
    let text = node(
        "us-1",
        "192.0.2.1",
        "10.1.0.0/25, 10.2.0.0/24, 10.0.0.0/8",
        Some(KEY_2),
    );
    mesh.write(
        2,
        "nodes.yaml",
        &text.replace("address: 192.0.2.1", "address: 192.0.2.77"),
    );
    assert_eq!(
        mesh.complaints(),
        [
            "us/nodes.yaml:2 192.0.2.77 is outside of the prefixes of cluster us; 10.1.0.0/25 is outside of the prefixes of cluster us; 10.0.0.0/8 reaches beyond its cluster's prefixes; it has neither an endpoint nor an InternalIP to send to"
        ]
    );
    let text = node(
        "eu-2",
        "192.0.2.11",
        "10.2.9.0/24, 10.1.0.128/25, 10.1.1.0/24",
        Some(KEY_3),
    );
    mesh.write(1, "nodes-2.yaml", &text);
    assert_eq!(
        mesh.says("Node", "eu-2"),
        "refused: 10.2.9.0/24 lies in the prefixes of cluster us; 10.1.0.128/25 overlaps 10.1.0.0/24 of node eu-1"
    );
    assert_eq!(to(&mesh, "10.1.1.9"), "eu-2", "what is its own stays");
}

#[test]
fn a_clusters_pods_stay_within_its_prefixes() {
    let mut mesh = Mesh::new();
    mesh.write(
        2,
        "pods.yaml",
        &pod("x", "thief", "us-1", "10.1.0.9", "app: front"),
    );
    assert_eq!(
        mesh.complaints(),
        ["us/pods.yaml:2 10.1.0.9 is outside of the prefixes of cluster us"]
    );
    assert_eq!(identity(&mesh, "10.1.0.9"), None);
    mesh.write(
        2,
        "pods.yaml",
        &pod("x", "thief", "us-1", "192.0.2.1", "app: front"),
    );
    assert_eq!(
        mesh.complaints(),
        ["us/pods.yaml:2 192.0.2.1 is outside of the prefixes of cluster us"]
    );
    mesh.write(1, "pods.yaml", &pod("x", "stray", "eu-1", "10.2.0.9", ""));
    assert_eq!(
        mesh.says("Pod", "stray"),
        "refused: 10.2.0.9 lies in the prefixes of cluster us"
    );
    assert_eq!(identity(&mesh, "10.2.0.9"), None);
}

#[test]
fn a_pod_cannot_give_itself_the_labels_that_only_we_give() {
    let mut mesh = Mesh::new();
    let forged = "app: a, io.cilium.k8s.policy.cluster: eu, io.kubernetes.pod.namespace: kube-system, io.cilium.k8s.namespace.labels.team: red";
    mesh.write(
        2,
        "pods.yaml",
        &pod("x", "forger", "us-1", "10.2.0.9", forged),
    );
    let (_, labels) = mesh
        .last
        .identities
        .iter()
        .find(|(i, _)| i.cluster() == Some(2))
        .unwrap();
    assert_eq!(labels.value("io.cilium.k8s.policy.cluster"), Some("us"));
    assert_eq!(labels.value("io.kubernetes.pod.namespace"), Some("x"));
    assert_eq!(labels.value("io.cilium.k8s.namespace.labels.team"), None);
    let said = mesh.says("Pod", "forger");
    assert!(
        said.contains("its label io.cilium.k8s.policy.cluster is not its own to give"),
        "{said}"
    );
}

#[test]
fn an_address_that_two_pods_claim_is_nobodys_unless_one_is_going() {
    let mut mesh = Mesh::new();
    let one = pod("x", "one", "eu-1", "10.1.0.9", "app: one");
    let two = pod("x", "two", "eu-1", "10.1.0.9", "app: two");
    mesh.write(1, "pods.yaml", &(one.clone() + &two));
    assert_eq!(identity(&mesh, "10.1.0.9"), None);
    assert_eq!(
        mesh.says("Pod", "two"),
        "refused: 10.1.0.9 is claimed by pod x/one too"
    );
    let going = one.replace(
        "metadata: {",
        "metadata: {deletionTimestamp: \"2026-11-20T09:12:44Z\", ",
    );
    mesh.write(1, "pods.yaml", &(going + &two));
    let endpoint = mesh.snapshot().endpoint(address("10.1.0.9")).unwrap();
    assert_eq!(endpoint.name, "x/two");
}

#[test]
fn a_cluster_that_nobody_told_us_of_is_not_heard() {
    let mut mesh = Mesh::new();
    let before = mesh.last.snapshot.epoch;
    mesh.world.apply(mesh::Event::File {
        cluster: 9,
        file: "x".into(),
        parsed: mesh::parse("x", &pod("x", "p", "n", "10.1.0.3", "")),
        hash: "h".into(),
    });
    mesh.compile();
    assert_eq!(mesh.last.snapshot.epoch, before);
}

#[test]
fn a_node_that_no_manifest_knows_says_so() {
    let mut world = mesh::World::new(crate::settings());
    world.apply(mesh::Event::Loaded);
    let compiled = world.compile();
    assert_eq!(compiled.statuses.len(), 1);
    let reason = &compiled.statuses[0].reasons[0];
    assert!(
        reason.starts_with("no manifest of cluster eu has the Node eu-1"),
        "{reason}"
    );
}
