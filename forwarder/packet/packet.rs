//! A checked packet: bytes, facts and offload that agree, whatever is done to it.

use crate::checksum::Sum;
use crate::header::{Fragment, Kind};
use crate::{Buf, Checksum, Header, Malformed, Offload, Segmentation, SegmentationKind};

/// One IP packet or super-packet. It is made only by [`Packet::parse`], so accessors cannot fail.
#[derive(Debug)]
pub struct Packet {
    pub(crate) buf: Buf,
    pub(crate) header: Header,
    pub(crate) offload: Offload,
    pub(crate) segments: u32,
}

impl Packet {
    /// Checks a frame. What lies behind the IP packet's end is cut off.
    ///
    /// A partial checksum that is not the packet's own transport's (an inner one of a tunnel that
    /// a pod made) is finished here; a super-packet of one segment becomes a plain packet.
    ///
    /// # Errors
    /// The buffer comes back with the reason.
    pub fn parse(mut buf: Buf, offload: Offload) -> Result<Packet, (Buf, Malformed)> {
        let header = match Header::parse(buf.as_slice()) {
            Ok(header) => header,
            Err(reason) => return Err((buf, reason)),
        };
        buf.truncate(header.length as usize);
        buf.set_stride(0);
        let mut packet = Packet::assemble(buf, header, offload);
        match packet.check_offload() {
            Ok(()) => Ok(packet),
            Err(reason) => Err((packet.buf, reason)),
        }
    }

    /// Puts together what is known to agree.
    #[inline]
    pub(crate) fn assemble(buf: Buf, header: Header, offload: Offload) -> Packet {
        let segments = match offload.segmentation {
            Some(Segmentation { size: 1.., .. }) => count(&header, &offload),
            _ => 1,
        };
        Packet {
            buf,
            header,
            offload,
            segments,
        }
    }

    fn check_offload(&mut self) -> Result<(), Malformed> {
        if let Some(segmentation) = self.offload.segmentation {
            let fits = match segmentation.kind {
                SegmentationKind::Tcp | SegmentationKind::TcpEcn => self.header.kind == Kind::Tcp,
                SegmentationKind::Udp => {
                    let at = usize::from(self.header.transport);
                    let bytes = self.buf.as_slice();
                    // All that is behind the header is its payload, so that cutting loses nothing.
                    self.header.kind == Kind::Udp
                        && bytes[at + 4..at + 6] == ((bytes.len() - at) as u16).to_be_bytes()
                }
            };
            if !fits || segmentation.size == 0 || self.header.fragment != Fragment::No {
                return Err(Malformed::Offload);
            }
            if self.segments <= 1 {
                self.offload.segmentation = None;
                self.segments = 1;
            }
        }
        if let Checksum::Partial { start, offset } = self.offload.checksum {
            let own = match self.header.kind {
                Kind::Tcp => Some(TCP_CHECKSUM),
                Kind::Udp => Some(UDP_CHECKSUM),
                _ => None,
            };
            let is_own = own == Some(offset)
                && start == self.header.transport
                && self.header.fragment == Fragment::No;
            if !is_own {
                return self.finish_inner_checksum(start, offset);
            }
        }
        Ok(())
    }

    fn finish_inner_checksum(&mut self, start: u16, offset: u16) -> Result<(), Malformed> {
        let at = usize::from(start) + usize::from(offset);
        // Behind what was read, so that no fact changes.
        let fits = start >= self.header.payload
            && at + 2 <= self.buf.len()
            && self.header.fragment == Fragment::No;
        if !fits || self.offload.segmentation.is_some() {
            return Err(Malformed::Offload);
        }
        finish(self.buf.as_mut_slice(), usize::from(start), at);
        self.offload.checksum = Checksum::Complete;
        Ok(())
    }

    /// Makes a partial checksum complete, in place. A super-packet keeps its partial one: each
    /// segment gets its own.
    pub fn finish_checksum(&mut self) {
        if self.offload.segmentation.is_some() {
            return;
        }
        if let Checksum::Partial { start, offset } = self.offload.checksum {
            let start = usize::from(start);
            finish(self.buf.as_mut_slice(), start, start + usize::from(offset));
            self.offload.checksum = Checksum::Complete;
        }
    }

    /// The facts.
    #[inline]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The IP packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buf.as_slice()
    }

    /// What is left undone.
    #[inline]
    pub fn offload(&self) -> &Offload {
        &self.offload
    }

    /// How many packets this is on a wire: 1, or more for a super-packet.
    #[inline]
    pub fn segments(&self) -> usize {
        self.segments as usize
    }

    /// Bytes of the longest packet that this is on a wire.
    #[inline]
    pub fn segment_length(&self) -> usize {
        match self.offload.segmentation {
            Some(segmentation) => usize::from(self.header.payload) + usize::from(segmentation.size),
            None => self.buf.len(),
        }
    }

    /// The buffer alone, to be sent or given home.
    #[inline]
    pub fn into_buf(self) -> Buf {
        self.buf
    }
}

/// Where the checksum lies in a TCP header (RFC 9293 §3.1).
pub(crate) const TCP_CHECKSUM: u16 = 16;
/// Where the checksum lies in a UDP header (RFC 768).
pub(crate) const UDP_CHECKSUM: u16 = 6;

/// How many packets this is on a wire.
pub(crate) fn count(header: &Header, offload: &Offload) -> u32 {
    let size = offload.segmentation.map_or(1, |s| u32::from(s.size));
    (header.payload_length() as u32).div_ceil(size).max(1)
}

/// What the kernel's `skb_checksum_help` does: the pseudo-header's sum is in the field already.
pub(crate) fn finish(bytes: &mut [u8], start: usize, at: usize) {
    let mut sum = Sum::ZERO.bytes(&bytes[start..]).checksum();
    // A UDP checksum of zero would mean that there is none (RFC 768); in TCP and others ffff is
    // the same number. The kernel writes ffff for all (CSUM_MANGLED_0).
    if sum == 0 {
        sum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
