//! Packets to test with, written byte by byte and summed up the naive way, so that nothing here
//! leans on what is tested.

use proptest::prelude::*;

/// What a sample is made of.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) v6: bool,
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) class: u8,
    pub(crate) ttl: u8,
    pub(crate) identifier: u16,
    /// IPv4 flags and fragment offset.
    pub(crate) fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6 extension headers: number and bytes, the first of which is overwritten.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) protocol: u8,
    /// Transport header and payload, the checksum zero.
    pub(crate) transport: Vec<u8>,
}

impl Sample {
    /// The packet, all checksums right.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = if self.v6 {
            self.v6_header()
        } else {
            self.v4_header()
        };
        let at = bytes.len();
        bytes.extend(&self.transport);
        if let Some(offset) = checksum_offset(self.protocol, self.v6) {
            let sum = self.transport_checksum();
            if bytes.len() >= at + offset + 2 {
                bytes[at + offset..at + offset + 2].copy_from_slice(&sum.to_be_bytes());
            }
        }
        bytes
    }

    fn v4_header(&self) -> Vec<u8> {
        let ihl = 20 + self.options.len();
        let length = (ihl + self.transport.len()) as u16;
        let mut bytes = vec![0x40 | (ihl / 4) as u8, self.class];
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.identifier.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(&self.source[12..]);
        bytes.extend(&self.destination[12..]);
        bytes.extend(&self.options);
        fix_v4_checksum(&mut bytes);
        bytes
    }

    fn v6_header(&self) -> Vec<u8> {
        let behind: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let length = (behind + self.transport.len()) as u16;
        let numbers: Vec<u8> = self
            .extensions
            .iter()
            .map(|(number, _)| *number)
            .chain([self.protocol])
            .collect();
        let mut bytes = vec![0x60 | (self.class >> 4), self.class << 4, 0, 7];
        bytes.extend(length.to_be_bytes());
        bytes.extend([numbers[0], self.ttl]);
        bytes.extend(&self.source);
        bytes.extend(&self.destination);
        for ((_, extension), next) in self.extensions.iter().zip(&numbers[1..]) {
            bytes.push(*next);
            bytes.extend(&extension[1..]);
        }
        bytes
    }

    fn transport_checksum(&self) -> u16 {
        let mut summed = Vec::new();
        if self.v6 || self.protocol != 1 {
            let skip = if self.v6 { 0 } else { 12 };
            summed.extend(&self.source[skip..]);
            summed.extend(&self.destination[skip..]);
            summed.extend((self.transport.len() as u32).to_be_bytes());
            summed.extend([0, 0, 0, self.protocol]);
        }
        summed.extend(&self.transport);
        match naive_checksum(&summed) {
            0 if matches!(self.protocol, 17 | 33 | 136) => 0xffff,
            sum => sum,
        }
    }
}

pub(crate) fn checksum_offset(protocol: u8, v6: bool) -> Option<usize> {
    match (protocol, v6) {
        (6, _) => Some(16),
        (17 | 33 | 136, _) => Some(6),
        (1, false) | (58, true) => Some(2),
        _ => None,
    }
}

/// RFC 1071 as it is written there.
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Makes an IPv4 header's checksum right again, if there is a header.
pub(crate) fn fix_v4_checksum(bytes: &mut [u8]) {
    let ihl = usize::from(bytes[0] & 15) * 4;
    if ihl >= 20 && bytes.len() >= ihl {
        bytes[10..12].fill(0);
        let sum = naive_checksum(&bytes[..ihl]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A TCP header with its options and payload; `flags` is byte 13.
pub(crate) fn tcp(
    ports: (u16, u16),
    sequence: u32,
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(77u32.to_be_bytes());
    bytes.extend([
        ((20 + options.len()) / 4 * 16) as u8,
        flags,
        1,
        2,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

pub(crate) fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(payload);
    bytes
}

/// A plain packet from one documentation address to another.
pub(crate) fn plain(v6: bool, protocol: u8, transport: Vec<u8>) -> Sample {
    let address = |last: u8| {
        let mut octets = [0; 16];
        if v6 {
            octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        } else {
            octets[10..15].copy_from_slice(&[0xff, 0xff, 192, 0, 2]);
        }
        octets[15] = last;
        octets
    };
    Sample {
        v6,
        source: address(1),
        destination: address(2),
        class: 0,
        ttl: 64,
        identifier: 1000,
        fragment: 0x4000,
        options: Vec::new(),
        extensions: Vec::new(),
        protocol,
        transport,
    }
}

fn transport(v6: bool) -> impl Strategy<Value = (u8, Vec<u8>)> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..80);
    let words = || proptest::collection::vec(any::<[u8; 4]>(), 0..4);
    let kinds: &[u8] = if v6 {
        &[1, 2, 3, 4, 128, 129, 130, 137]
    } else {
        &[0, 3, 5, 8, 11, 12, 13]
    };
    prop_oneof![
        4 => (any::<(u16, u16, u32, u8)>(), words(), payload()).prop_map(|(h, words, payload)| {
            (6, tcp((h.0, h.1), h.2, h.3, &words.concat(), &payload))
        }),
        4 => (any::<(u16, u16)>(), payload()).prop_map(|(ports, p)| (17, udp(ports, &p))),
        2 => (proptest::sample::select(kinds), any::<[u8; 4]>(), payload()).prop_map(
            move |(kind, rest, p)| (if v6 { 58 } else { 1 }, icmp(kind, 0, rest, &p))
        ),
        1 => proptest::collection::vec(any::<u8>(), 12..60).prop_map(|p| (132, p)),
        1 => (proptest::sample::select(&[33u8, 47, 50, 59, 136][..]), payload()),
        1 => (any::<u8>(), payload()),
    ]
}

fn extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let raw = |number: u8| {
        (0u8..3, any::<[u8; 6]>()).prop_map(move |(more, seed)| {
            let mut bytes = vec![0, more];
            bytes.extend(seed);
            bytes.resize(8 * (usize::from(more) + 1), 0);
            (number, bytes)
        })
    };
    prop_oneof![
        raw(0),
        raw(60),
        (2u8..5, 0u8..2).prop_map(|(kind, left)| (43, vec![0, 0, kind, left, 0, 0, 0, 0])),
        Just((43, vec![0; 8])),
        (0u16..4, 0u16..2)
            .prop_map(|(offset, more)| (44, vec![0, 0, 0, (offset * 8 + more) as u8, 0, 0, 0, 9])),
        Just((51, [vec![0, 4], vec![0; 22]].concat())),
        raw(135),
        raw(253),
    ]
}

/// Any packet that somebody might send in earnest, and some that nobody should.
pub(crate) fn sample() -> impl Strategy<Value = Sample> {
    any::<bool>().prop_flat_map(|v6| {
        (
            transport(v6),
            any::<([u8; 16], [u8; 16], u8, u8, u16)>(),
            prop_oneof![6 => Just(0u16), 2 => Just(0x4000), 1 => any::<u16>()],
            prop_oneof![
                3 => Just(Vec::new()),
                1 => Just(vec![148, 4, 0, 0]),
                1 => Just(vec![1, 7, 3, 4]),
                1 => proptest::collection::vec(any::<u8>(), 8),
            ],
            proptest::collection::vec(extension(), 0..4),
        )
            .prop_map(
                move |(transport, fixed, fragment, options, mut extensions)| {
                    // The hop-by-hop header first, most of the time right.
                    extensions.sort_by_key(|(number, _)| u8::from(*number != 0));
                    let mut sample = plain(v6, transport.0, transport.1);
                    let (source, destination, class, ttl, identifier) = fixed;
                    let from = if v6 { 3 } else { 13 };
                    sample.source[from..].copy_from_slice(&source[from..]);
                    sample.destination[from..].copy_from_slice(&destination[from..]);
                    sample.class = class;
                    sample.ttl = ttl;
                    sample.identifier = identifier;
                    sample.fragment = fragment;
                    sample.options = options;
                    sample.extensions = extensions;
                    sample
                },
            )
    })
}

/// Fails unless etherparse, reading the packet anew, sums up the same IPv4 and transport checksums.
pub(crate) fn assert_right_checksums(bytes: &[u8]) {
    use etherparse::{IpSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let ip = IpSlice::from_slice(bytes).unwrap();
    let transport = packet.transport.expect("a transport that etherparse knows");
    match &ip {
        IpSlice::Ipv4(v4) => {
            let header = v4.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let (from, to) = (header.source, header.destination);
            match transport {
                TransportSlice::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv4(from, to));
                }
                TransportSlice::Udp(udp) => {
                    let sum = udp
                        .to_header()
                        .calc_checksum_ipv4_raw(from, to, udp.payload());
                    assert_eq!(Ok(udp.checksum()), sum);
                }
                TransportSlice::Icmpv4(icmp) => {
                    assert_eq!(
                        icmp.checksum(),
                        icmp.icmp_type().calc_checksum(icmp.payload())
                    );
                }
                _ => panic!("not in an IPv4 sample"),
            }
        }
        IpSlice::Ipv6(v6) => {
            let (from, to) = (v6.header().source(), v6.header().destination());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv6(from, to));
                }
                TransportSlice::Udp(udp) => {
                    let sum = udp
                        .to_header()
                        .calc_checksum_ipv6_raw(from, to, udp.payload());
                    assert_eq!(Ok(udp.checksum()), sum);
                }
                TransportSlice::Icmpv6(icmp) => assert!(icmp.is_checksum_valid(from, to)),
                _ => panic!("not in an IPv6 sample"),
            }
        }
    }
}

/// A packet in a buffer of its own arena, as a device would hand it out.
pub(crate) fn buf(bytes: &[u8]) -> packet::Buf {
    let mut buf = packet::Arena::new(0, 1).take().unwrap();
    buf.extend(bytes);
    buf
}

/// The super-packet of a sample as the kernel hands it out: the pseudo-header's sum in its
/// checksum field.
pub(crate) fn super_packet(sample: &Sample, size: u16) -> packet::Packet {
    use packet::{Checksum, Offload, Segmentation, SegmentationKind};
    let mut bytes = sample.bytes();
    let start = bytes.len() - sample.transport.len();
    let offset = checksum_offset(sample.protocol, sample.v6).unwrap();
    let skip = if sample.v6 { 0 } else { 12 };
    let mut pseudo = [&sample.source[skip..], &sample.destination[skip..]].concat();
    pseudo.extend((sample.transport.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, sample.protocol]);
    let sum = !naive_checksum(&pseudo);
    bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        checksum: Checksum::Partial {
            start: start as u16,
            offset: offset as u16,
        },
        segmentation: Some(Segmentation {
            kind: match sample.protocol {
                6 => SegmentationKind::Tcp,
                _ => SegmentationKind::Udp,
            },
            size,
        }),
    };
    packet::Packet::parse(buf(&bytes), offload).unwrap()
}

/// What a packet is on a wire.
pub(crate) fn on_the_wire(packet: &packet::Packet) -> Vec<Vec<u8>> {
    let mut segmenter = packet::Segmenter::new(packet);
    let mut out = vec![0xee; 65_536];
    let mut packets = Vec::new();
    loop {
        let (remaining, announced) = (segmenter.remaining(), segmenter.next_length());
        let Some(length) = segmenter.next(&mut out) else {
            assert_eq!((remaining, announced), (0, 0));
            return packets;
        };
        assert_eq!(length, announced);
        assert_eq!(segmenter.remaining(), remaining - 1);
        packets.push(out[..length].to_vec());
    }
}
