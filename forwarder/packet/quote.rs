//! The packet that an ICMP error quotes: whose it was, and its translation back (RFC 5508 §4.2).

use crate::checksum::Sum;
use crate::header::{Fragment, Kind, be16};
use crate::rewrite::{End, adjust, write_address};
use crate::{Address, Flow, Packet, protocol};

/// What is known of a quoted packet, with places in bytes from the start of the outer packet.
#[derive(Clone, Copy)]
struct Quote {
    flow: Flow,
    /// Where the quoted IP header begins.
    network: usize,
    /// Where the quoted transport header begins.
    transport: usize,
}

impl Packet {
    /// The flow of the packet that this ICMP error quotes, as it stands there. `None` if this is
    /// no ICMP error, or the quote has no ports where there should be some.
    pub fn embedded(&self) -> Option<Flow> {
        self.quote().map(|quote| quote.flow)
    }

    /// Gives the quoted packet another source; for a quoted echo `port` is the identifier. The
    /// quoted checksums follow as far as they are quoted, and so does the ICMP checksum. Nothing
    /// happens where [`Packet::embedded`] is `None`.
    ///
    /// # Panics
    /// If `address` is not of the packet's family: our own bug.
    pub fn set_embedded_source(&mut self, address: Address, port: u16) {
        self.set_embedded_end(End::Source, address, port);
    }

    /// Gives the quoted packet another destination; all as for [`Packet::set_embedded_source`].
    ///
    /// # Panics
    /// If `address` is not of the packet's family: our own bug.
    pub fn set_embedded_destination(&mut self, address: Address, port: u16) {
        self.set_embedded_end(End::Destination, address, port);
    }

    fn quote(&self) -> Option<Quote> {
        if self.header.kind != Kind::IcmpError || self.header.fragment == Fragment::Later {
            return None;
        }
        let network = usize::from(self.header.payload);
        let quoted = &self.buf.as_slice()[network..];
        let v4 = self.header.is_v4();
        let (source, destination, number, length) = if v4 {
            read_v4(quoted)?
        } else {
            read_v6(quoted)?
        };
        let l4 = quoted.get(length..)?.first_chunk::<8>()?;
        let ports = match (v4, number) {
            (_, protocol::TCP | protocol::UDP | protocol::SCTP) => (be16(l4, 0), be16(l4, 2)),
            (true, protocol::ICMP) if matches!(l4[0], 0 | 8) => (be16(l4, 4), be16(l4, 4)),
            (false, protocol::ICMPV6) if matches!(l4[0], 128 | 129) => (be16(l4, 4), be16(l4, 4)),
            _ => (0, 0),
        };
        Some(Quote {
            flow: Flow {
                source,
                destination,
                source_port: ports.0,
                destination_port: ports.1,
                protocol: number,
            },
            network,
            transport: network + length,
        })
    }

    fn set_embedded_end(&mut self, end: End, address: Address, port: u16) {
        let Some(quote) = self.quote() else {
            return;
        };
        let v4 = self.header.is_v4();
        assert_eq!(v4, address.is_v4(), "translation keeps the family");
        let old = match end {
            End::Source => quote.flow.source,
            End::Destination => quote.flow.destination,
        };
        let outer = usize::from(self.header.transport);
        let bytes = self.buf.as_mut_slice();
        let quoted = &mut bytes[quote.network..];
        // All changes together change the ICMP message; the quoted IPv4 header with its own
        // checksum changes it by nothing but what the checksum's two zeros differ, so sum it all.
        let before = Sum::ZERO
            .bytes(changed(quoted, quote.transport - quote.network))
            .fold();
        let addresses = write_address(quoted, end, old, address);
        let l4 = &mut quoted[quote.transport - quote.network..];
        let ports = write_port(l4, &quote.flow, end, port);
        let (at, delta) = match (v4, quote.flow.protocol) {
            (_, protocol::TCP) => (16, addresses.plus(ports)),
            (_, protocol::UDP) => (6, addresses.plus(ports)),
            (true, protocol::ICMP) => (2, ports),
            (false, protocol::ICMPV6) => (2, addresses.plus(ports)),
            _ => (usize::MAX - 1, Sum::ZERO),
        };
        let is_quoted = l4.len() >= at.saturating_add(2);
        if is_quoted && !(quote.flow.protocol == protocol::UDP && be16(l4, at) == 0) {
            adjust(l4, at, delta);
            if quote.flow.protocol == protocol::UDP && be16(l4, at) == 0 {
                l4[at..at + 2].fill(0xff);
            }
        }
        let after = Sum::ZERO
            .bytes(changed(quoted, quote.transport - quote.network))
            .fold();
        adjust(bytes, outer + 2, Sum::ZERO.without(before).word(after));
    }
}

/// All that a translation may change: the quoted headers, an even number of bytes.
fn changed(quoted: &[u8], transport: usize) -> &[u8] {
    let end = quoted.len().min(transport + 20);
    &quoted[..end & !1]
}

fn write_port(l4: &mut [u8], flow: &Flow, end: End, port: u16) -> Sum {
    let is_echo = matches!(flow.protocol, protocol::ICMP | protocol::ICMPV6)
        && matches!(l4[0], 0 | 8 | 128 | 129);
    let at = match (flow.protocol, end) {
        (protocol::TCP | protocol::UDP | protocol::SCTP, End::Source) => 0,
        (protocol::TCP | protocol::UDP | protocol::SCTP, End::Destination) => 2,
        _ if is_echo => 4,
        _ => return Sum::ZERO,
    };
    let old = be16(l4, at);
    l4[at..at + 2].copy_from_slice(&port.to_be_bytes());
    Sum::ZERO.without(old).word(port)
}

/// Source, destination, protocol and header length of a quoted IPv4 header. Its length field and
/// checksum are not looked at: both may be wrong in honest quotes (RFC 1812 §4.3.2.3).
fn read_v4(quoted: &[u8]) -> Option<(Address, Address, u8, usize)> {
    let ip = quoted.first_chunk::<20>()?;
    let length = usize::from(ip[0] & 15) * 4;
    let is_later = be16(ip, 6) & 0x1fff != 0;
    if ip[0] >> 4 != 4 || length < 20 || is_later {
        return None;
    }
    let address = |at: usize| Address::from_v4([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
    Some((address(12), address(16), ip[9], length))
}

/// The same for IPv6, behind its extension headers.
fn read_v6(quoted: &[u8]) -> Option<(Address, Address, u8, usize)> {
    let ip = quoted.first_chunk::<40>()?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    let chain = crate::chain::quoted_v6(quoted, ip[6])?;
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&ip[at..at + 16]);
        Address::from_v6(octets)
    };
    let (source, destination) = (address(8), address(24));
    (!source.is_v4() && !destination.is_v4()).then_some((source, destination, chain.0, chain.1))
}
