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

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;
    use crate::keys::PublicKey;
    use crate::peer::Peers;
    use crate::stamp::Stamps;

    const PEERS: u8 = 6;

    #[derive(Clone, Debug)]
    enum Change {
        Give(Prefix, u8),
        TakeAll(u8),
    }

    /// Few bits that vary, so that prefixes nest, and the same one comes again.
    fn address() -> impl Strategy<Value = Address> {
        (any::<bool>(), 0u8..3, 0u8..3).prop_map(|(v4, a, b)| {
            if v4 {
                Address::from_v4([10, a, 0, b])
            } else {
                let mut octets = [0; 16];
                (octets[0], octets[6], octets[15]) = (0xfd, a, b);
                Address::from_v6(octets)
            }
        })
    }

    fn change() -> impl Strategy<Value = Change> {
        let give = (address(), any::<u8>(), 0..PEERS).prop_map(|(address, length, peer)| {
            let bits = if address.is_v4() { 32 } else { 128 };
            let prefix = Prefix::masked(address, length % (bits + 1));
            Change::Give(prefix.expect("not too long"), peer)
        });
        prop_oneof![8 => give, 1 => (0..PEERS).prop_map(Change::TakeAll)]
    }

    proptest! {
        #[test]
        fn each_address_and_each_prefix_has_the_owner_that_a_linear_scan_finds(
            changes in proptest::collection::vec(change(), 0..80),
            addresses in proptest::collection::vec(address(), 1..20),
        ) {
            let mut peers = Peers::default();
            let add = |number| peers.add(PublicKey::from_bytes([number; 32]), Stamps::default());
            let peers: Vec<PeerId> = (0..PEERS).map(add).collect();
            let (mut allowed, mut naive) = (Allowed::default(), BTreeMap::new());
            for change in changes {
                match change {
                    Change::Give(prefix, peer) => {
                        allowed.insert(prefix, peers[usize::from(peer)]);
                        naive.insert(prefix, peers[usize::from(peer)]);
                    }
                    Change::TakeAll(peer) => {
                        allowed.remove(peers[usize::from(peer)]);
                        naive.retain(|_, owner| *owner != peers[usize::from(peer)]);
                    }
                }
            }
            for address in addresses {
                let holding = naive.iter().filter(|(prefix, _)| prefix.contains(address));
                let longest = holding.max_by_key(|(prefix, _)| prefix.length());
                prop_assert_eq!(allowed.lookup(address), longest.map(|(_, owner)| *owner));
            }
            for peer in peers {
                let owned = naive.iter().filter(|(_, owner)| **owner == peer);
                let owned: Vec<Prefix> = owned.map(|(prefix, _)| *prefix).collect();
                prop_assert_eq!(allowed.of(peer).collect::<Vec<_>>(), owned);
            }
        }
    }
}
