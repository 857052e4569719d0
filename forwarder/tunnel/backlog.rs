//! Handshake messages that wait for their turn, in order: they cost a thousand times what a data
//! message costs, so they are worked off at a pace that leaves the worker to its packets.
//!
//! A source has few places, so that one that floods fills its own and not the queue.

use alloc::collections::VecDeque;
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
    pub(crate) path: Path,
    bytes: [u8; INITIATION],
    length: usize,
    count: u16,
}

impl Message {
    /// The message as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The queue of one lane.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Room for all is made when the first has to wait; about 230 KiB.
    messages: VecDeque<Message>,
    counts: Vec<u16>,
    pace: Allowance,
    loaded_until: Option<Time>,
}

impl Backlog {
    /// Whether so many wait, or did within the last second, that strangers must prove where they
    /// are.
    pub(crate) fn is_loaded(&self, now: Time) -> bool {
        self.messages.len() >= LOADED || self.loaded_until.is_some_and(|until| now < until)
    }

    /// Whether nobody waits, and one more may be worked off now; it then counts as such.
    pub(crate) fn passes(&mut self, now: Time) -> bool {
        self.messages.is_empty() && self.pace.take(now, PACE)
    }

    /// Whether a source has taken all places that one may have which has proven nothing.
    pub(crate) fn is_crowded_by(&self, source: u64) -> bool {
        let count = self.counts.get(source as usize % COUNTS);
        count.is_some_and(|count| *count >= SHARE)
    }

    /// Lets a message wait; false if there is no place.
    pub(crate) fn push(&mut self, now: Time, path: Path, source: u64, frame: &[u8]) -> bool {
        if self.messages.len() >= PLACES || frame.len() > INITIATION {
            return false;
        }
        if self.counts.is_empty() {
            self.counts.resize(COUNTS, 0);
            self.messages.reserve_exact(PLACES);
        }
        let place = source as usize % COUNTS;
        self.counts[place] += 1;
        let mut bytes = [0; INITIATION];
        bytes[..frame.len()].copy_from_slice(frame);
        self.messages.push_back(Message {
            path,
            bytes,
            length: frame.len(),
            count: place as u16,
        });
        if self.messages.len() >= LOADED {
            self.loaded_until = Some(now + STICKY);
        }
        true
    }

    /// Takes the oldest, if one may be worked off now.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Message> {
        if self.messages.is_empty() || !self.pace.take(now, PACE) {
            return None;
        }
        let message = self.messages.pop_front()?;
        self.counts[usize::from(message.count)] -= 1;
        Some(message)
    }

    /// When the oldest may be worked off; past, if that is now.
    #[inline]
    pub(crate) fn next(&self) -> Option<Time> {
        (!self.messages.is_empty()).then(|| self.pace.next(PACE))
    }

    /// How many wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
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

    fn push(backlog: &mut Backlog, source: u64) -> bool {
        let remote: SocketAddr = REMOTE.parse().expect("an address");
        backlog.push(at(10_000), remote.into(), source, &[1; 148])
    }

    #[test]
    fn an_eighth_of_all_places_is_a_load_and_stays_one_for_a_second() {
        let mut backlog = Backlog::default();
        for source in 0..127 {
            assert!(push(&mut backlog, source));
        }
        assert!(!backlog.is_loaded(at(10_000)));
        assert!(push(&mut backlog, 127));
        assert!(backlog.is_loaded(at(10_000)));
        while backlog.pop(at(20_000)).is_some() {}
        assert_eq!(backlog.len(), 112);
        assert!(backlog.is_loaded(at(10_999)) && !backlog.is_loaded(at(11_000)));
    }

    #[test]
    fn no_more_than_its_places_wait_and_they_come_out_in_order() {
        let mut backlog = Backlog::default();
        for source in 0..2_000 {
            assert_eq!(push(&mut backlog, source), source < 1_024);
        }
        let mut order = (0..).flat_map(|ms| backlog.pop(at(ms)));
        assert!((0..1_024).eq(order.by_ref().map(|message| message.count).take(1_024)));
    }

    #[test]
    fn one_source_has_sixteen_places_until_they_are_worked_off() {
        let mut backlog = Backlog::default();
        let waiting = (0..).take_while(|_| !backlog.is_crowded_by(5) && push(&mut backlog, 5));
        assert_eq!(waiting.count(), 16);
        assert!(!backlog.is_crowded_by(6));
        assert!(backlog.pop(at(0)).is_some());
        assert!(!backlog.is_crowded_by(5));
    }

    #[test]
    fn they_are_worked_off_at_a_pace() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.next(), None);
        for source in 0..200 {
            push(&mut backlog, source);
        }
        let mut worked_off = |ms| core::iter::from_fn(|| backlog.pop(at(ms))).count();
        assert_eq!((worked_off(100), worked_off(100)), (16, 0));
        assert_eq!((worked_off(101), worked_off(111)), (1, 10));
        assert_eq!(backlog.next(), Some(at(112)));
    }
}
