//! Sets of identities, by their place in a table.

use alloc::vec;
use alloc::vec::Vec;

/// A set of numbers under a limit that all sets of one table share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Members(Vec<u64>);

impl Members {
    pub(crate) fn none(limit: usize) -> Members {
        Members(vec![0; limit.div_ceil(64)])
    }

    pub(crate) fn all(limit: usize) -> Members {
        let mut members = Members(vec![u64::MAX; limit.div_ceil(64)]);
        if let Some(last) = members.0.last_mut()
            && !limit.is_multiple_of(64)
        {
            *last = (1 << (limit % 64)) - 1;
        }
        members
    }

    pub(crate) fn insert(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn add(&mut self, other: &Members) {
        for (word, theirs) in self.0.iter_mut().zip(&other.0) {
            *word |= theirs;
        }
    }

    pub(crate) fn keep(&mut self, other: &Members) {
        for (word, theirs) in self.0.iter_mut().zip(&other.0) {
            *word &= theirs;
        }
    }

    pub(crate) fn remove(&mut self, other: &Members) {
        for (word, theirs) in self.0.iter_mut().zip(&other.0) {
            *word &= !theirs;
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0
            .get(number as usize / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .zip((0..).step_by(64))
            .flat_map(|(&word, first)| {
                let mut left = word;
                core::iter::from_fn(move || {
                    let bit = left.trailing_zeros();
                    left &= left.checked_sub(1)?;
                    Some(first + bit)
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in_at_any_limit() {
        for limit in [0, 1, 63, 64, 65, 128, 200] {
            let all: Vec<u32> = (0..limit as u32).collect();
            assert_eq!(Members::all(limit).iter().collect::<Vec<_>>(), all);
            let mut thirds = Members::none(limit);
            for number in all.iter().filter(|n| *n % 3 == 0) {
                thirds.insert(*number);
            }
            let mut rest = Members::all(limit);
            rest.remove(&thirds);
            for number in 0..limit as u32 + 70 {
                let inside = (number as usize) < limit;
                assert_eq!(thirds.contains(number), inside && number % 3 == 0);
                assert_eq!(rest.contains(number), inside && number % 3 != 0);
            }
            let mut both = thirds.clone();
            both.keep(&rest);
            assert_eq!(both, Members::none(limit));
            both.add(&thirds);
            both.add(&rest);
            assert_eq!(both, Members::all(limit));
        }
    }
}
