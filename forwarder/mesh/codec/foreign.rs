//! Policies of kinds that we know and do not enforce yet. Skipping them would open what they
//! close, so they are refused, and what they govern is denied.

use config::Reader;
use config::tree::{Tree, Value};

use super::metadata::{Metadata, part};
use super::selector::{Refusals, selector};
use crate::object::{LabelSelector, Namespaces, Object, Policy, Rules, Subject};

pub(super) fn cilium(_: &mut Reader<'_>, tree: &Tree, metadata: Metadata) -> Option<Object> {
    Some(cilium_policy("CiliumNetworkPolicy", tree, metadata, || {
        Namespaces::Own
    }))
}

pub(super) fn cilium_clusterwide(
    _: &mut Reader<'_>,
    tree: &Tree,
    mut metadata: Metadata,
) -> Option<Object> {
    metadata.namespace.clear();
    Some(cilium_policy(
        "CiliumClusterwideNetworkPolicy",
        tree,
        metadata,
        everywhere,
    ))
}

pub(super) fn cluster_network_policy(
    _: &mut Reader<'_>,
    tree: &Tree,
    metadata: Metadata,
) -> Option<Object> {
    Some(admin_policy("ClusterNetworkPolicy", tree, metadata))
}

pub(super) fn admin_network_policy(
    _: &mut Reader<'_>,
    tree: &Tree,
    metadata: Metadata,
) -> Option<Object> {
    Some(admin_policy("AdminNetworkPolicy", tree, metadata))
}

pub(super) fn baseline_admin_network_policy(
    _: &mut Reader<'_>,
    tree: &Tree,
    metadata: Metadata,
) -> Option<Object> {
    Some(admin_policy("BaselineAdminNetworkPolicy", tree, metadata))
}

fn everywhere() -> Namespaces {
    Namespaces::Labelled(LabelSelector::default())
}

/// `spec` is one rule, `specs` a list of them, and both may be there.
fn cilium_policy(
    kind: &'static str,
    tree: &Tree,
    metadata: Metadata,
    namespaces: fn() -> Namespaces,
) -> Object {
    let more = match tree.get("specs").map(|specs| &specs.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    let mut subjects: Vec<Subject> = tree
        .get("spec")
        .into_iter()
        .chain(more)
        .filter_map(|rule| cilium_subject(rule, namespaces()))
        .collect();
    if tree.get("spec").is_none() && more.is_empty() {
        subjects.push(whole(namespaces()));
    }
    refused(kind, tree, metadata, subjects)
}

/// `None` for a rule about nodes: it governs no pod, and what it governs we do not judge.
fn cilium_subject(rule: &Tree, namespaces: Namespaces) -> Option<Subject> {
    if rule.get("nodeSelector").is_some() && rule.get("endpointSelector").is_none() {
        return None;
    }
    let pods = rule
        .get("endpointSelector")
        .and_then(readable)
        .and_then(without_sources);
    let default_deny = part(rule, "enableDefaultDeny");
    let governs = |sections: [&str; 2]| {
        sections.iter().any(|section| rule.get(section).is_some())
            || default_deny.get(sections[0]).map(|t| &t.value) == Some(&Value::Bool(true))
    };
    Some(Subject {
        namespaces,
        pods: pods.unwrap_or_default(),
        ..both_if_none(
            governs(["ingress", "ingressDeny"]),
            governs(["egress", "egressDeny"]),
        )
    })
}

/// Cilium's selectors name the source of a label: `k8s:app`, or `any:app` for whichever.
fn without_sources(mut selector: LabelSelector) -> Option<LabelSelector> {
    for requirement in &mut selector.requirements {
        if let Some((source, key)) = requirement.key.split_once(':') {
            if !matches!(source, "k8s" | "any") {
                return None;
            }
            requirement.key = key.into();
        }
    }
    Some(selector)
}

/// The policies of Kubernetes' network-policy-api have one shape of subject.
fn admin_policy(kind: &'static str, tree: &Tree, mut metadata: Metadata) -> Object {
    metadata.namespace.clear();
    let spec = part(tree, "spec");
    let subject = part(spec, "subject");
    let pods = subject.get("pods");
    let (namespaces, pods) = match (subject.get("namespaces"), pods) {
        (Some(namespaces), None) => (readable(namespaces), Some(LabelSelector::default())),
        (None, Some(pods)) => (
            pods.get("namespaceSelector").and_then(readable),
            pods.get("podSelector").and_then(readable),
        ),
        _ => (None, None),
    };
    let (namespaces, pods) = namespaces.zip(pods).unwrap_or_default();
    let subject = Subject {
        namespaces: Namespaces::Labelled(namespaces),
        pods,
        ..both_if_none(spec.get("ingress").is_some(), spec.get("egress").is_some())
    };
    refused(kind, tree, metadata, vec![subject])
}

/// A selector that says nothing but labels; `None` if there is anything else to it.
fn readable(tree: &Tree) -> Option<LabelSelector> {
    let (mut reader, mut refusals) = (Reader::new(""), Refusals::default());
    selector(&mut reader, &mut refusals, tree, "a selector")
}

fn whole(namespaces: Namespaces) -> Subject {
    Subject {
        namespaces,
        pods: LabelSelector::default(),
        ingress: true,
        egress: true,
    }
}

/// A policy from which no direction can be read governs both.
fn both_if_none(ingress: bool, egress: bool) -> Subject {
    let neither = !ingress && !egress;
    Subject {
        ingress: ingress || neither,
        egress: egress || neither,
        ..whole(everywhere())
    }
}

fn refused(kind: &'static str, tree: &Tree, metadata: Metadata, subjects: Vec<Subject>) -> Object {
    Object::Policy(Policy {
        kind,
        namespace: metadata.namespace,
        name: metadata.name,
        subjects,
        rules: Rules::Refused {
            reason: format!("{kind} is not enforced yet"),
            at: tree.at,
        },
    })
}
