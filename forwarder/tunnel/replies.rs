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

/// Cookies of one kind: 4,000 a second.
const KIND: Rate = Rate {
    interval: Duration::from_micros(250),
    burst: 64,
};
/// How often what was seen is forgotten; it is remembered for this long at least.
const GENERATION: Duration = Duration::from_secs(4);
/// Bits of a generation by the length of the prefixes that it knows: /16, /24 and /32 of IPv4,
/// /32, /48 and /64 of IPv6. With 100,000 addresses one in 300 is taken for one of the others.
const BITS: [usize; LEVELS] = [1 << 17, 1 << 20, 1 << 21];
const LEVELS: usize = 3;
/// Bits that one prefix sets.
const HASHES: u32 = 4;

/// What was seen lately, and how many cookies each kind has left.
#[derive(Default)]
pub(crate) struct Replies {
    /// Made under the first load; 800 KiB in all.
    seen: [[Vec<u64>; LEVELS]; 2],
    turned: Time,
    /// By how much of the source is known: nothing, and then one prefix after the other.
    kinds: [Allowance; LEVELS + 1],
}

impl Replies {
    /// Whether a message from `remote` is answered with a cookie.
    pub(crate) fn allows(&mut self, now: Time, keyed: &Keyed, remote: SocketAddr) -> bool {
        self.turn(now);
        let mut known = 0;
        for level in 0..LEVELS {
            let seen = self.note(level, keyed.hash(&prefix(remote, level)));
            known += usize::from(seen && known == level);
        }
        self.kinds[known].take(now, KIND)
    }

    /// Begins a new generation where it is time for one.
    fn turn(&mut self, now: Time) {
        let [newest, before] = &mut self.seen;
        if newest[0].is_empty() {
            for (map, bits) in newest.iter_mut().chain(before).zip(BITS.iter().cycle()) {
                map.resize(bits / 64, 0);
            }
            self.turned = now;
        }
        let age = now.since(self.turned);
        if age >= GENERATION {
            self.seen.swap(0, 1);
            let [newest, before] = &mut self.seen;
            newest.iter_mut().for_each(|map| map.fill(0));
            if age >= 2 * GENERATION {
                before.iter_mut().for_each(|map| map.fill(0));
            }
            self.turned = now;
        }
    }

    /// Notes a prefix; whether it was noted before.
    fn note(&mut self, level: usize, hash: u64) -> bool {
        let [newest, before] = &mut self.seen;
        let (newest, before) = (&mut newest[level], &before[level]);
        let (mut in_newest, mut in_before) = (true, true);
        let (start, step) = (hash as u32, (hash >> 32) as u32 | 1);
        for number in 0..HASHES {
            let bit = start.wrapping_add(step.wrapping_mul(number)) as usize % BITS[level];
            let (word, mask) = (bit / 64, 1 << (bit % 64));
            in_newest &= newest[word] & mask != 0;
            in_before &= before[word] & mask != 0;
            newest[word] |= mask;
        }
        in_newest || in_before
    }
}

/// The part of an address that is told apart at a level, filled up with zeros; no two levels or
/// families have one in common.
fn prefix(remote: SocketAddr, level: usize) -> [u8; 10] {
    let mut prefix = [0; 10];
    match remote.ip() {
        IpAddr::V4(ip) => {
            prefix[0] = 4;
            let length = level + 2;
            prefix[2..2 + length].copy_from_slice(&ip.octets()[..length]);
        }
        IpAddr::V6(ip) => {
            prefix[0] = 6;
            let length = 2 * level + 4;
            prefix[2..2 + length].copy_from_slice(&ip.octets()[..length]);
        }
    }
    prefix[1] = level as u8;
    prefix
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::random::Random;
    use std::format;

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
            .filter(|number| replies.allows(at(10 * u64::from(*number)), &keyed, source(*number)))
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
            assert!(answered <= 6 * 8_000, "{text}: {answered}");
            let now = at(6_000_001);
            assert!(replies.allows(now, &keyed, remote("192.0.2.7:7")), "{text}");
            assert!(
                replies.allows(now, &keyed, remote("[2001:db8::7]:7")),
                "{text}"
            );
        }
        // Beside them, too, as long as its addresses come again.
        let (mut replies, keyed, _) = flood(|n| v4(0x0a09_0000 | scattered(n) >> 17));
        assert!(replies.allows(at(6_000_001), &keyed, remote("10.9.200.7:7")));
    }

    #[test]
    fn no_level_and_no_family_has_a_prefix_of_another() {
        let mut seen = std::collections::HashSet::new();
        for address in ["10.0.0.0:1", "[a00::]:1"] {
            for level in 0..LEVELS {
                assert!(seen.insert(prefix(remote(address), level)));
            }
        }
        let text = format!("{:?}", prefix(remote("[1:2:3:4:5::]:1"), 2));
        assert_eq!(text, "[6, 2, 0, 1, 0, 2, 0, 3, 0, 4]");
    }

    #[test]
    fn what_was_seen_is_new_again_after_eight_seconds() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let mut replies = Replies::default();
        let hash = keyed.hash(&prefix(v4(1), 2));
        replies.turn(at(0));
        assert!(!replies.note(2, hash) && replies.note(2, hash));
        replies.turn(at(4_000_000));
        assert!(replies.note(2, hash));
        replies.turn(at(12_000_000));
        assert!(!replies.note(2, hash));
    }
}
