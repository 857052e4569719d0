//! A question of one pod to an address: a TCP connection, a datagram, or an echo.

use core::time::Duration;
use std::net::IpAddr;

use packet::Time;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

use crate::model::Protocol;
use crate::pod::MARKER;

/// Datagrams and echoes are repeated so often: TCP does it by itself.
const REPEAT: Duration = Duration::from_millis(450);
/// A finished connection may take so long to say good-bye.
const FAREWELL: Duration = Duration::from_millis(400);

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// TCP, UDP or ICMP.
    pub protocol: Protocol,
    /// A pod's address, the world host's, or a service's.
    pub address: IpAddr,
    /// Its port; an echo has none.
    pub port: u16,
}

/// One question under way.
pub(crate) struct Probe {
    pub(crate) handle: SocketHandle,
    number: u64,
    target: Target,
    local_port: u16,
    sent: u32,
    next: Option<Time>,
    deadline: Time,
    outcome: Option<Option<String>>,
    told: bool,
    ended: Option<Time>,
}

impl Probe {
    pub(crate) fn new(
        number: u64,
        target: Target,
        handle: SocketHandle,
        local_port: u16,
        now: Time,
        patience_ms: u64,
    ) -> Probe {
        Probe {
            handle,
            number,
            target,
            local_port,
            sent: 0,
            next: Some(now),
            deadline: now + Duration::from_millis(patience_ms),
            outcome: None,
            told: false,
            ended: None,
        }
    }

    /// When it must be looked at whatever comes.
    pub(crate) fn due(&self) -> Option<Time> {
        match self.ended {
            Some(ended) => Some(ended + FAREWELL),
            None => Some(
                self.next
                    .map_or(self.deadline, |next| next.min(self.deadline)),
            ),
        }
    }

    /// The outcome, once.
    pub(crate) fn tell(&mut self) -> Option<(u64, Option<String>)> {
        if self.told {
            return None;
        }
        let outcome = self.outcome.clone()?;
        self.told = true;
        Some((self.number, outcome))
    }

    /// Whether nothing is left to do; its socket is to be removed then.
    pub(crate) fn is_over(&self, now: Time, sockets: &SocketSet<'_>) -> bool {
        let Some(ended) = self.ended else {
            return false;
        };
        let closed = self.target.protocol == Protocol::Tcp
            && !sockets.get::<tcp::Socket<'_>>(self.handle).is_open();
        self.told && (closed || now >= ended + FAREWELL)
    }

    /// Goes on; `true` if the stack has something to do now.
    pub(crate) fn step(&mut self, now: Time, sockets: &mut SocketSet<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let busy = match self.target.protocol {
            Protocol::Tcp => self.step_tcp(sockets.get_mut(self.handle)),
            Protocol::Icmp => self.step_icmp(now, sockets.get_mut(self.handle)),
            _ => self.step_udp(now, sockets.get_mut(self.handle)),
        };
        if self.outcome.is_none() && now >= self.deadline {
            self.outcome = Some(None);
        }
        if self.outcome.is_some() {
            self.ended = Some(now);
            if self.target.protocol == Protocol::Tcp {
                let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
                if matches!(self.outcome, Some(None)) {
                    socket.abort();
                } else {
                    socket.close();
                }
                return true;
            }
        }
        busy
    }

    fn question(&self) -> Vec<u8> {
        let mut question = MARKER.to_vec();
        question.extend_from_slice(format!("{}.{}", self.number, self.sent).as_bytes());
        question
    }

    /// Reads an answer to any of the questions that were asked.
    fn understand(&mut self, answer: &[u8]) {
        let Some(text) = answer.strip_prefix(MARKER.as_slice()) else {
            return;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        if let Some((name, rest)) = text.split_once('/')
            && rest.split('.').next() == Some(&self.number.to_string())
        {
            self.outcome = Some(Some(name.into()));
        }
    }

    fn step_tcp(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        self.next = None;
        if !socket.is_open() {
            // Refused: an answer of a kind, but no pod serves no port here.
            self.outcome = Some(None);
            return false;
        }
        if self.sent == 0 && socket.may_send() {
            let question = self.question();
            self.sent = 1;
            let _ = socket.send_slice(&question);
            return true;
        }
        if socket.can_recv() {
            let answer = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.understand(&answer.unwrap_or_default());
        }
        false
    }

    fn step_udp(&mut self, now: Time, socket: &mut udp::Socket<'_>) -> bool {
        while let Ok((answer, from)) = socket.recv() {
            let answer = answer.to_vec();
            let expected = (IpAddress::from(self.target.address), self.target.port);
            assert_eq!(
                (from.endpoint.addr, from.endpoint.port),
                expected,
                "an answer from elsewhere than the question went"
            );
            self.understand(&answer);
        }
        if self.outcome.is_none() && self.next.is_some_and(|next| next <= now) {
            self.sent += 1;
            self.next = Some(now + REPEAT);
            let remote = (IpAddress::from(self.target.address), self.target.port);
            let _ = socket.send_slice(&self.question(), remote);
            return true;
        }
        false
    }

    fn step_icmp(&mut self, now: Time, socket: &mut icmp::Socket<'_>) -> bool {
        while let Ok((message, from)) = socket.recv() {
            // Who happens to use the same identifier may ask us in between.
            let is_reply = matches!(message.first(), Some(0 | 129));
            if from != IpAddress::from(self.target.address) || !is_reply {
                continue;
            }
            let data = match from {
                IpAddress::Ipv4(_) => Icmpv4Packet::new_checked(message)
                    .ok()
                    .map(|p| p.data().to_vec()),
                IpAddress::Ipv6(_) => Icmpv6Packet::new_checked(message)
                    .ok()
                    .map(|p| p.payload().to_vec()),
            };
            if data.is_some_and(|data| data.starts_with(MARKER)) {
                self.outcome = Some(Some("echo".into()));
            }
        }
        if self.outcome.is_none() && self.next.is_some_and(|next| next <= now) {
            self.sent += 1;
            self.next = Some(now + REPEAT);
            self.send_echo(socket);
            return true;
        }
        false
    }

    fn send_echo(&self, socket: &mut icmp::Socket<'_>) {
        let data = self.question();
        let (ident, seq_no) = (self.local_port, self.sent as u16);
        let to = IpAddress::from(self.target.address);
        let checksums = ChecksumCapabilities::default();
        match to {
            IpAddress::Ipv4(_) => {
                let echo = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no,
                    data: &data,
                };
                if let Ok(bytes) = socket.send(echo.buffer_len(), to) {
                    echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
                }
            }
            IpAddress::Ipv6(v6) => {
                let echo = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no,
                    data: &data,
                };
                if let Ok(bytes) = socket.send(echo.buffer_len(), to) {
                    // The stack knows the source and writes the checksum again.
                    echo.emit(
                        &v6,
                        &v6,
                        &mut Icmpv6Packet::new_unchecked(bytes),
                        &checksums,
                    );
                }
            }
        }
    }
}
