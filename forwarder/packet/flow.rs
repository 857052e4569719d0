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
/// reverse of a request's flow is its reply's; other ICMP questions and answers have numbers for
/// their types, so that each type is a flow of its own, and so have later fragments of ICMP;
/// everything else has zeros.
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

/// What stands for the ports of ICMP messages that are neither echo nor errors: each type is a flow
/// of its own, so that one that may pass lets no other through, and an answer is the reverse of its
/// question. An echo's ports are the same at both ends, and these are not.
pub(crate) const fn icmp_ports(protocol: u8, kind: u8) -> (u16, u16) {
    const TYPES: u16 = 256;
    let asked = match (protocol, kind) {
        // RFC 792 (timestamp, information), RFC 950 (address mask), RFC 8335 (extended echo).
        (protocol::ICMP, 14 | 16 | 18 | 43) => Some(kind - 1),
        // RFC 4620 (node information), RFC 6275 (home agents), RFC 8335.
        (protocol::ICMPV6, 140 | 145 | 147 | 161) => Some(kind - 1),
        _ => None,
    };
    match asked {
        Some(question) => (TYPES + question as u16, 1),
        None => (1, TYPES + kind as u16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_reverse_of_its_question_and_of_nothing_else() {
        for (number, pairs) in [
            (
                protocol::ICMP,
                &[(13, 14), (15, 16), (17, 18), (42, 43)][..],
            ),
            (
                protocol::ICMPV6,
                &[(139, 140), (144, 145), (146, 147), (160, 161)],
            ),
        ] {
            for one in 0..=255u8 {
                for other in 0..=255 {
                    let (a, b) = icmp_ports(number, one);
                    let reverse = icmp_ports(number, other) == (b, a);
                    let pair = pairs.contains(&(one, other)) || pairs.contains(&(other, one));
                    assert_eq!(reverse, pair, "{number}: {one} and {other}");
                    assert_ne!(a, b, "no echo");
                }
            }
        }
    }
}
