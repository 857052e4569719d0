//! Many datagrams by one system call: sendmmsg(2) and recvmmsg(2) without any offload, so that each
//! datagram takes the kernel's way alone. For what makes and counts test traffic; no packet of a
//! node passes here.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr::null_mut;

use crate::sockopt;
use crate::udp_receive::{EMPTY_IOVEC, EMPTY_MESSAGE};

/// Datagrams of one call at most.
const DATAGRAMS: usize = 64;
/// The longest datagram in bytes.
const LONGEST: usize = 2_048;
/// What each socket buffer is asked to hold in bytes: a receiver that the scheduler keeps waiting
/// for 10 ms must not be what loses a datagram.
const BUFFER_BYTES: i32 = 32 << 20;

/// A UDP socket, connected to send or bound to receive, with room for 64 datagrams.
#[derive(Debug)]
pub struct Volley {
    socket: UdpSocket,
    payloads: Vec<[u8; LONGEST]>,
    iovecs: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Volley {
    /// How many datagrams one call takes or gives at most.
    pub const DATAGRAMS: usize = DATAGRAMS;
    /// The longest datagram in bytes.
    pub const LONGEST: usize = LONGEST;

    /// Takes a socket over, and asks for large buffers past the host's limit, which needs
    /// CAP_NET_ADMIN; where that fails it stays with what it has.
    pub fn new(socket: UdpSocket) -> Volley {
        for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
            let _ = sockopt::set(socket.as_fd(), libc::SOL_SOCKET, option, BUFFER_BYTES);
        }
        Volley {
            socket,
            payloads: vec![[0; LONGEST]; DATAGRAMS],
            iovecs: vec![EMPTY_IOVEC; DATAGRAMS],
            messages: vec![EMPTY_MESSAGE; DATAGRAMS],
        }
    }

    /// The bytes of one of the datagrams, to be written before [`Volley::send`].
    ///
    /// # Panics
    /// From the 64th on.
    pub fn payload_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.payloads[index]
    }

    /// Sends the first `count` datagrams, `bytes` of each, and says how many of them the kernel
    /// took: those from the front.
    ///
    /// # Errors
    /// What the kernel says of the first one.
    pub fn send(&mut self, count: usize, bytes: usize) -> io::Result<usize> {
        let socket = self.socket.as_raw_fd();
        self.send_on(socket, count, bytes)
    }

    /// The same by another socket that is connected: another flow.
    ///
    /// # Errors
    /// What the kernel says of the first one.
    pub fn send_by(&mut self, socket: &UdpSocket, count: usize, bytes: usize) -> io::Result<usize> {
        self.send_on(socket.as_raw_fd(), count, bytes)
    }

    fn send_on(&mut self, socket: RawFd, count: usize, bytes: usize) -> io::Result<usize> {
        let count = count.min(DATAGRAMS);
        self.aim(bytes.min(LONGEST));
        // SAFETY: `aim` has made the first `count` messages point at one iovec each, and these at
        // a payload of at least their length; all of it is owned by `self`, which is borrowed alone
        // until the call is over. There are no names and no control messages.
        let taken = unsafe { libc::sendmmsg(socket, self.messages.as_mut_ptr(), count as u32, 0) };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// Waits for one datagram, as long as the socket's time-out, takes what else is there, and says
    /// how many that are; [`Volley::received`] has them.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` when the time is up.
    pub fn receive(&mut self) -> io::Result<usize> {
        self.aim(LONGEST);
        // SAFETY: as in `send`; recvmmsg writes no more than an iovec's length to its payload. No
        // time-out is given, since the socket has its own.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                DATAGRAMS as u32,
                libc::MSG_WAITFORONE,
                null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// One of the datagrams of the last [`Volley::receive`].
    ///
    /// # Panics
    /// From the 64th on.
    pub fn received(&self, index: usize) -> &[u8] {
        let length = self.messages[index].msg_len as usize;
        &self.payloads[index][..length.min(LONGEST)]
    }

    /// Lets each message point at its payload, as long as `bytes`.
    fn aim(&mut self, bytes: usize) {
        for index in 0..DATAGRAMS {
            self.iovecs[index] = libc::iovec {
                iov_base: self.payloads[index].as_mut_ptr().cast(),
                iov_len: bytes,
            };
            let header = &mut self.messages[index].msg_hdr;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_as_one_volley_arrives_as_single_datagrams_in_order() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        let (mut from, mut to) = (Volley::new(from), Volley::new(to));
        for index in 0..10 {
            from.payload_mut(index)[0] = index as u8;
        }
        assert_eq!(from.send(10, 64).unwrap(), 10);
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let count = to.receive().unwrap();
            seen.extend((0..count).map(|index| (to.received(index)[0], to.received(index).len())));
        }
        let wanted: Vec<(u8, usize)> = (0..10).map(|index| (index, 64)).collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_receiver_without_a_sender_gives_up_when_its_time_is_over() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = std::time::Duration::from_millis(20);
        socket.set_read_timeout(Some(patience)).unwrap();
        let kind = Volley::new(socket).receive().unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::WouldBlock);
    }
}
