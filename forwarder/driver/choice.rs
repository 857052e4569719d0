//! Which engine a worker has: what was asked for, and what the kernel allows.

use crate::{Budget, Engine, EngineError, Epoll, Tun, Udp, Uring, Waker};

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// epoll: nothing that was measured shows the other to be faster (`uring.rs` has the figures).
    #[default]
    Auto,
    /// epoll and plain calls.
    Epoll,
    /// io_uring; where that cannot run epoll runs in its place, and says why.
    Uring,
}

impl EngineChoice {
    /// Makes the engine of one worker over its TUN and its lanes. Which one it is, and why, is among
    /// its features.
    ///
    /// # Errors
    /// [`EngineError::Kernel`], where the process may not open more files.
    pub fn open(
        self,
        waker: Waker,
        tun: Tun,
        lanes: Vec<Udp>,
        budget: Budget,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let why = match self {
            EngineChoice::Epoll => "switched off".to_owned(),
            // The round trips and rates of the yardstick are alike within its noise.
            EngineChoice::Auto => {
                "it is no faster than epoll here: `engine: uring` takes it".into()
            }
            EngineChoice::Uring => match Uring::try_on(&tun) {
                Ok(()) => return Ok(Box::new(Uring::woken_by(waker, tun, lanes, budget)?)),
                Err(why) => {
                    tracing::warn!("the engine uring cannot run, epoll does: {why}");
                    why
                }
            },
        };
        let epoll = Epoll::woken_by(waker, tun, lanes, budget)?;
        Ok(Box::new(epoll.in_place_of_uring(why)))
    }
}
