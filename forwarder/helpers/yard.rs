//! What a worker and its helpers share, and what a helper does.

use std::thread;

use crossbeam::utils::CachePadded;
use driver::Waker;
use tunnel::{Unopened, Unsealed};

use crate::ring::{Bell, Ring, Wish};
use crate::sync::{AtomicBool, Ordering};

/// What the cipher is to do, on whichever thread.
#[derive(Debug)]
pub(super) enum Work {
    Seal(Unsealed),
    Open(Unopened),
    #[cfg(test)]
    Panic,
}

impl Work {
    pub(super) fn perform(&mut self) {
        match self {
            Work::Seal(train) => train.seal(),
            Work::Open(train) => train.open(),
            #[cfg(test)]
            Work::Panic => panic!("of the test"),
        }
    }
}

/// Work, with its place in the worker's line of its kind.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) work: Work,
}

/// What a worker and its helpers share.
pub(super) struct Yard {
    /// What nobody has begun. Whoever is free takes the oldest.
    pub(super) jobs: CachePadded<Ring<Job>>,
    /// What helpers have done.
    pub(super) done: CachePadded<Ring<Job>>,
    /// The helpers' bells, and the worker's.
    pub(super) helpers: Vec<CachePadded<Bell>>,
    pub(super) owner: CachePadded<Bell>,
    waker: Waker,
    stopping: AtomicBool,
    /// A helper has panicked, and what it had in hand is lost.
    broken: AtomicBool,
}

impl Yard {
    /// For `helpers` helpers of the worker that `waker` wakes, and at most `limit` jobs.
    pub(super) fn new(helpers: usize, waker: Waker, limit: usize) -> Yard {
        let helpers = (0..helpers).map(|_| CachePadded::new(Bell::new()));
        Yard {
            jobs: CachePadded::new(Ring::with_limit(limit)),
            done: CachePadded::new(Ring::with_limit(limit)),
            helpers: helpers.collect(),
            owner: CachePadded::new(Bell::new()),
            waker,
            stopping: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// What helper `number` does until it is told to stop.
    pub(super) fn help(&self, number: usize) {
        let _tell = Broken(self);
        while !self.is_stopping() {
            while let Some(mut job) = self.jobs.pop() {
                job.work.perform();
                let kept = self.done.push(job);
                debug_assert!(kept.is_ok(), "there is room for all that there are");
                self.wake_owner();
            }
            let bell = &self.helpers[number];
            bell.lie_down(Wish::Packets);
            // An unpark in between makes the park return at once.
            if self.jobs.is_empty() && !self.is_stopping() {
                thread::park();
            }
            bell.rise();
        }
    }

    /// Tells the helpers to end; they are to be woken for it.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether a helper has panicked.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn wake_owner(&self) {
        if self.owner.must_wake(Wish::Packets)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}

/// Dropped by a panic: the worker must not wait for what is lost.
struct Broken<'y>(&'y Yard);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
            self.0.wake_owner();
        }
    }
}
