//! Every order in which the threads of a node can meet, as far as they share anything: loom runs
//! them one step at a time, with the weakest memory that the orderings allow. A lost wake-up is a
//! deadlock here. The files under test are the product's own; only what `crate::sync` names is
//! another.

use std::sync::Arc;

use loom::thread;

#[allow(dead_code, unreachable_pub)]
#[path = "../forwarder/ring/bell.rs"]
mod bell;
#[allow(dead_code, unreachable_pub)]
#[path = "../forwarder/mailbox.rs"]
mod mailbox;

/// What stands in for `crate::sync` of the product.
mod sync {
    use std::collections::VecDeque;
    use std::sync::Arc;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    use loom::sync::{Condvar, Mutex};

    /// loom 0.7 forgets that nothing comes between what a read-modify-write read and what it wrote
    /// (`rt/atomic.rs`, "RMW Atomicity" is empty), so it lets an older swap of another thread follow
    /// a store. A store that is a swap, too, has its place; who loads may still see an old value.
    #[derive(Debug)]
    pub(crate) struct AtomicU8(loom::sync::atomic::AtomicU8);

    impl AtomicU8 {
        pub(crate) fn new(value: u8) -> AtomicU8 {
            AtomicU8(loom::sync::atomic::AtomicU8::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> u8 {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: u8, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: u8, order: Ordering) -> u8 {
            self.0.swap(value, order)
        }
    }

    /// Wakes a sleeper as an eventfd in an epoll does: once, also if it sleeps only later.
    #[derive(Clone)]
    pub(crate) struct Waker(Arc<(Mutex<bool>, Condvar)>);

    impl Waker {
        pub(crate) fn new() -> Waker {
            Waker(Arc::new((Mutex::new(false), Condvar::new())))
        }

        pub(crate) fn wake(&self) -> std::io::Result<()> {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
            Ok(())
        }

        pub(crate) fn sleep(&self) {
            let mut woken = self.0.0.lock().unwrap();
            while !*woken {
                woken = self.0.1.wait(woken).unwrap();
            }
            *woken = false;
        }
    }

    /// The mailbox's queue, of which it only wants that what was put in can be taken out.
    pub(crate) struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        limit: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(limit: usize) -> ArrayQueue<T> {
            ArrayQueue {
                items: Mutex::new(VecDeque::new()),
                limit,
            }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.limit {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn force_push(&self, item: T) -> Option<T> {
            let mut items = self.items.lock().unwrap();
            let old = (items.len() == self.limit).then(|| items.pop_front());
            items.push_back(item);
            old.flatten()
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().unwrap().len()
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }
    }
}

use bell::{Bell, Wish};
use sync::{AtomicU64, Ordering, Waker};

/// Runs a model in every order with at most two preemptions, which is where errors are (Musuvathi
/// and Qadeer, "Iterative context bounding", PLDI 2007); without a bound it takes minutes.
fn all_orders(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A ring of which only the number of items counts, and which promises less than crossbeam's: who
/// asks whether it is empty may be told of yesterday, unless a fence forbids it.
struct Ring {
    pushed: AtomicU64,
    popped: AtomicU64,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            pushed: AtomicU64::new(0),
            popped: AtomicU64::new(0),
        }
    }

    fn push(&self) {
        let pushed = self.pushed.load(Ordering::Relaxed);
        self.pushed.store(pushed + 1, Ordering::Release);
    }

    fn pop(&self) -> bool {
        let popped = self.popped.load(Ordering::Relaxed);
        let some = self.pushed.load(Ordering::Acquire) > popped;
        self.popped
            .store(popped + u64::from(some), Ordering::Relaxed);
        some
    }

    fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Relaxed) == self.popped.load(Ordering::Relaxed)
    }
}

/// A worker that may sleep, and a ring to it from each of its neighbours.
struct Sleeper {
    bell: Bell,
    waker: Waker,
    rings: Vec<Ring>,
}

impl Sleeper {
    fn new(neighbours: usize) -> Arc<Sleeper> {
        Arc::new(Sleeper {
            bell: Bell::new(),
            waker: Waker::new(),
            rings: (0..neighbours).map(|_| Ring::new()).collect(),
        })
    }

    /// What a neighbour does at the end of its breath.
    fn give(&self, neighbour: usize, what: Wish) {
        self.rings[neighbour].push();
        if self.bell.must_wake(what) {
            self.waker.wake().unwrap();
        }
    }

    /// Breathes until so many items were taken.
    fn take(&self, wish: Wish, wanted: usize) {
        let mut taken = 0;
        while taken < wanted {
            self.bell.lie_down(wish);
            if self.rings.iter().all(Ring::is_empty) {
                self.waker.sleep();
            }
            self.bell.rise();
            taken += self.rings.iter().filter(|ring| ring.pop()).count();
        }
    }
}

#[test]
fn a_worker_never_sleeps_beside_what_a_neighbour_gave_it() {
    all_orders(|| {
        let sleeper = Sleeper::new(1);
        let giver = Arc::clone(&sleeper);
        let thread = thread::spawn(move || {
            giver.give(0, Wish::Packets);
            giver.give(0, Wish::Packets);
        });
        sleeper.take(Wish::Packets, 2);
        thread.join().unwrap();
    });
}

#[test]
fn a_worker_with_two_neighbours_hears_both_though_only_one_rings() {
    all_orders(|| {
        let sleeper = Sleeper::new(2);
        let threads = [0, 1].map(|neighbour| {
            let giver = Arc::clone(&sleeper);
            thread::spawn(move || giver.give(neighbour, Wish::Packets))
        });
        sleeper.take(Wish::Packets, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_worker_without_buffers_is_woken_by_one_that_comes_home() {
    all_orders(|| {
        let sleeper = Sleeper::new(1);
        let giver = Arc::clone(&sleeper);
        let thread = thread::spawn(move || giver.give(0, Wish::Buffers));
        sleeper.take(Wish::Buffers, 1);
        thread.join().unwrap();
    });
}

mod mail {
    use super::*;
    use crate::mailbox::Mailbox;
    use datapath::{Own, Snapshot};
    use policy::{Endpoint, Identity, PolicyTable};

    fn snapshot(epoch: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            epoch,
            backends: 0,
            endpoints: Default::default(),
            world: Arc::new(Endpoint::of(Identity::WORLD)),
            policy: PolicyTable::compile(&[], &[]),
            services: Default::default(),
            routes: Default::default(),
            nodes: Vec::new(),
            own: Own {
                node: "eu-1".into(),
                cluster: 1,
                addresses: Vec::new(),
            },
        })
    }

    /// A worker with nothing to do but its mail; gives the epochs that it adopted.
    fn work(mailbox: &Mailbox, waker: &Waker) -> Vec<u64> {
        let mut epochs = Vec::new();
        while !mailbox.stopping() {
            waker.sleep();
            if let Some(snapshot) = mailbox.take_snapshot() {
                epochs.push(snapshot.epoch);
                mailbox.adopted(snapshot.epoch);
            }
        }
        epochs
    }

    #[test]
    fn a_worker_hears_that_it_is_to_stop_and_adopts_nothing_out_of_order() {
        all_orders(|| {
            let waker = Waker::new();
            let mailbox = Arc::new(Mailbox::new(waker.clone()));
            let control = Arc::clone(&mailbox);
            let thread = thread::spawn(move || {
                control.publish(snapshot(1));
                control.publish(snapshot(2));
                control.stop();
            });
            let epochs = work(&mailbox, &waker);
            thread.join().unwrap();
            // It may hear of its end before it looks for the last one.
            assert!([&[][..], &[1], &[2], &[1, 2]].contains(&&epochs[..]));
            assert_eq!(mailbox.epoch(), epochs.last().copied().unwrap_or(0));
        });
    }

    #[test]
    fn a_worker_does_not_sleep_beside_a_snapshot_or_a_question() {
        all_orders(|| {
            let waker = Waker::new();
            let mailbox = Arc::new(Mailbox::new(waker.clone()));
            let (asking, control) = (Arc::clone(&mailbox), Arc::clone(&mailbox));
            let asks = thread::spawn(move || {
                let asks = || asking.put(|_| ()).map(drop).is_ok();
                asks() && asks()
            });
            let publishes = thread::spawn(move || {
                control.publish(snapshot(1));
                control.publish(snapshot(2));
            });
            let (mut epoch, mut questions) = (0, 0);
            while (epoch, questions) != (2, 2) {
                waker.sleep();
                if let Some(snapshot) = mailbox.take_snapshot() {
                    assert!(snapshot.epoch > epoch);
                    epoch = snapshot.epoch;
                }
                // Only what waits at this moment, as a worker does it.
                let waiting = 0..mailbox.waiting();
                questions += waiting.filter_map(|_| mailbox.take_question()).count();
            }
            assert!(asks.join().unwrap());
            publishes.join().unwrap();
        });
    }
}
