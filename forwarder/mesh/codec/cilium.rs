//! `cilium.io/v2` CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, as far as L3 and L4 go
//! (Cilium, `pkg/policy/api`).

mod icmp;
mod peers;
mod ports;

use config::Fields;
use config::tree::{Tree, Value};
use policy::{Direction, EntryVerdict, Tier, key};

use super::metadata::items;
use super::policy::{Draft, Kind, everybody, is_astray, is_written};
use super::selector::selector;
use crate::object::{LabelSelector, Operator, Rule};

pub(super) const KIND: Kind = Kind {
    name: "CiliumNetworkPolicy",
    clusterwide: false,
    read,
};

pub(super) const KIND_CLUSTERWIDE: Kind = Kind {
    name: "CiliumClusterwideNetworkPolicy",
    clusterwide: true,
    read,
};

/// The sections of a spec. A deny wins over every allow, however special that is.
const SECTIONS: [(&str, Direction, EntryVerdict); 4] = [
    ("ingress", Direction::Ingress, EntryVerdict::Allow),
    ("ingressDeny", Direction::Ingress, EntryVerdict::Deny),
    ("egress", Direction::Egress, EntryVerdict::Allow),
    ("egressDeny", Direction::Egress, EntryVerdict::Deny),
];

/// `spec` is one specification, `specs` a list of them, and both may be there.
fn read(draft: &mut Draft<'_>, tree: &Tree) {
    let before = draft.reader.count();
    let specs = items(&mut draft.reader, tree.get("specs"), "`specs`");
    if draft.reader.count() > before {
        // Whom these were to govern nobody knows.
        draft.add(everybody(draft.namespaces()), [true, true]);
    }
    let specs: Vec<&Tree> = tree.get("spec").into_iter().chain(specs).collect();
    if specs.is_empty() {
        draft.refusals.add(tree.at, "it has no `spec`");
        draft.add(everybody(draft.namespaces()), [true, true]);
    }
    for spec in specs {
        draft.spec(spec);
    }
}

/// What does nothing to packets: what a policy is for, and what Cilium writes beside its verdicts.
const REMARKS: [&str; 3] = ["labels", "description", "log"];

impl Draft<'_> {
    fn spec(&mut self, tree: &Tree) {
        let what = "`spec`";
        let Some(fields) = self.reader.fields(tree, what) else {
            self.add(everybody(self.namespaces()), [true, true]);
            return;
        };
        let keys = ["endpointSelector", "nodeSelector", "enableDefaultDeny"].into_iter();
        let known: Vec<&str> = keys
            .chain(SECTIONS.map(|(name, ..)| name))
            .chain(REMARKS)
            .collect();
        self.refusals.only(&fields, what, &known);
        if let Some(nodes) = fields.get("nodeSelector") {
            let reason = "`nodeSelector` asks for a firewall of the host, which there is none of";
            self.refusals.add(nodes.at, reason);
            if fields.get("endpointSelector").is_none() {
                // It governs no pod, and what it governs we do not judge.
                return;
            }
        }
        let mut part = everybody(self.namespaces());
        match fields.get("endpointSelector") {
            Some(tree) => part.pods = self.subject(tree),
            None => {
                let reason = "it selects nobody: `endpointSelector: {}` is every pod";
                self.refusals.add(tree.at, reason);
            }
        }
        let mut written = [false, false];
        for (name, direction, verdict) in SECTIONS {
            let rules = items(&mut self.reader, fields.get(name), &format!("`{name}`"));
            // Cilium counts the rules, so that an empty section is as good as none.
            written[direction as usize] |= is_written(fields.get(name));
            for rule in rules {
                part.rules.extend(self.rule(rule, name, direction, verdict));
            }
        }
        let isolates = self.default_deny(&fields, written);
        let [ingress, egress] = isolates.unwrap_or([true, true]);
        (part.ingress, part.egress) = (ingress, egress);
        let governs = match is_astray(&fields, &known) {
            true => [true, true],
            false => [written[0] || ingress, written[1] || egress],
        };
        self.add(part, governs);
    }

    /// Whom a spec governs: pods of the policy's own namespace. Cilium ignores another one that is
    /// named here in one way of writing it, and selects nobody in the others.
    fn subject(&mut self, tree: &Tree) -> LabelSelector {
        let pods = self.labels(tree, "`endpointSelector`").unwrap_or_default();
        let elsewhere = pods.requirements.iter().find(|wanted| {
            let own = |values: &[String]| values.contains(&self.namespace);
            wanted.key == key::NAMESPACE
                && matches!(&wanted.operator, Operator::In(values) if !own(values))
        });
        if elsewhere.is_some() && !self.clusterwide {
            let reason = "`endpointSelector` names another namespace than the policy's own";
            self.refusals.add(tree.at, reason);
            return LabelSelector::default();
        }
        pods
    }

    /// Where it denies what nobody allows: as `enableDefaultDeny` says, else where there are rules.
    /// `None` where that cannot be read.
    fn default_deny(&mut self, fields: &Fields<'_>, written: [bool; 2]) -> Option<[bool; 2]> {
        let what = "`enableDefaultDeny`";
        let Some(tree) = fields.get("enableDefaultDeny") else {
            return Some(written);
        };
        let fields = self.reader.fields(tree, what)?;
        let whole = self.refusals.only(&fields, what, &["ingress", "egress"]);
        let mut said = |name: &str, written: bool| match fields.get(name) {
            Some(tree) => self.reader.boolean(tree, what),
            None => Some(written),
        };
        let both = [said("ingress", written[0])?, said("egress", written[1])?];
        whole.then_some(both)
    }

    fn rule(
        &mut self,
        tree: &Tree,
        section: &str,
        direction: Direction,
        verdict: EntryVerdict,
    ) -> Option<Rule> {
        let what = format!("a rule of `{section}`");
        let fields = self.reader.fields(tree, &what)?;
        let mut known = peers::keys(direction);
        known.extend(["toPorts", "icmps"]);
        if verdict == EntryVerdict::Allow {
            known.push("authentication");
        }
        self.refusals.only(&fields, &what, &known);
        if let Some(tree) = fields.get("authentication") {
            self.authentication(tree);
        }
        let mut peers = self.peers(&fields, direction, verdict);
        let (to_ports, icmps) = (fields.get("toPorts"), fields.get("icmps"));
        if let Some(tree) = icmps
            && is_written(to_ports)
            && is_written(icmps)
        {
            let hint = "make two rules of it";
            let message = "`icmps` beside `toPorts`";
            self.reader.complain(tree.at, message, hint);
        }
        let ports = match (to_ports, icmps) {
            (Some(tree), _) if is_written(to_ports) => Some(self.port_lists(tree)),
            (_, Some(tree)) if is_written(icmps) => Some(self.icmps(tree, verdict)),
            // A rule that says nothing matches nothing.
            _ => {
                peers.get_or_insert_default();
                None
            }
        };
        Some(Rule {
            at: tree.at,
            direction,
            order: (Tier::Normal, 0),
            verdict,
            peers,
            ports,
        })
    }

    /// Mutual authentication is a matter of Cilium's agents alone.
    fn authentication(&mut self, tree: &Tree) {
        let disabled = tree.get("mode").and_then(Tree::text) == Some("disabled");
        let alone = matches!(&tree.value, Value::Map(entries) if entries.len() == 1);
        if !(disabled && alone) {
            let reason = "`authentication` is not enforced";
            self.refusals.add(tree.at, reason);
        }
    }

    /// A selector of endpoints. Cilium's keys may name the source of a label: `k8s:app`, or
    /// `any:app` for whichever. What is no pod has labels such as `reserved:health`; their keys stay,
    /// so that they select no pod of ours, for none has such a label.
    fn labels(&mut self, tree: &Tree, what: &str) -> Option<LabelSelector> {
        let mut labels = selector(&mut self.reader, &mut self.refusals, tree, what)?;
        for wanted in &mut labels.requirements {
            match wanted.key.split_once(':') {
                None | Some(("reserved", _)) => {}
                Some(("k8s" | "any", key)) if !key.contains(':') => wanted.key = key.into(),
                Some(_) => {
                    let reason = format!("{what} selects by `{}`", wanted.key);
                    self.refusals.add(tree.at, reason);
                    return None;
                }
            }
        }
        Some(labels)
    }
}
