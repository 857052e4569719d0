//! Longest-prefix match (RFC 7608), with nothing to lock and nothing to rebuild on look-up.

mod leaf;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use leaf::{FILL, Leaf, Owner};

use crate::number::Number;
use crate::{Address, Prefix, SearchTree};

/// A map from prefixes to values that finds the longest prefix of an address.
///
/// Beside the prefixes it keeps what they come to: all addresses of a family in segments, each with the
/// longest prefix that holds it, if one does. So a look-up is one search for the last segment that begins
/// at or before the address, however prefixes nest. What it shows of a value is a copy: `V` should be
/// small, or shared.
///
/// Segments stand in leaves, and a change touches those that the prefix covers. Where it makes a leaf or
/// ends one, the leaves behind it are moved.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    v4: Family<u32, V>,
    v6: Family<u128, V>,
}

/// The prefixes of one family.
#[derive(Clone, Debug)]
struct Family<K, V> {
    /// By first address and length.
    prefixes: BTreeMap<(K, u8), V>,
    /// The first key of each leaf.
    firsts: SearchTree<K>,
    /// In order; the first segment begins with the first address. Two that follow each other belong to
    /// different prefixes, or one of them to none. There are none before there was a prefix.
    leaves: Vec<Leaf<K, V>>,
}

/// A segment: its leaf, and its place in that.
#[derive(Clone, Copy)]
struct Place {
    leaf: usize,
    at: usize,
}

impl<V> PrefixMap<V> {
    /// An empty map.
    pub const fn new() -> PrefixMap<V> {
        PrefixMap {
            v4: Family::new(),
            v6: Family::new(),
        }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.prefixes.len() + self.v6.prefixes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: Clone> PrefixMap<V> {
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

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: &Prefix) -> Option<&V> {
        if prefix.is_v4() {
            self.v4.prefixes.get(&parts(prefix))
        } else {
            self.v6.prefixes.get(&parts(prefix))
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
}

impl<V> Default for PrefixMap<V> {
    fn default() -> PrefixMap<V> {
        PrefixMap::new()
    }
}

impl<V: Clone> Extend<(Prefix, V)> for PrefixMap<V> {
    /// Of equal prefixes the last wins.
    fn extend<I: IntoIterator<Item = (Prefix, V)>>(&mut self, items: I) {
        let (v4, v6): (Vec<_>, Vec<_>) = items.into_iter().partition(|(prefix, _)| prefix.is_v4());
        self.v4.extend(v4);
        self.v6.extend(v6);
    }
}

impl<V: Clone> FromIterator<(Prefix, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (Prefix, V)>>(items: I) -> PrefixMap<V> {
        let mut map = PrefixMap::new();
        map.extend(items);
        map
    }
}

/// The first address of a prefix, and its length.
fn parts<K: Number>(prefix: &Prefix) -> (K, u8) {
    (K::of(prefix.address()), prefix.length())
}

impl<K, V> Family<K, V> {
    const fn new() -> Family<K, V> {
        Family {
            prefixes: BTreeMap::new(),
            firsts: SearchTree::new(),
            leaves: Vec::new(),
        }
    }
}

impl<K: Number, V: Clone> Family<K, V> {
    #[inline]
    fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        let key = K::of(address);
        let leaf = self.leaves.get(self.firsts.last_from(key)?)?;
        leaf.entry(leaf.holding(key)?)
    }

    fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let (key, length) = parts(&prefix);
        let old = self.prefixes.insert((key, length), value.clone());
        if old.is_none() {
            self.begin_at(key);
            if let Some(behind) = K::behind(key, length) {
                self.begin_at(behind);
            }
        }
        // Whose a segment is in here is inside of the prefix, or around it, or it itself.
        let mine = |other: Option<u8>| other.is_none_or(|other| other <= length);
        self.give((key, length), mine, Some((length, value)));
        old
    }

    fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        let (key, length) = parts(prefix);
        let old = self.prefixes.remove(&(key, length))?;
        let heir = self.around(key, length);
        self.give((key, length), |other| other == Some(length), heir);
        self.join_at(key);
        if let Some(behind) = K::behind(key, length) {
            self.join_at(behind);
        }
        Some(old)
    }

    fn extend(&mut self, items: Vec<(Prefix, V)>) {
        // What looks at everything anew pays for many.
        if items.len() < self.prefixes.len() / 16 {
            for (prefix, value) in items {
                self.insert(prefix, value);
            }
            return;
        }
        let items = items.into_iter();
        let items = items.map(|(prefix, value)| (parts(&prefix), value));
        if self.prefixes.is_empty() {
            self.prefixes = items.collect();
        } else {
            self.prefixes.extend(items);
        }
        let segments = self.segments();
        self.leaves = segments.chunks(FILL).map(Leaf::of).collect();
        let firsts: Vec<K> = segments.chunks(FILL).map(|some| some[0].0).collect();
        self.firsts = SearchTree::of(&firsts);
    }

    /// What the prefixes come to.
    fn segments(&self) -> Vec<(K, Owner<V>)> {
        let mut segments = Vec::from([(K::ZERO, None)]);
        // Those that hold the place that is looked at, each around the next.
        let mut open: Vec<(K, u8, &V)> = Vec::new();
        for (&(key, length), value) in &self.prefixes {
            while open.last().is_some_and(|(o, l, _)| o.common(key) < *l) {
                close(&mut open, &mut segments);
            }
            open.push((key, length, value));
            begin(&mut segments, key, &open);
        }
        while !open.is_empty() {
            close(&mut open, &mut segments);
        }
        segments
    }

    /// The longest prefix around another, which need not be there, and its value.
    fn around(&self, key: K, length: u8) -> Owner<V> {
        let mut end = (key, length);
        loop {
            // It stands before, and so does all that is inside of it.
            let (&(first, found), value) = self.prefixes.range(..end).next_back()?;
            let common = first.common(key);
            if common >= found {
                return Some((found, value.clone()));
            }
            // None that is longer than what they have in common holds both.
            end = (key & K::mask(common), common + 1);
        }
    }

    /// Gives those segments of a prefix away whose owner's length is asked for.
    fn give(&mut self, (key, length): (K, u8), is: impl Fn(Option<u8>) -> bool, owner: Owner<V>) {
        let from = self.holding(key).leaf;
        let is_behind = |leaf: &Leaf<K, V>| leaf.keys[0] > key && leaf.keys[0].common(key) < length;
        for leaf in self.leaves[from..].iter_mut() {
            if is_behind(leaf) {
                return;
            }
            for at in 0..usize::from(leaf.len) {
                if leaf.keys[at].common(key) >= length && is(leaf.length(at)) {
                    leaf.set(at, owner.clone());
                }
            }
        }
    }

    /// Has a segment begin at a key.
    fn begin_at(&mut self, key: K) {
        if self.leaves.is_empty() {
            self.leaves.push(Leaf::of(&[(K::ZERO, None)]));
            self.firsts = SearchTree::of(&[K::ZERO]);
        }
        let Place { mut leaf, mut at } = self.holding(key);
        if self.leaves[leaf].keys[at] == key {
            return;
        }
        let lower = &mut self.leaves[leaf];
        if lower.is_full() {
            let upper = lower.split();
            let half = usize::from(lower.len);
            self.firsts.insert(leaf + 1, upper.keys[0]);
            self.leaves.insert(leaf + 1, upper);
            if at >= half {
                (leaf, at) = (leaf + 1, at - half);
            }
        }
        let leaf = &mut self.leaves[leaf];
        leaf.insert(at + 1, key, leaf.owner(at));
    }

    /// Makes one of the segment that begins at a key and the one before, if both belong to the same.
    fn join_at(&mut self, key: K) {
        let place = self.holding(key);
        let last = |leaf: usize| usize::from(self.leaves[leaf].len) - 1;
        let before = match (place.leaf.checked_sub(1), place.at.checked_sub(1)) {
            (_, Some(at)) => Place { at, ..place },
            (Some(leaf), None) => Place {
                leaf,
                at: last(leaf),
            },
            (None, None) => return,
        };
        if self.owning(before) != self.owning(place) {
            return;
        }
        let leaf = &mut self.leaves[place.leaf];
        leaf.remove(place.at);
        if leaf.len == 0 {
            self.leaves.remove(place.leaf);
            self.firsts.remove(place.leaf);
        } else if place.at == 0 {
            self.firsts.set(place.leaf, leaf.keys[0]);
        }
    }

    /// The prefix that a segment belongs to.
    fn owning(&self, place: Place) -> Option<(K, u8)> {
        let leaf = &self.leaves[place.leaf];
        let length = leaf.length(place.at)?;
        Some((leaf.keys[place.at] & K::mask(length), length))
    }

    /// The segment that holds a key. There must be some.
    fn holding(&self, key: K) -> Place {
        let leaf = self.firsts.last_from(key).unwrap_or(0);
        let at = self.leaves[leaf].holding(key).unwrap_or(0);
        Place { leaf, at }
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        let prefixes = self.prefixes.iter();
        prefixes.map(|(&(key, length), value)| (Prefix::assume(key.address(), length), value))
    }
}

/// The next segment, which belongs to the innermost of those that are open.
fn begin<K: Number, V: Clone>(segments: &mut Vec<(K, Owner<V>)>, key: K, open: &[(K, u8, &V)]) {
    let owner = open
        .last()
        .map(|(_, length, value)| (*length, V::clone(value)));
    match segments.last_mut() {
        // Nothing was left of the one before.
        Some(last) if last.0 == key => last.1 = owner,
        _ => segments.push((key, owner)),
    }
}

/// The end of the innermost of those that are open, and the next segment behind it.
fn close<K: Number, V: Clone>(open: &mut Vec<(K, u8, &V)>, segments: &mut Vec<(K, Owner<V>)>) {
    let behind = open.pop().and_then(|(key, length, _)| key.behind(length));
    if let Some(behind) = behind {
        begin(segments, behind, open);
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

    impl<K: Number + core::fmt::Debug, V: Clone + PartialEq + core::fmt::Debug> Family<K, V> {
        /// That changes have come to what the prefixes come to.
        fn check(&self) -> Result<(), TestCaseError> {
            let leaves = self.leaves.iter();
            let segments = leaves.flat_map(|leaf| {
                (0..usize::from(leaf.len)).map(|at| (leaf.keys[at], leaf.owner(at)))
            });
            let segments: Vec<(K, Owner<V>)> = segments.collect();
            // The first is left when all prefixes are gone.
            if !segments.is_empty() {
                prop_assert_eq!(segments, self.segments());
            }
            let firsts: Vec<K> = self.leaves.iter().map(|leaf| leaf.keys[0]).collect();
            prop_assert_eq!(&self.firsts, &SearchTree::of(&firsts));
            Ok(())
        }
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
                map.v4.check()?;
                map.v6.check()?;
            }
            prop_assert_eq!(map.len(), naive.0.len());
            for address in &addresses {
                check(&map, &naive, *address)?;
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
    fn the_highest_address_is_as_any_other() {
        for v4 in [true, false] {
            let (bits, all) = if v4 { (32, [255; 4]) } else { (128, [0; 4]) };
            let highest = match v4 {
                true => Address::from_v4(all),
                false => Address::from_v6([255; 16]),
            };
            let mut map = PrefixMap::new();
            // Leaves and nodes that are full, and such that are not.
            for length in 1..=bits {
                let prefix = Prefix::masked(highest, length).unwrap();
                assert_eq!(map.insert(prefix, length), None);
                assert_eq!(map.lookup(highest), Some((prefix, &length)));
            }
            for length in (2..=bits).rev() {
                let prefix = Prefix::masked(highest, length).unwrap();
                assert_eq!(map.remove(&prefix), Some(length));
                let left = map.lookup(highest).map(|(_, length)| *length);
                assert_eq!(left, Some(length - 1));
            }
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
