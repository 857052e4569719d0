//! Maglev's lookup table: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, §3.4.
//!
//! Each backend has a permutation of the table's places from two hashes of its name; in turns each
//! takes the next free place of its own permutation. So shares are equal to within one place, the
//! loss of a backend moves little besides its own flows, and nodes that know the same names agree
//! without speaking to each other.

use alloc::vec;
use alloc::vec::Vec;

use crate::hash::name_hashes;

/// Places in a table unless said otherwise.
///
/// A prime of 32 KiB a table: the paper wants M well above 100 × N, and a service of a mesh has
/// some dozens of backends, not the paper's thousand; its 65,537 would cost 128 KiB for each
/// service port. Cilium chose the same default.
pub const DEFAULT_TABLE_SIZE: usize = 16_381;

/// The most places that a table may have: the largest prime that Cilium allows.
pub const TABLE_SIZE_MAX: usize = 131_071;

/// The most backends that a table holds; of more, the first by name are taken.
pub const BACKENDS_MAX: usize = FREE as usize;

/// A place that nobody has taken yet.
const FREE: u16 = u16::MAX;

/// A lookup table from hashes to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maglev {
    /// Which backend has each place, as an index into `backends`. Empty if nobody has a weight.
    places: Vec<u16>,
    /// The backends by name, as indices into what the table was built from.
    backends: Vec<u32>,
}

impl Maglev {
    /// A table over the backends with these names (unique and the same on every node) and weights.
    ///
    /// Backends without a weight count as 0 and get no place; a name that comes twice counts once,
    /// with the greater weight. `size` is the number of places; it is rounded up to a prime, since
    /// only then is each backend's sequence a permutation, and cut at [`TABLE_SIZE_MAX`]. The
    /// order of the input changes the indices that [`Maglev::pick`] returns, never the names
    /// behind them.
    pub fn build(names: &[impl AsRef<[u8]>], weights: &[u16], size: usize) -> Maglev {
        let size = prime_from(size);
        let mut order: Vec<(&[u8], u16, u32)> = names
            .iter()
            .zip(weights)
            .zip(0..)
            .map(|((name, &weight), index)| (name.as_ref(), weight, index))
            .filter(|&(_, weight, _)| weight > 0)
            .collect();
        order.sort_unstable_by(|a, b| (a.0, b.1, a.2).cmp(&(b.0, a.1, b.2)));
        order.dedup_by_key(|(name, ..)| *name);
        order.truncate(BACKENDS_MAX);
        let mut turns: Vec<Turn> = order
            .iter()
            .map(|&(name, weight, _)| {
                let (offset, skip) = name_hashes(name);
                Turn {
                    next: (offset % size as u64) as usize,
                    skip: (skip % (size as u64 - 1)) as usize + 1,
                    weight: u64::from(weight),
                    due: 0,
                }
            })
            .collect();
        Maglev {
            places: fill(&mut turns, size),
            backends: order.iter().map(|&(_, _, index)| index).collect(),
        }
    }

    /// The backend for a hash, as an index into what the table was built from.
    #[inline]
    pub fn pick(&self, hash: u64) -> Option<usize> {
        let place = hash.checked_rem(self.places.len() as u64)?;
        let backend = *self.places.get(place as usize)?;
        self.backends
            .get(usize::from(backend))
            .map(|&index| index as usize)
    }

    /// How many places the table has; 0 if there is nobody to pick.
    pub fn size(&self) -> usize {
        self.places.len()
    }
}

/// Where a backend stands while a table is filled.
struct Turn {
    /// The next place of its permutation; the offset at first.
    next: usize,
    skip: usize,
    weight: u64,
    /// It takes a place in each round whose number times `weight` has reached this.
    due: u64,
}

/// The paper's pseudocode 1, with weights: a backend of the greatest weight takes a place in each
/// round, one of half that weight in every second, and everybody in the first (as Envoy's
/// `maglev_lb.cc` does it; the paper leaves weights open).
fn fill(turns: &mut [Turn], size: usize) -> Vec<u16> {
    let Some(heaviest) = turns.iter().map(|turn| turn.weight).max() else {
        return Vec::new();
    };
    let mut places = vec![FREE; size];
    let mut free = size;
    let mut round = 0;
    loop {
        round += 1;
        for (backend, turn) in (0..FREE).zip(turns.iter_mut()) {
            if round * turn.weight < turn.due {
                continue;
            }
            turn.due += heaviest;
            while places[turn.next] != FREE {
                // Both are under `size`, so this is the remainder, without a division per step.
                turn.next += turn.skip;
                if turn.next >= size {
                    turn.next -= size;
                }
            }
            places[turn.next] = backend;
            free -= 1;
            if free == 0 {
                return places;
            }
        }
    }
}

/// The least prime that is not under `size`, at most [`TABLE_SIZE_MAX`], at least 3.
fn prime_from(size: usize) -> usize {
    let is_prime = |n: usize| {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    };
    (size.max(3)..TABLE_SIZE_MAX)
        .find(|&n| is_prime(n))
        .unwrap_or(TABLE_SIZE_MAX)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    const PAPER: usize = 65_537;

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|i| format!("1/10.0.{}.{}:80", i / 250, i % 250 + 1))
            .collect()
    }

    /// Who has each place, by name.
    fn owners(names: &[String], weights: &[u16], size: usize) -> Vec<String> {
        let table = Maglev::build(names, weights, size);
        (0..table.size() as u64)
            .map(|hash| names[table.pick(hash).unwrap()].clone())
            .collect()
    }

    fn shares(owners: &[String], names: &[String]) -> Vec<usize> {
        names
            .iter()
            .map(|name| owners.iter().filter(|owner| *owner == name).count())
            .collect()
    }

    fn turn(offset: usize, skip: usize) -> Turn {
        Turn {
            next: offset,
            skip,
            weight: 1,
            due: 0,
        }
    }

    #[test]
    fn the_tables_of_the_paper_come_out() {
        // Table 1 of the paper: M = 7, the permutations of three backends by (offset, skip).
        let mut three = [turn(3, 4), turn(0, 2), turn(3, 1)];
        assert_eq!(fill(&mut three, 7), [1, 0, 1, 0, 2, 2, 0]);
        // Without the second one, the third is number 1 here.
        let mut two = [turn(3, 4), turn(3, 1)];
        assert_eq!(fill(&mut two, 7), [0, 0, 0, 0, 1, 1, 1]);
    }

    /// Takes `lost` of `count` equal backends away. Gives the least and the greatest share before,
    /// and which share of the places of the others changed hands.
    fn lose(count: usize, lost: usize, size: usize) -> (usize, usize, f64) {
        let names = names(count);
        let before = owners(&names, &vec![1; count], size);
        let shares = shares(&before, &names);
        // Spread over the list, so that no neighbourhood is special.
        let gone: Vec<String> = (0..lost).map(|i| names[i * count / lost].clone()).collect();
        let left: Vec<String> = names.into_iter().filter(|n| !gone.contains(n)).collect();
        let after = owners(&left, &vec![1; left.len()], size);
        let moved = (before.iter().zip(&after))
            .filter(|(old, new)| old != new && !gone.contains(old))
            .count();
        let (min, max) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        (*min, *max, moved as f64 / size as f64)
    }

    #[test]
    fn a_hundred_backends_share_evenly_and_the_loss_of_one_moves_little() {
        let (min, max, moved) = lose(100, 1, PAPER);
        assert_eq!((min, max), (655, 656));
        assert!(moved < 0.015, "{moved}");
    }

    #[test]
    fn a_thousand_backends_lose_ten_or_fifty_and_little_else_moves() {
        let (min, max, moved) = lose(1000, 10, PAPER);
        assert_eq!((min, max), (65, 66));
        assert!((0.015..0.030).contains(&moved), "{moved}");
        let (_, _, moved) = lose(1000, 50, PAPER);
        assert!((0.025..0.045).contains(&moved), "{moved}");
    }

    #[test]
    fn the_default_size_is_as_even_for_a_service_of_a_mesh() {
        let (min, max, moved) = lose(50, 1, DEFAULT_TABLE_SIZE);
        assert!(max - min <= 1);
        assert!(moved < 0.015, "{moved}");
    }

    #[test]
    fn weights_are_shares() {
        let names = names(4);
        let owners = owners(&names, &[2, 13, 111, 10], PAPER);
        let shares = shares(&owners, &names);
        for (share, percent) in shares.iter().zip([1.5, 9.6, 81.6, 7.4]) {
            let measured = 100.0 * *share as f64 / PAPER as f64;
            assert!(
                (measured - percent).abs() < 0.1,
                "{measured} % for {percent} %"
            );
        }
    }

    #[test]
    fn who_has_no_weight_gets_nothing_and_who_has_the_least_gets_something() {
        let names = names(3);
        let owners = owners(&names, &[0, 1, 65_535], 101);
        let shares = shares(&owners, &names);
        assert_eq!(shares[0], 0);
        assert!(shares[1] > 0);
        assert_eq!(Maglev::build(&names, &[0, 0, 0], 101).pick(7), None);
        assert_eq!(Maglev::build(&names, &[], 101).pick(7), None);
        assert_eq!(Maglev::default().pick(7), None);
    }

    #[test]
    fn any_size_becomes_a_prime_within_the_limit() {
        let names = names(2);
        for (asked, got) in [
            (0, 3),
            (3, 3),
            (4, 5),
            (16_380, DEFAULT_TABLE_SIZE),
            (PAPER, PAPER),
            (131_070, TABLE_SIZE_MAX),
            (usize::MAX, TABLE_SIZE_MAX),
        ] {
            assert_eq!(Maglev::build(&names, &[1, 1], asked).size(), got);
        }
    }

    #[test]
    fn more_backends_than_places_leave_no_place_free() {
        let names = names(50);
        let table = Maglev::build(&names, &[1; 50], 7);
        for hash in 0..7 {
            assert!(table.pick(hash).is_some());
        }
    }

    #[test]
    fn more_backends_than_the_limit_are_cut_by_name_and_nothing_breaks() {
        let names: Vec<String> = (0..BACKENDS_MAX + 10).map(|i| format!("{i:06}")).collect();
        let table = Maglev::build(&names, &vec![1; names.len()], TABLE_SIZE_MAX);
        for hash in 0..TABLE_SIZE_MAX as u64 {
            assert!(table.pick(hash).unwrap() < BACKENDS_MAX);
        }
    }

    #[test]
    fn a_name_that_comes_twice_counts_once_with_the_greater_weight() {
        let once = owners(&["a".into(), "b".into()], &[3, 2], 101);
        let twice = owners(&["b".into(), "a".into(), "b".into()], &[1, 3, 2], 101);
        assert_eq!(once, twice);
    }

    proptest! {
        #[test]
        fn the_order_of_the_input_does_not_matter(
            (sorted, shuffled) in proptest::collection::btree_map("[a-d]{1,4}", 0u16..5, 0..12)
                .prop_map(|map| map.into_iter().collect::<Vec<_>>())
                .prop_flat_map(|pairs| (Just(pairs.clone()), Just(pairs).prop_shuffle())),
            size in 0usize..300,
        ) {
            let table = |pairs: &[(String, u16)]| {
                let (names, weights): (Vec<String>, Vec<u16>) = pairs.iter().cloned().unzip();
                owners(&names, &weights, size)
            };
            prop_assert_eq!(table(&sorted), table(&shuffled));
        }
    }
}
