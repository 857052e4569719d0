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

/// What is asked, how often, and for how long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Who is asked.
    pub target: Target,
    /// Questions that follow one another, by one connection.
    pub rounds: u32,
    /// Bytes of each question and its answer, about.
    pub bytes: usize,
    /// How long all of it may take, in milliseconds.
    pub patience_ms: u64,
}

/// One question under way, or several.
pub(crate) struct Probe {
    pub(crate) handle: SocketHandle,
    pub(crate) target: Target,
    number: u64,
    rounds: u32,
    bytes: usize,
    pub(crate) local_port: u16,
    sent: u32,
    heard: Vec<u8>,
    asking: bool,
    next: Option<Time>,
    deadline: Time,
    outcome: Option<Option<String>>,
    told: bool,
    ended: Option<Time>,
}

impl Probe {
    pub(crate) fn new(
        number: u64,
        ask: Ask,
        handle: SocketHandle,
        local_port: u16,
        now: Time,
    ) -> Probe {
        Probe {
            handle,
            number,
            target: ask.target,
            rounds: ask.rounds,
            bytes: ask.bytes,
            local_port,
            sent: 0,
            heard: Vec::new(),
            asking: false,
            next: Some(now),
            deadline: now + Duration::from_millis(ask.patience_ms),
            outcome: None,
            told: false,
            ended: None,
        }
    }

    /// When it must be looked at whatever comes.
    pub(crate) fn due(&self) -> Option<Time> {
        match self.ended {
            Some(ended) => Some(ended + FAREWELL),
            // What waits for a connection is woken by the stack.
            None if self.target.protocol == Protocol::Tcp && self.sent == 0 => Some(self.deadline),
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

    /// Whether it asks by a connection that is open at both ends, as far as it knows.
    pub(crate) fn is_established(&self, sockets: &SocketSet<'_>) -> bool {
        let state = || sockets.get::<tcp::Socket<'_>>(self.handle).state();
        self.target.protocol == Protocol::Tcp
            && self.ended.is_none()
            && state() == tcp::State::Established
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
            Protocol::Tcp => self.step_tcp(now, sockets.get_mut(self.handle)),
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
        question.extend_from_slice(format!("{}.{}.", self.number, self.sent).as_bytes());
        question.resize(question.len().max(self.bytes), b'~');
        question.push(b'\n');
        question
    }

    /// Reads an answer to any of the questions that were asked; the last one ends the probe.
    fn understand(&mut self, now: Time, answer: &[u8]) {
        let Some(text) = answer.strip_prefix(MARKER.as_slice()) else {
            return;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        if let Some((name, rest)) = text.split_once('/')
            && rest.split('.').next() == Some(&self.number.to_string())
        {
            self.hear(now, name);
        }
    }

    fn hear(&mut self, now: Time, name: &str) {
        self.rounds = self.rounds.saturating_sub(1);
        self.asking = false;
        match self.rounds {
            0 => self.outcome = Some(Some(name.into())),
            _ => self.next = Some(now + REPEAT),
        }
    }

    fn step_tcp(&mut self, now: Time, socket: &mut tcp::Socket<'_>) -> bool {
        if !socket.is_open() {
            // Refused: an answer of a kind, but no pod serves no port here.
            self.outcome = Some(None);
            return false;
        }
        while socket.can_recv() {
            let part = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.heard.extend(part.unwrap_or_default());
        }
        if self.heard.last() == Some(&b'\n') {
            let answer = core::mem::take(&mut self.heard);
            self.understand(now, &answer);
        }
        let may_ask = !self.asking && self.outcome.is_none() && socket.may_send();
        if may_ask && self.next.is_some_and(|next| next <= now) {
            self.next = None;
            self.asking = true;
            self.sent += 1;
            let _ = socket.send_slice(&self.question());
            return true;
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
            self.understand(now, &answer);
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
                self.hear(now, "echo");
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
