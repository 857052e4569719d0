//! Sets of labels that pods have, and the identity of each.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use policy::{Identity, Labels};

use crate::identity::Numbers;

/// Sets of labels in use. Each has a place, so that only who comes looks for its labels.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    places: BTreeMap<(u8, Labels), usize>,
    /// By place; of one that is free nobody knows the place.
    sets: Vec<Set>,
    free: Vec<usize>,
    /// Places of those that nobody used at some time since they were numbered last.
    left: BTreeSet<usize>,
    /// Places of those that have no number: there may be one by now.
    numberless: BTreeSet<usize>,
    identities: BTreeMap<Identity, Labels>,
}

/// A set of labels.
#[derive(Debug)]
struct Set {
    cluster: u8,
    labels: Labels,
    /// Of how many pods.
    users: usize,
    /// None while its cluster has no number for it.
    identity: Option<Identity>,
}

impl Sets {
    /// The place of a set, for one more pod that has it.
    pub(crate) fn enter(&mut self, cluster: u8, labels: &Labels) -> usize {
        let slot = match self.places.entry((cluster, labels.clone())) {
            Slot::Occupied(slot) => {
                let place = *slot.get();
                self.join(place);
                return place;
            }
            Slot::Vacant(slot) => slot,
        };
        let set = Set {
            cluster,
            labels: labels.clone(),
            users: 1,
            identity: None,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.sets[place] = set;
                place
            }
            None => {
                self.sets.push(set);
                self.sets.len() - 1
            }
        };
        slot.insert(place);
        self.numberless.insert(place);
        place
    }

    /// One more pod has the set at a place where another one has come since sets were numbered.
    pub(crate) fn join(&mut self, place: usize) {
        self.sets[place].users += 1;
    }

    /// A pod that had the set at a place does not any more.
    pub(crate) fn leave(&mut self, place: usize) {
        let set = &mut self.sets[place];
        set.users -= 1;
        if set.users == 0 {
            self.left.insert(place);
        }
    }

    /// Numbers sets that are new, and forgets those that nobody uses any more; returns whether there
    /// were any.
    pub(crate) fn number(&mut self, numbers: &mut Numbers) -> bool {
        let mut differs = false;
        for place in std::mem::take(&mut self.left) {
            let set = &mut self.sets[place];
            // Who left may have come back.
            if set.users == 0 {
                let key = (set.cluster, std::mem::take(&mut set.labels));
                let identity = set.identity.take();
                differs |= identity.is_some_and(|i| self.identities.remove(&i).is_some());
                self.places.remove(&key);
                self.numberless.remove(&place);
                self.free.push(place);
            }
        }
        // In the order of the labels, whatever the order of the pods.
        let new = self.numberless.iter().map(|&place| {
            let set = &self.sets[place];
            (set.cluster, set.labels.clone(), place)
        });
        let mut new: Vec<(u8, Labels, usize)> = new.collect();
        new.sort_unstable();
        for (cluster, labels, place) in new {
            let in_use = |labels: &Labels| self.places.contains_key(&(cluster, labels.clone()));
            let Some(identity) = numbers.number(cluster, &labels, in_use) else {
                continue;
            };
            self.identities.insert(identity, labels);
            self.sets[place].identity = Some(identity);
            self.numberless.remove(&place);
            differs = true;
        }
        differs
    }

    /// The identity of the set at a place; none while its cluster has no number for it.
    pub(crate) fn identity(&self, place: usize) -> Option<Identity> {
        self.sets[place].identity
    }

    /// The labels of the set at a place: one allocation for all pods that have it.
    pub(crate) fn labels(&self, place: usize) -> &Labels {
        &self.sets[place].labels
    }

    /// All that have a number, by that.
    pub(crate) fn identities(&self) -> Vec<(Identity, Labels)> {
        let identities = self.identities.iter();
        identities.map(|(i, labels)| (*i, labels.clone())).collect()
    }
}
