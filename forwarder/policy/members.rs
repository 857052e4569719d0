//! Sets of identities, by their places.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// A set of small numbers. A copy shares what neither changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members(Arc<[u64]>);

impl Members {
    pub(crate) fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.0.len() {
            self.grow(word + 1);
        }
        Arc::make_mut(&mut self.0)[word] |= 1 << (number % 64);
    }

    pub(crate) fn take(&mut self, number: u32) {
        if self.contains(number) {
            Arc::make_mut(&mut self.0)[number as usize / 64] &= !(1 << (number % 64));
        }
    }

    pub(crate) fn add(&mut self, other: &Members) {
        if self.0.len() < other.0.len() {
            self.grow(other.0.len());
        }
        for (word, theirs) in Arc::make_mut(&mut self.0).iter_mut().zip(&*other.0) {
            *word |= theirs;
        }
    }

    pub(crate) fn keep(&mut self, other: &Members) {
        let theirs = other.0.iter().chain(core::iter::repeat(&0));
        for (word, theirs) in Arc::make_mut(&mut self.0).iter_mut().zip(theirs) {
            *word &= theirs;
        }
    }

    pub(crate) fn remove(&mut self, other: &Members) {
        for (word, theirs) in Arc::make_mut(&mut self.0).iter_mut().zip(&*other.0) {
            *word &= !theirs;
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0
            .get(number as usize / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// All that are in both, ascending.
    pub(crate) fn common(&self, other: &Members) -> impl Iterator<Item = u32> {
        let both = self
            .0
            .iter()
            .zip(&*other.0)
            .map(|(word, theirs)| word & theirs);
        (0u32..).zip(both).flat_map(|(at, mut word)| {
            core::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(at * 64 + bit)
            })
        })
    }

    fn grow(&mut self, words: usize) {
        let mut grown = self.0.to_vec();
        grown.resize(words, 0);
        self.0 = grown.into();
    }
}

impl FromIterator<u32> for Members {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Members {
        let mut words: Vec<u64> = Vec::new();
        for number in numbers {
            let word = number as usize / 64;
            if word >= words.len() {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (number % 64);
        }
        Members(words.into())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u32 = 200;

    fn check(members: &Members, expected: &BTreeSet<u32>) -> Result<(), TestCaseError> {
        for number in 0..LIMIT + 70 {
            prop_assert_eq!(
                members.contains(number),
                expected.contains(&number),
                "{}",
                number
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn sets_hold_what_a_plain_set_holds(
            one in btree_set(0..LIMIT, 0..20),
            // Often shorter than the other one.
            other in btree_set(0..LIMIT / 3, 0..20),
            number in 0..LIMIT,
        ) {
            let set: Members = one.iter().copied().collect();
            let theirs: Members = other.iter().copied().collect();
            check(&set, &one)?;
            for (set, theirs, one, other) in
                [(&set, &theirs, &one, &other), (&theirs, &set, &other, &one)]
            {
                let common: Vec<u32> = set.common(theirs).collect();
                prop_assert_eq!(common, (one & other).into_iter().collect::<Vec<_>>());
                let mut changed = set.clone();
                changed.add(theirs);
                check(&changed, &(one | other))?;
                let mut changed = set.clone();
                changed.keep(theirs);
                check(&changed, &(one & other))?;
                let mut changed = set.clone();
                changed.remove(theirs);
                check(&changed, &(one - other))?;
                let mut changed = set.clone();
                changed.insert(number);
                check(&changed, &(one | &BTreeSet::from([number])))?;
                changed.take(number);
                check(&changed, &(one - &BTreeSet::from([number])))?;
                check(set, one)?;
            }
        }
    }
}
