//! Pods: who they are, where they run, what they answer by.

use config::Reader;
use config::tree::Tree;
use packet::Address;

use super::metadata::{Metadata, flag, items, part, protocol_of};
use super::node::address;
use crate::object::{ContainerPort, Object, Pod};

pub(super) fn read(reader: &mut Reader<'_>, tree: &Tree, metadata: Metadata) -> Option<Object> {
    let (spec, status) = (part(tree, "spec"), part(tree, "status"));
    let mut text = |key: &str| match spec.get(key) {
        Some(tree) => reader.text(tree, &format!("`spec.{key}`")),
        None => None,
    };
    let node = text("nodeName").unwrap_or_default();
    let account = text("serviceAccountName").or_else(|| text("serviceAccount"));
    let phase = status.get("phase").and_then(Tree::text);
    let finished = matches!(phase, Some("Succeeded" | "Failed"));
    let addresses = addresses(reader, status);
    Some(Object::Pod(Pod {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        labels: metadata.labels,
        node: node.into(),
        service_account: account.unwrap_or("default").into(),
        addresses: if finished { Vec::new() } else { addresses },
        host_network: flag(reader, spec.get("hostNetwork"), "`spec.hostNetwork`"),
        ports: named_ports(reader, spec),
        ready: is_ready(reader, status),
        terminating: metadata.deleted,
    }))
}

fn addresses(reader: &mut Reader<'_>, status: &Tree) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    let what = "a pod's address";
    for item in items(reader, status.get("podIPs"), "`status.podIPs`") {
        let fields = reader.fields(item, "an item of `status.podIPs`");
        let ip = fields.and_then(|fields| fields.need(reader, "ip", "write `- ip: 10.1.0.5`"));
        addresses.extend(ip.and_then(|tree| address(reader, tree, what)));
    }
    // Kubernetes writes both; people who write manifests by hand may write only this one.
    if addresses.is_empty()
        && let Some(tree) = status.get("podIP")
        && tree.text() != Some("")
    {
        addresses.extend(address(reader, tree, what));
    }
    addresses
}

/// The ports of containers and of sidecars (init containers that stay), as far as they have names.
fn named_ports(reader: &mut Reader<'_>, spec: &Tree) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for (key, sidecars) in [("containers", false), ("initContainers", true)] {
        for container in items(reader, spec.get(key), &format!("`spec.{key}`")) {
            let stays = container.get("restartPolicy").and_then(Tree::text) == Some("Always");
            if sidecars && !stays {
                continue;
            }
            for port in items(reader, container.get("ports"), "a container's `ports`") {
                ports.extend(named_port(reader, port));
            }
        }
    }
    ports
}

fn named_port(reader: &mut Reader<'_>, tree: &Tree) -> Option<ContainerPort> {
    let name = tree.get("name")?;
    let number = tree.get("containerPort")?;
    Some(ContainerPort {
        name: reader.text(name, "a port's `name`")?.into(),
        port: reader.integer(number, "`containerPort`", 1..=u16::MAX)?,
        protocol: protocol_of(reader, tree.get("protocol"))?,
    })
}

fn is_ready(reader: &mut Reader<'_>, status: &Tree) -> bool {
    let conditions = items(reader, status.get("conditions"), "`status.conditions`");
    let text =
        |tree: &Tree, key: &str, value: &str| tree.get(key).and_then(Tree::text) == Some(value);
    conditions
        .iter()
        .any(|condition| text(condition, "type", "Ready") && text(condition, "status", "True"))
}
