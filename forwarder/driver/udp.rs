//! The UDP sockets of one lane: made, bound, marked. Receiving and transmitting are in
//! `udp_receive` and `udp_transmit`.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use packet::{Local, Path};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::source::Disowned;
use crate::{Feature, UdpError, sockopt};

/// What a socket buffer is asked to hold, in bytes: at 5 Gbit/s a sleep of 10 ms is 6 MB.
const BUFFER_BYTES: usize = 8 << 20;
/// A random port must be free for each address of the lane; so often another one is tried.
const PORT_TRIES: usize = 16;
/// How long an address that is in use may still become free.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the sockets of a lane are to be.
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// Where to listen, all with one port; 0 lets the kernel choose a random one. An IPv6 wildcard
    /// is left out on a host without IPv6.
    pub listen: Vec<SocketAddr>,
    /// Firewall mark of everything sent (SO_MARK); 0 for none.
    pub mark: u32,
    /// Bytes that each socket buffer is asked to hold.
    pub buffer_bytes: usize,
    /// Whether trains are sent whole (UDP_SEGMENT), where the kernel can.
    pub segmentation: bool,
    /// Whether trains are received whole (UDP_GRO), where the kernel can.
    pub coalescing: bool,
    /// Whether a datagram that is longer than its path is cut on its way. If not, it is lost, or
    /// refused where the own link is too small, and whoever sends it has to find out.
    pub fragments: bool,
}

impl UdpSettings {
    /// Listens on all addresses of both families, with every offload.
    pub fn any(port: u16) -> UdpSettings {
        UdpSettings::on(vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ])
    }

    /// Listens on these addresses, with every offload.
    pub fn on(listen: Vec<SocketAddr>) -> UdpSettings {
        UdpSettings {
            listen,
            mark: 0,
            buffer_bytes: BUFFER_BYTES,
            segmentation: true,
            coalescing: true,
            fragments: true,
        }
    }
}

/// The sockets of one lane: one for each address, IPv4 and IPv6 apart.
#[derive(Debug)]
pub struct Udp {
    pub(crate) lane: u16,
    pub(crate) sockets: Vec<UdpSocket>,
    settings: UdpSettings,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    pub(crate) socket: Socket,
    pub(crate) v4: bool,
    /// Whether trains may be sent whole; an error of the kernel's can end that for good.
    pub(crate) segmentation: Switch,
    pub(crate) coalescing: Switch,
    /// Trains refused by EINVAL one after the other, whose datagrams were then taken singly.
    pub(crate) strikes: u8,
    /// Whether it may have something to read.
    pub(crate) readable: bool,
    /// Whether the engine waits for room to send.
    pub(crate) watched: bool,
    /// Sources that the kernel does not take.
    pub(crate) disowned: Disowned,
    pub(crate) address: SocketAddr,
    receive_bytes: usize,
    send_bytes: usize,
}

/// A feature that runs, or the reason why it does not.
#[derive(Clone, Debug)]
pub(crate) struct Switch(Result<(), String>);

impl Switch {
    pub(crate) fn on(&self) -> bool {
        self.0.is_ok()
    }

    pub(crate) fn why(&self) -> &str {
        self.0.as_ref().err().map_or("", String::as_str)
    }

    /// Switches it off for good.
    pub(crate) fn end(&mut self, why: String) {
        self.0 = Err(why);
    }

    fn probe(wanted: bool, trial: impl FnOnce() -> io::Result<()>) -> Switch {
        Switch(if wanted {
            trial().map_err(|error| format!("the kernel refuses it ({error})"))
        } else {
            Err("switched off".into())
        })
    }
}

impl UdpSocket {
    /// By which of our addresses something came, where the kernel says no more than that it came
    /// by this socket.
    pub(crate) fn local(&self) -> Option<Local> {
        let address = self.address.ip();
        (!address.is_unspecified()).then_some(Local {
            address,
            interface: 0,
        })
    }
}

impl Udp {
    /// Makes the sockets of `lane` in the network namespace of this thread.
    ///
    /// # Errors
    /// [`UdpError`], one sentence that says what to do.
    pub fn bind(lane: u16, settings: UdpSettings) -> Result<Udp, UdpError> {
        let mut tries = 0;
        let sockets = loop {
            tries += 1;
            match bind_all(&settings) {
                Err(UdpError::InUse { address }) if tries < PORT_TRIES && is_random(&settings) => {
                    tracing::debug!(%address, "the random port is taken in the other family");
                }
                other => break other?,
            }
        };
        if sockets.is_empty() {
            return Err(UdpError::NoAddress { lane });
        }
        Ok(Udp {
            lane,
            sockets,
            settings,
        })
    }

    /// The same lane, listening elsewhere.
    pub(crate) fn moved(&self, addresses: &[SocketAddr]) -> Result<Udp, UdpError> {
        let settings = UdpSettings {
            listen: addresses.to_vec(),
            ..self.settings.clone()
        };
        Udp::bind(self.lane, settings)
    }

    /// Whether it listens exactly there already.
    pub(crate) fn listens_on(&self, addresses: &[SocketAddr]) -> bool {
        self.settings.listen.len() == addresses.len()
            && self
                .settings
                .listen
                .iter()
                .zip(addresses)
                .all(|(old, new)| {
                    old.ip() == new.ip() && new.port() != 0 && new.port() == self.port()
                })
    }

    /// The firewall mark of what is sent; 0 for none.
    pub fn mark(&self) -> u32 {
        self.settings.mark
    }

    /// Sets the firewall mark of what is sent (SO_MARK, socket(7)).
    pub(crate) fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        for socket in &self.sockets {
            socket
                .socket
                .set_mark(mark)
                .map_err(|error| failed(socket.address, "set the firewall mark", error))?;
        }
        self.settings.mark = mark;
        Ok(())
    }

    /// The lane.
    pub fn lane(&self) -> u16 {
        self.lane
    }

    /// The port that all its sockets have.
    pub fn port(&self) -> u16 {
        self.sockets[0].address.port()
    }

    /// The socket by which something leaves: the one that has the address that it is to leave by,
    /// else the first of its family.
    pub(crate) fn socket_for(&self, path: Path) -> Option<usize> {
        let v4 = path.remote.is_ipv4();
        let first = self.sockets.iter().position(|socket| socket.v4 == v4)?;
        let Some(local) = path.local else {
            return Some(first);
        };
        let owner = self.sockets[first..]
            .iter()
            .position(|socket| socket.address.ip() == local.address);
        Some(first + owner.unwrap_or(0))
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.address).collect()
    }
}

fn is_random(settings: &UdpSettings) -> bool {
    settings
        .listen
        .first()
        .is_some_and(|first| first.port() == 0)
}

/// Binds each address; the first one's port is everybody's.
fn bind_all(settings: &UdpSettings) -> Result<Vec<UdpSocket>, UdpError> {
    let mut sockets: Vec<UdpSocket> = Vec::new();
    for mut address in settings.listen.iter().copied() {
        if let Some(first) = sockets.first() {
            address.set_port(first.address.port());
        }
        match bind_one(address, settings) {
            Ok(socket) => sockets.push(socket),
            Err((_, error)) if is_missing_family(address, &error) => {
                tracing::info!(%address, %error, "this host has no such address family");
            }
            Err((step, error)) => return Err(failed(address, step, error)),
        }
    }
    Ok(sockets)
}

/// A wildcard that cannot be bound because the host lacks the family is no error: nobody named an
/// address (facts of wireguard: a silent start).
fn is_missing_family(address: SocketAddr, error: &io::Error) -> bool {
    address.ip().is_unspecified()
        && matches!(
            error.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
        )
}

/// Binds a socket, with some patience where the address is in use: what was killed gives its sockets
/// back a moment after it has ended, if a ring held them (io_uring(7): a ring is taken down afterwards).
fn listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match socket.bind(&SockAddr::from(address)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PATIENCE => {
                std::thread::sleep(PATIENCE / 100);
            }
            done => return done,
        }
    }
}

fn bind_one(
    address: SocketAddr,
    settings: &UdpSettings,
) -> Result<UdpSocket, (&'static str, io::Error)> {
    let v4 = address.is_ipv4();
    let at = |step: &'static str| move |error: io::Error| (step, error);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )
    .map_err(at("make a socket"))?;
    if !v4 {
        socket.set_only_v6(true).map_err(at("set IPV6_V6ONLY"))?;
    }
    set_path_options(&socket, address, settings.fragments).map_err(at("set the IP options"))?;
    if settings.mark != 0 {
        socket
            .set_mark(settings.mark)
            .map_err(at("set the firewall mark"))?;
    }
    let (receive_bytes, send_bytes) = set_buffers(&socket, settings.buffer_bytes);
    // include/uapi/linux/udp.h: 0 sets no size, so this only asks whether the option is there.
    let segmentation = Switch::probe(settings.segmentation, || {
        sockopt::set(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0)
    });
    let coalescing = Switch::probe(settings.coalescing, || {
        sockopt::set(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)
    });
    listen(&socket, address).map_err(at("listen"))?;
    let address = socket
        .local_addr()
        .map_err(at("ask for the port"))?
        .as_socket()
        .unwrap_or(address);
    Ok(UdpSocket {
        socket,
        v4,
        segmentation,
        coalescing,
        strikes: 0,
        readable: true,
        watched: false,
        disowned: Disowned::default(),
        address,
        receive_bytes,
        send_bytes,
    })
}

/// ECN is told with each datagram. With `fragments` DF is not set, as Linux's own WireGuard does it
/// (`drivers/net/wireguard/socket.c`, `udp_tunnel_xmit_skb` with df = 0 and `ignore_df`): a datagram
/// longer than the path is cut by this host or by a router. Else DF is set, and what ICMP said of
/// the path is not asked (`IP_PMTUDISC_PROBE`, ip(7)): anybody can say that, and what is found out
/// by probes in the tunnel holds.
///
/// A socket of all addresses asks by which of them a datagram came.
fn set_path_options(socket: &Socket, address: SocketAddr, fragments: bool) -> io::Result<()> {
    let fd = socket.as_fd();
    let wild = i32::from(address.ip().is_unspecified());
    if address.is_ipv4() {
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, wild)?;
        socket.set_recv_tos_v4(true)?;
        let discovery = match fragments {
            true => libc::IP_PMTUDISC_DONT,
            false => libc::IP_PMTUDISC_PROBE,
        };
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discovery)
    } else {
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, wild)?;
        socket.set_recv_tclass_v6(true)?;
        let discovery = match fragments {
            true => libc::IPV6_PMTUDISC_DONT,
            false => libc::IPV6_PMTUDISC_PROBE,
        };
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discovery)
    }
}

/// Asks past the limit of `net.core.rmem_max` first, which needs CAP_NET_ADMIN. Returns what was
/// given; the kernel tells twice of it, for its own bookkeeping (socket(7)).
fn set_buffers(socket: &Socket, bytes: usize) -> (usize, usize) {
    let asked = i32::try_from(bytes).unwrap_or(i32::MAX);
    for (forced, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        // Less than was asked for is no error; it shows among the features.
        let _ = sockopt::set(socket.as_fd(), libc::SOL_SOCKET, forced, asked)
            .or_else(|_| sockopt::set(socket.as_fd(), libc::SOL_SOCKET, plain, asked));
    }
    (
        socket.recv_buffer_size().unwrap_or(0) / 2,
        socket.send_buffer_size().unwrap_or(0) / 2,
    )
}

fn failed(address: SocketAddr, step: &'static str, error: io::Error) -> UdpError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => UdpError::InUse { address },
        Some(libc::EADDRNOTAVAIL) => UdpError::NotOurs { address },
        Some(libc::EPERM | libc::EACCES) => UdpError::NoRights { address, step },
        _ => UdpError::Kernel {
            address,
            step,
            error,
        },
    }
}

/// What runs on the sockets of all these lanes, and why not.
pub(crate) fn features(lanes: &[Udp]) -> Vec<Feature> {
    let sockets = || lanes.iter().flat_map(|lane| &lane.sockets);
    let switch = |name, of: fn(&UdpSocket) -> &Switch| {
        let off = sockets().find(|socket| !of(socket).on());
        let why = off.map_or(String::new(), |socket| {
            format!("{}: {}", socket.address, of(socket).why())
        });
        Feature::new(name, off.is_none(), why)
    };
    let family = |name, v4| {
        let on = sockets().any(|socket| socket.v4 == v4);
        Feature::new(name, on, if on { "" } else { "no socket listens on it" })
    };
    let asked = lanes.iter().map(|lane| lane.settings.buffer_bytes).max();
    let asked = asked.unwrap_or(0);
    let buffer = |name, of: fn(&UdpSocket) -> usize| {
        let given = sockets().map(of).min().unwrap_or(0);
        let why = format!("{} KiB of {} KiB asked for", given >> 10, asked >> 10);
        Feature::new(name, given >= asked, why)
    };
    vec![
        switch("udp.segmentation", |socket| &socket.segmentation),
        switch("udp.coalescing", |socket| &socket.coalescing),
        family("udp.ipv4", true),
        family("udp.ipv6", false),
        buffer("udp.receiveBuffer", |socket| socket.receive_bytes),
        buffer("udp.sendBuffer", |socket| socket.send_bytes),
    ]
}
