//! `networking.k8s.io/v1` NetworkPolicy.

use config::tree::{Tree, Value};
use packet::protocol;
use policy::{Direction, EntryVerdict, Tier, Whose};

use super::metadata::{items, part, protocol_number};
use super::policy::{Draft, Kind, block, everybody, holes, is_astray, is_port_name, is_written};
use super::selector::selector;
use crate::object::{LabelSelector, Namespaces, Part, Peer, Port, PortRange, Rule};

pub(super) const KIND: Kind = Kind {
    name: "NetworkPolicy",
    clusterwide: false,
    read,
};

fn read(draft: &mut Draft<'_>, tree: &Tree) {
    let what = "`spec`";
    let Some(fields) = draft.reader.fields(part(tree, "spec"), what) else {
        draft.add(everybody(Namespaces::Own), [true, true]);
        return;
    };
    let known = ["podSelector", "policyTypes", "ingress", "egress"];
    draft.refusals.only(&fields, what, &known);
    let pods = match fields.get("podSelector") {
        Some(tree) => selector(
            &mut draft.reader,
            &mut draft.refusals,
            tree,
            "`podSelector`",
        ),
        None => Some(LabelSelector::default()),
    };
    let mut rules = draft.rules(fields.get("ingress"), Direction::Ingress);
    let egress = draft.rules(fields.get("egress"), Direction::Egress);
    let sends = is_written(fields.get("egress"));
    let governs = draft.directions(fields.get("policyTypes"), sends);
    rules.extend(egress);
    // Sections outside of `policyTypes` are ignored.
    rules.retain(|rule| governs[rule.direction as usize]);
    let part = Part {
        // Whom an unreadable selector selects nobody knows: everybody in the namespace.
        pods: pods.unwrap_or_default(),
        ingress: governs[0],
        egress: governs[1],
        rules,
        ..everybody(Namespaces::Own)
    };
    let astray = is_astray(&fields, &known);
    draft.add(part, if astray { [true, true] } else { governs });
}

impl Draft<'_> {
    /// Ingress and egress: as `policyTypes` says, else ingress, and egress if there are rules for it.
    fn directions(&mut self, tree: Option<&Tree>, egress_rules: bool) -> [bool; 2] {
        let before = self.reader.count();
        let types = items(&mut self.reader, tree, "`policyTypes`");
        let mut governs = [false, false];
        for tree in types {
            match self.reader.text(tree, "a policy type") {
                Some("Ingress") => governs[0] = true,
                Some("Egress") => governs[1] = true,
                Some(other) => {
                    let reason = format!("the policy type {other:?} is not enforced");
                    self.refusals.add(tree.at, reason);
                    governs = [true, true];
                }
                None => {}
            }
        }
        if self.reader.count() > before {
            [true, true]
        } else if types.is_empty() {
            [true, egress_rules]
        } else {
            governs
        }
    }

    fn rules(&mut self, tree: Option<&Tree>, direction: Direction) -> Vec<Rule> {
        let peers_key = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let what = format!("a rule of `{direction}`");
        let mut rules = Vec::new();
        for tree in items(&mut self.reader, tree, &format!("`{direction}`")) {
            let Some(fields) = self.reader.fields(tree, &what) else {
                continue;
            };
            self.refusals.only(&fields, &what, &[peers_key, "ports"]);
            let (mut peers, mut ports) = (Vec::new(), Vec::new());
            let written = items(
                &mut self.reader,
                fields.get(peers_key),
                &format!("`{peers_key}`"),
            );
            for tree in written {
                peers.extend(self.peer(tree));
            }
            for tree in items(&mut self.reader, fields.get("ports"), "`ports`") {
                ports.extend(self.port(tree));
            }
            rules.push(Rule {
                at: tree.at,
                direction,
                order: (Tier::Normal, 0),
                verdict: EntryVerdict::Allow,
                // To NetworkPolicy an empty list is as good as none.
                peers: (!peers.is_empty()).then_some(peers),
                ports: (!ports.is_empty()).then_some(ports),
            });
        }
        rules
    }

    fn peer(&mut self, tree: &Tree) -> Option<Peer> {
        let what = "a peer";
        let fields = self.reader.fields(tree, what)?;
        let unknown = self.refusals.count();
        self.refusals.only(
            &fields,
            what,
            &["podSelector", "namespaceSelector", "ipBlock"],
        );
        let pods = fields.get("podSelector");
        let namespaces = fields.get("namespaceSelector");
        match (fields.get("ipBlock"), pods.or(namespaces)) {
            (Some(block), None) => self.ip_block(block),
            (Some(block), Some(_)) => {
                let hint = "make two peers of it";
                let message = "a peer is either addresses or pods";
                self.reader.complain(block.at, message, hint);
                None
            }
            (None, None) => {
                // One with unknown fields only is refused for these.
                if self.refusals.count() == unknown {
                    let hint = "write `podSelector`, `namespaceSelector` or `ipBlock`; `podSelector: {}` is every pod";
                    let message = "an empty peer selects nothing";
                    self.reader.complain(tree.at, message, hint);
                }
                None
            }
            (None, Some(_)) => {
                let mut read = |tree: Option<&Tree>, what| match tree {
                    Some(tree) => {
                        selector(&mut self.reader, &mut self.refusals, tree, what).map(Some)
                    }
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

    fn ip_block(&mut self, tree: &Tree) -> Option<Peer> {
        let what = "`ipBlock`";
        let fields = self.reader.fields(tree, what)?;
        self.refusals.only(&fields, what, &["cidr", "except"]);
        let cidr = fields.need(&mut self.reader, "cidr", "write a prefix")?;
        let prefix = block(&mut self.reader, cidr, "`cidr`", false)?;
        let except = items(&mut self.reader, fields.get("except"), "`except`");
        Some(Peer::Block {
            prefix,
            except: holes(&mut self.reader, except, prefix, false),
            whose: Whose::Anybody,
        })
    }

    fn port(&mut self, tree: &Tree) -> Option<Port> {
        let what = "an item of `ports`";
        let fields = self.reader.fields(tree, what)?;
        self.refusals
            .only(&fields, what, &["protocol", "port", "endPort"]);
        let protocol = match fields.get("protocol") {
            None => protocol::TCP,
            Some(tree) => {
                let name = self.reader.text(tree, "`protocol`")?;
                protocol_number(name).or_else(|| {
                    let reason = format!("the protocol {name:?} is not enforced");
                    self.refusals.add(tree.at, reason);
                    None
                })?
            }
        };
        let port = self.range(fields.get("port"), fields.get("endPort"))?;
        Some(Port { protocol, port })
    }

    fn range(&mut self, port: Option<&Tree>, end: Option<&Tree>) -> Option<PortRange> {
        let reader = &mut self.reader;
        Some(match (port, end) {
            (None, None) => PortRange::Any,
            (None, Some(end)) => {
                let hint = "write the first port of the range";
                reader.complain(end.at, "`endPort` without `port`", hint);
                return None;
            }
            (Some(tree), _) if matches!(tree.value, Value::Text(_)) => {
                if let Some(end) = end {
                    let message = "`endPort` with the name of a port";
                    reader.complain(end.at, message, "write a number as `port`");
                }
                let name = reader.text(tree, "`port`")?;
                if !is_port_name(name) {
                    let message = format!("`port`: {name:?} is not the name of a port");
                    reader.complain(tree.at, message, "write a number without quotes");
                    return None;
                }
                PortRange::Name(name.into())
            }
            (Some(tree), end) => {
                let first = reader.integer(tree, "`port`", 1..=u16::MAX)?;
                let last = match end {
                    Some(tree) => reader.integer(tree, "`endPort`", first..=u16::MAX)?,
                    None => first,
                };
                PortRange::Numbers(first, last)
            }
        })
    }
}
