//! The engine that runs everywhere: epoll by mio, and plain calls.
//!
//! mio's events are edge-triggered: each tells once that something came. So the devices remember
//! what may have more, and no turn sleeps while they do.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use packet::{Arena, Batch, Datagrams, Frame, Packet};

use crate::devices::{Budget, Devices, TUN, WAKER, Watch, failed, named};
use crate::{Engine, EngineError, Feature, Sent, Tun, Udp, UdpError, Waker};

/// Events of one call; what does not fit comes with the next.
const EVENTS: usize = 64;

/// The epoll engine of one worker.
pub struct Epoll {
    watch: Poller,
    waker: Waker,
    devices: Devices,
    /// Why this is not the other engine.
    why_not_uring: String,
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
        let mut watch = Poller {
            poll: Poll::new().map_err(failed("epoll_create1"))?,
            events: Events::with_capacity(EVENTS),
        };
        watch
            .add(WAKER, waker.fd().as_raw_fd())
            .map_err(failed("watching the waker"))?;
        watch
            .add(TUN, tun.as_fd().as_raw_fd())
            .map_err(failed("watching the TUN"))?;
        for (place, lane) in lanes.iter().enumerate() {
            watch
                .register(place, lane)
                .map_err(failed("watching a socket"))?;
        }
        Ok(Epoll {
            watch,
            waker,
            devices: Devices::new(tun, lanes, budget),
            why_not_uring: String::new(),
        })
    }

    /// The same, which says why io_uring does not run.
    pub(crate) fn in_place_of_uring(mut self, why: String) -> Epoll {
        self.why_not_uring = why;
        self
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
        self.devices
            .turn(&mut self.watch, timeout, arena, frames, datagrams)
    }

    fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        let Epoll { watch, devices, .. } = self;
        devices.note_work(pods, wire);
        devices.transmit_datagrams(watch, wire, arena, sent)?;
        devices.transmit_frames(watch, pods, arena, sent)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<Feature> {
        self.devices.features(vec![
            Feature::new("engine.epoll", true, ""),
            Feature::new("engine.uring", false, self.why_not_uring.as_str()),
        ])
    }

    fn listen(&mut self, lane: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError> {
        self.devices.listen(&mut self.watch, lane, addresses)
    }

    fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        self.devices.set_mark(mark)
    }

    fn mark(&self) -> u32 {
        self.devices.mark()
    }

    fn addresses(&self, lane: u16) -> Vec<SocketAddr> {
        self.devices.addresses(lane)
    }
}

/// mio, and the events of its last answer.
struct Poller {
    poll: Poll,
    events: Events,
}

impl Poller {
    fn add(&mut self, token: usize, fd: RawFd) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(token), Interest::READABLE)
    }
}

impl Watch for Poller {
    fn ask(
        &mut self,
        timeout: Option<Duration>,
        devices: &mut Devices,
    ) -> Result<bool, EngineError> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other.map_err(failed("epoll_wait"))?,
        }
        for event in &self.events {
            // A deleted interface is an error event; reading then says which.
            if event.is_readable() || event.is_error() || !event.is_writable() {
                devices.note_readable(event.token().0);
            }
        }
        Ok(!self.events.is_empty())
    }

    fn watch(&mut self, fd: RawFd, token: usize, writable: bool) -> Result<(), EngineError> {
        let interest = if writable {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.poll
            .registry()
            .reregister(&mut SourceFd(&fd), Token(token), interest)
            .map_err(failed("epoll_ctl"))
    }

    fn register(&mut self, place: usize, lane: &Udp) -> io::Result<()> {
        named(place, lane)?.try_for_each(|(token, fd)| self.add(token, fd))
    }

    fn forget(&mut self, place: usize, lane: &Udp) {
        for (_, fd) in named(place, lane).into_iter().flatten() {
            // The descriptor is closed next, and epoll forgets it then in any case (epoll(7)).
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }
}
