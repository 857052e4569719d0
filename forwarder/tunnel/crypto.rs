//! The primitives, each behind one function: who wants another library changes this file only.
//!
//! X25519 and ChaCha20-Poly1305 come from aws-lc, XChaCha20-Poly1305, which that has not, from the
//! chacha20poly1305 crate, and BLAKE2s from the blake2 crate; HMAC and HKDF over it are written out
//! as the WireGuard paper §5.4 does. Random numbers are an argument elsewhere.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey as Scalar, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use blake2::digest::consts::U16;
use blake2::digest::core_api::{Block, Buffer, UpdateCore, VariableOutputCore};
use blake2::digest::{FixedOutput, KeyInit, Output, Update};
use blake2::{Blake2s256, Blake2sMac, Blake2sVarCore, Digest};
use chacha20poly1305::{AeadInPlace, XChaCha20Poly1305};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a Poly1305 tag.
pub(crate) const TAG: usize = 16;
/// Bytes of a BLAKE2s block, which HMAC's pads are (RFC 2104 §2).
const BLOCK: usize = 64;

/// Thirty-two bytes that nobody else may know; wiped when they go.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

/// BLAKE2s over the concatenation of `parts`.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// Keyed BLAKE2s with 16 bytes of output (RFC 7693 §2.9): WireGuard's MAC. Its keys have 32 bytes
/// (the first MAC's, and the secret behind cookies) or 16 (a cookie).
///
/// # Panics
/// If the key is longer than 32 bytes: our own bug.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let state = Blake2sMac::<U16>::new_from_slice(key);
    let mut state = state.expect("keys have at most 32 bytes");
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// A MAC key that is no secret, with its own block hashed once: of the three blocks of a first MAC
/// one less to be hashed for every message that anybody sends us.
#[derive(Clone)]
pub(crate) struct PublicMacKey(Blake2sVarCore);

impl PublicMacKey {
    pub(crate) fn new(key: &[u8; 32]) -> PublicMacKey {
        let mut core = Blake2sVarCore::new_with_params(&[], &[], key.len(), TAG);
        let mut block = Block::<Blake2sVarCore>::default();
        block[..key.len()].copy_from_slice(key);
        core.update_blocks(&[block]);
        PublicMacKey(core)
    }

    /// [`mac`] of a message that is not empty.
    pub(crate) fn mac(&self, message: &[u8]) -> [u8; 16] {
        let mut core = self.0.clone();
        let mut buffer = Buffer::<Blake2sVarCore>::default();
        buffer.digest_blocks(message, |blocks| core.update_blocks(blocks));
        let mut output = Output::<Blake2sVarCore>::default();
        core.finalize_variable_core(&mut buffer, &mut output);
        core::array::from_fn(|i| output[i])
    }
}

/// HMAC-BLAKE2s (RFC 2104) of the concatenation of `parts`.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mut pad = [0x36; BLOCK];
    for (p, k) in pad.iter_mut().zip(key) {
        *p ^= k;
    }
    let mut inner = Blake2s256::new();
    Digest::update(&mut inner, pad);
    for part in parts {
        Digest::update(&mut inner, part);
    }
    let mut digest: [u8; 32] = inner.finalize().into();
    for p in &mut pad {
        *p ^= 0x36 ^ 0x5c;
    }
    let outer = Secret(hash(&[&pad, &digest]));
    pad.zeroize();
    digest.zeroize();
    outer
}

/// HKDF of the WireGuard paper §5.4: `N` outputs from a chaining key and one input.
pub(crate) fn kdf<const N: usize>(key: &Secret, input: &[u8]) -> [Secret; N] {
    let prk = hmac(&key.0, &[input]);
    let mut previous: Option<Secret> = None;
    core::array::from_fn(|i| {
        let number = [i as u8 + 1];
        let next = match &previous {
            None => hmac(&prk.0, &[&number]),
            Some(t) => hmac(&prk.0, &[&t.0, &number]),
        };
        previous = Some(next.clone());
        next
    })
}

/// Whether two byte strings are equal, in time that depends on their length only.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// The scalar of a private key, ready for use; the library clamps it (RFC 7748 §5).
///
/// # Panics
/// Never for 32 bytes: X25519 takes every string of that length as a private key.
pub(crate) fn scalar(key: &[u8; 32]) -> Scalar {
    Scalar::from_private_key(&X25519, key).expect("X25519 takes any 32 bytes")
}

/// The public key of a private one.
///
/// # Panics
/// Never: it is a multiplication of the base point.
pub(crate) fn public(key: &Scalar) -> [u8; 32] {
    let public = key.compute_public_key().expect("the base point is sound");
    public.as_ref().try_into().expect("X25519 has 32 bytes")
}

/// X25519; `None` for a point of low order, whose result would be zero whatever our key is
/// (RFC 7748 §6.1).
pub(crate) fn exchange(ours: &Scalar, theirs: &[u8; 32]) -> Option<Secret> {
    agree(
        ours,
        UnparsedPublicKey::new(&X25519, theirs),
        (),
        |shared| Ok(Secret(shared.try_into().map_err(drop)?)),
    )
    .ok()
}

/// A ChaCha20-Poly1305 key (RFC 8439), expanded once and used for many messages. The library wipes
/// its memory when it is dropped.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    /// Expands a key.
    ///
    /// # Panics
    /// Never: the key has the length that the cipher wants.
    pub(crate) fn new(key: &Secret) -> Cipher {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &key.0).expect("32 bytes are a key");
        Cipher(LessSafeKey::new(unbound))
    }

    /// Encrypts `text` in place and writes the tag behind it.
    ///
    /// # Panics
    /// If the text is longer than the cipher allows (256 GiB): our own bug.
    #[inline]
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &mut [u8; TAG]) {
        self.0
            .seal_in_place_scatter(nonce(counter), Aad::from(aad), text, &[], tag)
            .expect("a short text can be sealed");
    }

    /// Verifies and decrypts `text` in place; its bytes are undefined where the tag is wrong.
    #[inline]
    pub(crate) fn open(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        self.0
            .open_in_place_separate_tag(nonce(counter), Aad::from(aad), tag, text)
            .is_ok()
    }
}

/// Encrypts `text` in place by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 §2); gives the tag.
///
/// # Panics
/// If the text is longer than the cipher allows (256 GiB): our own bug.
pub(crate) fn xseal(key: &Secret, nonce: &[u8; 24], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let tag = cipher.encrypt_in_place_detached(nonce.into(), aad, text);
    tag.expect("a short text can be sealed").into()
}

/// Verifies and decrypts what [`xseal`] made; the text is unchanged where the tag is wrong.
pub(crate) fn xopen(
    key: &Secret,
    nonce: &[u8; 24],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG],
) -> bool {
    XChaCha20Poly1305::new((&key.0).into())
        .decrypt_in_place_detached(nonce.into(), aad, text, tag.into())
        .is_ok()
}

/// WireGuard paper §5.4: 32 zero bits, then the counter, little-endian.
#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;
    use std::string::String;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// 0, 1, 2 and so on: the key of the vectors below, which Python's hashlib and hmac gave.
    fn key() -> [u8; 32] {
        core::array::from_fn(|i| i as u8)
    }

    #[test]
    fn blake2s_is_that_of_rfc_7693_appendix_b() {
        let abc = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
        assert_eq!(hex(&hash(&[b"a", b"", b"bc"])), abc);
    }

    #[test]
    fn the_mac_is_keyed_blake2s_and_not_hmac() {
        let expected = "6c95e0091f52c372a5c0f2128f8f5bcc";
        assert_eq!(hex(&mac(&key(), &[b"far", b"lane"])), expected);
        // A key of 16 bytes is one of that length, not one of 32 that ends in zeros.
        let expected = "d3f38070323289a6fcdb647699efc8e6";
        assert_eq!(hex(&mac(&key()[..16], &[b"farlane"])), expected);
    }

    #[test]
    fn a_prepared_key_makes_the_same_macs() {
        let (prepared, text) = (PublicMacKey::new(&key()), [7; 200]);
        for length in 1..text.len() {
            let text = &text[..length];
            assert_eq!(prepared.mac(text), mac(&key(), &[text]), "{length}");
        }
    }

    #[test]
    fn the_cipher_with_the_long_nonce_is_that_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03 §A.3.1; the tag covers all of the text.
        let key: [u8; 32] = core::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = core::array::from_fn(|i| 0x40 + i as u8);
        let aad = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you \
            only one tip for the future, sunscreen would be it.";
        let (mut sealed, key) = (*text, Secret(key));
        let tag = xseal(&key, &nonce, &aad, &mut sealed);
        assert_eq!(hex(&sealed[..16]), "bd6d179d3e83d43b9576579493c0e939");
        assert_eq!(hex(&tag), "c0875924c1c7987947deafd8780acf49");
        assert!(!xopen(&key, &nonce, &aad[1..], &mut sealed, &tag));
        assert!(xopen(&key, &nonce, &aad, &mut sealed, &tag));
        assert_eq!(&sealed, text);
    }

    #[test]
    fn hmac_is_that_of_rfc_2104_over_blake2s() {
        let expected = "4356d0af408277b83bff28786d9c34e21468861a67c799d0ca507307b4e82a23";
        assert_eq!(hex(&hmac(&key(), &[b"far", b"lane"]).0), expected);
    }

    #[test]
    fn the_key_derivation_is_that_of_the_paper() {
        let expected = [
            "0a047ae3f596b7db4d53cb55ddacb71ebe6d72e49271224133ca1f10bd6aa5cc",
            "afd9ada0a1f7f0f9bfde263534d4725695838397940f127c7be65f64e1d83712",
            "a529c65a4975a826f57d21d33f34ef332ae1ba15f960e80746cb59956d9519a1",
        ];
        let outputs: [Secret; 3] = kdf(&Secret(key()), b"farlane");
        assert_eq!(outputs.map(|output| hex(&output.0)), expected);
    }

    #[test]
    fn counter_associated_data_and_text_are_all_authenticated() {
        let cipher = Cipher::new(&Secret(key()));
        let (mut text, mut tag) = (*b"sunscreen", [0; TAG]);
        cipher.seal(u64::MAX, b"aad", &mut text, &mut tag);
        assert!(!cipher.open(u64::MAX - 1, b"aad", &mut text.clone(), &tag));
        assert!(!cipher.open(u64::MAX, b"aae", &mut text.clone(), &tag));
        assert!(cipher.open(u64::MAX, b"aad", &mut text, &tag));
        assert_eq!(&text, b"sunscreen");
    }
}
