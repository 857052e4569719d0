//! Which of those who are asked for a cookie get one, when so many come that answering all would
//! take the worker from its packets.
//!
//! A flood comes from addresses that were just seen, a new peer from one that was not. So messages
//! are told apart by how new their source is, and each kind has cookies of its own to be given out:
//! a flood uses up those of its kind. New is what was not seen for four to eight seconds, longer
//! than a peer waits between two attempts.

use core::net::SocketAddr;
use core::time::Duration;

use packet::Time;

use crate::crowd::{Crowd, LINE};
use crate::limiter::{Allowance, Rate};
use crate::reception::{Keyed, LEVELS};

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
/// Lines of each level's crowds: 8 KiB, 64 KiB and 128 KiB for each of two generations. With 65,536
/// addresses one in 180 that is new is taken for one of them. Beside 100,000 a second that never
/// come again it is at most one in five, for which its /24 must be taken for one of theirs, too.
const LINES: [usize; LEVELS] = [128, 1_024, 2_048];
/// Bits of one prefix: the fewest mistakes while a line has three to six bits for each.
const BITS: u32 = 3;

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
pub(crate) struct Replies {
    /// By level, the prefixes that were seen in this generation, and in the one before.
    seen: [[Crowd<BITS>; 2]; LEVELS],
    turned: Time,
    /// By how much of the source is known: nothing, and then one prefix after the other.
    kinds: [Allowance; LEVELS + 1],
}

impl Replies {
    /// Bytes of its tables.
    pub(crate) const BYTES: usize = 2 * (LINES[0] + LINES[1] + LINES[2]) * LINE / 8;

    pub(crate) fn new() -> Replies {
        Replies {
            seen: LINES.map(|lines| [(); 2].map(|()| Crowd::new(lines))),
            turned: Time::ZERO,
            kinds: [Allowance::default(); LEVELS + 1],
        }
    }

    /// What becomes of a message to `lane` from `remote`.
    pub(crate) fn ask(&mut self, now: Time, keyed: &Keyed, lane: u16, remote: SocketAddr) -> Reply {
        self.turn(now);
        let noted = [0, 1, 2].map(|level| self.note(level, keyed.prefix(lane, remote, level)));
        let known = noted.iter().take_while(|noted| **noted).count();
        if self.kinds[known].take(now, KIND) {
            Reply::Given
        } else if known < LEVELS {
            Reply::WithheldFromNew
        } else {
            Reply::Withheld
        }
    }

    /// Begins a new generation where it is time for one.
    fn turn(&mut self, now: Time) {
        let turns = now.since(self.turned).as_secs() / GENERATION.as_secs();
        if turns > 0 {
            self.turned = now;
        }
        // After two of them nothing is left.
        for _ in 0..turns.min(2) {
            for [newest, before] in &mut self.seen {
                core::mem::swap(newest, before);
                newest.clear();
            }
        }
    }

    /// Notes a prefix; whether it was noted before, as far as one can tell.
    fn note(&mut self, level: usize, hash: u64) -> bool {
        let [newest, before] = &mut self.seen[level];
        newest.insert(hash) || before.has(hash)
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
        let mut replies = Replies::new();
        let answered = (0..600_000)
            .filter(|number| {
                let now = at(10 * u64::from(*number));
                replies.ask(now, &keyed, 0, source(*number)) == Reply::Given
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
                replies.ask(now, &keyed, 0, remote("192.0.2.7:7")),
                Reply::Given,
                "{text}"
            );
            assert_eq!(
                replies.ask(now, &keyed, 0, remote("[2001:db8::7]:7")),
                Reply::Given,
                "{text}"
            );
        }
        // Beside them, too, as long as its addresses come again.
        let (mut replies, keyed, _) = flood(|n| v4(0x0a09_0000 | scattered(n) >> 17));
        assert_eq!(
            replies.ask(at(6_000_001), &keyed, 0, remote("10.9.200.7:7")),
            Reply::Given
        );
    }

    #[test]
    fn what_was_seen_is_new_again_after_eight_seconds() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let mut replies = Replies::new();
        let hash = keyed.prefix(0, v4(1), 2);
        assert_eq!([(); 2].map(|()| replies.note(2, hash)), [false, true]);
        replies.turn(at(4_000_000));
        assert!(replies.note(2, hash));
        replies.turn(at(12_000_000));
        assert!(!replies.note(2, hash));
    }
}
