//! Transmitting datagrams and trains: sendmmsg(2) with UDP_SEGMENT, and what is done when the
//! kernel does not take a train.
//!
//! The queue stays as it is until the kernel has taken something: messages are made from its
//! oldest items, and then exactly those that were taken leave it. So a partial sendmmsg loses
//! nothing, and the order stays.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use packet::{Arena, Batch, Datagrams, Local};

use crate::cmsg::Control;
use crate::engine::Outcome;
use crate::sockaddr::Sockaddr;
use crate::udp::{Udp, UdpSocket};
use crate::udp_receive::{EMPTY_IOVEC, EMPTY_MESSAGE};
use crate::{Dropped, Sent};

/// Messages of one call.
const MESSAGES: usize = 64;
/// The longest train, in datagrams (UDP_MAX_SEGMENTS of Linux before 6.9, `include/linux/udp.h`).
const TRAIN_FRAMES: usize = 64;
/// The longest train, in bytes: what one UDP datagram over IPv4 can have.
const TRAIN_BYTES: usize = 65_507;
/// Trains that EINVAL refuses one after the other, although their datagrams go singly, before none
/// is tried any more. One alone says little: before Linux 6.14 it is also what a train says whose
/// datagrams are longer than the path (`udp_send_skb`).
const STRIKES: u8 = 16;
/// Errors that an ICMP message left on a socket are passed over; so many at most in one call.
const STALE_ERRORS: usize = 8;

/// The arrays that sendmmsg wants, made once.
pub(crate) struct Transmitter {
    names: Box<[Sockaddr]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
    /// Messages that are filled.
    filled: usize,
    /// Whether the oldest item goes datagram by datagram, because the kernel refused it as a train.
    singly: bool,
    /// Whether it was EINVAL that refused it.
    suspicious: bool,
    stale_errors: usize,
    /// What the oldest item is asked to leave by.
    source: Source,
}

/// Whether the oldest item names a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// If it has one.
    Named,
    /// The kernel refused it with this one; it is tried without.
    Left(Local),
    /// It refused it without, too: the address is not at fault.
    Cleared,
}

// SAFETY: the raw pointers in `iovecs` and `messages` are written anew before each system call and
// mean nothing after it, so moving the arrays to another thread moves only plain memory.
unsafe impl Send for Transmitter {}

impl Transmitter {
    pub(crate) fn new() -> Transmitter {
        Transmitter {
            names: vec![Sockaddr::EMPTY; MESSAGES].into(),
            controls: vec![Control::EMPTY; MESSAGES].into(),
            iovecs: vec![EMPTY_IOVEC; MESSAGES].into(),
            messages: vec![EMPTY_MESSAGE; MESSAGES].into(),
            filled: 0,
            singly: false,
            suspicious: false,
            stale_errors: 0,
            source: Source::Named,
        }
    }

    /// Sends the oldest items, as many as are of the lane's socket `number`, until one is another's
    /// or the kernel takes no more. The oldest must be its.
    pub(crate) fn transmit(
        &mut self,
        lane: &mut Udp,
        number: usize,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Outcome {
        self.stale_errors = 0;
        while wire
            .iter()
            .next()
            .is_some_and(|item| is_its(lane, number, item))
        {
            self.fill(lane, number, wire);
            let socket = &mut lane.sockets[number];
            match self.call(socket) {
                Ok(taken) => self.settle(socket, taken, wire, arena, sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Outcome::Blocked;
                }
                Err(error) => self.refuse(socket, &error, wire, arena, sent),
            }
        }
        Outcome::Drained
    }

    /// Makes messages of the oldest items.
    fn fill(&mut self, lane: &Udp, number: usize, wire: &Batch<Datagrams>) {
        self.filled = 0;
        let socket = &lane.sockets[number];
        let mut singly = self.singly;
        let its = wire.iter().take_while(|item| is_its(lane, number, item));
        for item in its {
            if self.filled == MESSAGES {
                return;
            }
            let bytes = item.buf.as_slice();
            let stride = item.buf.stride();
            let is_train = item.buf.frames() > 1;
            if !is_train {
                self.add(socket, item, bytes, None);
            } else if can_be_sent_whole(item) && socket.segmentation.on() && !singly {
                // `can_be_sent_whole` has seen that it fits.
                self.add(socket, item, bytes, Some(stride as u16));
            } else {
                let room = MESSAGES - self.filled;
                for frame in bytes.chunks(stride).take(room) {
                    self.add(socket, item, frame, None);
                }
            }
            singly = false;
        }
    }

    /// Makes one message.
    fn add(&mut self, socket: &UdpSocket, item: &Datagrams, bytes: &[u8], stride: Option<u16>) {
        let index = self.filled;
        let control =
            self.controls[index].write(socket.v4, stride, item.ecn, self.source(socket, item));
        self.iovecs[index] = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let header = &mut self.messages[index].msg_hdr;
        header.msg_namelen = self.names[index].write(item.path.remote);
        header.msg_name = (&raw mut self.names[index]).cast();
        header.msg_iov = &raw mut self.iovecs[index];
        header.msg_iovlen = 1;
        header.msg_control = if control == 0 {
            null_mut()
        } else {
            (&raw mut self.controls[index]).cast()
        };
        header.msg_controllen = control;
        header.msg_flags = 0;
        self.filled += 1;
    }

    /// The source address that the item being added leaves by, if not by the routing tables' choice.
    fn source(&self, socket: &UdpSocket, item: &Datagrams) -> Option<Local> {
        let oldest = self.filled == 0;
        match self.source {
            Source::Left(_) if oldest => None,
            _ => named(socket, item),
        }
    }

    /// One sendmmsg of what is filled.
    fn call(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: `fill` has just made the first `filled` messages point at names, control buffers
        // and iovecs of `self`, and these at items of the queue, which its caller holds borrowed
        // until after this call; the kernel only reads them, and writes `msg_len`.
        let taken = unsafe {
            libc::sendmmsg(
                socket.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.filled as u32,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// The kernel has taken the first `taken` messages.
    fn settle(
        &mut self,
        socket: &mut UdpSocket,
        taken: usize,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) {
        if taken > 0
            && let Source::Left(local) = self.source
        {
            socket.disowned.add(local);
        }
        self.source = Source::Named;
        for index in 0..taken {
            if self.suspicious {
                self.suspicious = false;
                socket.strikes += 1;
                if socket.strikes >= STRIKES {
                    socket
                        .segmentation
                        .end("the kernel refuses trains (EINVAL)".into());
                }
            } else if is_whole_train(wire, self.iovecs[index].iov_len) && !self.singly {
                socket.strikes = 0;
            }
            sent.wire += self.remove(index, wire, arena);
        }
    }

    /// The kernel has refused the first message.
    fn refuse(
        &mut self,
        socket: &mut UdpSocket,
        error: &io::Error,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) {
        let errno = error.raw_os_error().unwrap_or(0);
        let was_train = is_whole_train(wire, self.iovecs[0].iov_len);
        match errno {
            // What ICMP told about some earlier datagram is no matter of this one.
            libc::ECONNREFUSED | libc::ECONNRESET | libc::EPROTO
                if self.stale_errors < STALE_ERRORS =>
            {
                self.stale_errors += 1;
            }
            libc::EINVAL | libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::ENODEV
                if let Some(source) = self.doubt(socket, wire) =>
            {
                self.source = source;
            }
            // The device on the way cannot finish checksums (`udp_send_skb`).
            libc::EIO if was_train => socket
                .segmentation
                .end("the network device cannot (EIO)".into()),
            libc::EINVAL | libc::EMSGSIZE if was_train => {
                self.singly = true;
                self.suspicious = errno == libc::EINVAL;
            }
            _ => {
                self.suspicious = false;
                if let (libc::EMSGSIZE, Some(item)) = (errno, wire.iter().next()) {
                    sent.note_too_big(item.path.remote.ip(), self.iovecs[0].iov_len);
                }
                let segments = self.remove(0, wire, arena);
                sent.drop(segments, cause(errno));
            }
        }
    }

    /// How to try the oldest item again, if its source address may be why it was refused. Of one that
    /// is gone Linux says EINVAL, and over IPv4 by now (seen on 6.18) ENETUNREACH (`net/ipv4/route.c`,
    /// `ip_route_output_key_hash_rcu`; `net/ipv6/datagram.c`, `ip6_datagram_send_ctl`); both are said
    /// of a destination, too, so it is at fault only if the same goes without it.
    fn doubt(&self, socket: &UdpSocket, wire: &Batch<Datagrams>) -> Option<Source> {
        match self.source {
            Source::Named => {
                let item = wire.iter().next()?;
                named(socket, item).map(Source::Left)
            }
            Source::Left(_) => Some(Source::Cleared),
            Source::Cleared => None,
        }
    }

    /// Takes the bytes of message `index` out of the queue, whose oldest they are, and returns how
    /// many datagrams they were.
    fn remove(&mut self, index: usize, wire: &mut Batch<Datagrams>, arena: &mut Arena) -> u64 {
        let bytes = self.iovecs[index].iov_len;
        let Some(mut item) = wire.pop() else { return 0 };
        let segments = bytes.div_ceil(item.buf.stride().max(1));
        if bytes < item.buf.len() {
            item.buf.shrink_front(bytes);
            wire.put_back(item);
        } else {
            self.singly = false;
            // What was found out about its source holds for all of a train, and for no other item.
            self.source = Source::Named;
            arena.put(item.buf);
        }
        segments as u64
    }
}

/// Whether an item leaves by the lane's socket `number`.
fn is_its(lane: &Udp, number: usize, item: &Datagrams) -> bool {
    item.lane == lane.lane && lane.socket_for(item.path) == Some(number)
}

/// The source address that an item names, if the kernel takes it; a socket of one address needs none.
fn named(socket: &UdpSocket, item: &Datagrams) -> Option<Local> {
    if socket.local().is_some() {
        return None;
    }
    socket.disowned.usable(item.path.local)
}

/// Whether the oldest item is a train, and of `bytes` in all.
fn is_whole_train(wire: &Batch<Datagrams>, bytes: usize) -> bool {
    wire.iter()
        .next()
        .is_some_and(|item| item.buf.frames() > 1 && item.buf.len() == bytes)
}

/// Whether UDP_SEGMENT can carry it at all.
fn can_be_sent_whole(item: &Datagrams) -> bool {
    item.buf.frames() <= TRAIN_FRAMES && item.buf.len() <= TRAIN_BYTES
}

fn cause(errno: i32) -> Dropped {
    match errno {
        libc::EMSGSIZE => Dropped::WireTooBig,
        libc::EPERM | libc::EACCES => Dropped::WireForbidden,
        // EINVAL is what a blackhole route says (Linux `net/ipv4/fib_semantics.c`, `fib_props`).
        libc::ENETUNREACH
        | libc::EHOSTUNREACH
        | libc::ENETDOWN
        | libc::EHOSTDOWN
        | libc::EADDRNOTAVAIL
        | libc::EINVAL => Dropped::WireUnreachable,
        _ => Dropped::WireRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockopt;
    use crate::udp_receive::Receiver;
    use crate::{Udp, UdpSettings};
    use std::os::fd::AsFd;

    /// `SO_NO_CHECK` makes the kernel refuse trains with EINVAL, and nothing else
    /// (Linux `net/ipv4/udp.c`, `udp_send_skb`).
    fn socket_that_refuses_trains() -> Udp {
        let udp = loopback(0);
        let fd = udp.sockets[0].socket.as_fd();
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        udp
    }

    fn loopback(lane: u16) -> Udp {
        Udp::bind(lane, UdpSettings::on(vec!["127.0.0.1:0".parse().unwrap()])).unwrap()
    }

    #[test]
    fn trains_that_are_refused_go_singly_and_after_enough_of_them_for_good() {
        let (mut from, mut to) = (socket_that_refuses_trains(), loopback(1));
        let remote = to.addresses()[0];
        let (mut arena, mut sent) = (Arena::new(0, 64), Sent::default());
        let (mut wire, mut came) = (Batch::with_limit(8), Batch::with_limit(8));
        let (mut transmitter, mut receiver) = (Transmitter::new(), Receiver::new());
        for round in 0..=STRIKES {
            assert_eq!(from.sockets[0].segmentation.on(), round < STRIKES);
            let mut buf = arena.take().unwrap();
            buf.extend(&[round; 250]);
            buf.set_stride(100);
            let item = Datagrams {
                lane: 0,
                path: remote.into(),
                ecn: 0,
                buf,
            };
            wire.push(item).unwrap();
            let outcome = transmitter.transmit(&mut from, 0, &mut wire, &mut arena, &mut sent);
            assert_eq!(outcome, Outcome::Drained);
            for length in [100, 100, 50] {
                // Loopback delivers before sendmmsg returns.
                to.sockets[0].readable = true;
                receiver.receive(1, &mut to.sockets[0], &mut arena, &mut came, (1, 1));
                let item = came.pop().unwrap();
                assert_eq!(item.buf.as_slice(), vec![round; length]);
                arena.put(item.buf);
            }
        }
        assert_eq!(sent.wire, 3 * (u64::from(STRIKES) + 1));
        assert_eq!((sent.dropped.iter().sum::<u64>(), arena.lent()), (0, 0));
    }

    #[test]
    fn a_train_to_nowhere_costs_one_call_a_datagram_once_its_source_is_cleared() {
        const FRAMES: usize = 10;
        let any = UdpSettings::on(vec!["0.0.0.0:0".parse().unwrap()]);
        let mut udp = Udp::bind(0, any).unwrap();
        let (mut arena, mut sent) = (Arena::new(0, 8), Sent::default());
        let mut wire = Batch::with_limit(8);
        let mut buf = arena.take().unwrap();
        buf.extend(&[1; FRAMES * 100]);
        buf.set_stride(100);
        let local = Local {
            address: "127.0.0.1".parse().unwrap(),
            interface: 1,
        };
        // Port 0 is refused as a blackhole route is (Linux `net/ipv4/udp.c`, `udp_sendmsg`).
        let path = packet::Path {
            remote: "127.0.0.1:0".parse().unwrap(),
            local: Some(local),
        };
        let item = Datagrams {
            lane: 0,
            path,
            ecn: 0,
            buf,
        };
        wire.push(item).unwrap();
        let (mut transmitter, mut calls) = (Transmitter::new(), 0);
        while !wire.is_empty() {
            transmitter.fill(&udp, 0, &wire);
            let socket = &mut udp.sockets[0];
            let error = transmitter.call(socket).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            transmitter.refuse(socket, &error, &mut wire, &mut arena, &mut sent);
            calls += 1;
        }
        // The train with its source, without it, and with it again.
        assert_eq!(calls, 3 + FRAMES);
        assert_eq!(sent.dropped(Dropped::WireUnreachable), FRAMES as u64);
        assert_eq!(
            transmitter.source,
            Source::Named,
            "the next item is another"
        );
        let usable = udp.sockets[0].disowned.usable(Some(local));
        assert_eq!((usable, arena.lent()), (Some(local), 0));
    }
}
