//! `networking.k8s.io/v1` NetworkPolicy, strictly: what we do not know in a `spec` refuses the
//! policy, for a rule that is read half may allow what it was to forbid.

use config::Reader;
use config::tree::{Tree, Value};
use packet::{Prefix, protocol};

use super::metadata::{Metadata, items, part, protocol_number};
use super::selector::{Refusals, selector};
use crate::object::{
    LabelSelector, Namespaces, Object, Peer, Policy, Port, PortRange, Rule, Rules, Subject,
};

const PREFIX: &str = "a prefix, such as 10.2.0.0/16, with zeros behind its length";

pub(super) fn read(reader: &mut Reader<'_>, tree: &Tree, metadata: Metadata) -> Option<Object> {
    let mut refusals = Refusals::default();
    let what = "`spec`";
    let fields = reader.fields(part(tree, "spec"), what)?;
    refusals.only(
        &fields,
        what,
        &["podSelector", "policyTypes", "ingress", "egress"],
    );
    let pods = match fields.get("podSelector") {
        Some(tree) => selector(reader, &mut refusals, tree, "`podSelector`"),
        None => Some(LabelSelector::default()),
    };
    let ingress = rules(
        reader,
        &mut refusals,
        fields.get("ingress"),
        "ingress",
        "from",
    );
    let egress = rules(reader, &mut refusals, fields.get("egress"), "egress", "to");
    let written = fields.get("policyTypes");
    let (govern_ingress, govern_egress) =
        directions(reader, &mut refusals, written, !egress.is_empty());
    let subject = Subject {
        namespaces: Namespaces::Own,
        // Whom an unreadable selector selects nobody knows: everybody in the namespace.
        pods: pods.unwrap_or_default(),
        ingress: govern_ingress,
        egress: govern_egress,
    };
    Some(Object::Policy(Policy {
        kind: "NetworkPolicy",
        namespace: metadata.namespace,
        name: metadata.name,
        subjects: vec![subject],
        rules: refusals.into_rules().unwrap_or(Rules::Network {
            // Sections outside of `policyTypes` are ignored.
            ingress: if govern_ingress { ingress } else { Vec::new() },
            egress: if govern_egress { egress } else { Vec::new() },
        }),
    }))
}

/// Ingress and egress: as `policyTypes` says, else ingress, and egress if there are rules for it.
fn directions(
    reader: &mut Reader<'_>,
    refusals: &mut Refusals,
    tree: Option<&Tree>,
    egress_rules: bool,
) -> (bool, bool) {
    let types = items(reader, tree, "`policyTypes`");
    if types.is_empty() {
        return (true, egress_rules);
    }
    let (mut ingress, mut egress) = (false, false);
    for tree in types {
        match reader.text(tree, "a policy type") {
            Some("Ingress") => ingress = true,
            Some("Egress") => egress = true,
            Some(other) => {
                refusals.add(
                    tree.at,
                    format!("the policy type {other:?} is not enforced"),
                );
                (ingress, egress) = (true, true);
            }
            None => {}
        }
    }
    (ingress, egress)
}

fn rules(
    reader: &mut Reader<'_>,
    refusals: &mut Refusals,
    tree: Option<&Tree>,
    section: &str,
    peers_key: &str,
) -> Vec<Rule> {
    let what = format!("a rule of `{section}`");
    let mut rules = Vec::new();
    for tree in items(reader, tree, &format!("`{section}`")) {
        let Some(fields) = reader.fields(tree, &what) else {
            continue;
        };
        refusals.only(&fields, &what, &[peers_key, "ports"]);
        let mut rule = Rule {
            at: tree.at,
            peers: Vec::new(),
            ports: Vec::new(),
        };
        for tree in items(reader, fields.get(peers_key), &format!("`{peers_key}`")) {
            rule.peers.extend(peer(reader, refusals, tree));
        }
        for tree in items(reader, fields.get("ports"), "`ports`") {
            rule.ports.extend(port(reader, refusals, tree));
        }
        rules.push(rule);
    }
    rules
}

fn peer(reader: &mut Reader<'_>, refusals: &mut Refusals, tree: &Tree) -> Option<Peer> {
    let what = "a peer";
    let fields = reader.fields(tree, what)?;
    refusals.only(
        &fields,
        what,
        &["podSelector", "namespaceSelector", "ipBlock"],
    );
    let pods = fields.get("podSelector");
    let namespaces = fields.get("namespaceSelector");
    match (fields.get("ipBlock"), pods.or(namespaces)) {
        (Some(block), None) => ip_block(reader, refusals, block),
        (Some(block), Some(_)) => {
            let hint = "make two peers of it";
            reader.complain(block.at, "a peer is either addresses or pods", hint);
            None
        }
        (None, None) => {
            // One with unknown fields only is refused already, and is no mistake.
            if refusals.is_empty() {
                let hint = "write `podSelector`, `namespaceSelector` or `ipBlock`; `podSelector: {}` is every pod";
                reader.complain(tree.at, "an empty peer selects nothing", hint);
            }
            None
        }
        (None, Some(_)) => {
            let mut read = |tree: Option<&Tree>, what| match tree {
                Some(tree) => selector(reader, refusals, tree, what).map(Some),
                None => Some(None),
            };
            let pods = read(pods, "`podSelector`")?;
            let namespaces = read(namespaces, "`namespaceSelector`")?;
            Some(Peer::Pods {
                namespaces: namespaces.map_or(Namespaces::Own, Namespaces::Labelled),
                pods: pods.unwrap_or_default(),
            })
        }
    }
}

fn ip_block(reader: &mut Reader<'_>, refusals: &mut Refusals, tree: &Tree) -> Option<Peer> {
    let what = "`ipBlock`";
    let fields = reader.fields(tree, what)?;
    refusals.only(&fields, what, &["cidr", "except"]);
    let cidr = fields.need(reader, "cidr", "write a prefix")?;
    let prefix: Prefix = reader.parse(cidr, "`cidr`", PREFIX)?;
    let mut except = Vec::new();
    for tree in items(reader, fields.get("except"), "`except`") {
        let Some(hole) = reader.parse::<Prefix>(tree, "`except`", PREFIX) else {
            continue;
        };
        let within = hole.length() > prefix.length() && prefix.overlaps(&hole);
        if !within {
            let message = format!("{hole} is not a part of {prefix}");
            reader.complain(tree.at, message, "an exception lies within its block");
        }
        except.push(hole);
    }
    Some(Peer::Block { prefix, except })
}

fn port(reader: &mut Reader<'_>, refusals: &mut Refusals, tree: &Tree) -> Option<Port> {
    let what = "an item of `ports`";
    let fields = reader.fields(tree, what)?;
    refusals.only(&fields, what, &["protocol", "port", "endPort"]);
    let protocol = match fields.get("protocol") {
        None => protocol::TCP,
        Some(tree) => {
            let name = reader.text(tree, "`protocol`")?;
            protocol_number(name).or_else(|| {
                refusals.add(tree.at, format!("the protocol {name:?} is not enforced"));
                None
            })?
        }
    };
    let end = fields.get("endPort");
    let port = match (fields.get("port"), end) {
        (None, None) => PortRange::Any,
        (None, Some(end)) => {
            reader.complain(
                end.at,
                "`endPort` without `port`",
                "write the first port of the range",
            );
            return None;
        }
        (Some(tree), _) if matches!(tree.value, Value::Text(_)) => {
            if let Some(end) = end {
                reader.complain(
                    end.at,
                    "`endPort` with the name of a port",
                    "write a number as `port`",
                );
            }
            PortRange::Name(port_name(reader, tree)?)
        }
        (Some(tree), end) => {
            let first = reader.integer(tree, "`port`", 1..=u16::MAX)?;
            let last = match end {
                Some(tree) => reader.integer(tree, "`endPort`", first..=u16::MAX)?,
                None => first,
            };
            PortRange::Numbers(first, last)
        }
    };
    Some(Port { protocol, port })
}

/// The name of a port has a letter (Kubernetes `IsValidPortName`), so `"80"` is a mistake that
/// would never match.
fn port_name(reader: &mut Reader<'_>, tree: &Tree) -> Option<String> {
    let name = reader.text(tree, "`port`")?;
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        let message = format!("`port`: {name:?} is not the name of a port");
        reader.complain(tree.at, message, "write a number without quotes");
        return None;
    }
    Some(name.into())
}
