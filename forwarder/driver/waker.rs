//! What ends a worker's sleep from any thread: an eventfd (eventfd(2)) of ours, so that it outlives
//! the engine that it wakes. A worker that is made anew is reached by the same one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::Arc;

/// Ends a sleeping [`crate::Engine::turn`]; called before the sleep, it ends the next one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A waker for [`crate::EngineChoice::open`].
    ///
    /// # Errors
    /// What the kernel says, where the process may not open more files.
    pub fn new() -> io::Result<Waker> {
        // SAFETY: eventfd takes two numbers and touches no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened just now, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Waker(Arc::new(file)))
    }

    /// Wakes the engine.
    ///
    /// # Errors
    /// What the kernel says; none is known.
    pub fn wake(&self) -> io::Result<()> {
        let mut file = &*self.0;
        match file.write(&1_u64.to_ne_bytes()) {
            // Nobody reads it, because each write is an event (epoll(7), edge-triggered): after
            // 2^64 - 2 of them it is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut count = [0; 8];
                // Another thread may have emptied it at this moment.
                let _ = file.read(&mut count);
                file.write(&1_u64.to_ne_bytes()).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_that_is_full_still_wakes() {
        let waker = Waker::new().expect("an eventfd");
        (&*waker.0)
            .write_all(&(u64::MAX - 1).to_ne_bytes())
            .expect("the most that it holds");
        waker.wake().expect("woken");
        let mut count = [0; 8];
        (&*waker.0).read_exact(&mut count).expect("readable");
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
