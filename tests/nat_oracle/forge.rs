//! Packets byte by byte, right or wrong: everything that a builder of honest packets would not make. Checksums are
//! summed here by hand (RFC 1071), so that nothing of what is tested takes part in them.

use std::net::IpAddr;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

/// Flags of the IPv4 header, in its word of flags and offset.
pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;

/// An address with a port.
pub(crate) type End = (IpAddr, u16);

/// An IP packet whose parts can be changed one by one before [`Packet::bytes`] puts them together.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) ttl: u8,
    /// DSCP and ECN.
    pub(crate) class: u8,
    /// Identification: of every IPv4 packet, of the fragments of an IPv6 packet.
    pub(crate) id: u32,
    /// IPv4: flags and offset.
    pub(crate) word: u16,
    /// IPv4: a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6: number and bytes of each extension header; the first byte, which names the next one, is filled in.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) protocol: u8,
    /// The transport header and all behind it, with its checksum.
    pub(crate) transport: Vec<u8>,
}

impl Packet {
    /// A packet of any protocol.
    pub(crate) fn new(from: IpAddr, to: IpAddr, protocol: u8, transport: Vec<u8>) -> Packet {
        Packet {
            from,
            to,
            ttl: 64,
            class: 0,
            id: 0x1234,
            word: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            protocol,
            transport,
        }
    }

    pub(crate) fn udp(from: End, to: End, payload: &[u8]) -> Packet {
        let length = (8 + payload.len()) as u16;
        let mut bytes = [from.1, to.1, length, 0].map(u16::to_be_bytes).concat();
        bytes.extend(payload);
        let mut packet = Packet::new(from.0, to.0, UDP, bytes);
        packet.finish(6);
        if packet.transport[6..8] == [0, 0] {
            packet.transport[6..8].fill(0xff);
        }
        packet
    }

    pub(crate) fn tcp(
        from: End,
        to: End,
        (sequence, acknowledged): (u32, u32),
        flags: u8,
        payload: &[u8],
    ) -> Packet {
        let mut bytes = [from.1, to.1].map(u16::to_be_bytes).concat();
        bytes.extend([sequence, acknowledged].map(u32::to_be_bytes).concat());
        bytes.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(payload);
        let mut packet = Packet::new(from.0, to.0, TCP, bytes);
        packet.finish(16);
        packet
    }

    /// One chunk behind the common header (RFC 9260 §3).
    pub(crate) fn sctp(from: End, to: End, tag: u32, chunk: &[u8]) -> Packet {
        let mut bytes = [from.1, to.1].map(u16::to_be_bytes).concat();
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(chunk);
        let crc = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        Packet::new(from.0, to.0, SCTP, bytes)
    }

    /// An ICMP or ICMPv6 message: type, code, the four bytes behind the checksum, and the rest.
    pub(crate) fn icmp(
        from: IpAddr,
        to: IpAddr,
        kind: u8,
        code: u8,
        word: u32,
        rest: &[u8],
    ) -> Packet {
        let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
        let mut bytes = vec![kind, code, 0, 0];
        bytes.extend(word.to_be_bytes());
        bytes.extend(rest);
        let mut packet = Packet::new(from, to, protocol, bytes);
        packet.finish(2);
        packet
    }

    /// An echo request, or the reply to one.
    pub(crate) fn echo(
        from: IpAddr,
        to: IpAddr,
        request: bool,
        identifier: u16,
        payload: &[u8],
    ) -> Packet {
        let kind = match (from.is_ipv4(), request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        Packet::icmp(
            from,
            to,
            kind,
            0,
            (u32::from(identifier) << 16) | 1,
            payload,
        )
    }

    /// Makes the checksum at `at` of the transport header right.
    pub(crate) fn finish(&mut self, at: usize) {
        self.transport[at..at + 2].fill(0);
        let mut covered = Vec::new();
        if self.protocol != ICMP {
            covered.extend(octets(self.from));
            covered.extend(octets(self.to));
            covered.extend((self.transport.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, self.protocol]);
        }
        covered.extend(&self.transport);
        let sum = checksum(&covered);
        self.transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// The same with another time to live.
    pub(crate) fn ttl(mut self, ttl: u8) -> Packet {
        self.ttl = ttl;
        self
    }

    /// The same with one more extension header.
    pub(crate) fn extension(mut self, number: u8, bytes: &[u8]) -> Packet {
        self.extensions.push((number, bytes.to_vec()));
        self
    }

    /// The whole packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = if self.from.is_ipv4() {
            self.v4_header()
        } else {
            self.v6_header()
        };
        bytes.extend(&self.transport);
        bytes
    }

    fn v4_header(&self) -> Vec<u8> {
        let length = 20 + self.options.len();
        let total = (length + self.transport.len()) as u16;
        let mut bytes = vec![0x40 | (length / 4) as u8, self.class];
        bytes.extend(
            [total, self.id as u16, self.word]
                .map(u16::to_be_bytes)
                .concat(),
        );
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(octets(self.from));
        bytes.extend(octets(self.to));
        bytes.extend(&self.options);
        finish_v4_header(&mut bytes);
        bytes
    }

    fn v6_header(&self) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.extensions.iter().map(|(number, _)| *number).collect();
        numbers.push(self.protocol);
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let length = (extensions + self.transport.len()) as u16;
        let mut bytes = vec![0x60 | (self.class >> 4), self.class << 4, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([numbers[0], self.ttl]);
        bytes.extend(octets(self.from));
        bytes.extend(octets(self.to));
        for ((_, extension), next) in self.extensions.iter().zip(&numbers[1..]) {
            bytes.push(*next);
            bytes.extend(&extension[1..]);
        }
        bytes
    }

    /// Its fragments, cut where `at` says, in bytes of the transport header and all behind it; in order.
    pub(crate) fn fragments(&self, at: &[usize]) -> Vec<Vec<u8>> {
        let mut ends: Vec<usize> = at.to_vec();
        ends.push(self.transport.len());
        let mut start = 0;
        let mut fragments = Vec::new();
        for end in ends {
            let more = end < self.transport.len();
            fragments.push(self.fragment(start, end, more).bytes());
            start = end;
        }
        fragments
    }

    /// The fragment from `start` to `end`.
    pub(crate) fn fragment(&self, start: usize, end: usize, more: bool) -> Packet {
        let mut fragment = self.clone();
        fragment.transport = self.transport[start..end].to_vec();
        if self.from.is_ipv4() {
            fragment.word = (start / 8) as u16 | if more { MF } else { 0 };
            return fragment;
        }
        let mut header = vec![0, 0];
        header.extend((start as u16 | u16::from(more)).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        fragment.extension(44, &header)
    }
}

/// An address as it stands in a header.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Makes the checksum of an IPv4 header right.
pub(crate) fn finish_v4_header(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let second = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([pair[0], second]))
    });
    let mut sum: u64 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// CRC-32C bit by bit (RFC 9260 Appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}
