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
    /// The identity of a cluster's set of labels; none if all numbers mean sets that are in use.
    pub(crate) fn number(
        &mut self,
        cluster: u8,
        labels: &Labels,
        in_use: impl Fn(&Labels) -> bool,
    ) -> Option<Identity> {
        let numbers = self.clusters.entry(cluster).or_default();
        let number = numbers.number(labels, in_use)?;
        Identity::of_cluster(cluster, number)
    }
}

impl ClusterNumbers {
    fn number(&mut self, labels: &Labels, in_use: impl Fn(&Labels) -> bool) -> Option<u16> {
        if let Some(&number) = self.by_labels.get(labels) {
            return Some(number);
        }
        if self.taken.len() >= SETS_MAX {
            self.by_labels.retain(|labels, _| in_use(labels));
            self.taken = self.by_labels.values().copied().collect();
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

    fn number(numbers: &mut Numbers, cluster: u8, app: &str, used: &[&str]) -> Option<u32> {
        let in_use = |labels: &Labels| used.iter().any(|app| labels.value("app") == Some(app));
        let labels = Labels::from_iter([("app", app)]);
        let identity = numbers.number(cluster, &labels, in_use)?;
        Some(identity.0)
    }

    #[test]
    fn a_number_carries_its_cluster_and_keeps_its_meaning() {
        let mut numbers = Numbers::default();
        for (cluster, app, expected) in [
            (3, "b", 0x30001),
            (3, "a", 0x30002),
            (1, "b", 0x10001),
            (3, "c", 0x30003),
            (3, "b", 0x30001),
        ] {
            assert_eq!(number(&mut numbers, cluster, app, &[]), Some(expected));
        }
    }

    #[test]
    fn a_cluster_that_runs_out_of_numbers_takes_those_that_nobody_uses() {
        let mut numbers = Numbers::default();
        for n in 0..SETS_MAX {
            number(&mut numbers, 1, &format!("{n:05}"), &[]);
        }
        let kept = ["00007", "new"];
        assert_eq!(number(&mut numbers, 1, "new", &kept), Some(0x10001));
        assert_eq!(number(&mut numbers, 1, "00007", &kept), Some(0x10008));
    }
}
