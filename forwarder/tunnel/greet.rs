//! Handshake messages: when ours are sent, and what theirs bring about. MAC1 is checked before
//! anything else, and nothing that is not authentic is answered or changes anything, except that
//! under load who knows our key is sent a cookie.

use core::time::Duration;

use packet::{Now, Path, Time};

use crate::deadlines::JITTER_MAX_MS;
use crate::handshake::{Fresh, Handshake};
use crate::lane::Lane;
use crate::messages::{COOKIE, CookieReply, INITIATION, Initiation, RESPONSE, Response};
use crate::outbox::Outbox;
use crate::reception::{Host, Reception, Welcome};
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
        let Some(path) = peer.path else {
            return;
        };
        let Some(statics) = ours.statics(&peer.key, &mut peer.statics) else {
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
            path,
            ecn: 0,
        };
        let mut message = message.emit(&peer.macs);
        peer.cookie.sign(now.time, &mut message);
        originate(&message, way, out);
    }

    /// Takes in a first message or an answer: handles it, lets it wait, or has it prove where it is
    /// from.
    pub(crate) fn open_handshake(
        &mut self,
        now: Now,
        path: Path,
        frame: &mut [u8],
        reception: &mut Reception,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let ours = self.identity.as_mut().ok_or(Refused::KeyMissing)?;
        if !ours.macs.is_right(frame) {
            return Err(Refused::MacWrong);
        }
        // An answer to nothing costs no more than this, and takes nobody's turn.
        if let Ok(answer) = <&[u8; RESPONSE]>::try_from(&*frame) {
            let receiver = Response::parse(answer).receiver;
            self.indices
                .find(receiver)
                .ok_or(Refused::ResponseUnexpected)?;
        }
        let host = Host {
            number: self.own.number,
            load: &mut self.load,
            cookies: &mut ours.cookies,
            random: &mut self.random,
        };
        match reception.welcome(now.time, host, path, frame)? {
            Welcome::Enter => self.handle_handshake(now, path, frame, out),
            Welcome::Wait => Ok(()),
            Welcome::Prove(reply) => {
                let way = Way {
                    lane: self.own.number,
                    path,
                    ecn: 0,
                };
                originate(&reply.emit(), way, out);
                Err(Refused::CookieWanted)
            }
        }
    }

    /// Handles what has waited for it.
    pub(crate) fn handle_handshakes(
        &mut self,
        now: Now,
        reception: &mut Reception,
        out: &mut Outbox,
    ) {
        while let Some(message) = reception.next(now.time, self.own.number, &mut self.load) {
            let result = self.handle_handshake(now, message.path, message.bytes(), out);
            if let Err(reason) = result {
                out.refused.add(reason, 1);
            }
        }
    }

    fn handle_handshake(
        &mut self,
        now: Now,
        path: Path,
        message: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if message.len() == INITIATION {
            self.open_initiation(now, path, message, out)
        } else {
            self.open_response(now, path, message, out)
        }
    }

    /// Takes in a cookie, for the next handshake message to that peer.
    pub(crate) fn open_cookie(
        &mut self,
        now: Now,
        frame: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let bytes: &[u8; COOKIE] = frame.try_into().map_err(|_| Refused::LengthWrong)?;
        let reply = CookieReply::parse(bytes);
        let slot = self.indices.find(reply.receiver);
        let peer = slot.and_then(|slot| self.peers.at(slot));
        let peer = peer.ok_or(Refused::CookieUnexpected)?;
        peer.cookie.accept(now.time, &peer.key, &reply)?;
        out.ledger.consumed += 1;
        Ok(())
    }

    /// Takes in a first message and answers it.
    fn open_initiation(
        &mut self,
        now: Now,
        path: Path,
        frame: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let bytes: &[u8; INITIATION] = frame.try_into().map_err(|_| Refused::LengthWrong)?;
        let ours = self.identity.as_ref().ok_or(Refused::KeyMissing)?;
        let received = Handshake::receive(ours, Initiation::parse(bytes));
        let received = received.ok_or(Refused::InitiationForged)?;
        let id = self.peers.by_key(received.peer());
        let id = id.ok_or(Refused::InitiatorUnknown)?;
        let peer = self.peers.find_mut(id).ok_or(Refused::InitiatorUnknown)?;
        let statics = ours.statics(&peer.key, &mut peer.statics);
        let statics = statics.ok_or(Refused::InitiationForged)?;
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
        peer.heard_from(now.time, path, INITIATION);
        peer.deadlines.derived(now.time);
        peer.deadlines.sent(now.time);
        peer.sent_bytes += RESPONSE as u64;
        out.ledger.consumed += 1;
        let way = Way {
            lane: self.own.number,
            path,
            ecn: 0,
        };
        let mut message = message.emit(&peer.macs);
        peer.cookie.sign(now.time, &mut message);
        originate(&message, way, out);
        self.schedule(id.slot);
        Ok(())
    }

    /// Takes in an answer: the new session is in use at once, and its first message confirms it to
    /// the responder, which sends nothing in it before.
    fn open_response(
        &mut self,
        now: Now,
        path: Path,
        frame: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let bytes: &[u8; RESPONSE] = frame.try_into().map_err(|_| Refused::LengthWrong)?;
        let ours = self.identity.as_ref().ok_or(Refused::KeyMissing)?;
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
        peer.heard_from(now.time, path, RESPONSE);
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

fn is_too_soon(last: Option<Time>, now: Time) -> bool {
    last.is_some_and(|last| now < last + INITIATION_INTERVAL)
}
