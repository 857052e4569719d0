//! When each peer wants to be called, earliest first: a binary heap that holds each peer at most
//! once and knows where, so that its size is bounded by the number of peers and nobody ticks over
//! all of them. A deadline that moves later is not told: its peer is called too early once, and
//! tells then.

use alloc::vec::Vec;

use packet::Time;

const NOWHERE: u32 = u32::MAX;

/// The heap of one lane, keyed by the place of a peer in the lane's table.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<(Time, u32)>,
    place: Vec<u32>,
}

impl Timers {
    /// Calls `peer` at `at`, or earlier if that was asked for before.
    #[inline]
    pub(crate) fn call(&mut self, peer: u32, at: Time) {
        match self.place.get(peer as usize) {
            Some(&NOWHERE) => self.insert(peer, at),
            None => {
                self.place.resize(peer as usize + 1, NOWHERE);
                self.insert(peer, at);
            }
            Some(&place) => {
                let place = place as usize;
                if at < self.heap[place].0 {
                    self.heap[place].0 = at;
                    self.rise(place);
                }
            }
        }
    }

    /// Takes out one peer whose time has come.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u32> {
        let &(at, peer) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.forget(peer);
        Some(peer)
    }

    /// Does not call `peer` any more.
    pub(crate) fn forget(&mut self, peer: u32) {
        let Some(&place) = self.place.get(peer as usize) else {
            return;
        };
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        self.place[peer as usize] = NOWHERE;
        self.heap.swap_remove(place);
        if let Some(&(_, moved)) = self.heap.get(place) {
            self.place[moved as usize] = place as u32;
            self.sink(place);
            self.rise(place);
        }
    }

    /// When the next peer wants to be called.
    #[inline]
    pub(crate) fn earliest(&self) -> Option<Time> {
        self.heap.first().map(|&(at, _)| at)
    }

    fn insert(&mut self, peer: u32, at: Time) {
        let place = self.heap.len();
        self.place[peer as usize] = place as u32;
        self.heap.push((at, peer));
        self.rise(place);
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].0) else {
                return;
            };
            if self.heap[place].0 <= self.heap[child].0 {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].1 as usize] = a as u32;
        self.place[self.heap[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map(
            steps in prop::collection::vec((0u8..4, 0u32..20, 0u64..100), 1..300)
        ) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (what, peer, at) in steps {
                match what {
                    0 | 1 => {
                        timers.call(peer, Time::from_nanos(at));
                        model.entry(peer).and_modify(|old| *old = at.min(*old)).or_insert(at);
                    }
                    2 => {
                        timers.forget(peer);
                        model.remove(&peer);
                    }
                    _ => while let Some(peer) = timers.pop_due(Time::from_nanos(at)) {
                        prop_assert!(model.remove(&peer).is_some_and(|was| was <= at));
                    },
                }
                if what == 3 {
                    prop_assert!(model.values().all(|was| *was > at));
                }
                let earliest = model.values().min().copied().map(Time::from_nanos);
                prop_assert_eq!(timers.earliest(), earliest);
            }
        }
    }
}
