//! The indices by which the peers call our handshakes and sessions: random, so that nobody who
//! does not see them can guess one, and each in use once.

use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use crate::random::Random;

/// Index → place of the peer in the lane's table.
#[derive(Default)]
pub(crate) struct Indices {
    peers: HashMap<u32, u32, BuildHasherDefault<Spread>>,
}

impl Indices {
    /// A new index for a peer.
    pub(crate) fn draw(&mut self, random: &mut Random, peer: u32) -> u32 {
        loop {
            let index = random.number();
            if !self.peers.contains_key(&index) {
                self.peers.insert(index, peer);
                return index;
            }
        }
    }

    /// Frees an index.
    pub(crate) fn free(&mut self, index: u32) {
        self.peers.remove(&index);
    }

    /// Whose index this is.
    #[inline]
    pub(crate) fn find(&self, index: u32) -> Option<u32> {
        self.peers.get(&index).copied()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}

/// Spreads a number that is random already over both ends of a word, where the table looks. An
/// outsider chooses what is looked up, never what is in the table, so no key is needed.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(8) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_in_use_is_not_given_out_again_and_no_two_follow_each_other() {
        let (mut indices, mut random) = (Indices::default(), Random::new([5; 32]));
        let mut last: u32 = 0;
        for peer in 0..10_000 {
            let index = indices.draw(&mut random, peer);
            assert!(index.abs_diff(last) > 1);
            last = index;
        }
        assert_eq!(indices.len(), 10_000);
        assert_eq!(indices.find(last), Some(9_999));
        indices.free(last);
        assert_eq!(indices.find(last), None);
    }
}
