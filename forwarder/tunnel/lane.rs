//! One WireGuard device without its sockets and clocks: packets, datagrams and time come in,
//! datagrams and opened packets go out. This file only decides who does what: `send` seals, `greet`
//! does handshakes, `deadlines` says when, `setup` configures.

use core::fmt;

use alloc::vec::Vec;
use packet::{Address, Datagrams, Now, Packet, Path, Time};

use crate::allowed::Allowed;
use crate::backlog::Load;
use crate::deadlines::Duty;
use crate::handshake::Identity;
use crate::indices::Indices;
use crate::inner::{self, Inner};
use crate::keys::PrivateKey;
use crate::messages::{DATA_HEADER, Data, Kind, WrongLength};
use crate::outbox::Outbox;
use crate::peer::{PeerId, Peers};
use crate::queue::{Waiting, refuse};
use crate::random::Random;
use crate::reception::Reception;
use crate::refused::Refused;
use crate::send::Own;
use crate::session::Tried;
use crate::stamp::Stamps;
use crate::timers::Timers;

/// Peers whose timers are served in one call. A first message takes 80 µs, and thousands of peers
/// may be due at one moment; packets are handled in between.
const DUE_MAX: usize = 16;

/// A WireGuard device: one key, its peers and their sessions.
pub struct Lane {
    pub(crate) own: Own,
    pub(crate) identity: Option<Identity>,
    pub(crate) random: Random,
    pub(crate) peers: Peers,
    pub(crate) indices: Indices,
    pub(crate) allowed: Allowed,
    pub(crate) timers: Timers,
    pub(crate) waiting: Waiting,
    pub(crate) load: Load,
    // No stamp to a peer that comes back may be older than what was sent to it before it went.
    pub(crate) stamps: Stamps,
}

impl Lane {
    /// A lane with a key and without peers. All that is random in it comes from `seed`, 32 bytes
    /// that nobody may know or use again.
    pub fn new(number: u16, key: PrivateKey, seed: [u8; 32]) -> Lane {
        Lane {
            identity: Some(Identity::new(key)),
            ..Lane::unkeyed(number, seed)
        }
    }

    /// A lane without a key, which can do nothing until it has one.
    pub fn unkeyed(number: u16, seed: [u8; 32]) -> Lane {
        Lane {
            own: Own {
                number,
                mtu: usize::MAX,
            },
            identity: None,
            random: Random::new(seed),
            peers: Peers::default(),
            indices: Indices::default(),
            allowed: Allowed::default(),
            timers: Timers::default(),
            waiting: Waiting::default(),
            load: Load::default(),
            stamps: Stamps::default(),
        }
    }

    /// The largest packet that the tunnel carries to any peer, in bytes: what is sealed is not
    /// padded past it.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.own.mtu = mtu;
    }

    /// At most so many packets wait for handshakes, of all peers.
    pub fn set_waiting_max(&mut self, packets: usize) {
        self.waiting.most = packets;
    }

    /// Seals a packet to a peer, segment by segment, into trains in `out.wire`. Without a session
    /// it waits, bounded and in order, and a handshake begins. Its buffer goes back to `out.arena`.
    pub fn seal(&mut self, now: Now, peer: PeerId, packet: Packet, out: &mut Outbox) {
        self.seal_as(now, peer, self.own, packet, out);
    }

    /// The same without padding, for what is to have exactly its length on the wire: probes of the
    /// path's size. What waits for a handshake is padded all the same.
    pub fn seal_bare(&mut self, now: Now, peer: PeerId, packet: Packet, out: &mut Outbox) {
        let own = Own { mtu: 0, ..self.own };
        self.seal_as(now, peer, own, packet, out);
    }

    #[inline]
    fn seal_as(&mut self, now: Now, peer: PeerId, own: Own, packet: Packet, out: &mut Outbox) {
        let slot = peer.slot;
        let Some(peer) = self.peers.find_mut(peer) else {
            return refuse(packet, Refused::PeerUnknown, out);
        };
        if peer.path.is_none() {
            return refuse(packet, Refused::EndpointUnknown, out);
        }
        if peer.is_ready(now.time, packet.segments() as u64) {
            if !peer.queue.is_empty() {
                peer.send_queue(now.time, self.own, &mut self.waiting, out);
            }
            peer.send(now.time, own, packet, out);
            self.renew_after_sending(now, slot, out);
        } else if self
            .identity
            .as_ref()
            .is_none_or(|ours| ours.public == peer.key)
        {
            return refuse(packet, Refused::KeyMissing, out);
        } else {
            self.wait(slot, packet, out);
            self.initiate(now, slot, out);
        }
        self.schedule(slot);
    }

    /// Opens a datagram or a train of them in place. What is a packet is told to `opened`;
    /// handshakes and keep-alives are consumed here, and answers are in `out.wire`; or a handshake
    /// waits in `reception`, the worker's. The caller keeps the train, and counts its frames as
    /// received.
    pub fn open(
        &mut self,
        now: Now,
        train: &mut Datagrams,
        reception: &mut Reception,
        opened: &mut Vec<Inner>,
        out: &mut Outbox,
    ) {
        self.open_each(now, train, |_| Tried::Not, (reception, opened), out);
    }

    /// Opens each message of a train; `tried` says by its place what another thread has done.
    #[inline]
    pub(crate) fn open_each<'t>(
        &mut self,
        now: Now,
        train: &mut Datagrams,
        tried: impl Fn(usize) -> Tried<'t>,
        (reception, opened): (&mut Reception, &mut Vec<Inner>),
        out: &mut Outbox,
    ) {
        let (path, ecn) = (train.path, train.ecn);
        let mut start = 0;
        for (place, frame) in train.buf.frames_mut().enumerate() {
            let length = frame.len();
            let result = match Kind::of(frame) {
                Ok(Kind::Data) => self
                    .open_data(now, (path, ecn), frame, tried(place), out)
                    .map(|inner| opened.extend(inner.map(|inner| inner.behind(start)))),
                Ok(Kind::Initiation | Kind::Response) => {
                    self.open_handshake(now, path, frame, reception, out)
                }
                Ok(Kind::Cookie) => self.open_cookie(now, frame, out),
                Err(WrongLength(true)) => Err(Refused::LengthWrong),
                Err(WrongLength(false)) => Err(Refused::TypeUnknown),
            };
            if let Err(reason) = result {
                out.refused.add(reason, 1);
            }
            start += length;
        }
    }

    /// Does what time has made due, for a few peers at most, and as many handshakes that wait as the
    /// pace allows. While there is more, [`Lane::poll_timeout`] gives a time that has come already.
    pub fn handle_timeout(&mut self, now: Now, reception: &mut Reception, out: &mut Outbox) {
        self.handle_handshakes(now, reception, out);
        for _ in 0..DUE_MAX {
            let Some(slot) = self.timers.pop_due(now.time) else {
                return;
            };
            while let Some(duty) = self.due(now.time, slot) {
                self.perform(now, slot, duty, out);
            }
            self.schedule(slot);
        }
    }

    /// When [`Lane::handle_timeout`] wants to be called next; a call that is too early does no
    /// harm.
    pub fn poll_timeout(&self, reception: &Reception) -> Option<Time> {
        let timers = self.timers.earliest();
        let waiting = reception.due(self.own.number);
        timers.into_iter().chain(waiting).min()
    }

    /// The peer whose allowed IPs an address belongs to.
    #[inline]
    pub fn route(&self, destination: Address) -> Option<PeerId> {
        self.allowed.lookup(destination)
    }

    /// Whether a packet from `source` may come from this peer: it must be the one that
    /// [`Lane::route`] names.
    #[inline]
    pub fn allows(&self, peer: PeerId, source: Address) -> bool {
        self.allowed.lookup(source) == Some(peer)
    }

    /// Segments that wait for handshakes, and handshake messages that wait for their turn.
    pub fn queued(&self) -> u64 {
        self.waiting.segments + self.load.waiting() as u64
    }

    /// Whether something waits for a handshake with this peer.
    pub fn has_waiting(&self, peer: PeerId) -> bool {
        self.peers
            .find(peer)
            .is_some_and(|peer| !peer.queue.is_empty())
    }

    /// Takes out the oldest packet that waits for a handshake with this peer, to send it elsewhere.
    pub fn take_waiting(&mut self, peer: PeerId) -> Option<Packet> {
        self.peers.find_mut(peer)?.queue.pop(&mut self.waiting)
    }

    /// Since when this peer owes us an answer: nothing authentic was heard of it after the first
    /// message that was sent then. `None` if it answered, or was not asked.
    #[inline]
    pub fn unanswered_since(&self, peer: PeerId) -> Option<Time> {
        self.peers.find(peer)?.deadlines.unanswered_since()
    }

    /// Begins a handshake, unless one is under way or was begun less than 5 s ago.
    pub fn greet(&mut self, now: Now, peer: PeerId, out: &mut Outbox) {
        if self.peers.find(peer).is_some() {
            self.initiate(now, peer.slot, out);
            self.schedule(peer.slot);
        }
    }

    /// Lets a packet wait for a handshake with its peer.
    fn wait(&mut self, slot: u32, packet: Packet, out: &mut Outbox) {
        let queue = self.peers.at(slot).map(|peer| &peer.queue);
        if let Some(longest) = queue.and_then(|queue| self.waiting.gives_way(queue))
            && let Some(other) = self.peers.at(longest)
        {
            other.queue.shed(&mut self.waiting, out);
        }
        match self.peers.at(slot) {
            Some(peer) => peer.queue.push(packet, &mut self.waiting, out),
            None => refuse(packet, Refused::PeerUnknown, out),
        }
    }

    /// Opens one data message; `None` for a keep-alive.
    #[inline]
    fn open_data(
        &mut self,
        now: Now,
        (path, ecn): (Path, u8),
        frame: &mut [u8],
        tried: Tried<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Inner>, Refused> {
        let header = frame.first_chunk().ok_or(Refused::LengthWrong)?;
        let receiver = Data::parse(header).receiver;
        let slot = self.indices.find(receiver).ok_or(Refused::SessionUnknown)?;
        let peer = self.peers.at(slot).ok_or(Refused::SessionUnknown)?;
        let session = peer.sessions.find(receiver);
        let (session, waits) = session.ok_or(Refused::SessionUnknown)?;
        let padded = session.open(now.time, frame, tried)?;
        peer.heard_from(now.time, path, frame.len());
        if padded > 0 {
            peer.deadlines.data_received(now.time);
        }
        if waits {
            self.confirm(now, slot, out);
        }
        self.renew_after_receiving(now, slot, out);
        self.schedule(slot);
        if padded == 0 {
            out.ledger.consumed += 1;
            return Ok(None);
        }
        let id = self.peers.at(slot).ok_or(Refused::SessionUnknown)?.id;
        let length = inner::unpad(&mut frame[DATA_HEADER..][..padded], ecn)?;
        Ok(Some(Inner {
            peer: id,
            start: DATA_HEADER as u32,
            length: length as u32,
        }))
    }

    /// The initiator has used the session that we answered with: from now on we do, too.
    fn confirm(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let Some(peer) = self.peers.at(slot) else {
            return;
        };
        if let Some(old) = peer.sessions.confirm() {
            self.indices.free(old.local());
        }
        peer.deadlines.established();
        peer.handshake_unix_ns = Some(now.unix_ns);
        peer.send_queue(now.time, self.own, &mut self.waiting, out);
    }

    fn perform(&mut self, now: Now, slot: u32, duty: Duty, out: &mut Outbox) {
        if let (Duty::Repeat | Duty::Initiate, Some(peer)) = (&duty, self.peers.at(slot)) {
            // What was not answered may have left by an address of ours that is of no use any more
            // (Linux `timers.c`, wg_expired_retransmit_handshake, wg_expired_new_handshake).
            peer.path = peer.path.map(|path| path.remote.into());
        }
        match duty {
            Duty::Repeat => {
                self.initiate(now, slot, out);
                if self
                    .peers
                    .at(slot)
                    .is_some_and(|p| !p.deadlines.is_initiating())
                {
                    self.give_up(slot, Refused::KeyMissing, out);
                }
            }
            Duty::Initiate => self.initiate(now, slot, out),
            Duty::GiveUp => self.give_up(slot, Refused::HandshakeUnanswered, out),
            Duty::Keepalive => self.keepalive(now, slot, out),
            Duty::Wipe => self.wipe(slot),
        }
    }

    fn give_up(&mut self, slot: u32, reason: Refused, out: &mut Outbox) {
        let Some(peer) = self.peers.at(slot) else {
            return;
        };
        peer.queue.purge(reason, &mut self.waiting, out);
        if let Some(old) = peer.handshake.take() {
            self.indices.free(old.local());
        }
    }

    fn wipe(&mut self, slot: u32) {
        let Some(peer) = self.peers.at(slot) else {
            return;
        };
        // A handshake that is under way has its own, newer secrets.
        let under_way = peer.deadlines.is_initiating();
        let kept = peer.handshake.take_if(|_| under_way);
        if !under_way {
            peer.cookie.wipe();
        }
        for index in peer.wipe() {
            self.indices.free(index);
        }
        peer.handshake = kept;
        peer.deadlines.wiped();
    }

    #[inline]
    pub(crate) fn renew_after_sending(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let session = self.peers.at(slot).and_then(|peer| peer.sessions.current());
        if session.is_some_and(|session| session.is_stale_for_sending(now.time)) {
            self.initiate(now, slot, out);
        }
    }

    #[inline]
    fn renew_after_receiving(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let session = self.peers.at(slot).and_then(|peer| peer.sessions.current());
        if session.is_some_and(|session| session.is_stale_for_receiving(now.time)) {
            self.initiate(now, slot, out);
        }
    }

    #[inline]
    fn due(&mut self, now: Time, slot: u32) -> Option<Duty> {
        self.peers.at(slot)?.deadlines.take_due(now)
    }

    /// Tells the lane's timers when a peer wants to be called.
    #[inline]
    pub(crate) fn schedule(&mut self, slot: u32) {
        if let Some(at) = self.peers.at(slot).and_then(|peer| peer.deadlines.next()) {
            self.timers.call(slot, at);
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("number", &self.own.number)
            .field("key", &self.public_key())
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use core::time::Duration;

    #[test]
    fn handshakes_leave_no_index_behind() {
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let remote: SocketAddr = "192.0.2.1:1".parse().expect("an address");
        let mut out = Outbox::new(0, 8, 8);
        let mut lanes = keys.clone().map(|key| Lane::new(0, key, [3; 32]));
        for (lane, other) in lanes.iter_mut().zip([1, 0]) {
            let peer = lane.add_peer(Now::default(), keys[other].public());
            lane.set_endpoint(peer.expect("a good key"), remote);
        }
        let [left, right] = &mut lanes;
        for round in 0..20 {
            let now = Now {
                time: Time::ZERO + Duration::from_secs(6 * round),
                unix_ns: 6_000_000_000 * round,
            };
            // Left begins; in some rounds right does so, too, and in some nobody confirms.
            left.initiate(now, 0, &mut out);
            if round % 3 == 1 {
                right.initiate(now, 0, &mut out);
            }
            let mut to_right = true;
            for _ in 0..round % 4 + 2 {
                let Some(mut train) = out.wire.pop() else {
                    break;
                };
                let to = if to_right { &mut *right } else { &mut *left };
                train.path = remote.into();
                let (reception, opened) = (&mut Reception::default(), &mut Vec::new());
                to.open(now, &mut train, reception, opened, &mut out);
                out.arena.put(train.buf);
                to_right = !to_right;
            }
            while let Some(train) = out.wire.pop() {
                out.arena.put(train.buf);
            }
            assert!(left.indices.len() <= 6 && right.indices.len() <= 6);
        }
        for lane in [left, right] {
            lane.set_private_key(Now::default(), None);
            assert_eq!(lane.indices.len(), 0);
        }
    }
    #[test]
    fn a_handshake_is_repeated_by_whichever_of_our_addresses_the_routes_choose() {
        let key = PrivateKey::from_bytes([1; 32]);
        let mut lane = Lane::new(0, key, [3; 32]);
        let mut out = Outbox::new(0, 8, 8);
        let theirs = PrivateKey::from_bytes([2; 32]).public();
        let peer = lane.add_peer(Now::default(), theirs).expect("a good key");
        let remote: SocketAddr = "192.0.2.1:1".parse().expect("an address");
        // As if it had spoken to this address of ours, whose uplink is gone now.
        let spoken_to = Path {
            local: Some(packet::Local {
                address: remote.ip(),
                interface: 3,
            }),
            ..remote.into()
        };
        lane.peers.at(0).expect("the peer").path = Some(spoken_to);
        let mut left_by = |seconds| {
            let now = Now {
                time: Time::ZERO + Duration::from_secs(seconds),
                unix_ns: 1_000_000_000 * seconds,
            };
            lane.greet(now, peer, &mut out);
            lane.handle_timeout(now, &mut Reception::default(), &mut out);
            let train = out.wire.pop().expect("a first message");
            out.arena.put(train.buf);
            train.path
        };
        assert_eq!(left_by(1), spoken_to);
        assert_eq!(left_by(7), remote.into());
    }
}
