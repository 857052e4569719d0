//! The engine over io_uring: one ring a worker, which it sleeps on, and by which many frames are
//! written to the TUN with one call.
//!
//! What goes which way was measured (two cores, Linux 6.18, ratios to the plain call):
//! - Frames to the TUN, 64 of them by one submission 0.87, 16 about 1.07, one alone 1.3. So short
//!   queues are written by plain calls.
//! - Datagrams to the wire, by the ring 1.01 to 1.20, in linked chains up to 1.4: sendmmsg(2) has
//!   put them into one call already, and stops at the first that would block, which unlinked
//!   submissions do not. So they go as in the epoll engine, in order.
//! - What is ready is told by polls that stay set: a frame or datagram alone 0.94. On a device that has
//!   more than a turn takes none is set: no call asks about it, and whoever sends to us wakes nobody;
//!   64 frames a turn 0.95, what the sender does for them included.

mod ring;
mod writes;

use std::net::SocketAddr;
use std::time::Duration;

use packet::{Arena, Batch, Datagrams, Frame, Packet};

use crate::devices::{Budget, Devices, TUN, Watch, failed};
use crate::{Engine, EngineError, Feature, Sent, Tun, Udp, UdpError, Waker};
use ring::Ring;

/// Packets from which on the ring writes them faster than as many calls do.
const WORTH: usize = 32;

/// The io_uring engine of one worker.
pub struct Uring {
    // Dropped in this order: the ring lets go of the devices before they are closed.
    ring: Ring,
    waker: Waker,
    devices: Devices,
}

impl Uring {
    /// Whether the engine can run over this TUN, found out by trying each thing that it does; else
    /// a sentence that says why not.
    pub fn try_on(tun: &Tun) -> Result<(), String> {
        ring::try_on(tun)
    }

    /// An engine over one TUN and the lanes of a worker. It may move to another thread until its
    /// first turn; from then on it stays with that one.
    ///
    /// # Errors
    /// [`EngineError::Kernel`], where the process may not open more files, or no ring.
    pub fn woken_by(
        waker: Waker,
        tun: Tun,
        lanes: Vec<Udp>,
        budget: Budget,
    ) -> Result<Uring, EngineError> {
        let sockets = lanes.iter().map(|lane| lane.sockets.len()).sum::<usize>();
        let mut ring = Ring::new(sockets).map_err(failed("io_uring_setup"))?;
        ring.add_waker(&waker);
        ring.add(TUN);
        for (place, lane) in lanes.iter().enumerate() {
            ring.register(place, lane)
                .map_err(failed("watching a socket"))?;
        }
        Ok(Uring {
            ring,
            waker,
            devices: Devices::new(tun, lanes, budget),
        })
    }

    fn transmit_frames(
        &mut self,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        let Uring { ring, devices, .. } = self;
        let by_ring = pods.len() >= WORTH && devices.tun.takes_all();
        if !by_ring && ring.writes.is_idle() {
            return devices.transmit_frames(ring, pods, arena, sent);
        }
        let outcome = ring.write_frames(devices, pods, arena, sent)?;
        devices.note_frames(ring, outcome)
    }
}

impl Engine for Uring {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
        datagrams: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError> {
        self.devices
            .turn(&mut self.ring, timeout, arena, frames, datagrams)
    }

    fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        self.devices.note_work(pods, wire);
        self.devices
            .transmit_datagrams(&mut self.ring, wire, arena, sent)?;
        self.transmit_frames(pods, arena, sent)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<Feature> {
        self.devices.features(vec![
            Feature::new("engine.uring", true, ""),
            Feature::new("engine.epoll", false, "the ring runs in its place"),
        ])
    }

    fn listen(&mut self, lane: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError> {
        self.devices.listen(&mut self.ring, lane, addresses)
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
