//! Where a worker's core puts what it gives back: an argument of every input, never a callback.

use alloc::vec::Vec;

use packet::{Batch, Buf, Ledger, Malformed, Packet};

use crate::{Crossing, Reason};

/// What one input can add at the most: a train has up to 128 datagrams (Linux `UDP_MAX_SEGMENTS`),
/// each a packet if nothing of it can be made whole.
const ROOM: usize = 128;

/// What the core gives back: packets for the pods' side, datagrams for the wire's (in
/// [`tunnel::Outbox`]), and the account of everything that ended here.
#[derive(Debug)]
pub struct Outbox {
    /// The wire side: arena, datagrams, and what the tunnel refused.
    pub tunnel: tunnel::Outbox,
    /// Packets to be written to this worker's TUN, in order.
    pub pods: Batch<Packet>,
    /// What was dropped here.
    pub drops: Drops,
    /// For each worker of the node what it goes on with, in order; [`Outbox::hand_over`] empties it.
    crossings: Vec<Batch<Crossing>>,
}

/// Segments dropped, by reason.
#[derive(Clone, Debug)]
pub struct Drops {
    by_reason: [u64; Reason::COUNT],
    malformed: [u64; Malformed::COUNT],
}

impl Outbox {
    /// An empty outbox that queues at most `pods_limit` packets towards the pods.
    pub fn new(tunnel: tunnel::Outbox, pods_limit: usize) -> Outbox {
        let drops = Drops {
            by_reason: [0; Reason::COUNT],
            malformed: [0; Malformed::COUNT],
        };
        Outbox {
            tunnel,
            pods: Batch::with_limit(pods_limit),
            drops,
            crossings: Vec::new(),
        }
    }

    /// The same, of one of `workers` workers: for each at most `limit` packets wait to cross.
    pub fn among(mut self, workers: u16, limit: usize) -> Outbox {
        let batches = (0..workers).map(|_| Batch::with_limit(limit));
        self.crossings = batches.collect();
        self
    }

    /// Ends a packet, under a name. The only way to get rid of one.
    pub fn drop(&mut self, packet: Packet, reason: Reason) {
        self.drops.count(reason, packet.segments() as u64);
        self.tunnel.arena.put(packet.into_buf());
    }

    /// Ends a frame that is no packet; it counts as one segment, whatever it pretended to be.
    pub fn drop_malformed(&mut self, buf: Buf, why: Malformed) {
        self.drops.count_malformed(why);
        self.tunnel.arena.put(buf);
    }

    /// Queues a packet towards the pods; a full queue drops it.
    #[inline]
    pub fn to_pods(&mut self, packet: Packet) {
        if let Err(packet) = self.pods.push(packet) {
            self.drop(packet, Reason::PodsFull);
        }
    }

    /// Queues a packet for another worker; a full queue drops it.
    #[inline]
    pub(crate) fn cross(&mut self, to: u16, crossing: Crossing) {
        let refused = match self.crossings.get_mut(usize::from(to)) {
            Some(batch) => batch.push(crossing).err(),
            None => Some(crossing),
        };
        if let Some(crossing) = refused {
            self.drop(crossing.into_packet(), Reason::RingFull);
        }
    }

    /// Gives all that waits for worker `to` to `push`, in order; what that gives back, for its ring
    /// is full, is dropped and counted.
    pub fn hand_over(&mut self, to: u16, mut push: impl FnMut(Crossing) -> Result<(), Crossing>) {
        while let Some(crossing) = self.crossings.get_mut(usize::from(to)).and_then(Batch::pop) {
            let segments = crossing.segments() as u64;
            match push(crossing) {
                Ok(()) => self.ledger().crossed_out += segments,
                Err(crossing) => self.drop(crossing.into_packet(), Reason::RingFull),
            }
        }
    }

    /// Whether so much waits here that it should be transmitted and handed over before more is
    /// handled: one train may bring `ROOM` packets more.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        let crossings = self.crossings.iter().map(Batch::room);
        let room = self.pods.room().min(self.tunnel.room());
        let room = crossings.fold(room, usize::min);
        room.min(self.tunnel.arena.available()) < ROOM
    }

    /// How many packets of our own may be sealed, each to an address that no train goes to yet: for
    /// each a buffer for it and one for its train, and a place for that.
    #[inline]
    pub(crate) fn takes(&self) -> usize {
        let Outbox { tunnel, .. } = self;
        tunnel.room().min(tunnel.arena.available() / 2)
    }

    /// The same for packets of our own to the pods' side: for each a place there, and a buffer beside
    /// its own to make it with.
    pub(crate) fn takes_for_pods(&self) -> usize {
        let Outbox { pods, tunnel, .. } = self;
        pods.room().min(tunnel.arena.available() / 2)
    }

    /// Received, originated, sent and consumed, in segments.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.tunnel.ledger
    }

    /// Segments that wait in this outbox.
    pub fn queued(&self) -> u64 {
        let pods: usize = self.pods.iter().map(Packet::segments).sum();
        let wire = self.tunnel.queued();
        let crossings = self.crossings.iter().flat_map(Batch::iter);
        let crossings: usize = crossings.map(Crossing::segments).sum();
        (pods + wire + crossings) as u64
    }

    /// Every drop of every room: name and segments.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = Reason::ALL
            .iter()
            .map(|r| (r.name(), self.drops.by_reason[*r as usize]));
        let malformed = Malformed::ALL
            .iter()
            .map(|m| (m.name(), self.drops.malformed[*m as usize]));
        let tunnel = self
            .tunnel
            .refused
            .iter()
            .map(|(why, segments)| (why.name(), segments));
        own.chain(malformed).chain(tunnel)
    }
}

impl Drops {
    /// Counts `segments` that ended for `reason`.
    #[inline]
    pub fn count(&mut self, reason: Reason, segments: u64) {
        self.by_reason[reason as usize] += segments;
    }

    /// Counts one segment that was no packet.
    #[inline]
    pub fn count_malformed(&mut self, why: Malformed) {
        self.malformed[why as usize] += 1;
    }

    /// How many segments ended for `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.by_reason[reason as usize]
    }
}
