//! The largest datagram that the path to one node carries, found by probes: RFC 8899 with many
//! candidates at a time. Pure: time and answers come in, what to send goes out.
//!
//! A search sends the sizes that paths are known to have all at once, then cuts the gap that is left
//! into equal parts, until one byte more does not pass. The size that was found is confirmed while
//! it is used; when the confirmation fails, the search begins again below it. Probes that are lost
//! by chance are repeated, and a path over which nothing at all passes is no narrow path: the size
//! is lowered only where a smaller probe was answered.

use core::time::Duration;

use packet::Time;

/// Every path carries this, counted from the outer IP header on (RFC 8200 §5; RFC 8899 §5.1.2
/// BASE_PLPMTU; IPv4 promises less, but there is hardly a path that carries less).
pub(crate) const BASE: u16 = 1_280;
/// Sizes that paths really had: IPv6's least, two that were measured, PPPoE over other tunnels and
/// Ethernet.
const PLATEAUS: [u16; 5] = [BASE, 1_296, 1_368, 1_420, 1_500];
/// Narrower gaps between them are left to the rounds that follow.
const PLATEAU_GAP: u16 = 32;
/// What passes wherever the node is reached at all: answered, it tells a narrow path from none.
const LEAST: u16 = 200;
/// Sizes of one round.
pub(crate) const CANDIDATES: usize = 8;
/// How often a size is tried (RFC 8899 §5.1.2 MAX_PROBES).
const ATTEMPTS: u8 = 3;
/// How long a probe may be under way beyond two round trips, and how long in all.
const MARGIN: Duration = Duration::from_millis(150);
const PATIENCE_MAX: Duration = Duration::from_secs(3);
/// How often the size in use is confirmed while larger packets than [`BASE`] are sent.
const CONFIRM: Duration = Duration::from_secs(1);
/// When it is tried to raise the size: soon again, for probes that chance has taken, and then
/// seldom (RFC 8899 §5.1.1 PMTU_RAISE_TIMER).
const RAISE: [Duration; 3] = [
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(600),
];
/// When a path that does not even carry [`BASE`] is looked at again.
const NARROW: Duration = Duration::from_secs(2);
/// When a node that has ceased to answer is knocked at again, and one that never has.
const SILENT: Duration = Duration::from_secs(1);
const FOREIGN: Duration = Duration::from_secs(30);

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Nothing, or nothing any more: it is taken to carry what the own link does, or did so far.
    Unknown,
    /// It is being searched.
    Searching,
    /// Its size is proven.
    Found,
    /// The node answers, but no probe of 1,280 bytes.
    Narrow,
    /// The node answers no probes: it gets what every path carries.
    Foreign,
}

/// Probes to be sent at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volley {
    /// Of the round: an answer must name it.
    pub(crate) number: u16,
    sizes: [u16; CANDIDATES],
    count: usize,
}

impl Volley {
    /// Their sizes, counted from the outer IP header on, in bytes.
    pub(crate) fn sizes(&self) -> &[u16] {
        &self.sizes[..self.count]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To know the size anew.
    Search,
    /// To know whether it still holds.
    Confirm,
    /// To know whether it may be more.
    Raise,
    /// To know whether anybody answers, by the least that there is.
    Knock,
}

/// Candidates that are tried together.
#[derive(Clone, Copy, Debug)]
struct Round {
    purpose: Purpose,
    /// Increasing.
    sizes: [u16; CANDIDATES],
    count: usize,
    attempt: u8,
    /// Whether any of them was answered.
    answered: bool,
    /// When it was sent last; `None` while it waits to be sent.
    sent: Option<Time>,
}

impl Round {
    fn sizes(&self) -> &[u16] {
        &self.sizes[..self.count]
    }
}

/// The state of one path.
#[derive(Debug)]
pub(crate) struct PathSize {
    state: PathState,
    size: u16,
    link: u16,
    round: Option<Round>,
    number: u16,
    /// The largest size that was answered in this search; 0 if none was.
    floor: u16,
    /// The least that is known not to pass.
    ceiling: u16,
    confirmed: Time,
    raise_at: Time,
    raises: usize,
    retry_at: Time,
    /// Whether any probe was ever answered.
    answers: bool,
    round_trip: Option<Duration>,
}

impl PathSize {
    /// A path of which nothing is known; the own link carries `link` bytes. What a foreign
    /// WireGuard can do is not known, so it gets what every path carries, until it answers.
    pub(crate) fn new(link: u16, foreign: bool) -> PathSize {
        let (state, size) = match foreign {
            true => (PathState::Foreign, link.min(BASE)),
            false => (PathState::Unknown, link),
        };
        PathSize {
            state,
            size,
            link,
            round: None,
            number: 0,
            floor: 0,
            ceiling: link.saturating_add(1),
            confirmed: Time::ZERO,
            raise_at: Time::ZERO,
            raises: 0,
            retry_at: Time::ZERO,
            answers: false,
            round_trip: None,
        }
    }

    /// The path may be another one: it is looked at again.
    pub(crate) fn moved(&mut self) {
        if self.answers {
            self.search(self.link);
        }
    }

    /// The own link carries more or less than before.
    pub(crate) fn set_link(&mut self, link: u16) {
        if link == self.link {
            return;
        }
        let untouched = matches!(self.state, PathState::Unknown);
        self.size = if untouched { link } else { self.size.min(link) };
        self.link = link;
        self.moved();
    }

    /// The own host has refused to send a datagram of `size` bytes: none as long is sent from now
    /// on, whatever probes will say of shorter ones. Whether a search for those began.
    pub(crate) fn refused(&mut self, size: u16) -> bool {
        if size > self.size {
            return false;
        }
        let most = size.saturating_sub(1);
        self.size = self.size.min(most.max(BASE));
        let searching = self.round.is_some_and(|r| r.purpose == Purpose::Search);
        if searching || !self.answers {
            return false;
        }
        self.search(most);
        true
    }

    /// An answer of `size` bytes to a probe of round `number`.
    /// Whether more is to be sent at once.
    pub(crate) fn answer(&mut self, now: Time, number: u16, size: u16) -> bool {
        let Some(round) = &mut self.round else {
            return false;
        };
        let was_asked = round.sizes().contains(&size);
        if number != self.number || round.sent.is_none() && round.attempt == 0 || !was_asked {
            return false;
        }
        let largest = round.sizes().last().copied().unwrap_or(size);
        // Of repeated probes nobody knows which one is answered (Karn).
        if let (0, Some(sent)) = (round.attempt, round.sent) {
            self.round_trip = Some(now.since(sent));
        }
        round.answered = true;
        self.answers = true;
        self.floor = self.floor.max(size);
        if size >= self.size {
            self.size = size;
            self.confirmed = now;
        }
        if size >= largest {
            self.conclude(now);
            return self.round.is_some();
        }
        false
    }

    /// Goes on where time has come. `live` is whether anything can be sent to the node at once;
    /// `used` is the longest datagram that was sent since the last probes were, 0 if none was.
    pub(crate) fn handle_timeout(&mut self, now: Time, live: bool, used: u16) {
        match self.deadline() {
            Some(deadline) if deadline <= now => self.miss(now),
            None if live && self.round.is_none() => self.begin(now, used),
            _ => {}
        }
    }

    /// The probes that are to be sent now, at most `most`: all of a volley, or none yet.
    pub(crate) fn volley(&mut self, now: Time, most: usize) -> Option<Volley> {
        let floor = self.floor;
        let round = self.round.as_mut().filter(|round| round.sent.is_none())?;
        // What holds already is asked once more, beside what may hold.
        let least = floor.saturating_add(u16::from(round.answered)).max(1);
        let open = round.sizes().iter().filter(|size| **size >= least);
        let mut volley = Volley {
            number: self.number,
            sizes: [0; CANDIDATES],
            count: 0,
        };
        for size in open {
            volley.sizes[volley.count] = *size;
            volley.count += 1;
        }
        if volley.count > most {
            return None;
        }
        round.sent = Some(now);
        Some(volley)
    }

    /// When [`PathSize::handle_timeout`] has to be called next; `None` where no probe is under way.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let round = self.round?;
        let patience = match round.purpose {
            Purpose::Knock => PATIENCE_MAX,
            _ => patience(self.round_trip),
        };
        Some(round.sent? + patience)
    }

    /// How many probes are under way.
    pub(crate) fn under_way(&self) -> usize {
        let sent = self.round.filter(|round| round.sent.is_some());
        sent.map_or(0, |round| round.count)
    }

    /// The longest datagram to be sent, from the outer IP header on, in bytes.
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// Whether the size in use is a guess: nothing was ever answered.
    pub(crate) fn is_guessed(&self) -> bool {
        !self.answers
    }

    /// What is known.
    pub(crate) fn state(&self) -> PathState {
        self.state
    }

    /// Searches from `most` down.
    fn search(&mut self, most: u16) {
        self.state = PathState::Searching;
        (self.floor, self.ceiling) = (0, most.max(BASE).saturating_add(1));
        self.raises = 0;
        let sizes = plateaus(BASE - 1, self.ceiling);
        self.start(Purpose::Search, behind(LEAST, sizes));
    }

    /// With no round under way: whether one is due.
    fn begin(&mut self, now: Time, used: u16) {
        match self.state {
            PathState::Found if used > BASE && now.since(self.confirmed) >= CONFIRM => {
                (self.floor, self.ceiling) = (0, self.size.saturating_add(1));
                self.start(Purpose::Confirm, one(self.size));
            }
            PathState::Found if used > 0 && self.size < self.link && now >= self.raise_at => {
                (self.floor, self.ceiling) = (self.size, self.link.saturating_add(1));
                let sizes = plateaus(self.floor, self.ceiling);
                self.start(Purpose::Raise, behind(self.floor, sizes));
            }
            PathState::Narrow if now >= self.retry_at => self.search(self.link),
            PathState::Unknown if !self.answers => self.search(self.link),
            PathState::Unknown | PathState::Foreign if now >= self.retry_at => {
                self.floor = 0;
                self.start(Purpose::Knock, one(LEAST));
            }
            _ => {}
        }
    }

    fn start(&mut self, purpose: Purpose, (sizes, count): ([u16; CANDIDATES], usize)) {
        self.number = self.number.wrapping_add(1);
        self.round = Some(Round {
            purpose,
            sizes,
            count,
            attempt: 0,
            answered: false,
            sent: None,
        });
    }

    /// Not all candidates were answered in time.
    fn miss(&mut self, now: Time) {
        let Some(round) = &mut self.round else { return };
        round.attempt += 1;
        if round.purpose == Purpose::Knock {
            return self.conclude(now);
        }
        if round.purpose == Purpose::Confirm {
            // Its repetition goes with smaller ones: either may tell chance from a narrower path.
            let size = self.size;
            return self.search(size);
        }
        if round.attempt < ATTEMPTS {
            round.sent = None;
            return;
        }
        self.conclude(now);
    }

    /// Nothing passes at all. That says nothing about the size, unless it was never otherwise.
    fn give_up(&mut self, now: Time) {
        if self.answers {
            self.state = PathState::Unknown;
            self.retry_at = now + SILENT;
        } else {
            self.state = PathState::Foreign;
            self.size = self.size.min(BASE);
            self.retry_at = now + FOREIGN;
        }
    }

    /// The round is over: all that will be answered is.
    fn conclude(&mut self, now: Time) {
        let Some(round) = self.round.take() else {
            return;
        };
        if self.floor == 0 {
            return self.give_up(now);
        }
        if round.purpose == Purpose::Knock {
            return self.search(self.link);
        }
        if self.floor < BASE {
            self.state = PathState::Narrow;
            self.size = self.size.min(BASE);
            self.retry_at = now + NARROW;
            return;
        }
        let floor = self.floor;
        if let Some(failed) = round.sizes().iter().find(|size| **size > floor) {
            self.ceiling = self.ceiling.min(*failed);
        }
        if !round.answered {
            // Not even what held when the round began: the path has changed meanwhile.
            return self.search(self.size);
        }
        self.size = floor;
        let nothing_more = round.purpose == Purpose::Raise && round.sizes()[0] == floor;
        if self.ceiling - floor > 1 && round.purpose != Purpose::Confirm && !nothing_more {
            self.start(round.purpose, behind(floor, parts(floor, self.ceiling)));
            return;
        }
        self.state = PathState::Found;
        if round.purpose != Purpose::Confirm {
            self.confirmed = now;
            self.raise_at = now + RAISE[self.raises.min(RAISE.len() - 1)];
            self.raises += 1;
        }
    }
}

fn one(size: u16) -> ([u16; CANDIDATES], usize) {
    let mut sizes = [0; CANDIDATES];
    sizes[0] = size;
    (sizes, 1)
}

/// How long a probe may be under way.
fn patience(round_trip: Option<Duration>) -> Duration {
    (round_trip.unwrap_or(MARGIN) * 2 + MARGIN).min(PATIENCE_MAX)
}

/// The sizes that paths are known to have between two (neither is one of them), the largest that
/// is possible, and halves of the gaps where there is room.
fn plateaus(floor: u16, ceiling: u16) -> ([u16; CANDIDATES], usize) {
    let mut sizes = [0; CANDIDATES];
    let mut count = 0;
    let top = ceiling.saturating_sub(1);
    for size in PLATEAUS.into_iter().filter(|s| *s > floor && *s < top) {
        sizes[count] = size;
        count += 1;
    }
    if top > floor {
        sizes[count] = top;
        count += 1;
    }
    while (1..CANDIDATES - 1).contains(&count) {
        let gap = |at: &usize| sizes[*at] - if *at == 0 { floor } else { sizes[at - 1] };
        // Above what is proven, growth may be little: halves are taken towards that.
        let widest = match floor >= BASE {
            true => Some(0),
            false => (0..count).max_by_key(gap),
        };
        let Some(at) = widest.filter(|at| gap(at) > PLATEAU_GAP) else {
            break;
        };
        let middle = sizes[at] - gap(&at) / 2;
        sizes.copy_within(at..count, at + 1);
        sizes[at] = middle;
        count += 1;
    }
    (sizes, count)
}

/// The same sizes with a smaller one before them.
fn behind(
    least: u16,
    (mut sizes, count): ([u16; CANDIDATES], usize),
) -> ([u16; CANDIDATES], usize) {
    sizes.copy_within(..count.min(CANDIDATES - 1), 1);
    sizes[0] = least;
    (sizes, (count + 1).min(CANDIDATES))
}

/// Equal parts of a gap, whose ends are known; one fewer than there is room for.
fn parts(floor: u16, ceiling: u16) -> ([u16; CANDIDATES], usize) {
    let mut sizes = [0; CANDIDATES];
    let gap = u32::from(ceiling - floor);
    let count = (CANDIDATES - 1).min(gap as usize - 1);
    for (at, size) in sizes.iter_mut().take(count).enumerate() {
        *size = floor + (gap * (at as u32 + 1) / (count as u32 + 1)) as u16;
    }
    (sizes, count)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A step of the simulation.
    const STEP: Duration = Duration::from_millis(5);
    /// How long the size in use may be more than a path carries: the first search, before which
    /// nothing is known, and a confirmation, its repetitions and the answers on their way.
    const BOUND: Duration = Duration::from_secs(4);

    /// A path that silently drops what is larger than `carries`.
    struct Path {
        size: PathSize,
        now: Time,
        carries: u16,
        round_trip: Duration,
        /// Of a hundred datagrams so many are lost, each way.
        loss: u32,
        random: u32,
        answers: Vec<(Time, u16, u16)>,
        /// Since when the size in use is more than the path carries.
        above: Option<Time>,
        longest_above: Duration,
        most_under_way: usize,
        probes: usize,
    }

    impl Path {
        fn new(link: u16, carries: u16) -> Path {
            Path {
                size: PathSize::new(link, false),
                now: Time::from_nanos(1_000_000_000),
                carries,
                round_trip: Duration::from_millis(20),
                loss: 0,
                random: 0x2545_f491,
                answers: Vec::new(),
                above: None,
                longest_above: Duration::ZERO,
                most_under_way: 0,
                probes: 0,
            }
        }

        /// Xorshift (Marsaglia 2003): enough to lose datagrams by.
        fn is_lost(&mut self) -> bool {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            self.random % 100 < self.loss
        }

        fn step(&mut self, used: u16) {
            self.now = self.now + STEP;
            let due: Vec<_> = self.answers.extract_if(.., |a| a.0 <= self.now).collect();
            for (_, number, size) in due {
                self.size.answer(self.now, number, size);
            }
            self.size.handle_timeout(self.now, true, used);
            if let Some(volley) = self.size.volley(self.now, 64) {
                self.probes += volley.sizes().len();
                for size in volley.sizes() {
                    let lost = self.is_lost() || self.is_lost();
                    if *size <= self.carries && !lost {
                        let at = self.now + self.round_trip;
                        self.answers.push((at, volley.number, *size));
                    }
                }
            }
            self.most_under_way = self.most_under_way.max(self.size.under_way());
            match (self.size.size() > self.carries, self.above) {
                (true, None) => self.above = Some(self.now),
                (true, Some(since)) => {
                    self.longest_above = self.longest_above.max(self.now.since(since));
                }
                (false, _) => self.above = None,
            }
        }

        /// Time passes, where `busy` with full packets.
        fn pass(&mut self, time: Duration, busy: bool) {
            for _ in 0..time.as_millis() / STEP.as_millis() {
                let used = if busy { self.size.size() } else { 0 };
                self.step(used);
            }
        }
    }

    fn found(path: &Path) -> (PathState, u16) {
        (path.size.state(), path.size.size())
    }

    #[test]
    fn every_size_from_1280_to_9000_is_found_to_the_byte() {
        for carries in 1_280..=9_000 {
            let mut path = Path::new(9_000, carries);
            path.pass(Duration::from_secs(5), true);
            assert_eq!(found(&path), (PathState::Found, carries));
            assert!(path.longest_above <= BOUND, "{carries}");
            assert!(path.most_under_way <= CANDIDATES);
        }
    }

    #[test]
    fn what_the_own_link_carries_is_proven_in_one_round_trip() {
        for link in [1_360, 1_420, 1_500, 9_000, 65_534] {
            let mut path = Path::new(link, u16::MAX);
            path.pass(path.round_trip + STEP * 2, true);
            assert_eq!(found(&path), (PathState::Found, link));
        }
    }

    #[test]
    fn a_path_that_shrinks_is_found_out_while_it_is_used_and_one_that_grows_is_tried_again() {
        let sizes = [
            1_280, 1_281, 1_296, 1_368, 1_419, 1_420, 1_500, 4_001, 9_000,
        ];
        for (before, after) in sizes.iter().flat_map(|a| sizes.map(|b| (*a, b))) {
            let mut path = Path::new(9_000, before);
            path.pass(Duration::from_secs(6), true);
            (path.carries, path.longest_above) = (after, Duration::ZERO);
            path.pass(Duration::from_secs(5), true);
            assert!(path.size.size() <= after, "{before} to {after}");
            assert!(path.longest_above <= BOUND, "{before} to {after}");
            path.pass(Duration::from_secs(700), true);
            // Growth is looked for in steps: to the byte only where something larger passed.
            let near = path.size.size() > after - after / 8;
            assert!(near, "{before} to {after}: {:?}", found(&path));
            assert!(path.size.size() <= after);
        }
    }

    #[test]
    fn an_idle_path_costs_nothing_once_it_is_known() {
        let mut path = Path::new(9_000, 1_400);
        path.pass(Duration::from_secs(6), false);
        assert_eq!(found(&path), (PathState::Found, 1_400));
        let before = path.probes;
        path.pass(Duration::from_secs(2_000), false);
        assert_eq!(path.probes, before);
    }

    #[test]
    fn a_path_that_is_cut_keeps_its_size_is_knocked_at_and_searched_when_it_is_back() {
        let mut path = Path::new(1_500, 1_500);
        path.pass(Duration::from_secs(2), true);
        path.carries = 0;
        path.pass(Duration::from_secs(10), true);
        assert_eq!(found(&path), (PathState::Unknown, 1_500));
        let before = path.probes;
        path.pass(Duration::from_secs(40), true);
        assert!(path.probes - before <= 10, "nobody is there to answer");
        path.carries = 1_368;
        path.pass(PATIENCE_MAX + SILENT + BOUND, true);
        assert_eq!(found(&path), (PathState::Found, 1_368));
    }

    #[test]
    fn a_path_under_1280_is_called_narrow_until_it_is_wider() {
        let mut path = Path::new(1_500, 1_279);
        path.pass(Duration::from_secs(6), true);
        assert_eq!(path.size.size(), BASE);
        assert!(matches!(
            path.size.state(),
            PathState::Narrow | PathState::Searching
        ));
        path.carries = 1_420;
        path.pass(Duration::from_secs(6), true);
        assert_eq!(found(&path), (PathState::Found, 1_420));
    }

    #[test]
    fn a_node_that_answers_no_probe_gets_the_safe_size_until_it_answers() {
        for foreign in [true, false] {
            let mut path = Path::new(9_000, 0);
            path.size = PathSize::new(9_000, foreign);
            assert_eq!(path.size.size(), if foreign { BASE } else { 9_000 });
            path.pass(Duration::from_secs(3), true);
            assert!(path.size.is_guessed());
            assert_eq!(found(&path), (PathState::Foreign, BASE));
            path.carries = 1_500;
            path.pass(FOREIGN + Duration::from_secs(5), true);
            assert_eq!(found(&path), (PathState::Found, 1_500));
            assert!(!path.size.is_guessed());
        }
    }

    #[test]
    fn a_round_trip_of_two_seconds_is_no_loss() {
        let mut path = Path::new(1_500, 1_400);
        path.round_trip = Duration::from_secs(2);
        path.pass(Duration::from_secs(150), true);
        assert_eq!(found(&path), (PathState::Found, 1_400));
    }

    #[test]
    fn what_the_own_host_refuses_makes_the_size_shrink_at_once() {
        let mut path = Path::new(1_500, 1_500);
        path.pass(Duration::from_secs(1), true);
        path.carries = 1_400;
        assert!(path.size.refused(1_500));
        assert_eq!(path.size.size(), 1_499, "a fact before any probe");
        assert!(!path.size.refused(1_450), "it is searched already");
        assert_eq!(path.size.size(), 1_449);
        path.pass(Duration::from_secs(1), true);
        assert!(path.size.size() <= 1_400);
        path.pass(Duration::from_secs(2), true);
        assert_eq!(found(&path), (PathState::Found, 1_400));
        assert!(!path.size.refused(1_401), "no longer sent");
        assert_eq!(found(&path), (PathState::Found, 1_400));
        assert!(path.size.refused(1_000));
        assert_eq!(path.size.size(), BASE, "less is never used");
    }

    #[test]
    fn a_refusal_counts_before_anything_was_answered() {
        let mut path = Path::new(9_000, 1_500);
        assert!(!path.size.refused(9_000), "nobody is there to be asked");
        assert_eq!(path.size.size(), 8_999);
        path.pass(Duration::from_secs(5), true);
        assert_eq!(found(&path), (PathState::Found, 1_500));
    }

    #[test]
    fn a_link_that_changes_bounds_the_size_at_once_and_is_tried() {
        let mut path = Path::new(1_500, 9_000);
        path.pass(Duration::from_secs(1), true);
        path.size.set_link(9_000);
        path.pass(Duration::from_secs(1), true);
        assert_eq!(found(&path), (PathState::Found, 9_000));
        path.size.set_link(1_420);
        assert_eq!(path.size.size(), 1_420);
    }

    #[test]
    fn answers_to_other_rounds_or_of_sizes_that_were_not_asked_count_for_nothing() {
        let mut path = Path::new(9_000, 1_300);
        path.size.handle_timeout(path.now, true, 0);
        let volley = path.size.volley(path.now, 64).expect("it is searched");
        for (number, size) in [
            (volley.number.wrapping_add(1), 9_000),
            (volley.number.wrapping_sub(1), 9_000),
            (volley.number, 8_999),
            (volley.number, u16::MAX),
        ] {
            path.size.answer(path.now, number, size);
        }
        path.pass(Duration::from_secs(5), true);
        assert_eq!(found(&path), (PathState::Found, 1_300));
    }

    #[test]
    fn candidates_increase_lie_within_their_gap_and_hold_its_top() {
        for ceiling in (BASE + 1..=9_001).chain([u16::MAX]) {
            for floor in [BASE - 1, BASE, 1_400, 1_500, 5_000] {
                if floor + 1 >= ceiling {
                    continue;
                }
                let (sizes, count) = plateaus(floor, ceiling);
                let sizes = &sizes[..count];
                let within = sizes.iter().all(|s| *s > floor && *s < ceiling);
                assert!(within && sizes.is_sorted() && count < CANDIDATES);
                assert_eq!(sizes.last(), Some(&(ceiling - 1)));
                let (sizes, count) = parts(floor, ceiling);
                let different: BTreeSet<_> = sizes[..count].iter().collect();
                assert_eq!(different.len(), count);
                let within = sizes[..count].iter().all(|s| *s > floor && *s < ceiling);
                assert!(within && count > 0 && sizes[..count].is_sorted());
            }
        }
    }

    proptest! {
        #[test]
        fn with_a_tenth_lost_each_way_it_comes_near_and_is_never_above_for_long(
            carries in 1_280_u16..=9_000,
            link in 1_500_u16..=9_000,
            round_trip_ms in 0_u64..200,
            random in 1_u32..,
            then in proptest::option::of(1_280_u16..=9_000),
        ) {
            let mut path = Path::new(link, carries);
            (path.loss, path.random) = (10, random);
            path.round_trip = Duration::from_millis(round_trip_ms);
            path.pass(Duration::from_secs(20), true);
            prop_assert!(path.size.size() <= carries);
            if let Some(then) = then {
                path.carries = then;
                path.pass(Duration::from_secs(20), true);
                prop_assert!(path.size.size() <= then);
            }
            // Three rounds of three in vain, and a confirmation that was due; where chance takes
            // all of a round, a knock.
            let rounds = patience(Some(path.round_trip)) * 10;
            let longest = rounds + CONFIRM + SILENT + PATIENCE_MAX;
            prop_assert!(path.longest_above <= longest, "{:?}", path.longest_above);
            // Chance may lower it at any time; it does not stay low for longer than two raises.
            let carried = path.carries.min(link);
            let near = |path: &Path| path.size.size() >= carried - carried / 8;
            for _ in 0..1_500 {
                if !near(&path) {
                    path.pass(Duration::from_secs(1), true);
                }
            }
            prop_assert!(near(&path), "{:?}", found(&path));
        }
    }
}
