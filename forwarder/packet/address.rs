//! One type for the addresses of both families, so that no table exists twice.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address as 16 bytes in network order; IPv4 is mapped (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 16]);

impl Address {
    /// `::`, which no host has.
    pub const UNSPECIFIED: Address = Address([0; 16]);

    /// The 16 bytes as they stand; what hashes and tables are keyed by.
    #[inline]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// An IPv4 address from its four bytes.
    #[inline]
    pub const fn from_v4(v4: [u8; 4]) -> Address {
        let [a, b, c, d] = v4;
        Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// An IPv6 address from its sixteen bytes. A mapped one is an IPv4 address from here on: on the
    /// wire it must not occur (RFC 4942 §2.2), and the parse refuses it.
    #[inline]
    pub const fn from_v6(v6: [u8; 16]) -> Address {
        Address(v6)
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    }

    /// The four bytes of an IPv4 address.
    #[inline]
    pub fn v4(&self) -> Option<[u8; 4]> {
        self.is_v4()
            .then(|| [self.0[12], self.0[13], self.0[14], self.0[15]])
    }

    /// As the standard library writes it: IPv4 unmapped.
    pub fn to_ip(self) -> IpAddr {
        match self.v4() {
            Some(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            None => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        match ip {
            IpAddr::V4(v4) => Address::from_v4(v4.octets()),
            IpAddr::V6(v6) => Address::from_v6(v6.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}
