//! ClusterNetworkPolicies, translated and asked, in the world of [`crate::policies`].

use crate::peers::TO_HOST;
use crate::policies::{assert_flows, check, mesh};

/// A policy `n` about the pods of team blue (namespace y), unless the spec says otherwise.
fn policy(tier: &str, priority: u32, rules: &str) -> String {
    let rules: Vec<String> = rules.lines().map(|line| format!("  {line}")).collect();
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {}-{priority}}}\nspec:\n  tier: {tier}\n  priority: {priority}\n  subject: {{namespaces: {{matchLabels: {{team: blue}}}}}}\n{}\n",
        tier.to_lowercase(),
        rules.join("\n")
    )
}

const ISOLATED: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: y}\nspec: {podSelector: {}}\n";

const FROM_X: &str =
    "ingress:\n- {action: ACTION, from: [{namespaces: {matchLabels: {team: red}}}]}";

fn from_x(action: &str) -> String {
    FROM_X.replace("ACTION", action)
}

#[test]
fn an_admins_verdict_comes_before_every_namespaces_own() {
    check(
        &[&policy("Admin", 1, &from_x("Accept")), ISOLATED],
        &[
            "x/a > y/a 80/TCP",
            "z/a ! y/a 80/TCP",
            "us:x/a ! y/a 80/TCP",
        ],
    );
    check(
        &[&policy("Admin", 1, &from_x("Deny"))],
        &["x/a ! y/a 80/TCP", "z/a > y/a 80/TCP", "y/a > x/a 80/TCP"],
    );
    check(
        &[&policy("Admin", 1, &from_x("Pass")), ISOLATED],
        &["x/a ! y/a 80/TCP"],
    );
}

#[test]
fn a_baseline_holds_where_nobody_is_isolated() {
    check(
        &[&policy("Baseline", 1, &from_x("Deny"))],
        &["x/a ! y/a 80/TCP", "z/a > y/a 80/TCP"],
    );
    check(
        &[&policy("Baseline", 1, &from_x("Accept")), ISOLATED],
        &["x/a ! y/a 80/TCP"],
    );
}

#[test]
fn lower_priorities_and_upper_rules_come_first() {
    check(
        &[
            &policy("Admin", 2, &from_x("Accept")),
            &policy("Admin", 1, &from_x("Deny")),
        ],
        &["x/a ! y/a 80/TCP"],
    );
    let rules = "ingress:\n- {action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}]}\n- {action: Deny, from: [{namespaces: {}}]}";
    check(
        &[&policy("Admin", 1, rules)],
        &[
            "x/a > y/a 80/TCP",
            "x/b ! y/a 80/TCP",
            "203.0.113.9 > y/a 80/TCP",
        ],
    );
    let pass = "ingress:\n- {action: Pass, from: [{pods: {podSelector: {matchLabels: {app: a}}}}]}\n- {action: Deny, from: [{namespaces: {}}]}";
    check(
        &[&policy("Admin", 1, pass)],
        &["x/a > y/a 80/TCP", "x/b ! y/a 80/TCP"],
    );
}

#[test]
fn of_equal_priorities_the_upper_rule_comes_first_and_then_the_deny() {
    let two = |first: &str, second: &str| {
        let one = policy("Admin", 1, first);
        let other = policy("Admin", 1, second).replace("name: admin-1", "name: other");
        [one, other]
    };
    let [accept, deny] = two(&from_x("Accept"), &from_x("Deny"));
    check(&[&accept, &deny], &["x/a ! y/a 80/TCP"]);
    let below = "ingress:\n- {action: Pass, from: [{namespaces: {matchLabels: {team: blue}}}]}\n- {action: Deny, from: [{namespaces: {}}]}";
    let [accept, deny] = two(&from_x("Accept"), below);
    check(&[&accept, &deny], &["x/a > y/a 80/TCP", "z/a ! y/a 80/TCP"]);
}

#[test]
fn a_pass_of_the_baseline_leaves_the_rest_of_it_unasked() {
    let rules = "ingress:\n- {action: Pass, from: [{pods: {podSelector: {matchLabels: {app: a}}}}]}\n- {action: Deny, from: [{namespaces: {}}]}";
    check(
        &[&policy("Baseline", 1, rules)],
        &["x/a > y/a 80/TCP", "x/b ! y/a 80/TCP"],
    );
}

#[test]
fn networks_match_whoever_has_the_address_and_protocols_have_ports() {
    let rules = "egress:\n- action: Deny\n  to: [{networks: [10.2.0.0/16, 203.0.113.0/24]}]\n  protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 50, end: 60}}}}, {sctp: {}}]";
    check(
        &[&policy("Admin", 1, rules)],
        &[
            "y/a ! 203.0.113.9 80/TCP",
            "y/a > 203.0.113.9 81/TCP",
            "y/a ! 203.0.113.9 55/UDP",
            "y/a > 203.0.113.9 61/UDP",
            "y/a ! 203.0.113.9 7/SCTP",
            "y/a > 203.0.113.9 8/ICMP",
            "y/a ! us:x/a 80/TCP",
            "y/a > us:x/a 8080/TCP",
            "y/a > x/a 80/TCP",
        ],
    );
}

#[test]
fn a_denial_of_networks_says_that_it_does_not_hold_for_the_host() {
    for (networks, said) in [
        ("192.0.2.0/24", TO_HOST),
        ("0.0.0.0/0", TO_HOST),
        ("192.0.2.8/29", "enforced: "),
    ] {
        let rules = format!("egress:\n- {{action: Deny, to: [{{networks: [{networks}]}}]}}");
        let mut mesh = mesh();
        mesh.write(1, "policy.yaml", &policy("Admin", 1, &rules));
        let denied = mesh.says("ClusterNetworkPolicy", "admin-1");
        assert_eq!(denied, said, "{networks}");
        let pass = policy("Admin", 1, &rules.replace("Deny", "Pass"));
        mesh.write(1, "policy.yaml", &pass);
        assert_eq!(mesh.says("ClusterNetworkPolicy", "admin-1"), "enforced: ");
    }
}

#[test]
fn a_named_port_is_that_of_each_pod() {
    let rules = "egress:\n- {action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}";
    check(
        &[&policy("Admin", 1, rules)],
        &[
            "y/a ! x/a 8080/TCP",
            "y/a > x/a 8080/UDP",
            "y/a > x/a 80/TCP",
            "y/a > us:x/a 8080/TCP",
        ],
    );
}

#[test]
fn what_is_not_enforced_or_no_policy_at_all_denies_what_it_selects() {
    for (rules, reason) in [
        (
            "egress:\n- {action: Deny, to: [{nodes: {}}]}",
            "line 9: a peer has the field `nodes`, which is not enforced",
        ),
        (
            "egress:\n- {action: Accept, to: [{domainNames: [example.org]}]}",
            "line 9: a peer has the field `domainNames`, which is not enforced",
        ),
        (
            "egress:\n- {action: Allow, to: [{namespaces: {}}]}",
            "line 9: `action` cannot be \"Allow\": write one of: Accept, Deny, Pass",
        ),
        (
            "egress:\n- {action: Accept, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 9, end: 8}}}}]}",
            "line 9: `end` must be a whole number from 9 to 65535, not the number 8",
        ),
        (
            "egress:\n- {action: Deny, to: []}",
            "line 9: `to` is empty: list at least one",
        ),
        (
            "egress:\n- {action: Deny, to: [{networks: []}]}",
            "line 9: `networks` is empty: list at least one",
        ),
        (
            "egress:\n- {action: Deny, to: [{namespaces: {}}], protocols: []}",
            "line 9: `protocols` is empty: list at least one",
        ),
        (
            "egress:\n- {action: Deny, to: [{namespaces: {}}], protocols: [{tcp: }]}",
            "line 9: an item of `protocols` speaks of one protocol: write one of `tcp`, `udp`, `sctp` or `destinationNamedPort`",
        ),
        (
            "egress:\n- {action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: http}]}",
            "line 9: networks have no ports with names: make two rules of it",
        ),
        (
            "egress:\n- {to: [{namespaces: {}}]}",
            "line 9: a rule of `egress` has no `action`: write Accept, Deny or Pass",
        ),
    ] {
        let mut mesh = mesh();
        mesh.write(1, "policy.yaml", &policy("Admin", 1, rules));
        let said = mesh.says("ClusterNetworkPolicy", "admin-1");
        assert_eq!(said, format!("refused: {reason}"), "{rules}");
        assert_flows(
            &mesh,
            &["y/a ! x/a 80/TCP", "x/a > y/a 80/TCP", "x/a > z/a 80/TCP"],
        );
    }
    // An empty section governs nothing.
    for (rules, flows) in [
        (
            "ingress: []\negress: [{action: Deny}]",
            ["y/a ! x/a 80/TCP", "x/a > y/a 80/TCP"],
        ),
        (
            "ingress: [{action: Deny}]\negress: []",
            ["y/a > x/a 80/TCP", "x/a ! y/a 80/TCP"],
        ),
    ] {
        check(&[&policy("Admin", 1, rules)], &flows);
    }
    let unreadable = policy("Admin", 1, &from_x("Accept"))
        .replace("namespaces: {matchLabels: {team: blue}}", "everything: {}");
    check(
        &[&unreadable],
        &[
            "x/a ! y/a 80/TCP",
            "x/a ! z/a 80/TCP",
            "x/a > us:z/a 80/TCP",
        ],
    );
}
