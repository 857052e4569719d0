//! Control messages beside a datagram (cmsg(3)): written and read as bytes, so that it can be
//! tested without a kernel.

use std::mem::{offset_of, size_of};

const ALIGN: usize = size_of::<usize>();
const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(ALIGN);
const LENGTH_AT: usize = offset_of!(libc::cmsghdr, cmsg_len);
const LEVEL_AT: usize = offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_AT: usize = offset_of!(libc::cmsghdr, cmsg_type);

/// Room for four messages of an `int` each; we ask for two.
pub(crate) const CAPACITY: usize = 4 * (HEADER + ALIGN);

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
    /// train (Linux `net/ipv4/udp.c`, `__udp_cmsg_send`), and ECN as IP_TOS or IPV6_TCLASS where
    /// it is not zero. Returns the bytes used.
    pub(crate) fn write(&mut self, v4: bool, stride: Option<u16>, ecn: u8) -> usize {
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
        used
    }
}

/// What came beside a datagram or train.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Length of each datagram but the last, from UDP_GRO; zero for a single one.
    pub(crate) stride: usize,
    /// The ECN field of the outer header, two bits.
    pub(crate) ecn: u8,
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
            _ => {}
        }
        control = &control[length.next_multiple_of(ALIGN).min(control.len())..];
    }
    received
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
            let used = control.write(v4, Some(1452), 2);
            assert!(used <= CAPACITY);
            // UDP_SEGMENT is only ever sent, so it is passed over here.
            assert_eq!(parse(&control.0[..used]), Received { stride: 0, ecn: 2 });
        }
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
                ecn: 3
            }
        );
    }

    #[test]
    fn a_plain_datagram_without_ecn_needs_no_control_message() {
        let mut control = Control::EMPTY;
        assert_eq!(control.write(true, None, 0), 0);
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
