//! Longest-prefix match (RFC 7608), with nothing to lock and nothing to rebuild on look-up.

mod key;
mod leaf;

use alloc::vec::Vec;

use key::Key;
use leaf::{FILL, Leaf};

use crate::{Address, Prefix};

/// Keys of a node of the index. Four levels of sixteen hold half a million prefixes and more.
const NODE: usize = if cfg!(test) { 3 } else { 16 };

/// A map from prefixes to values that finds the longest prefix of an address.
///
/// Prefixes stand sorted, in leaves, and each knows the lengths of all others that cover it. They
/// never overlap in part, so the longest match of an address is its predecessor in that order, or
/// one of those that cover that: a look-up is one search, or two where prefixes nest.
///
/// A search goes down an index, and at each node looks at all of its keys: what is dear among many
/// prefixes is to wait for memory, and there it waits once a level, and guesses nothing. A change
/// moves part of one leaf, and touches whom the prefix covers; where it makes a leaf or ends one,
/// the index is made anew.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    v4: Family<u32, V>,
    v6: Family<u128, V>,
}

/// The prefixes of one family.
#[derive(Clone, Debug)]
struct Family<K, V> {
    /// From below: the first key of each leaf, and above of each node. The last level is one node.
    /// What is not used of a node is full of ones.
    index: Vec<Vec<[K; NODE]>>,
    /// Which leaf comes first, and so on.
    order: Vec<u32>,
    leaves: Vec<Leaf<K, V>>,
    /// Leaves that are empty, and in no order.
    free: Vec<u32>,
    len: usize,
}

/// Where a prefix stands: its leaf in their order, and the place in that.
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
        self.v4 = Family::new();
        self.v6 = Family::new();
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: &Prefix) -> Option<&V> {
        if prefix.is_v4() {
            self.v4.get(prefix)
        } else {
            self.v6.get(prefix)
        }
    }

    /// The value of exactly this prefix, to be changed.
    pub fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut V> {
        if prefix.is_v4() {
            self.v4.get_mut(prefix)
        } else {
            self.v6.get_mut(prefix)
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
        self.v4.len + self.v6.len
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
            index: Vec::new(),
            order: Vec::new(),
            leaves: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    #[inline]
    fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        let key = K::of(address);
        // The last prefix that begins at or before the address.
        let leaf = self.leaf(self.last_from(key)?)?;
        let at = leaf.count(key).checked_sub(1)?;
        if leaf.keys[at].agrees(key, leaf.lengths[at]) {
            return leaf.entry(at);
        }
        // Else the longest of those that cover that one, and the address as well.
        let common = (leaf.keys[at] ^ key).leading_zeros();
        let length = (leaf.covers[at] & K::up_to(common)).longest()?;
        let place = self.find(key & K::mask(length), length).ok()?;
        self.leaf(place.leaf)?.entry(place.at)
    }

    fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let mut place = match self.find(key, length) {
            Ok(place) => return self.leaf_mut(place.leaf).values[place.at].replace(value),
            Err(place) => place,
        };
        if self.order.is_empty() {
            self.append(key, length, value);
            self.make_index(Vec::from([key]));
            return None;
        }
        let covers = self.covers_at(place, key);
        self.tell_covered(place, key, length, |covers| covers | K::only(length));
        if self.leaf_mut(place.leaf).is_full() {
            place = self.split(place);
        }
        let leaf = self.leaf_mut(place.leaf);
        leaf.insert(place.at, key, length, covers, value);
        self.len += 1;
        if place.at == 0 {
            self.rename(place.leaf, key);
        }
        None
    }

    fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let place = self.find(key, length).ok()?;
        self.tell_covered(place, key, length, |covers| covers & !K::only(length));
        let leaf = self.leaf_mut(place.leaf);
        let value = leaf.remove(place.at);
        let (len, first) = (leaf.len, leaf.keys[0]);
        self.len -= 1;
        if len == 0 {
            let mut firsts = self.firsts();
            firsts.remove(place.leaf);
            self.free.push(self.order.remove(place.leaf));
            self.make_index(firsts);
        } else if place.at == 0 {
            self.rename(place.leaf, first);
        }
        value
    }

    fn extend(&mut self, items: Vec<(Prefix, V)>) {
        // What sorts everything anew pays for many.
        if items.len() < self.len / 16 {
            for (prefix, value) in items {
                self.insert(prefix, value);
            }
            return;
        }
        let mut all: Vec<(Prefix, V)> = self.take().collect();
        all.extend(items);
        // Stable, so that of equal prefixes the last stands last.
        all.sort_by_key(|(prefix, _)| *prefix);
        let mut all = all.into_iter().peekable();
        while let Some((prefix, value)) = all.next() {
            if all.peek().is_none_or(|(next, _)| *next != prefix) {
                self.append(K::of(prefix.address()), prefix.length(), value);
            }
        }
        self.make_index(self.firsts_of_leaves());
    }

    fn retain(&mut self, keep: &mut impl FnMut(&Prefix, &mut V) -> bool) {
        for (prefix, mut value) in self.take() {
            if keep(&prefix, &mut value) {
                self.append(K::of(prefix.address()), prefix.length(), value);
            }
        }
        self.make_index(self.firsts_of_leaves());
    }

    /// Takes everything out, in order.
    fn take(&mut self) -> impl Iterator<Item = (Prefix, V)> + use<K, V> {
        let mut old = core::mem::replace(self, Family::new());
        old.order.into_iter().flat_map(move |leaf| {
            let leaf = core::mem::replace(&mut old.leaves[leaf as usize], Leaf::new());
            let prefixes = leaf.keys.into_iter().zip(leaf.lengths);
            let items = prefixes.zip(leaf.values);
            items.filter_map(|((key, length), value)| {
                Some((Prefix::assume(key.address(), length), value?))
            })
        })
    }

    /// Adds a prefix behind all others, but not to the index.
    fn append(&mut self, key: K, length: u8, value: V) {
        let last = self.order.len().saturating_sub(1);
        let end = self.leaf(last).map_or(0, |leaf| usize::from(leaf.len));
        let mut place = Place {
            leaf: last,
            at: end,
        };
        let covers = self.covers_at(place, key);
        if self.order.is_empty() || end >= FILL {
            place = Place {
                leaf: self.order.len(),
                at: 0,
            };
            self.add(place.leaf, Leaf::new());
        }
        let leaf = self.leaf_mut(place.leaf);
        leaf.insert(place.at, key, length, covers, value);
        self.len += 1;
    }

    /// Puts a leaf into the order.
    fn add(&mut self, place: usize, leaf: Leaf<K, V>) {
        let number = match self.free.pop() {
            Some(number) => {
                self.leaves[number as usize] = leaf;
                number
            }
            None => {
                self.leaves.push(leaf);
                self.leaves.len() as u32 - 1
            }
        };
        self.order.insert(place, number);
    }

    /// Makes two leaves of one; returns where a place in it is now.
    fn split(&mut self, place: Place) -> Place {
        let upper = self.leaf_mut(place.leaf).split();
        let half = usize::from(self.leaf_mut(place.leaf).len);
        let mut firsts = self.firsts();
        firsts.insert(place.leaf + 1, upper.keys[0]);
        self.add(place.leaf + 1, upper);
        self.make_index(firsts);
        match place.at.checked_sub(half) {
            // The end of the lower one is before the begin of the upper one.
            None | Some(0) => place,
            Some(at) => Place {
                leaf: place.leaf + 1,
                at,
            },
        }
    }

    /// The first key of each leaf, as the index knows them.
    fn firsts(&self) -> Vec<K> {
        let nodes = self.index.first().map_or(&[][..], Vec::as_slice);
        let keys = nodes.as_flattened().iter().copied();
        keys.take(self.order.len()).collect()
    }

    /// The same, as the leaves are.
    fn firsts_of_leaves(&self) -> Vec<K> {
        let leaves = self.order.iter().map(|leaf| &self.leaves[*leaf as usize]);
        leaves.map(|leaf| leaf.keys[0]).collect()
    }

    /// Makes the index of the first key of each leaf.
    fn make_index(&mut self, firsts: Vec<K>) {
        self.index.clear();
        let mut keys = firsts;
        while !keys.is_empty() {
            let nodes = keys.chunks(NODE).map(|keys| {
                let mut node = [K::MAX; NODE];
                node[..keys.len()].copy_from_slice(keys);
                node
            });
            let nodes: Vec<[K; NODE]> = nodes.collect();
            keys = match nodes.len() {
                1 => Vec::new(),
                _ => nodes.iter().map(|node| node[0]).collect(),
            };
            self.index.push(nodes);
        }
    }

    /// Tells the index that a leaf begins with another key.
    fn rename(&mut self, mut place: usize, key: K) {
        for level in &mut self.index {
            level[place / NODE][place % NODE] = key;
            if !place.is_multiple_of(NODE) {
                return;
            }
            place /= NODE;
        }
    }

    /// The last leaf that begins at or before a key.
    #[inline]
    fn last_from(&self, key: K) -> Option<usize> {
        let mut at = 0;
        for level in self.index.iter().rev() {
            // A key that is full of ones is not below what is not used of a node.
            let node = at.min(level.len() - 1);
            at = node * NODE + key.count(&level[node]).checked_sub(1)?;
        }
        Some(at.min(self.order.len().checked_sub(1)?))
    }

    #[inline]
    fn leaf(&self, place: usize) -> Option<&Leaf<K, V>> {
        self.leaves.get(*self.order.get(place)? as usize)
    }

    fn leaf_mut(&mut self, place: usize) -> &mut Leaf<K, V> {
        &mut self.leaves[self.order[place] as usize]
    }

    /// The lengths of all that cover a prefix at `place`: in sorted order its predecessor, and
    /// those that cover that one, as far as they hold the key.
    fn covers_at(&self, place: Place, key: K) -> K {
        // Only before all others a place is the first of its leaf.
        let before = place.at.checked_sub(1);
        let Some((before, leaf)) = before.zip(self.leaf(place.leaf)) else {
            return K::NONE;
        };
        let common = (leaf.keys[before] ^ key).leading_zeros();
        (leaf.covers[before] | K::only(leaf.lengths[before])) & K::up_to(common)
    }

    /// Changes what they know of all that a prefix covers, which follow `place`.
    fn tell_covered(&mut self, place: Place, key: K, length: u8, change: impl Fn(K) -> K) {
        let mut from = place.at;
        for leaf in &self.order[place.leaf..] {
            let leaf = &mut self.leaves[*leaf as usize];
            for at in from..usize::from(leaf.len) {
                if !leaf.keys[at].agrees(key, length) {
                    return;
                }
                leaf.covers[at] = change(leaf.covers[at]);
            }
            from = 0;
        }
    }

    fn get(&self, prefix: &Prefix) -> Option<&V> {
        let place = self.find(K::of(prefix.address()), prefix.length()).ok()?;
        self.leaf(place.leaf)?.values[place.at].as_ref()
    }

    fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut V> {
        let place = self.find(K::of(prefix.address()), prefix.length()).ok()?;
        self.leaf_mut(place.leaf).values[place.at].as_mut()
    }

    /// Where a prefix stands, or would.
    fn find(&self, key: K, length: u8) -> Result<Place, Place> {
        let mut place = self.last_from(key).unwrap_or(0);
        // Several may begin with the key.
        let begins_behind = |leaf: &Leaf<K, V>| (leaf.keys[0], leaf.lengths[0]) > (key, length);
        while place > 0 && self.leaf(place).is_some_and(begins_behind) {
            place -= 1;
        }
        let found = self
            .leaf(place)
            .map_or(Err(0), |leaf| leaf.find(key, length));
        let at = |at| Place { leaf: place, at };
        found.map(at).map_err(at)
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        let leaves = self.order.iter().map(|leaf| &self.leaves[*leaf as usize]);
        leaves.flat_map(|leaf| (0..usize::from(leaf.len)).filter_map(|at| leaf.entry(at)))
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
