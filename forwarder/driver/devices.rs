//! What every engine moves batches between: the TUN and the lanes of one worker. It remembers what
//! may have more, reads until the kernel says that nothing is left or a budget is used up, and
//! asks before it sleeps. How readiness is learnt is the engine's.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

use packet::{Arena, Batch, Datagrams, Frame, Packet};

use crate::engine::Outcome;
use crate::spin::Spin;
use crate::tun_io::is_deleted;
use crate::udp::UdpSocket;
use crate::udp_receive::Receiver;
use crate::udp_transmit::Transmitter;
use crate::{Dropped, EngineError, Feature, Sent, Tun, Udp, UdpError};

/// Names the waker among what an engine waits for.
pub(crate) const WAKER: usize = 0;
/// Names the TUN.
pub(crate) const TUN: usize = 1;
/// Sockets follow: lane by its place, then the socket's place in it.
const SOCKETS: usize = 2;
/// Most sockets of one lane.
const LANE_SOCKETS: usize = 16;

/// What one turn takes from each device at most, so that none starves the others and no second of
/// latency builds up behind a full one. Whichever limit comes first ends it.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Frames, or trains of datagrams.
    pub items: usize,
    /// Bytes; the item that passes it is still taken, of trains the whole call.
    pub bytes: usize,
    /// How long a turn asks at most before it sleeps, where that has lately paid; zero: never.
    pub spin: Duration,
}

impl Default for Budget {
    /// 512 KiB are eight super-packets: about 0.4 ms of sealing at 1 µs a segment. 250 µs are what
    /// an answer takes where each of the four on its way has to be woken; with one processor there is
    /// nobody to wait for meanwhile.
    fn default() -> Budget {
        Budget {
            items: 64,
            bytes: 512 << 10,
            spin: match available_parallelism() {
                Ok(processors) if processors.get() > 1 => Duration::from_micros(250),
                _ => Duration::ZERO,
            },
        }
    }
}

/// How an engine learns that a descriptor is ready. Being readable is always told; each thing that
/// comes tells once.
pub(crate) trait Watch {
    /// Waits until something is ready, or `timeout` has passed, and notes it in `devices`. Whether
    /// anything was.
    fn ask(
        &mut self,
        timeout: Option<Duration>,
        devices: &mut Devices,
    ) -> Result<bool, EngineError>;

    /// Waits for room to send by `fd`, named `token`, as well, or no longer.
    fn watch(&mut self, fd: RawFd, token: usize, writable: bool) -> Result<(), EngineError>;

    /// Begins to wait for the sockets of a lane.
    fn register(&mut self, place: usize, lane: &Udp) -> io::Result<()>;

    /// No longer waits for the sockets of a lane, which are closed next.
    fn forget(&mut self, place: usize, lane: &Udp);
}

/// The devices of one worker.
pub(crate) struct Devices {
    pub(crate) tun: Tun,
    tun_readable: bool,
    tun_watched: bool,
    pub(crate) lanes: Vec<Udp>,
    receiver: Receiver,
    transmitter: Transmitter,
    budget: Budget,
    /// Turns so far: the lanes take turns in being read first, and so do the sockets of each.
    turns: usize,
    spin: Spin,
    /// How long the last turn has waited for what came, of which it is not known yet whether anything
    /// is done about it; `None`: it did not wait.
    waited: Option<Duration>,
    /// Bytes that were to be sent in this turn: to the pods, and to the wire.
    moved: (usize, usize),
}

impl Devices {
    pub(crate) fn new(tun: Tun, lanes: Vec<Udp>, budget: Budget) -> Devices {
        Devices {
            tun,
            tun_readable: true,
            tun_watched: false,
            lanes,
            receiver: Receiver::new(),
            transmitter: Transmitter::new(),
            budget,
            turns: 0,
            spin: Spin::new(budget.spin),
            waited: None,
            moved: (0, 0),
        }
    }

    /// One turn of an engine.
    pub(crate) fn turn(
        &mut self,
        watch: &mut impl Watch,
        timeout: Option<Duration>,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
        datagrams: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError> {
        self.settle();
        let timeout = if self.has_more(arena, frames, datagrams) {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        self.wait(watch, timeout)?;
        self.receive_datagrams(arena, datagrams);
        self.receive_frames(arena, frames)
    }

    /// Sleeps, or asks for a while before it does.
    fn wait(
        &mut self,
        watch: &mut impl Watch,
        timeout: Option<Duration>,
    ) -> Result<(), EngineError> {
        if timeout == Some(Duration::ZERO) {
            return watch.ask(timeout, self).map(|_| ());
        }
        let begun = Instant::now();
        let patience = self.spin.patience();
        let patience = patience.min(timeout.unwrap_or(Duration::MAX));
        let mut asked = Duration::ZERO;
        while asked < patience {
            if watch.ask(Some(Duration::ZERO), self)? {
                self.waited = Some(asked);
                return Ok(());
            }
            // Whoever makes the next packet may need this core for it.
            yield_now();
            asked = begun.elapsed();
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(asked));
        // When it was only time, no asking would have made that come sooner.
        let came = watch.ask(left, self)?;
        self.waited = Some(if came { begun.elapsed() } else { Duration::MAX });
        Ok(())
    }

    /// What came has been handled, or a part of it, and this is what is to be sent.
    pub(crate) fn note_work(&mut self, pods: &Batch<Packet>, wire: &Batch<Datagrams>) {
        let to_pods = pods.iter().map(|packet| packet.bytes().len());
        let to_wire = wire.iter().map(|item| item.buf.len());
        self.moved.0 += to_pods.sum::<usize>();
        self.moved.1 += to_wire.sum::<usize>();
    }

    /// What the turn that is over says about the next. Only what leads to something earns that a worker
    /// asks on: a stranger's garbage must not keep a core busy.
    fn settle(&mut self) {
        let (pods, wire) = core::mem::take(&mut self.moved);
        if let Some(time) = self.waited.take() {
            self.spin.waited(time, pods, wire);
        }
        self.spin.moved(pods, wire);
    }

    /// What `token` names may have something to read.
    pub(crate) fn note_readable(&mut self, token: usize) {
        if token == TUN {
            self.tun_readable = true;
        } else if let Some(socket) = self.socket_mut(token) {
            socket.readable = true;
        }
    }

    /// Whether what `token` names may have something to read, as far as is known.
    pub(crate) fn is_readable(&mut self, token: usize) -> bool {
        match token {
            TUN => self.tun_readable,
            _ => self.socket_mut(token).is_some_and(|socket| socket.readable),
        }
    }

    /// There is room to send by what `token` names, and nobody waits for it any longer.
    pub(crate) fn note_room(&mut self, token: usize) {
        if token == TUN {
            self.tun_watched = false;
        } else if let Some(socket) = self.socket_mut(token) {
            socket.watched = false;
        }
    }

    fn socket_mut(&mut self, token: usize) -> Option<&mut UdpSocket> {
        let place = token.checked_sub(SOCKETS)?;
        let lane = self.lanes.get_mut(place / LANE_SOCKETS)?;
        lane.sockets.get_mut(place % LANE_SOCKETS)
    }

    /// The descriptor that `token` names, unless that is the waker.
    pub(crate) fn fd(&mut self, token: usize) -> Option<RawFd> {
        match token {
            TUN => Some(self.tun.as_fd().as_raw_fd()),
            _ => Some(self.socket_mut(token)?.socket.as_raw_fd()),
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

    /// Writes what is queued for the pods by one call each.
    pub(crate) fn transmit_frames(
        &mut self,
        watch: &mut impl Watch,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        let outcome = self.tun.transmit(pods, arena, sent)?;
        self.note_frames(watch, outcome)
    }

    /// Waits for room in the TUN while `outcome` says that there is none.
    pub(crate) fn note_frames(
        &mut self,
        watch: &mut impl Watch,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        let blocked = outcome == Outcome::Blocked;
        if blocked != self.tun_watched {
            watch.watch(self.tun.as_fd().as_raw_fd(), TUN, blocked)?;
            self.tun_watched = blocked;
        }
        Ok(())
    }

    pub(crate) fn transmit_datagrams(
        &mut self,
        watch: &mut impl Watch,
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
                watch.watch(fd, token(place, number), blocked)?;
                socket.watched = blocked;
            }
            if blocked {
                break;
            }
        }
        Ok(())
    }

    /// What runs of all this, behind what the engine says of itself.
    pub(crate) fn features(&self, mut features: Vec<Feature>) -> Vec<Feature> {
        features.extend(self.tun.features());
        features.extend(crate::udp::features(&self.lanes));
        features
    }

    pub(crate) fn listen(
        &mut self,
        watch: &mut impl Watch,
        lane: u16,
        addresses: &[SocketAddr],
    ) -> Result<u16, UdpError> {
        let place = self.place(lane)?;
        let old = &self.lanes[place];
        if old.listens_on(addresses) {
            return Ok(old.port());
        }
        let new = old.moved(addresses)?;
        watch
            .register(place, &new)
            .map_err(|error| UdpError::Kernel {
                address: new.addresses()[0],
                step: "watch it",
                error,
            })?;
        watch.forget(place, old);
        self.lanes[place] = new;
        Ok(self.lanes[place].port())
    }

    pub(crate) fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        self.lanes
            .iter_mut()
            .try_for_each(|lane| lane.set_mark(mark))
    }

    pub(crate) fn mark(&self) -> u32 {
        self.lanes.first().map_or(0, Udp::mark)
    }

    pub(crate) fn addresses(&self, lane: u16) -> Vec<SocketAddr> {
        self.place(lane)
            .map(|place| self.lanes[place].addresses())
            .unwrap_or_default()
    }

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

/// Names socket `number` of the lane at `place`.
fn token(place: usize, number: usize) -> usize {
    SOCKETS + place * LANE_SOCKETS + number
}

/// The sockets of the lane at `place`, each with its name.
pub(crate) fn named(
    place: usize,
    lane: &Udp,
) -> io::Result<impl Iterator<Item = (usize, RawFd)> + '_> {
    if lane.sockets.len() > LANE_SOCKETS {
        return Err(io::Error::other("a lane has at most 16 addresses"));
    }
    let sockets = lane.sockets.iter().enumerate();
    Ok(sockets.map(move |(number, socket)| (token(place, number), socket.socket.as_raw_fd())))
}

pub(crate) fn failed(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Kernel { step, error }
}
