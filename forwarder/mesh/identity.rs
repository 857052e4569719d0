//! Numbers for sets of labels.
//!
//! The labels are the identity, and its number is an index. But people meet the number in logs and
//! flow records, so it should be the same after a restart, and on every node that knows the same
//! pods. It begins with a number that follows from the labels alone; where another set has that
//! already, it is the next one that is free. Who came first can differ between two nodes, so for the
//! few sets that meet there (of 2,000 in one cluster about 30) the number can, too: on one node what
//! had a number before a restart takes it over.
//!
//! While a number is known it never changes its meaning: flows remember it. One that is not used any
//! more is given away again only when a cluster has run out of others.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use policy::{Identity, Labels};
use siphasher::sip::SipHasher24;

/// A cluster's numbers, as Cilium gives them: those under 256 are reserved in every cluster.
const FIRST: u16 = 256;

/// So many sets of labels a cluster can have in use at once.
const SETS_MAX: usize = (u16::MAX - FIRST) as usize + 1;

/// The numbers of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    clusters: BTreeMap<u8, ClusterNumbers>,
}

#[derive(Debug, Default)]
struct ClusterNumbers {
    by_labels: BTreeMap<Labels, u16>,
    taken: BTreeSet<u16>,
}

impl Numbers {
    /// Takes over a number from before a restart. One that no cluster can have does not count, nor
    /// one that means something already, nor another one for labels that have one.
    pub(crate) fn remember(&mut self, identity: Identity, labels: Labels) {
        let number = identity.0 as u16;
        let Some(cluster) = identity.cluster().filter(|_| number >= FIRST) else {
            return;
        };
        let numbers = self.clusters.entry(cluster).or_default();
        if !numbers.by_labels.contains_key(&labels) && numbers.taken.insert(number) {
            numbers.by_labels.insert(labels, number);
        }
    }

    /// The identity of a cluster's set of labels; none if all numbers mean sets that are in use.
    /// Of several that are new the one whose labels come first must be asked for first.
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
        if self.taken.len() >= SETS_MAX && !self.by_labels.contains_key(labels) {
            self.by_labels.retain(|labels, _| in_use(labels));
            self.taken = self.by_labels.values().copied().collect();
            if self.taken.len() >= SETS_MAX {
                return None;
            }
        }
        let taken = &mut self.taken;
        let number = self.by_labels.entry(labels.clone());
        Some(*number.or_insert_with(|| free_number(labels, taken)))
    }
}

/// A number for a set; one must be free. It is taken now.
fn free_number(labels: &Labels, taken: &mut BTreeSet<u16>) -> u16 {
    let mut number = preferred(labels);
    while !taken.insert(number) {
        number = number.checked_add(1).unwrap_or(FIRST);
    }
    number
}

/// Where a set begins to look for a number. There is nothing to keep secret: the key is zero.
fn preferred(labels: &Labels) -> u16 {
    let mut hasher = SipHasher24::new();
    for (key, value) in labels.iter() {
        for text in [key, value] {
            hasher.write(text.as_bytes());
            // Ends a text, so that no two sets are read as one.
            hasher.write(&[0]);
        }
    }
    FIRST + (hasher.finish() % SETS_MAX as u64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Labels {
        Labels::from_iter([("app", app)])
    }

    /// Nobody is in use.
    fn number(numbers: &mut Numbers, cluster: u8, app: &str) -> u32 {
        let identity = numbers.number(cluster, &labels(app), |_| false);
        identity.expect("there are some left").0
    }

    /// Two apps that begin at the same number.
    fn rivals() -> [String; 2] {
        let mut seen = BTreeMap::new();
        (0..)
            .find_map(|n: u32| {
                let app = n.to_string();
                let other = seen.insert(preferred(&labels(&app)), app.clone())?;
                Some([other, app])
            })
            .expect("there are fewer numbers than apps")
    }

    #[test]
    fn a_number_follows_from_the_labels_and_lies_in_its_clusters_range() {
        // By another SipHash, and fixed: nodes of other versions must come to the same.
        for (cluster, app, expected) in [(3, "a", 0x3ae88), (3, "b", 0x3fc1d), (1, "a", 0x1ae88)] {
            let identity = number(&mut Numbers::default(), cluster, app);
            assert_eq!(identity, expected, "{cluster} {app}");
            assert!(Identity(identity).is_within(cluster));
        }
    }

    #[test]
    fn a_number_keeps_its_meaning_while_others_come() {
        let mut numbers = Numbers::default();
        let apps: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
        let first: Vec<u32> = apps
            .iter()
            .map(|app| number(&mut numbers, 1, app))
            .collect();
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), apps.len());
        let again: Vec<u32> = apps
            .iter()
            .map(|app| number(&mut numbers, 1, app))
            .collect();
        assert_eq!(first, again);
    }

    #[test]
    fn what_had_a_number_before_a_restart_takes_it_over() {
        let [one, other] = rivals();
        let mut before = Numbers::default();
        let (of_one, of_other) = (number(&mut before, 1, &one), number(&mut before, 1, &other));
        assert_ne!(of_one, of_other);
        // After the restart the other one comes first, or comes alone.
        let mut after = Numbers::default();
        after.remember(Identity(of_one), labels(&one));
        after.remember(Identity(of_other), labels(&other));
        assert_eq!(number(&mut after, 1, &other), of_other);
        assert_eq!(number(&mut after, 1, &one), of_one);
    }

    #[test]
    fn what_makes_no_sense_is_not_remembered() {
        let mut numbers = Numbers::default();
        let of_a = number(&mut Numbers::default(), 1, "a");
        for no_number in [0, 2, 255, 0x1_0000, 0x1_00ff, 0x100_0100] {
            numbers.remember(Identity(no_number), labels("a"));
        }
        numbers.remember(Identity(of_a), labels("b"));
        // Taken by b now; and b has one.
        numbers.remember(Identity(of_a), labels("a"));
        numbers.remember(Identity(of_a + 7), labels("b"));
        assert_eq!(number(&mut numbers, 1, "b"), of_a);
        assert_eq!(number(&mut numbers, 1, "a"), of_a + 1);
    }

    #[test]
    fn a_cluster_that_runs_out_of_numbers_takes_those_that_nobody_uses() {
        let mut numbers = Numbers::default();
        for n in 0..SETS_MAX {
            number(&mut numbers, 1, &format!("{n}"));
        }
        let kept = number(&mut numbers, 1, "7");
        let used = [labels("7"), labels("new")];
        let new = numbers.number(1, &labels("new"), |labels| used.contains(labels));
        assert_ne!(new, None);
        assert_eq!(number(&mut numbers, 1, "7"), kept);
        assert!(numbers.clusters[&1].by_labels.len() == 2);
    }

    #[test]
    fn a_cluster_that_uses_all_its_numbers_has_none_left() {
        let mut numbers = Numbers::default();
        for n in 0..SETS_MAX {
            number(&mut numbers, 1, &format!("{n}"));
        }
        assert_eq!(numbers.number(1, &labels("new"), |_| true), None);
    }
}
