//! What a plain packet is, read by hand: the judge must not see with the eyes of the judged.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::model::Protocol;

/// Both ends of a packet. An echo has its identifier as both ports, an error has zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The protocol.
    pub protocol: Protocol,
    /// From where.
    pub source: (IpAddr, u16),
    /// To where.
    pub destination: (IpAddr, u16),
}

impl Tuple {
    /// That of the answers.
    pub fn reverse(self) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source, self.destination);
        write!(
            f,
            "{} {}:{} -> {}:{}",
            self.protocol.name(),
            source.0,
            source.1,
            destination.0,
            destination.1
        )
    }
}

/// What kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP, UDP, or an echo request.
    Plain,
    /// An echo reply, which never begins a flow.
    EchoReply,
    /// An ICMP error about a packet with this tuple.
    Error(Tuple),
}

/// What a TCP segment carries. Those over IPv6 that are longer than their way carries come in other
/// pieces, each a stretch of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// A digest of what each piece says as the whole one did.
    pub frame: u64,
    /// The sequence number of the first byte.
    pub sequence: u32,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Stretch {
    /// How many bytes of `piece`, from its byte `at` on, are of this.
    pub fn shares(&self, piece: &Stretch, at: usize) -> usize {
        let sequence = piece.sequence.wrapping_add(at as u32);
        let from = sequence.wrapping_sub(self.sequence) as usize;
        let own = self.payload.get(from..).unwrap_or_default();
        let length = own.len().min(piece.payload.len() - at);
        match self.frame == piece.frame && own[..length] == piece.payload[at..][..length] {
            true => length,
            false => 0,
        }
    }
}

/// One packet.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its ends.
    pub tuple: Tuple,
    /// Its kind.
    pub kind: Kind,
    /// A digest of all that no translation, forwarding or coalescing may change.
    pub print: u64,
    /// The payload of TCP, where there is one.
    pub stretch: Option<Stretch>,
    /// Whether it resets a connection.
    pub is_reset: bool,
    /// Whether it opens one.
    pub opens: bool,
}

/// Reads a packet of a kind that pods send; `None` for any other.
pub fn read(packet: &[u8]) -> Option<Seen> {
    let (addresses, number, body) = network(packet)?;
    let (protocol, ports) = transport(number, body)?;
    let mut kind = Kind::Plain;
    let mut hasher = DefaultHasher::new();
    let (mut stretch, mut is_reset, mut opens) = (None, false, false);
    match protocol {
        Protocol::Tcp => {
            let header = usize::from(body.get(12)? >> 4) * 4;
            is_reset = body.get(13)? & 0x04 != 0;
            opens = body.get(13)? & 0x12 == 0x02;
            // Sequence, acknowledgement, window; flags without PSH, which coalescing moves.
            (body.get(4..12)?, body.get(13)? & !0x08, body.get(14..16)?).hash(&mut hasher);
            let rest = body.get(20..)?;
            // What a SYN announces may be lowered: the maximum segment size, if it comes first.
            match rest.split_first_chunk::<4>() {
                Some(([2, 4, ..], rest)) if body[13] & 0x02 != 0 => rest.hash(&mut hasher),
                _ => rest.hash(&mut hasher),
            }
            stretch = Some(read_stretch(body, header)?).filter(|s| !s.payload.is_empty());
        }
        Protocol::Udp => body.get(8..)?.hash(&mut hasher),
        Protocol::Sctp => return None,
        Protocol::Icmp => match (number, body.first()?) {
            (1, 8 | 0) | (58, 128 | 129) => {
                if [0, 129].contains(body.first()?) {
                    kind = Kind::EchoReply;
                }
                (body.first()?, body.get(4..)?).hash(&mut hasher);
            }
            (1, 3 | 11 | 12) | (58, 1..=4) => {
                let (addresses, number, quoted) = network_of_quote(body.get(8..)?)?;
                let (protocol, ports) = transport(number, quoted)?;
                kind = Kind::Error(Tuple {
                    protocol,
                    source: (addresses.0, ports.0),
                    destination: (addresses.1, ports.1),
                });
            }
            _ => return None,
        },
    }
    let tuple = Tuple {
        protocol,
        source: (addresses.0, ports.0),
        destination: (addresses.1, ports.1),
    };
    Some(Seen {
        tuple,
        kind,
        print: hasher.finish(),
        stretch,
        is_reset,
        opens,
    })
}

fn read_stretch(body: &[u8], header: usize) -> Option<Stretch> {
    let mut hasher = DefaultHasher::new();
    // Of the flags the first piece alone has CWR, the last alone FIN and PSH.
    let flags = body.get(13)? & !0x89;
    (
        body.get(8..12)?,
        flags,
        body.get(14..16)?,
        body.get(20..header)?,
    )
        .hash(&mut hasher);
    Some(Stretch {
        frame: hasher.finish(),
        sequence: u32::from_be_bytes(*body.get(4..)?.first_chunk()?),
        payload: body.get(header..)?.to_vec(),
    })
}

/// Addresses, protocol number and payload, cut to the length that the packet says.
fn network(packet: &[u8]) -> Option<((IpAddr, IpAddr), u8, &[u8])> {
    let length = match packet.first()? >> 4 {
        4 => usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?])),
        _ => usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?])) + 40,
    };
    network_of_quote(packet.get(..length)?)
}

/// As [`network`], but of a packet that may have been cut.
fn network_of_quote(packet: &[u8]) -> Option<((IpAddr, IpAddr), u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                Some(bytes.into())
            };
            let addresses = (address(12)?, address(16)?);
            Some((addresses, *packet.get(9)?, packet.get(header..)?))
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(bytes.into())
            };
            let addresses = (address(8)?, address(24)?);
            Some((addresses, *packet.get(6)?, packet.get(40..)?))
        }
        _ => None,
    }
}

fn transport(number: u8, body: &[u8]) -> Option<(Protocol, (u16, u16))> {
    let word = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
    };
    Some(match number {
        6 => (Protocol::Tcp, (word(0)?, word(2)?)),
        17 => (Protocol::Udp, (word(0)?, word(2)?)),
        1 | 58 => match (number, body.first()?) {
            (1, 0 | 8) | (58, 128 | 129) => (Protocol::Icmp, (word(4)?, word(4)?)),
            _ => (Protocol::Icmp, (0, 0)),
        },
        _ => return None,
    })
}

/// Where a packet says that it is from, and where it goes, whatever is in it.
pub fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    network_of_quote(packet).map(|(ends, ..)| ends)
}
