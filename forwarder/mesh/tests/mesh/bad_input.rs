//! Each mistake is said once, at its place, with what to write instead.

use mesh::{Object, Refused, parse};

/// A policy with `spec` as its specification, whose first line is line 5.
fn policy(spec: &str) -> String {
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec:\n";
    let indented: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    format!("{head}{}\n", indented.join("\n"))
}

fn problems(text: &str) -> Vec<String> {
    parse("f.yaml", text)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_text_that_is_no_yaml_is_one_problem() {
    let problems = problems("a: [1\nb: }\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("f.yaml:2:"), "{problems:?}");
}

#[test]
fn what_makes_no_object_is_said_at_its_place() {
    let node = |annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  annotations:\n    {annotation}\n"
        )
    };
    let table = [
        ("just text\n".into(), "f.yaml:1:1: a manifest must be a map, not \"just text\""),
        ("apiVersion: v1\nmetadata: {name: x}\n".into(), "f.yaml:1:1: a manifest has no `kind`"),
        ("kind: Pod\nmetadata: {name: x}\n".into(), "f.yaml:1:1: a manifest has no `apiVersion`"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {namespace: x}\n".into(), "f.yaml:3:11: `metadata` has no `name`"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n  labels: {version: 1}\n".into(),
            "f.yaml:5:21: a label `version` must be text, not the number 1",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {podIPs: [{ip: 10.1.0.300}]}\n".into(),
            "f.yaml:4:24: a pod's address: \"10.1.0.300\" is not an IP address",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {podIPs: [10.1.0.3]}\n".into(),
            "f.yaml:4:19: an item of `status.podIPs` must be a map, not \"10.1.0.3\"",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: x}\nstatus: {addresses: [{address: 192.0.2.1}]}\n".into(),
            "f.yaml:4:22: an item of `status.addresses` has no `type`",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {podIP: \"::ffff:10.1.0.3\"}\n".into(),
            "f.yaml:4:17: a pod's address: ::ffff:10.1.0.3 is an IPv4 address in disguise",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: x}\nspec: {podCIDRs: [10.1.0.1/24]}\n".into(),
            "f.yaml:4:19: `spec.podCIDRs`: \"10.1.0.1/24\" is not a prefix, such as 10.1.0.0/24",
        ),
        (
            node("network.cilium.io/wg-pub-key: c2hvcnQ="),
            "f.yaml:6:35: \"c2hvcnQ=\" is not a WireGuard public key",
        ),
        (
            node("network.cilium.io/wg-pub-key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "f.yaml:6:35: a public key of zeros is nobody's",
        ),
        (
            node("farlane.io/endpoint: 192.0.2.1"),
            "f.yaml:6:26: \"192.0.2.1\" is not an address with a port",
        ),
        (
            node("farlane.io/lanes: \"[]\""),
            "f.yaml:6:23: `farlane.io/lanes` lists 0 lanes",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  ports: [{name: a, port: 80}, {name: a, port: 81}]\n".into(),
            "f.yaml:5:32: two ports have the name \"a\"",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: http}]}\n".into(),
            "f.yaml:4:23: a service's `port` must be a whole number from 1 to 65535, not \"http\"",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1, protocol: tcp}]}\n".into(),
            "f.yaml:4:36: `protocol` cannot be \"tcp\"",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems(&text), [expected], "{text}");
    }
}

/// Why the policy that a text begins with is refused; nothing else in the text is.
fn refused(text: &str) -> Refused {
    let other = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: y}\n";
    let parsed = parse("f.yaml", &format!("{text}{other}"));
    assert_eq!(parsed.problems, [], "{text}");
    assert_eq!(parsed.objects.len(), 2, "{text}");
    let Object::Policy(policy) = &parsed.objects[0].object else {
        panic!("{text}")
    };
    assert!(policy.parts[0].ingress, "{text}");
    assert!(policy.parts[0].rules.is_empty(), "{text}");
    policy.refused.clone().unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn what_kubernetes_would_not_take_in_a_policy_refuses_it_too() {
    let table = [
        (
            "podSelector: []",
            "5:16 `podSelector` must be a map, not a list",
        ),
        (
            "ingress:\n- from:\n  - {}",
            "7:7 an empty peer selects nothing",
        ),
        (
            "ingress:\n- from:\n  - podSelector: {}\n    ipBlock: {cidr: 10.0.0.0/8}",
            "8:16 a peer is either addresses or pods",
        ),
        (
            "egress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}",
            "7:44 11.0.0.0/8 is not a part of 10.0.0.0/8",
        ),
        (
            "egress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/33}",
            "7:23 `cidr`: \"10.0.0.0/33\" is not a prefix, such as 10.2.0.0/16",
        ),
        (
            "ingress:\n- ports: [{port: \"80\"}]",
            "6:20 `port`: \"80\" is not the name of a port",
        ),
        (
            "ingress:\n- ports: [{port: 0}]",
            "6:20 `port` must be a whole number from 1 to 65535, not the number 0",
        ),
        (
            "ingress:\n- ports: [{port: 90, endPort: 80}]",
            "6:33 `endPort` must be a whole number from 90 to 65535, not the number 80",
        ),
        (
            "ingress:\n- ports: [{endPort: 80}]",
            "6:23 `endPort` without `port`",
        ),
        (
            "podSelector:\n  matchExpressions: [{key: a, operator: In}]",
            "6:43 this operator compares with nothing",
        ),
        (
            "podSelector:\n  matchExpressions: [{key: a, operator: Exists, values: [b]}]",
            "6:43 this operator has no values",
        ),
    ];
    for (spec, expected) in table {
        let Refused { reason, at, .. } = refused(&policy(spec));
        let said = format!("{}:{} {reason}", at.line, at.column);
        assert!(said.starts_with(expected), "{spec}: {said}");
    }
}

#[test]
fn what_we_would_not_enforce_refuses_the_policy_and_no_other() {
    let table = [
        (
            "podSelector: {}\nloging: true",
            6,
            "`spec` has the field `loging`, which is not enforced",
        ),
        (
            "ingress:\n- from: []\n  action: Deny",
            7,
            "a rule of `ingress` has the field `action`, which is not enforced",
        ),
        (
            "ingress:\n- from:\n  - serviceAccountSelector: {}",
            7,
            "a peer has the field `serviceAccountSelector`, which is not enforced",
        ),
        (
            "ingress:\n- ports:\n  - {port: 80, protocol: QUIC}",
            7,
            "the protocol \"QUIC\" is not enforced",
        ),
        (
            "ingress:\n- ports:\n  - {port: 80, icmpType: 3}",
            7,
            "an item of `ports` has the field `icmpType`, which is not enforced",
        ),
        (
            "ingress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/8, name: x}",
            7,
            "`ipBlock` has the field `name`, which is not enforced",
        ),
        (
            "policyTypes: [Ingress, Forward]",
            5,
            "the policy type \"Forward\" is not enforced",
        ),
        (
            "podSelector:\n  matchExpressions: [{key: a, operator: Matches, values: [b]}]",
            6,
            "the operator \"Matches\" is not enforced",
        ),
    ];
    for (spec, line, expected) in table {
        let Refused { reason, at, .. } = refused(&policy(spec));
        assert_eq!((at.line, reason.as_str()), (line, expected), "{spec}");
    }
}

#[test]
fn a_refused_policy_governs_every_direction_that_it_may_have_meant() {
    for (spec, governs) in [
        ("egress: {to: []}", [true, true]),
        ("egress: [x]", [true, true]),
        ("egress: []", [true, false]),
        ("policyTypes: [Egress]", [false, true]),
        ("policyTypes: Egress", [true, true]),
        ("policyTypes: [Ingress]\nEgress: []", [true, true]),
        ("policyTypes: [Egress]\nloging: []", [false, true]),
    ] {
        // The last field refuses it in any case, without saying anything of directions.
        let parsed = parse("f.yaml", &policy(&format!("{spec}\npodSelector: []")));
        let Object::Policy(policy) = &parsed.objects[0].object else {
            panic!("{spec}")
        };
        assert!(policy.refused.is_some(), "{spec}");
        let part = &policy.parts[0];
        assert_eq!([part.ingress, part.egress], governs, "{spec}");
    }
}

#[test]
fn all_mistakes_of_a_file_come_at_once_in_the_order_of_the_file() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: 7}\n---\nkind: x\n";
    assert_eq!(
        problems(text),
        [
            "f.yaml:3:11: `metadata` has no `name`",
            "f.yaml:7:18: `metadata.name` must be text, not the number 7",
            "f.yaml:9:1: a manifest has no `apiVersion`",
        ]
    );
}
