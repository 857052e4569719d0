//! By what a conversation is found.

use core::hash::Hasher;

use packet::Flow;
use siphasher::sip::SipHasher13;

/// On which of a pod's judgements a packet is looked up: *out* of its source or *in* to its
/// destination. A flow between two local pods has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Leaving a local address.
    Out,
    /// Reaching a local address.
    In,
}

impl Side {
    /// The side on which the answers are looked up.
    pub const fn opposite(self) -> Side {
        match self {
            Side::Out => Side::In,
            Side::In => Side::Out,
        }
    }
}

/// A flow as its packets arrive, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The five-tuple before any translation.
    pub flow: Flow,
    /// The side.
    pub side: Side,
}

impl Key {
    /// The hash by which the flow table finds it. Pods choose the keys, so it takes a secret:
    /// without one they could make the table a list.
    #[inline]
    pub fn hash(&self, secret: (u64, u64)) -> u64 {
        digest(&self.flow, self.side as u8, secret)
    }
}

/// The hash by which a service picks a backend: without a secret, so that every node picks the
/// same.
#[inline]
pub(crate) fn hash(flow: &Flow) -> u64 {
    digest(flow, 0, (0, 0))
}

#[inline]
fn digest(flow: &Flow, side: u8, (k0, k1): (u64, u64)) -> u64 {
    let mut bytes = [0; 38];
    bytes[..16].copy_from_slice(flow.source.octets());
    bytes[16..32].copy_from_slice(flow.destination.octets());
    bytes[32..34].copy_from_slice(&flow.source_port.to_be_bytes());
    bytes[34..36].copy_from_slice(&flow.destination_port.to_be_bytes());
    bytes[36] = flow.protocol;
    bytes[37] = side;
    let mut hasher = SipHasher13::new_with_keys(k0, k1);
    hasher.write(&bytes);
    hasher.finish()
}
