//! With whom: the peers of Cilium's policies, in the world of [`crate::policies`].

use crate::cilium::{all, clusterwide, policy};
use crate::policies::{assert_flows, check, mesh};
use crate::{Mesh, node};

#[test]
fn endpoints_are_of_the_policys_namespace_and_cluster_unless_they_say_otherwise() {
    let by_label = policy(
        "endpointSelector: {matchLabels: {\"k8s:app\": a}}\ningress:\n- fromEndpoints: [{matchLabels: {\"any:app\": b}}]",
    );
    check(
        &[&by_label],
        &[
            "x/b > x/a 80/TCP",
            "y/b ! x/a 80/TCP",
            "us:x/b ! x/a 80/TCP",
            "y/a > x/b 80/TCP",
            "x/a > y/a 80/TCP",
        ],
    );
    for namespace in [
        "\"k8s:io.kubernetes.pod.namespace\": y",
        "io.cilium.k8s.namespace.labels.team: blue",
    ] {
        check(
            &[&all(&format!(
                "ingress:\n- fromEndpoints: [{{matchLabels: {{{namespace}}}}}]"
            ))],
            &["y/b > x/a 80/TCP", "z/b ! x/a 80/TCP", "x/b ! x/a 80/TCP"],
        );
    }
    let us = "ingress:\n- fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: us}}]";
    check(
        &[&all(us)],
        &[
            "us:x/b > x/a 80/TCP",
            "us:y/b ! x/a 80/TCP",
            "x/b ! x/a 80/TCP",
        ],
    );
}

#[test]
fn entities_are_what_things_are() {
    let who = [
        ("y/a", "pod"),
        ("us:y/a", "their pod"),
        ("192.0.2.11", "node"),
        ("192.0.2.2", "their node"),
        ("203.0.113.9", "world"),
        ("2001:db8:9::1", "world6"),
    ];
    for (entity, allowed) in [
        (
            "all",
            &["pod", "their pod", "node", "their node", "world", "world6"][..],
        ),
        ("world", &["world", "world6"]),
        ("world-ipv4", &["world"]),
        ("world-ipv6", &["world6"]),
        ("cluster", &["pod", "node"]),
        ("cluster-mesh", &["pod", "their pod", "node", "their node"]),
        ("remote-node", &["node", "their node"]),
        ("init", &[]),
        ("kube-apiserver", &[]),
        ("none", &[]),
    ] {
        let mut mesh = mesh();
        mesh.write(
            1,
            "c.yaml",
            &all(&format!("ingress: [{{fromEntities: [{entity}]}}]")),
        );
        mesh.write(
            1,
            "six.yaml",
            &crate::pod("x", "six", "eu-1", "fd10:1::6", ""),
        );
        for (peer, what) in who {
            let to = if what == "world6" { "fd10:1::6" } else { "x/a" };
            let arrow = if allowed.contains(&what) { '>' } else { '!' };
            assert_flows(&mesh, &[&format!("{peer} {arrow} {to} 80/TCP")]);
        }
    }
    let host = all("egress: [{toEntities: [host]}]");
    check(
        &[&host],
        &["x/a > 192.0.2.1 80/TCP", "x/a ! 192.0.2.11 80/TCP"],
    );
}

#[test]
fn no_pod_is_selected_by_what_is_no_pod() {
    for (selector, governed) in [
        ("matchLabels: {\"reserved:health\": \"\"}", false),
        ("matchLabels: {\"reserved:init\": \"\", app: a}", false),
        (
            "matchExpressions: [{key: \"reserved:ingress\", operator: Exists}]",
            false,
        ),
        (
            "matchExpressions: [{key: \"reserved:health\", operator: DoesNotExist}]",
            true,
        ),
        (
            "matchExpressions: [{key: \"reserved:init\", operator: NotIn, values: [\"\"]}]",
            true,
        ),
    ] {
        let spec = format!("endpointSelector: {{{selector}}}\ningress: [{{}}]\negress: [{{}}]");
        for (kind, text) in [
            ("CiliumNetworkPolicy", policy(&spec)),
            ("CiliumClusterwideNetworkPolicy", clusterwide(&spec)),
        ] {
            let mut mesh = mesh();
            mesh.write(1, "c.yaml", &text);
            let forger = crate::pod("x", "six", "eu-1", "10.1.0.66", "\"reserved:health\": \"\"");
            mesh.write(1, "forger.yaml", &forger);
            assert_eq!(mesh.says(kind, "c"), "enforced: ", "{selector}");
            let arrow = if governed { '!' } else { '>' };
            for pod in ["x/a", "10.1.0.66"] {
                assert_flows(&mesh, &[&format!("y/a {arrow} {pod} 80/TCP")]);
                assert_flows(&mesh, &[&format!("{pod} {arrow} y/a 80/TCP")]);
            }
        }
    }
}

#[test]
fn one_reserved_label_is_the_entity_of_that_name() {
    let exists = "matchExpressions: [{key: \"reserved:NAME\", operator: Exists}]";
    for selector in ["matchLabels: {\"reserved:NAME\": \"\"}", exists] {
        let rules = |section: &str, name: &str| {
            let selector = selector.replace("NAME", name);
            all(&format!("{section}: [{{{selector}}}]"))
        };
        check(
            &[&rules("ingress:\n- fromEndpoints", "remote-node")],
            &[
                "192.0.2.11 > x/a 80/TCP",
                "192.0.2.2 > x/a 80/TCP",
                "x/b ! x/a 80/TCP",
                "203.0.113.9 ! x/a 80/TCP",
            ],
        );
        check(
            &[&rules("egress:\n- toEndpoints", "host")],
            &["x/a > 192.0.2.1 80/TCP", "x/a ! 192.0.2.11 80/TCP"],
        );
        check(
            &[&rules("egress:\n- toEndpoints", "world")],
            &["x/a > 203.0.113.9 80/TCP", "x/a ! x/b 80/TCP"],
        );
        check(
            &[&rules("ingress:\n- fromEndpoints", "none")],
            &["x/b ! x/a 80/TCP"],
        );
    }
}

#[test]
fn cidrs_never_mean_pods_or_nodes() {
    let everything = "egress:\n- toCIDR: [0.0.0.0/0]\n  toCIDRSet:";
    check(
        &[&all(everything)],
        &[
            "x/a > 203.0.113.9 80/TCP",
            "x/a ! y/a 80/TCP",
            "x/a ! us:y/a 80/TCP",
            "x/a ! 192.0.2.11 80/TCP",
        ],
    );
    let set = "egress:\n- toCIDRSet: [{cidr: 203.0.113.7/24, except: [203.0.113.128/25]}, {cidr: 198.51.100.9}]";
    check(
        &[&all(set)],
        &[
            "x/a > 203.0.113.9 80/TCP",
            "x/a ! 203.0.113.200 80/TCP",
            "x/a > 198.51.100.9 80/TCP",
            "x/a ! 198.51.100.8 80/TCP",
        ],
    );
}

#[test]
fn an_empty_list_of_peers_beside_a_full_one_means_nobody() {
    for rules in [
        "ingress: [{fromEndpoints: [], fromCIDR: [203.0.113.0/24]}]",
        "ingress: [{fromEndpoints: [], fromEntities: [all]}]",
        "ingress: [{fromEntities: [], fromCIDRSet: [{cidr: 203.0.113.0/24}]}]",
        "ingress: [{fromCIDR: [203.0.113.0/24], fromCIDRSet: []}]",
        "ingress: [{fromCIDR: [], fromEntities: [all], toPorts: [{ports: [{port: \"80\"}]}]}]",
    ] {
        check(
            &[&all(rules)],
            &["203.0.113.9 ! x/a 80/TCP", "x/b ! x/a 80/TCP"],
        );
    }
    for rules in [
        "egress: [{toCIDR: [0.0.0.0/0], toCIDRSet: []}]",
        "egress: [{toEntities: [all], toEndpoints: []}]",
        "egress: [{toCIDR: [], toServices: [{k8sService: {serviceName: outside, namespace: y}}]}]",
    ] {
        assert_flows(
            &with_services(rules),
            &["x/a ! 203.0.113.9 80/TCP", "x/a ! y/a 80/TCP"],
        );
    }
    // What denies nobody isolates, no more.
    let deny = "egress: [{toEntities: [all]}]\negressDeny: [{toCIDR: [0.0.0.0/0], toCIDRSet: []}]";
    check(&[&all(deny)], &["x/a > 203.0.113.9 80/TCP"]);
    let services = "egress: [{toCIDR: [203.0.113.0/24], toServices: []}]";
    check(
        &[&all(services)],
        &["x/a > 203.0.113.9 80/TCP", "x/a ! y/a 80/TCP"],
    );
}

fn service(name: &str, namespace: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{tier: back}}}}\nspec: {{clusterIP: None, ports: [{{port: 80}}]{more}}}\n"
    )
}

fn slice(service: &str, namespace: &str, address: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{address}]}}]\nports: [{{port: 80}}]\n"
    )
}

fn with_services(rules: &str) -> Mesh {
    let mut mesh = mesh();
    let text = service("web", "y", ", selector: {app: a}")
        + &service("outside", "y", "")
        + &slice("outside", "y", "203.0.113.9")
        + &slice("kubernetes", "default", "192.0.2.11");
    mesh.write(1, "services.yaml", &text);
    mesh.write(1, "c.yaml", &all(rules));
    mesh
}

#[test]
fn services_mean_the_pods_or_the_addresses_behind_them() {
    let web = "egress:\n- toServices: [{k8sService: {serviceName: web, namespace: y}}]";
    assert_flows(
        &with_services(web),
        &[
            "x/a > y/a 80/TCP",
            "x/a ! y/b 80/TCP",
            "x/a ! us:y/a 80/TCP",
        ],
    );
    let labelled = "egress:\n- toServices: [{k8sServiceSelector: {selector: {matchLabels: {tier: back}}}}]\n  toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]";
    assert_flows(
        &with_services(labelled),
        &[
            "x/a > y/a 80/TCP",
            "x/a ! y/a 81/TCP",
            "x/a > 203.0.113.9 80/TCP",
            "x/a ! 203.0.113.8 80/TCP",
        ],
    );
    let elsewhere = "egress:\n- toServices: [{k8sService: {serviceName: web, namespace: z}}]";
    assert_flows(&with_services(elsewhere), &["x/a ! y/a 80/TCP"]);
    let api = "egress:\n- toEntities: [kube-apiserver]";
    assert_flows(
        &with_services(api),
        &["x/a > 192.0.2.11 443/TCP", "x/a ! 192.0.2.1 443/TCP"],
    );
}

#[test]
fn a_cluster_has_its_api_server_wherever_that_answers() {
    for entity in ["cluster", "cluster-mesh", "kube-apiserver"] {
        let mut mesh = mesh();
        mesh.write(
            1,
            "c.yaml",
            &all(&format!("egress: [{{toEntities: [{entity}]}}]")),
        );
        assert_flows(&mesh, &["x/a ! 198.51.100.7 443/TCP"]);
        let slice = |address| slice("kubernetes", "default", address);
        mesh.write(1, "api.yaml", &slice("198.51.100.7"));
        assert_flows(
            &mesh,
            &["x/a > 198.51.100.7 443/TCP", "x/a ! 198.51.100.8 443/TCP"],
        );
        mesh.write(1, "api.yaml", &slice("198.51.100.8"));
        assert_flows(
            &mesh,
            &["x/a ! 198.51.100.7 443/TCP", "x/a > 198.51.100.8 443/TCP"],
        );
        let deny =
            format!("egress: [{{toEntities: [all]}}]\negressDeny: [{{toEntities: [{entity}]}}]");
        mesh.write(1, "c.yaml", &all(&deny));
        assert_flows(
            &mesh,
            &["x/a > 198.51.100.7 443/TCP", "x/a ! 198.51.100.8 443/TCP"],
        );
    }
}

/// What is said of policies that deny what a node and its own pods send each other.
const FROM_HOST: &str =
    "partly: what a node sends to its own pods does not pass by us, so it is not denied";
pub(crate) const TO_HOST: &str =
    "partly: what a pod sends to its own node does not pass by us, so it is not denied";

#[test]
fn a_denial_of_the_host_says_that_it_does_not_hold() {
    let said = |rules: &str| with_services(rules).says("CiliumNetworkPolicy", "c");
    for peers in [
        "ENTITIES: [host]",
        "ENTITIES: [world, all]",
        "ENTITIES: [cluster]",
        "ENTITIES: [cluster-mesh]",
        "ENDPOINTS: [{matchLabels: {\"reserved:host\": \"\"}}]",
        "toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]",
    ] {
        let with = |side: &str| {
            let entities = peers.replace("ENTITIES", &format!("{side}Entities"));
            entities.replace("ENDPOINTS", &format!("{side}Endpoints"))
        };
        let ingress = format!("ingressDeny: [{{{}}}]", with("from"));
        assert_eq!(said(&ingress), FROM_HOST, "{ingress}");
        let egress = format!("egressDeny: [{{{}}}]", with("to"));
        assert_eq!(said(&egress), TO_HOST, "{egress}");
        let (_, to_host) = TO_HOST.split_once(": ").expect("a reason");
        let both = format!("{ingress}\n{egress}");
        assert_eq!(said(&both), format!("{FROM_HOST}; {to_host}"), "{both}");
    }
    for rules in [
        "ingressDeny: [{fromEntities: [remote-node, world, kube-apiserver]}]",
        "ingressDeny: [{fromEndpoints: [{}]}]",
        "ingressDeny: [{fromEntities: []}]",
        "ingressDeny: [{}]",
        // It means nobody who has a name in the mesh.
        "egressDeny: [{toCIDR: [0.0.0.0/0]}]",
        "ingress: [{fromEntities: [all]}]\negress: [{}]",
    ] {
        assert_eq!(said(rules), "enforced: ", "{rules}");
    }
}

#[test]
fn a_denial_of_the_api_server_holds_unless_that_is_the_host() {
    let mut mesh = with_services("ingressDeny: [{fromEntities: [kube-apiserver]}]");
    assert_eq!(mesh.says("CiliumNetworkPolicy", "c"), "enforced: ");
    let here = slice("kubernetes", "default", "192.0.2.1");
    mesh.write(1, "services.yaml", &here);
    assert_eq!(mesh.says("CiliumNetworkPolicy", "c"), FROM_HOST);
    let elsewhere = node("eu-1", "192.0.2.21", "10.1.0.0/24", None);
    mesh.write(1, "nodes.yaml", &elsewhere);
    assert_eq!(mesh.says("CiliumNetworkPolicy", "c"), "enforced: ");
}

#[test]
fn nodes_of_a_cluster_come_and_go() {
    let mut mesh = mesh();
    mesh.write(1, "c.yaml", &all("ingress: [{fromEntities: [cluster]}]"));
    assert_flows(&mesh, &["192.0.2.12 ! x/a 80/TCP"]);
    mesh.write(
        1,
        "more.yaml",
        &node("eu-3", "192.0.2.12", "10.1.2.0/24", None),
    );
    assert_flows(&mesh, &["192.0.2.12 > x/a 80/TCP"]);
}
