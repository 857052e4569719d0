//! The truth as manifests, the way people write them.

use std::fmt::Write;

use base64::Engine as _;
use tunnel::PublicKey;

use crate::model::{
    Affinity, Block, Cluster, File, Inventory, Operator, Peer, Pod, Policy, Port, PortRange,
    Protocol, Readiness, Rule, Selector, Service, ServicePort, SliceEndpoint, cluster_of,
    node_name, node_v4, node_v6,
};

/// What is in one file of a cluster.
pub fn text(cluster: &Cluster, file: File) -> String {
    match file {
        File::Inventory => inventory(&cluster.inventory),
        File::Policies => cluster.policies.iter().map(policy).collect(),
        File::Services => cluster.services.iter().map(service).collect(),
    }
}

/// The Node objects of one cluster: the keys of all lanes, and which nodes publish them.
pub fn nodes(cluster: usize, keys: &[Vec<PublicKey>], publish: &[bool]) -> String {
    let mut text = String::new();
    for (node, (keys, publish)) in keys.iter().zip(publish).enumerate() {
        if cluster_of(node) != cluster {
            continue;
        }
        let base64 =
            |key: &PublicKey| base64::engine::general_purpose::STANDARD.encode(key.as_bytes());
        let key = base64(&keys[0]);
        let lane = |(lane, key)| {
            let endpoint = crate::wires::endpoint(node, lane);
            format!(
                "{{\"key\": \"{}\", \"endpoint\": \"{endpoint}\"}}",
                base64(key)
            )
        };
        let lanes: Vec<String> = (0u16..).zip(keys).map(lane).collect();
        let lanes = match publish {
            true => format!("    farlane.io/lanes: '[{}]'\n", lanes.join(", ")),
            false => String::new(),
        };
        let (v4, v6) = (node_v4(node), node_v6(node));
        let c = cluster + 1;
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations:\n    \
             network.cilium.io/wg-pub-key: \"{key}\"\n    farlane.io/endpoint: \"{v4}:51871\"\n{lanes}\
             spec:\n  podCIDRs: [10.{c}.{node}.0/24, \"fd10:{c}:{node}::/48\"]\n\
             status:\n  addresses:\n  - {{type: InternalIP, address: {v4}}}\n  \
             - {{type: InternalIP, address: \"{v6}\"}}\n",
            name = node_name(node),
        );
    }
    text
}

fn inventory(inventory: &Inventory) -> String {
    let mut text = String::new();
    for (name, labels) in &inventory.namespaces {
        let labels = map(labels.iter());
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n"
        );
    }
    for pod in &inventory.pods {
        text.push_str(&self::pod(pod));
    }
    text
}

fn pod(pod: &Pod) -> String {
    let deleted = match pod.readiness {
        Readiness::Terminating => ", deletionTimestamp: \"2026-01-01T00:00:00Z\"",
        _ => "",
    };
    let ready = pod.readiness != Readiness::Unready;
    let mut ports = Vec::new();
    if let Some(port) = pod.http {
        ports.push(format!("{{name: http, containerPort: {port}}}"));
    }
    if pod.dns {
        ports.push("{name: dns, containerPort: 53, protocol: UDP}".into());
    }
    let ips: Vec<String> = pod
        .addresses
        .iter()
        .map(|ip| format!("{{ip: \"{ip}\"}}"))
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {ns}, labels: {labels}{deleted}}}\n\
         spec:\n  nodeName: {node}\n  containers:\n  - name: main\n    ports: [{ports}]\n\
         status:\n  phase: Running\n  podIPs: [{ips}]\n  \
         conditions: [{{type: Ready, status: \"{ready}\"}}]\n",
        name = pod.name,
        ns = pod.namespace,
        labels = map(pod.labels.iter()),
        node = node_name(pod.node),
        ports = ports.join(", "),
        ips = ips.join(", "),
        ready = if ready { "True" } else { "False" },
    )
}

fn policy(policy: &Policy) -> String {
    let mut types = Vec::new();
    types.extend(policy.ingress.as_ref().map(|_| "Ingress"));
    types.extend(policy.egress.as_ref().map(|_| "Egress"));
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: {ns}}}\nspec:\n  podSelector: {subject}\n  \
         policyTypes: [{types}]\n",
        name = policy.name,
        ns = policy.namespace,
        subject = selector(&policy.subject),
        types = types.join(", "),
    );
    for (key, peers, rules) in [
        ("ingress", "from", &policy.ingress),
        ("egress", "to", &policy.egress),
    ] {
        let rules: Vec<String> = rules.iter().flatten().map(|r| rule(r, peers)).collect();
        if !rules.is_empty() {
            let _ = writeln!(text, "  {key}:\n  - {}", rules.join("\n  - "));
        }
    }
    if policy.unenforceable {
        text.push_str("  fromTheFuture: true\n");
    }
    text
}

fn rule(rule: &Rule, key: &str) -> String {
    let mut parts = Vec::new();
    if !rule.peers.is_empty() {
        let peers: Vec<String> = rule.peers.iter().map(peer).collect();
        parts.push(format!("{key}: [{}]", peers.join(", ")));
    }
    if !rule.ports.is_empty() {
        let ports: Vec<String> = rule.ports.iter().map(port).collect();
        parts.push(format!("ports: [{}]", ports.join(", ")));
    }
    format!("{{{}}}", parts.join(", "))
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces, pods } => {
            let mut parts = Vec::new();
            if let Some(namespaces) = namespaces {
                parts.push(format!("namespaceSelector: {}", selector(namespaces)));
            }
            if let Some(pods) = pods {
                parts.push(format!("podSelector: {}", selector(pods)));
            }
            format!("{{{}}}", parts.join(", "))
        }
        Peer::Addresses { block, except } => {
            let cidr = |b: &Block| format!("\"{}/{}\"", b.address, b.length);
            let holes: Vec<String> = except.iter().map(cidr).collect();
            let except = match holes.is_empty() {
                true => String::new(),
                false => format!(", except: [{}]", holes.join(", ")),
            };
            format!("{{ipBlock: {{cidr: {}{except}}}}}", cidr(block))
        }
    }
}

fn port(port: &Port) -> String {
    let range = match port.range {
        PortRange::Any => String::new(),
        PortRange::One(port) => format!(", port: {port}"),
        PortRange::To(first, last) => format!(", port: {first}, endPort: {last}"),
        PortRange::Named(name) => format!(", port: {name}"),
    };
    format!("{{protocol: {}{range}}}", port.protocol.name())
}

fn selector(selector: &Selector) -> String {
    let (mut labels, mut expressions) = (Vec::new(), Vec::new());
    for requirement in &selector.0 {
        let key = requirement.key;
        let mut expression = |operator: &str, values: &[&str]| {
            let values = match values.is_empty() {
                true => String::new(),
                false => format!(", values: [{}]", values.join(", ")),
            };
            expressions.push(format!("{{key: {key}, operator: {operator}{values}}}"));
        };
        match &requirement.operator {
            Operator::Is(value) => labels.push((key, *value)),
            Operator::In(values) => expression("In", values),
            Operator::NotIn(values) => expression("NotIn", values),
            Operator::Exists => expression("Exists", &[]),
            Operator::DoesNotExist => expression("DoesNotExist", &[]),
        }
    }
    let mut parts = Vec::new();
    if !labels.is_empty() {
        let labels = map(labels.iter().map(|(k, v)| (k, v)));
        parts.push(format!("matchLabels: {labels}"));
    }
    if !expressions.is_empty() {
        parts.push(format!("matchExpressions: [{}]", expressions.join(", ")));
    }
    format!("{{{}}}", parts.join(", "))
}

fn service(service: &Service) -> String {
    let mut annotations = Vec::new();
    if service.global {
        annotations.push("service.cilium.io/global: \"true\"");
    }
    if !service.shared {
        annotations.push("service.cilium.io/shared: \"false\"");
    }
    match service.affinity {
        Affinity::None => {}
        Affinity::Local => annotations.push("service.cilium.io/affinity: local"),
        Affinity::Remote => annotations.push("service.cilium.io/affinity: remote"),
    }
    let ips: Vec<String> = service
        .addresses
        .iter()
        .map(|ip| format!("\"{ip}\""))
        .collect();
    let ports: Vec<String> = service.ports.iter().map(service_port).collect();
    let selector = match service.slice {
        Some(_) => String::new(),
        None => format!("  selector: {{app: {}}}\n", service.app),
    };
    let mut manner = String::new();
    if service.client_stays {
        manner += "  sessionAffinity: ClientIP\n";
    }
    if service.own_node_only {
        manner += "  internalTrafficPolicy: Local\n";
    }
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {ns}, annotations: {{{notes}}}}}\n\
         spec:\n  type: ClusterIP\n{selector}{manner}  clusterIPs: [{ips}]\n  ports: [{ports}]\n",
        name = service.name,
        ns = service.namespace,
        notes = annotations.join(", "),
        ips = ips.join(", "),
        ports = ports.join(", "),
    );
    for (number, v4) in [true, false].into_iter().enumerate() {
        let endpoints = service.slice.iter().flatten();
        let of_family: Vec<&SliceEndpoint> =
            endpoints.filter(|e| e.address.is_ipv4() == v4).collect();
        if !of_family.is_empty() {
            text.push_str(&slice(service, number, &of_family));
        }
    }
    text
}

fn service_port(port: &ServicePort) -> String {
    let target = match port.target {
        PortRange::Named(name) => name.to_string(),
        PortRange::One(number) => number.to_string(),
        PortRange::Any | PortRange::To(..) => unreachable!("no target of a service"),
    };
    format!(
        "{{name: {}, protocol: {}, port: {}, targetPort: {target}}}",
        port.name,
        port.protocol.name(),
        port.port
    )
}

fn slice(service: &Service, number: usize, endpoints: &[&SliceEndpoint]) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-{number}, namespace: {ns}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: {family}\nendpoints:\n",
        name = service.name,
        ns = service.namespace,
        family = if number == 0 { "IPv4" } else { "IPv6" },
    );
    for endpoint in endpoints {
        let terminating = endpoint.readiness == Readiness::Terminating;
        let _ = writeln!(
            text,
            "- {{addresses: [\"{}\"], nodeName: {}, conditions: {{ready: {}, serving: {}, terminating: {terminating}}}}}",
            endpoint.address,
            node_name(endpoint.node),
            endpoint.readiness == Readiness::Ready,
            endpoint.readiness != Readiness::Unready,
        );
    }
    let ports = service.ports.iter().map(|port| {
        let number = match (port.target, port.protocol) {
            (PortRange::One(number), _) => number,
            // What a controller would resolve; slices of several pods have one number.
            (_, Protocol::Udp) => 53,
            _ => 80,
        };
        let (name, protocol) = (port.name, port.protocol.name());
        format!("{{name: {name}, protocol: {protocol}, port: {number}}}")
    });
    let ports: Vec<String> = ports.collect();
    let _ = writeln!(text, "ports: [{}]", ports.join(", "));
    text
}

fn map<'a>(entries: impl Iterator<Item = (&'a &'a str, &'a &'a str)>) -> String {
    let entries: Vec<String> = entries.map(|(k, v)| format!("{k}: \"{v}\"")).collect();
    format!("{{{}}}", entries.join(", "))
}
