//! What a worker sees of the kernel: one breath in, one breath out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use packet::{Arena, Batch, Datagrams, Frame, Packet};

use crate::{Dropped, EngineError, Feature, UdpError, Waker};

/// Moves batches between the devices of one worker and its core.
///
/// Completions may come later than the call that asked for them (io_uring): what was sent or
/// dropped is told by whichever later call learns of it.
pub trait Engine: Send {
    /// Sleeps until a device has something, the waker was called or `timeout` has passed (`None`:
    /// without limit), then receives a bounded part of what is there. It does not sleep while
    /// something is left from the turn before.
    ///
    /// Frames and datagrams are appended in the order of their device; where a batch is full or
    /// the arena empty, the rest stays with the kernel.
    ///
    /// # Errors
    /// [`EngineError::Deleted`] when the interface is gone: the worker ends.
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
        datagrams: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError>;

    /// Gives the kernel what is queued, oldest first. What it does not take now stays, in order,
    /// and the next turn wakes when it takes more; every buffer that is done with goes to `arena`.
    ///
    /// # Errors
    /// [`EngineError::Deleted`] when the interface is gone: the worker ends.
    fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError>;

    /// What ends a sleeping [`Engine::turn`] from any thread.
    fn waker(&self) -> Waker;

    /// What runs, and what does not, and why; now, after what may have been switched off on the
    /// way.
    fn features(&self) -> Vec<Feature>;

    /// Lets a lane listen somewhere else (all with one port; 0: a random one), and returns the
    /// port. Where that fails, it listens where it did.
    ///
    /// # Errors
    /// [`UdpError`], one sentence that says what to do.
    fn listen(&mut self, lane: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError>;

    /// Sets the firewall mark of everything that leaves by the wire side, of all lanes; 0 for none.
    ///
    /// # Errors
    /// [`UdpError::NoRights`] without CAP_NET_ADMIN.
    fn set_mark(&mut self, mark: u32) -> Result<(), UdpError>;

    /// The firewall mark that is set; 0 for none.
    fn mark(&self) -> u32;

    /// Where a lane listens now.
    fn addresses(&self, lane: u16) -> Vec<SocketAddr>;
}

/// The engine that was chosen at start.
impl<E: Engine + ?Sized> Engine for Box<E> {
    fn turn(
        &mut self,
        timeout: Option<Duration>,
        arena: &mut Arena,
        frames: &mut Batch<Frame>,
        datagrams: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError> {
        (**self).turn(timeout, arena, frames, datagrams)
    }

    fn transmit(
        &mut self,
        pods: &mut Batch<Packet>,
        wire: &mut Batch<Datagrams>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<(), EngineError> {
        (**self).transmit(pods, wire, arena, sent)
    }

    fn waker(&self) -> Waker {
        (**self).waker()
    }

    fn features(&self) -> Vec<Feature> {
        (**self).features()
    }

    fn listen(&mut self, lane: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError> {
        (**self).listen(lane, addresses)
    }

    fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        (**self).set_mark(mark)
    }

    fn mark(&self) -> u32 {
        (**self).mark()
    }

    fn addresses(&self, lane: u16) -> Vec<SocketAddr> {
        (**self).addresses(lane)
    }
}

/// What happened to segments that were to be sent, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Segments that the pod side's device took.
    pub pods: u64,
    /// Datagrams that the wire side's sockets took.
    pub wire: u64,
    /// Segments that were dropped, by the number of their [`Dropped`].
    pub dropped: [u64; Dropped::COUNT],
    /// Where the shortest of the datagrams was to go that were too long for the own link since this
    /// was taken last, and its bytes of payload.
    pub too_big: Option<(IpAddr, usize)>,
}

impl Sent {
    /// Counts `segments` as dropped for `cause`.
    pub(crate) fn drop(&mut self, segments: u64, cause: Dropped) {
        self.dropped[cause as usize] += segments;
    }

    /// Notes a datagram that was too long for the own link.
    pub(crate) fn note_too_big(&mut self, remote: IpAddr, bytes: usize) {
        if self.too_big.is_none_or(|(_, shortest)| bytes < shortest) {
            self.too_big = Some((remote, bytes));
        }
    }

    /// Segments dropped for `cause`.
    pub fn dropped(&self, cause: Dropped) -> u64 {
        self.dropped[cause as usize]
    }
}

/// How far a queue was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left.
    Drained,
    /// The kernel takes no more now.
    Blocked,
}
