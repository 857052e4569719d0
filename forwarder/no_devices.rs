//! An engine for tests, over devices that take every setting, say nothing and keep what they get.

use std::net::SocketAddr;
use std::time::Duration;

use driver::{Engine, EngineError, Feature, Sent, UdpError, Waker};
use packet::{Arena, Batch, Datagrams, Frame, Packet};

/// The engine.
pub(crate) struct NoDevices {
    waker: Waker,
    port: u16,
    mark: u32,
}

impl NoDevices {
    pub(crate) fn new(waker: Waker) -> NoDevices {
        NoDevices {
            waker,
            port: 0,
            mark: 0,
        }
    }
}

impl Engine for NoDevices {
    fn turn(
        &mut self,
        _: Option<Duration>,
        _: &mut Arena,
        _: &mut Batch<Frame>,
        _: &mut Batch<Datagrams>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn transmit(
        &mut self,
        _: &mut Batch<Packet>,
        _: &mut Batch<Datagrams>,
        _: &mut Arena,
        _: &mut Sent,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<Feature> {
        Vec::new()
    }

    fn listen(&mut self, _: u16, addresses: &[SocketAddr]) -> Result<u16, UdpError> {
        self.port = addresses.first().map_or(0, SocketAddr::port);
        Ok(self.port)
    }

    fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        self.mark = mark;
        Ok(())
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn addresses(&self, _: u16) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([0, 0, 0, 0], self.port))]
    }
}
