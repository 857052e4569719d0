//! `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy (network-policy-api,
//! `apis/v1alpha2/clusternetworkpolicy_types.go`).

use config::tree::Tree;
use packet::protocol;
use policy::{Direction, EntryVerdict, Tier, Whose};

use super::metadata::{items, part};
use super::policy::{Draft, Kind, block, everybody, is_astray, is_port_name, is_written};
use super::selector::selector;
use crate::object::{LabelSelector, Namespaces, Peer, Port, PortRange, Rule};

pub(super) const KIND: Kind = Kind {
    name: "ClusterNetworkPolicy",
    clusterwide: true,
    read,
};

fn read(draft: &mut Draft<'_>, tree: &Tree) {
    let what = "`spec`";
    let mut written = everybody(Namespaces::ALL);
    let Some(fields) = draft.reader.fields(part(tree, "spec"), what) else {
        draft.add(written, [true, true]);
        return;
    };
    if tree.get("spec").is_none() {
        draft.refusals.add(tree.at, "it has no `spec`");
    }
    let known = ["tier", "priority", "subject", "ingress", "egress"];
    draft.refusals.only(&fields, what, &known);
    if let Some(Peer::Pods { namespaces, pods }) = fields
        .need(&mut draft.reader, "subject", "say whom it governs")
        .and_then(|tree| draft.pods(tree, "`subject`"))
    {
        (written.namespaces, written.pods) = (namespaces, pods);
    }
    let tiers = [("Admin", Tier::Admin), ("Baseline", Tier::Baseline)];
    let tier = fields
        .need(&mut draft.reader, "tier", "write Admin or Baseline")
        .and_then(|tree| draft.reader.word(tree, "`tier`", &tiers));
    let priority = fields
        .need(
            &mut draft.reader,
            "priority",
            "write 0 to 1000, lower first",
        )
        .and_then(|tree| draft.reader.integer(tree, "`priority`", 0..=1000u16));
    let order = (tier.unwrap_or(Tier::Admin), priority.unwrap_or_default());
    let mut governs = [false, false];
    for direction in [Direction::Ingress, Direction::Egress] {
        let section = fields.get(&direction.to_string());
        governs[direction as usize] = is_written(section);
        written
            .rules
            .extend(draft.section(section, direction, order));
    }
    let astray = is_astray(&fields, &known);
    draft.add(written, if astray { [true, true] } else { governs });
}

/// Rules of equal priority are asked by their place, first of all policies' first ones.
fn priority(policy: u16, rule: usize) -> u32 {
    u32::from(policy) << 16 | rule.min(usize::from(u16::MAX)) as u32
}

impl Draft<'_> {
    fn section(
        &mut self,
        tree: Option<&Tree>,
        direction: Direction,
        (tier, of_policy): (Tier, u16),
    ) -> Vec<Rule> {
        let peers_key = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let actions = [
            ("Accept", EntryVerdict::Allow),
            ("Deny", EntryVerdict::Deny),
            ("Pass", EntryVerdict::Pass),
        ];
        let what = format!("a rule of `{direction}`");
        let mut rules = Vec::new();
        let trees = items(&mut self.reader, tree, &format!("`{direction}`"));
        for (number, tree) in trees.iter().enumerate() {
            let Some(fields) = self.reader.fields(tree, &what) else {
                continue;
            };
            self.refusals
                .only(&fields, &what, &["name", "action", peers_key, "protocols"]);
            let verdict = fields
                .need(&mut self.reader, "action", "write Accept, Deny or Pass")
                .and_then(|tree| self.reader.word(tree, "`action`", &actions));
            let hint = "say with whom";
            let listed = fields.need(&mut self.reader, peers_key, hint);
            let listed = self.some(listed, &format!("`{peers_key}`"));
            let mut peers = Vec::new();
            for tree in listed {
                peers.extend(self.admin_peers(tree, direction).unwrap_or_default());
            }
            let protocols = fields.get("protocols");
            let ports = protocols.map(|tree| self.protocols(tree));
            let names = ports
                .iter()
                .flatten()
                .any(|port| matches!(port.port, PortRange::Name(_)));
            if names && peers.iter().any(|peer| matches!(peer, Peer::Block { .. })) {
                let hint = "make two rules of it";
                let message = "networks have no ports with names";
                self.reader.complain(tree.at, message, hint);
            }
            rules.push(Rule {
                at: tree.at,
                direction,
                order: (tier, priority(of_policy, number)),
                verdict: verdict.unwrap_or(EntryVerdict::Deny),
                peers: Some(peers),
                ports,
            });
        }
        rules
    }

    /// A list's items, of which the kind wants one at least: one that matches nothing is a mistake.
    fn some<'t>(&mut self, tree: Option<&'t Tree>, what: &str) -> &'t [Tree] {
        let items = items(&mut self.reader, tree, what);
        if let Some(tree) = tree
            && items.is_empty()
        {
            let message = format!("{what} is empty");
            self.reader.complain(tree.at, message, "list at least one");
        }
        items
    }

    /// Exactly one of `namespaces`, `pods` and, going out, `networks`.
    fn admin_peers(&mut self, tree: &Tree, direction: Direction) -> Option<Vec<Peer>> {
        let what = "a peer";
        let networks = tree.get("networks");
        match networks.filter(|_| direction == Direction::Egress) {
            None => self.pods(tree, what).map(|peer| vec![peer]),
            Some(networks) => {
                let fields = self.reader.fields(tree, what)?;
                self.refusals.only(&fields, what, &["networks"]);
                let mut peers = Vec::new();
                for tree in self.some(Some(networks), "`networks`") {
                    peers.push(Peer::Block {
                        prefix: block(&mut self.reader, tree, "a network", false)?,
                        except: Vec::new(),
                        whose: Whose::Anybody,
                    });
                }
                Some(peers)
            }
        }
    }

    /// Pods by their namespaces' labels, or by their own, too.
    fn pods(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        let fields = self.reader.fields(tree, what)?;
        if !self.refusals.only(&fields, what, &["namespaces", "pods"]) {
            return None;
        }
        let mut read =
            |tree: &Tree, what| selector(&mut self.reader, &mut self.refusals, tree, what);
        match (fields.get("namespaces"), fields.get("pods")) {
            (Some(namespaces), None) => Some(Peer::Pods {
                namespaces: Namespaces::Labelled(read(namespaces, "`namespaces`")?),
                pods: LabelSelector::default(),
            }),
            (None, Some(pods)) => {
                let namespaces = match pods.get("namespaceSelector") {
                    Some(tree) => read(tree, "`namespaceSelector`")?,
                    None => LabelSelector::default(),
                };
                let labels = pods.get("podSelector");
                let labels = labels.map(|tree| read(tree, "`podSelector`"));
                let fields = self.reader.fields(pods, "`pods`")?;
                self.refusals
                    .only(&fields, "`pods`", &["namespaceSelector", "podSelector"]);
                if labels.is_none() {
                    let hint = "`podSelector: {}` is every pod";
                    fields.need(&mut self.reader, "podSelector", hint);
                }
                Some(Peer::Pods {
                    namespaces: Namespaces::Labelled(namespaces),
                    pods: labels??,
                })
            }
            _ => {
                let hint = "write `namespaces` or `pods`";
                let message = format!("{what} names pods in one way");
                self.reader.complain(tree.at, message, hint);
                None
            }
        }
    }

    fn protocols(&mut self, tree: &Tree) -> Vec<Port> {
        let what = "an item of `protocols`";
        let mut ports = Vec::new();
        for tree in self.some(Some(tree), "`protocols`") {
            let Some(fields) = self.reader.fields(tree, what) else {
                continue;
            };
            let named = "destinationNamedPort";
            self.refusals
                .only(&fields, what, &["tcp", "udp", "sctp", named]);
            let written = fields.entries().iter().filter(|e| !e.value.is_null());
            if written.count() != 1 {
                let hint = "write one of `tcp`, `udp`, `sctp` or `destinationNamedPort`";
                let message = format!("{what} speaks of one protocol");
                self.reader.complain(tree.at, message, hint);
            }
            for (name, protocol) in PROTOCOLS {
                if let Some(tree) = fields.get(name) {
                    ports.extend(self.ports_of(tree, name, protocol));
                }
            }
            if let Some(tree) = fields.get(named)
                && let Some(name) = self.reader.text(tree, "`destinationNamedPort`")
            {
                if !is_port_name(name) {
                    let message = format!("{name:?} is not the name of a port");
                    self.reader.complain(tree.at, message, "");
                }
                // Of whichever protocol the container says.
                ports.extend(PROTOCOLS.map(|(_, protocol)| Port {
                    protocol,
                    port: PortRange::Name(name.into()),
                }));
            }
        }
        ports
    }

    fn ports_of(&mut self, tree: &Tree, name: &str, protocol: u8) -> Option<Port> {
        let what = format!("`{name}`");
        let fields = self.reader.fields(tree, &what)?;
        self.refusals.only(&fields, &what, &["destinationPort"]);
        let port = match fields.get("destinationPort") {
            None => PortRange::Any,
            Some(tree) => self.destination_port(tree)?,
        };
        Some(Port { protocol, port })
    }

    fn destination_port(&mut self, tree: &Tree) -> Option<PortRange> {
        let what = "`destinationPort`";
        let fields = self.reader.fields(tree, what)?;
        self.refusals.only(&fields, what, &["number", "range"]);
        match (fields.get("number"), fields.get("range")) {
            (Some(tree), None) => {
                let port = self.reader.integer(tree, "`number`", 1..=u16::MAX)?;
                Some(PortRange::Numbers(port, port))
            }
            (None, Some(tree)) => {
                let fields = self.reader.fields(tree, "`range`")?;
                self.refusals.only(&fields, "`range`", &["start", "end"]);
                let start = fields.need(&mut self.reader, "start", "write the first port")?;
                let start = self.reader.integer(start, "`start`", 1..=u16::MAX)?;
                let end = fields.need(&mut self.reader, "end", "write the last port")?;
                let end = self.reader.integer(end, "`end`", start..=u16::MAX)?;
                Some(PortRange::Numbers(start, end))
            }
            _ => {
                let message = format!("{what} is a `number` or a `range`");
                self.reader.complain(tree.at, message, "write one of these");
                None
            }
        }
    }
}

const PROTOCOLS: [(&str, u8); 3] = [
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("sctp", protocol::SCTP),
];
