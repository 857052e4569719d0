//! Addresses of one family as numbers.

use core::ops::{BitAnd, BitXor};

use crate::Address;

/// An address of one family as a number: the fewer bytes, the more of them in a cache line.
pub trait Number: Copy + Ord + BitAnd<Output = Self> + BitXor<Output = Self> {
    /// The first address.
    const ZERO: Self;
    /// The last address.
    const MAX: Self;

    /// The number of an address, which must be of the family.
    fn of(address: Address) -> Self;
    /// The address with the number.
    fn address(self) -> Address;
    /// The first `length` bits set.
    fn mask(length: u8) -> Self;
    /// The number behind a prefix that begins here; `None` behind the last.
    fn behind(self, length: u8) -> Option<Self>;
    /// How many of the first bits are the same.
    fn common(self, other: Self) -> u8;

    /// How many of some keys are not greater. No branch, so that nothing is guessed.
    #[inline]
    fn count<const N: usize>(self, keys: &[Self; N]) -> usize {
        // Those that are greater are counted: of 16 bytes that is one instruction less for each.
        N - keys.iter().filter(|key| self < **key).count()
    }
}

macro_rules! number {
    ($number:ident, $from_octets:path) => {
        impl Number for $number {
            const ZERO: $number = 0;
            const MAX: $number = $number::MAX;

            #[inline]
            fn of(address: Address) -> $number {
                u128::from_be_bytes(*address.octets()) as $number
            }

            #[inline]
            fn address(self) -> Address {
                $from_octets(self.to_be_bytes())
            }

            #[inline]
            fn mask(length: u8) -> $number {
                let host = $number::BITS - u32::from(length);
                $number::MAX.checked_shl(host).unwrap_or(0)
            }

            fn behind(self, length: u8) -> Option<$number> {
                (self | !Self::mask(length)).checked_add(1)
            }

            fn common(self, other: $number) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
        }
    };
}

number!(u32, Address::from_v4);
number!(u128, Address::from_v6);
