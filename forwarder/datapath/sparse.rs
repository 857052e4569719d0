//! Sparse flows first: a single packet need not wait until the super-packets in front of it are
//! sealed (RFC 8290 §3, whose queues are many; here two are enough).
//!
//! A frame may overtake if it is small and nothing large of its flow is in front of it, so the order
//! within a flow stays. Of one flow only a few may at once: a flood of small packets is bulk, too.

use packet::{Batch, Flow, Fragment, Frame, Header};

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
        // Which flow of its addresses a fragment is of is not known.
        let mut torn = [false; BUCKETS];
        let mut fragments = false;
        for _ in 0..frames.len() {
            let Some(frame) = frames.pop() else { return };
            let overtakes = Header::parse(frame.buf.as_slice()).is_ok_and(|header| {
                let fragment = header.fragment != Fragment::No;
                fragments |= fragment;
                let torn = fragments && {
                    let torn = &mut torn[self.bucket(ends(header.flow))];
                    *torn |= fragment;
                    *torn
                };
                let seen = &mut seen[self.bucket(header.flow)];
                match is_small(&frame) && !torn && *seen < FEW {
                    true => *seen += 1,
                    false => *seen = WAITS,
                }
                *seen != WAITS
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

    #[inline]
    fn bucket(&self, flow: Flow) -> usize {
        let side = Side::Out;
        Key { flow, side }.hash(self.secret) as usize % BUCKETS
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

/// A flow's addresses alone.
fn ends(flow: Flow) -> Flow {
    Flow {
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        ..flow
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
    // Behind the IP header whole units of eight bytes, as a fragment has to have.
    const SHORT: usize = 20 + 72;
    const LONG: usize = 20 + 9_000;

    /// A UDP packet; `more`: the first of several fragments.
    #[derive(Clone, Copy, Debug)]
    struct Sample {
        host: u8,
        port: u16,
        length: usize,
        more: bool,
    }

    fn sample(host: u8, port: u16, length: usize, more: bool) -> Sample {
        Sample {
            host,
            port,
            length,
            more,
        }
    }

    impl Sample {
        /// With a number in it.
        fn frame(&self, arena: &mut Arena, number: u8) -> Frame {
            let mut ip = etherparse::Ipv4Header {
                protocol: etherparse::IpNumber::UDP,
                time_to_live: 64,
                source: [10, 0, 0, self.host],
                destination: [10, 0, 1, 2],
                more_fragments: self.more,
                ..Default::default()
            };
            ip.set_payload_len(self.length - 20).expect("a short one");
            let udp = etherparse::UdpHeader {
                source_port: self.port,
                destination_port: 7,
                length: (self.length - 20) as u16,
                checksum: 0,
            };
            let mut bytes = Vec::new();
            ip.write(&mut bytes).expect("a header");
            udp.write(&mut bytes).expect("a header");
            bytes.resize(self.length, number);
            let mut buf = arena.take().expect("a buffer");
            buf.spare_mut()[..self.length].copy_from_slice(&bytes);
            buf.grow_back(self.length);
            Frame {
                buf,
                offload: Offload::default(),
            }
        }
    }

    fn number(frame: &Frame) -> u8 {
        frame.buf.as_slice()[28]
    }

    /// Which of these are picked, and which are left, each in its order.
    fn pick(samples: &[Sample]) -> (Vec<u8>, Vec<u8>) {
        let mut arena = Arena::new(0, LIMIT);
        let mut batch = Batch::with_limit(LIMIT);
        for (place, sample) in (0..).zip(samples) {
            let frame = sample.frame(&mut arena, place);
            batch.push(frame).expect("room");
        }
        let mut sparse = Sparse::new(LIMIT, (1, 2));
        sparse.pick(&mut batch);
        let picked = sparse.iter().map(number).collect();
        (picked, batch.iter().map(number).collect())
    }

    #[test]
    fn a_single_packet_overtakes_super_packets_but_none_of_its_own_flow() {
        let samples = [
            sample(1, 1, LONG, false),
            sample(1, 2, SHORT, false),
            sample(1, 1, SHORT, false),
            sample(1, 1, LONG, false),
        ];
        assert_eq!(pick(&samples), (vec![1], vec![0, 2, 3]));
    }

    #[test]
    fn a_flood_of_small_packets_is_bulk_too() {
        let mut samples = vec![sample(1, 1, SHORT, false); 20];
        samples.insert(0, sample(1, 2, LONG, false));
        samples.push(sample(1, 3, SHORT, false));
        let (picked, left) = pick(&samples);
        assert_eq!(picked, [1, 2, 3, 4, 21]);
        assert_eq!(left.len(), 17);
    }

    #[test]
    fn nothing_overtakes_a_fragment_of_its_own_addresses() {
        let samples = [
            sample(1, 2, SHORT, false),
            sample(1, 1, LONG, true),
            sample(1, 3, SHORT, false),
            sample(2, 3, SHORT, false),
            sample(1, 1, LONG, false),
        ];
        assert_eq!(pick(&samples), (vec![0, 3], vec![1, 2, 4]));
    }

    fn any() -> impl Strategy<Value = Sample> {
        let length = prop_oneof![Just(SHORT), Just(LONG)];
        let more = prop::bool::weighted(0.03);
        (0..2_u8, 0..5_u16, length, more).prop_map(|(h, p, l, m)| sample(h, p, l, m))
    }

    proptest! {
        #[test]
        fn the_order_within_a_flow_stays_and_nothing_is_lost(
            samples in prop::collection::vec(any(), 0..LIMIT)
        ) {
            let (picked, left) = pick(&samples);
            let of = |place: &u8| samples[usize::from(*place)];
            let mut last = BTreeMap::new();
            for place in picked.iter().chain(&left) {
                let Sample { host, port, .. } = of(place);
                if let Some(before) = last.insert((host, port), *place) {
                    prop_assert!(before < *place, "{} came behind {}", before, place);
                }
            }
            prop_assert_eq!(picked.len() + left.len(), samples.len());
            prop_assert!(picked.iter().all(|place| of(place).length == SHORT));
        }
    }
}
