//! Which of those who are asked for a cookie get one, when so many come that answering all would
//! take the worker from its packets.
//!
//! A flood comes from addresses that were just seen, a new peer from one that was not. So messages
//! are told apart by how new their source is, and each kind has cookies of its own to be given out:
//! a flood uses up those of its kind. New is what was not seen for four to eight seconds, longer
//! than a peer waits between two attempts.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use packet::Time;

use crate::limiter::{Allowance, Rate};
use crate::reception::Keyed;

/// Cookies of one kind: 4,000 a second. One takes up to 10 µs, most of it the kernel's for sending
/// it (measured over a veth), so one kind takes at most 4 % of a worker. Of all that a flood may use
/// up one kind, or two; the flow beside it then still has four fifths of what it has beside the same
/// flood into a socket that nobody reads (`scripts/bench-flood`).
const KIND: Rate = Rate {
    interval: Duration::from_micros(250),
    burst: 64,
};
/// What was seen is remembered for one to two of these.
const GENERATION: Duration = Duration::from_secs(4);
/// Prefixes that are told apart: /16, /24 and /32 of IPv4, /32, /48 and /64 of IPv6.
const LEVELS: usize = 3;
/// Cells of each level's table, a byte each. With 65,536 addresses one in 60 that is new is taken
/// for one of them.
const CELLS: [usize; LEVELS] = [1 << 15, 1 << 19, 1 << 20];
/// Cells that lie beside each other: the two of a prefix are in one line of the processor's cache,
/// since most of what a message costs here is waiting for memory.
const LINE: usize = 64;

/// Whether a message is answered with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Given,
    /// Too many were, to others who had not been seen either.
    WithheldFromNew,
    /// Too many were, and its address is one of those that were just seen.
    Withheld,
}

/// What was seen lately, and how many cookies each kind has left.
#[derive(Default)]
pub(crate) struct Replies {
    /// By level, the generation in which the prefixes of a cell were last seen. Made under the
    /// first load; 1.5 MiB in all.
    seen: [Vec<u8>; LEVELS],
    generation: u8,
    turned: Time,
    /// By how much of the source is known: nothing, and then one prefix after the other.
    kinds: [Allowance; LEVELS + 1],
}

impl Replies {
    /// What becomes of a message from `remote`.
    pub(crate) fn ask(&mut self, now: Time, keyed: &Keyed, remote: SocketAddr) -> Reply {
        self.turn(now);
        let mut note = |level| self.note(level, keyed.scatter(prefix(remote, level)));
        let address = note(LEVELS - 1);
        // Who was noted in this generation was so with all of its prefixes: most of a flood costs
        // one look at the memory and no more.
        let known = if address == Noted::Now {
            LEVELS
        } else {
            let (widest, wide) = (note(0), note(1));
            let all = [widest, wide, address];
            all.iter()
                .take_while(|noted| **noted != Noted::Never)
                .count()
        };
        if self.kinds[known].take(now, KIND) {
            Reply::Given
        } else if known < LEVELS {
            Reply::WithheldFromNew
        } else {
            Reply::Withheld
        }
    }

    /// Begins a new generation where it is time for one. They are numbered modulo 256; what was
    /// seen that many before may be taken for new once more.
    fn turn(&mut self, now: Time) {
        if self.seen[0].is_empty() {
            for (cells, size) in self.seen.iter_mut().zip(CELLS) {
                cells.resize(size, 0);
            }
            (self.generation, self.turned) = (2, now);
        }
        let turns = now.since(self.turned).as_secs() / GENERATION.as_secs();
        if turns > 0 {
            self.generation = self.generation.wrapping_add(turns.min(128) as u8);
            self.turned = now;
        }
    }

    /// Notes a prefix; when it was noted before.
    fn note(&mut self, level: usize, hash: u64) -> Noted {
        let generation = self.generation;
        let lines = CELLS[level] / LINE;
        let line = (hash as usize % lines) * LINE;
        let ages = [hash >> 52, hash >> 58].map(|place| {
            let cell = &mut self.seen[level][line + place as usize % LINE];
            generation.wrapping_sub(core::mem::replace(cell, generation))
        });
        match ages[0].max(ages[1]) {
            0 => Noted::Now,
            1 => Noted::Lately,
            _ => Noted::Never,
        }
    }
}

/// When a prefix was noted: in this generation, the one before, or not that anybody knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    Now,
    Lately,
    Never,
}

/// The part of an address that is told apart at a level; no two families have one in common.
fn prefix(remote: SocketAddr, level: usize) -> u64 {
    match remote.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()) >> (16 - 8 * level),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 >> (32 - 16 * level) | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn at(micros: u64) -> Time {
        Time::ZERO + Duration::from_micros(micros)
    }

    fn remote(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Six seconds of a flood at 100,000 a second from `source`; how many were answered.
    fn flood(source: impl Fn(u32) -> SocketAddr) -> (Replies, Keyed, usize) {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let mut replies = Replies::default();
        let answered = (0..600_000)
            .filter(|number| {
                let now = at(10 * u64::from(*number));
                replies.ask(now, &keyed, source(*number)) == Reply::Given
            })
            .count();
        (replies, keyed, answered)
    }

    fn v4(bits: u32) -> SocketAddr {
        SocketAddr::from((bits.to_be_bytes(), 1_000))
    }

    #[test]
    fn a_flood_gets_few_cookies_and_a_stranger_his() {
        let scattered = |number: u32| number.wrapping_mul(2_654_435_761);
        let floods: [(&str, &dyn Fn(u32) -> SocketAddr); 4] = [
            ("one address", &|_| v4(0x0a09_0001)),
            ("a /24", &|n| v4(0x0a09_0000 | scattered(n) >> 24)),
            ("a /16", &|n| v4(0x0a09_0000 | scattered(n) >> 16)),
            ("a /8", &|n| v4(0x0a00_0000 | scattered(n) >> 8)),
        ];
        for (text, source) in floods {
            let (mut replies, keyed, answered) = flood(source);
            assert!(answered <= 6 * 16_100, "{text}: {answered}");
            let now = at(6_000_001);
            assert_eq!(
                replies.ask(now, &keyed, remote("192.0.2.7:7")),
                Reply::Given,
                "{text}"
            );
            assert_eq!(
                replies.ask(now, &keyed, remote("[2001:db8::7]:7")),
                Reply::Given,
                "{text}"
            );
        }
        // Beside them, too, as long as its addresses come again.
        let (mut replies, keyed, _) = flood(|n| v4(0x0a09_0000 | scattered(n) >> 17));
        assert_eq!(
            replies.ask(at(6_000_001), &keyed, remote("10.9.200.7:7")),
            Reply::Given
        );
    }

    #[test]
    fn a_prefix_is_so_much_of_an_address() {
        let prefixes = |text: &str| [0, 1, 2].map(|level| prefix(remote(text), level));
        assert_eq!(prefixes("10.1.2.3:4"), [0x0a01, 0x0a_0102, 0x0a01_0203]);
        let top = 1 << 63;
        let v6 = [0x1_0002, 0x1_0002_0003, 0x1_0002_0003_0004].map(|bits: u64| bits | top);
        assert_eq!(prefixes("[1:2:3:4:5:6:7:8]:9"), v6);
    }

    #[test]
    fn what_was_seen_is_new_again_after_eight_seconds() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let mut replies = Replies::default();
        let hash = keyed.scatter(prefix(v4(1), 2));
        replies.turn(at(0));
        assert_eq!(
            [(); 2].map(|()| replies.note(2, hash)),
            [Noted::Never, Noted::Now]
        );
        replies.turn(at(4_000_000));
        assert_eq!(replies.note(2, hash), Noted::Lately);
        replies.turn(at(12_000_000));
        assert_eq!(replies.note(2, hash), Noted::Never);
    }
}
