//! Where the conversations of the next packets are, found ahead and all at once.
//!
//! A table of many flows is larger than the caches. Looked for one after the other, each packet
//! waits for the memory of its own; looked for side by side, all wait together.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::Key;

/// How many packets are looked for ahead: no breath handles more frames.
const AHEAD: usize = 64;

/// Keys that will be looked for soon, in that order.
#[derive(Debug, Default)]
pub(crate) struct Foresight {
    /// Scratch space: keys with their hashes.
    hashed: Vec<(u64, Key)>,
    found: VecDeque<(Key, u32)>,
}

impl Foresight {
    /// Nothing is known ahead; all of its memory is reserved here.
    pub(crate) fn new() -> Foresight {
        Foresight {
            hashed: Vec::with_capacity(AHEAD),
            found: VecDeque::with_capacity(AHEAD),
        }
    }

    /// Notes where `find` finds the `keys`, by their hashes; what was noted before is forgotten.
    #[inline]
    pub(crate) fn note(
        &mut self,
        keys: impl Iterator<Item = Key>,
        hash: impl Fn(&Key) -> u64,
        find: impl Fn(u64, &Key) -> Option<u32>,
    ) {
        self.found.clear();
        self.hashed.clear();
        self.hashed
            .extend(keys.take(AHEAD).map(|key| (hash(&key), key)));
        // Nothing between two of these waits for the one before, so the processor overlaps them.
        for (hash, key) in &self.hashed {
            if let Some(place) = find(*hash, key) {
                self.found.push_back((*key, place));
            }
        }
    }

    /// Where `key` was when it was noted. It may be elsewhere since.
    #[inline]
    pub(crate) fn take(&mut self, key: &Key) -> Option<u32> {
        if self.found.is_empty() {
            return None;
        }
        // Nearly always the first.
        let at = self.found.iter().position(|(noted, _)| noted == key)?;
        self.found.remove(at).map(|(_, place)| place)
    }
}
