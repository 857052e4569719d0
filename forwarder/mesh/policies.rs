//! NetworkPolicies in the words of the room `policy`.

use std::collections::BTreeSet;

use policy::{
    Direction, Entry, EntryVerdict, Isolates, Peer as PolicyPeer, Peers, Policy as Compiled,
    PolicyName, PortMatch, PortRule, Ports, Requirement as Label, Selector, Tier, key,
};

use crate::inventory::Held;
use crate::object::{
    LabelSelector, Namespaces, Operator, Peer, Policy, Port, PortRange, Rule, Rules, Subject,
};
use crate::status::{Report, State};

/// The own cluster's policies, translated.
pub(crate) fn translate(
    cluster: u8,
    cluster_name: &str,
    policies: &[Held<'_, Policy>],
    report: &mut Report,
) -> Vec<Compiled> {
    let mut all = Vec::new();
    for held in policies {
        report.enforced(cluster, held.located);
        if let Rules::Refused { reason, at } = &held.object.rules {
            let reason = format!("line {}: {reason}", at.line);
            report.say(cluster, held.located, State::Refused, reason);
        }
        let origin = format!("{}:{}", held.located.file, held.located.at.line);
        let namespace = &held.object.namespace;
        for subject in &held.object.subjects {
            all.push(one(cluster_name, namespace, held.object, subject, &origin));
        }
    }
    all
}

/// The policies of other clusters: each cluster enforces its own.
pub(crate) fn ignore(cluster: u8, policies: &[Held<'_, Policy>], report: &mut Report) {
    for held in policies {
        let reason = "a policy governs the pods of its own cluster, and this is another's";
        report.say(cluster, held.located, State::Ignored, reason);
    }
}

/// The labels that some policy selects by.
pub(crate) fn selected(policies: &[Compiled]) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for policy in policies {
        keys.extend(policy.subject.requirements.iter().map(Label::key));
        for entry in &policy.entries {
            let peers = match &entry.peers {
                Peers::Any => &[],
                Peers::Of(peers) => peers.as_slice(),
            };
            for peer in peers {
                if let PolicyPeer::Selector(selector) = peer {
                    keys.extend(selector.requirements.iter().map(Label::key));
                }
            }
        }
    }
    keys
}

fn one(
    cluster: &str,
    namespace: &str,
    policy: &Policy,
    subject: &Subject,
    origin: &str,
) -> Compiled {
    let (entries, refused) = match &policy.rules {
        Rules::Refused { reason, at } => (Vec::new(), Some(format!("line {}: {reason}", at.line))),
        Rules::Network { ingress, egress } => {
            let entry = |direction| move |rule| entry(cluster, namespace, direction, rule);
            let ingress = ingress.iter().map(entry(Direction::Ingress));
            let egress = egress.iter().map(entry(Direction::Egress));
            (ingress.chain(egress).collect(), None)
        }
    };
    Compiled {
        name: PolicyName {
            kind: policy.kind.into(),
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
        },
        origin: origin.into(),
        // The cluster comes on top of what is written, so nobody else's pods are ever governed.
        subject: selector(cluster, namespace, &subject.namespaces, &subject.pods)
            .with(key::CLUSTER, cluster),
        entries,
        isolates: Isolates {
            ingress: subject.ingress,
            egress: subject.egress,
        },
        refused,
    }
}

fn entry(cluster: &str, namespace: &str, direction: Direction, rule: &Rule) -> Entry {
    let peer = |peer: &Peer| match peer {
        Peer::Pods { namespaces, pods } => {
            PolicyPeer::Selector(selector(cluster, namespace, namespaces, pods))
        }
        Peer::Block { prefix, except } => PolicyPeer::Cidr {
            prefix: *prefix,
            except: except.clone(),
        },
    };
    Entry {
        direction,
        tier: Tier::Normal,
        priority: 0,
        verdict: EntryVerdict::Allow,
        peers: match rule.peers.as_slice() {
            [] => Peers::Any,
            peers => Peers::Of(peers.iter().map(peer).collect()),
        },
        ports: match rule.ports.as_slice() {
            [] => Ports::Any,
            ports => Ports::Of(ports.iter().map(port).collect()),
        },
    }
}

fn port(port: &Port) -> PortRule {
    PortRule {
        protocol: port.protocol,
        port: match &port.port {
            PortRange::Any => PortMatch::Any,
            PortRange::Numbers(first, last) => PortMatch::Range(*first, *last),
            PortRange::Name(name) => PortMatch::Named(name.clone()),
        },
    }
}

/// Pods by their own and their namespaces' labels, of the own cluster unless the label of the
/// cluster is spoken of: Cilium's default since 1.19.
fn selector(
    cluster: &str,
    namespace: &str,
    namespaces: &Namespaces,
    pods: &LabelSelector,
) -> Selector {
    let mut selector = Selector::everything();
    for requirement in &pods.requirements {
        selector = selector.and(label(requirement.key.clone(), &requirement.operator));
    }
    match namespaces {
        Namespaces::Own => selector = selector.with(key::NAMESPACE, namespace),
        Namespaces::Labelled(labels) => {
            for requirement in &labels.requirements {
                let key = namespace_key(&requirement.key);
                selector = selector.and(label(key, &requirement.operator));
            }
            selector = selector.and(Label::Exists(key::NAMESPACE.into()));
        }
    }
    if selector.names(key::CLUSTER) {
        selector
    } else {
        selector.with(key::CLUSTER, cluster)
    }
}

/// A namespace's label as its pods carry it. The cluster is no label of namespaces, and may be
/// named in their selector all the same.
fn namespace_key(label: &str) -> String {
    if label == key::CLUSTER {
        label.into()
    } else {
        format!("{}{label}", key::NAMESPACE_LABEL_PREFIX)
    }
}

fn label(key: String, operator: &Operator) -> Label {
    match operator {
        Operator::In(values) => Label::In(key, values.clone()),
        Operator::NotIn(values) => Label::NotIn(key, values.clone()),
        Operator::Exists => Label::Exists(key),
        Operator::DoesNotExist => Label::DoesNotExist(key),
    }
}
