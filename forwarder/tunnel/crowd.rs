//! Who was here: a set of hashes that never forgets one that it was told, and takes a few for one
//! of those that it was not (Bloom, "Space/time trade-offs in hash coding with allowable errors",
//! 1970).
//!
//! All bits of a hash lie in one line of the processor's cache, since most of what a message costs
//! here is waiting for memory (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom
//! filters", 2007).

use alloc::vec;
use alloc::vec::Vec;

/// Words of a line.
const WORDS: usize = 8;
/// Bits of a line.
pub(crate) const LINE: usize = WORDS * u64::BITS as usize;

/// A set of hashes that nobody outside can compute, `BITS` bits for each.
pub(crate) struct Crowd<const BITS: u32> {
    lines: Vec<[u64; WORDS]>,
}

impl<const BITS: u32> Crowd<BITS> {
    /// An empty one of so many lines. Fresh memory is all zeros, so that none of it is taken up
    /// before somebody comes.
    pub(crate) fn new(lines: usize) -> Crowd<BITS> {
        Crowd {
            lines: vec![[0; WORDS]; lines],
        }
    }

    /// Adds a hash; whether it was there, as far as one can tell.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let place = self.place(hash);
        let mut known = true;
        for (word, bits) in self.lines[place].iter_mut().zip(pattern::<BITS>(hash)) {
            known &= *word & bits == bits;
            *word |= bits;
        }
        known
    }

    /// Forgets everybody.
    pub(crate) fn clear(&mut self) {
        self.lines.fill([0; WORDS]);
    }

    /// Whether a hash is there, as far as one can tell.
    pub(crate) fn has(&self, hash: u64) -> bool {
        let line = self.lines[self.place(hash)].iter();
        line.zip(pattern::<BITS>(hash))
            .all(|(word, bits)| word & bits == bits)
    }

    /// The line of a hash.
    fn place(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }
}

/// The bits of a hash in its line.
fn pattern<const BITS: u32>(hash: u64) -> [u64; WORDS] {
    let (mut bits, mut rest) = ([0; WORDS], hash | 1);
    for _ in 0..BITS {
        // An odd factor, so that every bit of the hash has a part in every place.
        rest = rest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bit = (rest >> 55) as usize;
        bits[bit / 64] |= 1 << (bit % 64);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::reception::Keyed;

    #[test]
    fn who_was_told_is_known_and_of_the_others_as_few_as_the_theory_says() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let mut crowd = Crowd::<8>::new(2_048);
        let count = 2_048 * LINE as u64 / 16;
        assert!((0..count).all(|number| !crowd.insert(keyed.scatter(number)) || number > 1_000));
        assert!((0..count).all(|number| crowd.has(keyed.scatter(number))));
        let others = (count..count + 1_000_000).filter(|number| crowd.has(keyed.scatter(*number)));
        // Sixteen bits for each, 8 of them set: 0.0006 with all memory as one line, and a little
        // more where some lines have more than their share.
        let others = others.count();
        assert!((400..1_400).contains(&others), "{others} of a million");
        crowd.clear();
        assert!((0..count).all(|number| !crowd.has(keyed.scatter(number))));
    }
}
