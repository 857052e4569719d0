//! Longest-prefix match (RFC 7608), with nothing to lock and nothing to rebuild on look-up.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::{BitAnd, BitOr, BitXor, Not};

use crate::{Address, Prefix};

/// Most prefixes of a chunk: what a change moves at most. One that is full becomes two.
/// In tests few, so that small maps have many.
const CHUNK_MAX: usize = if cfg!(test) { 8 } else { 256 };
/// Prefixes of a chunk that is made at once: room for changes is left.
const CHUNK_FILL: usize = CHUNK_MAX / 4 * 3;

/// A map from prefixes to values that finds the longest prefix of an address.
///
/// Prefixes stand sorted, in chunks, and each knows the lengths of all others that cover it. They
/// never overlap in part, so the longest match of an address is its predecessor in that order, or
/// one of those that cover that: a look-up is one binary search, or two where prefixes nest. A
/// change moves part of one chunk, and touches whom the prefix covers.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    v4: Family<u32, V>,
    v6: Family<u128, V>,
}

/// An address of one family as a number: the fewer bytes, the more of them in a cache line. It is
/// also a set of lengths, without that of a host: no other prefix is covered by a host.
trait Key:
    Copy
    + Ord
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    const NONE: Self;
    fn of(address: Address) -> Self;
    fn address(self) -> Address;
    /// How many upper bits are zero.
    fn leading_zeros(self) -> u8;
    /// The upper `length` bits set.
    fn mask(length: u8) -> Self;
    /// The set of one length; empty for that of a host.
    fn only(length: u8) -> Self;
    /// The set of all lengths up to this one.
    fn up_to(length: u8) -> Self;
    /// The longest length of a set.
    fn longest(self) -> Option<u8>;

    /// Whether the upper `length` bits are the same.
    #[inline]
    fn agrees(self, other: Self, length: u8) -> bool {
        (self ^ other).leading_zeros() >= length
    }
}

macro_rules! key {
    ($number:ident, $from_octets:path) => {
        impl Key for $number {
            const NONE: $number = 0;

            #[inline]
            fn of(address: Address) -> $number {
                u128::from_be_bytes(*address.octets()) as $number
            }

            fn address(self) -> Address {
                $from_octets(self.to_be_bytes())
            }

            #[inline]
            fn leading_zeros(self) -> u8 {
                $number::leading_zeros(self) as u8
            }

            #[inline]
            fn mask(length: u8) -> $number {
                let host = $number::BITS - u32::from(length);
                $number::MAX.checked_shl(host).unwrap_or(0)
            }

            #[inline]
            fn only(length: u8) -> $number {
                (1 as $number).checked_shl(u32::from(length)).unwrap_or(0)
            }

            #[inline]
            fn up_to(length: u8) -> $number {
                let longer = $number::BITS.saturating_sub(u32::from(length) + 1);
                $number::MAX >> longer
            }

            #[inline]
            fn longest(self) -> Option<u8> {
                self.checked_ilog2().map(|length| length as u8)
            }
        }
    };
}

key!(u32, Address::from_v4);
key!(u128, Address::from_v6);

/// The prefixes of one family.
#[derive(Clone, Debug)]
struct Family<K, V> {
    /// Key and length of the first prefix of each chunk.
    firsts: Vec<(K, u8)>,
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

/// Some of them that follow each other; place for place, four columns. None is empty.
#[derive(Clone, Debug)]
struct Chunk<K, V> {
    keys: Vec<K>,
    lengths: Vec<u8>,
    /// The lengths of the other prefixes that cover this one.
    covers: Vec<K>,
    values: Vec<V>,
}

/// Where a prefix stands: its chunk, and the place in that.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
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
            firsts: Vec::new(),
            chunks: Vec::new(),
            len: 0,
        }
    }

    #[inline]
    fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        let key = K::of(address);
        // The last prefix that begins at or before the address.
        let before = self.firsts.partition_point(|first| first.0 <= key);
        let chunk = &self.chunks[before.checked_sub(1)?];
        let at = chunk.keys.partition_point(|&k| k <= key).checked_sub(1)?;
        if chunk.keys[at].agrees(key, chunk.lengths[at]) {
            return Some((chunk.prefix(at), &chunk.values[at]));
        }
        // Else the longest of those that cover that one, and the address as well.
        let common = (chunk.keys[at] ^ key).leading_zeros();
        let length = (chunk.covers[at] & K::up_to(common)).longest()?;
        let place = self.find(key & K::mask(length), length).ok()?;
        let chunk = &self.chunks[place.chunk];
        Some((chunk.prefix(place.at), &chunk.values[place.at]))
    }

    fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let place = match self.find(key, length) {
            Ok(Place { chunk, at }) => {
                let old = &mut self.chunks[chunk].values[at];
                return Some(core::mem::replace(old, value));
            }
            Err(place) => place,
        };
        if self.chunks.is_empty() {
            self.append(key, length, value);
            return None;
        }
        let covers = self.covers_at(place, key);
        self.tell_covered(place, key, length, |covers| covers | K::only(length));
        let Place { chunk, at } = place;
        self.chunks[chunk].insert(at, key, length, covers, value);
        self.len += 1;
        if at == 0 {
            self.firsts[chunk] = (key, length);
        }
        if self.chunks[chunk].keys.len() > CHUNK_MAX {
            let upper = self.chunks[chunk].split();
            self.firsts
                .insert(chunk + 1, (upper.keys[0], upper.lengths[0]));
            self.chunks.insert(chunk + 1, upper);
        }
        None
    }

    fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        let (key, length) = (K::of(prefix.address()), prefix.length());
        let place = self.find(key, length).ok()?;
        self.tell_covered(place, key, length, |covers| covers & !K::only(length));
        let Place { chunk, at } = place;
        let value = self.chunks[chunk].remove(at);
        self.len -= 1;
        let left = &self.chunks[chunk];
        if left.keys.is_empty() {
            self.chunks.remove(chunk);
            self.firsts.remove(chunk);
        } else if at == 0 {
            self.firsts[chunk] = (left.keys[0], left.lengths[0]);
        }
        Some(value)
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
    }

    fn retain(&mut self, keep: &mut impl FnMut(&Prefix, &mut V) -> bool) {
        for (prefix, mut value) in self.take() {
            if keep(&prefix, &mut value) {
                self.append(K::of(prefix.address()), prefix.length(), value);
            }
        }
    }

    /// Takes everything out, in order.
    fn take(&mut self) -> impl Iterator<Item = (Prefix, V)> + use<K, V> {
        let old = core::mem::replace(self, Family::new());
        old.chunks.into_iter().flat_map(|chunk| {
            let prefixes = chunk.keys.into_iter().zip(chunk.lengths);
            prefixes
                .map(|(key, length)| Prefix::assume(key.address(), length))
                .zip(chunk.values)
        })
    }

    /// Adds a prefix behind all others.
    fn append(&mut self, key: K, length: u8, value: V) {
        let full = |chunk: &Chunk<K, V>| chunk.keys.len() >= CHUNK_FILL;
        let end = Place {
            chunk: self.chunks.len().saturating_sub(1),
            at: self.chunks.last().map_or(0, |chunk| chunk.keys.len()),
        };
        let covers = self.covers_at(end, key);
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Chunk::new());
            self.firsts.push((key, length));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.insert(chunk.keys.len(), key, length, covers, value);
            self.len += 1;
        }
    }

    /// The lengths of all that cover a prefix at `place`: in sorted order its predecessor, and
    /// those that cover that one, as far as they hold the key.
    fn covers_at(&self, place: Place, key: K) -> K {
        // Only before all others a place is the first of its chunk.
        let Some(before) = place.at.checked_sub(1) else {
            return K::NONE;
        };
        let chunk = &self.chunks[place.chunk];
        let common = (chunk.keys[before] ^ key).leading_zeros();
        (chunk.covers[before] | K::only(chunk.lengths[before])) & K::up_to(common)
    }

    /// Changes what they know of all that a prefix covers, which follow `place`.
    fn tell_covered(&mut self, place: Place, key: K, length: u8, change: impl Fn(K) -> K) {
        let mut from = place.at;
        for chunk in &mut self.chunks[place.chunk..] {
            for (other, covers) in chunk.keys[from..].iter().zip(&mut chunk.covers[from..]) {
                if !other.agrees(key, length) {
                    return;
                }
                *covers = change(*covers);
            }
            from = 0;
        }
    }

    fn get(&self, prefix: &Prefix) -> Option<&V> {
        let place = self.find(K::of(prefix.address()), prefix.length()).ok()?;
        self.chunks[place.chunk].values.get(place.at)
    }

    fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut V> {
        let place = self.find(K::of(prefix.address()), prefix.length()).ok()?;
        self.chunks[place.chunk].values.get_mut(place.at)
    }

    /// Where a prefix stands, or would.
    fn find(&self, key: K, length: u8) -> Result<Place, Place> {
        let behind = self.firsts.partition_point(|first| *first <= (key, length));
        let chunk = behind.saturating_sub(1);
        let found = self
            .chunks
            .get(chunk)
            .map_or(Err(0), |c| c.find(key, length));
        match found {
            Ok(at) => Ok(Place { chunk, at }),
            Err(at) => Err(Place { chunk, at }),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        self.chunks.iter().flat_map(|chunk| {
            let values = chunk.values.iter().enumerate();
            values.map(|(at, value)| (chunk.prefix(at), value))
        })
    }
}

impl<K: Key, V> Chunk<K, V> {
    fn new() -> Chunk<K, V> {
        Chunk {
            keys: Vec::new(),
            lengths: Vec::new(),
            covers: Vec::new(),
            values: Vec::new(),
        }
    }

    fn insert(&mut self, at: usize, key: K, length: u8, covers: K, value: V) {
        self.keys.insert(at, key);
        self.lengths.insert(at, length);
        self.covers.insert(at, covers);
        self.values.insert(at, value);
    }

    fn remove(&mut self, at: usize) -> V {
        self.keys.remove(at);
        self.lengths.remove(at);
        self.covers.remove(at);
        self.values.remove(at)
    }

    /// Gives its upper half away.
    fn split(&mut self) -> Chunk<K, V> {
        let half = self.keys.len() / 2;
        Chunk {
            keys: self.keys.split_off(half),
            lengths: self.lengths.split_off(half),
            covers: self.covers.split_off(half),
            values: self.values.split_off(half),
        }
    }

    fn find(&self, key: K, length: u8) -> Result<usize, usize> {
        let mut at = self.keys.partition_point(|&k| k < key);
        while self.keys.get(at) == Some(&key) {
            match self.lengths[at].cmp(&length) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }

    fn prefix(&self, at: usize) -> Prefix {
        Prefix::assume(self.keys[at].address(), self.lengths[at])
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
