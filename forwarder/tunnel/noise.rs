//! The symmetric state of Noise_IKpsk2 (Noise specification §5.2, with WireGuard's HKDF): a
//! chaining key and a hash of everything said so far.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{self, Cipher, Secret, TAG};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// What both ends of a handshake know of it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Symmetric {
    chain: Secret,
    hash: [u8; 32],
}

impl Symmetric {
    /// The state before the first message, for a responder with this public key.
    pub(crate) fn new(responder: &[u8; 32]) -> Symmetric {
        let chain = crypto::hash(&[CONSTRUCTION]);
        let hash = crypto::hash(&[&chain, PROLOGUE]);
        Symmetric {
            chain: Secret(chain),
            hash: crypto::hash(&[&hash, responder]),
        }
    }

    /// Takes public bytes into the transcript.
    pub(crate) fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = crypto::hash(&[&self.hash, bytes]);
    }

    /// Takes a secret into the chaining key.
    pub(crate) fn mix_key(&mut self, input: &[u8]) {
        let [chain] = crypto::kdf(&self.chain, input);
        self.chain = chain;
    }

    /// Takes a secret into the chaining key and makes a key for one message of it.
    pub(crate) fn mix_key_for_message(&mut self, input: &[u8]) -> Cipher {
        let [chain, key] = crypto::kdf(&self.chain, input);
        self.chain = chain;
        Cipher::new(&key)
    }

    /// Takes a pre-shared key into chaining key and transcript, and makes a message key.
    pub(crate) fn mix_preshared(&mut self, psk: &[u8; 32]) -> Cipher {
        let [chain, tau, key] = crypto::kdf(&self.chain, psk);
        self.chain = chain;
        self.mix_hash(&tau.0);
        Cipher::new(&key)
    }

    /// Encrypts `text` under the transcript and takes the result into it. `N` is the length of the
    /// text with its tag.
    pub(crate) fn seal<const N: usize>(&mut self, key: &Cipher, text: &[u8]) -> [u8; N] {
        let mut sealed = [0; N];
        let (body, tag) = sealed.split_last_chunk_mut::<TAG>().expect("N has a tag");
        body.copy_from_slice(text);
        key.seal(0, &self.hash, body, tag);
        self.mix_hash(&sealed);
        sealed
    }

    /// Decrypts what [`Symmetric::seal`] made; `None`, and an unchanged transcript, if it is forged.
    pub(crate) fn open<const N: usize>(&mut self, key: &Cipher, sealed: &[u8]) -> Option<[u8; N]> {
        let (body, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut text = [0; N];
        text.copy_from_slice(body);
        if !key.open(0, &self.hash, &mut text, tag) {
            return None;
        }
        self.mix_hash(sealed);
        Some(text)
    }

    /// The two transport keys: first the initiator's for sending, then the responder's.
    pub(crate) fn split(&self) -> [Secret; 2] {
        crypto::kdf(&self.chain, &[])
    }
}
