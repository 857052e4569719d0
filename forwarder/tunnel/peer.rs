//! One peer: who it is, where it is, its sessions, its timers, and what waits for a handshake.
//! [`Peers`] is the table of a lane's peers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use packet::{Path, Time};

use crate::cookie::Cookie;
use crate::crypto::Secret;
use crate::deadlines::Deadlines;
use crate::handshake::{Handshake, Initiated};
use crate::keys::{PresharedKey, PublicKey};
use crate::messages::MacKey;
use crate::queue::Queue;
use crate::session::Sessions;
use crate::stamp::Stamps;

/// Names a peer of a lane; a peer that was removed is never mistaken for its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    pub(crate) slot: u32,
    generation: u32,
}

/// One peer.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) key: PublicKey,
    pub(crate) macs: MacKey,
    /// [`Identity::statics`](crate::handshake::Identity::statics), once it was needed.
    pub(crate) statics: Option<Secret>,
    pub(crate) preshared: Option<PresharedKey>,
    pub(crate) path: Option<Path>,
    pub(crate) cookie: Cookie,
    /// The largest packet that the path to it carries in the tunnel, in bytes.
    pub(crate) mtu: usize,
    pub(crate) handshake: Option<Handshake<Initiated>>,
    pub(crate) sessions: Sessions,
    pub(crate) deadlines: Deadlines,
    pub(crate) queue: Queue,
    pub(crate) stamps: Stamps,
    pub(crate) newest_stamp: [u8; 12],
    pub(crate) accepted: Option<Time>,
    pub(crate) heard: Option<Time>,
    pub(crate) handshake_unix_ns: Option<u64>,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

impl PeerId {
    /// The peer's place in its lane's table, small and dense: for tables beside it. The place is
    /// used again when the peer was removed.
    #[inline]
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

impl Peer {
    /// An authentic message came from there: answers go back the same way.
    #[inline]
    pub(crate) fn heard_from(&mut self, now: Time, path: Path, bytes: usize) {
        if self.path != Some(path) {
            self.path = Some(path);
        }
        self.received_bytes += bytes as u64;
        self.heard = Some(now);
        self.deadlines.received(now);
    }

    /// The pre-shared key; zeros where there is none (WireGuard paper §5.2).
    pub(crate) fn psk(&self) -> &[u8; 32] {
        self.preshared
            .as_ref()
            .map_or(&[0; 32], |key| key.as_bytes())
    }

    /// Takes all sessions and handshakes out; gives the indices that are free now.
    pub(crate) fn wipe(&mut self) -> impl Iterator<Item = u32> {
        let handshake = self.handshake.take().map(|handshake| handshake.local());
        let sessions = self.sessions.take().map(|session| session.local());
        handshake.into_iter().chain(sessions)
    }
}

/// The peers of a lane, by place and by key.
#[derive(Default)]
pub(crate) struct Peers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    keys: BTreeMap<PublicKey, u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Peers {
    /// Adds a peer whose key is not among them yet.
    pub(crate) fn add(&mut self, key: PublicKey, stamps: Stamps) -> PeerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        let id = PeerId {
            slot,
            generation: place.generation,
        };
        place.peer = Some(Box::new(Peer {
            id,
            key,
            macs: MacKey::of(&key),
            statics: None,
            preshared: None,
            path: None,
            cookie: Cookie::default(),
            mtu: usize::MAX,
            handshake: None,
            sessions: Sessions::default(),
            deadlines: Deadlines::new(),
            queue: Queue::of(slot),
            stamps,
            newest_stamp: [0; 12],
            accepted: None,
            heard: None,
            handshake_unix_ns: None,
            sent_bytes: 0,
            received_bytes: 0,
        }));
        self.keys.insert(key, slot);
        id
    }

    /// Takes a peer out.
    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        self.find_mut(id)?;
        let place = &mut self.slots[id.slot as usize];
        let peer = place.peer.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.keys.remove(&peer.key);
        Some(peer)
    }

    /// The peer of this name.
    #[inline]
    pub(crate) fn find_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.at(id.slot).filter(|peer| peer.id == id)
    }

    /// The peer at this place.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Peer> {
        self.slots.get_mut(slot as usize)?.peer.as_deref_mut()
    }

    /// The same, only to be looked at.
    pub(crate) fn find(&self, id: PeerId) -> Option<&Peer> {
        let peer = self.slots.get(id.index())?.peer.as_deref();
        peer.filter(|peer| peer.id == id)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The peer with this key.
    pub(crate) fn by_key(&self, key: &PublicKey) -> Option<PeerId> {
        let slot = *self.keys.get(key)?;
        self.slots[slot as usize].peer.as_ref().map(|peer| peer.id)
    }

    /// All of them, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.iter_from(0)
    }

    /// Those at a place and behind it.
    pub(crate) fn iter_from(&self, place: usize) -> impl Iterator<Item = &Peer> {
        let slots = self.slots.get(place..).unwrap_or_default();
        slots.iter().filter_map(|slot| slot.peer.as_deref())
    }

    /// The places of all of them.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.iter().map(|peer| peer.id.slot).collect()
    }
}
