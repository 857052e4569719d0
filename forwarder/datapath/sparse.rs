//! Sparse flows first: a single packet need not wait until the super-packets in front of it are
//! sealed (RFC 8290 §3, whose queues are many; here two are enough).
//!
//! A frame may overtake if it is small and nothing large of its flow is in front of it, so the order
//! within a flow stays. Of one flow only a few may at once: a flood of small packets is bulk, too.

use packet::{Batch, Fragment, Frame, Header};

use crate::{Key, Side};

/// The longest frame of a sparse flow, in bytes: a packet, not a super-packet.
const SMALL: usize = 2_048;
/// Frames of one flow that may overtake at once.
const FEW: u8 = 4;
/// Flows are told apart by this many bits of their hash. Two that fall together wait for each other,
/// no more.
const BUCKETS: usize = 256;
/// Marks a flow of which something waits.
const WAITS: u8 = u8::MAX;

/// Picks the frames that need not wait.
#[derive(Debug)]
pub struct Sparse {
    frames: Batch<Frame>,
    secret: (u64, u64),
}

impl Sparse {
    /// One for batches of at most `limit` frames. Pods choose their flows: with a `secret` none can
    /// choose to fall together with another.
    pub fn new(limit: usize, secret: (u64, u64)) -> Sparse {
        Sparse {
            frames: Batch::with_limit(limit),
            secret,
        }
    }

    /// Takes out of `frames` what may overtake the rest; both keep their order. Call it when all that
    /// it picked before is handled.
    pub fn pick(&mut self, frames: &mut Batch<Frame>) {
        let small = frames.iter().filter(|frame| is_small(frame)).count();
        if small == 0 || small == frames.len() {
            return;
        }
        let mut seen = [0_u8; BUCKETS];
        // Which flow a fragment is of is not known, so nothing behind it overtakes it.
        let mut open = true;
        for _ in 0..frames.len() {
            let Some(frame) = frames.pop() else { return };
            let bucket = self.bucket(&frame);
            open &= bucket.is_some();
            let overtakes = bucket.is_some_and(|bucket| {
                let seen = &mut seen[bucket];
                match is_small(&frame) && *seen < FEW {
                    true => *seen += 1,
                    false => *seen = WAITS,
                }
                open && *seen != WAITS
            });
            let to = if overtakes {
                &mut self.frames
            } else {
                &mut *frames
            };
            let refused = to.push(frame).is_err();
            debug_assert!(!refused, "there is room where it was, and as much here");
        }
    }

    /// Which flow a frame is of, as far as that matters here.
    #[inline]
    fn bucket(&self, frame: &Frame) -> Option<usize> {
        let header = Header::parse(frame.buf.as_slice()).ok()?;
        let key = Key {
            flow: header.flow,
            side: Side::Out,
        };
        let hash = key.hash(self.secret) as usize;
        (header.fragment == Fragment::No).then_some(hash % BUCKETS)
    }

    /// The next that need not wait.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// All that need not wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[inline]
fn is_small(frame: &Frame) -> bool {
    frame.buf.len() <= SMALL
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use alloc::vec::Vec;

    use packet::{Arena, Offload};
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64;

    /// A UDP packet of a flow, with a number in it; `more`: the first of several fragments.
    fn frame(arena: &mut Arena, flow: u16, length: usize, number: u8, more: bool) -> Frame {
        let mut ip = etherparse::Ipv4Header {
            protocol: etherparse::IpNumber::UDP,
            time_to_live: 64,
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
            more_fragments: more,
            ..Default::default()
        };
        ip.set_payload_len(length - 20).expect("a short packet");
        let udp = etherparse::UdpHeader {
            source_port: flow,
            destination_port: 7,
            length: (length - 20) as u16,
            checksum: 0,
        };
        let mut bytes = Vec::new();
        ip.write(&mut bytes).expect("a header");
        udp.write(&mut bytes).expect("a header");
        bytes.resize(length, number);
        let mut buf = arena.take().expect("a buffer");
        buf.spare_mut()[..length].copy_from_slice(&bytes);
        buf.grow_back(length);
        Frame {
            buf,
            offload: Offload::default(),
        }
    }

    fn number(frame: &Frame) -> u8 {
        frame.buf.as_slice()[28]
    }

    /// What is picked and what is left of frames with these flows, lengths and fragment bits.
    fn pick(frames: &[(u16, usize, bool)]) -> (Vec<u8>, Vec<u8>) {
        let mut arena = Arena::new(0, LIMIT);
        let mut batch = Batch::with_limit(LIMIT);
        for (place, (flow, length, more)) in (0..).zip(frames) {
            let frame = frame(&mut arena, *flow, *length, place, *more);
            batch.push(frame).expect("room");
        }
        let mut sparse = Sparse::new(LIMIT, (1, 2));
        sparse.pick(&mut batch);
        let picked = sparse.iter().map(number).collect();
        (picked, batch.iter().map(number).collect())
    }

    #[test]
    fn a_single_packet_overtakes_super_packets_but_none_of_its_own_flow() {
        let frames = [
            (1, 9_000, false),
            (2, 90, false),
            (1, 90, false),
            (1, 9_000, false),
        ];
        assert_eq!(pick(&frames), (vec![1], vec![0, 2, 3]));
    }

    #[test]
    fn a_flood_of_small_packets_is_bulk_too() {
        let mut frames = vec![(1, 90, false); 20];
        frames.insert(0, (2, 9_000, false));
        frames.push((3, 90, false));
        let (picked, left) = pick(&frames);
        assert_eq!(picked, [1, 2, 3, 4, 21]);
        assert_eq!(left.len(), 17);
    }

    #[test]
    fn nothing_overtakes_a_fragment() {
        let frames = [
            (2, 90, false),
            (1, 1_400, true),
            (3, 90, false),
            (1, 9_000, false),
        ];
        assert_eq!(pick(&frames), (vec![0], vec![1, 2, 3]));
    }

    proptest! {
        #[test]
        fn the_order_within_a_flow_stays_and_nothing_is_lost(
            frames in prop::collection::vec((0..9_u16, prop_oneof![Just(90), Just(9_000)], prop::bool::weighted(0.03)), 0..LIMIT)
        ) {
            let (picked, left) = pick(&frames);
            let mut last = BTreeMap::new();
            for place in picked.iter().chain(&left) {
                let (flow, ..) = frames[usize::from(*place)];
                if let Some(before) = last.insert(flow, *place) {
                    prop_assert!(before < *place, "{before} came behind {place}");
                }
            }
            prop_assert_eq!(picked.len() + left.len(), frames.len());
            prop_assert!(picked.iter().all(|place| frames[usize::from(*place)].1 == 90));
        }
    }
}
