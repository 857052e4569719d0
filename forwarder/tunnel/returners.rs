//! Who comes again when a peer would. A flood from addresses drawn at random cannot be told from
//! new peers by how new they are; but its addresses do not come again, and a peer that was not
//! answered does, from the same port, 5 s later (REKEY_TIMEOUT, and up to a third of a second of
//! jitter). So who was turned away is remembered for some seconds, with those that came in the same
//! slice of time.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use packet::Time;

use crate::crowd::{Crowd, LINE};
use crate::limiter::{Allowance, Rate};

/// Milliseconds of a slice.
const SLICE_MS: u64 = 1_000;
/// Slices that are kept: one is being filled.
const SLICES: u64 = 7;
/// A peer comes again this much later, in milliseconds: 5 s, less what a clock may be off, and more
/// what the way and a busy machine may take.
const AGAIN_MS: RangeInclusive<u64> = 4_800..=6_000;
/// Lines of a slice, 128 KiB, and who is noted in it at most: who has 15 bits is told from the
/// others well, and whoever comes later in the slice has to come once more. One in 350 seems to
/// come again who does not, however many there are: of 100,000 a second fewer than [`RATE`] lets
/// in, so that they take no peer's turn, and of the peers beside them 7 of 10 are noted.
const LINES: usize = 2_048;
const NOTED_MAX: u32 = (LINES * LINE / 15) as u32;
/// Bits of one comer.
const BITS: u32 = 8;
/// Handshakes that may be begun so, 400 a second: 2 % of a worker, if none of them is real.
const RATE: Rate = Rate {
    interval: Duration::from_micros(2_500),
    burst: 16,
};

const _: () = assert!(*AGAIN_MS.end() <= (SLICES - 1) * SLICE_MS);

/// Who was turned away lately.
pub(crate) struct Returners {
    slices: [Slice; SLICES as usize],
    /// The newest slice, counted from time zero.
    newest: u64,
    allowance: Allowance,
}

/// Who was turned away in one slice of time.
struct Slice {
    comers: Crowd<BITS>,
    /// How many: mostly nobody, and nothing is looked up.
    noted: u32,
}

impl Returners {
    /// Bytes of its tables.
    pub(crate) const BYTES: usize = SLICES as usize * LINES * LINE / 8;

    pub(crate) fn new() -> Returners {
        let slice = |_| Slice {
            comers: Crowd::new(LINES),
            noted: 0,
        };
        Returners {
            slices: core::array::from_fn(slice),
            newest: 0,
            allowance: Allowance::default(),
        }
    }

    /// Whether a comer, given by a hash of its address and port, was here when a peer would have
    /// been, and may come in for that.
    pub(crate) fn admits(&mut self, now: Time, comer: u64) -> bool {
        self.knows(now, comer) && self.allowance.take(now, RATE)
    }

    /// Remembers a comer that was turned away.
    pub(crate) fn note(&mut self, now: Time, comer: u64) {
        let number = slice_of(now);
        if number > self.newest {
            for gone in (self.newest + 1).max(number.saturating_sub(SLICES - 1))..=number {
                let slice = &mut self.slices[place(gone)];
                slice.comers.clear();
                slice.noted = 0;
            }
            self.newest = number;
        }
        let slice = &mut self.slices[place(number)];
        if slice.noted < NOTED_MAX {
            slice.comers.insert(comer);
            slice.noted += 1;
        }
    }

    fn knows(&self, now: Time, comer: u64) -> bool {
        self.slices_of(now).any(|number| {
            let slice = &self.slices[place(number)];
            slice.noted > 0 && slice.comers.has(comer)
        })
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

/// Where a slice is kept.
fn place(slice: u64) -> usize {
    (slice % SLICES) as usize
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
            let mut returners = Returners::new();
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
        let mut returners = Returners::new();
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
    fn of_more_than_it_can_tell_apart_no_more_are_taken_for_one_and_fewer_peers_are_known() {
        let mut returners = Returners::new();
        let (mut taken, mut peers) = (0, 0);
        for number in 0..6_000_000 {
            // 500,000 a second; and every 10 ms a peer whose first message was 5.2 s ago.
            let (now, ms) = (Time::from_nanos(number * 2_000), number / 500);
            let comer = scattered(number);
            taken += u32::from(ms >= 7_000 && returners.knows(now, comer));
            returners.note(now, comer);
            if number % 5_000 == 0 {
                let peer = |ms: u64| scattered(1 << 40 | ms);
                let first = ms.checked_sub(5_200);
                peers += u32::from(first.is_some_and(|ms| returners.knows(now, peer(ms))));
                returners.note(now, peer(ms));
            }
        }
        assert!(taken < 2_500_000 / 330, "{taken} of 2,500,000");
        assert!((70..140).contains(&peers), "{peers} of 680");
    }

    #[test]
    fn a_peer_is_known_again_though_nobody_was_noted_since() {
        let mut returners = Returners::new();
        returners.note(at(3_000), 42);
        assert!(!returners.admits(at(4_000), 42) && returners.admits(at(8_100), 42));
    }

    #[test]
    fn a_long_silence_forgets_everybody() {
        let mut returners = Returners::new();
        returners.note(at(0), 42);
        assert!(!returners.admits(at(1_000_000), 42));
        returners.note(at(1_000_000), 1);
        assert!(!returners.admits(at(1_000_000), 42));
        returners.note(at(1_005_000), 1);
        assert!(returners.admits(at(1_005_000), 1) && !returners.admits(at(1_005_000), 42));
        assert_eq!(Returners::BYTES, 896 << 10);
    }
}
