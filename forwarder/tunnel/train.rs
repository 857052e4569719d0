//! Trains of sealed messages: what goes to one address in one `UDP_SEGMENT` call. Frames are of
//! one length; a shorter one ends its train (Linux `net/ipv4/udp_offload.c`).

use packet::{Buf, Datagrams, Path};

use crate::outbox::Outbox;
use crate::refused::Refused;

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

/// The train for the next frame of at most `size` bytes: the last one, if it may join that, or a
/// new one. Write the frame to its [`Buf::spare_mut`], then [`finish`].
///
/// # Errors
/// Why there is none.
#[inline]
pub(crate) fn room(out: &mut Outbox, way: Way, size: usize) -> Result<&mut Buf, Refused> {
    let joins = out.wire.last_mut().is_some_and(|last| {
        last.path == way.path
            && last.ecn == way.ecn
            && last.lane == way.lane
            && takes(&last.buf, size)
    });
    if !joins {
        if size > BYTES_MAX {
            return Err(Refused::TooLong);
        }
        if out.wire.is_full() {
            return Err(Refused::WireFull);
        }
        let train = Datagrams {
            lane: way.lane,
            path: way.path,
            ecn: way.ecn,
            buf: out.arena.take().ok_or(Refused::BufferMissing)?,
        };
        out.wire.push(train).expect("the batch is not full");
    }
    let last = out.wire.last_mut().expect("there is a last train");
    Ok(&mut last.buf)
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
        && length % stride == 0
        && length / stride < FRAMES_MAX
}
