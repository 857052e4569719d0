//! Longest-prefix match (RFC 7608), with nothing to lock and nothing to rebuild on look-up.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::{Address, Prefix};

/// A map from prefixes to values that finds the longest prefix of an address.
///
/// Prefixes stand sorted, and each knows the longest other one that covers it. They never overlap
/// in part, so the longest match of an address is its predecessor in that order, or one of those
/// that cover that. A look-up is a binary search and a few steps outwards; a change moves what
/// stands behind it, so many changes are best made at once ([`PrefixMap::extend`], `collect`).
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    v4: Family<u32, V>,
    v6: Family<u128, V>,
}

/// An address of one family as a number: the fewer bytes, the more of them in a cache line.
trait Key: Copy + Ord {
    fn of(address: Address) -> Self;
    fn address(self) -> Address;
    /// Whether the upper `length` bits are the same.
    fn agrees(self, other: Self, length: u8) -> bool;
}

impl Key for u32 {
    #[inline]
    fn of(address: Address) -> u32 {
        u128::of(address) as u32
    }

    fn address(self) -> Address {
        Address::from_v4(self.to_be_bytes())
    }

    #[inline]
    fn agrees(self, other: u32, length: u8) -> bool {
        (self ^ other).leading_zeros() >= u32::from(length)
    }
}

impl Key for u128 {
    #[inline]
    fn of(address: Address) -> u128 {
        u128::from_be_bytes(*address.octets())
    }

    fn address(self) -> Address {
        Address::from_v6(self.to_be_bytes())
    }

    #[inline]
    fn agrees(self, other: u128, length: u8) -> bool {
        (self ^ other).leading_zeros() >= u32::from(length)
    }
}

/// The prefixes of one family; place for place, three columns.
#[derive(Clone, Debug)]
struct Family<K, V> {
    keys: Vec<K>,
    shapes: Vec<Shape>,
    values: Vec<V>,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    length: u8,
    /// Place of the longest other prefix that covers it.
    parent: u32,
}

/// The parent of a prefix that nothing covers.
const NONE: u32 = u32::MAX;

impl<V> PrefixMap<V> {
    /// An empty map.
    pub const fn new() -> PrefixMap<V> {
        PrefixMap {
            v4: Family::new(),
            v6: Family::new(),
        }
    }

    /// Sets the value of a prefix; the old one comes back.
    pub fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        if prefix.is_v4() {
            self.v4.insert(prefix, value)
        } else {
            self.v6.insert(prefix, value)
        }
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        if prefix.is_v4() {
            self.v4.remove(prefix)
        } else {
            self.v6.remove(prefix)
        }
    }

    /// Keeps only what `keep` wants, in one pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&Prefix, &mut V) -> bool) {
        self.v4.retain(&mut keep);
        self.v6.retain(&mut keep);
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: &Prefix) -> Option<&V> {
        if prefix.is_v4() {
            self.v4.find(prefix).ok().map(|at| &self.v4.values[at])
        } else {
            self.v6.find(prefix).ok().map(|at| &self.v6.values[at])
        }
    }

    /// The value of exactly this prefix, to be changed.
    pub fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut V> {
        if prefix.is_v4() {
            let at = self.v4.find(prefix).ok()?;
            Some(&mut self.v4.values[at])
        } else {
            let at = self.v6.find(prefix).ok()?;
            Some(&mut self.v6.values[at])
        }
    }

    /// The longest prefix that holds `address`, and its value.
    #[inline]
    pub fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        if address.is_v4() {
            self.v4.lookup(address)
        } else {
            self.v6.lookup(address)
        }
    }

    /// All prefixes and values, IPv4 first, sorted by address and then by length.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.keys.len() + self.v6.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V> Default for PrefixMap<V> {
    fn default() -> PrefixMap<V> {
        PrefixMap::new()
    }
}

impl<V> Extend<(Prefix, V)> for PrefixMap<V> {
    /// Of equal prefixes the last wins.
    fn extend<I: IntoIterator<Item = (Prefix, V)>>(&mut self, items: I) {
        let (v4, v6): (Vec<_>, Vec<_>) = items.into_iter().partition(|(prefix, _)| prefix.is_v4());
        self.v4.extend(v4);
        self.v6.extend(v6);
    }
}

impl<V> FromIterator<(Prefix, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (Prefix, V)>>(items: I) -> PrefixMap<V> {
        let mut map = PrefixMap::new();
        map.extend(items);
        map
    }
}

impl<K: Key, V> Family<K, V> {
    const fn new() -> Family<K, V> {
        Family {
            keys: Vec::new(),
            shapes: Vec::new(),
            values: Vec::new(),
        }
    }

    #[inline]
    fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        let key = K::of(address);
        // Behind the last prefix that begins at or before the address.
        let end = self.keys.partition_point(|&k| k <= key);
        let mut at = end.checked_sub(1)?;
        loop {
            let shape = self.shapes[at];
            if self.keys[at].agrees(key, shape.length) {
                return Some((self.prefix(at), &self.values[at]));
            }
            if shape.parent == NONE {
                return None;
            }
            at = shape.parent as usize;
        }
    }

    fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let at = match self.find(&prefix) {
            Ok(at) => return Some(core::mem::replace(&mut self.values[at], value)),
            Err(at) => at,
        };
        assert!(self.keys.len() < NONE as usize, "more prefixes than places");
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let parent = self.parent_of(at, key);
        // Whoever stands behind moves by one, and whoever it covers has a nearer parent now.
        for (key_behind, shape) in self.keys[at..].iter().zip(&mut self.shapes[at..]) {
            if shape.parent == parent && key_behind.agrees(key, length) {
                shape.parent = at as u32;
            } else if shape.parent != NONE && shape.parent as usize >= at {
                shape.parent += 1;
            }
        }
        self.keys.insert(at, key);
        self.shapes.insert(at, Shape { length, parent });
        self.values.insert(at, value);
        None
    }

    fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        let at = self.find(prefix).ok()?;
        let parent = self.shapes[at].parent;
        for shape in &mut self.shapes[at + 1..] {
            if shape.parent as usize == at {
                shape.parent = parent;
            } else if shape.parent != NONE && shape.parent as usize > at {
                shape.parent -= 1;
            }
        }
        self.keys.remove(at);
        self.shapes.remove(at);
        Some(self.values.remove(at))
    }

    fn extend(&mut self, items: Vec<(Prefix, V)>) {
        if items.is_empty() {
            return;
        }
        let old: Vec<Prefix> = (0..self.keys.len()).map(|at| self.prefix(at)).collect();
        let mut all: Vec<(Prefix, V)> = old.into_iter().zip(self.values.drain(..)).collect();
        all.extend(items);
        // Stable, so that of equal prefixes the last stands last.
        all.sort_by_key(|(prefix, _)| *prefix);
        self.clear();
        let mut last = None;
        for (prefix, value) in all {
            if last == Some(prefix) {
                self.values.pop();
            } else {
                let (length, parent) = (prefix.length(), NONE);
                self.keys.push(K::of(prefix.address()));
                self.shapes.push(Shape { length, parent });
            }
            self.values.push(value);
            last = Some(prefix);
        }
        self.link();
    }

    fn retain(&mut self, keep: &mut impl FnMut(&Prefix, &mut V) -> bool) {
        let prefixes: Vec<Prefix> = (0..self.keys.len()).map(|at| self.prefix(at)).collect();
        let mut place = 0;
        let mut kept = Vec::with_capacity(prefixes.len());
        self.values.retain_mut(|value| {
            let keeps = keep(&prefixes[place], value);
            if keeps {
                kept.push(place);
            }
            place += 1;
            keeps
        });
        self.keys = kept.iter().map(|&at| self.keys[at]).collect();
        self.shapes = kept.iter().map(|&at| self.shapes[at]).collect();
        self.link();
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.shapes.clear();
        self.values.clear();
    }

    /// Finds everybody's parent anew.
    fn link(&mut self) {
        assert!(self.keys.len() < NONE as usize, "more prefixes than places");
        for at in 0..self.keys.len() {
            self.shapes[at].parent = self.parent_of(at, self.keys[at]);
        }
    }

    /// The parent of a prefix at `at`: in sorted order it is the nearest one before that covers,
    /// and those that cover the one just before are the chain of its parents.
    fn parent_of(&self, at: usize, key: K) -> u32 {
        let mut parent = at.checked_sub(1).map_or(NONE, |before| before as u32);
        while parent != NONE {
            let candidate = parent as usize;
            let shape = self.shapes[candidate];
            if self.keys[candidate].agrees(key, shape.length) {
                break;
            }
            parent = shape.parent;
        }
        parent
    }

    fn find(&self, prefix: &Prefix) -> Result<usize, usize> {
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let mut at = self.keys.partition_point(|&k| k < key);
        while self.keys.get(at) == Some(&key) {
            match self.shapes[at].length.cmp(&length) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }

    fn prefix(&self, at: usize) -> Prefix {
        Prefix::assume(self.keys[at].address(), self.shapes[at].length)
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        self.values
            .iter()
            .enumerate()
            .map(|(at, value)| (self.prefix(at), value))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// What a longest-prefix match is, without any cleverness.
    #[derive(Default)]
    struct Naive(Vec<(Prefix, u32)>);

    impl Naive {
        fn insert(&mut self, prefix: Prefix, value: u32) -> Option<u32> {
            let old = self.remove(&prefix);
            self.0.push((prefix, value));
            old
        }

        fn remove(&mut self, prefix: &Prefix) -> Option<u32> {
            let at = self.0.iter().position(|(p, _)| p == prefix)?;
            Some(self.0.remove(at).1)
        }

        fn lookup(&self, address: Address) -> Option<(Prefix, u32)> {
            self.0
                .iter()
                .filter(|(prefix, _)| prefix.contains(address))
                .max_by_key(|(prefix, _)| prefix.length())
                .copied()
        }
    }

    fn address() -> impl Strategy<Value = Address> {
        // Few bits that vary, at both ends, so that prefixes nest and neighbours meet.
        (any::<bool>(), 0u8..4, 0u8..4, 0u8..4).prop_map(|(v4, a, b, c)| {
            if v4 {
                Address::from_v4([a << 6, b, 0, c])
            } else {
                let mut octets = [0; 16];
                (octets[0], octets[7], octets[15]) = (a << 6, b, c);
                // The mapped block's neighbourhood.
                (octets[10], octets[11]) = if a == 0 { (0xff, 0xfe) } else { (0, 0) };
                Address::from_v6(octets)
            }
        })
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), 0u8..129).prop_map(|(address, length)| {
            let bits = if address.is_v4() { 32 } else { 128 };
            Prefix::masked(address, length % (bits + 1)).unwrap()
        })
    }

    fn check(map: &PrefixMap<u32>, naive: &Naive, address: Address) -> Result<(), TestCaseError> {
        let found = map.lookup(address).map(|(prefix, value)| (prefix, *value));
        prop_assert_eq!(found, naive.lookup(address), "{}", address);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn it_finds_what_a_linear_search_finds(
            steps in proptest::collection::vec((prefix(), any::<bool>(), any::<u32>()), 0..60),
            addresses in proptest::collection::vec(address(), 1..30),
        ) {
            let (mut map, mut naive) = (PrefixMap::new(), Naive::default());
            for (prefix, inserts, value) in steps {
                if inserts {
                    prop_assert_eq!(map.insert(prefix, value), naive.insert(prefix, value));
                } else {
                    prop_assert_eq!(map.remove(&prefix), naive.remove(&prefix));
                }
                prop_assert_eq!(map.get(&prefix).is_some(), inserts);
            }
            prop_assert_eq!(map.len(), naive.0.len());
            for address in &addresses {
                check(&map, &naive, *address)?;
            }
            map.retain(|_, value| *value % 2 == 0);
            naive.0.retain(|(_, value)| value % 2 == 0);
            for address in addresses {
                check(&map, &naive, address)?;
            }
        }

        #[test]
        fn many_at_once_are_as_one_after_another(
            first in proptest::collection::vec((prefix(), any::<u32>()), 0..30),
            second in proptest::collection::vec((prefix(), any::<u32>()), 0..30),
        ) {
            let mut map: PrefixMap<u32> = first.iter().copied().collect();
            map.extend(second.iter().copied());
            let mut one_by_one = PrefixMap::new();
            for (prefix, value) in first.into_iter().chain(second) {
                one_by_one.insert(prefix, value);
            }
            let (a, b): (Vec<_>, Vec<_>) = (map.iter().collect(), one_by_one.iter().collect());
            prop_assert_eq!(a, b);
            for (prefix, _) in map.iter() {
                let address = prefix.address();
                prop_assert_eq!(map.lookup(address), one_by_one.lookup(address));
            }
        }
    }

    #[test]
    fn every_length_is_matched() {
        // RFC 7608 §2: no length is special.
        for v4 in [true, false] {
            let bits = if v4 { 32 } else { 128 };
            let address = if v4 {
                Address::from_v4([170; 4])
            } else {
                Address::from_v6([170; 16])
            };
            let mut map = PrefixMap::new();
            for length in 0..=bits {
                map.insert(Prefix::masked(address, length).unwrap(), length);
            }
            for length in (0..=bits).rev() {
                let prefix = Prefix::masked(address, length).unwrap();
                assert_eq!(map.lookup(address), Some((prefix, &length)));
                assert_eq!(map.remove(&prefix), Some(length));
            }
            assert_eq!(map.lookup(address), None);
        }
    }

    #[test]
    fn prefixes_come_out_sorted() {
        let texts = ["::/0", "10.0.0.0/8", "10.0.0.0/16", "0.0.0.0/0", "fd00::/8"];
        let map: PrefixMap<()> = texts.iter().map(|t| (t.parse().unwrap(), ())).collect();
        let sorted: Vec<Prefix> = map.iter().map(|(prefix, ())| prefix).collect();
        let expected = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "::/0", "fd00::/8"];
        let expected: Vec<Prefix> = expected.iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(sorted, expected);
        assert_eq!(PrefixMap::<()>::new().iter().collect::<Vec<_>>(), vec![]);
    }
}
