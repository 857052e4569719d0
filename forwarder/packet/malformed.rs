//! Why a packet is refused before anything else looks at it. One line each: counters, text and
//! documentation follow from this list.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// What is wrong with a packet that [`crate::Header::parse`] or [`crate::Packet::parse`]
        /// refuses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Malformed {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Malformed {
            /// Every reason, in the order of its number.
            pub const ALL: &[Malformed] = &[$(Malformed::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Malformed::ALL.len();

            /// The name as counters show it, in camelCase.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Malformed::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Shorter than its IP header, or than the IP header says (RFC 1812 §5.2.2).
    Truncated => "truncated",
    /// Neither IPv4 nor IPv6.
    Version => "version",
    /// IPv4 IHL under 5, or a total length under the IHL (RFC 1812 §5.2.2).
    HeaderLength => "headerLength",
    /// The IPv4 header checksum is wrong (RFC 1812 §5.2.2).
    HeaderChecksum => "headerChecksum",
    /// An IPv4 option with a length that cannot be (RFC 791 §3.1).
    Options => "options",
    /// Loose or strict source routing (RFC 7126 §4.3, §4.4), or an IPv6 routing header with
    /// segments left: policy would judge an address that is not the destination.
    SourceRoute => "sourceRoute",
    /// IPv6 routing header of type 0 (RFC 5095 §3).
    RoutingHeaderZero => "routingHeaderZero",
    /// A source that no host may have: multicast, loopback, 0/8, class E, unspecified
    /// (RFC 1812 §5.3.7, RFC 4291 §2.5.2, §2.5.3, §2.7).
    MartianSource => "martianSource",
    /// A destination that no packet on a wire may have: loopback, 0/8, class E but
    /// 255.255.255.255, unspecified (RFC 1812 §5.3.7).
    MartianDestination => "martianDestination",
    /// An IPv4-mapped IPv6 address on the wire (RFC 4942 §2.2).
    MappedAddress => "mappedAddress",
    /// The headers of a datagram are not all in its first fragment, or a fragment begins within
    /// the TCP header (RFC 1858 §3, RFC 3128, RFC 7112 §5).
    TinyFragment => "tinyFragment",
    /// A fragment without bytes, or with a successor and a length that is no multiple of eight
    /// (RFC 8200 §4.5).
    FragmentLength => "fragmentLength",
    /// A fragment that ends behind 65,535 bytes (RFC 8200 §4.5).
    FragmentEnd => "fragmentEnd",
    /// An extension header that ends behind the packet, or a fragment header within a fragment
    /// header (RFC 8200 §4).
    ExtensionHeader => "extensionHeader",
    /// A hop-by-hop header that is not the first (RFC 8200 §4.1).
    HopByHopOrder => "hopByHopOrder",
    /// More extension headers than anybody needs (RFC 8504 §5.3).
    ExtensionChain => "extensionChain",
    /// The packet ends within its transport header.
    TransportLength => "transportLength",
    /// A TCP data offset under 5 (RFC 9293 §3.1).
    TcpHeader => "tcpHeader",
    /// A UDP length under 8, or past the end of the packet (RFC 768).
    UdpLength => "udpLength",
    /// The device's word about checksum or segmentation does not fit the packet.
    Offload => "offload",
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_reason_is_its_place_in_the_list() {
        for (place, reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place, "{reason}");
        }
    }

    #[test]
    fn names_are_unique_camel_case() {
        for (place, reason) in Malformed::ALL.iter().enumerate() {
            let name = reason.name();
            assert!(name.bytes().all(|b| b.is_ascii_alphabetic()), "{name}");
            assert!(name.as_bytes()[0].is_ascii_lowercase(), "{name}");
            assert!(Malformed::ALL[..place].iter().all(|r| r.name() != name));
        }
    }
}
