//! Sealing that is left to another thread: where there is one key, several cores can work for it.
//! All that needs an order (counters, lengths, which train a message joins) is settled before, and
//! each train carries the key that its messages are to be sealed with.

use alloc::sync::Arc;

use packet::Datagrams;

use crate::crypto::Cipher;
use crate::session::encrypt;

/// A train whose messages are complete but for what the cipher does: inner packets in the clear,
/// behind the headers that they will leave with. It comes out sealed, and never otherwise.
pub struct Unsealed {
    pub(crate) train: Datagrams,
    /// `None`: it is sealed, and only waits for those in front of it.
    pub(crate) cipher: Option<Arc<Cipher>>,
}

/// When what a lane sends is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealing {
    /// At once, into [`crate::Outbox::wire`].
    #[default]
    AtOnce,
    /// At once, but it leaves behind what waits in [`crate::Outbox::unsealed`], or was taken from
    /// there.
    Behind,
    /// By whoever takes it from [`crate::Outbox::unsealed`].
    Later,
}

impl Unsealed {
    /// Seals it, on whichever thread; once.
    pub fn seal(&mut self) {
        if let Some(cipher) = self.cipher.take() {
            for message in self.train.buf.frames_mut() {
                encrypt(&cipher, message);
            }
        }
    }

    /// Whether it is sealed already.
    #[inline]
    pub fn is_sealed(&self) -> bool {
        self.cipher.is_none()
    }

    /// Messages in it.
    #[inline]
    pub fn messages(&self) -> usize {
        self.train.buf.frames()
    }

    /// The train, sealed: it seals what is not.
    pub fn into_datagrams(mut self) -> Datagrams {
        self.seal();
        self.train
    }
}

impl core::fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unsealed")
            .field("train", &self.train)
            .field("sealed", &self.is_sealed())
            .finish()
    }
}
