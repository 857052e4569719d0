//! Services: which frontends there are, and which backends take new flows.

mod clients;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use balance::{Frontend, Service};
use mesh::{Event, State, parse};
use packet::protocol;

use crate::{Mesh, address, pod};

/// A service `shop/web` with annotations and a specification, both as YAML in flow style.
fn service(annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n"
    )
}

const GLOBAL: &str = "service.cilium.io/global: \"true\"";
const PLAIN: &str =
    "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]";

/// A slice of `shop/web` with endpoints in flow style; the port http is 9000.
fn slice(name: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\nports: [{{name: http, port: 9000, protocol: TCP}}]\nendpoints: [{endpoints}]\n"
    )
}

/// Two ready pods in each cluster, on eu-1, eu-2 and us-1.
fn mesh() -> Mesh {
    let mut mesh = Mesh::new();
    let eu = pod("shop", "w1", "eu-1", "10.1.0.1", "app: web")
        + &pod("shop", "w2", "eu-2", "10.1.1.2", "app: web");
    mesh.write(1, "pods.yaml", &eu);
    let us = pod("shop", "w3", "us-1", "10.2.0.3", "app: web")
        + &pod("shop", "w4", "us-1", "10.2.0.4", "app: web");
    mesh.write(2, "pods.yaml", &us);
    mesh
}

fn frontend(at: &str, port: u16) -> Frontend {
    Frontend {
        address: address(at),
        port,
        protocol: protocol::TCP,
    }
}

fn found<'m>(mesh: &'m Mesh, at: &str, port: u16) -> Option<&'m Arc<Service>> {
    mesh.snapshot().services.find(&frontend(at, port))
}

/// The backends that take new flows to an address and port, `address:port`, ascending.
fn in_use(mesh: &Mesh, at: &str, port: u16) -> Vec<String> {
    let Some(service) = found(mesh, at, port) else {
        return vec!["no service".into()];
    };
    let backends: BTreeSet<String> = service
        .in_use()
        .map(|b| format!("{}:{}", b.address, b.port))
        .collect();
    backends.into_iter().collect()
}

#[test]
fn a_service_without_slices_has_its_ready_pods() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", PLAIN));
    assert_eq!(
        in_use(&mesh, "10.96.0.1", 80),
        ["10.1.0.1:8080", "10.1.1.2:8080"]
    );
    let unready =
        pod("shop", "w2", "eu-2", "10.1.1.2", "app: web").replace("\"True\"", "\"False\"");
    mesh.write(1, "z.yaml", &unready);
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:8080"]);
    let by_number = PLAIN.replace("targetPort: http", "targetPort: 81");
    mesh.write(1, "service.yaml", &service("", &by_number));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:81"]);
}

#[test]
fn a_pod_that_loses_its_address_is_no_backend() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", PLAIN));
    mesh.write(1, "z.yaml", &pod("other", "o", "eu-1", "10.1.0.1", ""));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.1.2:8080"]);
    mesh.write(1, "z.yaml", "");
    assert_eq!(
        in_use(&mesh, "10.96.0.1", 80),
        ["10.1.0.1:8080", "10.1.1.2:8080"]
    );
}

#[test]
fn slices_say_who_is_active_terminating_or_out() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", PLAIN));
    let text = slice(
        "s",
        "{addresses: [10.1.0.1]}, \
         {addresses: [10.1.1.2], conditions: {ready: false, serving: true, terminating: true}}, \
         {addresses: [10.1.1.3], conditions: {ready: false, serving: false, terminating: true}}, \
         {addresses: [10.1.1.4], conditions: {ready: false}}",
    );
    mesh.write(1, "slice.yaml", &text);
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:9000"]);
    mesh.write(
        1,
        "slice.yaml",
        &text.replace("{addresses: [10.1.0.1]}, ", ""),
    );
    assert_eq!(
        in_use(&mesh, "10.96.0.1", 80),
        ["10.1.1.2:9000"],
        "the terminating one is left"
    );
}

#[test]
fn a_global_service_takes_what_other_clusters_share() {
    let remote = |annotations: &str| service(annotations, &PLAIN.replace("10.96", "10.97"));
    let both = [
        "10.1.0.1:8080",
        "10.1.1.2:8080",
        "10.2.0.3:8080",
        "10.2.0.4:8080",
    ];
    let local = &both[..2];
    let not_shared = format!("{GLOBAL}, service.cilium.io/shared: \"false\"");
    let table = [
        (GLOBAL, GLOBAL, &both[..]),
        ("", GLOBAL, local),
        (GLOBAL, "", local),
        (GLOBAL, not_shared.as_str(), local),
        ("service.cilium.io/global: \"True\"", GLOBAL, &both[..]),
        ("io.cilium/global-service: \"true\"", GLOBAL, &both[..]),
    ];
    for (own, theirs, expected) in table {
        let mut mesh = mesh();
        mesh.write(1, "service.yaml", &service(own, PLAIN));
        mesh.write(2, "service.yaml", &remote(theirs));
        assert_eq!(in_use(&mesh, "10.96.0.1", 80), expected, "{own} | {theirs}");
        assert_eq!(
            in_use(&mesh, "10.97.0.1", 80),
            ["no service"],
            "theirs is not ours"
        );
    }
}

#[test]
fn a_remote_service_without_a_local_one_does_nothing() {
    let mut mesh = mesh();
    mesh.write(2, "service.yaml", &service(GLOBAL, PLAIN));
    assert_eq!(mesh.snapshot().services.iter().len(), 0);
}

#[test]
fn ports_are_matched_by_name_and_each_cluster_has_its_own_number() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service(GLOBAL, PLAIN));
    let theirs = "clusterIP: 10.97.0.1, selector: {app: web}, ports: [{name: other, port: 80, targetPort: 1}, {name: http, port: 8, targetPort: 2}]";
    mesh.write(2, "service.yaml", &service(GLOBAL, theirs));
    let expected = ["10.1.0.1:8080", "10.1.1.2:8080", "10.2.0.3:2", "10.2.0.4:2"];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), expected);
}

#[test]
fn each_pod_has_its_own_number_for_a_port_that_is_named() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service(GLOBAL, PLAIN));
    mesh.write(2, "service.yaml", &service(GLOBAL, PLAIN));
    let other = |name, node, address, number| {
        pod("shop", name, node, address, "app: web").replace("8080", number)
    };
    mesh.write(1, "z.yaml", &other("w2", "eu-2", "10.1.1.2", "9090"));
    mesh.write(2, "z.yaml", &other("w4", "us-1", "10.2.0.4", "7070"));
    let expected = [
        "10.1.0.1:8080",
        "10.1.1.2:9090",
        "10.2.0.3:8080",
        "10.2.0.4:7070",
    ];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), expected);
    let nameless = pod("shop", "w2", "eu-2", "10.1.1.2", "app: web").replace("http", "other");
    mesh.write(1, "z.yaml", &nameless);
    let expected = [expected[0], expected[2], expected[3]];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), expected);
}

#[test]
fn affinity_and_health_choose_the_side() {
    let mut mesh = mesh();
    let affinity = |side: &str| {
        service(
            &format!("{GLOBAL}, service.cilium.io/affinity: {side}"),
            PLAIN,
        )
    };
    mesh.write(2, "service.yaml", &service(GLOBAL, PLAIN));
    let (eu, us) = (
        ["10.1.0.1:8080", "10.1.1.2:8080"],
        ["10.2.0.3:8080", "10.2.0.4:8080"],
    );

    mesh.write(1, "service.yaml", &affinity("local"));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), eu);
    mesh.write(1, "service.yaml", &affinity("remote"));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), us);

    let health = |answering| Event::NodeHealth {
        cluster: 2,
        node: "us-1".into(),
        answering,
    };
    mesh.world.apply(health(false));
    mesh.compile();
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), eu);
    mesh.world.apply(health(true));
    mesh.compile();
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), us);

    mesh.write(1, "service.yaml", &affinity("local"));
    mesh.write(1, "pods.yaml", "");
    assert_eq!(
        in_use(&mesh, "10.96.0.1", 80),
        us,
        "no local backend is left"
    );
}

#[test]
fn a_backend_of_the_own_cluster_behind_a_silent_node_is_left_out() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", PLAIN));
    mesh.world.apply(Event::NodeHealth {
        cluster: 1,
        node: "eu-2".into(),
        answering: false,
    });
    mesh.compile();
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:8080"]);
}

#[test]
fn both_families_have_frontends_with_backends_of_their_own_family() {
    let mut mesh = mesh();
    let six = pod("shop", "w6", "eu-1", "fd10:1::6", "app: web");
    mesh.write(1, "six.yaml", &six);
    let spec = PLAIN.replace(
        "clusterIP: 10.96.0.1",
        "clusterIPs: [10.96.0.1, \"fd96::1\"]",
    );
    mesh.write(1, "service.yaml", &service("", &spec));
    assert_eq!(
        in_use(&mesh, "10.96.0.1", 80),
        ["10.1.0.1:8080", "10.1.1.2:8080"]
    );
    assert_eq!(in_use(&mesh, "fd96::1", 80), ["fd10:1::6:8080"]);
    assert_eq!(mesh.last.host.frontends.len(), 2);
    assert_eq!(mesh.last.host.global_frontends, []);
}

/// Pods with an address of either family in both clusters.
fn dual() -> Mesh {
    let mut mesh = mesh();
    let both = |name, node, four: &str, six: &str| {
        let one = format!("[{{ip: \"{four}\"}}]");
        let two = format!("[{{ip: \"{four}\"}}, {{ip: \"{six}\"}}]");
        pod("shop", name, node, four, "app: web").replace(&one, &two)
    };
    let eu = both("w1", "eu-1", "10.1.0.1", "fd10:1::1");
    mesh.write(1, "pods.yaml", &eu);
    let us = both("w3", "us-1", "10.2.0.3", "fd10:2::3");
    mesh.write(2, "pods.yaml", &us);
    mesh
}

#[test]
fn each_address_of_a_dual_stack_service_has_all_backends_of_its_family() {
    let mut mesh = dual();
    let spec = |ips: &str| {
        let ips = format!("clusterIPs: [{ips}], ipFamilyPolicy: PreferDualStack");
        PLAIN.replace("clusterIP: 10.96.0.1", &ips)
    };
    mesh.write(
        1,
        "service.yaml",
        &service(GLOBAL, &spec("\"fd96::1\", 10.96.0.1")),
    );
    mesh.write(2, "service.yaml", &service(GLOBAL, &spec("10.97.0.1")));
    let four = ["10.1.0.1:8080", "10.2.0.3:8080"];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), four);
    // What the other cluster's own address is does not matter, nor how many it has.
    let six = ["fd10:1::1:8080", "fd10:2::3:8080"];
    assert_eq!(in_use(&mesh, "fd96::1", 80), six);
    // In a cluster of one family, PreferDualStack gives one address.
    mesh.write(1, "service.yaml", &service(GLOBAL, &spec("10.96.0.1")));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), four);
    assert_eq!(mesh.snapshot().services.iter().len(), 1);
    assert_eq!(mesh.status("Service", "web").state, State::Enforced);
    mesh.write(1, "service.yaml", &service(GLOBAL, &spec("\"fd96::1\"")));
    assert_eq!(in_use(&mesh, "fd96::1", 80), six);
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["no service"]);
}

#[test]
fn slices_of_either_family_serve_the_address_of_theirs() {
    let mut mesh = dual();
    let ips = "clusterIPs: [10.96.0.1, \"fd96::1\"]";
    let spec = PLAIN.replace("clusterIP: 10.96.0.1", ips);
    mesh.write(1, "service.yaml", &service("", &spec));
    let six = slice("six", "{addresses: [\"fd10:1::1\"]}");
    mesh.write(1, "six.yaml", &six.replace("IPv4", "IPv6"));
    assert_eq!(in_use(&mesh, "fd96::1", 80), ["fd10:1::1:9000"]);
    assert!(in_use(&mesh, "10.96.0.1", 80).is_empty());
    mesh.write(1, "four.yaml", &slice("four", "{addresses: [10.1.0.1]}"));
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), ["10.1.0.1:9000"]);
}

#[test]
fn backends_outside_of_their_clusters_scope_are_left_out_and_named() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service(GLOBAL, PLAIN));
    mesh.write(2, "service.yaml", &service(GLOBAL, PLAIN));
    mesh.write(
        2,
        "slice.yaml",
        &slice("s", "{addresses: [10.2.0.9]}, {addresses: [10.1.0.1]}"),
    );
    let expected = ["10.1.0.1:8080", "10.1.1.2:8080", "10.2.0.9:9000"];
    assert_eq!(in_use(&mesh, "10.96.0.1", 80), expected);
    assert_eq!(
        mesh.says("EndpointSlice", "s"),
        "refused: 10.1.0.1 is outside of the prefixes of cluster us"
    );
}

#[test]
fn what_cannot_be_served_says_so() {
    let table = [
        (
            "type: ExternalName, externalName: example.org",
            "ignored: an ExternalName is a matter of DNS",
        ),
        (
            "clusterIP: None, ports: [{port: 80}]",
            "ignored: headless: clients take its pods from DNS",
        ),
        (
            "clusterIP: 10.96.0.1, ports: [{port: 80}], trafficDistribution: PreferClose",
            "partly: trafficDistribution is not done: no backend is preferred",
        ),
        (
            "clusterIP: 10.2.0.1, ports: [{port: 80}]",
            "refused: 10.2.0.1 lies in the prefixes of cluster us",
        ),
        (
            "clusterIP: 10.1.0.1, ports: [{port: 80}]",
            "refused: 10.1.0.1 lies among the addresses of pods and nodes",
        ),
    ];
    for (spec, expected) in table {
        let mut mesh = mesh();
        mesh.write(1, "service.yaml", &service("", spec));
        assert_eq!(mesh.says("Service", "web"), expected, "{spec}");
    }
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it() {
    let mut mesh = mesh();
    let other = service("", PLAIN).replace("name: web", "name: other");
    mesh.write(1, "service.yaml", &(service("", PLAIN) + &other));
    assert_eq!(
        mesh.says("Service", "web"),
        "refused: 10.96.0.1 port 80 is that of shop/other already"
    );
    assert_eq!(mesh.status("Service", "other").state, State::Enforced);
}

#[test]
fn a_change_elsewhere_keeps_the_lookup_tables() {
    let mut mesh = mesh();
    mesh.write(1, "service.yaml", &service("", PLAIN));
    let table = |mesh: &Mesh| mesh.snapshot().services.iter().next().unwrap().1.clone();
    let before = table(&mesh);
    mesh.write(
        1,
        "new.yaml",
        &pod("other", "o", "eu-1", "10.1.0.50", "app: o"),
    );
    assert!(std::sync::Arc::ptr_eq(&before, &table(&mesh)));
}
