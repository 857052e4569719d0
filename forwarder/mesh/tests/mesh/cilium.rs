//! Cilium's policies, translated and asked, in the world of [`crate::policies`].

use crate::policies::{assert_flows, check, mesh};
use crate::{Mesh, node};

/// A policy `c` of namespace x.
fn policy(spec: &str) -> String {
    let spec: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: c, namespace: x}}\nspec:\n{}\n",
        spec.join("\n")
    )
}

fn clusterwide(spec: &str) -> String {
    policy(spec)
        .replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        .replace(", namespace: x", "")
}

/// About every pod of the namespace.
fn all(rules: &str) -> String {
    policy(&format!("endpointSelector: {{}}\n{rules}"))
}

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
fn the_subject_is_of_the_policys_own_namespace() {
    let own = "endpointSelector: {matchLabels: {\"k8s:io.kubernetes.pod.namespace\": x, app: a}}\ningress: [{}]";
    check(
        &[&policy(own)],
        &["y/b ! x/a 80/TCP", "y/b > x/b 80/TCP", "x/a > y/a 80/TCP"],
    );
    let mut mesh = mesh();
    let other = own.replace("namespace\": x", "namespace\": y");
    mesh.write(1, "c.yaml", &policy(&other));
    let said = mesh.says("CiliumNetworkPolicy", "c");
    assert!(
        said.starts_with("refused: line 5: `endpointSelector` names another"),
        "{said}"
    );
    assert_flows(
        &mesh,
        &["y/b ! x/a 80/TCP", "y/b ! x/b 80/TCP", "x/a > y/a 80/TCP"],
    );
}

#[test]
fn an_empty_selector_is_the_namespace_an_empty_list_nobody_and_an_empty_rule_nothing() {
    let own = [
        ("ingress: [{fromEndpoints: [{}]}]", '>', '!'),
        ("ingress: [{fromEndpoints: []}]", '!', '!'),
        (
            "ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: \"80\"}]}]}]",
            '!',
            '!',
        ),
        ("ingress: [{}]", '!', '!'),
        (
            "ingress: [{toPorts: [{ports: [{port: \"80\"}]}]}]",
            '>',
            '>',
        ),
        // Cilium counts the rules.
        ("ingress: []", '>', '>'),
        ("ingress: [{fromEntities: [none]}]", '!', '!'),
    ];
    for (rules, within, without) in own {
        let flows = [
            format!("x/b {within} x/a 80/TCP"),
            format!("y/b {without} x/a 80/TCP"),
        ];
        check(&[&all(rules)], &[&flows[0], &flows[1]]);
    }
    let everywhere = clusterwide("endpointSelector: {}\ningress: [{fromEndpoints: [{}]}]");
    check(
        &[&everywhere],
        &[
            "y/b > x/a 80/TCP",
            "x/a > z/b 80/TCP",
            "us:x/a ! x/a 80/TCP",
            "203.0.113.9 ! x/a 80/TCP",
            "192.0.2.11 ! x/a 80/TCP",
        ],
    );
}

#[test]
fn default_deny_can_be_said_or_left_out() {
    let deny = "enableDefaultDeny: {ingress: true, egress: false}";
    check(&[&all(deny)], &["y/a ! x/a 80/TCP", "x/a > y/a 80/TCP"]);
    let open = "enableDefaultDeny: {ingress: false}\ningressDeny: [{fromEndpoints: [{matchLabels: {app: b}}]}]";
    check(
        &[&all(open)],
        &["x/b ! x/a 80/TCP", "y/b > x/a 80/TCP", "x/a > x/a 80/TCP"],
    );
    let closed = "ingressDeny: [{fromEndpoints: [{matchLabels: {app: b}}]}]";
    check(&[&all(closed)], &["x/b ! x/a 80/TCP", "y/b ! x/a 80/TCP"]);
}

#[test]
fn a_deny_wins_over_every_allow_of_any_policy() {
    let deny = "ingress: [{fromEntities: [all]}]\ningressDeny: [{fromEntities: [cluster], toPorts: [{ports: [{port: \"81\", protocol: TCP}]}]}]";
    let allow = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, ingress: [{}]}\n";
    check(
        &[&all(deny), allow],
        &[
            "y/a > x/a 80/TCP",
            "y/a ! x/a 81/TCP",
            "us:y/a > x/a 81/TCP",
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

#[test]
fn ports_are_numbers_ranges_names_and_any() {
    let rules = "ingress:\n- toPorts:\n  - ports: [{port: \"80\", endPort: 82, protocol: TCP}, {port: \"53\"}, {port: http}]\n  - ports: [{port: \"0\", protocol: SCTP}]";
    check(
        &[&all(rules)],
        &[
            "y/a > x/a 80/TCP",
            "y/a > x/a 82/TCP",
            "y/a ! x/a 83/TCP",
            "y/a ! x/a 80/UDP",
            "y/a > x/a 53/TCP",
            "y/a > x/a 53/UDP",
            "y/a > x/a 53/SCTP",
            "y/a > x/a 8080/TCP",
            // The container's port named http is of TCP.
            "y/a ! x/a 8080/UDP",
            "y/a > x/a 9/SCTP",
            "y/a ! x/a 8/ICMP",
        ],
    );
    // An end of 0 is as none.
    let rules = rules.replace("http}", "http, endPort: 0}");
    check(
        &[&all(&rules.replace("\"53\"", "\"53\", endPort: 0"))],
        &[
            "y/a > x/a 53/UDP",
            "y/a ! x/a 54/UDP",
            "y/a > x/a 8080/TCP",
            "y/a ! x/a 8081/TCP",
        ],
    );
    let zero = "ingress:\n- toPorts: [{ports: [{port: \"0\", endPort: 0, protocol: UDP}]}]";
    check(&[&all(zero)], &["y/a > x/a 9/UDP", "y/a ! x/a 9/TCP"]);
    let any = "ingress:\n- toPorts: [{ports: [{port: \"0\"}]}]";
    check(&[&all(any)], &["y/a > x/a 9/UDP", "y/a ! x/a 8/ICMP"]);
}

#[test]
fn icmp_goes_by_type() {
    let rules = "ingress:\n- icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}, {type: Timestamp}]}]";
    check(
        &[&all(rules)],
        &[
            "y/a > x/a 8/ICMP",
            "y/a > x/a 13/ICMP",
            "y/a ! x/a 0/ICMP",
            "y/a ! x/a 8/TCP",
            "y/a ! x/a 8/ICMPv6",
        ],
    );
    let beside = "ingress:\n- {toPorts: [], icmps: [{fields: [{type: 8}]}]}";
    check(
        &[&all(beside)],
        &["y/a > x/a 8/ICMP", "y/a ! x/a 13/ICMP", "y/a ! x/a 80/TCP"],
    );
    let beside = "ingress:\n- {toPorts: [{ports: [{port: \"80\"}]}], icmps: []}";
    check(&[&all(beside)], &["y/a > x/a 80/TCP", "y/a ! x/a 8/ICMP"]);
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
pub(crate) const FROM_HOST: &str =
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
fn several_specs_govern_each_their_own() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c, namespace: x}\nspecs:\n- {endpointSelector: {matchLabels: {app: a}}, ingress: [{fromEndpoints: [{}]}]}\n- {endpointSelector: {matchLabels: {app: b}}, egress: [{toEntities: [world]}]}\n";
    check(
        &[text],
        &[
            "x/b ! x/a 80/TCP",
            "x/a > x/b 80/TCP",
            "y/a ! x/a 80/TCP",
            "x/b > 203.0.113.9 80/TCP",
            "y/a > x/b 80/TCP",
        ],
    );
}

#[test]
fn what_is_not_enforced_is_refused_with_its_place_and_denied() {
    for (rules, reason) in [
        (
            "ingress:\n- toPorts:\n  - ports: [{port: \"80\"}]\n    rules: {http: [{}]}",
            "line 9: an item of `toPorts` has the field `rules`, which is not enforced",
        ),
        (
            "ingress:\n- fromGroups: [{}]",
            "line 7: a rule of `ingress` has the field `fromGroups`, which is not enforced",
        ),
        (
            "ingress:\n- fromCIDRSet: [{cidrGroupRef: office}]",
            "line 7: an item of `fromCIDRSet` has the field `cidrGroupRef`, which is not enforced",
        ),
        (
            "ingress:\n- fromEndpoints: [{}]\n  authentication: {mode: required}",
            "line 8: `authentication` is not enforced",
        ),
        (
            "ingress:\n- fromEndpoints: [{matchLabels: {\"reserved:host\": \"\", app: a}}]",
            "line 7: an item of `fromEndpoints` selects by `reserved:host`: name it among the entities",
        ),
        (
            "ingress:\n- fromEndpoints: [{matchLabels: {\"reserved:host\": there}}]",
            "line 7: an item of `fromEndpoints` selects by `reserved:host`: name it among the entities",
        ),
        (
            "ingress:\n- fromEndpoints: [{matchExpressions: [{key: \"reserved:host\", operator: DoesNotExist}]}]",
            "line 7: an item of `fromEndpoints` selects by `reserved:host`: name it among the entities",
        ),
        (
            "ingress:\n- fromEndpoints: [{matchLabels: {\"reserved:cluster\": \"\"}}]",
            "line 7: an item of `fromEndpoints` selects by `reserved:cluster`: name it among the entities",
        ),
        (
            "ingress:\n- fromEndpoints: [{matchLabels: {\"any:reserved:host\": \"\"}}]",
            "line 7: an item of `fromEndpoints` selects by `any:reserved:host`",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{port: \"90\", endPort: 80}]}]",
            "line 7: `endPort` 80 lies before `port` 90",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{port: http, endPort: 80}]}]",
            "line 7: `endPort` without a number as `port`",
        ),
        (
            "ingress:\n- {toPorts: [{ports: [{port: \"80\"}]}], icmps: [{fields: [{type: 8}]}]}",
            "line 7: `icmps` beside `toPorts`: make two rules of it",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{port: \"90\", protocol: ICMP}]}]",
            "line 7: the protocol \"ICMP\" is not enforced",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{port: 90}]}]",
            "line 7: `port` must be text, not the number 90: put it in quotes",
        ),
        (
            "ingress:\n- fromEntities: [everybody]",
            "line 7: an item of `fromEntities` cannot be \"everybody\"",
        ),
        (
            "ingress:\n- icmps: [{fields: [{type: Shout}]}]",
            "line 7: \"Shout\" is no type of ICMP",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{protocol: TCP}]}]",
            "line 7: an item of `ports` has no `port`",
        ),
        (
            "ingress:\n- toPorts: [{ports: [{port: -a}]}]",
            "line 7: `port`: \"-a\" is no port, and no name of one",
        ),
        (
            "ingress:\n- {fromEndpoints: [{}], fromCIDR: [203.0.113.0/24]}",
            "line 7: `fromCIDR` beside `fromEndpoints` is not enforced: make two rules",
        ),
        (
            "ingressDeny:\n- {fromEntities: [all], icmps: [{}]}",
            "line 7: an item of `icmps` has no `fields`",
        ),
        (
            "ingressDeny:\n- icmps: [{fields: [{type: Redirect}]}]",
            "line 7: an error of ICMP cannot be denied apart from its flow",
        ),
        (
            "ingress:\n- fromCIDR: [\"::ffff:10.0.0.0/24\"]",
            "line 7: an item of `fromCIDR`: \"::ffff:10.0.0.0/24\" is not a prefix",
        ),
        (
            "ingress:\n- toPorts: [{}]",
            "line 7: an item of `toPorts` has no `ports`",
        ),
        (
            "ingress: [{}]\nnodeSelector: {}",
            "line 7: `nodeSelector` asks for a firewall of the host",
        ),
    ] {
        let mut mesh = mesh();
        mesh.write(1, "c.yaml", &all(rules));
        let said = mesh.says("CiliumNetworkPolicy", "c");
        assert!(said.starts_with(&format!("refused: {reason}")), "{said}");
        assert_flows(
            &mesh,
            &["x/b ! x/a 80/TCP", "x/a > y/a 80/TCP", "x/a > z/a 80/TCP"],
        );
    }
}

#[test]
fn what_may_have_been_meant_for_either_direction_is_denied_in_both() {
    for rules in [
        "ingress: [{fromEntities: [all]}]\negressdeny: [{toCIDR: [10.0.0.0/8]}]",
        "ingress: [{fromEntities: [all]}]\nenableDefaultDeny: true",
        "ingress: [{fromEntities: [all]}]\nenableDefaultDeny: {Egress: true}",
    ] {
        check(
            &[&all(rules)],
            &["x/a ! y/a 80/TCP", "y/a ! x/a 80/TCP", "y/a > z/a 80/TCP"],
        );
    }
    for rules in [
        "egress: nobody",
        "egress: [nobody]",
        "egressDeny: [{toServices: [{k8sService: {serviceName: a}}]}]",
    ] {
        check(
            &[&all(rules)],
            &["x/a ! y/a 80/TCP", "y/a > z/a 80/TCP", "y/a > x/a 80/TCP"],
        );
    }
    let specs = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c, namespace: x}\nspec: {endpointSelector: {matchLabels: {app: a}}, ingress: [{}]}\nspecs: {}\n";
    check(
        &[specs],
        &["x/b ! y/a 80/TCP", "y/a ! x/b 80/TCP", "y/a > z/a 80/TCP"],
    );
}

#[test]
fn a_policy_about_nodes_governs_no_pod() {
    let text = clusterwide("nodeSelector: {}\ningress: [{fromEntities: [cluster]}]");
    let mut mesh = mesh();
    mesh.write(1, "c.yaml", &text);
    assert_flows(&mesh, &["203.0.113.9 > x/a 80/TCP"]);
    let said = mesh.says("CiliumClusterwideNetworkPolicy", "c");
    assert!(
        said.starts_with("refused: line 5: `nodeSelector`"),
        "{said}"
    );
}

#[test]
fn a_selector_that_cannot_be_read_governs_the_whole_namespace() {
    let text = policy("endpointSelector: {matchLabels: {\"cidr:x\": y}}\negress: [{}]");
    check(
        &[&text],
        &[
            "x/a ! y/a 80/TCP",
            "x/b ! y/a 80/TCP",
            "y/a > x/a 80/TCP",
            "y/a > z/a 80/TCP",
        ],
    );
    let empty = policy("description: nothing");
    check(
        &[&empty],
        &["y/a ! x/a 80/TCP", "x/b ! y/a 80/TCP", "y/a > z/a 80/TCP"],
    );
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
