//! Everything unusual between the IP header and the transport: IPv4 options and fragments, and the
//! chain of IPv6 extension headers, which etherparse reads.

use etherparse::{IpAuthHeaderSlice, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use crate::header::{Fragment, Kind, Transport, read_transport};
use crate::{Malformed, protocol};

/// More extension headers than this in one packet are refused. RFC 8200 §4.1 knows seven.
const EXTENSIONS_MAX: usize = 8;

/// Walks the options of an IPv4 header: unknown ones pass untouched, source routes do not.
#[cold]
pub(crate) fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            END => return Ok(()),
            NO_OPERATION => rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Malformed::SourceRoute),
            _ => match rest.first() {
                Some(2..) => options
                    .get(usize::from(rest[0])..)
                    .ok_or(Malformed::Options)?,
                _ => return Err(Malformed::Options),
            },
        };
    }
    Ok(())
}

/// An IPv4 fragment; `word` is its flags and offset.
#[cold]
pub(crate) fn parse_v4_fragment(
    packet: &[u8],
    ihl: usize,
    word: u16,
    number: u8,
) -> Result<Transport, Malformed> {
    let offset = usize::from(word & 0x1fff) * 8;
    let more = word & 0x2000 != 0;
    check_fragment(packet.len() - ihl, offset, more, number)?;
    if offset == 0 {
        read_transport(packet, ihl, number, protocol::ICMP, Fragment::First)
    } else {
        Ok(unreadable(number, ihl, Fragment::Later))
    }
}

/// What both versions ask of a fragment with `length` bytes at `offset` of its datagram.
fn check_fragment(length: usize, offset: usize, more: bool, number: u8) -> Result<(), Malformed> {
    if length == 0 || (more && !length.is_multiple_of(8)) {
        return Err(Malformed::FragmentLength);
    }
    if offset + length > 65_535 {
        return Err(Malformed::FragmentEnd);
    }
    // RFC 1858 §3.2: it would overwrite the flags that the first fragment was judged by.
    if offset == 8 && number == protocol::TCP {
        return Err(Malformed::TinyFragment);
    }
    Ok(())
}

fn unreadable(number: u8, at: usize, fragment: Fragment) -> Transport {
    let mut transport = Transport::opaque(Kind::Unreadable, number, at, fragment);
    if matches!(number, protocol::ICMP | protocol::ICMPV6) {
        // What is judged without its first fragment must not be the flow of an echo with the
        // identifier 0, nor of any other message.
        transport.ports = (0, 1);
    }
    transport
}

/// Everything behind the IPv6 header of a packet whose first next-header value is `first`.
#[cold]
pub(crate) fn parse_v6(packet: &[u8], first: u8) -> Result<Transport, Malformed> {
    let Chain {
        number,
        at,
        fragment,
        readable,
    } = walk(packet, first, true)?;
    if readable {
        read_transport(packet, at, number, protocol::ICMPV6, fragment)
    } else {
        Ok(unreadable(number, at, fragment))
    }
}

/// The same for a quoted packet, which ends anywhere: number and place of its transport header, if
/// there is one.
pub(crate) fn quoted_v6(packet: &[u8], first: u8) -> Option<(u8, usize)> {
    let chain = walk(packet, first, false).ok()?;
    chain.readable.then_some((chain.number, chain.at))
}

/// Where the fragment header of a checked IPv6 packet is, if it has one.
#[cold]
pub(crate) fn fragment_header(packet: &[u8]) -> Option<usize> {
    let (mut number, mut at) = (packet[6], 40);
    for _ in 0..=EXTENSIONS_MAX {
        let [next, length] = *packet.get(at..)?.first_chunk::<2>()?;
        let length = usize::from(length);
        let size = match number {
            FRAGMENT => return Some(at),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => (length + 1) * 8,
            protocol::AH => (length + 2) * 4,
            _ => return None,
        };
        at += size;
        number = next;
    }
    None
}

/// Where the extension headers end.
struct Chain {
    /// The header that is none of them.
    number: u8,
    /// Where it begins, in bytes from the IP header's start.
    at: usize,
    fragment: Fragment,
    /// Whether it begins here and is a transport header.
    readable: bool,
}

/// Walks the extension headers; `whole` unless the packet may be cut short.
fn walk(packet: &[u8], first: u8, whole: bool) -> Result<Chain, Malformed> {
    let mut chain = Chain {
        number: first,
        at: 40,
        fragment: Fragment::No,
        readable: false,
    };
    let mut fragment_seen = false;
    for _ in 0..=EXTENSIONS_MAX {
        let rest = packet.get(chain.at..).unwrap_or_default();
        // RFC 7112: in a first fragment the chain must be complete.
        let short = match chain.fragment {
            Fragment::No => Malformed::ExtensionHeader,
            Fragment::First | Fragment::Later => Malformed::TinyFragment,
        };
        match chain.number {
            HOP_BY_HOP if chain.at != 40 => return Err(Malformed::HopByHopOrder),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| short)?;
                if chain.number == ROUTING {
                    check_routing(header.slice())?;
                }
                chain.number = header.next_header().0;
                chain.at += header.slice().len();
            }
            protocol::AH => {
                let header = IpAuthHeaderSlice::from_slice(rest).map_err(|_| short)?;
                chain.number = header.next_header().0;
                chain.at += header.slice().len();
            }
            FRAGMENT if fragment_seen => return Err(Malformed::ExtensionHeader),
            FRAGMENT => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| short)?;
                fragment_seen = true;
                chain.number = header.next_header().0;
                chain.at += header.slice().len();
                // An atomic fragment stands alone (RFC 6946).
                if header.is_fragmenting_payload() {
                    let offset = usize::from(header.fragment_offset().value()) * 8;
                    if whole {
                        let length = packet.len() - chain.at;
                        check_fragment(length, offset, header.more_fragments(), chain.number)?;
                    }
                    if offset != 0 {
                        chain.fragment = Fragment::Later;
                        return Ok(chain);
                    }
                    chain.fragment = Fragment::First;
                }
            }
            // RFC 7045 §2.1, and what IANA has not assigned: it may be an extension header.
            146..=254 => return Ok(chain),
            _ => {
                chain.readable = true;
                return Ok(chain);
            }
        }
    }
    Err(Malformed::ExtensionChain)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Type 0 never (RFC 5095), and no other with a way still to go.
fn check_routing(header: &[u8]) -> Result<(), Malformed> {
    match (header[2], header[3]) {
        (0, _) => Err(Malformed::RoutingHeaderZero),
        (_, 0) => Ok(()),
        _ => Err(Malformed::SourceRoute),
    }
}
