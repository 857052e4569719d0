//! The packet that an ICMP error quotes: whose it was, and its translation back (RFC 5508 §4.2).

use crate::checksum::Sum;
use crate::flow::icmp_ports;
use crate::header::{Fragment, Kind, be16, be32, icmp_kind};
use crate::rewrite::{End, adjust, adjust_udp, has_pseudo_header, write_address};
use crate::{Address, Flow, Header, Packet, protocol};

/// What is known of a quoted packet, with places in bytes from the start of its IP header.
#[derive(Clone, Copy)]
struct Quote {
    flow: Flow,
    /// Where the transport header begins; eight bytes of it are there.
    transport: usize,
    ports: Ports,
}

/// Where the ports of a quoted packet are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// The first four bytes of the transport header.
    Two,
    /// The identifier of an echo, which is both.
    Identifier,
    None,
}

impl Packet {
    /// The flow of the packet that this ICMP error quotes, as it stands there. `None` if this is
    /// no ICMP error, or the quote has no ports where there should be some.
    pub fn embedded(&self) -> Option<Flow> {
        self.quote().map(|quote| quote.flow)
    }

    /// The sequence number of the TCP segment that this ICMP error quotes; `None` where it quotes
    /// something else.
    pub fn embedded_sequence(&self) -> Option<u32> {
        let quote = self.quote()?;
        let quoted = &self.buf.as_slice()[usize::from(self.header.payload)..];
        (quote.flow.protocol == protocol::TCP).then(|| be32(quoted, quote.transport + 4))
    }

    /// What an ICMPv6 "packet too big" says that passes, in bytes (RFC 4443 §3.2); `None` where
    /// this is none.
    pub fn too_big_v6(&self) -> Option<u32> {
        const PACKET_TOO_BIG: u8 = 2;
        let Header {
            kind,
            fragment,
            transport,
            ..
        } = self.header;
        if self.header.is_v4() || kind != Kind::IcmpError || fragment == Fragment::Later {
            return None;
        }
        let at = usize::from(transport);
        (self.bytes()[at] == PACKET_TOO_BIG).then(|| be32(self.bytes(), at + 4))
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
        let quoted = &self.buf.as_slice()[usize::from(self.header.payload)..];
        let v4 = self.header.is_v4();
        let (source, destination, number, transport) = if v4 {
            read_v4(quoted)?
        } else {
            read_v6(quoted)?
        };
        let l4 = quoted.get(transport..)?.first_chunk::<8>()?;
        let icmp = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let ports = match (v4, number) {
            (_, protocol::TCP | protocol::UDP | protocol::SCTP) => Ports::Two,
            (true, protocol::ICMP) if matches!(l4[0], 0 | 8) => Ports::Identifier,
            (false, protocol::ICMPV6) if matches!(l4[0], 128 | 129) => Ports::Identifier,
            _ => Ports::None,
        };
        let (source_port, destination_port) = match ports {
            Ports::Two => (be16(l4, 0), be16(l4, 2)),
            Ports::Identifier => (be16(l4, 4), be16(l4, 4)),
            Ports::None => match icmp_kind(number, l4[0]) {
                Kind::Icmp(kind) if number == icmp => icmp_ports(icmp, kind),
                _ => (0, 0),
            },
        };
        Some(Quote {
            flow: Flow {
                source,
                destination,
                source_port,
                destination_port,
                protocol: number,
            },
            transport,
            ports,
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
        let (head, quoted) = self
            .buf
            .as_mut_slice()
            .split_at_mut(usize::from(self.header.payload));
        // What may change is summed before and after: simpler than the sum of all differences, of
        // which the checksums within are some.
        let changed = quoted.len().min(quote.transport + 20) & !1;
        let before = Sum::ZERO.bytes(&quoted[..changed]).fold();
        let addresses = write_address(quoted, end, old, address);
        let l4 = &mut quoted[quote.transport..];
        let ports = write_port(l4, quote.ports, end, port);
        match (v4, quote.flow.protocol) {
            (_, protocol::TCP) if l4.len() >= 18 => adjust(l4, 16, addresses.plus(ports)),
            (_, protocol::UDP) => adjust_udp(l4, 6, addresses.plus(ports)),
            (true, protocol::ICMP) => adjust(l4, 2, ports),
            (false, protocol::ICMPV6) => adjust(l4, 2, addresses.plus(ports)),
            (_, number) if has_pseudo_header(number) => adjust_udp(l4, 6, addresses),
            _ => {}
        }
        let after = Sum::ZERO.bytes(&quoted[..changed]).fold();
        adjust(head, outer + 2, Sum::ZERO.without(before).word(after));
    }
}

fn write_port(l4: &mut [u8], ports: Ports, end: End, port: u16) -> Sum {
    let at = match (ports, end) {
        (Ports::Two, End::Source) => 0,
        (Ports::Two, End::Destination) => 2,
        (Ports::Identifier, _) => 4,
        (Ports::None, _) => return Sum::ZERO,
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
