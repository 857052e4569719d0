//! Control messages beside a datagram (cmsg(3)): written and read as bytes, so that it can be
//! tested without a kernel.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::Local;

const ALIGN: usize = size_of::<usize>();
const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(ALIGN);
const LENGTH_AT: usize = offset_of!(libc::cmsghdr, cmsg_len);
const LEVEL_AT: usize = offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_AT: usize = offset_of!(libc::cmsghdr, cmsg_type);

/// `struct in_pktinfo`: interface, our address, the header's address (`include/uapi/linux/in.h`).
const PKTINFO_V4: usize = size_of::<libc::in_pktinfo>();
/// `struct in6_pktinfo`: our address, interface (`include/uapi/linux/ipv6.h`).
const PKTINFO_V6: usize = size_of::<libc::in6_pktinfo>();

/// Room for the three messages that we send or ask for, the address as of IPv6, and one more.
pub(crate) const CAPACITY: usize =
    3 * (HEADER + ALIGN) + HEADER + PKTINFO_V6.next_multiple_of(ALIGN);

/// A buffer for control messages, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CAPACITY]);

impl Control {
    pub(crate) const EMPTY: Control = Control([0; CAPACITY]);

    /// Appends one message behind the first `used` bytes, and returns how many are used then.
    fn push(&mut self, used: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let message = &mut self.0[used..][..HEADER + data.len().next_multiple_of(ALIGN)];
        message[LENGTH_AT..][..ALIGN].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        message[LEVEL_AT..][..4].copy_from_slice(&level.to_ne_bytes());
        message[TYPE_AT..][..4].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..][..data.len()].copy_from_slice(data);
        used + message.len()
    }

    /// Writes what is sent beside a train or datagram: `stride` for UDP_SEGMENT where it is a
    /// train (Linux `net/ipv4/udp.c`, `__udp_cmsg_send`), ECN as IP_TOS or IPV6_TCLASS where it is
    /// not zero, and `local` as the source address. Returns the bytes used.
    pub(crate) fn write(
        &mut self,
        v4: bool,
        stride: Option<u16>,
        ecn: u8,
        local: Option<Local>,
    ) -> usize {
        let mut used = 0;
        if let Some(stride) = stride {
            used = self.push(
                used,
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                &stride.to_ne_bytes(),
            );
        }
        if ecn != 0 {
            let (level, kind) = if v4 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            used = self.push(used, level, kind, &i32::from(ecn).to_ne_bytes());
        }
        match local.map(|local| (local.address, local.interface)) {
            Some((IpAddr::V4(address), _)) => {
                let mut info = [0; PKTINFO_V4];
                info[4..8].copy_from_slice(&address.octets());
                self.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
            Some((IpAddr::V6(address), interface)) => {
                let mut info = [0; PKTINFO_V6];
                info[..16].copy_from_slice(&address.octets());
                if address.is_unicast_link_local() {
                    info[16..].copy_from_slice(&interface.to_ne_bytes());
                }
                self.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
            }
            None => used,
        }
    }
}

/// What came beside a datagram or train.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Length of each datagram but the last, from UDP_GRO; zero for a single one.
    pub(crate) stride: usize,
    /// The ECN field of the outer header, two bits.
    pub(crate) ecn: u8,
    /// Which of our addresses it came by.
    pub(crate) local: Option<Local>,
}

/// Reads the `used` part of a control buffer. Unknown messages are passed over, and one that does
/// not fit ends the reading.
pub(crate) fn parse(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while control.len() >= HEADER {
        let length = usize::from_ne_bytes(array(&control[LENGTH_AT..]));
        if length < HEADER || length > control.len() {
            break;
        }
        let level = i32::from_ne_bytes(array(&control[LEVEL_AT..]));
        let kind = i32::from_ne_bytes(array(&control[TYPE_AT..]));
        let data = &control[HEADER..length];
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                received.stride = usize::try_from(i32::from_ne_bytes(array(data))).unwrap_or(0);
            }
            // IP_TOS comes as one byte (Linux `net/ipv4/ip_sockglue.c`, `ip_cmsg_recv_tos`).
            (libc::IPPROTO_IP, libc::IP_TOS) if !data.is_empty() => {
                received.ecn = data[0] & 3;
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if data.len() >= 4 => {
                received.ecn = (i32::from_ne_bytes(array(data)) & 3) as u8;
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= PKTINFO_V4 => {
                let address = Ipv4Addr::from(array::<4>(&data[4..]));
                received.local = local(address.into(), &data[..4]);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= PKTINFO_V6 => {
                let address = Ipv6Addr::from(array::<16>(data));
                received.local = local(address.into(), &data[16..]);
            }
            _ => {}
        }
        control = &control[length.next_multiple_of(ALIGN).min(control.len())..];
    }
    received
}

/// What a datagram was sent to, if one can answer from it.
fn local(address: IpAddr, interface: &[u8]) -> Option<Local> {
    let interface = u32::from_ne_bytes(array(interface));
    (!address.is_multicast() && !address.is_unspecified()).then_some(Local { address, interface })
}

/// The first `N` bytes; the callers have looked at the length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecn_is_read_as_it_was_written_in_both_families() {
        for v4 in [true, false] {
            let mut control = Control::EMPTY;
            let used = control.write(v4, Some(1452), 2, None);
            assert!(used <= CAPACITY);
            // UDP_SEGMENT is only ever sent, so it is passed over here.
            assert_eq!(
                parse(&control.0[..used]),
                Received {
                    ecn: 2,
                    ..Received::default()
                }
            );
        }
    }

    #[test]
    fn a_source_goes_without_its_interface_unless_it_is_link_local() {
        for (address, interface) in [("192.0.2.1", 0), ("2001:db8::1", 0), ("fe80::1", 7)] {
            let address: IpAddr = address.parse().unwrap();
            let came = Local {
                address,
                interface: 7,
            };
            let mut control = Control::EMPTY;
            let used = control.write(address.is_ipv4(), Some(1452), 3, Some(came));
            assert!(used <= CAPACITY);
            let sent = parse(&control.0[..used]).local;
            assert_eq!(sent, Some(Local { address, interface }));
        }
    }

    #[test]
    fn what_was_sent_to_a_group_is_not_answered_from_the_group() {
        let group = Local {
            address: "ff02::1".parse().unwrap(),
            interface: 1,
        };
        let mut control = Control::EMPTY;
        let used = control.write(false, None, 0, Some(group));
        assert_eq!(parse(&control.0[..used]), Received::default());
    }

    #[test]
    fn the_stride_is_an_int_beside_the_one_byte_of_ipv4s_tos() {
        let mut control = Control::EMPTY;
        let used = control.push(0, libc::SOL_UDP, libc::UDP_GRO, &1452i32.to_ne_bytes());
        let used = control.push(used, libc::IPPROTO_IP, libc::IP_TOS, &[0b1011_1011]);
        assert_eq!(
            parse(&control.0[..used]),
            Received {
                stride: 1452,
                ecn: 3,
                local: None
            }
        );
    }

    #[test]
    fn a_plain_datagram_without_ecn_needs_no_control_message() {
        let mut control = Control::EMPTY;
        assert_eq!(control.write(true, None, 0, None), 0);
        assert_eq!(parse(&[]), Received::default());
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let mut seed = 1u64;
        for length in 0..CAPACITY {
            let mut control = Control::EMPTY;
            for byte in &mut control.0 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = if seed >> 62 == 0 {
                    (seed >> 40) as u8
                } else {
                    0
                };
            }
            control.0[0] = length as u8;
            parse(&control.0[..length]);
        }
    }
}
