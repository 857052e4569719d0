//! Answers about a small world, whose every word is looked at.
//!
//! ```text
//!   eu (1): eu-1 (this node) 192.0.2.1, pods 10.1.0.0/24      us (2): us-1 192.0.2.2
//!           eu-2             192.0.2.11, pods 10.1.1.0/24             pods 10.2.0.0/24
//! ```

use mesh::{Event, Scope, Settings, World, parse};

use super::{Answer, Explainer, Question};

const KEY_2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const KEY_3: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn node(name: &str, address: &str, pods: &str, key: &str) -> String {
    without_key(name, address, pods).replace(
        &format!("metadata: {{name: {name}}}"),
        &format!(
            "metadata: {{name: {name}, annotations: {{network.cilium.io/wg-pub-key: {key}}}}}"
        ),
    )
}

/// As kubectl prints it where nobody has published a key.
fn without_key(name: &str, address: &str, pods: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\n\
         metadata: {{name: {name}}}\n\
         spec: {{podCIDRs: [{pods}]}}\n\
         status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
    )
}

fn pod(name: &str, node: &str, address: &str, more: &str) -> String {
    let addresses = match address {
        "" => String::new(),
        address => format!("{{ip: {address}}}"),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}{more}}}\n\
         spec: {{nodeName: {node}}}\n\
         status: {{phase: Running, podIPs: [{addresses}], \
         conditions: [{{type: Ready, status: \"True\"}}]}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

fn service(name: &str, number: u8, app: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: 10.101.0.{number}, selector: {{app: {app}}}, \
         ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    )
}

/// The world above with a front and a back, and what else a test wants in cluster eu.
fn world(more: &str) -> Explainer {
    let prefixes = ["10.2.0.0/16", "192.0.2.2/32"];
    let mut world = World::new(Settings {
        cluster: "eu".into(),
        id: 1,
        node: "eu-1".into(),
        clusters: vec![Scope {
            name: "us".into(),
            id: 2,
            prefixes: prefixes.map(|p| p.parse().unwrap()).into(),
        }],
        keys: Vec::new(),
        audit: false,
    });
    let eu = [
        without_key("eu-1", "192.0.2.1", "10.1.0.0/24"),
        node("eu-2", "192.0.2.11", "10.1.1.0/24", KEY_3),
        pod("front", "eu-1", "10.1.0.1", ""),
        pod("back", "eu-2", "10.1.1.1", ""),
        more.to_owned(),
    ];
    let us = [
        node("us-1", "192.0.2.2", "10.2.0.0/24", KEY_2),
        pod("front", "us-1", "10.2.0.1", ""),
    ];
    for (cluster, file, text) in [(1, "eu.yaml", eu.concat()), (2, "us.yaml", us.concat())] {
        let parsed = parse(file, &text);
        assert_eq!(parsed.problems, [], "{text}");
        let (file, hash) = (file.to_owned(), String::from("x"));
        world.apply(Event::File {
            cluster,
            file,
            parsed,
            hash,
        });
    }
    world.apply(Event::Loaded);
    Explainer::new(world.compile())
}

fn question(from: &str, to: &str) -> Question {
    Question {
        from: from.to_owned(),
        to: to.to_owned(),
        port: 80,
        protocol: String::from("TCP"),
    }
}

fn ask(explainer: &Explainer, from: &str, to: &str) -> Answer {
    explainer.answer(&question(from, to)).expect("an answer")
}

/// Verdict and name of each rule that matched; the one that decides is marked.
fn rules(end: &super::End) -> Vec<String> {
    let one = |matched: &super::Match| {
        let mark = if matched.decides { "* " } else { "" };
        let (rule, place) = matched.rule.rsplit_once(" (").expect("a place");
        assert!(place.starts_with("eu.yaml:"), "{place}");
        format!("{mark}{} {rule}", matched.verdict)
    };
    end.rules.iter().map(one).collect()
}

#[test]
fn all_rules_that_matched_are_listed_in_their_order_and_which_decided() {
    let from_all = "{podSelector: {matchLabels: {app: back}}, ingress: [{from: []}]}";
    let from_front = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}, \
                      {from: [{podSelector: {matchLabels: {app: front}}}]}]}";
    let explainer = world(&[policy("a", from_front), policy("b", from_all)].concat());
    let answer = ask(&explainer, "shop/front", "shop/back");
    assert_eq!(answer.verdict, "allow");
    let ingress = &answer.ends.ingress;
    assert_eq!(
        rules(ingress),
        [
            "* allow NetworkPolicy shop/a ingress[1]",
            "allow NetworkPolicy shop/b ingress[0]"
        ]
    );
    assert_eq!(ingress.isolated, Some(true));
    assert_eq!(ingress.why, "a rule allows it; shop/back is isolated");
    assert_eq!(answer.rules.len(), 2);
    let egress = &answer.ends.egress;
    assert_eq!((egress.isolated, egress.rules.len()), (Some(false), 0));
    assert_eq!(
        egress.why,
        "shop/front is not isolated, and no rule denies it"
    );
}

#[test]
fn isolation_names_every_policy_that_isolates() {
    let none = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    let explainer = world(&[policy("a", none), policy("b", none)].concat());
    let answer = ask(&explainer, "shop/front", "shop/back");
    assert_eq!(answer.reason.as_deref(), Some("egressDenied"));
    for (end, direction) in [
        (&answer.ends.egress, "egress"),
        (&answer.ends.ingress, "ingress"),
    ] {
        let expected = [
            format!("* isolates NetworkPolicy shop/a {direction}"),
            format!("isolates NetworkPolicy shop/b {direction}"),
        ];
        assert_eq!(rules(end), expected);
        assert!(end.why.ends_with("is isolated, and no rule allows it"));
    }
}

#[test]
fn a_refused_policy_says_why_it_cannot_be_enforced() {
    let explainer = world(&policy("future", "{podSelector: {}, fromTheFuture: 1}"));
    let answer = ask(&explainer, "shop/front", "shop/back");
    assert_eq!(answer.reason.as_deref(), Some("policyRefused"));
    let [rule] = &answer.rules[..] else {
        panic!("{answer:#?}")
    };
    assert!(rule.contains("fromTheFuture"), "{rule}");
    assert_eq!(answer.ends.ingress.rules[0].verdict, "refused");
}

#[test]
fn an_address_that_nobody_has_says_where_it_lies_and_who_claims_it() {
    let twice = ["one", "two"].map(|name| pod(name, "eu-1", "10.1.0.7", ""));
    let explainer = world(&twice.concat());
    let answer = ask(&explainer, "shop/front", "10.2.0.9");
    assert_eq!(answer.reason.as_deref(), Some("unknownDestination"));
    assert_eq!(answer.to.name, "unknown");
    assert_eq!(
        answer.ends.egress.why,
        "10.2.0.9 is in 10.2.0.0/24 of the mesh; no pod or node is known to have 10.2.0.9"
    );
    let answer = ask(&explainer, "10.1.0.7", "shop/front");
    assert_eq!(answer.reason.as_deref(), Some("unknownSource"));
    let why = &answer.ends.egress.why;
    assert!(
        why.starts_with("10.1.0.7 is in 10.1.0.0/24 of the mesh; 10.1.0.7 is claimed by pod"),
        "{why}"
    );
    let error = explainer.answer(&question("shop/one", "shop/front"));
    let error = error.expect_err("it has no address");
    assert!(error.starts_with("shop/one has no address that counts: 10.1.0.7 is claimed"));
}

#[test]
fn a_pod_that_does_not_run_yet_is_not_called_nobody() {
    let explainer = world(&pod("late", "eu-1", "", ""));
    let error = explainer.answer(&question("shop/late", "shop/front"));
    assert_eq!(
        error.expect_err("no address"),
        "shop/late has no address: it is not running yet, or not any more"
    );
}

#[test]
fn a_service_says_which_backends_it_has_and_which_ports() {
    let deleted = ", deletionTimestamp: \"2026-01-01T00:00:00Z\"";
    let more = [
        pod("going", "eu-1", "10.1.0.8", deleted),
        service("back", 1, "back"),
        service("nobody", 2, "nobody"),
        service("going", 3, "going"),
    ];
    let explainer = world(&more.concat());
    let answer = ask(&explainer, "shop/front", "svc:shop/back");
    assert_eq!(answer.backend.as_deref(), Some("10.1.1.1:8080"));
    assert_eq!(answer.frontend.as_deref(), Some("10.101.0.1:80"));
    let answer = ask(&explainer, "shop/front", "svc:shop/nobody");
    assert_eq!(answer.reason.as_deref(), Some("noBackend"));
    assert_eq!(answer.egress, "deny");
    assert_eq!(answer.ends.ingress.verdict, "notReached");
    assert!(answer.ends.egress.why.starts_with("no ready pod"));
    let other = Question {
        port: 81,
        ..question("shop/front", "svc:shop/back")
    };
    let answer = explainer.answer(&other).expect("an answer");
    assert_eq!(answer.reason.as_deref(), Some("noServicePort"));
    assert_eq!(
        answer.ends.egress.why,
        "the service's address has no such port, only 80/TCP (http)"
    );
    let answer = ask(&explainer, "198.51.100.7", "svc:shop/back");
    assert_eq!(answer.reason.as_deref(), Some("notOurs"));
    assert_eq!(answer.service.as_deref(), Some("shop/back"));
    assert_eq!(answer.backend, None);
}

/// A service with this behind the rest of its specification.
fn special(name: &str, number: u8, app: &str, more: &str) -> String {
    service(name, number, app).replace("]}\n", &format!("], {more}}}\n"))
}

#[test]
fn a_service_where_clients_stay_says_so_and_for_how_long() {
    let spec = "sessionAffinity: ClientIP, \
                sessionAffinityConfig: {clientIP: {timeoutSeconds: 90}}";
    let explainer = world(&special("back", 1, "back", spec));
    let answer = ask(&explainer, "shop/front", "svc:shop/back");
    assert_eq!(answer.session_affinity_seconds, Some(90));
    let text = answer.render();
    let expected = "  service  shop/back (10.101.0.1:80), to one of 10.1.1.1:8080; all flows of a\n           \
                    client go to the same one, and a client that came in the last 90 s\n           \
                    stays where it was\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn with_traffic_policy_local_each_client_has_what_its_own_node_has() {
    let more = [
        special("back", 1, "back", "internalTrafficPolicy: Local"),
        pod("near", "eu-2", "10.1.1.2", ""),
    ];
    let explainer = world(&more.concat());
    // The only backend is on eu-2: with this client, not with that one, whoever of both is asked.
    let answer = ask(&explainer, "shop/near", "svc:shop/back");
    assert_eq!(answer.verdict, "allow");
    assert_eq!(answer.internal_traffic_policy.as_deref(), Some("local"));
    assert_eq!(answer.backend.as_deref(), Some("10.1.1.1:8080"));
    assert_eq!(answer.backends, ["10.1.1.1:8080"]);
    let text = answer.render();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "to one of 10.1.1.1:8080, no other node's than the client's own";
    assert!(words.contains(expected), "{text}");
    let answer = ask(&explainer, "shop/front", "svc:shop/back");
    assert_eq!(answer.reason.as_deref(), Some("noBackend"));
    assert_eq!(
        answer.ends.egress.why,
        "no ready pod is behind it on the client's node, and internalTrafficPolicy: Local takes no \
         other node's"
    );
}

#[test]
fn with_traffic_policy_local_a_node_that_we_cannot_reach_has_its_own_backends_too() {
    let local = "internalTrafficPolicy: Local";
    let more = [
        without_key("eu-3", "192.0.2.12", "10.1.2.0/24"),
        pod("far", "eu-3", "10.1.2.1", ""),
        pod("next", "eu-3", "10.1.2.2", ""),
        special("far", 1, "far", local),
        special("front", 2, "front", local),
    ];
    let explainer = world(&more.concat());
    for from in ["shop/next", "192.0.2.12"] {
        let answer = ask(&explainer, from, "svc:shop/far");
        assert_eq!(answer.verdict, "allow", "{from}");
        assert_eq!(answer.backends, ["10.1.2.1:8080"], "{from}");
        // Its pod is on this node.
        let answer = ask(&explainer, from, "svc:shop/front");
        assert_eq!(answer.reason.as_deref(), Some("noBackend"), "{from}");
    }
    let answer = ask(&explainer, "shop/front", "svc:shop/far");
    assert_eq!(answer.reason.as_deref(), Some("noBackend"));
}

#[test]
fn no_policy_keeps_a_pod_from_itself_by_way_of_its_service_or_without() {
    for spec in [
        "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        "{podSelector: {}, fromTheFuture: 1}",
    ] {
        let more = [service("front", 1, "front"), policy("closed", spec)];
        let explainer = world(&more.concat());
        for (to, backend, way) in [
            (
                "svc:shop/front",
                Some("10.1.0.1:8080"),
                "back to itself, which sees the service's address at the other end",
            ),
            ("shop/front", None, "none, for it does not leave its sender"),
        ] {
            let answer = ask(&explainer, "shop/front", to);
            assert_eq!(answer.verdict, "allow");
            assert_eq!(answer.backend.as_deref(), backend);
            for end in [&answer.ends.egress, &answer.ends.ingress] {
                assert_eq!(end.why, "no policy can keep shop/front from itself");
                assert_eq!((end.isolated, end.rules.len()), (None, 0));
            }
            let text = answer.render();
            assert!(text.ends_with(&format!("\n  route    {way}\n")), "{text}");
        }
        let others = ask(&explainer, "shop/back", "svc:shop/front");
        assert_eq!(others.verdict, "deny");
    }
}

#[test]
fn another_clusters_end_is_its_own_to_judge() {
    let none = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    let explainer = world(&policy("a", none));
    let answer = ask(&explainer, "us/shop/front", "shop/front");
    assert_eq!(
        (answer.egress.as_str(), answer.verdict.as_str()),
        ("remote", "deny")
    );
    assert_eq!(answer.ends.egress.why, "cluster us judges this end");
    assert_eq!(answer.rules.len(), 1);
}

#[test]
fn a_node_reaches_its_own_pods_and_no_others_wherever_it_is_asked() {
    let none = "{podSelector: {}, policyTypes: [Ingress]}";
    let explainer = world(&policy("a", none));
    for (from, to, verdict) in [
        ("192.0.2.1", "shop/front", "allow"),
        ("192.0.2.11", "shop/back", "allow"),
        ("192.0.2.1", "shop/back", "deny"),
        ("192.0.2.11", "shop/front", "deny"),
    ] {
        let answer = ask(&explainer, from, to);
        assert_eq!(answer.verdict, verdict, "{from} to {to}");
    }
}

#[test]
fn a_node_that_we_cannot_reach_reaches_its_own_pods_all_the_same() {
    let none = "{podSelector: {}, policyTypes: [Ingress]}";
    let more = [
        without_key("eu-3", "192.0.2.12", "10.1.2.0/24"),
        pod("far", "eu-3", "10.1.2.1", ""),
        // Of a prefix that is no node's.
        pod("stray", "eu-3", "10.9.0.1", ""),
        pod("lost", "gone", "10.9.0.2", ""),
        policy("a", none),
    ];
    let explainer = world(&more.concat());
    for (from, to, verdict) in [
        ("192.0.2.12", "shop/far", "allow"),
        ("192.0.2.12", "shop/stray", "allow"),
        ("192.0.2.12", "shop/front", "deny"),
        ("192.0.2.12", "shop/back", "deny"),
        ("192.0.2.12", "shop/lost", "deny"),
        ("192.0.2.1", "shop/far", "deny"),
        ("192.0.2.1", "shop/lost", "deny"),
        ("192.0.2.11", "shop/far", "deny"),
        ("192.0.2.2", "shop/far", "deny"),
    ] {
        let answer = ask(&explainer, from, to);
        assert_eq!(answer.verdict, verdict, "{from} to {to}");
    }
}

#[test]
fn what_a_pod_and_its_own_node_send_each_other_is_said_not_to_pass_by_us() {
    let none = "{podSelector: {}, policyTypes: [Egress]}";
    let more = [
        without_key("eu-3", "192.0.2.12", "10.1.2.0/24"),
        pod("far", "eu-3", "10.1.2.1", ""),
        service("back", 1, "back"),
        policy("a", none),
    ];
    let explainer = world(&more.concat());
    for (from, to, verdict, noted) in [
        ("shop/front", "192.0.2.1", "deny", true),
        ("192.0.2.1", "shop/front", "allow", true),
        ("shop/back", "192.0.2.11", "deny", true),
        ("shop/far", "192.0.2.12", "deny", true),
        ("shop/front", "192.0.2.11", "deny", false),
        ("192.0.2.11", "shop/front", "allow", false),
        ("shop/front", "svc:shop/back", "deny", false),
        ("192.0.2.1", "192.0.2.1", "allow", false),
        // How that is in another cluster nobody knows here.
        ("us/shop/front", "192.0.2.2", "allow", false),
    ] {
        let answer = ask(&explainer, from, to);
        assert_eq!(answer.verdict, verdict, "{from} to {to}");
        assert_eq!(answer.note.is_some(), noted, "{from} to {to}");
        let json = serde_json::to_value(&answer).expect("JSON");
        assert_eq!(json["note"].is_string(), noted, "{from} to {to}");
    }
    let text = ask(&explainer, "shop/front", "192.0.2.1").render();
    assert!(
        text.starts_with(
            "DENY   shop/front to eu-1, 80/TCP\n       \
             egressDenied: no policy allows the source to send this\n       \
             note: traffic between a pod and its own node does not pass by us, so no\n       \
             policy stops it\n\n"
        ),
        "{text}"
    );
}

#[test]
fn an_answer_fits_a_terminal_and_says_each_step() {
    let allow = "{podSelector: {matchLabels: {app: back}}, \
                 ingress: [{from: [{podSelector: {matchLabels: {app: front}}}]}]}";
    let more = [service("back", 1, "back"), policy("to-back", allow)];
    let explainer = world(&more.concat());
    let text = ask(&explainer, "shop/front", "svc:shop/back").render();
    let expected = "\
ALLOW  shop/front to shop/back, 80/TCP

  from     shop/front (10.1.0.1), identity 120979: app=front; service account
           default; namespace shop; cluster eu
  service  shop/back (10.101.0.1:80), to one of 10.1.1.1:8080
  to       shop/back (10.1.1.1:8080), identity 73154: app=back; service account
           default; namespace shop; cluster eu
  egress   allow: shop/front is not isolated, and no rule denies it
  ingress  allow: a rule allows it; shop/back is isolated
        -> allow     NetworkPolicy shop/to-back ingress[0] (eu.yaml:31)
  route    through the tunnel to node eu-2
";
    assert_eq!(text, expected);
    let answer = ask(&explainer, "198.51.100.7", "shop/back");
    assert!(answer.render().starts_with(
        "DENY   world to shop/back, 80/TCP\n       \
         ingressDenied: no policy allows the destination to receive this\n\n  \
         from     world (198.51.100.7)\n"
    ));
}

#[test]
fn a_batch_answers_until_a_line_has_no_answer() {
    let explainer = world("");
    let good = r#"{"from":"shop/front","to":"shop/back","port":80}"#;
    let mut answers = Vec::new();
    let lines = format!("{good}\n\n  \n{good}\n");
    let read = explainer.answer_lines(lines.as_bytes(), &mut answers);
    assert_eq!(read, Ok(lines.len()));
    assert_eq!(answers.iter().filter(|byte| **byte == b'\n').count(), 2);
    for (bad, error) in [
        ("{", "EOF while parsing an object, at column"),
        (r#"{"from":"a/b","to":"shop/back"}"#, "nobody is called a/b"),
        (r#"{"from":"shop/front"}"#, "missing field `to`"),
    ] {
        let mut answers = Vec::new();
        let lines = format!("{good}\n\n{bad}\n{good}");
        let failed = explainer.answer_lines(lines.as_bytes(), &mut answers);
        let failed = failed.expect_err("a bad line");
        assert_eq!(failed.line, 3);
        assert!(failed.error.starts_with(error), "{}", failed.error);
        assert!(answers.ends_with(b"}\n"), "the first is answered");
    }
}
