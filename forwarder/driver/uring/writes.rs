//! Frames that are under way to the TUN by the ring. From `fill` to the completion that `note` is
//! told of, header, iovecs and packet of a slot belong to the kernel: nothing here touches them.
//!
//! Each is done or refused when its submission returns, one after the other (RWF_NOWAIT; the trial
//! at start has seen it), so the order is the queue's. Only where one would block and a later one
//! did not, there would be none: such a one is dropped and counted instead of being sent late. It
//! cannot happen to us: what a TUN may hold back is bounded by TUNSETSNDBUF, which is without limit
//! until somebody sets it (Linux `drivers/net/tun.c`, `tun_set_iff`).

use std::io;

use packet::{Arena, Batch, Packet};

use crate::engine::Outcome;
use crate::tun_io::{cause, is_deleted};
use crate::udp_receive::EMPTY_IOVEC;
use crate::{Dropped, Sent, vnet};

/// Frames of one submission.
pub(super) const WRITES: usize = 64;

/// The frames of one submission, oldest first.
pub(super) struct Writes {
    slots: Box<[Slot]>,
    filled: usize,
    /// Completions that are still to come.
    under_way: usize,
}

/// One frame.
struct Slot {
    header: [u8; vnet::LENGTH],
    iovecs: [libc::iovec; 2],
    packet: Option<Packet>,
    /// What the completion said: bytes, or an error number below zero.
    result: Option<i32>,
}

/// The interface is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deleted;

// SAFETY: the raw pointers in `iovecs` point into their own slot's box and packet, whose memory does
// not move when `Writes` does; who owns them alone may go on from another thread.
unsafe impl Send for Writes {}

impl Writes {
    pub(super) fn new() -> Writes {
        let slot = || Slot {
            header: [0; vnet::LENGTH],
            iovecs: [EMPTY_IOVEC; 2],
            packet: None,
            result: None,
        };
        Writes {
            slots: (0..WRITES).map(|_| slot()).collect(),
            filled: 0,
            under_way: 0,
        }
    }

    /// Whether no frame waits here for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.filled == 0
    }

    /// Whether the kernel has told the end of each.
    pub(super) fn are_over(&self) -> bool {
        self.under_way == 0
    }

    /// Takes the oldest packets, as many as one submission has. The device must take each whole,
    /// with a header in front.
    pub(super) fn fill(&mut self, pods: &mut Batch<Packet>) {
        debug_assert!(self.is_idle(), "the kernel still has them");
        for slot in &mut self.slots {
            let Some(packet) = pods.pop() else { break };
            let packet = slot.packet.insert(packet);
            let header = packet.header();
            slot.header = vnet::emit(packet.offload(), header.is_v4(), header.payload);
            slot.result = None;
            let bytes = packet.bytes();
            slot.iovecs = [
                libc::iovec {
                    iov_base: slot.header.as_mut_ptr().cast(),
                    iov_len: vnet::LENGTH,
                },
                libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                },
            ];
            self.filled += 1;
        }
        self.under_way = self.filled;
    }

    /// The frames to be submitted: number, and two iovecs each.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (usize, *const libc::iovec)> {
        let slots = self.slots[..self.filled].iter();
        slots.map(|slot| slot.iovecs.as_ptr()).enumerate()
    }

    /// The kernel is done with a frame.
    pub(super) fn note(&mut self, number: usize, result: i32) {
        self.slots[number].result = Some(result);
        self.under_way -= 1;
    }

    /// Counts what became of the frames, when all are over. Those that would have blocked stand
    /// oldest first in the queue again.
    pub(super) fn settle(
        &mut self,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<Outcome, Deleted> {
        let (mut outcome, mut deleted, mut overtaken) = (Outcome::Drained, false, false);
        for slot in self.slots[..self.filled].iter_mut().rev() {
            let (Some(packet), Some(result)) = (slot.packet.take(), slot.result.take()) else {
                continue;
            };
            let segments = packet.segments() as u64;
            match result {
                0.. => {
                    sent.pods += segments;
                    overtaken = true;
                }
                _ if would_block(-result) && !overtaken => {
                    pods.put_back(packet);
                    outcome = Outcome::Blocked;
                    continue;
                }
                _ if would_block(-result) => sent.drop(segments, Dropped::PodsRefused),
                _ => {
                    let error = io::Error::from_raw_os_error(-result);
                    deleted |= is_deleted(&error);
                    sent.drop(segments, cause(&error));
                }
            }
            arena.put(packet.into_buf());
        }
        self.filled = 0;
        match deleted {
            true => Err(Deleted),
            false => Ok(outcome),
        }
    }

    /// Before the memory is freed: what the kernel may still read is given up instead, for good.
    pub(super) fn forget(&mut self) {
        if self.under_way > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// Whether it did not even begin.
fn would_block(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR | libc::ECANCELED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::Offload;

    /// Five packets under way, each with its number in its last byte.
    struct World {
        writes: Writes,
        pods: Batch<Packet>,
        arena: Arena,
        sent: Sent,
    }

    impl World {
        fn new() -> World {
            let mut world = World {
                writes: Writes::new(),
                pods: Batch::with_limit(8),
                arena: Arena::new(0, 8),
                sent: Sent::default(),
            };
            for number in 0..5 {
                let mut bytes = [0; 29];
                bytes[..4].copy_from_slice(&[0x45, 0, 0, 29]);
                bytes[8..10].copy_from_slice(&[64, 17]);
                bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
                bytes[24..26].copy_from_slice(&[0, 9]);
                bytes[28] = number;
                let sum = packet_sum(&bytes[..20]);
                bytes[10..12].copy_from_slice(&sum);
                let mut buf = world.arena.take().unwrap();
                buf.extend(&bytes);
                let packet = Packet::parse(buf, Offload::default()).unwrap();
                world.pods.push(packet).unwrap();
            }
            world.writes.fill(&mut world.pods);
            assert!(world.pods.is_empty() && !world.writes.are_over());
            world
        }

        fn settle(&mut self, results: [i32; 5]) -> Result<Outcome, Deleted> {
            // Completions may come in any order.
            for number in [4, 0, 3, 1, 2] {
                self.writes.note(number, results[number]);
            }
            assert!(self.writes.are_over());
            let World {
                writes,
                pods,
                arena,
                sent,
            } = self;
            writes.settle(pods, arena, sent)
        }

        /// What stands in the queue, and that no buffer is missing.
        fn left(&self) -> Vec<u8> {
            assert!(self.writes.is_idle());
            assert_eq!(self.arena.lent(), self.pods.len());
            self.pods.iter().map(|packet| packet.bytes()[28]).collect()
        }
    }

    fn packet_sum(header: &[u8]) -> [u8; 2] {
        let words = header
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    }

    #[test]
    fn what_would_block_stands_in_the_queue_again_in_order() {
        let mut world = World::new();
        let blocked = -libc::EAGAIN;
        let outcome = world.settle([39, 39, blocked, blocked, blocked]);
        assert_eq!(outcome, Ok(Outcome::Blocked));
        assert_eq!(world.left(), [2, 3, 4]);
        assert_eq!((world.sent.pods, world.sent.dropped), (2, [0; 7]));
    }

    #[test]
    fn nothing_is_sent_behind_what_was_queued_later() {
        let mut world = World::new();
        let blocked = -libc::EAGAIN;
        let outcome = world.settle([39, blocked, 39, blocked, -libc::ENOMEM]);
        assert_eq!(outcome, Ok(Outcome::Blocked));
        assert_eq!(world.left(), [3]);
        assert_eq!(world.sent.pods, 2);
        assert_eq!(world.sent.dropped(Dropped::PodsRefused), 2);
    }

    #[test]
    fn a_device_that_goes_on_the_way_is_told_and_every_packet_is_counted() {
        let mut world = World::new();
        let gone = -libc::EBADFD;
        assert_eq!(
            world.settle([39, -libc::EIO, gone, gone, gone]),
            Err(Deleted)
        );
        assert!(world.left().is_empty());
        assert_eq!(world.sent.pods, 1);
        assert_eq!(world.sent.dropped(Dropped::PodsDown), 4);
    }

    #[test]
    fn what_the_kernel_still_has_is_not_freed() {
        let mut world = World::new();
        for number in 0..4 {
            world.writes.note(number, 39);
        }
        assert!(!world.writes.are_over());
        world.writes.forget();
        // Nobody may tell that a buffer of these is free again.
        world.arena.mend();
        assert_eq!(world.arena.available(), 3);
    }
}
