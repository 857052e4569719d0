//! Which lane owns an address, so that nobody has to be told.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::Address;

/// The lane that owns `address` on a node with `lanes` lanes: SipHash-2-4 under the zero key over
/// the address's 16 bytes, modulo `lanes`. Every node computes the same; no lanes counts as one.
#[inline]
pub fn lane_of(address: Address, lanes: u16) -> u16 {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(address.octets());
    (hasher.finish() % u64::from(lanes.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_reference_implementation() {
        // vectors of github.com/veorq/SipHash have another key; these are from OpenSSL:
        // `printf … | openssl mac -macopt hexkey:0…0 -macopt size:8 SIPHASH`, little-endian.
        let hash = |octets: &[u8]| {
            let mut hasher = SipHasher24::new_with_keys(0, 0);
            hasher.write(octets);
            hasher.finish()
        };
        assert_eq!(
            hash(Address::from_v4([10, 1, 0, 1]).octets()),
            0x67c0_d47a_f950_32e4,
        );
        assert_eq!(hash(&[0; 16]), 0x32ca_ecc2_8017_2976);
    }

    #[test]
    fn addresses_spread_over_all_lanes() {
        let mut seen = [0u32; 4];
        for last in 0..=255 {
            seen[usize::from(lane_of(Address::from_v4([10, 1, 0, last]), 4))] += 1;
        }
        assert!(seen.iter().all(|&n| n > 32), "{seen:?}");
    }

    #[test]
    fn one_lane_or_none_owns_everything() {
        let address = Address::from_v4([10, 1, 0, 1]);
        assert_eq!(lane_of(address, 1), 0);
        assert_eq!(lane_of(address, 0), 0);
    }
}
