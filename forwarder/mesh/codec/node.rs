//! Node objects: addresses, pod prefixes, and the peers that their annotations publish.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use config::tree::Tree;
use config::{Place, Reader};
use packet::{Address, Prefix};
use serde::Deserialize;

use super::metadata::{Metadata, items, part};
use crate::object::{Lane, Node, Object};

/// Cilium's annotation, and its older name (Cilium `pkg/annotation/k8s.go`).
const KEY: [&str; 2] = [
    "network.cilium.io/wg-pub-key",
    "io.cilium.network.wg-pub-key",
];
const ENDPOINT: &str = "farlane.io/endpoint";
const LANES: &str = "farlane.io/lanes";
/// More lanes than this no node publishes: the bound on what one object can make us hold.
const LANES_MAX: usize = 256;

pub(super) fn read(reader: &mut Reader<'_>, tree: &Tree, metadata: Metadata) -> Option<Object> {
    let addresses = internal_addresses(reader, part(tree, "status"));
    let pod_prefixes = pod_prefixes(reader, part(tree, "spec"));
    let lanes = lanes(reader, &metadata)?;
    let knows_lanes = metadata.annotation(LANES).is_some();
    Some(Object::Node(Node {
        name: metadata.name,
        addresses,
        pod_prefixes,
        lanes,
        knows_lanes,
    }))
}

fn internal_addresses(reader: &mut Reader<'_>, status: &Tree) -> Vec<Address> {
    let mut addresses = Vec::new();
    for item in items(reader, status.get("addresses"), "`status.addresses`") {
        let Some(fields) = reader.fields(item, "an item of `status.addresses`") else {
            continue;
        };
        let hint = "write `- {type: InternalIP, address: 192.0.2.1}`";
        let kind = fields.need(reader, "type", hint);
        let text = fields.need(reader, "address", hint);
        if let (Some("InternalIP"), Some(text)) = (kind.and_then(Tree::text), text) {
            addresses.extend(address(reader, text, "a node's address"));
        }
    }
    addresses
}

fn pod_prefixes(reader: &mut Reader<'_>, spec: &Tree) -> Vec<Prefix> {
    let trees = match (spec.get("podCIDRs"), spec.get("podCIDR")) {
        (Some(list), _) => reader.list(list, "`spec.podCIDRs`").unwrap_or_default(),
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    };
    let mut prefixes = Vec::new();
    for tree in trees {
        prefixes.extend(reader.parse::<Prefix>(
            tree,
            "`spec.podCIDRs`",
            "a prefix, such as 10.1.0.0/24",
        ));
    }
    prefixes
}

/// An IP address. Mapped ones are refused: on the wire they do not occur (RFC 4942 §2.2).
pub(super) fn address(reader: &mut Reader<'_>, tree: &Tree, what: &str) -> Option<Address> {
    let ip: IpAddr = reader.parse(tree, what, "an IP address")?;
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        reader.complain(
            tree.at,
            format!("{what}: {ip} is an IPv4 address in disguise"),
            "write it as IPv4",
        );
        return None;
    }
    Some(ip.into())
}

fn lanes(reader: &mut Reader<'_>, metadata: &Metadata) -> Option<Vec<Lane>> {
    let first = match KEY.iter().find_map(|key| metadata.annotation(key)) {
        Some((text, at)) => Some(key(reader, text, at)?),
        None => None,
    };
    let endpoint = match metadata.annotation(ENDPOINT) {
        Some((text, at)) => Some(endpoint(reader, text, at)?),
        None => None,
    };
    let Some((text, at)) = metadata.annotation(LANES) else {
        return Some(
            first
                .map(|key| Lane { key, endpoint })
                .into_iter()
                .collect(),
        );
    };
    let lanes = published(reader, text, at)?;
    if let (Some(first), Some(lane)) = (first, lanes.first())
        && first != lane.key
    {
        let message = format!(
            "the first lane of `{LANES}` has another key than `{}`",
            KEY[0]
        );
        reader.complain(at, message, "both must be the node's own key");
        return None;
    }
    Some(lanes)
}

#[derive(Deserialize)]
struct LaneText {
    key: String,
    endpoint: Option<String>,
}

fn published(reader: &mut Reader<'_>, text: &str, at: Place) -> Option<Vec<Lane>> {
    let example = "write [{\"key\": \"...\", \"endpoint\": \"192.0.2.2:51871\"}]";
    let texts: Vec<LaneText> = match serde_json::from_str(text) {
        Ok(texts) => texts,
        Err(error) => {
            reader.complain(at, format!("`{LANES}` does not parse: {error}"), example);
            return None;
        }
    };
    if texts.is_empty() || texts.len() > LANES_MAX {
        let message = format!("`{LANES}` lists {} lanes", texts.len());
        reader.complain(at, message, format!("1 to {LANES_MAX} are possible"));
        return None;
    }
    let mut lanes: Vec<Lane> = Vec::with_capacity(texts.len());
    for text in texts {
        let key = key(reader, &text.key, at)?;
        let endpoint = match text.endpoint {
            Some(text) => Some(endpoint(reader, &text, at)?),
            None => None,
        };
        if lanes.iter().any(|lane| lane.key == key) {
            reader.complain(
                at,
                format!("two lanes of `{LANES}` have one key"),
                "each lane has its own",
            );
            return None;
        }
        lanes.push(Lane { key, endpoint });
    }
    Some(lanes)
}

fn key(reader: &mut Reader<'_>, text: &str, at: Place) -> Option<[u8; 32]> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
    match bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        // The one key that everybody can compute the secrets of (Cilium refuses it as well).
        Some([0, rest @ ..]) if rest == [0; 31] => {
            reader.complain(at, "a public key of zeros is nobody's", "");
            None
        }
        Some(key) => Some(key),
        None => {
            let hint = "write the 44 characters that `farlane key public` prints";
            reader.complain(at, format!("{text:?} is not a WireGuard public key"), hint);
            None
        }
    }
}

fn endpoint(reader: &mut Reader<'_>, text: &str, at: Place) -> Option<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(endpoint) if endpoint.port() != 0 && !endpoint.ip().is_unspecified() => Some(endpoint),
        _ => {
            let message = format!("{text:?} is not an address with a port");
            reader.complain(
                at,
                message,
                "write it as \"192.0.2.2:51871\" or \"[2001:db8::2]:51871\"",
            );
            None
        }
    }
}
