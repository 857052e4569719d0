//! The timers of one peer (WireGuard paper §6, Linux `drivers/net/wireguard/timers.c`): five
//! deadlines, and which event moves which. Nothing happens here; [`Deadlines::take_due`] says what
//! is to be done.

use core::time::Duration;

use packet::Time;

use crate::session::REJECT_AFTER_TIME;

/// Time between two first messages to one peer, and until one is repeated.
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long an unanswered first message is repeated.
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Most random time added to a deadline after which both sides might act at once.
pub(crate) const JITTER_MAX_MS: u64 = 333;
/// Silence of ours after which data that we received is answered with a keep-alive.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence of the peer, after we sent data, after which a handshake is begun.
const UNHEARD_TIMEOUT: Duration = Duration::from_secs(15);
/// Age of the newest session at which all keys of a peer are wiped.
const WIPE_AFTER: Duration = Duration::from_secs(3 * REJECT_AFTER_TIME.as_secs());
const ATTEMPTS_MAX: u64 = REKEY_ATTEMPT_TIME.as_secs() / REKEY_TIMEOUT.as_secs();

const NEVER: Time = Time::from_nanos(u64::MAX);

/// How soon a peer's silence is noticed: both ends must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence of ours after which data that we received is answered with a keep-alive.
    pub keepalive: Duration,
    /// Silence of the peer, after we sent data, after which a handshake is begun.
    pub unheard: Duration,
}

impl Default for Patience {
    /// WireGuard's (paper §6.5): 10 s and 15 s.
    fn default() -> Patience {
        Patience {
            keepalive: KEEPALIVE_TIMEOUT,
            unheard: UNHEARD_TIMEOUT,
        }
    }
}

/// What a deadline asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Begin the handshake again: the last first message was not answered.
    Repeat,
    /// Give the handshake up, and what waits for it.
    GiveUp,
    /// Begin a handshake: what we sent was not answered by anything.
    Initiate,
    /// Send a keep-alive.
    Keepalive,
    /// Wipe all keys.
    Wipe,
}

/// The state of one peer's timers.
pub(crate) struct Deadlines {
    repeat: Time,
    unheard: Time,
    keepalive: Time,
    persistent: Time,
    wipe: Time,
    interval: u16,
    attempts: u64,
    jitter: Duration,
    initiated: Option<Time>,
    /// The first message since which nothing authentic was heard.
    asked: Option<Time>,
    patience: Patience,
}

impl Deadlines {
    pub(crate) const fn new() -> Deadlines {
        Deadlines {
            repeat: NEVER,
            unheard: NEVER,
            keepalive: NEVER,
            persistent: NEVER,
            wipe: NEVER,
            interval: 0,
            attempts: 0,
            jitter: Duration::ZERO,
            initiated: None,
            asked: None,
            patience: Patience {
                keepalive: KEEPALIVE_TIMEOUT,
                unheard: UNHEARD_TIMEOUT,
            },
        }
    }

    /// Anything but a keep-alive was sent in a session.
    #[inline]
    pub(crate) fn data_sent(&mut self, now: Time) {
        if self.unheard == NEVER {
            self.unheard = now + self.patience.unheard + self.jitter;
        }
    }

    /// Anything but a keep-alive was received in a session.
    #[inline]
    pub(crate) fn data_received(&mut self, now: Time) {
        if self.keepalive == NEVER {
            self.keepalive = now + self.patience.keepalive;
        }
    }

    /// Any message that the peer can authenticate was sent.
    #[inline]
    pub(crate) fn sent(&mut self, now: Time) {
        self.keepalive = NEVER;
        self.traversed(now);
    }

    /// Any authentic message was received.
    #[inline]
    pub(crate) fn received(&mut self, now: Time) {
        self.unheard = NEVER;
        self.asked = None;
        self.traversed(now);
    }

    /// Whether a first message may be sent. If not, one is under way, or will be sent as soon as
    /// it may.
    pub(crate) fn may_initiate(&mut self, now: Time) -> bool {
        if self.repeat != NEVER {
            return false;
        }
        let again = self.initiated.map_or(now, |last| last + REKEY_TIMEOUT);
        if now < again {
            self.repeat = again;
        }
        now >= again
    }

    /// A first message was sent. `jitter` is at most [`JITTER_MAX_MS`].
    pub(crate) fn initiated(&mut self, now: Time, jitter: Duration) {
        self.initiated = Some(now);
        self.asked = self.asked.or(Some(now));
        self.jitter = jitter;
        self.repeat = now + REKEY_TIMEOUT + jitter;
    }

    /// A session can be used for sending from now on.
    pub(crate) fn established(&mut self) {
        self.repeat = NEVER;
        self.attempts = 0;
    }

    /// Keys were made.
    pub(crate) fn derived(&mut self, now: Time) {
        self.wipe = now + WIPE_AFTER;
    }

    /// Keys are gone; a handshake that is under way goes on.
    pub(crate) fn wiped(&mut self) {
        self.wipe = NEVER;
        self.unheard = NEVER;
        self.keepalive = NEVER;
    }

    /// Whether a handshake is under way, or will be.
    pub(crate) fn is_initiating(&self) -> bool {
        self.repeat != NEVER
    }

    /// Since when the peer owes us an answer: nothing authentic was heard after this first message.
    #[inline]
    pub(crate) fn unanswered_since(&self) -> Option<Time> {
        self.asked
    }

    /// Changes how soon silence is noticed, from the next packet on.
    pub(crate) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Begins a handshake at the next call, as if the last one had not been answered.
    pub(crate) fn restart(&mut self, now: Time) {
        self.wiped();
        self.attempts = 0;
        self.repeat = now;
    }

    /// Sends keep-alives every `seconds` from now on; 0 sends none. The same again postpones none.
    pub(crate) fn set_interval(&mut self, now: Time, seconds: u16) {
        if seconds == self.interval {
            return;
        }
        self.interval = seconds;
        self.persistent = NEVER;
        self.traversed(now);
    }

    /// One thing that is to be done now; ask until there is none.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Duty> {
        if self.wipe <= now {
            self.wipe = NEVER;
            return Some(Duty::Wipe);
        }
        if self.repeat <= now {
            self.repeat = NEVER;
            self.attempts += 1;
            if self.attempts < ATTEMPTS_MAX {
                return Some(Duty::Repeat);
            }
            self.attempts = 0;
            self.keepalive = NEVER;
            if self.wipe == NEVER {
                self.wipe = now + WIPE_AFTER;
            }
            return Some(Duty::GiveUp);
        }
        if self.unheard <= now {
            self.unheard = NEVER;
            return Some(Duty::Initiate);
        }
        if self.keepalive <= now {
            self.keepalive = NEVER;
            return Some(Duty::Keepalive);
        }
        if self.persistent <= now {
            // Also where nothing can be sent: it is tried again.
            self.traversed(now);
            return Some(Duty::Keepalive);
        }
        None
    }

    /// When [`Deadlines::take_due`] will next have something.
    #[inline]
    pub(crate) fn next(&self) -> Option<Time> {
        let next = self
            .repeat
            .min(self.unheard)
            .min(self.keepalive)
            .min(self.persistent)
            .min(self.wipe);
        (next != NEVER).then_some(next)
    }

    /// The interval of persistent keep-alives in seconds; 0 is none.
    pub(crate) fn interval(&self) -> u16 {
        self.interval
    }

    #[inline]
    fn traversed(&mut self, now: Time) {
        if self.interval != 0 {
            self.persistent = now + Duration::from_secs(u64::from(self.interval));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_handshake_is_given_up_after_90_seconds() {
        let mut deadlines = Deadlines::new();
        assert!(deadlines.may_initiate(at(0)));
        deadlines.initiated(at(0), Duration::ZERO);
        let mut first_messages = 1;
        let given_up = loop {
            let now = deadlines.next().expect("a handshake is under way");
            match deadlines.take_due(now) {
                Some(Duty::Repeat) => {
                    assert!(deadlines.may_initiate(now));
                    deadlines.initiated(now, Duration::ZERO);
                    first_messages += 1;
                }
                duty => break (duty, now),
            }
        };
        assert_eq!(given_up, (Some(Duty::GiveUp), at(90)));
        assert_eq!(first_messages, 18);
    }

    #[test]
    fn a_first_message_that_came_too_soon_is_sent_when_it_may() {
        let mut deadlines = Deadlines::new();
        deadlines.initiated(at(0), Duration::ZERO);
        deadlines.established();
        assert!(!deadlines.may_initiate(at(2)));
        assert_eq!(deadlines.next(), Some(at(5)));
        assert_eq!(deadlines.take_due(at(5)), Some(Duty::Repeat));
        assert!(deadlines.may_initiate(at(5)));
    }

    #[test]
    fn data_is_acknowledged_after_ten_seconds_of_silence_and_only_once() {
        let mut deadlines = Deadlines::new();
        deadlines.data_received(at(0));
        deadlines.data_received(at(6));
        assert_eq!(deadlines.take_due(at(9)), None);
        assert_eq!(deadlines.take_due(at(10)), Some(Duty::Keepalive));
        deadlines.sent(at(10));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn silence_after_data_begins_a_handshake_after_fifteen_seconds() {
        let mut deadlines = Deadlines::new();
        deadlines.data_sent(at(0));
        deadlines.data_sent(at(14));
        assert_eq!(deadlines.take_due(at(15)), Some(Duty::Initiate));
        deadlines.data_sent(at(20));
        deadlines.received(at(21));
        assert_eq!(deadlines.next(), None);
    }
}
