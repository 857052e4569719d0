//! Packets that wait for a handshake: in order, and bounded for each peer and for the whole lane,
//! since each holds a buffer of the worker's arena.

use alloc::collections::VecDeque;

use packet::Packet;

use crate::outbox::Outbox;
use crate::refused::Refused;

/// Most packets of one peer that wait (a super-packet is one); then its oldest gives way, as in
/// Linux (`drivers/net/wireguard/device.c`, `wg_xmit`).
pub(crate) const QUEUE_MAX: usize = 64;
/// Most packets that wait in all queues of a lane; a worker's arena must be larger than that.
pub(crate) const WAITING_MAX: usize = 256;

/// What waits in all queues of a lane.
#[derive(Clone, Copy, Default)]
pub(crate) struct Waiting {
    packets: usize,
    /// The same, in segments.
    pub(crate) segments: u64,
}

/// What waits for one peer.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<Packet>);

impl Queue {
    /// Lets a packet wait behind the others.
    pub(crate) fn push(&mut self, packet: Packet, all: &mut Waiting, out: &mut Outbox) {
        if self.0.len() >= QUEUE_MAX || all.packets >= WAITING_MAX {
            match self.pop(all) {
                Some(oldest) => refuse(oldest, Refused::QueueFull, out),
                // The others' packets fill the lane: they were here first.
                None => return refuse(packet, Refused::QueueFull, out),
            }
        }
        all.packets += 1;
        all.segments += packet.segments() as u64;
        self.0.push_back(packet);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self, all: &mut Waiting) -> Option<Packet> {
        let packet = self.0.pop_front()?;
        all.packets -= 1;
        all.segments -= packet.segments() as u64;
        Some(packet)
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
        self.0.is_empty()
    }
}

/// Drops a packet under a name; its buffer goes home.
pub(crate) fn refuse(packet: Packet, reason: Refused, out: &mut Outbox) {
    out.refused.add(reason, packet.segments() as u64);
    out.arena.put(packet.into_buf());
}
