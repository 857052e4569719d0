//! What comes out of a data message: a padded packet, to be cut to the length that it has itself,
//! and marked if congestion was met outside.

use packet::checksum::{self, Sum};

use crate::peer::PeerId;
use crate::refused::Refused;

/// A decrypted packet inside the train that was opened, already cut to its own length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Who sent it.
    pub peer: PeerId,
    /// Where it begins, in bytes from the train's first.
    pub start: u32,
    /// How long it is, in bytes.
    pub length: u32,
}

impl Inner {
    /// The same, seen from `bytes` earlier.
    #[inline]
    pub(crate) fn behind(self, bytes: usize) -> Inner {
        Inner {
            start: self.start + bytes as u32,
            ..self
        }
    }
}

/// Gives the packet's own length, and takes over the outer ECN field.
///
/// # Errors
/// What is wrong with it; it must then be dropped.
#[inline]
pub(crate) fn unpad(padded: &mut [u8], outer_ecn: u8) -> Result<usize, Refused> {
    let is_v4 = match padded.first().map(|first| first >> 4) {
        Some(4) => true,
        Some(6) => false,
        _ => return Err(Refused::InnerVersion),
    };
    let (minimum, length) = if is_v4 {
        (20, padded.get(2..4).map(be16))
    } else {
        (40, padded.get(4..6).map(|field| 40 + be16(field)))
    };
    let length = length.ok_or(Refused::InnerLength)?;
    if !(minimum..=padded.len()).contains(&length) {
        return Err(Refused::InnerLength);
    }
    let shift = if is_v4 { 0 } else { 4 };
    let inner_ecn = padded[1] >> shift & 3;
    let ecn = combine(inner_ecn, outer_ecn & 3).ok_or(Refused::CongestionUnmarkable)?;
    if ecn != inner_ecn {
        let old = be16(&padded[..2]);
        padded[1] ^= (ecn ^ inner_ecn) << shift;
        if is_v4 {
            let new = be16(&padded[..2]);
            let change = Sum::ZERO.without(old as u16).word(new as u16);
            let sum = checksum::update(be16(&padded[10..12]) as u16, change);
            padded[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    Ok(length)
}

/// RFC 6040 §4.2, figure 4: Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3. `None`: the packet is dropped.
#[inline]
fn combine(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (0, 3) => None,
        (1 | 2, 3) => Some(3),
        (2, 1) => Some(1),
        _ => Some(inner),
    }
}

#[inline]
fn be16(field: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([field[0], field[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ecn: u8) -> [u8; 32] {
        let mut packet = [0; 32];
        packet[..20].copy_from_slice(&[
            0x45, ecn, 0, 24, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let sum = !fold(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn fold(bytes: &[u8]) -> u16 {
        let sum: usize = bytes.chunks(2).map(be16).sum();
        (sum % 0xffff) as u16
    }

    #[test]
    fn padding_is_cut_off_and_a_packet_longer_than_its_message_refused() {
        let mut packet = v4(0);
        assert_eq!(unpad(&mut packet, 0), Ok(24));
        assert_eq!(unpad(&mut packet[..16], 0), Err(Refused::InnerLength));
        packet[3] = 33;
        assert_eq!(unpad(&mut packet, 0), Err(Refused::InnerLength));
        packet[3] = 19;
        assert_eq!(unpad(&mut packet, 0), Err(Refused::InnerLength));
        packet[0] = 0x55;
        assert_eq!(unpad(&mut packet, 0), Err(Refused::InnerVersion));
        let mut v6 = [0; 64];
        v6[0] = 0x60;
        v6[5] = 20;
        assert_eq!(unpad(&mut v6, 0), Ok(60));
        assert_eq!(unpad(&mut v6[..48], 0), Err(Refused::InnerLength));
        assert_eq!(unpad(&mut v6[..1], 0), Err(Refused::InnerLength));
        assert_eq!(unpad(&mut [], 0), Err(Refused::InnerVersion));
    }

    #[test]
    fn congestion_marks_are_combined_as_rfc_6040_figure_4() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let table = [
            (0, [Some(0), Some(0), Some(0), None]),
            (2, [Some(2), Some(2), Some(1), Some(3)]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [0, 2, 1, 3].into_iter().zip(row) {
                let mut packet = v4(inner);
                let mut v6 = [0; 48];
                (v6[0], v6[1]) = (0x6a, inner << 4 | 0x0b);
                let (four, six) = (unpad(&mut packet, outer), unpad(&mut v6, outer));
                assert_eq!(four.is_ok(), expected.is_some());
                assert_eq!(six.is_ok(), expected.is_some());
                if let Some(ecn) = expected {
                    assert_eq!(packet[1], ecn);
                    assert_eq!(fold(&packet[..20]), 0, "header checksum");
                    assert_eq!((v6[0], v6[1]), (0x6a, ecn << 4 | 0x0b));
                }
            }
        }
    }
}
