//! Receiving datagrams and trains: recvmmsg(2) with UDP_GRO, straight into buffers of the arena.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use packet::{Arena, Batch, Buf, Datagrams, FRAME_MAX, Path};

use crate::cmsg::{self, Control};
use crate::sockaddr::Sockaddr;
use crate::udp::UdpSocket;

/// Messages one call asks for. With trains of 64 KiB that is 1 MiB, about what the second-level
/// cache holds.
const MESSAGES: usize = 16;
/// Errors that an ICMP message left on a socket are passed over; so many at most in one turn.
const STALE_ERRORS: usize = 8;

/// The arrays that recvmmsg wants, made once.
pub(crate) struct Receiver {
    bufs: Vec<Buf>,
    names: Box<[Sockaddr]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers in `iovecs` and `messages` are written anew before each system call and
// mean nothing after it, so moving the arrays to another thread moves only plain memory.
unsafe impl Send for Receiver {}

impl Receiver {
    pub(crate) fn new() -> Receiver {
        Receiver {
            bufs: Vec::with_capacity(MESSAGES),
            names: vec![Sockaddr::EMPTY; MESSAGES].into(),
            controls: vec![Control::EMPTY; MESSAGES].into(),
            iovecs: vec![EMPTY_IOVEC; MESSAGES].into(),
            messages: vec![EMPTY_MESSAGE; MESSAGES].into(),
        }
    }

    /// Receives from one socket until it has nothing more, or about `bytes` or `datagrams` items
    /// were received, or there is no room for more.
    pub(crate) fn receive(
        &mut self,
        lane: u16,
        socket: &mut UdpSocket,
        arena: &mut Arena,
        datagrams: &mut Batch<Datagrams>,
        (mut items, mut bytes): (usize, usize),
    ) {
        let mut stale_errors = 0;
        while socket.readable && items > 0 && bytes > 0 {
            let wanted = items.min(MESSAGES).min(datagrams.room());
            while self.bufs.len() < wanted
                && let Some(buf) = arena.take()
            {
                self.bufs.push(buf);
            }
            if self.bufs.is_empty() {
                return;
            }
            let asked = self.bufs.len();
            let received = match self.call(socket) {
                Ok(received) => received,
                Err(error) => {
                    self.give_back(arena);
                    match error.kind() {
                        io::ErrorKind::Interrupted => continue,
                        io::ErrorKind::WouldBlock => socket.readable = false,
                        // What ICMP told about some earlier datagram is no matter of this one.
                        _ if stale_errors < STALE_ERRORS => stale_errors += 1,
                        _ => socket.readable = false,
                    }
                    continue;
                }
            };
            // Fewer than asked for: the kernel has met the end of the queue itself, and whatever
            // comes later is a new event.
            socket.readable = received == asked;
            bytes = bytes.saturating_sub(self.hand_over(lane, socket, received, arena, datagrams));
            items = items.saturating_sub(received);
            self.give_back(arena);
        }
    }

    /// One recvmmsg into all of `bufs`.
    fn call(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        for (index, buf) in self.bufs.iter_mut().enumerate() {
            let room = &mut buf.spare_mut()[..FRAME_MAX];
            self.iovecs[index] = libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            };
            let header = &mut self.messages[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = Sockaddr::CAPACITY;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = cmsg::CAPACITY;
            header.msg_flags = 0;
        }
        // SAFETY: the first `bufs.len()` messages point at a name, a control buffer, and one iovec
        // each, of the lengths they say; those and the buffers behind the iovecs are owned by
        // `self`, which is borrowed alone until the call is over. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(
                socket.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.bufs.len() as u32,
                libc::MSG_DONTWAIT,
                null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Hands the first `received` buffers over, in order, and returns their bytes.
    fn hand_over(
        &mut self,
        lane: u16,
        socket: &mut UdpSocket,
        received: usize,
        arena: &mut Arena,
        datagrams: &mut Batch<Datagrams>,
    ) -> usize {
        let mut bytes = 0;
        for (index, mut buf) in self.bufs.drain(..received).enumerate() {
            let message = &self.messages[index];
            let length = (message.msg_len as usize).min(FRAME_MAX);
            let Some(remote) = self.names[index].read() else {
                arena.put(buf);
                continue;
            };
            let used = message.msg_hdr.msg_controllen.min(cmsg::CAPACITY);
            let said = cmsg::parse(&self.controls[index].0[..used]);
            // A cut one cannot be: the room is longer than UDP.
            if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                arena.put(buf);
                continue;
            }
            buf.grow_back(length);
            if said.stride < length {
                buf.set_stride(said.stride);
            }
            bytes += length;
            let local = said.local.or(socket.local());
            socket.disowned.own(local);
            let item = Datagrams {
                lane,
                path: Path { remote, local },
                ecn: said.ecn,
                buf,
            };
            if let Err(item) = datagrams.push(item) {
                // Cannot be: no more was asked for than there is room.
                debug_assert!(false, "received more than there was room for");
                arena.put(item.buf);
            }
        }
        bytes
    }

    /// The buffers that were not filled go home, the first of them to be lent first again.
    fn give_back(&mut self, arena: &mut Arena) {
        while let Some(buf) = self.bufs.pop() {
            arena.put(buf);
        }
    }
}

/// An iovec of nothing.
pub(crate) const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: null_mut(),
    iov_len: 0,
};

/// A message of nothing.
// SAFETY: `mmsghdr` is integers and raw pointers, for which zeros are valid.
pub(crate) const EMPTY_MESSAGE: libc::mmsghdr = unsafe { std::mem::zeroed() };
