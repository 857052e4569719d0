//! Allowed IPs: which peer an inner address belongs to, by longest-prefix match over the prefixes
//! of all peers, for sending and for judging a source alike (WireGuard paper §2).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use packet::{Address, Prefix, PrefixMap};

use crate::peer::PeerId;

/// The table of one lane. What is done for one peer costs what that peer has, however many there
/// are.
#[derive(Default)]
pub(crate) struct Allowed {
    owners: PrefixMap<PeerId>,
    /// The prefixes of each peer, by its place.
    owned: Vec<BTreeSet<Prefix>>,
}

impl Allowed {
    /// Gives a prefix to a peer; it is taken from whoever had it.
    pub(crate) fn insert(&mut self, prefix: Prefix, peer: PeerId) {
        let before = self.owners.insert(prefix, peer);
        if let Some(owned) = before.and_then(|owner| self.owned.get_mut(owner.index())) {
            owned.remove(&prefix);
        }
        if self.owned.len() <= peer.index() {
            self.owned.resize_with(peer.index() + 1, BTreeSet::new);
        }
        self.owned[peer.index()].insert(prefix);
    }

    /// Takes a prefix from a peer, if it is its.
    pub(crate) fn take(&mut self, prefix: Prefix, peer: PeerId) {
        let owned = self.owned.get_mut(peer.index());
        if owned.is_some_and(|owned| owned.remove(&prefix)) {
            self.owners.remove(&prefix);
        }
    }

    /// Takes all prefixes of a peer, which must not have been removed before.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        if let Some(owned) = self.owned.get_mut(peer.index()) {
            for prefix in core::mem::take(owned) {
                self.owners.remove(&prefix);
            }
        }
    }

    /// The peer that an address belongs to.
    #[inline]
    pub(crate) fn lookup(&self, address: Address) -> Option<PeerId> {
        self.owners.lookup(address).map(|(_, peer)| *peer)
    }

    /// The prefixes of a peer, in order.
    pub(crate) fn of(&self, peer: PeerId) -> impl Iterator<Item = Prefix> {
        let owned = self.owned.get(peer.index());
        owned.into_iter().flatten().copied()
    }
}
