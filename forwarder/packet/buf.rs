//! Unique ownership of one frame, and where frames come from.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use bytes::BytesMut;

/// Free bytes in front of a fresh frame: room for a tunnel header, or for a longer IP header.
pub const HEADROOM: usize = 128;
/// The longest frame or train: what a TUN or UDP_GRO hands out at once, 64 KiB.
pub const FRAME_MAX: usize = 65_536;
/// Free bytes behind the longest frame: padding (15) and tag (16) of a sealed packet, rounded up.
pub const TAILROOM: usize = 64;
const CAPACITY: usize = HEADROOM + FRAME_MAX + TAILROOM;

const _: () = assert!(
    HEADROOM >= 16 + 40,
    "a tunnel header and an IPv6 header must fit in front"
);
const _: () = assert!(TAILROOM >= 15 + 16, "padding and tag must fit behind");

/// One frame, or one train of frames of equal length (the last may be shorter), as UDP_GRO hands
/// them out and UDP_SEGMENT takes them.
///
/// It is made by an [`Arena`] and goes back to the arena it came from, never to the allocator. One
/// that is dropped all the same, with a worker that died, tells its home, which makes another.
pub struct Buf {
    // Its part of the arena's one allocation.
    storage: BytesMut,
    start: u32,
    length: u32,
    stride: u32,
    home: Arc<Home>,
}

/// Where buffers are from. All of an arena's share one, so it is also what tells them from those of
/// an arena before it; nothing of it is written on a packet's way.
#[derive(Debug)]
struct Home {
    worker: u16,
    /// Buffers that were dropped, wherever that was.
    lost: AtomicU32,
}

impl Buf {
    fn new(home: Arc<Home>, storage: BytesMut) -> Buf {
        Buf {
            storage,
            start: HEADROOM as u32,
            length: 0,
            stride: 0,
            home,
        }
    }

    /// Makes it empty, with its whole head-room and tail-room; the bytes stay as they are.
    #[inline]
    pub fn reset(&mut self) {
        self.start = HEADROOM as u32;
        self.length = 0;
        self.stride = 0;
    }

    /// The worker whose arena this is from.
    #[inline]
    pub fn home(&self) -> u16 {
        self.home.worker
    }

    /// Length of the frame or train in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes of the frame or train.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start as usize..][..self.length as usize]
    }

    /// The same, to be written.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start as usize..][..self.length as usize]
    }

    /// All that lies behind the frame's end, to be filled before [`Buf::grow_back`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.storage[(self.start + self.length) as usize..]
    }

    /// How many bytes are free behind the frame's end.
    #[inline]
    pub fn tail_room(&self) -> usize {
        self.storage.len() - (self.start + self.length) as usize
    }

    /// Makes the frame longer at its end by `bytes` that were written to [`Buf::spare_mut`].
    ///
    /// # Panics
    /// If there is no such room: our own bug.
    #[inline]
    pub fn grow_back(&mut self, bytes: usize) {
        assert!(bytes <= self.tail_room(), "no tail-room");
        self.length += bytes as u32;
    }

    /// Makes the frame longer at its front by `bytes`, whose content is what was there before.
    ///
    /// # Panics
    /// If there is no such room: our own bug.
    #[inline]
    pub fn grow_front(&mut self, bytes: usize) {
        assert!(bytes <= self.start as usize, "no head-room");
        self.start -= bytes as u32;
        self.length += bytes as u32;
    }

    /// Cuts `bytes` off the front.
    ///
    /// # Panics
    /// If it is not that long: our own bug.
    #[inline]
    pub fn shrink_front(&mut self, bytes: usize) {
        assert!(bytes <= self.length as usize, "shrunk below nothing");
        self.start += bytes as u32;
        self.length -= bytes as u32;
    }

    /// Cuts it down to `length` bytes from its front; a longer length changes nothing.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length.min(u32::MAX as usize) as u32);
    }

    /// Appends a copy of `bytes`.
    ///
    /// # Panics
    /// If there is no such room: our own bug.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u32;
    }

    /// Length of each frame of the train but the last, in bytes; the whole length where it is one
    /// frame.
    #[inline]
    pub fn stride(&self) -> usize {
        if self.stride == 0 {
            self.length as usize
        } else {
            self.stride as usize
        }
    }

    /// Makes it a train of frames of `stride` bytes each; 0 makes it one frame.
    #[inline]
    pub fn set_stride(&mut self, stride: usize) {
        self.stride = stride as u32;
    }

    /// How many frames are in it: 1, or more for a train; 0 when it is empty.
    #[inline]
    pub fn frames(&self) -> usize {
        if self.length == 0 {
            0
        } else {
            self.len().div_ceil(self.stride())
        }
    }

    /// The frames of the train, in order.
    #[inline]
    pub fn frames_mut(&mut self) -> core::slice::ChunksMut<'_, u8> {
        let stride = self.stride().max(1);
        self.as_mut_slice().chunks_mut(stride)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.home.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl core::fmt::Debug for Buf {
    // Never its bytes: they may be somebody's secrets.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Buf")
            .field("length", &self.length)
            .field("stride", &self.stride())
            .field("home", &self.home.worker)
            .finish()
    }
}

/// The buffers of one worker: made at start, then only lent and given back.
#[derive(Debug)]
pub struct Arena {
    // Last in, first out: the buffer that was used last is still in the cache.
    free: Vec<Buf>,
    /// Other workers' buffers that wait to be sent home.
    foreign: Vec<Buf>,
    home: Arc<Home>,
    total: usize,
}

impl Arena {
    /// An arena of `buffers` buffers for worker `home`. The system gives their pages on first use:
    /// they are one allocation, which a C library maps afresh, where it would clear by hand what it
    /// cuts from its heap (an idle worker of 512 buffers then held 24 MB of zeros).
    pub fn new(home: u16, buffers: usize) -> Arena {
        let home = Arc::new(Home {
            worker: home,
            lost: AtomicU32::new(0),
        });
        let mut all = BytesMut::zeroed(buffers * CAPACITY);
        let free = (0..buffers).map(|_| Buf::new(home.clone(), all.split_to(CAPACITY)));
        Arena {
            free: free.collect(),
            foreign: Vec::with_capacity(buffers),
            home,
            total: buffers,
        }
    }

    /// Lends an empty buffer; `None` when all are out, which bounds what can be queued anywhere.
    #[inline]
    pub fn take(&mut self) -> Option<Buf> {
        self.free.pop()
    }

    /// Takes a buffer back. One of another worker's is set aside, until it is sent home.
    #[inline]
    pub fn put(&mut self, mut buf: Buf) {
        if !Arc::ptr_eq(&buf.home, &self.home) {
            return self.set_aside(buf);
        }
        buf.reset();
        self.free.push(buf);
    }

    /// The next buffer of another worker's that was put here, to be sent to [`Buf::home`]. Whoever
    /// cannot send it drops it, and its home makes another.
    #[inline]
    pub fn take_foreign(&mut self) -> Option<Buf> {
        self.foreign.pop()
    }

    /// Makes those buffers anew that were dropped instead of coming home: what a worker held that
    /// died. It allocates only then. What was lost of the first allocation stays mapped, once and
    /// for all at most its whole size; later ones are freed as they are lost.
    pub fn mend(&mut self) {
        if self.home.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        for _ in 0..self.home.lost.swap(0, Ordering::Relaxed) {
            let storage = BytesMut::zeroed(CAPACITY);
            self.free.push(Buf::new(self.home.clone(), storage));
        }
    }

    /// How many can be taken now.
    #[inline]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// How many are out.
    #[inline]
    pub fn lent(&self) -> usize {
        self.total - self.free.len()
    }

    /// How many of other workers' wait to be sent home.
    #[inline]
    pub fn foreign(&self) -> usize {
        self.foreign.len()
    }

    #[cold]
    fn set_aside(&mut self, buf: Buf) {
        // One with our own number is from the arena of a worker that died, and has no home.
        let has_home = buf.home.worker != self.home.worker;
        if has_home && self.foreign.len() < self.total {
            self.foreign.push(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_another_worker_is_set_aside_and_taken_back_by_its_home() {
        let (mut one, mut two) = (Arena::new(0, 2), Arena::new(1, 2));
        let buf = one.take().expect("two are free");
        two.put(buf);
        assert_eq!((one.lent(), two.available(), two.foreign()), (1, 2, 1));
        let buf = two.take_foreign().expect("it was put there");
        assert_eq!(buf.home(), 0);
        one.put(buf);
        assert_eq!((one.lent(), two.foreign()), (0, 0));
    }

    #[test]
    fn what_a_worker_held_that_died_is_made_anew() {
        let (mut one, mut two) = (Arena::new(0, 4), Arena::new(1, 4));
        for _ in 0..3 {
            two.put(one.take().expect("four are free"));
        }
        one.mend();
        assert_eq!(one.available(), 1, "they may still come home");
        drop(two);
        one.mend();
        assert_eq!((one.available(), one.lent()), (4, 0));
        assert!(one.take().is_some_and(|buf| buf.home() == 0));
    }

    #[test]
    fn a_buffer_that_outlives_its_arena_is_freed_by_the_next_one() {
        let mut before = Arena::new(0, 2);
        let late = before.take().expect("two are free");
        drop(before);
        let mut after = Arena::new(0, 2);
        after.put(late);
        assert_eq!((after.available(), after.foreign()), (2, 0));
        after.mend();
        assert_eq!(after.available(), 2, "it was never one of these");
    }

    #[test]
    fn no_more_foreign_buffers_are_kept_than_there_are_own_ones() {
        let (mut one, mut two) = (Arena::new(0, 8), Arena::new(1, 2));
        for _ in 0..8 {
            two.put(one.take().expect("eight are free"));
        }
        assert_eq!(two.foreign(), 2);
        one.mend();
        assert_eq!(one.available(), 6, "what was not kept is made anew");
    }
}
