//! A search among many sorted keys that waits for memory once a level, and guesses nothing.

use alloc::vec::Vec;

use crate::number::Number;

/// Keys of a node. Four levels of sixteen hold 65,536 keys.
const NODE: usize = if cfg!(test) { 3 } else { 16 };

/// Sorted keys, and above them nodes of the first keys of the nodes below: a B-tree without pointers.
///
/// A search looks at all keys of a node at once, and goes down. A key that is put in or taken out moves
/// those behind it, and has the nodes above made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTree<K> {
    /// From below. The last level is one node. What is not used of a node is full of ones.
    levels: Vec<Vec<[K; NODE]>>,
    len: usize,
}

impl<K> SearchTree<K> {
    /// No keys.
    pub const fn new() -> SearchTree<K> {
        SearchTree {
            levels: Vec::new(),
            len: 0,
        }
    }
}

impl<K> Default for SearchTree<K> {
    fn default() -> SearchTree<K> {
        SearchTree::new()
    }
}

impl<K: Number> SearchTree<K> {
    /// Of these keys, which must be sorted.
    pub fn of(keys: &[K]) -> SearchTree<K> {
        let mut tree = SearchTree::new();
        if !keys.is_empty() {
            tree.len = keys.len();
            tree.levels.push(nodes(keys.iter().copied()));
            tree.build();
        }
        tree
    }

    /// Makes the levels above the lowest.
    fn build(&mut self) {
        self.levels.truncate(1);
        while let Some(below) = self.levels.last().filter(|level| level.len() > 1) {
            let above = nodes(below.iter().map(|node| node[0]));
            self.levels.push(above);
        }
    }

    /// The place of the last key that is not greater.
    #[inline]
    pub fn last_from(&self, key: K) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            // The last of all numbers is not below what is not used of a node.
            let node = at.min(level.len() - 1);
            at = node * NODE + key.count(&level[node]).checked_sub(1)?;
        }
        Some(at.min(self.len.checked_sub(1)?))
    }

    /// Puts a key at a place, so that all stay sorted.
    pub(crate) fn insert(&mut self, place: usize, key: K) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        let lowest = &mut self.levels[0];
        if self.len == lowest.len() * NODE {
            lowest.push([K::MAX; NODE]);
        }
        let keys = lowest.as_flattened_mut();
        keys.copy_within(place..self.len, place + 1);
        keys[place] = key;
        self.len += 1;
        self.build();
    }

    /// Takes the key at a place out.
    pub(crate) fn remove(&mut self, place: usize) {
        let lowest = &mut self.levels[0];
        let keys = lowest.as_flattened_mut();
        keys.copy_within(place + 1..self.len, place);
        self.len -= 1;
        keys[self.len] = K::MAX;
        lowest.truncate(self.len.div_ceil(NODE));
        if lowest.is_empty() {
            self.levels.clear();
        } else {
            self.build();
        }
    }

    /// Has another key at a place, so that all stay sorted.
    pub(crate) fn set(&mut self, mut place: usize, key: K) {
        for level in &mut self.levels {
            level[place / NODE][place % NODE] = key;
            if !place.is_multiple_of(NODE) {
                return;
            }
            place /= NODE;
        }
    }
}

/// Nodes of some keys.
fn nodes<K: Number>(keys: impl Iterator<Item = K>) -> Vec<[K; NODE]> {
    let mut nodes: Vec<[K; NODE]> = Vec::with_capacity(keys.size_hint().0.div_ceil(NODE));
    for (place, key) in keys.enumerate() {
        if place.is_multiple_of(NODE) {
            nodes.push([K::MAX; NODE]);
        }
        nodes[place / NODE][place % NODE] = key;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_binary_search_finds(
            keys in proptest::collection::btree_set(any::<u8>(), 0..100),
            asked in proptest::collection::vec(any::<u8>(), 1..30),
        ) {
            // The ends are as any other.
            let wide = |key: u8| u32::from(key) * 0x0101_0101;
            let keys: Vec<u32> = keys.into_iter().map(wide).collect();
            let tree = SearchTree::of(&keys);
            for key in asked.into_iter().map(wide) {
                let expected = keys.partition_point(|k| *k <= key).checked_sub(1);
                prop_assert_eq!(tree.last_from(key), expected);
            }
        }

        #[test]
        fn one_that_was_changed_is_one_that_was_made(
            steps in proptest::collection::vec((any::<bool>(), any::<u8>()), 0..60),
        ) {
            let (mut tree, mut keys) = (SearchTree::new(), BTreeSet::new());
            for (inserts, key) in steps {
                let key = u128::from(key);
                let place = keys.range(..key).count();
                match (inserts, keys.contains(&key)) {
                    (true, false) => {
                        keys.insert(key);
                        tree.insert(place, key);
                    }
                    (false, true) => {
                        keys.remove(&key);
                        tree.remove(place);
                    }
                    // Until the next one, a key may be any other.
                    _ => {
                        let next = keys.range(key + 1..).next().copied();
                        let last = keys.range(..=key).next_back().copied();
                        if let Some(last) = last.filter(|_| next != Some(key + 1)) {
                            keys.remove(&last);
                            keys.insert(key + 1);
                            tree.set(keys.range(..=key).count(), key + 1);
                        }
                    }
                }
                let sorted: Vec<u128> = keys.iter().copied().collect();
                prop_assert_eq!(&tree, &SearchTree::of(&sorted));
            }
        }
    }
}
