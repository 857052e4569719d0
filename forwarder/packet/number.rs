//! Addresses of one family as numbers.

use core::ops::{BitAnd, BitOr, BitXor, Not};

use crate::Address;

/// An address of one family as a number: the fewer bytes, the more of them in a cache line. It is
/// also a set of lengths, without that of a host: no other prefix is covered by a host.
pub(super) trait Key:
    Copy
    + Ord
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    const NONE: Self;
    const MAX: Self;
    fn of(address: Address) -> Self;
    fn address(self) -> Address;
    /// How many upper bits are zero.
    fn leading_zeros(self) -> u8;
    /// The upper `length` bits set.
    fn mask(length: u8) -> Self;
    /// The set of one length; empty for that of a host.
    fn only(length: u8) -> Self;
    /// The set of all lengths up to this one.
    fn up_to(length: u8) -> Self;
    /// The longest length of a set.
    fn longest(self) -> Option<u8>;

    /// How many of some keys are not greater. No branch, so that nothing is guessed.
    #[inline]
    fn count<const N: usize>(self, keys: &[Self; N]) -> usize {
        // Those that are greater are counted: of 16 bytes that is one instruction less for each.
        N - keys.iter().filter(|key| self < **key).count()
    }

    /// Whether the upper `length` bits are the same.
    #[inline]
    fn agrees(self, other: Self, length: u8) -> bool {
        (self ^ other).leading_zeros() >= length
    }
}

macro_rules! key {
    ($number:ident, $from_octets:path) => {
        impl Key for $number {
            const NONE: $number = 0;
            const MAX: $number = $number::MAX;

            #[inline]
            fn of(address: Address) -> $number {
                u128::from_be_bytes(*address.octets()) as $number
            }

            fn address(self) -> Address {
                $from_octets(self.to_be_bytes())
            }

            #[inline]
            fn leading_zeros(self) -> u8 {
                $number::leading_zeros(self) as u8
            }

            #[inline]
            fn mask(length: u8) -> $number {
                let host = $number::BITS - u32::from(length);
                $number::MAX.checked_shl(host).unwrap_or(0)
            }

            #[inline]
            fn only(length: u8) -> $number {
                (1 as $number).checked_shl(u32::from(length)).unwrap_or(0)
            }

            #[inline]
            fn up_to(length: u8) -> $number {
                let longer = $number::BITS.saturating_sub(u32::from(length) + 1);
                $number::MAX >> longer
            }

            #[inline]
            fn longest(self) -> Option<u8> {
                self.checked_ilog2().map(|length| length as u8)
            }
        }
    };
}

key!(u32, Address::from_v4);
key!(u128, Address::from_v6);
