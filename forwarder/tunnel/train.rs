//! Trains of sealed messages: what goes to one address in one `UDP_SEGMENT` call. Frames are of
//! one length; a shorter one ends its train (Linux `net/ipv4/udp_offload.c`).

use alloc::sync::Arc;

use packet::{Arena, Buf, Datagrams, Path};

use crate::crypto::Cipher;
use crate::outbox::Outbox;
use crate::refused::Refused;
use crate::unsealed::{Sealing, Unsealed};

/// Most frames of a train (Linux `UDP_MAX_SEGMENTS` of the oldest kernels that have it).
const FRAMES_MAX: usize = 64;
/// Most bytes of a train: the largest payload of a UDP datagram on IPv4.
pub(crate) const BYTES_MAX: usize = 65_507;

/// Where a message goes, and how it is marked.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) lane: u16,
    pub(crate) path: Path,
    pub(crate) ecn: u8,
}

impl Way {
    /// Whether a frame of `size` bytes may join a train.
    #[inline]
    fn joins(self, train: &Datagrams, size: usize) -> bool {
        train.path == self.path
            && train.ecn == self.ecn
            && train.lane == self.lane
            && takes(&train.buf, size)
    }
}

/// The train for the next frame of at most `size` bytes: the last one, if it may join that, or a
/// new one. Write the frame to its [`Buf::spare_mut`], then [`finish`].
///
/// # Errors
/// Why there is none.
#[inline]
pub(crate) fn room(out: &mut Outbox, way: Way, size: usize) -> Result<&mut Buf, Refused> {
    if out.sealing != Sealing::AtOnce {
        return room_behind(out, way, size, None);
    }
    let joins = out
        .wire
        .last_mut()
        .is_some_and(|last| way.joins(last, size));
    if !joins {
        let train = begin(&mut out.arena, out.wire.is_full(), way, size)?;
        out.wire.push(train).expect("the batch is not full");
    }
    let last = out.wire.last_mut().expect("there is a last train");
    Ok(&mut last.buf)
}

/// The same among the trains that are still to be sealed, for a frame that is to be sealed by
/// `cipher`, or is sealed already.
///
/// # Errors
/// Why there is none.
#[inline]
pub(crate) fn room_behind<'o>(
    out: &'o mut Outbox,
    way: Way,
    size: usize,
    cipher: Option<&Arc<Cipher>>,
) -> Result<&'o mut Buf, Refused> {
    let joins = out.unsealed.last_mut().is_some_and(|last| {
        last.cipher.as_ref().map(Arc::as_ptr) == cipher.map(Arc::as_ptr)
            && way.joins(&last.train, size)
    });
    if !joins {
        let is_full = out.room() == 0;
        let train = begin(&mut out.arena, is_full, way, size)?;
        let cipher = cipher.cloned();
        let train = Unsealed { train, cipher };
        out.unsealed.push(train).expect("the batch is not full");
    }
    let last = out.unsealed.last_mut().expect("there is a last train");
    Ok(&mut last.train.buf)
}

/// An empty train for a frame of `size` bytes.
#[inline]
fn begin(arena: &mut Arena, is_full: bool, way: Way, size: usize) -> Result<Datagrams, Refused> {
    if size > BYTES_MAX {
        return Err(Refused::TooLong);
    }
    if is_full {
        return Err(Refused::WireFull);
    }
    Ok(Datagrams {
        lane: way.lane,
        path: way.path,
        ecn: way.ecn,
        buf: arena.take().ok_or(Refused::BufferMissing)?,
    })
}

/// Ends a frame of `size` bytes that was written behind the train.
#[inline]
pub(crate) fn finish(train: &mut Buf, size: usize) {
    let first = train.is_empty();
    train.grow_back(size);
    if first {
        train.set_stride(size);
    }
}

#[inline]
fn takes(train: &Buf, size: usize) -> bool {
    let (stride, length) = (train.stride(), train.len());
    (1..=stride).contains(&size)
        && length + size <= BYTES_MAX
        // Where the kernel took only the first of its frames, the rest no longer begins in front.
        && size <= train.tail_room()
        && length % stride == 0
        && length / stride < FRAMES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn behind_what_the_kernel_left_of_a_train_no_more_joins_than_its_buffer_holds() {
        const SIZE: usize = 1_452;
        let way = Way {
            lane: 0,
            path: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into(),
            ecn: 0,
        };
        let mut out = Outbox::new(0, 4, 4);
        let join = |out: &mut Outbox| {
            let train = room(out, way, SIZE).expect("a buffer is free");
            train.spare_mut()[..SIZE].fill(1);
            finish(train, SIZE);
        };
        for _ in 0..44 {
            join(&mut out);
        }
        let mut train = out.wire.pop().expect("one train");
        assert!(out.wire.pop().is_none());
        train.buf.shrink_front(2 * SIZE);
        out.wire.put_back(train);
        for _ in 0..4 {
            join(&mut out);
        }
        let frames: Vec<usize> = out.wire.iter().map(|train| train.buf.frames()).collect();
        assert_eq!(frames, [43, 3]);
    }
}
