//! A session: the two keys that a finished handshake gave, and what each direction needs beside
//! them. Threads that seal and open for the lane share the keys; the nonce counter and the replay
//! window stand apart, and stay with it.
//!
//! [`Sessions`] holds those of one peer: the one that we send in, the ones before it, which are
//! still opened, and the next one, in which nothing is sent before it was heard in.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use packet::Time;

use crate::crypto::{Cipher, TAG};
use crate::messages::{DATA_HEADER, DATA_OVERHEAD, Data};
use crate::refused::Refused;
use crate::replay::Replay;

/// Messages after which a new handshake is begun (WireGuard paper §6.1).
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Messages after which a session is dead: so many that the window cannot wrap.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which who began a session begins a new one when it sends.
const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session is dead.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Age at which who began a session begins a new one when it receives: a keep-alive and a
/// handshake before its death (180 − 10 − 5 s).
const REKEY_ON_RECEIVE: Duration = Duration::from_secs(165);

/// One session.
pub(crate) struct Session {
    keys: Keys,
    counter: u64,
    replay: Replay,
}

struct Keys {
    send: Arc<Cipher>,
    receive: Arc<Cipher>,
    local: u32,
    remote: u32,
    born: Time,
    initiator: bool,
}

/// What another thread has done about a message.
#[derive(Clone, Copy)]
pub(crate) enum Tried<'t> {
    /// Nothing.
    Not,
    /// It has decrypted it by this key; whether it was authentic.
    By(&'t Arc<Cipher>, bool),
}

impl Session {
    pub(crate) fn new(
        send: Cipher,
        receive: Cipher,
        local: u32,
        remote: u32,
        born: Time,
        initiator: bool,
    ) -> Session {
        Session {
            keys: Keys {
                send: Arc::new(send),
                receive: Arc::new(receive),
                local,
                remote,
                born,
                initiator,
            },
            counter: 0,
            replay: Replay::new(),
        }
    }

    /// Seals in place. The inner packet's `inner` bytes stand in `frame` behind 16 free bytes; what
    /// is behind them is padding, and the tag's 16 bytes. Ask [`Session::can_send`] first.
    #[inline]
    pub(crate) fn seal(&mut self, frame: &mut [u8], inner: usize) {
        self.lay_out(frame, inner);
        encrypt(&self.keys.send, frame);
    }

    /// Does of [`Session::seal`] all but the cipher's part, which [`encrypt`] does with
    /// [`Session::sender`]: header and padding. The message has its counter then.
    #[inline]
    pub(crate) fn lay_out(&mut self, frame: &mut [u8], inner: usize) {
        let header = Data {
            receiver: self.keys.remote,
            counter: self.counter,
        };
        let padded = frame.len() - DATA_OVERHEAD;
        let (head, rest) = frame.split_at_mut(DATA_HEADER);
        head.copy_from_slice(&header.emit());
        rest[inner..padded].fill(0);
        self.counter += 1;
    }

    /// The key of what is sent.
    #[inline]
    pub(crate) fn sender(&self) -> &Arc<Cipher> {
        &self.keys.send
    }

    /// The key of what is received.
    #[inline]
    pub(crate) fn receiver(&self) -> &Arc<Cipher> {
        &self.keys.receive
    }

    /// Opens in place; gives the length of the padded packet behind the header, 0 for a
    /// keep-alive. `tried` says what another thread has done about it.
    ///
    /// # Errors
    /// Why the message is refused; its bytes are then undefined.
    #[inline]
    pub(crate) fn open(
        &mut self,
        now: Time,
        frame: &mut [u8],
        tried: Tried<'_>,
    ) -> Result<usize, Refused> {
        let counter = self.expects(now, frame)?;
        let authentic = match tried {
            Tried::Not => decrypt(&self.keys.receive, frame),
            Tried::By(key, authentic) if Arc::ptr_eq(key, &self.keys.receive) => authentic,
            // Its index is another session's by now.
            Tried::By(..) => return Err(Refused::SessionUnknown),
        };
        if !authentic {
            return Err(Refused::DataForged);
        }
        self.replay.accept(counter);
        Ok(frame.len() - DATA_OVERHEAD)
    }

    /// What is asked before a message is decrypted: gives its counter.
    ///
    /// # Errors
    /// Why it is not worth it.
    #[inline]
    pub(crate) fn expects(&self, now: Time, frame: &[u8]) -> Result<u64, Refused> {
        if frame.len() < DATA_OVERHEAD {
            return Err(Refused::LengthWrong);
        }
        let header = frame.first_chunk().ok_or(Refused::LengthWrong)?;
        let counter = Data::parse(header).counter;
        if now.since(self.keys.born) >= REJECT_AFTER_TIME {
            return Err(Refused::SessionExpired);
        }
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(Refused::CounterExhausted);
        }
        if !self.replay.fresh(counter) {
            return Err(Refused::Replayed);
        }
        Ok(counter)
    }

    /// Whether `messages` more may be sent.
    #[inline]
    pub(crate) fn can_send(&self, now: Time, messages: u64) -> bool {
        now.since(self.keys.born) < REJECT_AFTER_TIME
            && self.counter <= REJECT_AFTER_MESSAGES.saturating_sub(messages)
    }

    /// Whether it is time for a new handshake, after something was sent.
    #[inline]
    pub(crate) fn is_stale_for_sending(&self, now: Time) -> bool {
        self.counter > REKEY_AFTER_MESSAGES
            || self.keys.initiator && now.since(self.keys.born) >= REKEY_AFTER_TIME
    }

    /// Whether it is time for a new handshake, after something was received.
    #[inline]
    pub(crate) fn is_stale_for_receiving(&self, now: Time) -> bool {
        self.keys.initiator && now.since(self.keys.born) >= REKEY_ON_RECEIVE
    }

    /// The index by which the peer calls it.
    #[inline]
    pub(crate) fn local(&self) -> u32 {
        self.keys.local
    }
}

/// Encrypts in place a message that is laid out, with the counter in its header.
///
/// # Panics
/// If it is shorter than a message can be: our own bug.
#[inline]
pub(crate) fn encrypt(cipher: &Cipher, message: &mut [u8]) {
    let (head, rest) = message.split_first_chunk_mut().expect("a header");
    let (text, tag) = rest.split_last_chunk_mut::<TAG>().expect("a tag");
    cipher.seal(Data::parse(head).counter, &[], text, tag);
}

/// Decrypts in place a data message by the counter in its header; whether it is authentic. Its bytes
/// are undefined where it is not.
#[inline]
pub(crate) fn decrypt(cipher: &Cipher, message: &mut [u8]) -> bool {
    let Some((head, rest)) = message.split_first_chunk_mut() else {
        return false;
    };
    let Some((text, tag)) = rest.split_last_chunk_mut::<TAG>() else {
        return false;
    };
    cipher.open(Data::parse(head).counter, &[], text, tag)
}

/// The sessions of one peer. Those that go are given back, so that their indices can be freed.
#[derive(Default)]
pub(crate) struct Sessions {
    // The newest first: what we send in, then three that may still have messages under way. Three,
    // not one: when both sides begin at once, two new sessions come into use at the same moment,
    // and the peer may have used either of the two that came so the time before.
    confirmed: [Option<Box<Session>>; 4],
    next: Option<Box<Session>>,
}

impl Sessions {
    /// A session that we began and that was answered: in use at once.
    pub(crate) fn begin(&mut self, session: Session) -> [Option<Box<Session>>; 2] {
        // What waits for its confirmation may be in use on the other side already.
        let first = self.next.take().and_then(|next| self.push(next));
        [first, self.push(Box::new(session))]
    }

    /// A session that we answered: waits until it was heard in.
    pub(crate) fn answer(&mut self, session: Session) -> Option<Box<Session>> {
        self.next.replace(Box::new(session))
    }

    /// The next session was heard in: from now on it is the one that we send in.
    pub(crate) fn confirm(&mut self) -> Option<Box<Session>> {
        self.next.take().and_then(|next| self.push(next))
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Box<Session>> {
        let Sessions { confirmed, next } = core::mem::take(self);
        confirmed.into_iter().chain([next]).flatten()
    }

    fn push(&mut self, session: Box<Session>) -> Option<Box<Session>> {
        self.confirmed.rotate_right(1);
        self.confirmed[0].replace(session)
    }

    /// What we send in.
    #[inline]
    pub(crate) fn current(&mut self) -> Option<&mut Session> {
        self.confirmed[0].as_deref_mut()
    }

    /// The session of this index, and whether it still waits for its confirmation.
    #[inline]
    pub(crate) fn find(&mut self, local: u32) -> Option<(&mut Session, bool)> {
        let next = self.next.iter_mut().map(|session| (session, true));
        self.confirmed
            .iter_mut()
            .flatten()
            .map(|session| (session, false))
            .chain(next)
            .find(|(session, _)| session.local() == local)
            .map(|(session, waits)| (&mut **session, waits))
    }

    /// Whether something could be sent now.
    pub(crate) fn is_live(&self, now: Time) -> bool {
        self.confirmed[0]
            .as_ref()
            .is_some_and(|s| s.can_send(now, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;

    fn session(local: u32, send: u8, receive: u8, initiator: bool) -> Session {
        Session::new(
            Cipher::new(&Secret([send; 32])),
            Cipher::new(&Secret([receive; 32])),
            local,
            local + 1,
            Time::ZERO,
            initiator,
        )
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_message_limit_is_asked_before_the_counter_is_added_to() {
        let mut ours = session(1, 1, 2, true);
        ours.counter = REJECT_AFTER_MESSAGES - 2;
        assert!(ours.can_send(Time::ZERO, 2));
        assert!(!ours.can_send(Time::ZERO, 3));
        assert!(!ours.can_send(Time::ZERO, u64::MAX));
        let mut frame = [0; 32];
        ours.seal(&mut frame, 0);
        ours.seal(&mut frame, 0);
        assert!(!ours.can_send(Time::ZERO, 1));
    }

    #[test]
    fn a_counter_past_the_limit_is_refused_although_it_is_authentic() {
        let mut ours = session(1, 1, 2, true);
        let mut theirs = session(2, 2, 1, false);
        let mut frame = [0; 32];
        ours.counter = REJECT_AFTER_MESSAGES - 1;
        ours.seal(&mut frame, 0);
        assert_eq!(theirs.open(Time::ZERO, &mut frame, Tried::Not), Ok(0));
        ours.seal(&mut frame, 0);
        let refused = theirs.open(Time::ZERO, &mut frame, Tried::Not);
        assert_eq!(refused, Err(Refused::CounterExhausted));
    }

    #[test]
    fn only_who_began_a_session_renews_it_by_age_and_both_by_messages() {
        let ours = session(1, 1, 2, true);
        assert!(!ours.is_stale_for_sending(at(119)) && ours.is_stale_for_sending(at(120)));
        assert!(!ours.is_stale_for_receiving(at(164)) && ours.is_stale_for_receiving(at(165)));
        let mut theirs = session(2, 2, 1, false);
        assert!(!theirs.is_stale_for_sending(at(179)) && !theirs.is_stale_for_receiving(at(179)));
        theirs.counter = REKEY_AFTER_MESSAGES + 1;
        assert!(theirs.is_stale_for_sending(at(0)));
    }

    #[test]
    fn a_session_dies_at_180_seconds_in_both_directions() {
        let mut ours = session(1, 1, 2, true);
        let mut theirs = session(2, 2, 1, false);
        assert!(ours.can_send(at(179), 1) && !ours.can_send(at(180), 1));
        let mut frame = [0; 32];
        ours.seal(&mut frame, 0);
        let refused = theirs.open(at(180), &mut frame, Tried::Not);
        assert_eq!(refused, Err(Refused::SessionExpired));
    }

    #[test]
    fn the_frame_says_how_far_a_packet_is_padded() {
        let mut ours = session(1, 1, 2, true);
        let mut theirs = session(2, 2, 1, false);
        for padded in [20, 21, 32] {
            let mut frame = [0; DATA_OVERHEAD + 32];
            let frame = &mut frame[..DATA_OVERHEAD + padded];
            ours.seal(frame, 20);
            assert_eq!(theirs.open(Time::ZERO, frame, Tried::Not), Ok(padded));
        }
    }

    #[test]
    fn a_forged_message_does_not_move_the_window() {
        let mut ours = session(1, 1, 2, true);
        let mut theirs = session(2, 2, 1, false);
        let mut frame = [0; 48];
        let mut forged = [0; 48];
        ours.seal(&mut frame, 16);
        forged.copy_from_slice(&frame);
        forged[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert_eq!(
            theirs.open(Time::ZERO, &mut forged, Tried::Not),
            Err(Refused::DataForged)
        );
        assert_eq!(theirs.open(Time::ZERO, &mut frame, Tried::Not), Ok(16));
    }

    #[test]
    fn nothing_is_sent_in_a_session_that_waits_for_its_confirmation() {
        let mut sessions = Sessions::default();
        assert!(sessions.answer(session(1, 1, 2, false)).is_none());
        assert!(sessions.current().is_none());
        assert!(sessions.find(1).is_some_and(|(_, waits)| waits));
        assert!(sessions.confirm().is_none());
        assert!(sessions.find(1).is_some_and(|(_, waits)| !waits));
        assert_eq!(sessions.current().map(|s| s.local()), Some(1));
    }

    #[test]
    fn when_both_sides_begin_at_once_old_and_new_sessions_are_opened() {
        let mut sessions = Sessions::default();
        assert!(
            sessions
                .begin(session(1, 1, 2, true))
                .iter()
                .flatten()
                .next()
                .is_none()
        );
        assert!(sessions.answer(session(2, 1, 2, false)).is_none());
        assert!(
            sessions
                .begin(session(3, 1, 2, true))
                .iter()
                .flatten()
                .next()
                .is_none()
        );
        assert_eq!(sessions.current().map(|s| s.local()), Some(3));
        assert!(
            [1, 2, 3]
                .iter()
                .all(|local| sessions.find(*local).is_some())
        );
    }
}
