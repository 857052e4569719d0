//! A pod: a smoltcp stack with servers on all its ports, and clients that probe others.

use std::collections::VecDeque;
use std::net::IpAddr;

use packet::Time;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

use crate::inspect::Tuple;
use crate::model::{Protocol, TCP_PORTS, UDP_PORT};
use crate::probe::{Ask, Probe};

/// Bytes that every payload begins with: none of them may be seen on a link.
pub const MARKER: &[u8; 16] = b"FARLANE-PLAIN-16";
/// Listening sockets for each TCP port: so many may connect at the same instant.
const BACKLOG: usize = 3;
/// Ports of clients: so many stacks have so many each, beginning here.
const FIRST_PORT: u16 = 12_000;
const STACKS: u8 = 32;
const PORTS: u16 = 1_500;

/// A pod's or the world host's network stack.
pub struct Stack {
    /// How it calls itself in its answers.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// When it wants to be polled next.
    pub due: Option<Time>,
    cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    listeners: Vec<(SocketHandle, u16)>,
    names: SocketHandle,
    serving: Vec<(SocketHandle, Vec<u8>)>,
    probes: Vec<Probe>,
    first_port: u16,
    ports: u16,
}

/// The stack's end of its veth.
struct Cable {
    inward: VecDeque<Vec<u8>>,
    outward: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Stack {
    /// A stack with servers on all ports. What is random in it comes from `seed`.
    ///
    /// No two stacks have one `number`: by it they share out the ports, and identifiers of echoes, so
    /// that no question has the ends of another's answer.
    pub fn new(
        name: &str,
        addresses: &[IpAddr],
        mtu: usize,
        (number, seed): (u8, u64),
        now: Time,
    ) -> Stack {
        let mut cable = Cable {
            inward: VecDeque::new(),
            outward: VecDeque::new(),
            mtu,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut cable, instant(now));
        interface.update_ip_addrs(|all| {
            for &address in addresses {
                let length = if address.is_ipv4() { 32 } else { 128 };
                let _ = all.push(IpCidr::new(IpAddress::from(address), length));
            }
        });
        // Where to does not matter on a cable without link addresses.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route([192, 0, 0, 1].into());
        let _ = routes.add_default_ipv6_route([0xfe80, 0, 0, 0, 0, 0, 0, 1].into());
        let mut sockets = SocketSet::new(Vec::new());
        let mut names = udp_socket();
        names.bind(UDP_PORT).expect("a fresh socket");
        let names = sockets.add(names);
        let mut stack = Stack {
            name: name.into(),
            addresses: addresses.to_vec(),
            due: Some(now),
            cable,
            interface,
            sockets,
            listeners: Vec::new(),
            names,
            serving: Vec::new(),
            probes: Vec::new(),
            first_port: FIRST_PORT + u16::from(number % STACKS) * PORTS,
            ports: 0,
        };
        for port in TCP_PORTS {
            for _ in 0..BACKLOG {
                stack.listen(port);
            }
        }
        stack
    }

    /// Its address of one family.
    pub fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == v4)
    }

    /// A packet for it comes by the cable.
    pub fn receive(&mut self, packet: &[u8]) {
        self.cable.inward.push_back(packet.to_vec());
    }

    /// The next packet that it has sent.
    pub fn transmitted(&mut self) -> Option<Vec<u8>> {
        self.cable.outward.pop_front()
    }

    /// Begins to ask somebody something; the answer is told by [`Stack::finished`].
    pub fn ask(&mut self, number: u64, ask: Ask, now: Time) {
        let target = ask.target;
        self.ports = (self.ports + 1) % PORTS;
        let Some(from) = self.address(target.address.is_ipv4()) else {
            return;
        };
        let port = self.first_port + self.ports;
        let handle = match target.protocol {
            Protocol::Tcp => {
                let mut socket = tcp_socket();
                let remote = (IpAddress::from(target.address), target.port);
                let local = IpListenEndpoint {
                    addr: Some(from.into()),
                    port,
                };
                socket
                    .connect(self.interface.context(), remote, local)
                    .expect("a fresh socket and a free port");
                self.sockets.add(socket)
            }
            Protocol::Icmp => {
                let mut socket = icmp::Socket::new(
                    icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 2_048]),
                    icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 2_048]),
                );
                socket
                    .bind(icmp::Endpoint::Ident(port))
                    .expect("a fresh socket");
                self.sockets.add(socket)
            }
            _ => {
                let mut socket = udp_socket();
                socket.bind(port).expect("a fresh socket and a free port");
                self.sockets.add(socket)
            }
        };
        let probe = Probe::new(number, ask, handle, port, now);
        self.probes.push(probe);
        self.due = Some(now);
    }

    /// The probes that have come to their end since the last call: number, and who answered.
    pub fn finished(&mut self) -> Vec<(u64, Option<String>)> {
        self.probes.iter_mut().filter_map(Probe::tell).collect()
    }

    /// The connections of its clients that are open, as these send.
    pub fn talks(&self) -> Vec<Tuple> {
        let open = |probe: &&Probe| probe.is_established(&self.sockets);
        let open = self.probes.iter().filter(open);
        open.filter_map(|probe| {
            let to = probe.target;
            Some(Tuple {
                protocol: to.protocol,
                source: (self.address(to.address.is_ipv4())?, probe.local_port),
                destination: (to.address, to.port),
            })
        })
        .collect()
    }

    /// Lets the stack and everybody in it do what they have to do now.
    pub fn poll(&mut self, now: Time) {
        let at = instant(now);
        loop {
            self.interface.poll(at, &mut self.cable, &mut self.sockets);
            let mut busy = self.serve_names();
            busy |= self.serve();
            busy |= self.probe(now);
            if !busy {
                break;
            }
        }
        let stack = self.interface.poll_at(at, &self.sockets).map(time);
        let probes = self.probes.iter().filter_map(Probe::due);
        self.due = stack.into_iter().chain(probes).min();
        // The clock of the stack is coarser than ours, and must not make us poll it for ever.
        self.due = self
            .due
            .map(|due| due.max(now + core::time::Duration::from_micros(1)));
    }

    fn probe(&mut self, now: Time) -> bool {
        let mut busy = false;
        for probe in &mut self.probes {
            busy |= probe.step(now, &mut self.sockets);
        }
        let sockets = &mut self.sockets;
        self.probes.retain(|probe| {
            let done = probe.is_over(now, sockets);
            if done {
                sockets.remove(probe.handle);
            }
            !done
        });
        busy
    }

    fn listen(&mut self, port: u16) {
        let mut socket = tcp_socket();
        socket.listen(port).expect("a fresh socket");
        self.listeners.push((self.sockets.add(socket), port));
    }

    /// The UDP server: says its name and what it was asked.
    fn serve_names(&mut self) -> bool {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.names);
        let mut busy = false;
        while let Ok((question, from)) = socket.recv() {
            let answer = answer(&self.name, question);
            let _ = socket.send_slice(&answer, from);
            busy = true;
        }
        busy
    }

    /// The TCP servers: for each line an answer, until the client ends.
    fn serve(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.listeners.len() {
            let (handle, port) = self.listeners[index];
            if !self.sockets.get::<tcp::Socket<'_>>(handle).is_listening() {
                self.serving.push((handle, Vec::new()));
                self.listeners.swap_remove(index);
                self.listen(port);
                busy = true;
                break;
            }
        }
        let (sockets, name) = (&mut self.sockets, &self.name);
        self.serving.retain_mut(|(handle, heard)| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            while socket.can_recv() {
                let part = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
                heard.extend(part.unwrap_or_default());
            }
            if heard.last() == Some(&b'\n') {
                let _ = socket.send_slice(&answer(name, heard));
                heard.clear();
                busy = true;
            }
            if !socket.may_recv() && socket.may_send() {
                socket.close();
                busy = true;
            }
            let open = socket.is_open();
            if !open {
                sockets.remove(*handle);
            }
            open
        });
        busy
    }
}

fn answer(name: &str, question: &[u8]) -> Vec<u8> {
    let mut answer = MARKER.to_vec();
    answer.extend_from_slice(name.as_bytes());
    answer.push(b'/');
    answer.extend_from_slice(question.get(MARKER.len()..).unwrap_or_default());
    answer
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 4_096]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(smoltcp::time::Duration::from_secs(30)));
    socket
}

fn udp_socket() -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8_192]);
    udp::Socket::new(buffer(), buffer())
}

/// The stack's clock has microseconds.
pub(crate) fn instant(now: Time) -> Instant {
    Instant::from_micros((now.as_nanos() / 1_000) as i64)
}

fn time(at: Instant) -> Time {
    Time::from_nanos(at.total_micros().max(0) as u64 * 1_000)
}

impl Device for Cable {
    type RxToken<'a> = Inward;
    type TxToken<'a> = Outward<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Inward, Outward<'_>)> {
        let packet = self.inward.pop_front()?;
        Some((Inward(packet), Outward(&mut self.outward)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outward<'_>> {
        Some(Outward(&mut self.outward))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Inward(Vec<u8>);

impl RxToken for Inward {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Outward<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outward<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
