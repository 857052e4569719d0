//! TAI64N time stamps (cr.yp.to/libtai/tai64.html) that only ever grow: a responder takes no first
//! message whose stamp is not later than the last one's, so a clock that steps back must not show.

/// Stamps are this coarse, in nanoseconds, so that they tell nobody our exact clock; still more
/// than one for every first message that a peer may send (Linux `noise.c`, `tai64n_now`).
const STEP_NS: u64 = 1 << 24;
/// TAI64 of 1970, with the ten leap seconds before 1972.
const EPOCH: u64 = 0x4000_0000_0000_000a;

/// The stamps that go to one peer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stamps {
    last_ns: u64,
}

impl Stamps {
    /// The later of both.
    pub(crate) fn max(self, other: Stamps) -> Stamps {
        Stamps {
            last_ns: self.last_ns.max(other.last_ns),
        }
    }

    /// The stamp for the wall clock's time, in nanoseconds since 1970.
    pub(crate) fn next(&mut self, unix_ns: u64) -> [u8; 12] {
        let coarse = unix_ns - unix_ns % STEP_NS;
        self.last_ns = coarse.max(self.last_ns.saturating_add(STEP_NS));
        let (seconds, nanos) = (self.last_ns / 1_000_000_000, self.last_ns % 1_000_000_000);
        let mut stamp = [0; 12];
        stamp[..8].copy_from_slice(&(EPOCH + seconds).to_be_bytes());
        stamp[8..].copy_from_slice(&(nanos as u32).to_be_bytes());
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_does_not_stop_the_stamps() {
        let mut stamps = Stamps::default();
        let mut last = stamps.next(1_800_000_000_000_000_000);
        for clock in [1_700_000_000_000_000_000, 0, 5, u64::MAX / 2, 3] {
            let next = stamps.next(clock);
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn the_second_of_1970_is_that_of_tai64() {
        let stamp = Stamps::default().next(1 << 30);
        assert_eq!(stamp[..8], [0x40, 0, 0, 0, 0, 0, 0, 0x0b]);
    }
}
