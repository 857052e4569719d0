//! Longest-prefix match (RFC 7608), with nothing to lock and nothing to rebuild on look-up.

mod leaf;
mod segments;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use leaf::Owner;
use segments::Segments;

use crate::number::Number;
use crate::{Address, Prefix};

/// A map from prefixes to values that finds the longest prefix of an address.
///
/// It keeps what the prefixes come to: all addresses of a family in segments, each with the longest
/// prefix that holds it, if one does. So a look-up is one search for the last segment that begins at or
/// before the address, however prefixes nest. A change touches the segments that the prefix covers.
/// Each of those that belong to a prefix has a copy of its value: `V` should be small, or shared.
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    v4: Family<u32, V>,
    v6: Family<u128, V>,
}

/// The prefixes of one family.
#[derive(Clone, Debug)]
struct Family<K, V> {
    segments: Segments<K, V>,
    /// By first key and length: prefixes where a longer one begins. All others begin at a segment that is
    /// theirs.
    shadowed: BTreeMap<(K, u8), V>,
    len: usize,
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
        self.v4.len + self.v6.len
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
            self.v4.get(prefix)
        } else {
            self.v6.get(prefix)
        }
    }

    /// The longest prefix that holds `address`, and its value.
    #[inline]
    pub fn lookup(&self, address: Address) -> Option<(Prefix, &V)> {
        if address.is_v4() {
            self.v4.segments.lookup(Number::of(address))
        } else {
            self.v6.segments.lookup(Number::of(address))
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
            segments: Segments::new(),
            shadowed: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<K: Number, V: Clone> Family<K, V> {
    /// Of sorted prefixes; of equal ones the last wins.
    fn of(prefixes: impl Iterator<Item = (K, u8, V)>) -> Family<K, V> {
        let mut family = Family::new();
        let mut segments = Vec::from([(K::ZERO, None)]);
        // Those that hold the place that is looked at, each around the next.
        let mut open: Vec<(K, u8, V)> = Vec::new();
        for (key, length, value) in prefixes {
            while open.last().is_some_and(|(o, l, _)| o.common(key) < *l) {
                close(&mut open, &mut segments);
            }
            match open.last_mut() {
                Some(last) if (last.0, last.1) == (key, length) => last.2 = value,
                last => {
                    if let Some((_, shorter, value)) = last.filter(|last| last.0 == key) {
                        family.shadowed.insert((key, *shorter), value.clone());
                    }
                    open.push((key, length, value));
                    family.len += 1;
                }
            }
            begin(&mut segments, key, &open);
        }
        while !open.is_empty() {
            close(&mut open, &mut segments);
        }
        family.segments = Segments::of(&segments);
        family
    }

    fn extend(&mut self, items: Vec<(Prefix, V)>) {
        // What looks at everything anew pays for many.
        if items.len() < self.len / 16 {
            for (prefix, value) in items {
                self.insert(prefix, value);
            }
            return;
        }
        let mut all: Vec<(Prefix, V)> = self.iter().map(|(p, value)| (p, value.clone())).collect();
        all.extend(items);
        // Stable, so that of equal prefixes the last stands last.
        all.sort_by_key(|(prefix, _)| *prefix);
        *self = Family::of(all.into_iter().map(|(prefix, value)| {
            let (key, length) = parts(&prefix);
            (key, length, value)
        }));
    }

    fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let (key, length) = parts(&prefix);
        self.segments.begin_at(key);
        if let Some(behind) = key.behind(length) {
            self.segments.begin_at(behind);
        }
        let old = match self.longest_at(key) {
            Some((longest, old)) if longest == length => Some(old.clone()),
            Some((longest, _)) if longest > length => {
                self.shadowed.insert((key, length), value.clone())
            }
            Some((shorter, other)) => {
                let other = other.clone();
                self.shadowed.insert((key, shorter), other);
                None
            }
            None => None,
        };
        self.len += usize::from(old.is_none());
        // Whose a segment is in here is inside of the prefix, or around it, or it itself.
        let mine = |other: Option<u8>| other.is_none_or(|other| other <= length);
        self.segments
            .give((key, length), mine, Some((length, value)));
        old
    }

    fn remove(&mut self, prefix: &Prefix) -> Option<V> {
        let (key, length) = parts(prefix);
        let (longest, own) = self.longest_at(key)?;
        let own = own.clone();
        let heir = self.around(key, length);
        let old = if longest == length {
            let shadowed = heir.as_ref().map(|(length, _)| (key, *length));
            shadowed.and_then(|heir| self.shadowed.remove(&heir));
            own
        } else {
            self.shadowed.remove(&(key, length))?
        };
        self.len -= 1;
        let mine = |other| other == Some(length);
        self.segments.give((key, length), mine, heir);
        self.segments.join_at(key);
        if let Some(behind) = key.behind(length) {
            self.segments.join_at(behind);
        }
        Some(old)
    }

    fn get(&self, prefix: &Prefix) -> Option<&V> {
        let (key, length) = parts(prefix);
        match self.longest_at(key)? {
            (longest, value) if longest == length => Some(value),
            _ => self.shadowed.get(&(key, length)),
        }
    }

    /// The length and the value of the longest prefix that begins at a key.
    fn longest_at(&self, key: K) -> Option<(u8, &V)> {
        let (first, length, value) = self.segments.owner(self.segments.holding(key)?)?;
        (first == key).then_some((length, value))
    }

    /// The longest prefix around another, which need not be there, and its value.
    fn around(&self, key: K, length: u8) -> Owner<V> {
        let (mut begin, mut limit) = (key, length);
        loop {
            // What begins here holds the key, if it is shorter than the limit.
            let here = self.longest_at(begin).filter(|(length, _)| *length < limit);
            let mut shadowed = self.shadowed.range((begin, 0)..(begin, limit));
            let shadowed = || shadowed.next_back().map(|((_, length), v)| (*length, v));
            if let Some((length, value)) = here.or_else(shadowed) {
                return Some((length, value.clone()));
            }
            // What begins before here holds what is just before here.
            let mut place = self.segments.holding(begin)?;
            if self.segments.key(place) == begin {
                place = self.segments.before(place)?;
            }
            let (first, length, value) = self.segments.owner(place)?;
            let common = first.common(key);
            if common >= length {
                return Some((length, value.clone()));
            }
            // None that is longer than what they have in common holds both.
            (begin, limit) = (key & K::mask(common), common + 1);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &V)> {
        let begun = |(key, owner): (K, Option<(K, u8, _)>)| owner.filter(|owner| owner.0 == key);
        self.segments
            .iter()
            .filter_map(begun)
            .flat_map(|(key, longest, value)| {
                let shadowed = self.shadowed.range((key, 0)..(key, longest));
                let shadowed = shadowed.map(|((_, length), value)| (*length, value));
                let all = shadowed.chain([(longest, value)]);
                all.map(move |(length, value)| (Prefix::assume(key.address(), length), value))
            })
    }
}

/// The next segment, which belongs to the innermost of those that are open.
fn begin<K: Number, V: Clone>(segments: &mut Vec<(K, Owner<V>)>, key: K, open: &[(K, u8, V)]) {
    let owner = open
        .last()
        .map(|(_, length, value)| (*length, value.clone()));
    match segments.last_mut() {
        // Nothing was left of the one before.
        Some(last) if last.0 == key => last.1 = owner,
        _ => segments.push((key, owner)),
    }
}

/// The end of the innermost of those that are open, and the next segment behind it.
fn close<K: Number, V: Clone>(open: &mut Vec<(K, u8, V)>, segments: &mut Vec<(K, Owner<V>)>) {
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
        /// That many changes have come to the same as what is made at once.
        fn check(&self) -> Result<(), TestCaseError> {
            let prefixes = self.iter().map(|(prefix, value)| {
                let (key, length) = parts(&prefix);
                (key, length, value.clone())
            });
            let new = Family::of(prefixes);
            prop_assert_eq!((self.len, &self.shadowed), (new.len, &new.shadowed));
            // Without prefixes there may be one segment or none.
            if self.len > 0 {
                prop_assert!(self.segments.iter().eq(new.segments.iter()));
            }
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
