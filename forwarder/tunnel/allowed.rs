//! Allowed IPs: which peer an inner address belongs to, by longest-prefix match over the prefixes
//! of all peers, for sending and for judging a source alike (WireGuard paper §2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use packet::{Address, Prefix, PrefixMap};

use crate::peer::PeerId;

/// The table of one lane.
#[derive(Default)]
pub(crate) struct Allowed {
    peers: PrefixMap<PeerId>,
}

impl Allowed {
    /// Gives a prefix to a peer; it is taken from whoever had it.
    pub(crate) fn insert(&mut self, prefix: Prefix, peer: PeerId) {
        self.peers.insert(prefix, peer);
    }

    /// Takes all prefixes of a peer.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.peers.retain(|_, owner| *owner != peer);
    }

    /// The peer that an address belongs to.
    #[inline]
    pub(crate) fn lookup(&self, address: Address) -> Option<PeerId> {
        self.peers.lookup(address).map(|(_, peer)| *peer)
    }

    /// The prefixes of every peer that has any, in order.
    pub(crate) fn by_peer(&self) -> BTreeMap<PeerId, Vec<Prefix>> {
        let mut all: BTreeMap<PeerId, Vec<Prefix>> = BTreeMap::new();
        for (prefix, peer) in self.peers.iter() {
            all.entry(*peer).or_default().push(prefix);
        }
        all
    }
}
