//! Everything that the tunnel gives out: its outputs are arguments, so that nobody forgets to
//! drain them.

use packet::{Arena, Batch, Datagrams, Ledger};

use crate::refused::Refusals;

/// What the calls of a [`crate::Lane`] fill.
#[derive(Debug)]
pub struct Outbox {
    /// Where buffers come from and go back to.
    pub arena: Arena,
    /// Sealed trains and handshake messages, in the order in which they must leave.
    pub wire: Batch<Datagrams>,
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
            ledger: Ledger::default(),
            refused: Refusals::default(),
        }
    }
}
