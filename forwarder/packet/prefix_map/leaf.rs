//! Prefixes that follow each other, with all that a look-up wants to know of them side by side.

use core::cmp::Ordering;

use super::key::Key;
use crate::Prefix;

/// Most prefixes of a leaf: what a change moves at most, and what a look-up looks at. One that is full
/// becomes two. In tests few, so that small maps have many.
pub(super) const LEAF: usize = if cfg!(test) { 4 } else { 16 };
/// Prefixes of a leaf that is made at once: room for changes is left.
pub(super) const FILL: usize = LEAF / 4 * 3;

/// Some prefixes; place for place, four columns. None in the order is empty.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Leaf<K, V> {
    /// What is not used is full of ones.
    pub(super) keys: [K; LEAF],
    /// The lengths of the other prefixes that cover this one.
    pub(super) covers: [K; LEAF],
    pub(super) lengths: [u8; LEAF],
    pub(super) len: u8,
    pub(super) values: [Option<V>; LEAF],
}

impl<K: Key, V> Leaf<K, V> {
    pub(super) fn new() -> Leaf<K, V> {
        Leaf {
            keys: [K::MAX; LEAF],
            covers: [K::NONE; LEAF],
            lengths: [0; LEAF],
            len: 0,
            values: [const { None }; LEAF],
        }
    }

    /// How many keys are not greater.
    #[inline]
    pub(super) fn count(&self, key: K) -> usize {
        // What is not used is no key.
        key.count(&self.keys).min(usize::from(self.len))
    }

    /// What follows makes room. There must be some.
    pub(super) fn insert(&mut self, at: usize, key: K, length: u8, covers: K, value: V) {
        let end = usize::from(self.len);
        self.keys.copy_within(at..end, at + 1);
        self.covers.copy_within(at..end, at + 1);
        self.lengths.copy_within(at..end, at + 1);
        self.values[at..=end].rotate_right(1);
        self.keys[at] = key;
        self.covers[at] = covers;
        self.lengths[at] = length;
        self.values[at] = Some(value);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<V> {
        let end = usize::from(self.len);
        let value = self.values[at].take();
        self.values[at..end].rotate_left(1);
        self.keys.copy_within(at + 1..end, at);
        self.covers.copy_within(at + 1..end, at);
        self.lengths.copy_within(at + 1..end, at);
        self.keys[end - 1] = K::MAX;
        self.len -= 1;
        value
    }

    /// Whether nothing can be put in.
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.len) == LEAF
    }

    /// Gives its upper half away.
    pub(super) fn split(&mut self) -> Leaf<K, V> {
        let (half, end) = (usize::from(self.len) / 2, usize::from(self.len));
        let mut upper = Leaf::new();
        for at in half..end {
            if let Some(value) = self.values[at].take() {
                let (key, covers) = (self.keys[at], self.covers[at]);
                upper.insert(at - half, key, self.lengths[at], covers, value);
            }
        }
        self.keys[half..].fill(K::MAX);
        self.len = half as u8;
        upper
    }

    pub(super) fn find(&self, key: K, length: u8) -> Result<usize, usize> {
        let keys = &self.keys[..usize::from(self.len)];
        let mut at = keys.partition_point(|&k| k < key);
        while keys.get(at) == Some(&key) {
            match self.lengths[at].cmp(&length) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }

    #[inline]
    pub(super) fn entry(&self, at: usize) -> Option<(Prefix, &V)> {
        let prefix = Prefix::assume(self.keys[at].address(), self.lengths[at]);
        Some((prefix, self.values[at].as_ref()?))
    }
}
