//! Packets built byte by byte and summed up the naive way, so that nothing here leans on what is
//! tested.

use crate::robust::stage::Ends;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// What a packet is made of.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) v6: bool,
    pub(crate) source: Vec<u8>,
    pub(crate) destination: Vec<u8>,
    /// Type of service or traffic class.
    pub(crate) class: u8,
    pub(crate) ttl: u8,
    pub(crate) identifier: u16,
    /// IPv4's flags and fragment offset.
    pub(crate) word: u16,
    /// IPv4's options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6's extension headers: number and bytes, the first of which is overwritten.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) protocol: u8,
    /// Transport header and payload; the checksum is zero, and filled in unless `bare`.
    pub(crate) transport: Vec<u8>,
    pub(crate) bare: bool,
}

impl Ip {
    pub(crate) fn new(ends: &Ends, protocol: u8, transport: Vec<u8>) -> Ip {
        Ip {
            v6: ends.v6,
            source: ends.near.clone(),
            destination: ends.far.clone(),
            class: 0,
            ttl: 64,
            identifier: 0x1234,
            word: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            protocol,
            transport,
            bare: false,
        }
    }

    /// The same with a change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Ip)) -> Ip {
        change(&mut self);
        self
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let transport = self.summed();
        let mut bytes = self.header(transport.len(), self.word, &self.extensions);
        bytes.extend(transport);
        bytes
    }

    /// Bytes `from..to` of the transport as a fragment; behind its end they are zeros.
    pub(crate) fn fragment(&self, identifier: u16, from: usize, to: usize, more: bool) -> Vec<u8> {
        let mut part = self.summed();
        part.resize(part.len().max(to), 0);
        let part = &part[from..to];
        let offset = (from / 8) as u16;
        let mut ip = self.clone();
        ip.identifier = identifier;
        let word = offset | u16::from(more) << 13;
        ip.extensions
            .push(fragment_header(offset, more, u32::from(identifier)));
        let mut bytes = ip.header(part.len(), word, &ip.extensions);
        bytes.extend(part);
        bytes
    }

    /// The transport with its checksum.
    fn summed(&self) -> Vec<u8> {
        let mut transport = self.transport.clone();
        let offset = match (self.protocol, self.v6) {
            (TCP, _) => 16,
            (UDP, _) => 6,
            (ICMP, false) | (ICMPV6, true) => 2,
            _ => return transport,
        };
        if self.bare || transport.len() < offset + 2 {
            return transport;
        }
        let mut summed = Vec::new();
        if self.protocol != ICMP {
            summed.extend(&self.source);
            summed.extend(&self.destination);
            summed.extend((transport.len() as u32).to_be_bytes());
            summed.extend([0, 0, 0, self.protocol]);
        }
        summed.extend(&transport);
        let sum = match naive_checksum(&summed) {
            0 if self.protocol == UDP => 0xffff,
            sum => sum,
        };
        transport[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
        transport
    }

    fn header(&self, behind: usize, word: u16, extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
        if self.v6 {
            return self.header_v6(behind, extensions);
        }
        let ihl = 20 + self.options.len();
        let mut bytes = vec![0x40 | (ihl / 4) as u8, self.class];
        bytes.extend(((ihl + behind) as u16).to_be_bytes());
        bytes.extend(self.identifier.to_be_bytes());
        bytes.extend(word.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(&self.source);
        bytes.extend(&self.destination);
        bytes.extend(&self.options);
        fix_v4_checksum(&mut bytes);
        bytes
    }

    fn header_v6(&self, behind: usize, extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let between: usize = extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let numbers = extensions.iter().map(|(number, _)| *number);
        let numbers: Vec<u8> = numbers.chain([self.protocol]).collect();
        let mut bytes = vec![0x60 | self.class >> 4, self.class << 4, 0, 0];
        bytes.extend(((between + behind) as u16).to_be_bytes());
        bytes.extend([numbers[0], self.ttl]);
        bytes.extend(&self.source);
        bytes.extend(&self.destination);
        for ((_, extension), next) in extensions.iter().zip(&numbers[1..]) {
            bytes.push(*next);
            bytes.extend(&extension[1..]);
        }
        bytes
    }
}

/// A fragment header of IPv6; `offset` in units of eight bytes.
pub(crate) fn fragment_header(offset: u16, more: bool, identifier: u32) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let mut bytes = vec![0, 0, high, low];
    bytes.extend(identifier.to_be_bytes());
    (FRAGMENT, bytes)
}

pub(crate) fn udp((source, destination): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// A segment with a header of 20 bytes.
pub(crate) fn tcp(
    (source, destination): (u16, u16),
    (sequence, acknowledged): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0][..], &rest, body].concat()
}

/// RFC 1071 as it is written there.
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Makes an IPv4 header's checksum right again, if there is a header.
pub(crate) fn fix_v4_checksum(bytes: &mut [u8]) {
    let ihl = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
    if ihl >= 20 && bytes.len() >= ihl {
        bytes[10..12].fill(0);
        let sum = naive_checksum(&bytes[..ihl]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A packet with a change to its bytes, IPv4's header checksum being right again.
pub(crate) fn patched(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    if bytes.first().is_some_and(|first| first >> 4 != 6) {
        fix_v4_checksum(&mut bytes);
    }
    bytes
}

/// What a packet looks like `hops` routers later.
pub(crate) fn later_by(bytes: &[u8], hops: u8) -> Vec<u8> {
    let v6 = bytes[0] >> 4 == 6;
    patched(bytes.to_vec(), |bytes| {
        bytes[if v6 { 7 } else { 8 }] -= hops
    })
}
