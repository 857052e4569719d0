//! Packets that wait for a handshake: in order, and bounded for each peer and for the whole lane,
//! since each holds a buffer of the worker's arena.

use alloc::collections::{BTreeSet, VecDeque};

use packet::Packet;

use crate::outbox::Outbox;
use crate::refused::Refused;

/// Most packets of one peer that wait (a super-packet is one); then its oldest gives way, as in
/// Linux (`drivers/net/wireguard/device.c`, `wg_xmit`).
pub(crate) const QUEUE_MAX: usize = 64;
/// Most packets that wait in all queues of a lane, unless it is told another number: the arena of
/// its worker must be larger than what all its lanes may hold.
pub(crate) const WAITING_MAX: usize = 256;

/// What waits in all queues of a lane.
pub(crate) struct Waiting {
    /// Most packets.
    pub(crate) most: usize,
    packets: usize,
    /// The same, in segments.
    pub(crate) segments: u64,
    /// The queues that are not empty, by their lengths: no more than packets.
    lengths: BTreeSet<(usize, u32)>,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            most: WAITING_MAX,
            packets: 0,
            segments: 0,
            lengths: BTreeSet::new(),
        }
    }
}

impl Waiting {
    /// Whose oldest packet gives way to one more for `newcomer`, where the lane is full: that of
    /// the longest queue, so that a few dead peers with much traffic cannot keep the others from
    /// theirs. It is the newcomer's own if no other is longer.
    pub(crate) fn gives_way(&self, newcomer: &Queue) -> Option<u32> {
        let &(length, longest) = self.lengths.last()?;
        let full = self.packets >= self.most;
        let other = full && length > newcomer.packets.len();
        other.then_some(longest)
    }

    fn changed(&mut self, queue: &Queue, before: usize) {
        self.lengths.remove(&(before, queue.slot));
        if !queue.is_empty() {
            self.lengths.insert((queue.packets.len(), queue.slot));
        }
    }
}

/// What waits for one peer.
pub(crate) struct Queue {
    /// The peer's place in the lane's table.
    slot: u32,
    packets: VecDeque<Packet>,
}

impl Queue {
    /// An empty one, of the peer at this place.
    pub(crate) fn of(slot: u32) -> Queue {
        Queue {
            slot,
            packets: VecDeque::new(),
        }
    }

    /// Lets a packet wait behind the others; [`Waiting::gives_way`] was asked before.
    pub(crate) fn push(&mut self, packet: Packet, all: &mut Waiting, out: &mut Outbox) {
        if self.packets.len() >= QUEUE_MAX || all.packets >= all.most {
            self.shed(all, out);
        }
        let before = self.packets.len();
        all.packets += 1;
        all.segments += packet.segments() as u64;
        self.packets.push_back(packet);
        all.changed(self, before);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self, all: &mut Waiting) -> Option<Packet> {
        let before = self.packets.len();
        let packet = self.packets.pop_front()?;
        all.packets -= 1;
        all.segments -= packet.segments() as u64;
        all.changed(self, before);
        Some(packet)
    }

    /// Drops the oldest, for one that is newer.
    pub(crate) fn shed(&mut self, all: &mut Waiting, out: &mut Outbox) {
        if let Some(oldest) = self.pop(all) {
            refuse(oldest, Refused::QueueFull, out);
        }
    }

    /// Drops everything.
    pub(crate) fn purge(&mut self, reason: Refused, all: &mut Waiting, out: &mut Outbox) {
        while let Some(packet) = self.pop(all) {
            refuse(packet, reason, out);
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// Drops a packet under a name; its buffer goes home.
pub(crate) fn refuse(packet: Packet, reason: Refused, out: &mut Outbox) {
    out.refused.add(reason, packet.segments() as u64);
    out.arena.put(packet.into_buf());
}
