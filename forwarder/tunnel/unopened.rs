//! Opening that is left to another thread: it does what the cipher has to do, and notes which
//! messages are authentic; what needs an order (the replay window, timers, which session is in use)
//! is the lane's, when the train comes back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use packet::{Datagrams, Now, Time};

use crate::crypto::Cipher;
use crate::inner::Inner;
use crate::lane::Lane;
use crate::messages::{Data, Kind};
use crate::outbox::Outbox;
use crate::reception::Reception;
use crate::session::{Tried, decrypt};

/// Messages of the longest train that can be left to another thread: as many as Linux makes one
/// (`UDP_GRO_CNT_MAX` of `net/ipv4/udp_offload.c`). What it did not make itself may be longer.
const MESSAGES_MAX: usize = u64::BITS as usize;

/// A train as it came, and what another thread has found out about it.
pub struct Unopened {
    train: Datagrams,
    /// By what, and the index of whose session; `None` leaves all of it to the lane.
    key: Option<(Arc<Cipher>, u32)>,
    /// The messages that were tried, by their places, and of those the authentic ones.
    tried: u64,
    authentic: u64,
}

impl From<Datagrams> for Unopened {
    /// One that no other thread can do anything about.
    fn from(train: Datagrams) -> Unopened {
        Unopened {
            train,
            key: None,
            tried: 0,
            authentic: 0,
        }
    }
}

impl Unopened {
    /// Opens in place what is of the session, on whichever thread; once.
    pub fn open(&mut self) {
        let Some((cipher, receiver)) = &self.key else {
            return;
        };
        if self.tried != 0 {
            return;
        }
        for (place, message) in self.train.buf.frames_mut().enumerate() {
            if receiver_of(message) == Some(*receiver) {
                self.tried |= 1 << place;
                self.authentic |= u64::from(decrypt(cipher, message)) << place;
            }
        }
    }

    /// Whether another thread could do something about it.
    #[inline]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The train, of which some may be opened.
    #[inline]
    pub fn datagrams(&self) -> &Datagrams {
        &self.train
    }

    /// The same, when nothing more is wanted of it.
    #[inline]
    pub fn into_datagrams(self) -> Datagrams {
        self.train
    }
}

impl core::fmt::Debug for Unopened {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unopened")
            .field("train", &self.train)
            .field("has_key", &self.has_key())
            .field("tried", &self.tried)
            .finish_non_exhaustive()
    }
}

/// The index of the session that a data message is for; `None` for what is no data message.
#[inline]
fn receiver_of(message: &[u8]) -> Option<u32> {
    let Ok(Kind::Data) = Kind::of(message) else {
        return None;
    };
    Some(Data::parse(message.first_chunk()?).receiver)
}

impl Lane {
    /// Gives a train the key of the session that its first message is for, so that any thread can
    /// open it; [`Lane::open_tried`] must be told of it in its turn. One that begins with a replayed
    /// message, or is of a session that has expired, gets none: to refuse it costs nothing here.
    pub fn unopened(&mut self, now: Now, mut train: Datagrams) -> Unopened {
        let key = self.key_for(now.time, &mut train);
        Unopened {
            key,
            ..train.into()
        }
    }

    fn key_for(&mut self, now: Time, train: &mut Datagrams) -> Option<(Arc<Cipher>, u32)> {
        if train.buf.frames() > MESSAGES_MAX {
            return None;
        }
        let first = train.buf.frames_mut().next()?;
        let receiver = receiver_of(first)?;
        let peer = self.peers.at(self.indices.find(receiver)?)?;
        let (session, _) = peer.sessions.find(receiver)?;
        session.expects(now, first).ok()?;
        Some((Arc::clone(session.receiver()), receiver))
    }

    /// [`Lane::open`] of a train that another thread may have had: what that has done is not done
    /// again, and not believed of any key but the session's own.
    pub fn open_tried(
        &mut self,
        now: Now,
        unopened: &mut Unopened,
        reception: &mut Reception,
        opened: &mut Vec<Inner>,
        out: &mut Outbox,
    ) {
        let Unopened {
            train,
            key,
            tried,
            authentic,
        } = unopened;
        let key = &*key;
        let has = |places: u64, place| places >> place & 1 == 1;
        let before = |place| match key {
            Some((cipher, _)) if has(*tried, place) => Tried::By(cipher, has(*authentic, place)),
            _ => Tried::Not,
        };
        self.open_each(now, train, before, (reception, opened), out);
    }
}
