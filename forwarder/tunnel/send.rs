//! From a packet to a train: each segment is copied once, from the packet straight to its place in
//! the train, and encrypted there.

use alloc::sync::Arc;

use packet::{Packet, Segmenter, Time};

use crate::messages::{DATA_HEADER, DATA_OVERHEAD, PADDING};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::queue::{Waiting, refuse};
use crate::refused::Refused;
use crate::train::{self, Way};
use crate::unsealed::Sealing;

/// What sealing must know of the lane.
#[derive(Clone, Copy)]
pub(crate) struct Own {
    pub(crate) number: u16,
    /// The largest packet that the tunnel carries; padding goes no further.
    pub(crate) mtu: usize,
}

/// The length of a packet with its padding (WireGuard paper §5.4.6; Linux `send.c`,
/// `calculate_skb_padding`).
#[inline]
fn padded(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(PADDING).min(mtu).max(length)
}

impl Peer {
    /// Whether a packet can be sealed now.
    #[inline]
    pub(crate) fn is_ready(&mut self, now: Time, segments: u64) -> bool {
        let session = self.sessions.current();
        session.is_some_and(|session| session.can_send(now, segments))
    }

    /// Seals all segments of a packet, in the current session, which [`Peer::is_ready`] was asked
    /// for. What finds no room is dropped and counted.
    pub(crate) fn send(&mut self, now: Time, lane: Own, packet: Packet, out: &mut Outbox) {
        let (Some(path), Some(session)) = (self.path, self.sessions.current()) else {
            return refuse(packet, Refused::EndpointUnknown, out);
        };
        // RFC 6040 §4.1, normal mode: the inner mark is copied; the outer DSCP stays 0.
        let ecn = packet.header().traffic_class & 3;
        let way = Way {
            lane: lane.number,
            path,
            ecn,
        };
        let mut segmenter = Segmenter::new(&packet);
        let mtu = lane.mtu.min(self.mtu);
        let later = (out.sealing == Sealing::Later).then(|| Arc::clone(session.sender()));
        let mut bytes = 0;
        while segmenter.remaining() > 0 {
            let size = DATA_OVERHEAD + padded(segmenter.next_length(), mtu);
            let room = match &later {
                None => train::room(out, way, size),
                Some(cipher) => train::room_behind(out, way, size, Some(cipher)),
            };
            let train = match room {
                Ok(train) => train,
                Err(reason) => {
                    out.refused.add(reason, segmenter.remaining() as u64);
                    break;
                }
            };
            let frame = &mut train.spare_mut()[..size];
            let Some(inner) = segmenter.next(&mut frame[DATA_HEADER..]) else {
                break;
            };
            match later {
                None => session.seal(frame, inner),
                Some(_) => session.lay_out(frame, inner),
            }
            train::finish(train, size);
            bytes += size;
        }
        out.arena.put(packet.into_buf());
        if bytes > 0 {
            self.sent_bytes += bytes as u64;
            self.deadlines.data_sent(now);
            self.deadlines.sent(now);
        }
    }

    /// Seals what waits, in order; false if nothing was sent.
    pub(crate) fn send_queue(
        &mut self,
        now: Time,
        lane: Own,
        all: &mut Waiting,
        out: &mut Outbox,
    ) -> bool {
        let before = self.sent_bytes;
        while let Some(packet) = self.queue.pop(all) {
            self.send(now, lane, packet, out);
        }
        self.sent_bytes != before
    }

    /// Seals an empty message, in the current session, which [`Peer::is_ready`] was asked for.
    pub(crate) fn send_keepalive(&mut self, now: Time, lane: Own, out: &mut Outbox) {
        let (Some(path), Some(session)) = (self.path, self.sessions.current()) else {
            return;
        };
        let mut frame = [0; DATA_OVERHEAD];
        session.seal(&mut frame, 0);
        let way = Way {
            lane: lane.number,
            path,
            ecn: 0,
        };
        self.sent_bytes += DATA_OVERHEAD as u64;
        self.deadlines.sent(now);
        originate(&frame, way, out);
    }
}

/// Puts a message that we made ourselves on the wire; without room it is dropped and counted.
pub(crate) fn originate(message: &[u8], way: Way, out: &mut Outbox) {
    out.ledger.originated += 1;
    match train::room(out, way, message.len()) {
        Ok(train) => {
            train.spare_mut()[..message.len()].copy_from_slice(message);
            train::finish(train, message.len());
        }
        Err(reason) => out.refused.add(reason, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::padded;

    #[test]
    fn padding_ends_at_sixteen_bytes_or_at_the_mtu() {
        for (length, want) in [(0, 0), (1, 16), (16, 16), (1_408, 1_408), (1_409, 1_420)] {
            assert_eq!(padded(length, 1_420), want);
        }
        assert_eq!(padded(1_420, 1_420), 1_420);
        assert_eq!(padded(1_421, 1_420), 1_421, "what is too long is not cut");
    }
}
