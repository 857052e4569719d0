//! All objects that are in force, by cluster and kind: of two with one name, the later file's.

use std::collections::BTreeMap;

use policy::Labels;

use crate::object::{EndpointSlice, Located, Node, Object, Pod, Policy, Service};
use crate::status::{Report, State};

/// An object with what is needed to speak of it.
pub(crate) struct Held<'w, T> {
    pub(crate) object: &'w T,
    pub(crate) located: &'w Located<Object>,
}

impl<T> Clone for Held<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Held<'_, T> {}

/// The objects of one cluster, each kind by namespace and name.
#[derive(Default)]
pub(crate) struct ClusterObjects<'w> {
    pub(crate) nodes: Vec<Held<'w, Node>>,
    /// Labels by name; also of those that only pods name.
    pub(crate) namespaces: BTreeMap<&'w str, Labels>,
    pub(crate) pods: Vec<Held<'w, Pod>>,
    pub(crate) services: BTreeMap<(&'w str, &'w str), Held<'w, Service>>,
    /// By the service that they serve.
    pub(crate) slices: BTreeMap<(&'w str, &'w str), Vec<Held<'w, EndpointSlice>>>,
    pub(crate) policies: Vec<Held<'w, Policy>>,
}

/// Sorts one cluster's objects out; `files` come in the order of their names.
pub(crate) fn take<'w>(
    cluster: u8,
    files: impl Iterator<Item = &'w [Located<Object>]>,
    report: &mut Report,
) -> ClusterObjects<'w> {
    let mut winners: BTreeMap<(&str, &str, &str), &'w Located<Object>> = BTreeMap::new();
    for located in files.flatten() {
        let object = &located.object;
        let key = (object.kind(), object.namespace(), object.name());
        if let Some(earlier) = winners.insert(key, located) {
            let reason = format!(
                "stands again at {}:{}, and the later file wins",
                located.file, located.at.line
            );
            report.say(cluster, earlier, State::Ignored, reason);
        }
    }
    let mut objects = ClusterObjects::default();
    for located in winners.into_values() {
        objects.add(located);
    }
    for pod in &objects.pods {
        objects
            .namespaces
            .entry(&pod.object.namespace)
            .or_insert_with(|| {
                let name = pod.object.namespace.as_str();
                Labels::from_iter([("kubernetes.io/metadata.name", name)])
            });
    }
    objects
}

impl<'w> ClusterObjects<'w> {
    fn add(&mut self, located: &'w Located<Object>) {
        match &located.object {
            Object::Node(object) => self.nodes.push(Held { object, located }),
            Object::Namespace(namespace) => {
                let labels = labels_of(&namespace.labels);
                self.namespaces.insert(&namespace.name, labels);
            }
            Object::Pod(object) => self.pods.push(Held { object, located }),
            Object::Service(object) => {
                let name = (object.namespace.as_str(), object.name.as_str());
                self.services.insert(name, Held { object, located });
            }
            Object::EndpointSlice(object) => {
                let service = (object.namespace.as_str(), object.service.as_str());
                let slices = self.slices.entry(service).or_default();
                slices.push(Held { object, located });
            }
            Object::Policy(object) => self.policies.push(Held { object, located }),
        }
    }
}

/// Labels as policies read them.
pub(crate) fn labels_of(map: &BTreeMap<String, String>) -> Labels {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}
