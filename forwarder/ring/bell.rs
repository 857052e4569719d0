//! The bell of a worker: whether it may be asleep, and for what it is to be woken.

use crate::sync::{AtomicU8, Ordering, fence};

/// What a worker may be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Wish {
    /// It is awake, and looks into its rings before it sleeps.
    Nothing = 0,
    /// Packets.
    Packets = 1,
    /// Buffers too: it has too few to receive more.
    Buffers = 2,
}

/// Says whether a worker may be asleep, and for what it wants to be woken.
#[derive(Debug)]
pub(crate) struct Bell(AtomicU8);

impl Bell {
    /// The bell of a worker that is awake.
    pub(crate) fn new() -> Bell {
        Bell(AtomicU8::new(Wish::Nothing as u8))
    }

    /// Its worker is about to sleep. It must look into its rings once more after this.
    #[inline]
    pub(crate) fn lie_down(&self, wish: Wish) {
        self.0.store(wish as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Its worker is awake again.
    #[inline]
    pub(crate) fn rise(&self) {
        self.0.store(Wish::Nothing as u8, Ordering::Relaxed);
    }

    /// Whether who has just given its worker `what` must wake it. Of several one does.
    #[inline]
    pub(crate) fn must_wake(&self, what: Wish) -> bool {
        fence(Ordering::SeqCst);
        let wish = self.0.load(Ordering::Relaxed);
        let wanted = wish != Wish::Nothing as u8 && wish >= what as u8;
        wanted && self.0.swap(Wish::Nothing as u8, Ordering::Relaxed) != Wish::Nothing as u8
    }
}
