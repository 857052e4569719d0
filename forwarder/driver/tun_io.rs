//! Reading and writing the frames of a TUN: one call a frame, which is never moved. A header that is
//! read stands in front of it, one that is written comes from a piece of memory of its own.

use std::io::{self, Read};
use std::os::fd::AsRawFd;

use packet::{Arena, Batch, Buf, FRAME_MAX, Frame, Offload, Packet, Segmenter};

use crate::engine::Outcome;
use crate::{Dropped, EngineError, Sent, Tun, vnet};

impl Tun {
    /// Reads one frame into `buf`, an empty one. `None`: nothing is there now.
    ///
    /// A frame whose header makes no sense comes as an empty one, for the core to refuse by name.
    pub(crate) fn receive(&self, mut buf: Buf) -> Result<Frame, (Buf, io::Error)> {
        let before = if self.has_header() { vnet::LENGTH } else { 0 };
        // The header goes into the head-room, and the frame where it would be without one.
        buf.grow_front(before);
        buf.truncate(0);
        let room = &mut buf.spare_mut()[..before + FRAME_MAX];
        match retry(|| (&self.file).read(room)) {
            Ok(read) => buf.grow_back(read),
            Err(error) => {
                buf.reset();
                return Err((buf, error));
            }
        }
        let offload = match buf.as_slice().first_chunk() {
            Some(header) if self.has_header() => vnet::parse(header),
            _ => Some(Offload::default()),
        };
        buf.shrink_front(before.min(buf.len()));
        if offload.is_none() {
            buf.truncate(0);
        }
        let offload = offload.unwrap_or_default();
        Ok(Frame { buf, offload })
    }

    /// Writes what is queued, oldest first, until nothing is left or the device takes no more.
    pub(crate) fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<Outcome, EngineError> {
        while let Some(packet) = pods.pop() {
            let segments = packet.segments();
            let done = self.segments_done;
            match self.write_packet(&packet) {
                Ok(()) => sent.pods += (segments - done) as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sent.pods += (self.segments_done - done) as u64;
                    pods.put_back(packet);
                    return Ok(Outcome::Blocked);
                }
                Err(error) => {
                    sent.pods += (self.segments_done - done) as u64;
                    sent.drop((segments - self.segments_done) as u64, cause(&error));
                    if is_deleted(&error) {
                        arena.put(packet.into_buf());
                        return Err(self.deleted());
                    }
                }
            }
            self.segments_done = 0;
            arena.put(packet.into_buf());
        }
        Ok(Outcome::Drained)
    }

    /// Writes one packet, as it is where the device takes it so, else segment by segment.
    fn write_packet(&mut self, packet: &Packet) -> io::Result<()> {
        let offload = packet.offload();
        let whole = match offload.segmentation {
            Some(segmentation) => self.takes(segmentation.kind),
            None => offload.checksum == packet::Checksum::Complete || self.has_header(),
        };
        if whole {
            let header = packet.header();
            let header = vnet::emit(offload, header.is_v4(), header.payload);
            return self.write(&header, packet.bytes());
        }
        let mut segmenter = Segmenter::new(packet);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut written = Ok(());
        let mut number = 0;
        while let Some(length) = segmenter.next(&mut scratch) {
            if number >= self.segments_done {
                // The segments that are finished need nothing more, so their header is zeros.
                written = self.write(&[0; vnet::LENGTH], &scratch[..length]);
                if written.is_err() {
                    break;
                }
                self.segments_done += 1;
            }
            number += 1;
        }
        self.scratch = scratch;
        written
    }

    fn write(&self, header: &[u8; vnet::LENGTH], frame: &[u8]) -> io::Result<()> {
        let iovecs = [
            libc::iovec {
                iov_base: header.as_ptr().cast_mut().cast(),
                iov_len: if self.has_header() { vnet::LENGTH } else { 0 },
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        retry(|| {
            // SAFETY: each iovec is pointer and length of a slice that outlives the call, and
            // writev only reads them.
            let written = unsafe { libc::writev(self.file.as_raw_fd(), iovecs.as_ptr(), 2) };
            usize::try_from(written).map_err(|_| io::Error::last_os_error())
        })
        .map(|_| ())
    }

    /// What the engine says when the interface is gone.
    pub(crate) fn deleted(&self) -> EngineError {
        EngineError::Deleted {
            name: self.name().to_owned(),
        }
    }
}

/// Whether the error says that the interface no longer exists: `tun_get` finds none (EBADFD), in
/// both directions.
pub(crate) fn is_deleted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// Why a frame was not taken.
pub(crate) fn cause(error: &io::Error) -> Dropped {
    match error.raw_os_error() {
        // `tun_get_user`: the interface is not up.
        Some(libc::EIO | libc::EBADFD) => Dropped::PodsDown,
        _ => Dropped::PodsRefused,
    }
}

/// Calls again while a signal interrupts.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
