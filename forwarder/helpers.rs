//! Threads that do the cipher's work for a worker. A worker's traffic may all have one key, as that of
//! a plain interface with one peer has; no other worker may touch it then, and still several cores
//! can seal and open.
//!
//! ```text
//! worker   gives trains their places in a line ─→ jobs ─→ whoever is free: a helper, or itself
//!          goes on with them, in order        ←─ line ←─ done
//! ```
//!
//! The worker never waits for a helper: what none has begun it does itself, and what one has in hand
//! stays in the line with all that is behind it, until the helper wakes the worker. So a helper that
//! gets no core costs nothing. One that loses its core in the middle of a train holds up all that is
//! behind that, whosever it is, and when the line is long the worker takes in no more frames.

mod line;
#[cfg(test)]
mod tests;
mod yard;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use driver::Waker;
use tunnel::{Outbox, Sealing, Unopened, Unsealed};

use crate::ring::Wish;
use line::Line;
use yard::{Job, Work, Yard};

/// Most helpers of a worker. The cipher is about half of what a worker does with a long train, so
/// more than these would wait for it.
const HELPERS_MAX: usize = 3;
/// Trains that may be in the line to the wire: with those of a full outbox they leave buffers free.
const LINE: usize = 2 * ENOUGH;
/// Trains in that line after which the worker takes in no more frames.
const ENOUGH: usize = 32;
/// Trains that may be in the line from the wire: some for each helper while the worker delivers. What
/// of them is not begun the worker opens before it seals anything, or while the oldest is in a helper's
/// hands, so there are few.
const OPENING: usize = 8;

/// A worker's helpers, and what they were given.
pub struct Helpers {
    yard: Arc<Yard>,
    threads: Vec<JoinHandle<()>>,
    seals: Line<Unsealed>,
    opens: Line<Unopened>,
    /// Messages in the line of what is to be sealed.
    sealing: usize,
}

impl Helpers {
    /// Starts the helpers of the worker that `waker` wakes, one of `workers`: as many as there are
    /// cores without a worker, at least one where there are two cores, and at most three. Where the
    /// system gives no threads, the worker does all by itself.
    pub fn start(workers: u16, waker: Waker) -> Helpers {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = match cores {
            1 => 0,
            _ => cores.saturating_sub(workers.into()).clamp(1, HELPERS_MAX),
        };
        Helpers::with_count(count, waker)
    }

    /// The same, so many; none are what a worker on one core has.
    pub(crate) fn with_count(count: usize, waker: Waker) -> Helpers {
        let mut helpers = Helpers {
            yard: Arc::new(Yard::new(count, waker, LINE + OPENING)),
            threads: Vec::with_capacity(count),
            seals: Line::with_limit(LINE),
            opens: Line::with_limit(OPENING),
            sealing: 0,
        };
        for number in 0..count {
            let yard = Arc::clone(&helpers.yard);
            let thread = thread::Builder::new().name(format!("helper-{number}"));
            match thread.spawn(move || yard.help(number)) {
                Ok(thread) => helpers.threads.push(thread),
                Err(error) => {
                    tracing::warn!(%error, number, "no thread for a helper");
                    break;
                }
            }
        }
        helpers
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Messages that wait for the cipher, or behind those that do.
    pub fn queued(&self) -> u64 {
        self.sealing as u64
    }

    /// Before a sleep: says that the worker may be asleep until [`Helpers::rise`]; `false` if there is
    /// something to go on with.
    #[inline]
    pub(crate) fn lie_down(&self) -> bool {
        if self.seals.is_empty() && self.opens.is_empty() {
            return true;
        }
        // A breath ends with its share, and a train from the wire may have been taken in while something
        // else was sealed. Of what is sealed nothing is left but what the wire has no room for, and
        // that wakes by itself.
        if self.opens.is_ready() || !self.yard.jobs.is_empty() {
            return false;
        }
        self.yard.owner.lie_down(Wish::Packets);
        self.yard.done.is_empty() && !self.yard.is_broken()
    }

    /// After a sleep.
    ///
    /// # Panics
    /// If a helper has: what it had in hand is lost, and the worker is made anew with its helpers.
    #[inline]
    pub(crate) fn rise(&self) {
        self.yard.owner.rise();
        assert!(!self.yard.is_broken(), "a helper has panicked");
    }

    /// Whether they can be of use with frames now.
    #[inline]
    pub(crate) fn take_frames(&self) -> bool {
        self.seals.len() < ENOUGH
    }

    /// Whether they take another train from the wire.
    #[inline]
    pub(crate) fn take_trains(&self) -> bool {
        !self.opens.is_full()
    }

    /// Whether trains from the wire are in the line: others go behind them.
    #[inline]
    pub(crate) fn have_trains(&self) -> bool {
        !self.opens.is_empty()
    }

    /// Has all sealed that is to be sealed, and moves to the wire what is, in order.
    pub(crate) fn seal(&mut self, out: &mut Outbox) {
        if !(out.unsealed.is_empty() && self.seals.is_empty()) {
            let mut given = 0;
            while !out.unsealed.is_empty() && !self.seals.is_full() {
                given += usize::from(self.give(out));
            }
            // One of them is the worker's.
            self.wake(given.saturating_sub(1));
            while self.perform_one() {}
            self.take_in();
            while !out.wire.is_full()
                && let Some(train) = self.seals.pop()
            {
                self.sealing -= train.messages();
                let pushed = out.wire.push(train.into_datagrams());
                debug_assert!(pushed.is_ok(), "it is not full");
            }
        }
        out.sealing = match out.unsealed.is_empty() && self.seals.is_empty() {
            true => Sealing::AtOnce,
            false => Sealing::Behind,
        };
    }

    /// Whether [`Helpers::seal`] would move something to the wire.
    #[inline]
    pub(crate) fn has_sealed(&self, out: &Outbox) -> bool {
        self.seals.is_ready() && !out.wire.is_full()
    }

    /// Gives out trains from the wire, in order, as many as the line takes.
    pub(crate) fn open(&mut self, trains: impl Iterator<Item = Unopened>) {
        let mut given = 0_usize;
        for train in trains.take(OPENING - self.opens.len()) {
            if train.has_key() {
                let number = self.opens.add(None);
                self.push(number, Work::Open(train));
                given += 1;
            } else {
                self.opens.add(Some(train));
            }
        }
        self.wake(given.saturating_sub(1));
    }

    /// The oldest train from the wire, once everything that another thread can do about it is done.
    /// `None`: there is none, or a helper has it.
    pub(crate) fn next_opened(&mut self) -> Option<Unopened> {
        loop {
            if !self.opens.is_ready() {
                self.take_in();
            }
            if let Some(train) = self.opens.pop() {
                return Some(train);
            }
            if self.opens.is_empty() || !self.perform_one() {
                return None;
            }
        }
    }

    /// Gives out the oldest of what is to be sealed; whether there is anything to do about it.
    fn give(&mut self, out: &mut Outbox) -> bool {
        let Some(train) = out.unsealed.pop() else {
            return false;
        };
        self.sealing += train.messages();
        if train.is_sealed() {
            self.seals.add(Some(train));
            return false;
        }
        let number = self.seals.add(None);
        self.push(number, Work::Seal(train));
        true
    }

    fn push(&self, number: u64, work: Work) {
        let pushed = self.yard.jobs.push(Job { number, work });
        assert!(pushed.is_ok(), "there is room for what is in both lines");
    }

    /// Does what nobody has begun, the oldest; `false` if there is nothing.
    fn perform_one(&mut self) -> bool {
        let Some(mut job) = self.yard.jobs.pop() else {
            return false;
        };
        job.work.perform();
        self.keep(job);
        true
    }

    /// Takes in what helpers have done.
    fn take_in(&mut self) {
        while let Some(job) = self.yard.done.pop() {
            self.keep(job);
        }
    }

    fn keep(&mut self, job: Job) {
        match job.work {
            Work::Seal(train) => self.seals.put(job.number, train),
            Work::Open(train) => self.opens.put(job.number, train),
            #[cfg(test)]
            Work::Panic => {}
        }
    }

    /// Wakes so many of those who are asleep.
    fn wake(&self, wanted: usize) {
        let all = self.yard.helpers.iter().zip(&self.threads);
        let sleepers = all.filter(|(bell, _)| bell.must_wake(Wish::Packets));
        for (_, thread) in sleepers.take(wanted) {
            thread.thread().unpark();
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.yard.stop();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // One that has panicked has been told of.
            let _ = thread.join();
        }
    }
}
