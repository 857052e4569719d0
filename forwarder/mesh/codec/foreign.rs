//! AdminNetworkPolicy and BaselineAdminNetworkPolicy: what ClusterNetworkPolicy was before its
//! `v1alpha2`. Skipping them would open what they close, so they are refused, and what they govern
//! is denied.

use config::tree::Tree;

use super::metadata::part;
use super::policy::{Draft, Kind, everybody};
use super::selector::selector;
use crate::object::Namespaces;

pub(super) const ADMIN: Kind = Kind {
    name: "AdminNetworkPolicy",
    clusterwide: true,
    read,
};

pub(super) const BASELINE: Kind = Kind {
    name: "BaselineAdminNetworkPolicy",
    clusterwide: true,
    read,
};

fn read(draft: &mut Draft<'_>, tree: &Tree) {
    let reason = "this kind is not enforced: its successor ClusterNetworkPolicy is";
    draft.refusals.add(tree.at, reason);
    let spec = part(tree, "spec");
    let mut written = everybody(Namespaces::ALL);
    let mut read = |tree: Option<&Tree>| {
        let (reader, refusals) = (&mut draft.reader, &mut draft.refusals);
        selector(reader, refusals, tree?, "a selector")
    };
    let subject = part(spec, "subject");
    let pods = part(subject, "pods");
    match (subject.get("namespaces"), subject.get("pods")) {
        (Some(namespaces), None) => {
            if let Some(labels) = read(Some(namespaces)) {
                written.namespaces = Namespaces::Labelled(labels);
            }
        }
        (None, Some(_)) => {
            let namespaces = read(pods.get("namespaceSelector"));
            if let Some((namespaces, pods)) = namespaces.zip(read(pods.get("podSelector"))) {
                written.namespaces = Namespaces::Labelled(namespaces);
                written.pods = pods;
            }
        }
        _ => {}
    }
    let governs = ["ingress", "egress"].map(|section| spec.get(section).is_some());
    draft.add(written, governs);
}
