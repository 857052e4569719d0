//! Handshake messages that wait for their turn, in order: they cost a thousand times what a data
//! message costs, so they are worked off at a pace that leaves the worker to its packets.
//!
//! A source has few places, so that one that floods fills its own and not the queue. The queue and
//! the pace are the worker's, since it has no more time and memory for having more lanes; but a
//! lane takes only as many places as it leaves free. So a lane that is flooded takes half of the
//! queue, two take a third each, and another lane's peers always find a place, half a second or
//! two thirds behind what waits already. And only the lane on which many wait is under load: the
//! others ask nobody to prove anything.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use packet::{Path, Time};

use crate::limiter::{Allowance, Rate};
use crate::messages::INITIATION;

/// Most messages that wait.
pub(crate) const PLACES: usize = 1_024;
/// As many waiting messages are a load (Linux `device.h`, `MAX_QUEUED_INCOMING_HANDSHAKES / 8`).
const LOADED: usize = PLACES / 8;
/// For how long after that a lane remains under load.
const STICKY: Duration = Duration::from_secs(1);
/// Places for one source that has not proven its address: it takes eight of them to bring about a
/// load, and whoever shares an address with others still has some.
const SHARE: u16 = 16;
/// Sources are counted by a hash; two in one place share its count.
const COUNTS: usize = 4_096;
/// Handshakes that are worked off: 1,000 a second, 16 at once. A real one takes about 140 µs, one
/// that only looks real 45 µs (measured, three and one X25519), so they take at most an eighth of
/// a worker, and hold it up for 2 ms at most.
const PACE: Rate = Rate {
    interval: Duration::from_millis(1),
    burst: 16,
};

const _: () = assert!((SHARE as usize) < LOADED);

/// A message that waits; longer than the longest none is.
pub(crate) struct Message {
    /// The number of the lane that it is for.
    lane: u16,
    pub(crate) path: Path,
    bytes: [u8; INITIATION],
    length: u8,
    count: u16,
}

impl Message {
    /// # Panics
    /// If it is longer than the longest handshake message: our own bug.
    pub(crate) fn new(lane: u16, path: Path, frame: &[u8]) -> Message {
        let mut bytes = [0; INITIATION];
        bytes[..frame.len()].copy_from_slice(frame);
        Message {
            lane,
            path,
            bytes,
            length: frame.len() as u8,
            count: 0,
        }
    }

    /// The message as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What one lane has waiting.
#[derive(Default)]
pub(crate) struct Load {
    waiting: usize,
    until: Option<Time>,
}

impl Load {
    /// Whether so many wait, or did within the last second, that strangers must prove where they
    /// are.
    pub(crate) fn is_high(&self, now: Time) -> bool {
        self.waiting >= LOADED || self.until.is_some_and(|until| now < until)
    }

    /// How many wait.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }
}

/// The queue of one worker, for all of its lanes.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Room for all is made when the first has to wait.
    messages: VecDeque<Message>,
    counts: Vec<u16>,
    pace: Allowance,
}

impl Backlog {
    /// Bytes of its tables.
    pub(crate) const BYTES: usize = PLACES * size_of::<Message>() + COUNTS * size_of::<u16>();

    /// Whether nobody waits, and one more may be worked off now; it then counts as such.
    pub(crate) fn passes(&mut self, now: Time) -> bool {
        self.messages.is_empty() && self.pace.take(now, PACE)
    }

    /// Whether a source has taken all places that one may have which has proven nothing.
    pub(crate) fn is_crowded_by(&self, source: u64) -> bool {
        let count = self.counts.get(source as usize % COUNTS);
        count.is_some_and(|count| *count >= SHARE)
    }

    /// Lets a message wait; false if there is no place for its lane.
    pub(crate) fn push(
        &mut self,
        now: Time,
        source: u64,
        mut message: Message,
        load: &mut Load,
    ) -> bool {
        let finds_place = load.waiting < PLACES - self.messages.len();
        if finds_place {
            if self.counts.is_empty() {
                self.counts = vec![0; COUNTS];
                self.messages.reserve_exact(PLACES);
            }
            let place = source as usize % COUNTS;
            self.counts[place] += 1;
            message.count = place as u16;
            self.messages.push_back(message);
            load.waiting += 1;
        }
        // Where so many lanes are flooded that none has an eighth of all places, the lack of one is
        // a load, too.
        if load.waiting >= LOADED || !finds_place {
            load.until = Some(now + STICKY);
        }
        finds_place
    }

    /// Takes the oldest, if it is this lane's and one may be worked off now.
    pub(crate) fn pop(&mut self, now: Time, lane: u16, load: &mut Load) -> Option<Message> {
        let message = self
            .messages
            .pop_front_if(|oldest| oldest.lane == lane && self.pace.take(now, PACE))?;
        self.counts[usize::from(message.count)] -= 1;
        load.waiting -= 1;
        Some(message)
    }

    /// When the oldest may be worked off, if it is this lane's; past, if that is now.
    #[inline]
    pub(crate) fn next(&self, lane: u16) -> Option<Time> {
        let oldest = self.messages.front()?;
        (oldest.lane == lane).then(|| self.pace.next(PACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    const REMOTE: &str = "192.0.2.1:1000";

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// A queue and the lanes of its worker.
    #[derive(Default)]
    struct Worker {
        backlog: Backlog,
        loads: [Load; 12],
    }

    impl Worker {
        fn push(&mut self, lane: u16, source: u64) -> bool {
            let remote: SocketAddr = REMOTE.parse().expect("an address");
            let message = Message::new(lane, remote.into(), &[1; 148]);
            let load = &mut self.loads[usize::from(lane)];
            self.backlog.push(at(10_000), source, message, load)
        }

        fn pop(&mut self, now: Time) -> Option<Message> {
            let mut lanes = (0..).zip(&mut self.loads);
            lanes.find_map(|(lane, load)| self.backlog.pop(now, lane, load))
        }

        fn fill(&mut self, lane: u16) -> usize {
            (0..).take_while(|source| self.push(lane, *source)).count()
        }

        fn waiting(&self) -> [usize; 12] {
            self.loads.each_ref().map(Load::waiting)
        }
    }

    #[test]
    fn an_eighth_of_all_places_is_a_load_and_stays_one_for_a_second() {
        let mut worker = Worker::default();
        for source in 0..127 {
            assert!(worker.push(0, source));
        }
        assert!(!worker.loads[0].is_high(at(10_000)));
        assert!(worker.push(0, 127));
        assert!(worker.loads[0].is_high(at(10_000)));
        while worker.pop(at(20_000)).is_some() {}
        assert_eq!(worker.waiting()[0], 112);
        let load = &worker.loads[0];
        assert!(load.is_high(at(10_999)) && !load.is_high(at(11_000)));
    }

    #[test]
    fn no_more_than_its_places_wait_and_they_come_out_in_order() {
        let mut worker = Worker::default();
        let order: Vec<u16> = (0..2_000)
            .filter(|number| worker.push(number % 12, u64::from(*number)))
            .collect();
        assert!(order.len() > 900 && order.len() == worker.backlog.messages.len());
        assert!(worker.backlog.messages.capacity() <= PLACES);
        let worked_off = (0..3_000).flat_map(|ms| worker.pop(at(ms)));
        assert!(worked_off.map(|message| message.count).eq(order));
    }

    #[test]
    fn a_flooded_lane_takes_half_of_all_places_and_leaves_the_others_theirs() {
        let mut worker = Worker::default();
        assert_eq!(worker.fill(3), 512);
        assert!(worker.loads[3].is_high(at(10_000)));
        assert!(worker.push(0, 1) && worker.push(7, 1));
        assert!(!worker.loads[0].is_high(at(10_000)));
        // It comes out although the flood goes on, after what was there before it.
        let mut popped = (0..).flat_map(|ms| {
            worker.fill(3);
            worker.pop(at(ms))
        });
        let of_others = popped.by_ref().position(|message| message.lane != 3);
        assert_eq!(of_others, Some(512));
        assert_eq!(popped.next().map(|message| message.lane), Some(7));
    }

    #[test]
    fn where_all_lanes_are_flooded_each_has_places_and_is_under_load() {
        let mut worker = Worker::default();
        for _ in 0..2 {
            for _ in 0..1_500 {
                (0..12).for_each(|lane| {
                    worker.push(lane, 1);
                });
            }
            assert!(worker.waiting().iter().all(|waiting| *waiting >= 78));
            assert!(worker.loads.iter().all(|load| load.is_high(at(10_000))));
        }
    }

    #[test]
    fn one_source_has_sixteen_places_until_they_are_worked_off() {
        let mut worker = Worker::default();
        let waiting = (0..).take_while(|_| !worker.backlog.is_crowded_by(5) && worker.push(0, 5));
        assert_eq!(waiting.count(), 16);
        assert!(!worker.backlog.is_crowded_by(6));
        assert!(worker.pop(at(0)).is_some());
        assert!(!worker.backlog.is_crowded_by(5));
    }

    #[test]
    fn they_are_worked_off_at_one_pace_whosever_they_are() {
        let mut worker = Worker::default();
        assert_eq!(worker.backlog.next(0), None);
        for source in 0..200 {
            worker.push(source as u16 % 2, source);
        }
        let mut worked_off = |ms| core::iter::from_fn(|| worker.pop(at(ms))).count();
        assert_eq!((worked_off(100), worked_off(100)), (16, 0));
        assert_eq!((worked_off(101), worked_off(111)), (1, 10));
        let next = [0, 1].map(|lane| worker.backlog.next(lane));
        assert_eq!(next, [None, Some(at(112))]);
    }
}
