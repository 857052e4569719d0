//! Packets as a pod's own kernel would hand them out, made by hand and not by the code under test.

use std::net::IpAddr;

use packet::{Checksum, Offload, Segmentation, SegmentationKind};

/// TCP flags, RFC 9293 §3.1 and RFC 3168 §6.1.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// Where a packet comes from and goes to.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

/// A TCP packet with time-stamps, its checksum partial.
pub(crate) fn tcp(ends: Ends, flags: u8, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(40_000u16.to_be_bytes());
    segment.extend(5_201u16.to_be_bytes());
    segment.extend(0xffff_f000u32.to_be_bytes()); // wraps within the packet
    segment.extend(0x1234_5678u32.to_be_bytes());
    segment.extend([8 << 4, flags]);
    segment.extend(501u16.to_be_bytes());
    segment.extend([0; 4]); // checksum, urgent pointer
    segment.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]); // RFC 7323 §3.2
    segment.extend(payload);
    packet(ends, 6, 16, ecn, segment)
}

/// A UDP packet, its checksum partial.
pub(crate) fn udp(ends: Ends, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(40_000u16.to_be_bytes());
    segment.extend(5_201u16.to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0; 2]);
    segment.extend(payload);
    packet(ends, 17, 6, ecn, segment)
}

fn packet(ends: Ends, protocol: u8, checksum_at: usize, ecn: u8, mut segment: Vec<u8>) -> Vec<u8> {
    let length = segment.len() as u16;
    let mut pseudo = Vec::new();
    let mut bytes = Vec::new();
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x45, ecn]);
            bytes.extend((20 + length).to_be_bytes());
            bytes.extend(0xfff0u16.to_be_bytes()); // the identifier wraps too
            bytes.extend([0x40, 0, 64, protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            let sum = !fold(&bytes);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            pseudo.extend(&bytes[12..20]);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x60, ecn << 4, 0x12, 0x34]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            pseudo.extend(&bytes[8..40]);
        }
        _ => panic!("both of one family"),
    }
    pseudo.extend([0, protocol]);
    pseudo.extend(length.to_be_bytes());
    segment[checksum_at..][..2].copy_from_slice(&fold(&pseudo).to_be_bytes());
    bytes.extend(segment);
    bytes
}

/// What a device says about such a packet.
pub(crate) fn offload(bytes: &[u8], kind: Option<SegmentationKind>, size: u16) -> Offload {
    let v4 = bytes[0] >> 4 == 4;
    let protocol = bytes[if v4 { 9 } else { 6 }];
    Offload {
        checksum: Checksum::Partial {
            start: if v4 { 20 } else { 40 },
            offset: if protocol == 6 { 16 } else { 6 },
        },
        segmentation: kind.map(|kind| Segmentation { kind, size }),
    }
}

/// The one's-complement sum of RFC 1071, not inverted.
pub(crate) fn fold(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
