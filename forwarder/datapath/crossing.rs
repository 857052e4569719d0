//! What one worker hands over to another of its node: a packet, and what remains to be done to it.
//!
//! ```text
//! from a TUN ──Out──→ source's worker ──In──→ destination's worker ──Seal (an ICMP error)──┐
//!                              └──────────────Seal──────────────────────────────────────→ lane 0's worker
//! from the wire ───────────────────────In──→ destination's worker
//! ```
//!
//! A packet crosses in the order of these three, and for each of them once: however far apart the
//! workers' snapshots are, none goes round in a circle. Nothing of a snapshot goes with it: where a
//! node stands in one says nothing in another.

use packet::{Buf, Packet};
use tunnel::PublicKey;

/// A packet that another worker goes on with.
#[derive(Debug)]
pub enum Crossing {
    /// A TUN gave it, and nothing was done to it yet: to be judged by the worker that owns its flow.
    Out(Packet),
    /// To be judged in by the worker that owns its destination.
    In(Packet, Origin),
    /// Judged: to be sealed by lane 0 for lane 0, for a peer that knows no other lanes of ours, or
    /// whose other lanes do not answer.
    Seal(Packet),
}

/// What has been proven about where a packet is from. The receiver asks again by its own snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node, or the node itself: it was judged out.
    Here,
    /// The node with this key of lane 0, which may be its source.
    Node(PublicKey),
}

impl Crossing {
    /// How many segments it is.
    pub fn segments(&self) -> usize {
        self.packet().segments()
    }

    /// The packet.
    pub fn packet(&self) -> &Packet {
        match self {
            Crossing::Out(packet) | Crossing::In(packet, _) | Crossing::Seal(packet) => packet,
        }
    }

    pub(crate) fn into_packet(self) -> Packet {
        match self {
            Crossing::Out(packet) | Crossing::In(packet, _) | Crossing::Seal(packet) => packet,
        }
    }

    /// Its buffer alone: what is left when nobody can go on with it.
    pub fn into_buf(self) -> Buf {
        self.into_packet().into_buf()
    }
}
