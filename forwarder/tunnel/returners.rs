//! Who comes again when a peer would. A flood from addresses drawn at random cannot be told from
//! new peers by how new they are; but its addresses do not come again, and a peer that was not
//! answered does, from the same port, 5 s later (REKEY_TIMEOUT, and up to a third of a second of
//! jitter). So who was turned away is remembered for some seconds, as a bit pattern in the slice of
//! time in which it came.

use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use packet::Time;

use crate::limiter::{Allowance, Rate};

/// Milliseconds of a slice.
const SLICE_MS: u64 = 1_000;
/// Slices that are kept: one is being filled.
const SLICES: u64 = 8;
/// A peer comes again this much later, in milliseconds: 5 s, less what a clock may be off, and more
/// what the way and a busy machine may take.
const AGAIN_MS: RangeInclusive<u64> = 4_800..=6_300;
/// Words of a slice: 256 KiB, 21 bits for each of 100,000 who are turned away in a second. One in
/// 700 then seems to come again who does not.
const WORDS: usize = 1 << 15;
/// Words that lie in one line of the processor's cache: all bits of one comer are there.
const LINE: usize = 8;
/// Bits of one comer.
const BITS: u32 = 8;
/// Handshakes that may be begun so, 400 a second: 2 % of a worker, if none of them is real.
const RATE: Rate = Rate {
    interval: Duration::from_micros(2_500),
    burst: 16,
};

/// Who was turned away lately.
#[derive(Default)]
pub(crate) struct Returners {
    /// Slice by slice; made under the first load, 2 MiB.
    words: Vec<u64>,
    /// The newest slice, counted from time zero.
    newest: u64,
    /// By slice, whether anybody is noted in it: mostly nobody is, and nothing is looked up.
    used: [bool; SLICES as usize],
    allowance: Allowance,
}

impl Returners {
    /// Whether a comer, given by a hash of its address and port, was here when a peer would have
    /// been, and may come in for that.
    pub(crate) fn admits(&mut self, now: Time, comer: u64) -> bool {
        let mut slices = self
            .slices_of(now)
            .filter(|slice| self.used[(*slice % SLICES) as usize])
            .peekable();
        if slices.peek().is_none() {
            return false;
        }
        let (line, bits) = pattern(comer);
        let mut known = slices.filter(|slice| {
            let words = &self.words[place(*slice) + line..][..LINE];
            words.iter().zip(bits).all(|(word, bit)| word & bit == bit)
        });
        known.next().is_some() && self.allowance.take(now, RATE)
    }

    /// Remembers a comer that was turned away.
    pub(crate) fn note(&mut self, now: Time, comer: u64) {
        self.words.resize(WORDS * SLICES as usize, 0);
        let slice = slice_of(now);
        if slice > self.newest {
            for gone in (self.newest + 1).max(slice.saturating_sub(SLICES - 1))..=slice {
                self.words[place(gone)..][..WORDS].fill(0);
                self.used[(gone % SLICES) as usize] = false;
            }
            self.newest = slice;
        }
        self.used[(slice % SLICES) as usize] = true;
        let (line, bits) = pattern(comer);
        let words = &mut self.words[place(slice) + line..][..LINE];
        words
            .iter_mut()
            .zip(bits)
            .for_each(|(word, bit)| *word |= bit);
    }

    /// The slices in which a peer that comes again now was here, as far as they are kept.
    fn slices_of(&self, now: Time) -> Range<u64> {
        let ms = now.as_nanos() / 1_000_000;
        let first = ms.saturating_sub(*AGAIN_MS.end()) / SLICE_MS;
        let end = ms.checked_sub(*AGAIN_MS.start());
        let end = end.map_or(0, |last| last / SLICE_MS + 1);
        first.max((self.newest + 1).saturating_sub(SLICES))..end.min(self.newest + 1)
    }
}

fn slice_of(now: Time) -> u64 {
    now.as_nanos() / 1_000_000 / SLICE_MS
}

/// Where a slice begins.
fn place(slice: u64) -> usize {
    (slice % SLICES) as usize * WORDS
}

/// The line of a comer in a slice, and its bits in the words of that.
fn pattern(comer: u64) -> (usize, [u64; LINE]) {
    let line = comer as usize % (WORDS / LINE) * LINE;
    let (mut bits, mut rest) = ([0; LINE], comer >> 12 | 1 << 63);
    for _ in 0..BITS {
        // An odd factor, so that every bit of the hash has a part in every place.
        rest = rest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bit = (rest >> 55) as usize;
        bits[bit / 64] |= 1 << (bit % 64);
    }
    (line, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn scattered(number: u64) -> u64 {
        (number ^ 0x5555)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            .rotate_left(32)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn who_comes_again_after_five_seconds_is_let_in_and_nobody_earlier_or_later() {
        for start in [0, 400, 900, 3_999, 77_777] {
            let mut returners = Returners::default();
            assert!(!returners.admits(at(start), 42));
            returners.note(at(start), 42);
            for (later, admitted) in [
                (0, false),
                (2_000, false),
                (5_000, true),
                (5_333, true),
                (9_000, false),
            ] {
                let now = at(start + later);
                returners.note(now, 1);
                assert_eq!(returners.admits(now, 42), admitted, "{start} + {later}");
            }
        }
    }

    #[test]
    fn among_a_flood_of_strangers_a_peer_is_known_again_and_few_of_them_are_taken_for_one() {
        let mut returners = Returners::default();
        let mut taken = 0;
        for number in 0..1_000_000 {
            let now = Time::from_nanos(number * 10_000);
            // 100,000 a second, none twice; the peer comes at 2 s, and again at 7.2 s.
            if number == 200_000 {
                assert!(!returners.admits(now, 42));
                returners.note(now, 42);
            }
            assert!(number != 720_000 || returners.admits(now, 42));
            let comer = scattered(number);
            taken += u32::from(returners.admits(now, comer));
            returners.note(now, comer);
        }
        assert!(taken < 1_600, "{taken} in five seconds");
    }

    #[test]
    fn a_peer_is_known_again_though_nobody_was_noted_since() {
        let mut returners = Returners::default();
        returners.note(at(3_000), 42);
        assert!(!returners.admits(at(4_000), 42) && returners.admits(at(8_100), 42));
    }

    #[test]
    fn a_long_silence_forgets_everybody() {
        let mut returners = Returners::default();
        returners.note(at(0), 42);
        assert!(!returners.admits(at(1_000_000), 42));
        returners.note(at(1_000_000), 1);
        assert!(!returners.admits(at(1_000_000), 42));
        returners.note(at(1_005_000), 1);
        assert!(returners.admits(at(1_005_000), 1) && !returners.admits(at(1_005_000), 42));
        assert_eq!(returners.words.len() * 8, 2 << 20);
    }
}
