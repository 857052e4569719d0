//! Cilium's policies, translated and asked, in the world of [`crate::policies`].

use crate::policies::{assert_flows, check, mesh};

/// A policy `c` of namespace x.
pub(crate) fn policy(spec: &str) -> String {
    let spec: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: c, namespace: x}}\nspec:\n{}\n",
        spec.join("\n")
    )
}

pub(crate) fn clusterwide(spec: &str) -> String {
    policy(spec)
        .replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        .replace(", namespace: x", "")
}

/// About every pod of the namespace.
pub(crate) fn all(rules: &str) -> String {
    policy(&format!("endpointSelector: {{}}\n{rules}"))
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
