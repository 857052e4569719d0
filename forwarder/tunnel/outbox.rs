//! Everything that the tunnel gives out: its outputs are arguments, so that nobody forgets to
//! drain them.

use packet::{Arena, Batch, Datagrams, Ledger};

use crate::refused::Refusals;
use crate::unsealed::{Sealing, Unsealed};

/// What the calls of a [`crate::Lane`] fill.
#[derive(Debug)]
pub struct Outbox {
    /// Where buffers come from and go back to.
    pub arena: Arena,
    /// Sealed trains and handshake messages, in the order in which they must leave.
    pub wire: Batch<Datagrams>,
    /// Trains that leave after those, in order, and of which some are still to be sealed.
    pub unsealed: Batch<Unsealed>,
    /// Which of the two what is sent next joins.
    pub sealing: Sealing,
    /// Messages that the tunnel made and took in; the caller counts what is received and sent.
    pub ledger: Ledger,
    /// What was dropped, by reason, in segments.
    pub refused: Refusals,
}

impl Outbox {
    /// An empty one: `buffers` buffers for worker `home`, and at most `trains` trains to be sent.
    pub fn new(home: u16, buffers: usize, trains: usize) -> Outbox {
        Outbox {
            arena: Arena::new(home, buffers),
            wire: Batch::with_limit(trains),
            unsealed: Batch::with_limit(trains),
            sealing: Sealing::AtOnce,
            ledger: Ledger::default(),
            refused: Refusals::default(),
        }
    }

    /// How many more trains can wait, in both places together.
    #[inline]
    pub fn room(&self) -> usize {
        self.wire.room().saturating_sub(self.unsealed.len())
    }

    /// Messages that wait to be sent.
    pub fn queued(&self) -> usize {
        let wire = self.wire.iter().map(|train| train.buf.frames());
        let unsealed = self.unsealed.iter().map(Unsealed::messages);
        wire.chain(unsealed).sum()
    }
}
