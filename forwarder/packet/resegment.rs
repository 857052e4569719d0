//! TCP cut smaller than its sender cut it. Where a way carries less than the 1,280 bytes that IPv6
//! promises, whoever runs it has to cut and join beneath IP (RFC 8200 §5), and "packet too big"
//! with less is ignored (RFC 8201 §4): a connection that began while the way was wider would stall.
//! Of TCP no joining is needed: its segments may be cut anywhere (RFC 9293 §3.8).

use crate::checksum::Sum;
use crate::coalesce::has_right_checksum;
use crate::header::{Fragment, Kind, tcp_flag};
use crate::packet::{TCP_CHECKSUM, count};
use crate::tcp_options::TcpOptions;
use crate::{Checksum, Packet, Segmentation, SegmentationKind};

/// The TCP header without options.
const TCP_HEADER: usize = 20;
/// Options that sign the segment as it was sent: MD5 (RFC 2385) and TCP-AO (RFC 5925).
const SIGNATURES: [u8; 2] = [19, 29];
/// The least payload that a segment is cut to, in bytes.
const PAYLOAD_MIN: usize = 64;

impl Packet {
    /// Whether the segments of this packet can be cut so that none is longer than `mtu` bytes, and
    /// its receiver cannot tell: TCP data without anything that counts for one whole segment (SYN,
    /// RST, an urgent pointer, a signature), and with a right checksum, since each piece gets one
    /// of its own.
    pub fn can_resegment(&self, mtu: usize) -> bool {
        let header = &self.header;
        let (start, end) = (usize::from(header.transport), usize::from(header.payload));
        if header.kind != Kind::Tcp
            || header.fragment != Fragment::No
            || header.tcp_flags & (tcp_flag::SYN | tcp_flag::RST | tcp_flag::URG) != 0
            || header.payload_length() == 0
            || mtu < end + PAYLOAD_MIN
        {
            return false;
        }
        let tcp = &self.bytes()[start..];
        let mut options = TcpOptions::new(&tcp[TCP_HEADER..end - start]);
        options.all(|option| option.is_ok_and(|option| !SIGNATURES.contains(&option.kind)))
            && (self.offload.checksum != Checksum::Complete
                || self.offload.segmentation.is_some()
                || has_right_checksum(tcp, &header.flow))
    }

    /// Makes this a super-packet whose segments are at most `mtu` bytes long; nothing happens where
    /// they are already, or where [`Packet::can_resegment`] says no.
    pub fn resegment(&mut self, mtu: usize) {
        if self.segment_length() <= mtu || !self.can_resegment(mtu) {
            return;
        }
        let before = self.offload.segmentation;
        self.offload.segmentation = Some(Segmentation {
            kind: before.map_or(SegmentationKind::Tcp, |before| before.kind),
            size: (mtu - usize::from(self.header.payload)) as u16,
        });
        if self.offload.checksum == Checksum::Complete {
            self.begin_checksum();
        }
        self.segments = count(&self.header, &self.offload);
    }

    /// Leaves a complete TCP checksum to whoever cuts the packet.
    fn begin_checksum(&mut self) {
        let start = usize::from(self.header.transport);
        let flow = self.header.flow;
        let length = (self.buf.len() - start) as u32;
        let pseudo = Sum::pseudo_header(flow.source, flow.destination, flow.protocol, length);
        let at = start + usize::from(TCP_CHECKSUM);
        self.buf.as_mut_slice()[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        self.offload.checksum = Checksum::Partial {
            start: self.header.transport,
            offset: TCP_CHECKSUM,
        };
    }
}
