//! What a router and a translator change in a packet, with every checksum kept right by its
//! difference (RFC 1624) and never by a new sum.

use crate::checksum::{self, Sum};
use crate::header::{Fragment, Kind, be16};
use crate::packet::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::{Address, Checksum, Packet};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

impl Packet {
    /// Gives it another source. `port` is ignored where its kind has none; for ICMP echo it is the
    /// identifier, which is both ports.
    ///
    /// SCTP's CRC is made anew, as the kernel's NAT does it; that of a first fragment cannot be, so
    /// the receiver drops such a datagram if its port changed.
    ///
    /// # Panics
    /// If `address` is not of the packet's family: our own bug.
    pub fn set_source(&mut self, address: Address, port: u16) {
        self.set_end(End::Source, address, port);
    }

    /// Gives it another destination; all as for [`Packet::set_source`].
    ///
    /// # Panics
    /// If `address` is not of the packet's family: our own bug.
    pub fn set_destination(&mut self, address: Address, port: u16) {
        self.set_end(End::Destination, address, port);
    }

    /// Whether this is UDP over IPv6 without a checksum, which only the ends of a tunnel may send
    /// each other (RFC 6936 §5): nothing would tell that a translation went wrong.
    #[inline]
    pub fn lacks_checksum_v6(&self) -> bool {
        if self.header.is_v4() || self.header.kind != Kind::Udp {
            return false;
        }
        let at = usize::from(self.header.transport) + usize::from(UDP_CHECKSUM);
        self.offload.checksum == Checksum::Complete && be16(self.bytes(), at) == 0
    }

    /// Counts down the time to live or hop limit, which is over 1 beforehand.
    pub fn decrement_ttl(&mut self) {
        debug_assert!(self.header.ttl > 1, "who lets a packet die answers it");
        self.header.ttl = self.header.ttl.saturating_sub(1);
        let ttl = self.header.ttl;
        if self.header.is_v4() {
            self.replace_v4_header_word(8, |word| (word & 0x00ff) | (u16::from(ttl) << 8));
        } else {
            self.buf.as_mut_slice()[7] = ttl;
        }
    }

    /// Sets the ECN field to the lower two bits of `ecn` (RFC 3168 §5).
    pub fn set_ecn(&mut self, ecn: u8) {
        let class = (self.header.traffic_class & !3) | (ecn & 3);
        self.header.traffic_class = class;
        if self.header.is_v4() {
            self.replace_v4_header_word(0, |word| (word & 0xff00) | u16::from(class));
        } else {
            let bytes = self.buf.as_mut_slice();
            bytes[0] = (bytes[0] & 0xf0) | (class >> 4);
            bytes[1] = (bytes[1] & 0x0f) | (class << 4);
        }
    }

    fn replace_v4_header_word(&mut self, at: usize, change: impl Fn(u16) -> u16) {
        let bytes = self.buf.as_mut_slice();
        let old = be16(bytes, at);
        let new = change(old);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        adjust(bytes, 10, Sum::ZERO.without(old).word(new));
    }

    fn set_end(&mut self, end: End, address: Address, port: u16) {
        let v4 = self.header.is_v4();
        assert_eq!(v4, address.is_v4(), "translation keeps the family");
        let flow = &mut self.header.flow;
        let old = match end {
            End::Source => core::mem::replace(&mut flow.source, address),
            End::Destination => core::mem::replace(&mut flow.destination, address),
        };
        let addresses = write_address(self.buf.as_mut_slice(), end, old, address);
        if self.header.fragment == Fragment::Later {
            return;
        }
        let ports = self.write_port(end, port);
        let at = usize::from(self.header.transport);
        let bytes = self.buf.as_mut_slice();
        match self.header.kind {
            Kind::Tcp | Kind::Udp => match self.offload.checksum {
                Checksum::Partial { start, offset } => {
                    // The field holds the pseudo-header's sum, which has no ports.
                    let at = usize::from(start) + usize::from(offset);
                    let sum = addresses.word(be16(bytes, at)).fold();
                    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                }
                Checksum::Complete if self.header.kind == Kind::Tcp => {
                    adjust(bytes, at + usize::from(TCP_CHECKSUM), addresses.plus(ports));
                }
                Checksum::Complete => {
                    adjust_udp(bytes, at + usize::from(UDP_CHECKSUM), addresses.plus(ports));
                }
            },
            Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError | Kind::Icmp(_) => {
                // ICMP has no pseudo-header, ICMPv6 has (RFC 4443 §2.3).
                let delta = if v4 { ports } else { addresses.plus(ports) };
                adjust(bytes, at + 2, delta);
            }
            Kind::Sctp if self.header.fragment == Fragment::No => finish_sctp(&mut bytes[at..]),
            Kind::Other if has_pseudo_header(self.header.flow.protocol) => {
                let at = at + usize::from(UDP_CHECKSUM);
                if bytes.len() >= at + 2 {
                    adjust_udp(bytes, at, addresses);
                }
            }
            Kind::Sctp | Kind::Other | Kind::Unreadable => {}
        }
    }

    /// Writes the port or identifier into the transport header and the flow; what it changed.
    fn write_port(&mut self, end: End, port: u16) -> Sum {
        let flow = &mut self.header.flow;
        let at = usize::from(self.header.transport);
        let at = match (self.header.kind, end) {
            (Kind::Tcp | Kind::Udp | Kind::Sctp, End::Source) => {
                flow.source_port = port;
                at
            }
            (Kind::Tcp | Kind::Udp | Kind::Sctp, End::Destination) => {
                flow.destination_port = port;
                at + 2
            }
            (Kind::EchoRequest | Kind::EchoReply, _) => {
                flow.source_port = port;
                flow.destination_port = port;
                at + 4
            }
            _ => return Sum::ZERO,
        };
        let bytes = self.buf.as_mut_slice();
        let old = be16(bytes, at);
        bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
        Sum::ZERO.without(old).word(port)
    }
}

/// Writes an address into the IP header that `bytes` begin with; what it changed.
pub(crate) fn write_address(bytes: &mut [u8], end: End, old: Address, new: Address) -> Sum {
    match (old.v4(), new.v4()) {
        (Some(old), Some(new)) => {
            let at = if end == End::Source { 12 } else { 16 };
            bytes[at..at + 4].copy_from_slice(&new);
            let delta = Sum::ZERO.without_bytes(&old).bytes(&new);
            adjust(bytes, 10, delta);
            delta
        }
        _ => {
            let at = if end == End::Source { 8 } else { 24 };
            bytes[at..at + 16].copy_from_slice(new.octets());
            Sum::ZERO.without_bytes(old.octets()).bytes(new.octets())
        }
    }
}

/// Transports whose ports we leave alone, but whose checksum, where UDP has its own, covers the
/// addresses (RFC 3828 §3.1, RFC 4340 §9.1).
pub(crate) fn has_pseudo_header(number: u8) -> bool {
    const DCCP: u8 = 33;
    const UDP_LITE: u8 = 136;
    matches!(number, DCCP | UDP_LITE)
}

/// SCTP has a CRC, in the byte order of its registers (RFC 9260 Appendix A).
fn finish_sctp(sctp: &mut [u8]) {
    sctp[8..12].fill(0);
    let crc = checksum::crc32c(sctp);
    sctp[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// A complete checksum at `at` follows a change.
pub(crate) fn adjust(bytes: &mut [u8], at: usize, delta: Sum) {
    let new = checksum::update(be16(bytes, at), delta);
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// The same for UDP, where zero means none and must not come to mean it (RFC 768).
pub(crate) fn adjust_udp(bytes: &mut [u8], at: usize, delta: Sum) {
    let old = be16(bytes, at);
    if old == 0 {
        return;
    }
    let new = match checksum::update(old, delta) {
        0 => 0xffff,
        new => new,
    };
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
}
