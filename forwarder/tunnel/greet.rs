//! Handshake messages: when ours are sent, and what theirs bring about. MAC1 is checked before
//! anything else, and nothing that is not authentic is answered or changes anything.
//!
//! Cookies and load limits belong into [`handshake_is_welcome`]: there MAC1 is known to be
//! right and nothing has been spent yet.

use core::net::SocketAddr;
use core::time::Duration;

use packet::{Now, Time};

use crate::deadlines::JITTER_MAX_MS;
use crate::handshake::{Fresh, Handshake};
use crate::lane::Lane;
use crate::messages::{INITIATION, Initiation, MacKey, RESPONSE, Response};
use crate::outbox::Outbox;
use crate::refused::Refused;
use crate::send::originate;
use crate::train::Way;

/// Least time between two first messages of one peer that are answered.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

impl Lane {
    /// Sends a first message to a peer, unless one is under way or was sent less than 5 s ago.
    pub(crate) fn initiate(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let (Some(ours), Some(peer)) = (&self.identity, self.peers.at(slot)) else {
            return;
        };
        let (Some(remote), Some(statics)) = (peer.endpoint, &peer.statics) else {
            return;
        };
        if !peer.deadlines.may_initiate(now.time) {
            return;
        }
        let fresh = Fresh {
            ephemeral: self.random.secret(),
            index: self.indices.draw(&mut self.random, slot),
        };
        let index = fresh.index;
        let stamp = peer.stamps.next(now.unix_ns);
        let made = Handshake::initiate(ours, &peer.key, statics, fresh, stamp);
        let Some((handshake, message)) = made else {
            return self.indices.free(index);
        };
        if let Some(old) = peer.handshake.replace(handshake) {
            self.indices.free(old.local());
        }
        let jitter = Duration::from_millis(u64::from(self.random.number()) % (JITTER_MAX_MS + 1));
        peer.deadlines.initiated(now.time, jitter);
        peer.deadlines.sent(now.time);
        peer.sent_bytes += INITIATION as u64;
        let way = Way {
            lane: self.own.number,
            remote,
            ecn: 0,
        };
        originate(&message.emit(&peer.macs), way, out);
    }

    /// Takes in a first message and answers it.
    pub(crate) fn open_initiation(
        &mut self,
        now: Now,
        remote: SocketAddr,
        frame: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let bytes: &[u8; INITIATION] = frame.try_into().map_err(|_| Refused::LengthWrong)?;
        let ours = self.identity.as_ref().ok_or(Refused::KeyMissing)?;
        handshake_is_welcome(&ours.macs, bytes)?;
        let received = Handshake::receive(ours, Initiation::parse(bytes));
        let received = received.ok_or(Refused::InitiationForged)?;
        let id = self.peers.by_key(received.peer());
        let id = id.ok_or(Refused::InitiatorUnknown)?;
        let peer = self.peers.find_mut(id).ok_or(Refused::InitiatorUnknown)?;
        let statics = peer.statics.as_ref().ok_or(Refused::InitiationForged)?;
        let verified = received.verify(statics);
        let verified = verified.ok_or(Refused::InitiationForged)?;
        if verified.stamp() <= peer.newest_stamp {
            return Err(Refused::InitiationReplayed);
        }
        if is_too_soon(peer.accepted, now.time) {
            return Err(Refused::InitiationTooSoon);
        }
        peer.newest_stamp = verified.stamp();
        peer.accepted = Some(now.time);
        let fresh = Fresh {
            ephemeral: self.random.secret(),
            index: self.indices.draw(&mut self.random, id.slot),
        };
        let index = fresh.index;
        let Some((finished, message)) = verified.respond(peer.psk(), fresh) else {
            self.indices.free(index);
            return Err(Refused::InitiationForged);
        };
        if let Some(old) = peer.sessions.answer(finished.session(now.time)) {
            self.indices.free(old.local());
        }
        peer.heard_from(now.time, remote, INITIATION);
        peer.deadlines.derived(now.time);
        peer.deadlines.sent(now.time);
        peer.sent_bytes += RESPONSE as u64;
        out.ledger.consumed += 1;
        let way = Way {
            lane: self.own.number,
            remote,
            ecn: 0,
        };
        originate(&message.emit(&peer.macs), way, out);
        self.schedule(id.slot);
        Ok(())
    }

    /// Takes in an answer: the new session is in use at once, and its first message confirms it to
    /// the responder, which sends nothing in it before.
    pub(crate) fn open_response(
        &mut self,
        now: Now,
        remote: SocketAddr,
        frame: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let bytes: &[u8; RESPONSE] = frame.try_into().map_err(|_| Refused::LengthWrong)?;
        let ours = self.identity.as_ref().ok_or(Refused::KeyMissing)?;
        handshake_is_welcome(&ours.macs, bytes)?;
        let response = Response::parse(bytes);
        let slot = self.indices.find(response.receiver);
        let slot = slot.ok_or(Refused::ResponseUnexpected)?;
        let peer = self.peers.at(slot).ok_or(Refused::ResponseUnexpected)?;
        let handshake = peer.handshake.as_ref();
        let handshake = handshake
            .filter(|handshake| handshake.local() == response.receiver)
            .ok_or(Refused::ResponseUnexpected)?;
        let finished = handshake.finish(ours, peer.psk(), &response);
        let session = finished.ok_or(Refused::ResponseForged)?.session(now.time);
        peer.handshake = None;
        for old in peer.sessions.begin(session).into_iter().flatten() {
            self.indices.free(old.local());
        }
        peer.heard_from(now.time, remote, RESPONSE);
        peer.deadlines.derived(now.time);
        peer.deadlines.established();
        peer.handshake_unix_ns = Some(now.unix_ns);
        out.ledger.consumed += 1;
        if !peer.send_queue(now.time, self.own, &mut self.waiting, out) {
            peer.send_keepalive(now.time, self.own, out);
        }
        self.schedule(slot);
        Ok(())
    }

    /// Sends a keep-alive, or begins the handshake that it needs, whose end is one.
    pub(crate) fn keepalive(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let Some(peer) = self.peers.at(slot) else {
            return;
        };
        if peer.is_ready(now.time, 1) {
            peer.send_keepalive(now.time, self.own, out);
            self.renew_after_sending(now, slot, out);
        } else {
            self.initiate(now, slot, out);
        }
    }
}

/// Whether a handshake message may cost us anything: its first MAC shows that its sender knows us.
/// A second MAC, under load, is to be asked for here.
fn handshake_is_welcome(ours: &MacKey, message: &[u8]) -> Result<(), Refused> {
    if ours.is_right(message) {
        Ok(())
    } else {
        Err(Refused::MacWrong)
    }
}

fn is_too_soon(last: Option<Time>, now: Time) -> bool {
    last.is_some_and(|last| now < last + INITIATION_INTERVAL)
}
