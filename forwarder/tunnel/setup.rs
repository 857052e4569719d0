//! A lane's configuration and status: what `wg set` and `wg show` want, and what the mesh tells.
//! A name of a peer that was removed does nothing.

use core::fmt;
use core::net::SocketAddr;

use alloc::vec::Vec;
use packet::{Now, Path, Prefix, Time};

use crate::deadlines::Patience;
use crate::handshake::Identity;
use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::lane::Lane;
use crate::outbox::Outbox;
use crate::peer::{Peer, PeerId};
use crate::refused::Refused;

/// Most peers of a lane.
const PEERS_MAX: usize = 1 << 16;

/// Why a peer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneError {
    /// There is one with this key.
    PeerExists,
    /// It is the lane's own key.
    KeyOwn,
    /// Every exchange with this key has the same, public result (RFC 7748 §6.1).
    KeyLowOrder,
    /// The lane has as many peers as it may have.
    PeersFull,
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneError::PeerExists => f.write_str("another peer has this public key"),
            LaneError::KeyOwn => f.write_str("a peer cannot have the lane's own public key"),
            LaneError::KeyLowOrder => f.write_str(
                "this public key is a point of low order, with which nothing can be secret",
            ),
            LaneError::PeersFull => write!(f, "a lane has at most {PEERS_MAX} peers"),
        }
    }
}

impl core::error::Error for LaneError {}

/// What a lane tells about one of its peers.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub id: PeerId,
    /// Its public key.
    pub key: PublicKey,
    /// Where its last authentic message came from, or what was configured since.
    pub endpoint: Option<SocketAddr>,
    /// The key that is shared with it, if any.
    pub preshared_key: Option<PresharedKey>,
    /// When the last handshake was completed, in nanoseconds since 1970.
    pub last_handshake_unix_ns: Option<u64>,
    /// When anything authentic was last heard of it.
    pub last_heard: Option<Time>,
    /// Bytes of UDP payload sent to it.
    pub tx_bytes: u64,
    /// Bytes of authentic UDP payload received from it.
    pub rx_bytes: u64,
    /// Seconds between persistent keep-alives; 0 is none.
    pub keepalive_s: u16,
    /// The prefixes that are its.
    pub allowed: Vec<Prefix>,
}

impl Lane {
    /// Changes the lane's key. The same key changes nothing; another ends all sessions, and what
    /// waits for a handshake waits for one with the new key.
    pub fn set_private_key(&mut self, now: Now, key: Option<PrivateKey>) {
        match (&self.identity, &key) {
            (Some(ours), Some(key)) if ours.private.same(key) => return,
            (None, None) => return,
            _ => self.identity = key.map(Identity::new),
        }
        for slot in self.peers.places() {
            let Some(peer) = self.peers.at(slot) else {
                continue;
            };
            for index in peer.wipe() {
                self.indices.free(index);
            }
            peer.cookie.wipe();
            peer.statics = None;
            peer.deadlines.established();
            peer.deadlines.wiped();
            if !peer.queue.is_empty() || peer.deadlines.interval() != 0 {
                peer.deadlines.restart(now.time);
            }
            self.schedule(slot);
        }
    }

    /// Adds a peer; it has no endpoint, no prefixes and no pre-shared key yet.
    ///
    /// # Errors
    /// [`LaneError`] says why it cannot be one.
    pub fn add_peer(&mut self, _now: Now, key: PublicKey) -> Result<PeerId, LaneError> {
        if self.peers.by_key(&key).is_some() {
            return Err(LaneError::PeerExists);
        }
        if self.public_key() == Some(key) {
            return Err(LaneError::KeyOwn);
        }
        if key.is_low_order() {
            return Err(LaneError::KeyLowOrder);
        }
        if self.peers.len() >= PEERS_MAX {
            return Err(LaneError::PeersFull);
        }
        Ok(self.peers.add(key, self.stamps))
    }

    /// Removes a peer with all that it has; what waited for it is dropped and counted.
    pub fn remove_peer(&mut self, peer: PeerId, out: &mut Outbox) {
        let Some(mut peer) = self.peers.remove(peer) else {
            return;
        };
        for index in peer.wipe() {
            self.indices.free(index);
        }
        peer.queue
            .purge(Refused::PeerRemoved, &mut self.waiting, out);
        self.allowed.remove(peer.id);
        self.timers.forget(peer.id.slot);
        self.stamps = self.stamps.max(peer.stamps);
    }

    /// Says where a peer is; an authentic message from elsewhere says better. By which of our own
    /// addresses it is to be reached is open again.
    pub fn set_endpoint(&mut self, peer: PeerId, endpoint: SocketAddr) {
        if let Some(peer) = self.peers.find_mut(peer) {
            peer.path = Some(endpoint.into());
        }
    }

    /// The largest packet that the path to a peer carries in the tunnel, in bytes: what is sealed
    /// to it is not padded past that. Packets that are longer are not refused here.
    pub fn set_peer_mtu(&mut self, peer: PeerId, mtu: usize) {
        if let Some(peer) = self.peers.find_mut(peer) {
            peer.mtu = mtu;
        }
    }

    /// The peers whose answers leave by an address of ours that they have spoken to, with their
    /// paths.
    pub fn paths(&self) -> impl Iterator<Item = (PeerId, Path)> {
        let path = |peer: &Peer| Some((peer.id, peer.path.filter(|path| path.local.is_some())?));
        self.peers.iter().filter_map(path)
    }

    /// Leaves it to the routing tables by which of our addresses a peer is reached, until it speaks
    /// again; nothing happens where it has spoken by another path meanwhile.
    pub fn forget_local(&mut self, peer: PeerId, path: Path) {
        if let Some(peer) = self.peers.find_mut(peer)
            && peer.path == Some(path)
        {
            peer.path = Some(path.remote.into());
        }
    }

    /// The same for all peers: their sockets, or the marks that route them, are others.
    pub fn forget_locals(&mut self) {
        for slot in self.peers.places() {
            if let Some(peer) = self.peers.at(slot) {
                peer.path = peer.path.map(|path| path.remote.into());
            }
        }
    }

    /// Where a peer is, as far as is known.
    pub fn endpoint(&self, peer: PeerId) -> Option<SocketAddr> {
        Some(self.peers.find(peer)?.path?.remote)
    }

    /// Changes the key shared with a peer, from the next handshake on; sessions stay.
    pub fn set_preshared_key(&mut self, peer: PeerId, key: Option<PresharedKey>) {
        if let Some(peer) = self.peers.find_mut(peer) {
            peer.preshared = key;
        }
    }

    /// Sends something to a peer at least every `seconds`, and once now; 0 ends that.
    pub fn set_keepalive(&mut self, now: Now, peer: PeerId, seconds: u16, out: &mut Outbox) {
        let slot = peer.slot;
        let Some(peer) = self.peers.find_mut(peer) else {
            return;
        };
        let begins = peer.deadlines.interval() == 0 && seconds != 0;
        peer.deadlines.set_interval(now.time, seconds);
        if begins {
            self.keepalive(now, slot, out);
        }
        self.schedule(slot);
    }

    /// Changes how soon a peer's silence is noticed. Only for peers that do the same: another one
    /// may be silent for 10 s while it receives, and would be asked for a handshake every 5 s.
    pub fn set_patience(&mut self, peer: PeerId, patience: Patience) {
        if let Some(peer) = self.peers.find_mut(peer) {
            peer.deadlines.set_patience(patience);
        }
    }

    /// Gives a prefix to a peer; it is taken from whoever had it.
    pub fn allow(&mut self, peer: PeerId, prefix: Prefix) {
        if self.peers.find(peer).is_some() {
            self.allowed.insert(prefix, peer);
        }
    }

    /// Takes one prefix from a peer, if it is this one that has it.
    pub fn disallow(&mut self, peer: PeerId, prefix: Prefix) {
        if self.peers.find(peer).is_some() {
            self.allowed.take(prefix, peer);
        }
    }

    /// Takes all prefixes of a peer.
    pub fn disallow_all(&mut self, peer: PeerId) {
        if self.peers.find(peer).is_some() {
            self.allowed.remove(peer);
        }
    }

    /// The lane's number, which its trains carry.
    pub fn number(&self) -> u16 {
        self.own.number
    }

    /// The lane's public key.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.identity.as_ref().map(|ours| ours.public)
    }

    /// The lane's private key, for `wg showconf`.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.identity.as_ref().map(|ours| &ours.private)
    }

    /// The peer with this key.
    pub fn peer(&self, key: &PublicKey) -> Option<PeerId> {
        self.peers.by_key(key)
    }

    /// The name of every peer.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().map(|peer| peer.id)
    }

    /// The status of every peer, in the order of [`PeerId::index`].
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> {
        self.peers_from(0)
    }

    /// The same, of those whose place is `index` or behind it: a lane with many is best asked bit by
    /// bit, between two batches.
    pub fn peers_from(&self, index: usize) -> impl Iterator<Item = PeerStatus> {
        self.peers.iter_from(index).map(|peer| PeerStatus {
            id: peer.id,
            key: peer.key,
            endpoint: peer.path.map(|path| path.remote),
            preshared_key: peer.preshared.clone(),
            last_handshake_unix_ns: peer.handshake_unix_ns,
            last_heard: peer.heard,
            tx_bytes: peer.sent_bytes,
            rx_bytes: peer.received_bytes,
            keepalive_s: peer.deadlines.interval(),
            allowed: self.allowed.of(peer.id).collect(),
        })
    }

    /// When anything authentic was last heard of a peer.
    pub fn last_heard(&self, peer: PeerId) -> Option<Time> {
        self.peers.find(peer)?.heard
    }

    /// Whether a packet to this peer could be sealed now.
    pub fn is_live(&self, now: Now, peer: PeerId) -> bool {
        let peer = self.peers.find(peer);
        peer.is_some_and(|peer| peer.path.is_some() && peer.sessions.is_live(now.time))
    }
}
