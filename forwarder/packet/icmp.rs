//! Answers that we make ourselves: ICMP errors by the rules of RFC 1812 §4.3.2 and RFC 4443 §2.4,
//! and echo. Limiting their rate is for who sends them.

use crate::checksum::Sum;
use crate::header::{Fragment, Kind};
use crate::network::write_network;
use crate::{Address, Buf, Packet, Segmenter, protocol};

/// What is wrong with a packet, in the words of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Time to live or hop limit is used up.
    TimeExceeded,
    /// Too long for the way, and must not be fragmented; `mtu` is the longest IP packet in bytes.
    PacketTooBig {
        /// Bytes of the longest IP packet that passes; for IPv6 at least 1,280 is said.
        mtu: u16,
    },
    /// Policy forbids it.
    Prohibited,
    /// No route to the destination.
    NoRoute,
    /// A route, but nobody there.
    HostUnreachable,
    /// Nobody listens.
    PortUnreachable,
}

impl Complaint {
    /// ICMP type, code and the four bytes behind the checksum (RFC 792, RFC 1191 §4, RFC 1812
    /// §5.2.7.1).
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Complaint::TimeExceeded => (11, 0, 0),
            Complaint::PacketTooBig { mtu } => (3, 4, u32::from(mtu)),
            Complaint::Prohibited => (3, 13, 0),
            Complaint::NoRoute => (3, 0, 0),
            Complaint::HostUnreachable => (3, 1, 0),
            Complaint::PortUnreachable => (3, 3, 0),
        }
    }

    /// The same for ICMPv6 (RFC 4443 §3).
    fn v6(self) -> (u8, u8, u32) {
        match self {
            Complaint::TimeExceeded => (3, 0, 0),
            Complaint::PacketTooBig { mtu } => (2, 0, u32::from(mtu.max(1280))),
            Complaint::Prohibited => (1, 1, 0),
            Complaint::NoRoute => (1, 0, 0),
            Complaint::HostUnreachable => (1, 3, 0),
            Complaint::PortUnreachable => (1, 4, 0),
        }
    }
}

/// An ICMP error as a whole may be this long: RFC 1812 §4.3.2.3.
const ERROR_MAX_V4: usize = 576;
/// And for IPv6: RFC 4443 §2.4(c).
const ERROR_MAX_V6: usize = 1280;
/// Internetwork control (CS6), as RFC 1812 §4.3.2.5 wants it for errors.
const CLASS_OF_ERRORS: u8 = 0xc0;
/// ICMP's own header.
const ICMP_HEADER: usize = 8;

/// Makes the ICMP error about `offender`, sent by `from`, in `into`. Of a super-packet the first
/// segment is quoted, as it would have been on a wire.
///
/// False, and `into` is empty, where no error may be sent: about ICMP errors and redirects, later
/// fragments, packets that cannot be read to the end of their headers, multicast and broadcast;
/// or where `from` is of the other family.
pub fn icmp_error(offender: &Packet, complaint: Complaint, from: Address, into: &mut Buf) -> bool {
    into.reset();
    let header = offender.header();
    if !may_be_answered(offender) || from.is_v4() != header.is_v4() {
        return false;
    }
    let v4 = header.is_v4();
    let (limit, network) = if v4 {
        (ERROR_MAX_V4, 20)
    } else {
        (ERROR_MAX_V6, 40)
    };
    let (kind, code, rest) = if v4 { complaint.v4() } else { complaint.v6() };
    let spare = &mut into.spare_mut()[network + ICMP_HEADER..];
    let quoted = Segmenter::new(offender).next(spare).unwrap_or(0);
    let length = (network + ICMP_HEADER + quoted).min(limit);
    into.grow_back(length);
    let bytes = into.as_mut_slice();
    bytes[network..network + ICMP_HEADER].fill(0);
    bytes[network] = kind;
    bytes[network + 1] = code;
    bytes[network + 4..network + 8].copy_from_slice(&rest.to_be_bytes());
    let class = if v4 { CLASS_OF_ERRORS } else { 0 };
    write_icmp(bytes, from, header.flow.source, class);
    true
}

/// RFC 1812 §4.3.2.7 and RFC 4443 §2.4(e). Sources that may not be answered (multicast, loopback,
/// unspecified, class E) do not pass the parse.
pub(crate) fn may_be_answered(offender: &Packet) -> bool {
    let header = offender.header();
    let destination = header.flow.destination;
    let is_redirect = header.kind == Kind::Icmp(REDIRECT_V6) && !header.is_v4();
    let is_for_many = match destination.v4() {
        Some(v4) => v4[0] >= 224,
        None => destination.octets()[0] == 0xff,
    };
    header.fragment != Fragment::Later
        && !matches!(header.kind, Kind::IcmpError | Kind::Unreadable)
        && !is_redirect
        && !is_for_many
}

/// RFC 4861 §4.5.
const REDIRECT_V6: u8 = 137;

/// Makes an echo request in `into`. `from` and `to` are of one family.
///
/// # Panics
/// If they are not, or `payload` is longer than an IP packet may be: our own bug.
pub fn echo_request(
    from: Address,
    to: Address,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
    into: &mut Buf,
) {
    let kind = if from.is_v4() { 8 } else { 128 };
    write_echo(
        kind,
        from,
        to,
        [identifier, sequence],
        (payload, 0),
        0,
        into,
    );
}

/// Makes an echo request of `length` bytes, IP header included, in `into`: `payload` and zeros
/// behind it. Where `length` is less than `payload` needs, there are no zeros.
///
/// # Panics
/// As [`echo_request`].
pub fn padded_echo_request(
    (from, to): (Address, Address),
    [identifier, sequence]: [u16; 2],
    payload: &[u8],
    length: usize,
    into: &mut Buf,
) {
    let (kind, network) = if from.is_v4() { (8, 20) } else { (128, 40) };
    let zeros = length.saturating_sub(network + ICMP_HEADER + payload.len());
    let words = [identifier, sequence];
    write_echo(kind, from, to, words, (payload, zeros), 0, into);
}

/// Makes the reply to an echo request in `into`, with the request's identifier, sequence number,
/// payload and traffic class (RFC 1122 §3.2.2.6).
///
/// False, and `into` is empty, where `request` is none, is a fragment, has a wrong checksum or
/// came to many.
pub fn echo_reply(request: &Packet, into: &mut Buf) -> bool {
    into.reset();
    let header = request.header();
    if header.kind != Kind::EchoRequest
        || header.fragment != Fragment::No
        || !may_be_answered(request)
    {
        return false;
    }
    let v4 = header.is_v4();
    let message = &request.bytes()[usize::from(header.transport)..];
    let flow = &header.flow;
    let pseudo = if v4 {
        Sum::ZERO
    } else {
        let length = message.len() as u32;
        Sum::pseudo_header(flow.source, flow.destination, protocol::ICMPV6, length)
    };
    if pseudo.bytes(message).fold() != 0xffff {
        return false;
    }
    let words = [
        flow.source_port,
        u16::from_be_bytes([message[6], message[7]]),
    ];
    write_echo(
        if v4 { 0 } else { 129 },
        flow.destination,
        flow.source,
        words,
        (&message[ICMP_HEADER..], 0),
        header.traffic_class,
        into,
    );
    true
}

fn write_echo(
    kind: u8,
    from: Address,
    to: Address,
    [identifier, sequence]: [u16; 2],
    (payload, zeros): (&[u8], usize),
    class: u8,
    into: &mut Buf,
) {
    assert_eq!(from.is_v4(), to.is_v4(), "an echo stays in its family");
    into.reset();
    let network = if from.is_v4() { 20 } else { 40 };
    assert!(
        network + ICMP_HEADER + payload.len() + zeros <= 65_535,
        "no such packet"
    );
    into.grow_back(network + ICMP_HEADER);
    let bytes = into.as_mut_slice();
    bytes[network..].fill(0);
    bytes[network] = kind;
    bytes[network + 4..network + 6].copy_from_slice(&identifier.to_be_bytes());
    bytes[network + 6..network + 8].copy_from_slice(&sequence.to_be_bytes());
    into.extend(payload);
    into.spare_mut()[..zeros].fill(0);
    into.grow_back(zeros);
    write_icmp(into.as_mut_slice(), from, to, class);
}

/// Writes the IP header in front of an ICMP message whose checksum is still zero, and that.
fn write_icmp(bytes: &mut [u8], from: Address, to: Address, class: u8) {
    let v4 = from.is_v4();
    let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let (network, pseudo) = write_network(bytes, (from, to), number, class);
    // ICMP for IPv4 sums up nothing but itself.
    let pseudo = if v4 { Sum::ZERO } else { pseudo };
    let sum = pseudo.bytes(&bytes[network..]).checksum();
    bytes[network + 2..network + 4].copy_from_slice(&sum.to_be_bytes());
}
