//! Segments that follow each other, with all that a look-up wants to know of them side by side.

use alloc::vec::Vec;

use crate::Prefix;
use crate::number::Number;

/// Most segments of a leaf: what a change moves at most, and what a look-up looks at. One that is full
/// becomes two. In tests few, so that small maps have many.
pub(super) const LEAF: usize = if cfg!(test) { 4 } else { 16 };
/// Segments of a leaf that is made with many others: room for changes is left.
pub(super) const FILL: usize = LEAF - LEAF.div_ceil(8);

/// Whose a segment is: the length of the prefix, and its value; nobody's if there is none.
pub(super) type Owner<V> = Option<(u8, V)>;

/// Some segments; place for place, three columns. None in the order is empty.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Leaf<K, V> {
    /// Where each begins. What is not used is full of ones.
    pub(super) keys: [K; LEAF],
    lengths: [u8; LEAF],
    pub(super) len: u8,
    values: [Option<V>; LEAF],
}

impl<K: Number, V: Clone> Leaf<K, V> {
    pub(super) fn of(segments: &[(K, Owner<V>)]) -> Leaf<K, V> {
        let mut leaf = Leaf {
            keys: [K::MAX; LEAF],
            lengths: [0; LEAF],
            len: 0,
            values: [const { None }; LEAF],
        };
        for (at, (key, owner)) in segments.iter().enumerate() {
            leaf.insert(at, *key, owner.clone());
        }
        leaf
    }

    /// The segment that holds a key, which must not be before the first.
    #[inline]
    pub(super) fn holding(&self, key: K) -> Option<usize> {
        // What is not used is no key.
        let count = key.count(&self.keys).min(usize::from(self.len));
        count.checked_sub(1)
    }

    /// The prefix that a segment belongs to, and its value.
    #[inline]
    pub(super) fn entry(&self, at: usize) -> Option<(Prefix, &V)> {
        let (first, length, value) = self.owner(at)?;
        Some((Prefix::assume(first.address(), length), value))
    }

    /// The same, the prefix by its first key and its length.
    #[inline]
    pub(super) fn owner(&self, at: usize) -> Option<(K, u8, &V)> {
        let (value, length) = (self.values.get(at)?.as_ref()?, self.lengths[at]);
        Some((self.keys[at] & K::mask(length), length, value))
    }

    pub(super) fn set(&mut self, at: usize, owner: Owner<V>) {
        (self.lengths[at], self.values[at]) = match owner {
            Some((length, value)) => (length, Some(value)),
            None => (0, None),
        };
    }

    /// What follows makes room. There must be some.
    pub(super) fn insert(&mut self, at: usize, key: K, owner: Owner<V>) {
        let end = usize::from(self.len);
        self.keys.copy_within(at..end, at + 1);
        self.lengths.copy_within(at..end, at + 1);
        self.values[at..=end].rotate_right(1);
        self.keys[at] = key;
        self.set(at, owner);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) {
        let end = usize::from(self.len);
        self.values[at..end].rotate_left(1);
        self.values[end - 1] = None;
        self.keys.copy_within(at + 1..end, at);
        self.lengths.copy_within(at + 1..end, at);
        self.keys[end - 1] = K::MAX;
        self.len -= 1;
    }

    /// Whether nothing can be put in.
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.len) == LEAF
    }

    /// Gives its upper half away.
    pub(super) fn split(&mut self) -> Leaf<K, V> {
        let (half, end) = (usize::from(self.len) / 2, usize::from(self.len));
        let upper = (half..end).map(|at| {
            let owner = self.owner(at);
            (
                self.keys[at],
                owner.map(|(_, length, value)| (length, value.clone())),
            )
        });
        let upper: Vec<(K, Owner<V>)> = upper.collect();
        for at in (half..end).rev() {
            self.remove(at);
        }
        Leaf::of(&upper)
    }
}
