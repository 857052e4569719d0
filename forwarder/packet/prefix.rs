//! A block of addresses of one family.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::Address;

/// An address prefix (CIDR, RFC 4632): an address whose host bits are zero, and a length.
///
/// An IPv6 prefix never holds an IPv4 address, however the two are written in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: Address,
    /// Of its own family: 0 to 32, or 0 to 128.
    length: u8,
}

impl Prefix {
    /// Every IPv4 address.
    pub const ALL_V4: Prefix = Prefix {
        address: Address::from_v4([0; 4]),
        length: 0,
    };

    /// Every IPv6 address.
    pub const ALL_V6: Prefix = Prefix {
        address: Address::UNSPECIFIED,
        length: 0,
    };

    /// The prefix of `length` bits (of the address's own family); `None` if there are not that
    /// many, or a bit behind them is set.
    pub fn new(address: Address, length: u8) -> Option<Prefix> {
        Prefix::masked(address, length).filter(|prefix| prefix.address == address)
    }

    /// The prefix of `length` bits that holds `address`; `None` if there are not that many.
    pub fn masked(address: Address, length: u8) -> Option<Prefix> {
        let bits = if address.is_v4() { 32 } else { 128 };
        if length > bits {
            return None;
        }
        let mask = mask(length + (128 - bits));
        let key = u128::from_be_bytes(*address.octets()) & mask;
        Some(Prefix {
            address: Address::from_v6(key.to_be_bytes()),
            length,
        })
    }

    /// The prefix that holds just this address.
    pub fn host(address: Address) -> Prefix {
        Prefix {
            address,
            length: if address.is_v4() { 32 } else { 128 },
        }
    }

    /// Its first address.
    #[inline]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its length in bits of its own family.
    #[inline]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of IPv4 addresses.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.address.is_v4()
    }

    /// Whether it holds just one address.
    pub fn is_host(&self) -> bool {
        self.length == if self.is_v4() { 32 } else { 128 }
    }

    /// Whether `address` is in it.
    #[inline]
    pub fn contains(&self, address: Address) -> bool {
        let number = |address: &Address| u128::from_be_bytes(*address.octets());
        let bits = if self.is_v4() { 96 } else { 0 } + self.length;
        self.is_v4() == address.is_v4()
            && (number(&self.address) ^ number(&address)) & mask(bits) == 0
    }

    /// Whether all of `other` is in it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// One whose parts were a prefix before.
    #[inline]
    pub(crate) fn assume(address: Address, length: u8) -> Prefix {
        Prefix { address, length }
    }
}

/// The upper `length` of 128 bits.
#[inline]
fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}

impl From<Address> for Prefix {
    fn from(address: Address) -> Prefix {
        Prefix::host(address)
    }
}

/// Why a text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not an address, or an address with something behind it that is no length.
    Syntax,
    /// More bits than the address has.
    Length,
    /// A mapped IPv6 address: write it as IPv4.
    Mapped,
    /// Bits behind the length are set; this is the prefix that holds the address.
    HostBits(Prefix),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::Syntax => f.write_str("not an address prefix such as 10.1.0.0/16"),
            PrefixError::Length => f.write_str("the prefix length is more than the address has"),
            PrefixError::Mapped => f.write_str("an IPv4 address is written as such, not in IPv6"),
            PrefixError::HostBits(prefix) => {
                write!(f, "bits behind the prefix length are set; write {prefix}")
            }
        }
    }
}

impl core::error::Error for PrefixError {}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `10.1.0.0/16`, `fd10:1::/64`, or an address alone, which is the prefix of just that.
    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| PrefixError::Syntax)?;
        let address = Address::from(ip);
        if ip.is_ipv6() && address.is_v4() {
            return Err(PrefixError::Mapped);
        }
        let Some(length) = length else {
            return Ok(Prefix::host(address));
        };
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PrefixError::Syntax);
        }
        let length = length.parse().map_err(|_| PrefixError::Length)?;
        let prefix = Prefix::masked(address, length).ok_or(PrefixError::Length)?;
        if prefix.address != address {
            return Err(PrefixError::HostBits(prefix));
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_prints_as_it_was_written() {
        for text in [
            "10.1.0.0/16",
            "0.0.0.0/0",
            "::/0",
            "fd10:1::/64",
            "192.0.2.1/32",
        ] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("fd10::1").to_string(), "fd10::1/128");
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_a_reason() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err();
        for text in [
            "",
            "10.1.0.0/",
            "10.1/16",
            "10.1.0.0/+8",
            "10.1.0.0/16/2",
            "x/8",
            "::/0128",
        ] {
            assert_eq!(error(text), PrefixError::Syntax, "{text}");
        }
        assert_eq!(error("10.1.0.0/33"), PrefixError::Length);
        assert_eq!(error("::/129"), PrefixError::Length);
        assert_eq!(error("::/999"), PrefixError::Length);
        assert_eq!(error("::ffff:10.0.0.0/104"), PrefixError::Mapped);
        assert_eq!(
            error("10.1.2.3/16").to_string(),
            "bits behind the prefix length are set; write 10.1.0.0/16"
        );
    }

    #[test]
    fn a_prefix_holds_its_first_and_last_address_and_not_their_neighbours() {
        let p = prefix("10.1.0.0/20");
        let holds = |a: &str| p.contains(a.parse::<IpAddr>().unwrap().into());
        assert!(holds("10.1.0.0") && holds("10.1.15.255"));
        assert!(!holds("10.0.255.255") && !holds("10.1.16.0"));
    }

    #[test]
    fn the_families_never_meet() {
        let v4 = Address::from_v4([10, 0, 0, 1]);
        assert!(!prefix("::/0").contains(v4));
        assert!(!prefix("::/0").overlaps(&prefix("0.0.0.0/0")));
        assert!(prefix("0.0.0.0/0").contains(v4));
    }

    #[test]
    fn prefixes_overlap_when_one_covers_the_other() {
        assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.1.0.0/16")));
        assert!(prefix("10.1.0.0/16").overlaps(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.1.0.0/16").overlaps(&prefix("10.2.0.0/16")));
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.0.0.0/8")));
    }

    #[test]
    fn host_bits_are_refused_or_masked() {
        let address = Address::from_v4([10, 1, 2, 3]);
        assert_eq!(Prefix::new(address, 16), None);
        assert_eq!(Prefix::masked(address, 16), Some(prefix("10.1.0.0/16")));
        assert_eq!(Prefix::masked(address, 33), None);
    }
}
