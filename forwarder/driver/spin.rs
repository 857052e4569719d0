//! Whether to go on asking for a while before sleeping.
//!
//! Being woken costs more than many questions, so where the next thing comes soon after the last,
//! asking on makes round trips several times shorter. Where it does not, asking burns a core for
//! nothing. So a worker asks on only while that has lately paid: credit is earned by things that
//! came soon, and spent by asking in vain.
//!
//! What comes next depends on what was last: a request that went out is answered soon, and after the
//! answer nothing may come for long. So each direction has a credit of its own.
//!
//! Bulk needs none of it: what is waiting when a worker wakes pays for the waking, and the time that
//! is asked away is missing elsewhere. So bulk puts both in debt.

use std::time::Duration;

/// The most credit: so often in a row it is asked in vain before a worker sleeps at once.
const MOST: i16 = 8;
/// What something that came soon earns.
const EARNED: i16 = 2;
/// What bulk costs: once, it takes 16 things that came soon to make it good; again and again, it
/// outweighs its own acknowledgements, which come in between, soon and small.
const COST: i16 = 16 * EARNED;
/// The most debt, so that bulk that is over is soon forgotten.
const DEBT: i16 = -4 * COST;
/// More than so many bytes in one turn are bulk.
const BULK: usize = 16 << 10;

/// Which way something went.
#[derive(Clone, Copy, Debug)]
enum Towards {
    Pods,
    Wire,
}

/// The habit of one worker.
pub(crate) struct Spin {
    longest: Duration,
    /// After what went towards the pods, and after what went towards the wire.
    credits: [i16; 2],
    last: Towards,
}

impl Spin {
    /// One that asks on for `longest` at most; zero: never.
    pub(crate) fn new(longest: Duration) -> Spin {
        Spin {
            longest,
            credits: [0; 2],
            last: Towards::Wire,
        }
    }

    /// How long to ask on before the next sleep; zero: sleep at once.
    pub(crate) fn patience(&self) -> Duration {
        match self.credits[self.last as usize] {
            ..=0 => Duration::ZERO,
            _ => self.longest,
        }
    }

    /// Something came soon after what was last, and led to something.
    pub(crate) fn came(&mut self) {
        let credit = self.credit();
        *credit = MOST.min(*credit + EARNED);
    }

    /// Nothing came while it asked, or nothing that mattered.
    pub(crate) fn in_vain(&mut self) {
        let credit = self.credit();
        if *credit > 0 {
            *credit -= 1;
        }
    }

    /// So many bytes were moved in one turn, to the pods and to the wire.
    pub(crate) fn moved(&mut self, pods: usize, wire: usize) {
        match (pods, wire) {
            (0, 0) => {}
            (_, 0) => self.last = Towards::Pods,
            _ => self.last = Towards::Wire,
        }
        if pods + wire > BULK {
            for credit in &mut self.credits {
                *credit = DEBT.max((*credit).min(0) - COST);
            }
        }
    }

    fn credit(&mut self) -> &mut i16 {
        &mut self.credits[self.last as usize]
    }

    /// Whether what woke it after `time` would have come while it asked. Being woken is part of that
    /// time, and may be most of it.
    pub(crate) fn was_soon(&self, time: Duration) -> bool {
        time < self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(100);

    /// Lives with things that come each so long after the one before, to the wire and to the pods in
    /// turn; what share of a second it spends asking.
    fn share(gaps_us: [u64; 2]) -> f64 {
        let mut spin = Spin::new(LONGEST);
        let (mut asked, mut passed) = (Duration::ZERO, Duration::ZERO);
        for number in 0.. {
            if passed >= Duration::from_secs(1) {
                break;
            }
            let gap = Duration::from_micros(gaps_us[number % 2]);
            let patience = spin.patience();
            match patience {
                Duration::ZERO if spin.was_soon(gap) => spin.came(),
                Duration::ZERO => {}
                _ if gap < patience => spin.came(),
                _ => spin.in_vain(),
            }
            spin.moved(number % 2 * 100, (number + 1) % 2 * 100);
            asked += gap.min(patience);
            passed += gap;
        }
        asked.as_secs_f64() / passed.as_secs_f64()
    }

    #[test]
    fn it_asks_on_where_things_come_soon_and_sleeps_where_they_do_not() {
        for (gaps_us, least, most) in [
            ([20, 20], 0.99, 1.0),
            ([90, 90], 0.99, 1.0),
            ([110, 110], 0.0, 0.0),
            ([1_000, 1_000], 0.0, 0.0),
        ] {
            let share = share(gaps_us);
            assert!((least..=most).contains(&share), "{gaps_us:?} µs: {share}");
        }
    }

    #[test]
    fn it_asks_on_for_an_answer_and_not_for_the_next_question() {
        let share = share([900, 90]);
        assert!((0.08..=0.1).contains(&share), "{share}");
    }

    #[test]
    fn what_was_earned_is_spent_after_a_few_times() {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| spin.came());
        let times = std::iter::repeat_with(|| {
            let patience = spin.patience();
            spin.in_vain();
            patience
        });
        assert_eq!(
            times.take_while(|patience| !patience.is_zero()).count(),
            MOST as usize
        );
    }

    /// Whether it asks on after so many turns of bulk, and then so many small things.
    fn asks_after(bulk: usize, small: usize) -> bool {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| spin.came());
        (0..bulk).for_each(|_| spin.moved(1, BULK));
        (0..small).for_each(|_| {
            spin.moved(0, BULK);
            spin.came();
        });
        !spin.patience().is_zero()
    }

    #[test]
    fn beside_bulk_it_does_not_ask_on_and_soon_after_it_does() {
        assert!(asks_after(0, 0));
        assert!(!asks_after(1, 0) && !asks_after(1, 16) && asks_after(1, 17));
        assert!(!asks_after(1_000, 64) && asks_after(1_000, 65));
    }

    #[test]
    fn with_no_patience_it_never_asks_on() {
        let mut spin = Spin::new(Duration::ZERO);
        assert!(!spin.was_soon(Duration::ZERO));
        spin.came();
        assert_eq!(spin.patience(), Duration::ZERO);
    }
}
