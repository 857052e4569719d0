//! The labels that make pods' identities.

use std::collections::BTreeMap;

use policy::{Labels, key};

use crate::inventory::{Key, labels_of};
use crate::object::Pod;
use crate::pods::Judges;
use crate::sets::Sets;
use crate::status::{Said, State};

/// Makes the labels of pods. Those of pods that say the same are made once: most pods have many that
/// are like them, and texts are dear to copy.
pub(crate) struct Labeller<'a> {
    judges: &'a Judges<'a>,
    of_namespaces: BTreeMap<(u8, &'a str), Labels>,
    /// By cluster, namespace, service account and the pod's own labels.
    made: BTreeMap<(u8, &'a str, &'a str, &'a BTreeMap<String, String>), Made>,
}

/// Labels of pods that say the same.
pub(crate) struct Made {
    pub(crate) labels: Labels,
    /// Their place among those in use, once a pod has come there.
    place: Option<usize>,
}

impl<'a> Labeller<'a> {
    pub(crate) fn new(judges: &'a Judges<'a>) -> Labeller<'a> {
        Labeller {
            judges,
            of_namespaces: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// The labels that make a pod's identity. Those that churn are left out, but for those that some
    /// policy selects by: better many identities than a policy that does not hold.
    pub(crate) fn labels(&mut self, pod_key: &Key, pod: &'a Pod) -> &mut Made {
        let judges = self.judges;
        let cluster = pod_key.cluster;
        let says = (
            cluster,
            pod.namespace.as_str(),
            pod.service_account.as_str(),
            &pod.labels,
        );
        let of_namespaces = &mut self.of_namespaces;
        self.made.entry(says).or_insert_with(|| {
            let inventory = judges.inventory;
            let of_namespace = of_namespaces
                .entry((cluster, pod.namespace.as_str()))
                .or_insert_with(|| inventory.labels_of_namespace(cluster, &pod_key.namespace));
            let own = labels_of(&pod.labels);
            let mut labels = Labels::of_pod(
                judges.scopes.name(cluster),
                &pod.namespace,
                &pod.service_account,
                of_namespace,
                &own,
            );
            for churning in judges.churning {
                if let Some(value) = own.value(churning) {
                    labels.insert(*churning, value);
                }
            }
            let place = None;
            Made { labels, place }
        })
    }
}

impl Made {
    /// Their place among those in use, for one more pod that has them.
    pub(crate) fn enter(&mut self, cluster: u8, sets: &mut Sets) -> usize {
        if let Some(place) = self.place {
            sets.join(place);
            return place;
        }
        let place = sets.enter(cluster, &self.labels);
        // One allocation for all pods that have them.
        self.labels = sets.labels(place).clone();
        self.place = Some(place);
        place
    }
}

/// What only we may say of a pod, said by itself, does not count.
pub(crate) fn note_forged_labels(pod: &Pod, said: &mut Said) {
    for label in pod.labels.keys() {
        if key::is_ours(label) {
            let reason = format!("its label {label} is not its own to give, and is left out");
            said.say(State::Partly, reason);
        }
    }
}
