//! A cluster as a company has one, in files: 50 shops (namespaces) of 20 pods, each with a service
//! and four policies, on 20 nodes; and questions about it, half of them to services.

use std::fmt::Write;
use std::path::{Path, PathBuf};

const SHOPS: usize = 50;
const PODS: usize = 20;
const NODES: usize = 20;
const TIERS: [&str; 4] = ["front", "orders", "stock", "mail"];

/// Writes node file and manifests to a directory; the node's file.
pub(crate) fn write(dir: &Path) -> PathBuf {
    let manifests = dir.join("eu");
    std::fs::create_dir_all(&manifests).expect("a directory of our own");
    let save = |path: &Path, text: &str| std::fs::write(path, text).expect("writable");
    save(&manifests.join("nodes.yaml"), &nodes());
    save(&manifests.join("pods.yaml"), &pods());
    save(&manifests.join("policies.yaml"), &policies());
    save(&manifests.join("services.yaml"), &services());
    let file = dir.join("eu-0.yaml");
    let text = "cluster: {name: eu, id: 1}\nnode: eu-0\nmanifests: eu\n\
                wire: {listen: \"192.0.2.1:51871\"}\n";
    save(&file, text);
    file
}

/// Questions as lines of a batch, always the same.
pub(crate) fn questions(count: usize) -> impl Iterator<Item = String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // xorshift64: any spread will do.
    let mut draw = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    (0..count).map(move |_| {
        let home = draw(SHOPS);
        let from = name(home, draw(PODS));
        // Most of the traffic of a shop stays there.
        let shop = if draw(4) > 0 { home } else { draw(SHOPS) };
        let to = match draw(2) {
            0 => format!("svc:shop-{shop}/orders\",\"port\":80"),
            _ => format!("{}\",\"port\":8080", name(shop, draw(PODS))),
        };
        format!("{{\"from\":\"{from}\",\"to\":\"{to},\"protocol\":\"TCP\"}}\n")
    })
}

fn name(shop: usize, pod: usize) -> String {
    let tier = TIERS[pod % TIERS.len()];
    format!("shop-{shop}/{tier}-{}", pod / TIERS.len())
}

fn nodes() -> String {
    let mut text = String::new();
    for node in 0..NODES {
        // A key each; whose does not matter here.
        let key = format!("{:A<42}A=", format!("Key{node:02}"));
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\n\
             metadata: {{name: eu-{node}, annotations: {{network.cilium.io/wg-pub-key: {key}}}}}\n\
             spec: {{podCIDRs: [10.1.{node}.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.0.2.{}}}]}}\n",
            node + 1
        );
    }
    text
}

fn pods() -> String {
    let mut text = String::new();
    for shop in 0..SHOPS {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Namespace\n\
             metadata: {{name: shop-{shop}, labels: {{team: team-{}}}}}\n",
            shop % 7
        );
        for pod in 0..PODS {
            let number = shop * PODS + pod;
            let (node, host) = (number % NODES, number / NODES + 1);
            let tier = TIERS[pod % TIERS.len()];
            let full = name(shop, pod);
            let (_, own) = full.split_once('/').unwrap_or_default();
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {own}, namespace: shop-{shop}, labels: {{app: {tier}, tier: t{}, \
                 version: v{}}}}}\n\
                 spec:\n  nodeName: eu-{node}\n  serviceAccountName: {tier}\n  \
                 containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]\n\
                 status:\n  phase: Running\n  podIPs: [{{ip: 10.1.{node}.{host}}}]\n  \
                 conditions: [{{type: Ready, status: \"True\"}}]\n",
                pod % 3,
                pod % 2
            );
        }
    }
    text
}

fn policies() -> String {
    let mut text = String::new();
    for shop in 0..SHOPS {
        let specs = [
            "{podSelector: {}, policyTypes: [Ingress]}".to_owned(),
            "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}".to_owned(),
            format!(
                "{{podSelector: {{matchLabels: {{app: orders}}}}, ingress: [{{from: \
                 [{{namespaceSelector: {{matchLabels: {{team: team-{}}}}}}}], \
                 ports: [{{port: http, protocol: TCP}}]}}]}}",
                shop % 7
            ),
            "{podSelector: {matchLabels: {app: mail}}, policyTypes: [Egress], egress: [{to: \
             [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}, {to: [{podSelector: {}}]}]}"
                .to_owned(),
        ];
        for (number, spec) in specs.iter().enumerate() {
            let _ = write!(
                text,
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{name: policy-{number}, namespace: shop-{shop}}}\nspec: {spec}\n"
            );
        }
    }
    text
}

fn services() -> String {
    let mut text = String::new();
    for shop in 0..SHOPS {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\n\
             metadata: {{name: orders, namespace: shop-{shop}}}\n\
             spec: {{clusterIP: 10.101.0.{}, selector: {{app: orders}}, \
             ports: [{{name: http, port: 80, targetPort: http}}]}}\n",
            shop + 1
        );
    }
    text
}
