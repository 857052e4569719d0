//! All addresses of a family in segments, each with the longest prefix that holds it.

use alloc::vec::Vec;

use super::leaf::{FILL, Leaf, Owner};
use crate::number::Number;
use crate::{Prefix, SearchTree};

/// Segments in order, from the first address on; none before there was a prefix. Two that follow each
/// other belong to different prefixes, or one of them to none.
#[derive(Clone, Debug)]
pub(super) struct Segments<K, V> {
    /// The first key of each leaf.
    firsts: SearchTree<K>,
    /// Which leaf comes first, and so on.
    order: Vec<u32>,
    leaves: Vec<Leaf<K, V>>,
    /// Leaves that are empty, and in no order.
    free: Vec<u32>,
}

/// A segment: its leaf in their order, and its place in that.
#[derive(Clone, Copy)]
pub(super) struct Place {
    leaf: usize,
    at: usize,
}

impl<K, V> Segments<K, V> {
    pub(super) const fn new() -> Segments<K, V> {
        Segments {
            firsts: SearchTree::new(),
            order: Vec::new(),
            leaves: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Number, V: Clone> Segments<K, V> {
    pub(super) fn of(segments: &[(K, Owner<V>)]) -> Segments<K, V> {
        let firsts = segments.chunks(FILL).map(|some| some[0].0);
        let leaves: Vec<Leaf<K, V>> = segments.chunks(FILL).map(Leaf::of).collect();
        Segments {
            firsts: SearchTree::of(&firsts.collect::<Vec<K>>()),
            order: (0..leaves.len() as u32).collect(),
            leaves,
            free: Vec::new(),
        }
    }

    /// The prefix that a key belongs to, and its value.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> Option<(Prefix, &V)> {
        let leaf = self.leaf(self.firsts.last_from(key)?)?;
        leaf.entry(leaf.holding(key)?)
    }

    /// The segment that holds a key; none where there are none at all.
    pub(super) fn holding(&self, key: K) -> Option<Place> {
        let leaf = self.firsts.last_from(key)?;
        let at = self.leaf(leaf)?.holding(key)?;
        Some(Place { leaf, at })
    }

    /// The segment before another.
    pub(super) fn before(&self, place: Place) -> Option<Place> {
        if let Some(at) = place.at.checked_sub(1) {
            return Some(Place { at, ..place });
        }
        let leaf = place.leaf.checked_sub(1)?;
        let at = usize::from(self.leaf(leaf)?.len).checked_sub(1)?;
        Some(Place { leaf, at })
    }

    /// Where a segment begins.
    pub(super) fn key(&self, place: Place) -> K {
        self.leaves[self.order[place.leaf] as usize].keys[place.at]
    }

    /// The prefix that a segment belongs to, and its value.
    pub(super) fn owner(&self, place: Place) -> Option<(K, u8, &V)> {
        self.leaf(place.leaf)?.owner(place.at)
    }

    /// Gives those segments of a prefix away whose owner's length is asked for.
    pub(super) fn give(
        &mut self,
        (key, length): (K, u8),
        is: impl Fn(Option<u8>) -> bool,
        owner: Owner<V>,
    ) {
        let from = self.firsts.last_from(key).unwrap_or(0);
        for leaf in &self.order[from..] {
            let leaf = &mut self.leaves[*leaf as usize];
            if leaf.keys[0] > key && leaf.keys[0].common(key) < length {
                return;
            }
            for at in 0..usize::from(leaf.len) {
                let is_inside = leaf.keys[at].common(key) >= length;
                if is_inside && is(leaf.owner(at).map(|(_, length, _)| length)) {
                    leaf.set(at, owner.clone());
                }
            }
        }
    }

    /// Has a segment begin at a key.
    pub(super) fn begin_at(&mut self, key: K) {
        let Some(mut place) = self.holding(key) else {
            *self = Segments::of(&[(K::ZERO, None)]);
            return self.begin_at(key);
        };
        if self.key(place) == key {
            return;
        }
        let owner = self.owner(place);
        let owner = owner.map(|(_, length, value)| (length, value.clone()));
        if self.leaf_mut(place.leaf).is_full() {
            place = self.split(place);
        }
        self.leaf_mut(place.leaf).insert(place.at + 1, key, owner);
    }

    /// Makes two leaves of one; returns where a segment of it is now.
    fn split(&mut self, place: Place) -> Place {
        let lower = self.leaf_mut(place.leaf);
        let upper = lower.split();
        let half = usize::from(lower.len);
        let behind = place.leaf + 1;
        self.firsts.insert(behind, upper.keys[0]);
        let number = match self.free.pop() {
            Some(number) => {
                self.leaves[number as usize] = upper;
                number
            }
            None => {
                self.leaves.push(upper);
                self.leaves.len() as u32 - 1
            }
        };
        self.order.insert(behind, number);
        match place.at.checked_sub(half) {
            Some(at) => Place { leaf: behind, at },
            None => place,
        }
    }

    /// Makes one of the segment that begins at a key and the one before, if both belong to the same.
    pub(super) fn join_at(&mut self, key: K) {
        let Some(place) = self.holding(key) else {
            return;
        };
        let prefix = |place| self.owner(place).map(|(key, length, _)| (key, length));
        if (self.before(place)).is_none_or(|before| prefix(before) != prefix(place)) {
            return;
        }
        let leaf = self.leaf_mut(place.leaf);
        leaf.remove(place.at);
        let (len, first) = (leaf.len, leaf.keys[0]);
        if len == 0 {
            self.firsts.remove(place.leaf);
            self.free.push(self.order.remove(place.leaf));
        } else if place.at == 0 {
            self.firsts.set(place.leaf, first);
        }
    }

    /// All of them: where each begins, and whose it is.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, Option<(K, u8, &V)>)> {
        let leaves = self.order.iter().map(|leaf| &self.leaves[*leaf as usize]);
        leaves.flat_map(|leaf| (0..usize::from(leaf.len)).map(|at| (leaf.keys[at], leaf.owner(at))))
    }

    #[inline]
    fn leaf(&self, place: usize) -> Option<&Leaf<K, V>> {
        self.leaves.get(*self.order.get(place)? as usize)
    }

    fn leaf_mut(&mut self, place: usize) -> &mut Leaf<K, V> {
        &mut self.leaves[self.order[place] as usize]
    }
}
