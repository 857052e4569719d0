//! The wish to end: a signal sets a flag, and every wait of the lab looks at it, so that whatever it
//! holds is let go in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::error::LabError;

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether somebody wants the lab to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Hears SIGINT, SIGTERM and SIGHUP from now on. A second one changes nothing: what cleans up
    /// is not to be interrupted.
    ///
    /// # Errors
    /// What the system says where there is no thread or no signal handler to be had.
    pub(crate) fn watch() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(inside);
        let heard = interrupt.clone();
        let listen = async move {
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hangup.recv() => {}
                }
                heard.0.store(true, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(listen))?;
        Ok(interrupt)
    }

    /// # Errors
    /// [`LabError::Interrupted`] after a signal.
    pub(crate) fn check(&self) -> Result<(), LabError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(LabError::Interrupted),
            false => Ok(()),
        }
    }

    /// # Errors
    /// [`LabError::Interrupted`] after a signal, at once.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), LabError> {
        self.eventually(time, || false).map(|_| ())
    }

    /// Asks again until the answer is yes; false when it is still no at the end of the time.
    ///
    /// # Errors
    /// [`LabError::Interrupted`] after a signal, at once.
    pub(crate) fn eventually(
        &self,
        within: Duration,
        mut question: impl FnMut() -> bool,
    ) -> Result<bool, LabError> {
        let end = Instant::now() + within;
        loop {
            self.check()?;
            if question() {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_early_once_the_flag_is_set() {
        let interrupt = Interrupt::default();
        assert!(interrupt.check().is_ok());
        assert!(!interrupt.eventually(Duration::ZERO, || false).unwrap());
        assert!(interrupt.eventually(Duration::ZERO, || true).unwrap());
        interrupt.0.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let waited = interrupt.sleep(Duration::from_secs(60));
        assert!(matches!(waited, Err(LabError::Interrupted)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
