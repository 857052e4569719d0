//! Whether to go on asking for a while before sleeping.
//!
//! Being woken costs more than many questions, so where the next thing comes soon after the last,
//! asking on makes round trips several times shorter. Where it does not, asking burns a core for
//! nothing. So a worker asks on only while that has lately paid: credit is earned by things that
//! came soon, and spent by asking in vain.
//!
//! What comes next depends on what was last: a request that went out is answered soon, and after the
//! answer nothing may come for long. So each direction has credits of its own, one for what goes the
//! other way next, an answer, and one for more of the same. Only for an answer it asks long: whoever
//! sends a few thousand packets a second one way must not keep a core busy.
//!
//! Bulk needs none of it: what is waiting when a worker wakes pays for the waking, and the time that
//! is asked away is missing elsewhere. So bulk puts all of them in debt.

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

/// More of the same is waited for a shorter time than an answer, by this factor.
const SHORTER: u32 = 3;

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Towards {
    Pods,
    Wire,
}

/// The habit of one worker.
pub(crate) struct Spin {
    longest: Duration,
    /// After what went towards the pods, and after what went towards the wire.
    credits: [Credit; 2],
    last: Towards,
}

/// What has lately paid.
#[derive(Clone, Copy, Default)]
struct Credit {
    answer: i16,
    more: i16,
}

impl Spin {
    /// One that asks on for `longest` at most; zero: never.
    pub(crate) fn new(longest: Duration) -> Spin {
        Spin {
            longest,
            credits: [Credit::default(); 2],
            last: Towards::Wire,
        }
    }

    /// How long to ask on before the next sleep; zero: sleep at once.
    pub(crate) fn patience(&self) -> Duration {
        match self.credits[self.last as usize] {
            Credit { answer: 1.., .. } => self.longest,
            Credit { more: 1.., .. } => self.longest / SHORTER,
            _ => Duration::ZERO,
        }
    }

    /// It has waited for `time`, and then so many bytes were moved in one turn, to the pods and to the
    /// wire. Being woken is part of that time, and may be most of it.
    pub(crate) fn waited(&mut self, time: Duration, pods: usize, wire: usize) {
        let answered = towards(pods, wire).is_some_and(|now| now != self.last);
        let (answer, more) = match (answered, pods + wire) {
            (_, 0) => (false, false),
            (true, _) => (time < self.longest, false),
            (false, _) => (false, time < self.longest / SHORTER),
        };
        let credit = &mut self.credits[self.last as usize];
        settle(&mut credit.answer, answer);
        settle(&mut credit.more, more);
    }

    /// So many bytes were moved in one turn, to the pods and to the wire.
    pub(crate) fn moved(&mut self, pods: usize, wire: usize) {
        self.last = towards(pods, wire).unwrap_or(self.last);
        if pods + wire > BULK {
            for credit in &mut self.credits {
                owe(&mut credit.answer);
                owe(&mut credit.more);
            }
        }
    }
}

/// Which way it went; `None` if nothing went anywhere.
fn towards(pods: usize, wire: usize) -> Option<Towards> {
    match (pods, wire) {
        (0, 0) => None,
        (_, 0) => Some(Towards::Pods),
        _ => Some(Towards::Wire),
    }
}

/// What was waited for came soon, or to ask for it was in vain.
fn settle(credit: &mut i16, soon: bool) {
    if soon {
        *credit = MOST.min(*credit + EARNED);
    } else if *credit > 0 {
        *credit -= 1;
    }
}

/// Bulk has come.
fn owe(credit: &mut i16) {
    *credit = DEBT.max((*credit).min(0) - COST);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(250);
    /// The ways of a question and its answer, of a stream, and of two pods of one node.
    const ANSWERED: [(usize, usize); 2] = [(0, 100), (100, 0)];
    const STREAM: [(usize, usize); 2] = [(0, 100), (0, 100)];
    const LOCAL: [(usize, usize); 2] = [(100, 0), (100, 0)];

    /// Lives with things that go these ways in turn, each so long after the one before; what share of
    /// a second it spends asking.
    fn share(ways: [(usize, usize); 2], gaps_us: [u64; 2]) -> f64 {
        let mut spin = Spin::new(LONGEST);
        let (mut asked, mut passed) = (Duration::ZERO, Duration::ZERO);
        for number in 0.. {
            if passed >= Duration::from_secs(1) {
                break;
            }
            let gap = Duration::from_micros(gaps_us[number % 2]);
            let (pods, wire) = ways[number % 2];
            asked += gap.min(spin.patience());
            passed += gap;
            spin.waited(gap, pods, wire);
            spin.moved(pods, wire);
        }
        asked.as_secs_f64() / passed.as_secs_f64()
    }

    #[test]
    fn it_asks_on_where_things_come_soon_and_sleeps_where_they_do_not() {
        for (ways, gaps_us, least, most) in [
            (ANSWERED, [20, 20], 0.99, 1.0),
            (ANSWERED, [240, 240], 0.99, 1.0),
            (ANSWERED, [260, 260], 0.0, 0.0),
            (ANSWERED, [1_000, 1_000], 0.0, 0.0),
            (STREAM, [80, 80], 0.99, 1.0),
            (STREAM, [90, 90], 0.0, 0.0),
            (STREAM, [200, 200], 0.0, 0.0),
        ] {
            let share = share(ways, gaps_us);
            let holds = (least..=most).contains(&share);
            assert!(holds, "{ways:?} {gaps_us:?} µs: {share}");
        }
    }

    #[test]
    fn it_asks_on_for_an_answer_and_not_for_the_next_question() {
        let far = share(ANSWERED, [800, 200]);
        assert!((0.19..=0.2).contains(&far), "{far}");
        let near = share(LOCAL, [940, 60]);
        assert!((0.13..=0.15).contains(&near), "{near}");
        assert!(share(LOCAL, [800, 200]) == 0.0);
    }

    #[test]
    fn what_was_earned_is_spent_after_a_few_times() {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| answer(&mut spin));
        let times = std::iter::repeat_with(|| {
            let patience = spin.patience();
            spin.waited(2 * LONGEST, 100, 0);
            patience
        });
        let asked = times.take_while(|patience| !patience.is_zero());
        assert_eq!(asked.count(), MOST as usize);
    }

    #[test]
    fn what_leads_to_nothing_earns_nothing() {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| spin.waited(Duration::ZERO, 0, 0));
        assert!(spin.patience().is_zero());
    }

    /// Something goes to the wire, and what comes for the pods comes at once.
    fn answer(spin: &mut Spin) {
        spin.moved(0, BULK);
        spin.waited(Duration::ZERO, 100, 0);
    }

    /// Whether it asks on after so many turns of bulk, and then so many answers.
    fn asks_after(bulk: usize, small: usize) -> bool {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| answer(&mut spin));
        (0..bulk).for_each(|_| spin.moved(1, BULK));
        (0..small).for_each(|_| answer(&mut spin));
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
        answer(&mut spin);
        assert_eq!(spin.patience(), Duration::ZERO);
    }
}
