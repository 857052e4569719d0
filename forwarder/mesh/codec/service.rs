//! Services and EndpointSlices.

use core::time::Duration;

use balance::Affinity;
use config::Reader;
use config::tree::{Tree, Value};

use super::metadata::{Metadata, flag, items, part, protocol_of, texts};
use super::node::address;
use crate::object::{
    ContainerPort, EndpointSlice, Object, Service, ServicePort, SliceEndpoint, Target,
};

// Cilium `pkg/annotation/k8s.go`, each with its older name.
const GLOBAL: [&str; 2] = ["service.cilium.io/global", "io.cilium/global-service"];
const SHARED: [&str; 2] = ["service.cilium.io/shared", "io.cilium/shared-service"];
const AFFINITY: [&str; 2] = ["service.cilium.io/affinity", "io.cilium/service-affinity"];

// Kubernetes `DefaultClientIPServiceAffinitySeconds` and `MaxClientIPServiceAffinitySeconds`
// (`pkg/apis/core/types.go`): three hours and a day.
const SESSION_SECONDS: u32 = 10_800;
const SESSION_SECONDS_MAX: u32 = 86_400;

pub(super) fn read(reader: &mut Reader<'_>, tree: &Tree, metadata: Metadata) -> Option<Object> {
    let spec = part(tree, "spec");
    let mut missing = Vec::new();
    let affinity = affinity(&metadata, &mut missing);
    unsupported(spec, &metadata, &mut missing);
    let policies = [("Cluster", false), ("Local", true)];
    let policy = spec.get("internalTrafficPolicy");
    let own_node_only =
        policy.and_then(|tree| reader.word(tree, "`internalTrafficPolicy`", &policies));
    let skipped = match spec.get("type").and_then(Tree::text) {
        Some("ExternalName") => Some("an ExternalName is a matter of DNS".into()),
        _ if is_headless(spec) => Some("headless: clients take its pods from DNS".into()),
        _ => None,
    };
    let selector = texts(reader, spec.get("selector"), "a selector");
    let global = annotation_is(&metadata, GLOBAL, "true");
    Some(Object::Service(Service {
        cluster_ips: match skipped {
            Some(_) => Vec::new(),
            None => cluster_ips(reader, spec),
        },
        ports: ports(reader, spec),
        selector: selector
            .into_iter()
            .map(|(key, (text, _))| (key, text))
            .collect(),
        global,
        shared: global && !annotation_is(&metadata, SHARED, "false"),
        affinity,
        client_stays: client_stays(reader, spec),
        own_node_only: own_node_only.unwrap_or(false),
        publish_not_ready: flag(
            reader,
            spec.get("publishNotReadyAddresses"),
            "`publishNotReadyAddresses`",
        ),
        namespace: metadata.namespace,
        name: metadata.name,
        labels: metadata.labels,
        skipped,
        missing,
    }))
}

fn annotation<'m>(metadata: &'m Metadata, names: [&str; 2]) -> Option<&'m str> {
    names
        .iter()
        .find_map(|name| metadata.annotation(name))
        .map(|(text, _)| text)
}

/// Cilium compares such values without regard to case.
fn annotation_is(metadata: &Metadata, names: [&str; 2], value: &str) -> bool {
    annotation(metadata, names).is_some_and(|text| text.eq_ignore_ascii_case(value))
}

fn affinity(metadata: &Metadata, missing: &mut Vec<String>) -> Affinity {
    match annotation(metadata, AFFINITY)
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("" | "none") => Affinity::None,
        Some("local") => Affinity::Local,
        Some("remote") => Affinity::Remote,
        Some(other) => {
            missing.push(format!(
                "affinity {other:?} is none of local, remote, none; taken as none"
            ));
            Affinity::None
        }
    }
}

/// How long a client stays with its backend, if it is to stay at all.
fn client_stays(reader: &mut Reader<'_>, spec: &Tree) -> Option<Duration> {
    let kinds = [("None", false), ("ClientIP", true)];
    let kind = spec.get("sessionAffinity");
    let stays = kind.and_then(|tree| reader.word(tree, "`sessionAffinity`", &kinds));
    let mut seconds = SESSION_SECONDS;
    if let Some(config) = spec.get("sessionAffinityConfig") {
        let config = reader.fields(config, "`sessionAffinityConfig`")?;
        config.only(reader, &["clientIP"]);
        if stays != Some(true) {
            let message = "`sessionAffinityConfig` needs `sessionAffinity: ClientIP`";
            let hint = "take the one away, or write the other";
            reader.complain(config.at(), message, hint);
        }
        if let Some(client) = config.get("clientIP") {
            let client = reader.fields(client, "`clientIP`")?;
            client.only(reader, &["timeoutSeconds"]);
            if let Some(tree) = client.get("timeoutSeconds") {
                let range = 1..=SESSION_SECONDS_MAX;
                seconds = reader.integer(tree, "`timeoutSeconds`", range)?;
            }
        }
    }
    (stays == Some(true)).then(|| Duration::from_secs(u64::from(seconds)))
}

/// What changes how a service behaves, and is not done yet. Ports at the nodes' own addresses and
/// load balancers are for clients that do not come by us.
fn unsupported(spec: &Tree, metadata: &Metadata, missing: &mut Vec<String>) {
    if spec.get("trafficDistribution").is_some() {
        missing.push("trafficDistribution is not done: no backend is preferred".into());
    }
    if let Some(Value::List(_)) = spec.get("externalIPs").map(|tree| &tree.value) {
        missing.push("externalIPs are not served".into());
    }
    for name in ["farlane.io/clusters", "farlane.io/min-healthy"] {
        if metadata.annotation(name).is_some() {
            missing.push(format!("{name} is not done"));
        }
    }
}

fn is_headless(spec: &Tree) -> bool {
    let none = |tree: &Tree| tree.text() == Some("None");
    let first = match spec.get("clusterIPs").map(|tree| &tree.value) {
        Some(Value::List(items)) => items.first(),
        _ => None,
    };
    spec.get("clusterIP").is_some_and(none) || first.is_some_and(none)
}

fn cluster_ips(reader: &mut Reader<'_>, spec: &Tree) -> Vec<packet::Address> {
    let trees = match (spec.get("clusterIPs"), spec.get("clusterIP")) {
        (Some(list), _) => reader.list(list, "`spec.clusterIPs`").unwrap_or_default(),
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    };
    let mut addresses = Vec::new();
    for tree in trees.iter().filter(|tree| tree.text() != Some("")) {
        addresses.extend(address(reader, tree, "a cluster IP"));
    }
    addresses
}

fn ports(reader: &mut Reader<'_>, spec: &Tree) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for tree in items(reader, spec.get("ports"), "`spec.ports`") {
        let Some(port) = service_port(reader, tree) else {
            continue;
        };
        if ports.iter().any(|p| p.name == port.name) {
            let message = format!("two ports have the name {:?}", port.name);
            reader.complain(
                tree.at,
                message,
                "give each its own: clusters match ports by name",
            );
        }
        ports.push(port);
    }
    ports
}

fn service_port(reader: &mut Reader<'_>, tree: &Tree) -> Option<ServicePort> {
    let fields = reader.fields(tree, "an item of `spec.ports`")?;
    let name = match fields.get("name") {
        Some(tree) => reader.text(tree, "a port's `name`")?,
        None => "",
    };
    let port = fields.need(reader, "port", "write the port at the service's address")?;
    let port = reader.integer(port, "a service's `port`", 1..=u16::MAX)?;
    let target = match fields.get("targetPort") {
        None => Target::Number(port),
        Some(tree) if tree.text().is_some() => Target::Name(tree.text()?.into()),
        // 0 is what Kubernetes prints for one that was not said.
        Some(tree) => match reader.integer(tree, "`targetPort`", 0..=u16::MAX)? {
            0 => Target::Number(port),
            number => Target::Number(number),
        },
    };
    Some(ServicePort {
        name: name.into(),
        protocol: protocol_of(reader, fields.get("protocol"))?,
        port,
        target,
    })
}

pub(super) fn read_slice(
    reader: &mut Reader<'_>,
    tree: &Tree,
    metadata: Metadata,
) -> Option<Object> {
    let families = [("IPv4", true), ("IPv6", true), ("FQDN", false)];
    let addresses = match tree.get("addressType") {
        Some(tree) => reader.word(tree, "`addressType`", &families)?,
        None => true,
    };
    let mut endpoints = Vec::new();
    if addresses {
        for tree in items(reader, tree.get("endpoints"), "`endpoints`") {
            endpoints.extend(slice_endpoint(reader, tree));
        }
    }
    let mut ports = Vec::new();
    for tree in items(reader, tree.get("ports"), "`ports`") {
        ports.extend(slice_port(reader, tree));
    }
    let service = metadata.labels.get("kubernetes.io/service-name");
    Some(Object::EndpointSlice(EndpointSlice {
        service: service.cloned().unwrap_or_default(),
        namespace: metadata.namespace,
        name: metadata.name,
        endpoints,
        ports,
    }))
}

fn slice_endpoint(reader: &mut Reader<'_>, tree: &Tree) -> Option<SliceEndpoint> {
    let fields = reader.fields(tree, "an endpoint")?;
    let mut addresses = Vec::new();
    for tree in items(reader, fields.get("addresses"), "an endpoint's `addresses`") {
        addresses.extend(address(reader, tree, "an endpoint's address"));
    }
    let node = match fields.get("nodeName") {
        Some(tree) => reader.text(tree, "an endpoint's `nodeName`")?,
        None => "",
    };
    let conditions = fields.get("conditions");
    let mut condition = |key: &str| {
        let tree = conditions.and_then(|conditions| conditions.get(key))?;
        reader.boolean(tree, &format!("`conditions.{key}`"))
    };
    // discovery.k8s.io/v1: a condition that is not said is true, but for terminating.
    let ready = condition("ready").unwrap_or(true);
    Some(SliceEndpoint {
        addresses,
        node: node.into(),
        ready,
        serving: condition("serving").unwrap_or(ready),
        terminating: condition("terminating").unwrap_or(false),
    })
}

/// A port without a number means "all ports" and serves nobody who asks for one.
fn slice_port(reader: &mut Reader<'_>, tree: &Tree) -> Option<ContainerPort> {
    let fields = reader.fields(tree, "an item of `ports`")?;
    let name = match fields.get("name") {
        Some(tree) => reader.text(tree, "a port's `name`")?,
        None => "",
    };
    Some(ContainerPort {
        name: name.into(),
        port: reader.integer(fields.get("port")?, "a slice's `port`", 1..=u16::MAX)?,
        protocol: protocol_of(reader, fields.get("protocol"))?,
    })
}
