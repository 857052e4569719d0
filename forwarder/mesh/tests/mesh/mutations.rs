//! Whatever is done to a manifest, reading it and living with it never panics.

use mesh::{Event, World, parse};
use proptest::prelude::*;

use crate::{KEY_2, namespace, node, pod, settings};

fn seed() -> String {
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec:\n  podSelector: {matchExpressions: [{key: app, operator: In, values: [a]}]}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n    - namespaceSelector: {}\n    ports: [{port: 80, endPort: 90}, {protocol: UDP, port: dns}]\n";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: w, namespace: x, annotations: {service.cilium.io/global: \"true\"}}\nspec: {clusterIPs: [10.96.0.1, \"fd96::1\"], selector: {app: a}, ports: [{name: h, port: 80, targetPort: http}]}\n";
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {name: s, namespace: x, labels: {kubernetes.io/service-name: w}}\nports: [{name: h, port: 9000}]\nendpoints: [{addresses: [10.1.0.3], conditions: {ready: true}}]\n";
    let cilium = "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\nspecs:\n- endpointSelector: {matchLabels: {\"k8s:a\": b}}\n  enableDefaultDeny: {ingress: true}\n  ingress:\n  - fromEntities: [cluster, world]\n    toPorts: [{ports: [{port: \"80\", endPort: 90, protocol: TCP}, {port: dns}]}]\n  - icmps: [{fields: [{type: EchoRequest}, {family: IPv6, type: 128}]}]\n  egressDeny:\n  - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]\n  egress:\n  - toServices: [{k8sService: {serviceName: w, namespace: x}}]\n";
    let admin = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: n}\nspec:\n  tier: Admin\n  priority: 7\n  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}}\n  egress:\n  - action: Pass\n    to: [{networks: [10.0.0.0/8, \"fd00::/8\"]}, {namespaces: {}}]\n    protocols: [{tcp: {destinationPort: {range: {start: 1, end: 9}}}}, {destinationNamedPort: dns}]\n";
    node("eu-1", "192.0.2.1", "10.1.0.0/24", Some(KEY_2))
        + &namespace("x", "team: red")
        + &pod("x", "a", "eu-1", "10.1.0.3", "app: a")
        + policy
        + service
        + slice
        + cilium
        + admin
}

/// One edit: at a place, so many characters are replaced by a text.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, String)>> {
    let pieces = prop_oneof![
        "[-a-z0-9:{}\\[\\],\"'&*|>#%@!?\n\t ]{0,6}",
        Just("---\n".to_string()),
        Just("null".to_string()),
        Just("-1".to_string()),
        Just("99999999999999999999999999999999999999999".to_string()),
        Just("&a [*a]".to_string()),
        Just("<<: {a: b}".to_string()),
        Just("\u{feff}".to_string()),
        Just("0.0.0.0/0".to_string()),
        Just("::/0".to_string()),
    ];
    proptest::collection::vec((any::<usize>(), 0..40usize, pieces), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_manifest_never_panics(edits in edits(), cluster in 1u8..3) {
        let mut text: Vec<char> = seed().chars().collect();
        for (at, remove, insert) in edits {
            let at = at % (text.len() + 1);
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let mut parsed = parse("f.yaml", &text);
        for problem in &parsed.problems {
            problem.render(&text);
        }
        // What a file with problems has left is used all the same here: it must not matter.
        parsed.problems.clear();
        let mut world = World::new(settings());
        let hash = "h".into();
        world.apply(Event::File { cluster, file: "f.yaml".into(), parsed, hash });
        world.apply(Event::Loaded);
        world.compile();
    }
}
