//! Which counters of a session were seen: a ring of bits that moves forward with the highest one
//! (RFC 6479, as wireguard-go's `replay/replay.go` has it). Asked before decrypting, to save the
//! work; told after it, since only an authenticated counter may move the window.

const BLOCKS: usize = 128;
const BLOCK_BITS: u64 = u64::BITS as u64;
/// How far behind the highest counter a message may come: one block of the ring is always in part
/// ahead, so 8,128 and not 8,192.
pub(crate) const WINDOW: u64 = (BLOCKS as u64 - 1) * BLOCK_BITS;

const _: () = assert!(BLOCKS.is_power_of_two() && WINDOW == 8_128);

/// The window of one session.
pub(crate) struct Replay {
    highest: u64,
    ring: [u64; BLOCKS],
}

impl Replay {
    pub(crate) const fn new() -> Replay {
        Replay {
            highest: 0,
            ring: [0; BLOCKS],
        }
    }

    /// Marks a counter as seen; false if it was, or is too old to know.
    #[inline]
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        if !self.fresh(counter) {
            return false;
        }
        let block = counter / BLOCK_BITS;
        let newest = self.highest / BLOCK_BITS;
        if block > newest {
            // Clear the blocks that come into the window; after one full turn all are clear.
            for fresh in 1..=(block - newest).min(BLOCKS as u64) {
                self.ring[(newest + fresh) as usize % BLOCKS] = 0;
            }
        }
        self.highest = self.highest.max(counter);
        self.ring[block as usize % BLOCKS] |= 1 << (counter % BLOCK_BITS);
        true
    }

    /// Whether [`Replay::accept`] would take this counter.
    #[inline]
    pub(crate) fn fresh(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        if self.highest - counter > WINDOW {
            return false;
        }
        let bits = self.ring[(counter / BLOCK_BITS) as usize % BLOCKS];
        bits & 1 << (counter % BLOCK_BITS) == 0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_counter_is_zero_and_counts_once() {
        let mut replay = Replay::new();
        assert!(replay.accept(0));
        assert!(!replay.accept(0));
    }

    #[test]
    fn the_window_ends_where_it_says() {
        let mut replay = Replay::new();
        assert!(replay.accept(WINDOW + 10));
        assert!(replay.accept(10));
        assert!(!replay.accept(9));
    }

    #[test]
    fn a_jump_over_the_whole_ring_forgets_nothing_that_matters() {
        let mut replay = Replay::new();
        assert!(replay.accept(5));
        assert!(replay.accept(u64::MAX));
        assert!(!replay.accept(u64::MAX));
        assert!(!replay.accept(5));
        assert!(replay.accept(u64::MAX - WINDOW));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..20_000), 1..400)) {
            let mut replay = Replay::new();
            let (mut seen, mut highest, mut base) = (HashSet::new(), 0u64, 0u64);
            for (forward, delta) in steps {
                let counter = if forward { base += delta / 8; base } else { base.saturating_sub(delta) };
                let expected = (counter > highest || highest - counter <= WINDOW) && !seen.contains(&counter);
                prop_assert_eq!(replay.fresh(counter), expected);
                prop_assert_eq!(replay.accept(counter), expected);
                if expected {
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
