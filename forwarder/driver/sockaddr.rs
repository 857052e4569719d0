//! `struct sockaddr_in` and `sockaddr_in6` (Linux `include/uapi/linux/in.h`, `in6.h`) in one piece
//! of memory that the kernel can read and write.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Sockaddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Sockaddr {
    /// All zeros: no address yet.
    pub(crate) const EMPTY: Sockaddr = Sockaddr {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };
    /// Bytes that the kernel may write.
    pub(crate) const CAPACITY: libc::socklen_t = size_of::<Sockaddr>() as libc::socklen_t;

    /// Writes `address`, and returns how many bytes it has.
    pub(crate) fn write(&mut self, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(v4) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(v6) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    /// The address, where it is of one of the two families.
    pub(crate) fn read(&self) -> Option<SocketAddr> {
        // SAFETY: every value begins as EMPTY, so all bytes are initialised, and every bit pattern
        // is a valid family.
        let family = unsafe { self.family };
        match i32::from(family) {
            libc::AF_INET => {
                // SAFETY: as above; the fields are integers.
                let v4 = unsafe { self.v4 };
                Some(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()),
                    u16::from_be(v4.sin_port),
                )))
            }
            libc::AF_INET6 => {
                // SAFETY: as above; the fields are integers.
                let v6 = unsafe { self.v6 };
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(v6.sin6_addr.s6_addr),
                    u16::from_be(v6.sin6_port),
                    // The flow label of one datagram is no part of who the other end is.
                    0,
                    v6.sin6_scope_id,
                )))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read_as_they_were_written() {
        for text in ["192.0.2.1:51871", "[2001:db8::1]:51871", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut sockaddr = Sockaddr::EMPTY;
            assert!(sockaddr.write(address) <= Sockaddr::CAPACITY);
            assert_eq!(sockaddr.read(), Some(address));
        }
        assert_eq!(Sockaddr::EMPTY.read(), None);
    }
}
