//! What tells one conversation from another.

use crate::Address;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers") that we look into.
pub mod protocol {
    /// ICMP for IPv4, RFC 792.
    pub const ICMP: u8 = 1;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// Authentication header, RFC 4302.
    pub const AH: u8 = 51;
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// The five-tuple of a packet, as it stands in the packet.
///
/// TCP, UDP and SCTP have their ports here; ICMP echo has its identifier in both, so that the
/// reverse of a request's flow is its reply's; everything else has zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// IP protocol number; for IPv6 that of the last header of the chain.
    pub protocol: u8,
}

impl Flow {
    /// The flow of the answers.
    #[inline]
    pub const fn reverse(&self) -> Flow {
        Flow {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}
