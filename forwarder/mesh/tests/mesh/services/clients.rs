//! Where clients stay, and whose backends they may have.

use super::*;

#[test]
fn a_client_stays_as_long_as_the_service_says() {
    let table = [
        ("sessionAffinity: None", None),
        ("sessionAffinity: null", None),
        ("sessionAffinity: ClientIP", Some(10_800)),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {}}",
            Some(10_800),
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}",
            Some(1),
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}",
            Some(86_400),
        ),
    ];
    let mut mesh = mesh();
    for (spec, seconds) in table {
        // Of one and the same service: a change of this alone is a change.
        mesh.write(1, "service.yaml", &service("", &format!("{PLAIN}, {spec}")));
        let stays = found(&mesh, "10.96.0.1", 80).expect("it").client_stays;
        assert_eq!(stays, seconds.map(Duration::from_secs), "{spec}");
        assert_eq!(mesh.status("Service", "web").state, State::Enforced);
    }
}

#[test]
fn mistakes_of_affinity_and_policy_are_shown_at_their_place() {
    let timeout = |text: &str| {
        format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {text}}}}}"
        )
    };
    let of_range = "`timeoutSeconds` must be a whole number from 1 to 86400, not";
    let table = [
        (timeout("0"), format!("{of_range} the number 0")),
        (timeout("86401"), format!("{of_range} the number 86401")),
        (timeout("soon"), format!("{of_range} \"soon\"")),
        (
            "sessionAffinity: clientip".into(),
            "`sessionAffinity` cannot be \"clientip\"".into(),
        ),
        (
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}".into(),
            "`sessionAffinityConfig` needs `sessionAffinity: ClientIP`".into(),
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeout: 5}}".into(),
            "`clientIP` has no key `timeout`".into(),
        ),
        (
            "internalTrafficPolicy: Node".into(),
            "`internalTrafficPolicy` cannot be \"Node\"".into(),
        ),
    ];
    for (spec, expected) in table {
        let text = service("", &format!("{PLAIN}, {spec}"));
        let parsed = parse("service.yaml", &text);
        let said: Vec<&str> = parsed.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(said, [expected], "{spec}");
        assert_eq!(parsed.problems[0].line, 5);
    }
}

/// `PLAIN` for clients of the same node only.
fn local() -> String {
    format!("{PLAIN}, internalTrafficPolicy: Local")
}

#[test]
fn with_traffic_policy_local_only_backends_of_this_node_serve() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", &local()));
    assert_eq!(mesh.status("Service", "web").state, State::Enforced);
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:8080"]);
    // The other node has its own, which is known to whoever asks what happens there.
    let elsewhere = &mesh.last.elsewhere[&frontend("10.96.0.1", 80)];
    let elsewhere: Vec<String> = elsewhere
        .iter()
        .map(|other| format!("{} {}", other.node, other.backend.address))
        .collect();
    assert_eq!(elsewhere, ["eu-2 10.1.1.2"]);
    // A pod that is not ready, and one that comes.
    let own = pod("shop", "w1", "eu-1", "10.1.0.1", "app: web");
    mesh.write(1, "z.yaml", &own.replace("\"True\"", "\"False\""));
    assert!(in_use(&mesh, "10.96.0.1", 80).is_empty());
    let new = pod("shop", "w5", "eu-1", "10.1.0.5", "app: web");
    mesh.write(1, "y.yaml", &new);
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.5:8080"]);
    // And back to all, by nothing else than the policy.
    mesh.write(1, "service.yaml", &service("", PLAIN));
    let all = ["10.1.0.5:8080", "10.1.1.2:8080"];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), all);
    assert!(mesh.last.elsewhere.is_empty());
}

#[test]
fn slices_say_which_backends_are_of_this_node() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", &local()));
    let endpoints = "{addresses: [10.1.0.1], nodeName: eu-1}, \
                     {addresses: [10.1.1.2], nodeName: eu-2}, \
                     {addresses: [10.1.0.9]}";
    mesh.write(1, "slice.yaml", &slice("s", endpoints));
    // Of one that has no node it is not known that it is on this one (as kube-proxy sees it).
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:9000"]);
    let moved = endpoints.replace("eu-1", "eu-2");
    mesh.write(1, "slice.yaml", &slice("s", &moved));
    assert!(in_use(&mesh, "10.96.0.1", 80).is_empty());
}

#[test]
fn a_local_traffic_policy_holds_for_a_global_service_whatever_its_affinity() {
    // The other cluster has a node of this one's name.
    for affinity in ["none", "local", "remote"] {
        let mut mesh = mesh();
        let notes = format!("{GLOBAL}, service.cilium.io/affinity: {affinity}");
        mesh.write(1, "service.yaml", &service(&notes, &local()));
        mesh.write(2, "service.yaml", &service(GLOBAL, PLAIN));
        let namesake = "{addresses: [10.2.0.3], nodeName: eu-1}";
        mesh.write(2, "slice.yaml", &slice("s", namesake));
        assert_eq!(
            in_use(&mesh, "10.96.0.1", 80),
            ["10.1.0.1:8080"],
            "{affinity}"
        );
        mesh.write(1, "pods.yaml", "");
        assert!(in_use(&mesh, "10.96.0.1", 80).is_empty(), "{affinity}");
        // What the other cluster's object says of this is for its own clients.
        mesh.write(1, "service.yaml", &service(&notes, PLAIN));
        mesh.write(2, "service.yaml", &service(GLOBAL, &local()));
        assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.2.0.3:9000"]);
    }
}
