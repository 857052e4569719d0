//! Reading and writing the frames of a TUN: one readv or writev a frame, with its header from a
//! piece of memory of its own, so that the frame itself is never moved.

use std::io;
use std::os::fd::AsRawFd;

use packet::{Arena, Batch, Buf, FRAME_MAX, Frame, Offload, Packet, Segmenter};

use crate::engine::Outcome;
use crate::{Dropped, EngineError, Sent, Tun, vnet};

impl Tun {
    /// Reads one frame into `buf`, an empty one. `None`: nothing is there now.
    ///
    /// A frame whose header makes no sense comes as an empty one, for the core to refuse by name.
    pub(crate) fn receive(&self, mut buf: Buf) -> Result<Frame, (Buf, io::Error)> {
        let mut header = [0; vnet::LENGTH];
        let skipped = if self.has_header() { vnet::LENGTH } else { 0 };
        let room = &mut buf.spare_mut()[..FRAME_MAX];
        let iovecs = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: skipped,
            },
            libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            },
        ];
        let read = retry(|| {
            // SAFETY: each iovec is pointer and length of a slice that we own alone and that
            // outlives the call.
            unsafe { libc::readv(self.file.as_raw_fd(), iovecs.as_ptr(), 2) }
        });
        let read = match read {
            Ok(read) => read,
            Err(error) => return Err((buf, error)),
        };
        let offload = if self.has_header() {
            vnet::parse(&header)
        } else {
            Some(Offload::default())
        };
        if let Some(offload) = offload {
            buf.grow_back(read.saturating_sub(skipped).min(FRAME_MAX));
            return Ok(Frame { buf, offload });
        }
        Ok(Frame {
            buf,
            offload: Offload::default(),
        })
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
            unsafe { libc::writev(self.file.as_raw_fd(), iovecs.as_ptr(), 2) }
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
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(bytes) => return Ok(bytes),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
