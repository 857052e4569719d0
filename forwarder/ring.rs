//! The bell of a worker or a helper, and the rings between threads: what may be touched by several at
//! once.
//!
//! A worker that has put something into a ring rings the other's bell, which costs a system call,
//! and so only does it where the other may be asleep:
//!
//! ```text
//! who gives      puts it into the ring ─ fence ─ is the other lying down? then it rings
//! who receives   lies down ─ fence ─ is something in a ring? then it does not sleep
//! ```
//!
//! Whichever fence is first, one of the two sees the other (Dekker's exclusion): nothing stays in a
//! ring beside a sleeper.

mod bell;

pub(crate) use bell::{Bell, Wish};

use crate::sync::ArrayQueue;

/// A bounded queue between threads, any number on both sides: first in, first out, without a lock.
#[derive(Debug)]
pub(crate) struct Ring<T>(ArrayQueue<T>);

impl<T> Ring<T> {
    /// An empty ring for at most `limit` items; it allocates once, here.
    pub(crate) fn with_limit(limit: usize) -> Ring<T> {
        Ring(ArrayQueue::new(limit))
    }

    /// Puts an item in. A full ring gives it back.
    #[inline]
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.0.push(item)
    }

    /// Takes the oldest item.
    #[inline]
    pub(crate) fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    /// Whether nothing is in it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn only_who_sleeps_is_woken_once_and_only_for_what_it_wants() {
        let bell = Bell::new();
        assert!(!bell.must_wake(Wish::Packets));
        bell.lie_down(Wish::Packets);
        assert!(!bell.must_wake(Wish::Buffers));
        assert!(bell.must_wake(Wish::Packets));
        assert!(!bell.must_wake(Wish::Packets), "somebody rings already");
        bell.lie_down(Wish::Buffers);
        assert!(bell.must_wake(Wish::Buffers));
        bell.lie_down(Wish::Buffers);
        assert!(bell.must_wake(Wish::Packets));
        bell.lie_down(Wish::Packets);
        bell.rise();
        assert!(!bell.must_wake(Wish::Packets));
    }

    #[test]
    fn everything_arrives_in_order_and_nobody_sleeps_beside_it() {
        const ITEMS: u32 = 100_000;
        let (ring, bell) = (Ring::with_limit(16), Bell::new());
        let woken = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..ITEMS {
                    let mut item = number;
                    while let Err(back) = ring.push(item) {
                        item = back;
                        thread::yield_now();
                    }
                    if bell.must_wake(Wish::Packets) {
                        woken.store(true, Ordering::Release);
                    }
                }
            });
            for wanted in 0..ITEMS {
                let next = loop {
                    if let Some(next) = ring.pop() {
                        break next;
                    }
                    bell.lie_down(Wish::Packets);
                    // The sleep: without a ring of the bell it would last for ever.
                    while ring.is_empty() && !woken.swap(false, Ordering::Acquire) {
                        thread::yield_now();
                    }
                    bell.rise();
                };
                assert_eq!(next, wanted);
            }
        });
        assert!(ring.is_empty());
    }
}
