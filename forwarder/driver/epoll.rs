//! The engine that runs everywhere: epoll by mio, and plain calls.
//!
//! mio's events are edge-triggered: each tells once that something came. So the engine remembers
//! what may have more, reads until the kernel says that nothing is left or a budget is used up,
//! and does not sleep in between.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use packet::{Arena, Batch, Datagrams, Frame, Packet};

use crate::engine::Outcome;
use crate::tun_io::is_deleted;
use crate::udp_receive::Receiver;
use crate::udp_transmit::Transmitter;
use crate::{Dropped, Engine, EngineError, Feature, Sent, Tun, Udp, UdpError, Waker};

const WAKER: Token = Token(0);
const TUN: Token = Token(1);
/// Sockets follow: lane by its place, then the socket's place in it.
const SOCKETS: usize = 2;
/// Most sockets of one lane.
const LANE_SOCKETS: usize = 16;
/// Events of one call; what does not fit comes with the next.
const EVENTS: usize = 64;

/// What one turn takes from each device at most, so that none starves the others and no second of
/// latency builds up behind a full one. Whichever limit comes first ends it.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Frames, or trains of datagrams.
    pub items: usize,
    /// Bytes; the item that passes it is still taken, of trains the whole call.
    pub bytes: usize,
    /// How long after the last thing received a turn still asks instead of sleeping. A wake-up
    /// costs more than many questions, so it shortens round trips; an idle worker sleeps.
    pub spin: Duration,
}

impl Default for Budget {
    /// 512 KiB are eight super-packets: about 0.4 ms of sealing at 1 µs a segment.
    fn default() -> Budget {
        Budget {
            items: 64,
            bytes: 512 << 10,
            spin: Duration::ZERO,
        }
    }
}

/// The epoll engine of one worker.
pub struct Epoll {
    poll: Poll,
    events: Events,
    waker: Waker,
    tun: Tun,
    tun_readable: bool,
    tun_watched: bool,
    lanes: Vec<Udp>,
    receiver: Receiver,
    transmitter: Transmitter,
    budget: Budget,
    /// Turns so far: the lanes take turns in being read first, and so do the sockets of each.
    turns: usize,
    /// When the last turn that received something ended; only kept where the budget has a spin.
    last_work: Option<Instant>,
}

impl Epoll {
    /// An engine over one TUN and the lanes of a worker.
    ///
    /// # Errors
    /// [`EngineError::Kernel`], where the process may not open more files.
    pub fn new(tun: Tun, lanes: Vec<Udp>, budget: Budget) -> Result<Epoll, EngineError> {
        let waker = Waker::new().map_err(failed("eventfd"))?;
        Epoll::woken_by(waker, tun, lanes, budget)
    }

    /// The same, with a waker that others know already.
    ///
    /// # Errors
    /// As [`Epoll::new`].
    pub fn woken_by(
        waker: Waker,
        tun: Tun,
        lanes: Vec<Udp>,
        budget: Budget,
    ) -> Result<Epoll, EngineError> {
        let poll = Poll::new().map_err(failed("epoll_create1"))?;
        let fd = waker.fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), WAKER, Interest::READABLE)
            .map_err(failed("watching the waker"))?;
        let fd = tun.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), TUN, Interest::READABLE)
            .map_err(failed("watching the TUN"))?;
        for (place, lane) in lanes.iter().enumerate() {
            register(poll.registry(), place, lane).map_err(failed("watching a socket"))?;
        }
        Ok(Epoll {
            poll,
            events: Events::with_capacity(EVENTS),
            waker,
            tun,
            tun_readable: true,
            tun_watched: false,
            lanes,
            receiver: Receiver::new(),
            transmitter: Transmitter::new(),
            budget,
            turns: 0,
            last_work: None,
        })
    }

    /// The TUN.
    pub fn tun(&self) -> &Tun {
        &self.tun
    }

    /// Sleeps, or asks for a while before it does, and remembers which devices have something.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EngineError> {
        let spin = self.budget.spin.min(timeout.unwrap_or(Duration::MAX));
        while let Some(last_work) = self.last_work {
            if last_work.elapsed() >= spin {
                self.last_work = None;
                break;
            }
            self.ask(Some(Duration::ZERO))?;
            if !self.events.is_empty() {
                self.note_events();
                return Ok(());
            }
            // Whoever makes the next packet may need this core for it.
            yield_now();
        }
        self.ask(timeout)?;
        self.note_events();
        Ok(())
    }

    fn ask(&mut self, timeout: Option<Duration>) -> Result<(), EngineError> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other.map_err(failed("epoll_wait")),
        }
    }

    fn note_events(&mut self) {
        for event in &self.events {
            match event.token() {
                WAKER => {}
                // A deleted interface is an error event; reading then says which.
                TUN => self.tun_readable |= !event.is_writable() || event.is_readable(),
                Token(token) => {
                    let place = token - SOCKETS;
                    let socket = self
                        .lanes
                        .get_mut(place / LANE_SOCKETS)
                        .and_then(|lane| lane.sockets.get_mut(place % LANE_SOCKETS));
                    if let Some(socket) = socket {
                        socket.readable |= event.is_readable() || event.is_error();
                    }
                }
            }
        }
    }

    /// Whether something could be read at once.
    fn has_more(&self, arena: &Arena, frames: &Batch<Frame>, datagrams: &Batch<Datagrams>) -> bool {
        if arena.available() == 0 {
            return false;
        }
        let mut sockets = self.lanes.iter().flat_map(|lane| &lane.sockets);
        (self.tun_readable && !frames.is_full())
            || (!datagrams.is_full() && sockets.any(|socket| socket.readable))
    }

    fn receive_frames(
        &mut self,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
    ) -> Result<(), EngineError> {
        let Budget {
            items, mut bytes, ..
        } = self.budget;
        let mut left = items.min(frames.room());
        while self.tun_readable && left > 0 && bytes > 0 {
            let Some(buf) = arena.take() else { break };
            match self.tun.receive(buf) {
                Ok(frame) => {
                    bytes = bytes.saturating_sub(frame.buf.len());
                    left -= 1;
                    if let Err(frame) = frames.push(frame) {
                        // Cannot be: no more was asked for than there is room.
                        debug_assert!(false, "received more than there was room for");
                        arena.put(frame.buf);
                    }
                }
                Err((buf, error)) => {
                    arena.put(buf);
                    self.tun_readable = false;
                    if is_deleted(&error) {
                        return Err(self.tun.deleted());
                    }
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(failed("reading the TUN")(error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sockets that may have something share what room there is, each an equal part of what those
    /// before it have left: a flood on one takes nothing from the others. Where there are more of
    /// them than room, whoever is first gets it, so that has to be another one each time.
    fn receive_datagrams(&mut self, arena: &mut Arena, datagrams: &mut Batch<Datagrams>) {
        let lanes = self.lanes.len();
        let sockets = self.lanes.iter().flat_map(|lane| &lane.sockets);
        let mut left = sockets.filter(|socket| socket.readable).count();
        for place in 0..lanes {
            let lane = &mut self.lanes[(self.turns + place) % lanes];
            let sockets = lane.sockets.len();
            for number in 0..sockets {
                let socket = &mut lane.sockets[(self.turns / lanes + number) % sockets];
                if !socket.readable {
                    continue;
                }
                let room = datagrams.room().min(arena.available());
                let share = (room / left).max(1).min(self.budget.items);
                left -= 1;
                let budget = (share, self.budget.bytes);
                self.receiver
                    .receive(lane.lane, socket, arena, datagrams, budget);
            }
        }
        self.turns = self.turns.wrapping_add(1);
    }

    fn transmit_frames(
        &mut self,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        let blocked = self.tun.transmit(pods, arena, sent)? == Outcome::Blocked;
        if blocked != self.tun_watched {
            let fd = self.tun.as_fd().as_raw_fd();
            watch(self.poll.registry(), fd, TUN, blocked)?;
            self.tun_watched = blocked;
        }
        Ok(())
    }

    fn transmit_datagrams(
        &mut self,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        while let Some(item) = wire.iter().next() {
            let Some((place, number)) = socket_for(&self.lanes, item) else {
                if let Some(item) = wire.pop() {
                    sent.drop(item.buf.frames() as u64, Dropped::WireNoSocket);
                    arena.put(item.buf);
                }
                continue;
            };
            let lane = &mut self.lanes[place];
            let outcome = self.transmitter.transmit(lane, number, wire, arena, sent);
            let socket = &mut lane.sockets[number];
            let blocked = outcome == Outcome::Blocked;
            // Room to send is an event only while it is waited for: else each datagram that leaves
            // the host would wake a sleeping worker (Linux `net/core/sock.c`, `sock_def_write_space`).
            if blocked != socket.watched {
                let fd = socket.socket.as_raw_fd();
                watch(self.poll.registry(), fd, token(place, number), blocked)?;
                socket.watched = blocked;
            }
            if blocked {
                break;
            }
        }
        Ok(())
    }
}

impl Engine for Epoll {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
        datagrams: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError> {
        let timeout = if self.has_more(arena, frames, datagrams) {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        self.wait(timeout)?;
        self.receive_datagrams(arena, datagrams);
        self.receive_frames(arena, frames)?;
        let came = !frames.is_empty() || !datagrams.is_empty();
        if came && !self.budget.spin.is_zero() {
            self.last_work = Some(Instant::now());
        }
        Ok(())
    }

    fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        self.transmit_datagrams(wire, arena, sent)?;
        self.transmit_frames(pods, arena, sent)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<Feature> {
        let mut features = vec![Feature::new("engine.epoll", true, "")];
        features.extend(self.tun.features());
        features.extend(crate::udp::features(&self.lanes));
        features
    }

    fn listen(&mut self, lane: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError> {
        let place = self.place(lane)?;
        let old = &self.lanes[place];
        if old.listens_on(addresses) {
            return Ok(old.port());
        }
        let new = old.moved(addresses)?;
        register(self.poll.registry(), place, &new).map_err(|error| UdpError::Kernel {
            address: new.addresses()[0],
            step: "watch it",
            error,
        })?;
        for socket in &self.lanes[place].sockets {
            let fd = socket.socket.as_raw_fd();
            // The descriptor is closed next, and epoll forgets it then in any case (epoll(7)).
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        self.lanes[place] = new;
        Ok(self.lanes[place].port())
    }

    fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        self.lanes
            .iter_mut()
            .try_for_each(|lane| lane.set_mark(mark))
    }

    fn mark(&self) -> u32 {
        self.lanes.first().map_or(0, Udp::mark)
    }

    fn addresses(&self, lane: u16) -> Vec<SocketAddr> {
        self.place(lane)
            .map(|place| self.lanes[place].addresses())
            .unwrap_or_default()
    }
}

impl Epoll {
    fn place(&self, lane: u16) -> Result<usize, UdpError> {
        self.lanes
            .iter()
            .position(|udp| udp.lane() == lane)
            .ok_or(UdpError::NoLane { lane })
    }
}

/// The place of the item's lane, and of its socket there.
fn socket_for(lanes: &[Udp], item: &Datagrams) -> Option<(usize, usize)> {
    let place = lanes.iter().position(|udp| udp.lane() == item.lane)?;
    Some((place, lanes[place].socket_for(item.path)?))
}

fn token(place: usize, number: usize) -> Token {
    Token(SOCKETS + place * LANE_SOCKETS + number)
}

fn register(registry: &Registry, place: usize, lane: &Udp) -> io::Result<()> {
    if lane.sockets.len() > LANE_SOCKETS {
        return Err(io::Error::other("a lane has at most 16 addresses"));
    }
    for (number, socket) in lane.sockets.iter().enumerate() {
        let fd = socket.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token(place, number), Interest::READABLE)?;
    }
    Ok(())
}

/// Waits for room to send as well, or no longer.
fn watch(registry: &Registry, fd: i32, token: Token, writable: bool) -> Result<(), EngineError> {
    let interest = if writable {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    registry
        .reregister(&mut SourceFd(&fd), token, interest)
        .map_err(failed("epoll_ctl"))
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Kernel { step, error }
}
