//! NetworkPolicies, translated and asked: who may reach whom.
//!
//! Namespaces x (team red), y (team blue) and z (no labels of its own), pods a and b in each of
//! them in both clusters; addresses 10.CLUSTER.0.NAMESPACE×10+POD.

use crate::{Mesh, namespace, pod};

const NAMES: [(&str, &str); 3] = [("x", "team: red"), ("y", "team: blue"), ("z", "")];

pub(crate) fn mesh() -> Mesh {
    let mut mesh = Mesh::new();
    for (cluster, node) in [(1, "eu-1"), (2, "us-1")] {
        let mut text = String::new();
        for (n, (name, labels)) in NAMES.iter().enumerate() {
            text += &namespace(name, labels);
            for (p, app) in ["a", "b"].iter().enumerate() {
                let address = format!("10.{cluster}.0.{}", (n + 1) * 10 + p + 1);
                text += &pod(name, app, node, &address, &format!("app: {app}"));
            }
        }
        mesh.write(cluster, "pods.yaml", &text);
    }
    mesh
}

/// `x/a` in the own cluster, `us:x/a` in the other, or an address.
fn find(who: &str) -> String {
    let (cluster, pod) = match who.strip_prefix("us:") {
        Some(pod) => (2, pod),
        None => (1, who),
    };
    let Some((ns, name)) = pod.split_once('/') else {
        return who.into();
    };
    let n = NAMES.iter().position(|(name, _)| *name == ns).unwrap() + 1;
    let p = ["a", "b"].iter().position(|app| *app == name).unwrap() + 1;
    format!("10.{cluster}.0.{}", n * 10 + p)
}

/// A policy `p` of namespace x.
fn policy(spec: &str) -> String {
    let indented: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec:\n{}\n",
        indented.join("\n")
    )
}

/// Puts policies in force and checks flows, written as `from > to port` or `from ! to port`.
pub(crate) fn check(policies: &[&str], flows: &[&str]) {
    let mut mesh = mesh();
    for (n, text) in policies.iter().enumerate() {
        mesh.write(1, &format!("policy-{n}.yaml"), text);
    }
    assert_flows(&mesh, flows);
}

pub(crate) fn assert_flows(mesh: &Mesh, flows: &[&str]) {
    for flow in flows {
        let words: Vec<&str> = flow.split(' ').collect();
        let [from, arrow, to, port] = words.as_slice() else {
            panic!("{flow}");
        };
        let allowed = mesh.allows(&find(from), &find(to), port);
        assert_eq!(allowed, *arrow == ">", "{flow}");
    }
}

#[test]
fn without_a_policy_everybody_known_may_speak() {
    check(
        &[],
        &[
            "x/a > y/b 80/TCP",
            "us:z/a > x/a 80/UDP",
            "192.0.2.2 > x/a 80/TCP",
            "x/a > 203.0.113.9 443/TCP",
            // Inside of the mesh, and nobody's.
            "x/a ! 10.2.9.9 80/TCP",
            "10.1.0.99 ! x/a 80/TCP",
        ],
    );
}

#[test]
fn default_deny_isolates_the_namespace_in_its_directions_only() {
    check(
        &[&policy("podSelector: {}")],
        &[
            "y/a ! x/a 80/TCP",
            "x/b ! x/a 80/TCP",
            "x/a > y/a 80/TCP",
            "us:x/a ! x/b 80/TCP",
        ],
    );
    check(
        &[&policy("podSelector: {}\npolicyTypes: [Ingress, Egress]")],
        &["y/a ! x/a 80/TCP", "x/a ! y/a 80/TCP", "y/a > y/b 80/TCP"],
    );
    check(
        &[&policy(
            "podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]",
        )],
        &["y/a > x/a 80/TCP", "x/a ! y/a 80/TCP"],
    );
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_where_it_has_rules() {
    check(
        &[&policy("podSelector: {}\negress: []")],
        &["x/a > y/a 80/TCP", "y/a ! x/a 80/TCP"],
    );
    check(
        &[&policy("podSelector: {}\negress:\n- ports: [{port: 80}]")],
        &["x/a > y/a 80/TCP", "x/a ! y/a 81/TCP", "y/a ! x/a 80/TCP"],
    );
}

#[test]
fn a_pod_selector_alone_means_the_policys_namespace_and_cluster() {
    check(
        &[&policy(
            "podSelector: {matchLabels: {app: a}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: b}}",
        )],
        &[
            "x/b > x/a 80/TCP",
            "y/b ! x/a 80/TCP",
            "x/a > x/b 80/TCP",
            "us:x/b ! x/a 80/TCP",
        ],
    );
}

#[test]
fn namespace_and_pod_selector_in_one_peer_must_both_match_and_two_peers_are_alternatives() {
    let both = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: blue}}\n    podSelector: {matchLabels: {app: b}}";
    check(
        &[&policy(both)],
        &["y/b > x/a 80/TCP", "y/a ! x/a 80/TCP", "x/b ! x/a 80/TCP"],
    );
    let either = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: blue}}\n  - podSelector: {matchLabels: {app: b}}";
    check(
        &[&policy(either)],
        &[
            "y/b > x/a 80/TCP",
            "y/a > x/a 80/TCP",
            "x/b > x/a 80/TCP",
            "z/b ! x/a 80/TCP",
        ],
    );
}

#[test]
fn expressions_select_as_kubernetes_says_absent_labels_too() {
    let not_red = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector:\n      matchExpressions: [{key: team, operator: NotIn, values: [red]}]";
    check(
        &[&policy(not_red)],
        &["y/a > x/a 80/TCP", "z/a > x/a 80/TCP", "x/b ! x/a 80/TCP"],
    );
    let without = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector:\n      matchExpressions: [{key: team, operator: DoesNotExist}]";
    check(
        &[&policy(without)],
        &["z/a > x/a 80/TCP", "y/a ! x/a 80/TCP"],
    );
    let within = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector:\n      matchExpressions:\n      - {key: team, operator: In, values: [blue, green]}\n      - {key: team, operator: Exists}";
    check(
        &[&policy(within)],
        &["y/a > x/a 80/TCP", "z/a ! x/a 80/TCP"],
    );
    let named = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}";
    check(&[&policy(named)], &["z/a > x/a 80/TCP", "y/a ! x/a 80/TCP"]);
}

#[test]
fn an_empty_namespace_selector_is_every_pod_but_no_node_and_not_the_world() {
    check(
        &[&policy(
            "podSelector: {}\ningress:\n- from: [{namespaceSelector: {}}]",
        )],
        &[
            "y/a > x/a 80/TCP",
            "192.0.2.2 ! x/a 80/TCP",
            "203.0.113.9 ! x/a 80/TCP",
            "us:y/a ! x/a 80/TCP",
        ],
    );
}

#[test]
fn an_empty_from_is_anybody() {
    check(
        &[&policy(
            "podSelector: {}\ningress:\n- from: []\n  ports: [{port: 80}]",
        )],
        &[
            "203.0.113.9 > x/a 80/TCP",
            "us:y/a > x/a 80/TCP",
            "y/a ! x/a 81/TCP",
        ],
    );
}

#[test]
fn other_clusters_are_selected_by_the_label_of_the_cluster_only() {
    let all = "podSelector: {}\ningress:\n- from:\n  - podSelector:\n      matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]";
    check(
        &[&policy(all)],
        &[
            "us:x/b > x/a 80/TCP",
            "x/b > x/a 80/TCP",
            "us:y/b ! x/a 80/TCP",
        ],
    );
    let us = "podSelector: {}\ningress:\n- from:\n  - podSelector: {matchLabels: {io.cilium.k8s.policy.cluster: us}}\n    namespaceSelector: {}";
    check(&[&policy(us)], &["us:y/b > x/a 80/TCP", "y/b ! x/a 80/TCP"]);
    let by_namespace = "podSelector: {}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {io.cilium.k8s.policy.cluster: us}}";
    check(
        &[&policy(by_namespace)],
        &["us:y/b > x/a 80/TCP", "y/b ! x/a 80/TCP"],
    );
}

#[test]
fn blocks_match_addresses_whoever_has_them_but_for_their_exceptions() {
    let block =
        "podSelector: {}\negress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}";
    check(
        &[&policy(block)],
        &[
            "x/a > y/a 80/TCP",
            "x/a ! us:y/a 80/TCP",
            "x/a ! 203.0.113.9 80/TCP",
        ],
    );
    let world = "podSelector: {}\negress:\n- to:\n  - ipBlock: {cidr: 203.0.113.0/24}";
    check(
        &[&policy(world)],
        &["x/a > 203.0.113.9 80/TCP", "x/a ! y/a 80/TCP"],
    );
}

#[test]
fn ports_have_protocols_ranges_and_names() {
    let ports = "podSelector: {}\ningress:\n- ports:\n  - {port: 80, endPort: 90}\n  - {protocol: UDP, port: 53}\n  - {protocol: SCTP}\n  - {port: http}";
    check(
        &[&policy(ports)],
        &[
            "y/a > x/a 80/TCP",
            "y/a > x/a 90/TCP",
            "y/a ! x/a 91/TCP",
            "y/a ! x/a 80/UDP",
            "y/a > x/a 53/UDP",
            "y/a ! x/a 53/TCP",
            "y/a > x/a 7/SCTP",
            // The pods' own port named http.
            "y/a > x/a 8080/TCP",
        ],
    );
}

#[test]
fn policies_add_up_and_go_with_their_files() {
    let deny = policy("podSelector: {}");
    let allow = policy("podSelector: {}\ningress: [{}]").replace("name: p", "name: q");
    let mut mesh = mesh();
    mesh.write(1, "a.yaml", &deny);
    assert_flows(&mesh, &["y/a ! x/a 80/TCP"]);
    mesh.write(1, "b.yaml", &allow);
    assert_flows(&mesh, &["y/a > x/a 80/TCP"]);
    mesh.world.apply(mesh::Event::FileGone {
        cluster: 1,
        file: "eu/b.yaml".into(),
    });
    mesh.compile();
    assert_flows(&mesh, &["y/a ! x/a 80/TCP"]);
}

#[test]
fn labels_of_pods_and_namespaces_count_as_soon_as_they_change() {
    let mut mesh = mesh();
    let spec =
        "podSelector: {}\ningress:\n- from:\n  - namespaceSelector: {matchLabels: {team: green}}";
    mesh.write(1, "policy.yaml", &policy(spec));
    assert_flows(&mesh, &["z/a ! x/a 80/TCP"]);
    mesh.write(1, "z.yaml", &namespace("z", "team: green"));
    assert_flows(&mesh, &["z/a > x/a 80/TCP"]);
}

#[test]
fn a_label_that_churns_is_kept_where_a_policy_selects_by_it() {
    let mut mesh = mesh();
    let label = "statefulset.kubernetes.io/pod-name";
    let text = pod("x", "db-0", "eu-1", "10.1.0.71", &format!("{label}: db-0"))
        + &pod("x", "db-1", "eu-1", "10.1.0.72", &format!("{label}: db-1"));
    mesh.write(1, "db.yaml", &text);
    let identity = |mesh: &Mesh, address| {
        mesh.snapshot()
            .endpoint(crate::address(address))
            .unwrap()
            .identity
    };
    assert_eq!(identity(&mesh, "10.1.0.71"), identity(&mesh, "10.1.0.72"));
    mesh.write(
        1,
        "policy.yaml",
        &policy(&format!("podSelector: {{matchLabels: {{{label}: db-0}}}}")),
    );
    assert_ne!(identity(&mesh, "10.1.0.71"), identity(&mesh, "10.1.0.72"));
    assert_flows(&mesh, &["y/a ! 10.1.0.71 80/TCP", "y/a > 10.1.0.72 80/TCP"]);
}

#[test]
fn a_policy_that_we_cannot_enforce_denies_what_it_selects_in_its_directions() {
    let spec = "podSelector: {matchLabels: {app: a}}\nloging: true\ningress: [{}]";
    let allow = policy("podSelector: {}\ningress: [{}]").replace("name: p", "name: q");
    check(
        &[&policy(spec), &allow],
        &["y/a ! x/a 80/TCP", "x/a > y/a 80/TCP", "y/a > x/b 80/TCP"],
    );
    let unreadable = "podSelector: {matchLabels: {app: a}, matchNames: [c]}\npolicyTypes: [Egress]";
    check(
        &[&policy(unreadable)],
        &[
            "x/a ! y/a 80/TCP",
            "x/b ! y/a 80/TCP",
            "y/a > x/b 80/TCP",
            "y/a > z/a 80/TCP",
        ],
    );
}

#[test]
fn a_refused_policy_says_why_and_where() {
    let mut mesh = mesh();
    mesh.write(1, "policy.yaml", &policy("podSelector: {}\nloging: true"));
    assert_eq!(
        mesh.says("NetworkPolicy", "p"),
        "refused: line 6: `spec` has the field `loging`, which is not enforced"
    );
    let admin = "\n\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: c}\nspec: {}\n";
    mesh.write(1, "admin.yaml", admin);
    assert_eq!(
        mesh.says("AdminNetworkPolicy", "c"),
        "refused: line 3: this kind is not enforced: its successor ClusterNetworkPolicy is"
    );
}

#[test]
fn another_clusters_policies_are_not_ours() {
    let mut mesh = mesh();
    mesh.write(2, "policy.yaml", &policy("podSelector: {}"));
    assert_flows(&mesh, &["y/a > x/a 80/TCP", "y/a > us:x/a 80/TCP"]);
    assert!(mesh.says("NetworkPolicy", "p").starts_with("ignored: "));
}
