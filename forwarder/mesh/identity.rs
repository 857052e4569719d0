//! Numbers for sets of labels.
//!
//! A number is an index and means something on this node only, but while it is known it never
//! changes its meaning: flows remember it. So new sets are numbered when they are first compiled,
//! in the order of their labels, whatever the order of the events before; and a number that is not
//! used any more is given away again only when a cluster has run out of fresh ones.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Identity, Labels};

/// The numbers of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    clusters: BTreeMap<u8, ClusterNumbers>,
}

#[derive(Debug, Default)]
struct ClusterNumbers {
    by_labels: BTreeMap<Labels, u16>,
    taken: BTreeSet<u16>,
    /// The number that was given last; 0 is never given.
    last: u16,
}

/// So many sets of labels a cluster can have in use at once.
const SETS_MAX: usize = u16::MAX as usize;

impl Numbers {
    /// The identities of exactly these sets of labels, which must be sorted by cluster. A cluster
    /// that has more than 65,535 sets in use at once gets no number for the rest.
    pub(crate) fn assign<'l>(
        &mut self,
        used: &BTreeMap<u8, BTreeSet<&'l Labels>>,
    ) -> BTreeMap<(u8, &'l Labels), Identity> {
        let mut assigned = BTreeMap::new();
        for (&cluster, sets) in used {
            let numbers = self.clusters.entry(cluster).or_default();
            numbers.make_room(sets);
            for &labels in sets {
                let number = numbers.number(labels);
                let identity = number.and_then(|n| Identity::of_cluster(cluster, n));
                assigned.extend(identity.map(|identity| ((cluster, labels), identity)));
            }
        }
        assigned
    }
}

impl ClusterNumbers {
    fn make_room(&mut self, used: &BTreeSet<&Labels>) {
        let known = |labels: &&&Labels| self.by_labels.contains_key(**labels);
        let new = used.len() - used.iter().filter(known).count();
        if self.by_labels.len() + new > SETS_MAX {
            self.by_labels.retain(|labels, _| used.contains(labels));
            self.taken = self.by_labels.values().copied().collect();
        }
    }

    fn number(&mut self, labels: &Labels) -> Option<u16> {
        if let Some(&number) = self.by_labels.get(labels) {
            return Some(number);
        }
        if self.taken.len() >= SETS_MAX {
            return None;
        }
        // Onwards from the last one, so that a number rests long before it means something else.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.taken.contains(&self.last) {
                break;
            }
        }
        self.taken.insert(self.last);
        self.by_labels.insert(labels.clone(), self.last);
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Labels {
        Labels::from_iter([("app", app)])
    }

    fn assign(numbers: &mut Numbers, cluster: u8, apps: &[&str]) -> Vec<u32> {
        let sets: Vec<Labels> = apps.iter().map(|app| labels(app)).collect();
        let used = BTreeMap::from([(cluster, sets.iter().collect::<BTreeSet<_>>())]);
        let assigned = numbers.assign(&used);
        sets.iter().map(|set| assigned[&(cluster, set)].0).collect()
    }

    #[test]
    fn numbers_carry_their_cluster_and_follow_the_labels_order() {
        let mut numbers = Numbers::default();
        assert_eq!(assign(&mut numbers, 3, &["b", "a"]), [0x30002, 0x30001]);
    }

    #[test]
    fn a_number_keeps_its_meaning_although_others_come_and_go() {
        let mut numbers = Numbers::default();
        assign(&mut numbers, 1, &["b", "c"]);
        assert_eq!(assign(&mut numbers, 1, &["a", "c"]), [0x10003, 0x10002]);
        assert_eq!(assign(&mut numbers, 1, &["b"]), [0x10001]);
    }

    #[test]
    fn a_cluster_that_runs_out_of_numbers_takes_those_that_nobody_uses() {
        let mut numbers = Numbers::default();
        let many: Vec<String> = (0..SETS_MAX).map(|n| format!("{n:05}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(assign(&mut numbers, 1, &many).last(), Some(&0x1ffff));
        let kept = many[7];
        assert_eq!(assign(&mut numbers, 1, &[kept, "new"]), [0x10008, 0x10001]);
    }
}
