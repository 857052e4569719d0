//! The Internet checksum (RFC 1071), in one pass or as a difference (RFC 1624).

use crate::Address;

/// A one's complement sum that is not folded yet.
///
/// It adds 32-bit words in the machine's own byte order and turns round at the end, which RFC 1071
/// §2(B) allows; a `u64` cannot overflow below 16 GiB of input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1); `length` is that of the
    /// transport header and all behind it, in bytes.
    #[inline]
    pub fn pseudo_header(source: Address, destination: Address, protocol: u8, length: u32) -> Sum {
        // A mapped address adds ffff on both sides of the pseudo-header, hence the last four bytes.
        let addresses = if source.is_v4() {
            let v4 = |a: Address| Sum::ZERO.bytes(&a.octets()[12..]).0;
            v4(source) + v4(destination)
        } else {
            Sum::ZERO
                .bytes(source.octets())
                .bytes(destination.octets())
                .0
        };
        Sum(addresses)
            .word((length >> 16) as u16)
            .word(length as u16)
            .word(u16::from(protocol))
    }

    /// Adds bytes that begin at an even offset; an odd number of them is filled up with a zero, so
    /// only the last piece may be odd.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        // Eight independent u64 lanes over u32 words: the shape that vectorises without any
        // target feature (widening adds).
        let mut lanes = [0u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum = self.0 + lanes.iter().sum::<u64>();
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one word, given as a number (not in network order).
    #[inline]
    pub fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word.to_be()))
    }

    /// Takes one word off, by adding its complement.
    #[inline]
    pub fn without(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(!word.to_be()))
    }

    /// Adds what another sum has.
    #[inline]
    pub fn plus(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }

    /// Takes bytes off that begin at an even offset; their number is even.
    #[inline]
    pub fn without_bytes(self, bytes: &[u8]) -> Sum {
        self.without(Sum::ZERO.bytes(bytes).fold())
    }

    /// The sum as the one's complement number it is; not inverted. It is 0 only if nothing but
    /// zeros was added.
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(sum as u16)
    }

    /// The checksum: what a header carries so that everything together folds to ffff.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The Internet checksum of `bytes`.
#[inline]
pub fn internet(bytes: &[u8]) -> u16 {
    Sum::ZERO.bytes(bytes).checksum()
}

/// A checksum after the data it covers has changed by `delta` (new words added, old words taken
/// off): RFC 1624 eqn. 3, which keeps the one representation of zero that a full sum gives.
#[inline]
pub fn update(checksum: u16, delta: Sum) -> u16 {
    delta.word(!checksum).checksum()
}

/// CRC-32C (Castagnoli), as SCTP uses it (RFC 9260 Appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        CRC32C[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // RFC 1071 §4.1, as it stands there.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::ZERO.bytes(&bytes).fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_gives_zero_and_not_ffff() {
        // §4: HC = DD2F, m = 5555, m' = 3285.
        let delta = Sum::ZERO.without(0x5555).word(0x3285);
        assert_eq!(update(0xdd2f, delta), 0x0000);
    }

    #[test]
    fn the_crc_is_that_of_rfc_3720() {
        // Appendix B.4 of RFC 3720: 32 bytes of zeros, of ones, and counting up.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let counting: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(crc32c(&counting), 0x46dd_794e);
    }

    #[test]
    fn a_mapped_address_sums_as_its_four_bytes() {
        let (a, b) = (
            Address::from_v4([10, 0, 0, 1]),
            Address::from_v4([10, 0, 0, 2]),
        );
        let bytes = [10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 20];
        assert_eq!(
            Sum::pseudo_header(a, b, 6, 20).fold(),
            Sum::ZERO.bytes(&bytes).fold()
        );
    }

    proptest! {
        #[test]
        fn the_wide_sum_equals_the_naive_one(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(internet(&bytes), naive(&bytes));
        }

        #[test]
        fn an_update_equals_a_new_sum(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..200),
            at in 0usize..8,
            new in any::<u16>(),
        ) {
            bytes[19] |= 1; // a header is never all zeros
            let before = internet(&bytes);
            let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            bytes[2 * at..][..2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, Sum::ZERO.without(old).word(new)), internet(&bytes));
        }
    }
}
