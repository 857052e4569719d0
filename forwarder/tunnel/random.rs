//! Everything random in a lane, from one seed. After each secret the generator's own key is
//! replaced, so that who reads our memory later cannot draw the old ephemeral keys again: without
//! that, wiping them would be in vain (cf. blog.cr.yp.to/20170723-random.html).

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use zeroize::Zeroize;

use crate::crypto::Secret;

/// The generator of one lane.
pub(crate) struct Random(ChaCha20Rng);

impl Random {
    /// Takes a seed that nobody may know or use again.
    pub(crate) fn new(mut seed: [u8; 32]) -> Random {
        let random = Random(ChaCha20Rng::from_seed(seed));
        seed.zeroize();
        random
    }

    /// Thirty-two bytes that nobody can draw again.
    pub(crate) fn secret(&mut self) -> Secret {
        let mut secret = Secret([0; 32]);
        self.0.fill_bytes(&mut secret.0);
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        *self = Random::new(seed);
        seed.zeroize();
        secret
    }

    /// Twenty-four bytes that do not come again, for a nonce: they are no secret.
    pub(crate) fn nonce(&mut self) -> [u8; 24] {
        let mut nonce = [0; 24];
        self.0.fill_bytes(&mut nonce);
        nonce
    }

    /// A number that nobody can predict.
    pub(crate) fn number(&mut self) -> u32 {
        self.0.next_u32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_be_drawn_again_and_the_same_seed_gives_the_same() {
        let (mut one, mut two) = (Random::new([1; 32]), Random::new([1; 32]));
        let first = one.secret();
        assert_eq!(first.0, two.secret().0);
        let (mut seed, mut old) = ([0; 32], ChaCha20Rng::from_seed([1; 32]));
        old.fill_bytes(&mut seed);
        assert_eq!(first.0, seed);
        // What the old generator would give next is not what the new one gives.
        old.fill_bytes(&mut seed);
        assert_ne!(one.secret().0, seed);
    }
}
