//! The IP header of what we make ourselves.

use crate::checksum::Sum;
use crate::{Address, checksum};

/// Time to live of what we make: RFC 1700's recommendation, Linux's default.
const TTL: u8 = 64;

/// How long the header is in the family of an address, in bytes.
pub(crate) fn network_length(address: Address) -> usize {
    if address.is_v4() { 20 } else { 40 }
}

/// Writes the IP header of a packet that fills `bytes`. Gives back how long it is, and the sum of the
/// pseudo-header of what is behind it. Both ends are of one family.
pub(crate) fn write_network(
    bytes: &mut [u8],
    (from, to): (Address, Address),
    number: u8,
    class: u8,
) -> (usize, Sum) {
    let length = bytes.len();
    let network = network_length(from);
    match (from.v4(), to.v4()) {
        (Some(from), Some(to)) => {
            bytes[..20].fill(0);
            bytes[0] = 0x45;
            bytes[1] = class;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            // DF and no identifier: an atomic datagram (RFC 6864 §4.1).
            bytes[6] = 0x40;
            bytes[8] = TTL;
            bytes[9] = number;
            bytes[12..16].copy_from_slice(&from);
            bytes[16..20].copy_from_slice(&to);
            let sum = checksum::internet(&bytes[..20]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {
            bytes[..8].fill(0);
            bytes[0] = 0x60 | (class >> 4);
            bytes[1] = class << 4;
            bytes[4..6].copy_from_slice(&((length - network) as u16).to_be_bytes());
            bytes[6] = number;
            bytes[7] = TTL;
            bytes[8..24].copy_from_slice(from.octets());
            bytes[24..40].copy_from_slice(to.octets());
        }
    }
    let behind = (length - network) as u32;
    (network, Sum::pseudo_header(from, to, number, behind))
}
