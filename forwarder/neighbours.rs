//! A worker's way to the other workers of its node: a ring to each of packets that cross over and
//! one of buffers that go home, and the same from each.

use std::sync::Arc;

use crossbeam::utils::CachePadded;
use datapath::{Crossing, Outbox};
use driver::Waker;
use packet::{Arena, Buf};

use crate::ring::{Bell, Ring, Wish};

/// Packets that may be on their way from one worker to another: what one transmits in a breath.
const CROSSINGS: usize = 256;
/// A worker that sleeps with fewer buffers than this wants to be woken when some come home.
const ENOUGH: usize = 128;

/// What all workers of a node share.
struct Shared {
    /// From worker `a` to worker `b` at `a * workers + b`.
    pairs: Vec<Pair>,
    sleepers: Vec<Sleeper>,
}

/// The rings from one worker to another.
struct Pair {
    crossings: CachePadded<Ring<Crossing>>,
    homeward: CachePadded<Ring<Buf>>,
}

/// How a worker is woken.
struct Sleeper {
    bell: CachePadded<Bell>,
    waker: Waker,
}

/// The other workers, as one worker of a node sees them.
pub struct Neighbours {
    own: usize,
    shared: Arc<Shared>,
    /// What each was given in this breath, and has not been woken for.
    given: Vec<Option<Wish>>,
}

impl Neighbours {
    /// The neighbours of a worker that is alone.
    pub fn nobody() -> Neighbours {
        let shared = Shared {
            pairs: Vec::new(),
            sleepers: Vec::new(),
        };
        Neighbours {
            own: 0,
            shared: Arc::new(shared),
            given: Vec::new(),
        }
    }

    /// For each worker of a node its neighbours. `wakers` are theirs, and each has `buffers`
    /// buffers.
    pub fn of_all(wakers: Vec<Waker>, buffers: usize) -> Vec<Neighbours> {
        let workers = wakers.len();
        let pair = |_| Pair {
            crossings: CachePadded::new(Ring::with_limit(CROSSINGS)),
            // Room for all that there are: what goes home is never turned away.
            homeward: CachePadded::new(Ring::with_limit(buffers)),
        };
        let sleeper = |waker| Sleeper {
            bell: CachePadded::new(Bell::new()),
            waker,
        };
        let shared = Arc::new(Shared {
            pairs: (0..workers * workers).map(pair).collect(),
            sleepers: wakers.into_iter().map(sleeper).collect(),
        });
        let of = |own| Neighbours {
            own,
            shared: Arc::clone(&shared),
            given: vec![None; workers],
        };
        (0..workers).map(of).collect()
    }

    /// The same, for the worker that takes this one's place.
    pub fn successor(&self) -> Neighbours {
        Neighbours {
            own: self.own,
            shared: Arc::clone(&self.shared),
            given: vec![None; self.given.len()],
        }
    }

    /// How many workers the node has.
    pub fn workers(&self) -> usize {
        self.given.len().max(1)
    }

    /// Before a sleep: says that this worker may be asleep until [`Neighbours::rise`]; `false` if
    /// something waits for it already.
    #[inline]
    pub fn lie_down(&self, arena: &Arena) -> bool {
        let Some(sleeper) = self.shared.sleepers.get(self.own) else {
            return true;
        };
        let few = arena.available() < ENOUGH;
        sleeper
            .bell
            .lie_down(if few { Wish::Buffers } else { Wish::Packets });
        self.others().all(|other| {
            let pair = self.pair(other, self.own);
            pair.crossings.is_empty() && (!few || pair.homeward.is_empty())
        })
    }

    /// After a sleep.
    #[inline]
    pub fn rise(&self) {
        if let Some(sleeper) = self.shared.sleepers.get(self.own) {
            sleeper.bell.rise();
        }
    }

    /// Takes in the buffers that came home, and makes those anew that never will.
    #[inline]
    pub fn take_home(&self, arena: &mut Arena) {
        arena.mend();
        for other in self.others() {
            while let Some(buf) = self.pair(other, self.own).homeward.pop() {
                arena.put(buf);
            }
        }
    }

    /// The other workers' numbers.
    #[inline]
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.own;
        (0..self.given.len()).filter(move |other| *other != own)
    }

    /// The oldest packet that worker `from` left to this one.
    #[inline]
    pub fn take_crossing(&self, from: usize) -> Option<Crossing> {
        self.pair(from, self.own).crossings.pop()
    }

    /// Leaves the others the packets that wait for them in `out`, each worker's in their order.
    // What finds no room comes back by value: a box would be an allocation.
    #[allow(clippy::result_large_err)]
    pub fn hand_over(&mut self, out: &mut Outbox) {
        for other in self.others() {
            let crossings = &self.pair(self.own, other).crossings;
            let mut gave = false;
            out.hand_over(other as u16, |crossing| {
                let pushed = crossings.push(crossing);
                gave |= pushed.is_ok();
                pushed
            });
            if gave {
                self.given[other] = Some(Wish::Packets);
            }
        }
    }

    /// Sends the others' buffers home.
    pub fn send_home(&mut self, arena: &mut Arena) {
        while let Some(buf) = arena.take_foreign() {
            let home = usize::from(buf.home());
            if home >= self.given.len() {
                // Cannot be: all buffers are of workers of this node.
                debug_assert!(false, "a buffer of worker {home}");
                continue;
            }
            // One that finds no room was its home's before the worker there was made anew.
            if self.pair(self.own, home).homeward.push(buf).is_ok() {
                self.given[home].get_or_insert(Wish::Buffers);
            }
        }
    }

    /// After something was given: wakes who was given it and may be asleep.
    pub fn ring(&mut self) {
        for (given, sleeper) in self.given.iter_mut().zip(&self.shared.sleepers) {
            let Some(what) = given.take() else { continue };
            if sleeper.bell.must_wake(what)
                && let Err(error) = sleeper.waker.wake()
            {
                tracing::error!(%error, "a worker cannot be woken");
            }
        }
    }

    #[inline]
    fn pair(&self, from: usize, to: usize) -> &Pair {
        &self.shared.pairs[from * self.given.len() + to]
    }

    /// Whether somebody has woken this worker since it lay down.
    #[cfg(test)]
    pub(crate) fn was_woken(&self) -> bool {
        !self.shared.sleepers[self.own].bell.must_wake(Wish::Packets)
    }
}

impl Drop for Neighbours {
    /// A worker that dies in the middle of its breath may have given something to anybody.
    fn drop(&mut self) {
        self.given.fill(Some(Wish::Packets));
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFERS: usize = 8;

    fn two() -> [Neighbours; 2] {
        let wakers = (0..2).map(|_| Waker::new().expect("an eventfd"));
        let all = Neighbours::of_all(wakers.collect(), BUFFERS);
        all.try_into().ok().expect("two workers")
    }

    #[test]
    fn a_buffer_goes_home_and_wakes_only_who_needs_it() {
        let [mut here, there] = two();
        let (mut ours, mut theirs) = (Arena::new(0, BUFFERS), Arena::new(1, 2 * ENOUGH));
        assert!(there.lie_down(&theirs), "nothing waits");
        let buf = theirs.take().expect("a buffer");
        ours.put(buf);
        here.send_home(&mut ours);
        here.ring();
        assert_eq!((ours.foreign(), theirs.lent()), (0, 1));
        // It has enough without it, so it may go on sleeping.
        assert!(there.lie_down(&theirs));
        let rest: Vec<Buf> = std::iter::from_fn(|| theirs.take()).collect();
        assert!(!there.lie_down(&theirs), "now it needs it");
        there.take_home(&mut theirs);
        assert_eq!(theirs.available(), 1);
        rest.into_iter().for_each(|buf| theirs.put(buf));
        assert_eq!(theirs.lent(), 0);
    }

    #[test]
    fn what_a_dying_worker_has_given_wakes_who_sleeps() {
        let [mut here, there] = two();
        let (mut ours, mut theirs) = (Arena::new(0, BUFFERS), Arena::new(1, BUFFERS));
        ours.put(theirs.take().expect("a buffer"));
        assert!(there.lie_down(&theirs), "nothing waits");
        here.send_home(&mut ours);
        drop(here);
        assert!(there.was_woken());
    }

    #[test]
    fn a_worker_that_is_alone_has_nobody_to_wait_for() {
        let mut alone = Neighbours::nobody();
        let mut arena = Arena::new(0, BUFFERS);
        assert!(alone.lie_down(&arena));
        alone.take_home(&mut arena);
        alone.send_home(&mut arena);
        alone.ring();
        assert_eq!((alone.workers(), alone.others().count()), (1, 0));
    }
}
