//! A line in which each has its place before it is ready: they leave in the order in which they came.

use std::collections::VecDeque;

/// Things that leave in order, each when it is ready.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// `None`: somebody has it in hand.
    places: VecDeque<Option<T>>,
    /// The number of the first place.
    first: u64,
    limit: usize,
}

impl<T> Line<T> {
    /// An empty line with room for `limit`; it allocates once, here.
    pub(super) fn with_limit(limit: usize) -> Line<T> {
        Line {
            places: VecDeque::with_capacity(limit),
            first: 0,
            limit,
        }
    }

    /// Adds a place at the end, for what is ready, or for what [`Line::put`] brings later; its
    /// number.
    ///
    /// # Panics
    /// If it is full: our own bug.
    pub(super) fn add(&mut self, item: Option<T>) -> u64 {
        assert!(!self.is_full(), "the line is full");
        self.places.push_back(item);
        self.first + self.places.len() as u64 - 1
    }

    /// Brings what is ready to its place.
    ///
    /// # Panics
    /// If nobody has it in hand: our own bug.
    pub(super) fn put(&mut self, number: u64, item: T) {
        let place = number.checked_sub(self.first);
        let place = place.and_then(|place| self.places.get_mut(place as usize));
        let place = place.expect("its place is in the line");
        assert!(place.is_none(), "it is in its place already");
        *place = Some(item);
    }

    /// Takes the first out, if it is ready.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = self.places.front_mut()?.take()?;
        self.places.pop_front();
        self.first += 1;
        Some(first)
    }

    /// Whether the first is ready.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.places.front(), Some(Some(_)))
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.places.len() == self.limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_leave_in_the_order_in_which_they_came(
            ready in proptest::collection::vec(any::<bool>(), 1..64),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 64),
        ) {
            let mut line = Line::with_limit(ready.len());
            let mut in_hand: Vec<u64> = Vec::new();
            let mut left = Vec::new();
            for (number, &ready) in (0..).zip(&ready) {
                prop_assert_eq!(line.add(ready.then_some(number)), number);
                if !ready {
                    in_hand.push(number);
                }
            }
            prop_assert!(line.is_full());
            for pick in picks {
                while let Some(item) = line.pop() {
                    left.push(item);
                }
                prop_assert!(!line.is_ready());
                if !in_hand.is_empty() {
                    let number = in_hand.swap_remove(pick.index(in_hand.len()));
                    line.put(number, number);
                }
            }
            left.extend(std::iter::from_fn(|| line.pop()));
            prop_assert_eq!(left, (0..ready.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(line.len(), 0);
        }
    }
}
