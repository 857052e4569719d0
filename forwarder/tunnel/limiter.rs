//! How often something may happen: an [`Allowance`] for one thing, a [`Limiter`] for every source
//! of handshake messages, in a table of fixed size (Linux `drivers/net/wireguard/ratelimiter.c`).

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use packet::Time;

/// Once per `interval`, and `burst` times at once after a silence.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// A bucket of tokens, kept as the time at which it will be full again.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allowance(Time);

impl Allowance {
    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, now: Time, rate: Rate) -> bool {
        if now < self.next(rate) {
            return false;
        }
        self.0 = self.0.max(now) + rate.interval;
        true
    }

    /// When there is, or was, a token.
    pub(crate) fn next(&self, rate: Rate) -> Time {
        let missing = rate.interval * rate.burst.saturating_sub(1);
        Time::ZERO + self.0.since(Time::ZERO).saturating_sub(missing)
    }
}

/// Handshakes of one source under load: 20 per second, 5 at once.
const SOURCE: Rate = Rate {
    interval: Duration::from_millis(50),
    burst: 5,
};
/// Sources of one row of the table.
const WAYS: usize = 8;
const ROWS: usize = 512;

/// The buckets of all sources. Where a row is full the source that has asked the longest ago gives
/// way: a stranger is never turned away because of others, and who comes from so many addresses
/// that his own buckets are forgotten gains a few handshakes, which [`crate::reception`] bounds for
/// all sources together.
pub(crate) struct Limiter {
    rows: Vec<[Bucket; WAYS]>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    source: u64,
    allowance: Allowance,
}

const _: () = assert!(size_of::<Bucket>() == 16 && ROWS.is_power_of_two());

impl Limiter {
    /// Bytes of its table.
    pub(crate) const BYTES: usize = ROWS * WAYS * size_of::<Bucket>();

    pub(crate) fn new() -> Limiter {
        Limiter {
            rows: vec![[Bucket::default(); WAYS]; ROWS],
        }
    }

    /// Whether a source, given by a hash of it that nobody outside can compute, may do one more.
    pub(crate) fn admits(&mut self, now: Time, source: u64) -> bool {
        let row = &mut self.rows[source as usize % ROWS];
        let known = row.iter().position(|bucket| bucket.source == source);
        let place = known.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|&place| row[place].allowance.0);
            let oldest = oldest.unwrap_or(0);
            row[oldest] = Bucket {
                source,
                allowance: Allowance::default(),
            };
            oldest
        });
        row[place].allowance.take(now, SOURCE)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// A source in the row `row`, its `number`th there.
    fn source(row: u64, number: u64) -> u64 {
        row + number * ROWS as u64
    }

    /// The tokens of one source as one would count them by hand: in nanoseconds, at most five.
    struct Model {
        tokens: u64,
        last: Time,
    }

    impl Model {
        const COST: u64 = 50_000_000;

        fn admits(&mut self, now: Time) -> bool {
            let earned = now.since(self.last).as_nanos() as u64;
            self.tokens = (self.tokens + earned).min(5 * Self::COST);
            self.last = now;
            let enough = self.tokens >= Self::COST;
            self.tokens -= if enough { Self::COST } else { 0 };
            enough
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_tokens_counted_by_hand(
            steps in prop::collection::vec((0u64..40, 0u64..120_000_000), 1..400)
        ) {
            let (mut limiter, mut models) = (Limiter::new(), HashMap::new());
            let mut now = Time::from_nanos(1);
            for (number, later) in steps {
                // Mostly at once, so that the buckets run dry.
                now = now + Duration::from_nanos(later.saturating_sub(80_000_000));
                // Five rows with as many sources as fit into each.
                let source = source(number % 5, 1 + number / 5);
                let model = models.entry(source).or_insert(Model { tokens: 5 * Model::COST, last: now });
                prop_assert_eq!(limiter.admits(now, source), model.admits(now));
            }
        }

        #[test]
        fn more_sources_than_it_knows_never_make_it_stricter(
            steps in prop::collection::vec((1u64..100, 0u64..60_000_000), 1..600)
        ) {
            let (mut limiter, mut models) = (Limiter::new(), HashMap::new());
            let mut now = Time::from_nanos(1);
            for (number, later) in steps {
                now = now + Duration::from_nanos(later.saturating_sub(40_000_000));
                let source = source(3, number);
                let fresh = || (Model { tokens: 5 * Model::COST, last: now }, 0);
                let (model, lead) = models.entry(source).or_insert_with(fresh);
                *lead += i32::from(limiter.admits(now, source)) - i32::from(model.admits(now));
                prop_assert!(*lead >= 0);
            }
        }
    }

    #[test]
    fn five_at_once_and_then_twenty_a_second() {
        let mut limiter = Limiter::new();
        let admitted = (0..10_000).filter(|&ms| limiter.admits(at(ms), 77)).count();
        assert_eq!(admitted, 5 + 199);
    }

    #[test]
    fn whoever_floods_from_many_sources_does_not_lock_another_out() {
        let mut limiter = Limiter::new();
        for round in 0..200 {
            for number in 1..100 {
                limiter.admits(at(10 * round), source(9, number));
            }
            // One that comes now and then, into the same row.
            assert!(round % 10 != 0 || limiter.admits(at(10 * round), source(9, 1_000)));
        }
        assert_eq!(limiter.rows.len(), ROWS);
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_earns_nothing() {
        let mut limiter = Limiter::new();
        let admitted = (0..100).filter(|_| limiter.admits(at(5_000), 1)).count();
        assert_eq!(admitted, 5);
        assert!(!limiter.admits(at(0), 1));
        assert!(limiter.admits(at(5_050), 1));
    }
}
