//! The three kinds of key that a user sees. Secrets wipe themselves and are never printed.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto;

/// A Curve25519 private key, 32 bytes, always clamped (RFC 7748 §5).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

/// A Curve25519 public key, 32 bytes: the name of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A symmetric key that two peers share beside their own, 32 bytes (WireGuard paper §5.2).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PrivateKey {
    /// Clamps 32 random bytes into a key; clamping twice changes nothing.
    pub fn from_bytes(mut bytes: [u8; 32]) -> PrivateKey {
        bytes[0] &= 0xf8;
        bytes[31] = bytes[31] & 0x7f | 0x40;
        let key = PrivateKey(bytes);
        bytes.zeroize();
        key
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(crypto::public(&crypto::scalar(&self.0)))
    }

    /// The key of the node's lane `number`: lane 0 has the node's own key, the others' follow from
    /// it by BLAKE2s keyed with it, so that one secret on disk makes them all.
    pub fn derive_lane(&self, number: u16) -> PrivateKey {
        if number == 0 {
            return self.clone();
        }
        let derived = crypto::hmac(&self.0, &[b"farlane lane", &number.to_be_bytes()]);
        PrivateKey::from_bytes(derived.0)
    }

    /// The secret bytes, for a file with mode 0600 or a control socket; nothing else should ask.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same key, in constant time.
    pub fn same(&self, other: &PrivateKey) -> bool {
        crypto::equal(&self.0, &other.0)
    }
}

impl PresharedKey {
    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> PresharedKey {
        PresharedKey(bytes)
    }

    /// The secret bytes, for a control socket; nothing else should ask.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Every point of low order below 2^255 (cr.yp.to/ecdh.html, "How do I validate Curve25519 public
/// keys?"), as the bytes of a key: 0, 1, two of order 8, p - 1, p, p + 1.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    ends_in(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    ends_in(0xec, 0xff, 0x7f),
    ends_in(0xed, 0xff, 0x7f),
    ends_in(0xee, 0xff, 0x7f),
];

/// Thirty-two bytes, all in the middle alike.
const fn ends_in(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

impl PublicKey {
    /// A key of these bytes, whatever they are: [`PublicKey::is_low_order`] says whether it is good.
    pub fn from_bytes(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is a point of low order, with which every exchange ends in the same public
    /// secret (RFC 7748 §6.1): no peer may have it.
    pub fn is_low_order(&self) -> bool {
        // Compared and not tried: an exchange takes 40 us, and there may be many peers. The upper
        // bit is not part of the point (RFC 7748 §5).
        let mut point = self.0;
        point[31] &= 0x7f;
        LOW_ORDER.contains(&point)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}

impl fmt::Debug for PublicKey {
    /// Lower-case hexadecimal, as the control socket of WireGuard programs has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamping_twice_changes_nothing() {
        let once = PrivateKey::from_bytes([0xff; 32]);
        assert!(PrivateKey::from_bytes(*once.as_bytes()).same(&once));
        assert_eq!((once.0[0], once.0[31]), (0xf8, 0x7f));
    }

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        // RFC 7748 §6.1, Alice.
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = [
            0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e,
            0xf7, 0x5a, 0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e,
            0xaa, 0x9b, 0x4e, 0x6a,
        ];
        assert_eq!(PrivateKey::from_bytes(private).public(), PublicKey(public));
    }

    #[test]
    fn lanes_have_different_keys_and_lane_zero_the_nodes_own() {
        let node = PrivateKey::from_bytes([7; 32]);
        assert!(node.derive_lane(0).same(&node));
        assert!(!node.derive_lane(1).same(&node));
        assert!(!node.derive_lane(1).same(&node.derive_lane(2)));
        assert!(node.derive_lane(3).same(&node.derive_lane(3)));
    }

    #[test]
    fn low_order_is_what_an_exchange_says_it_is() {
        // Clamped scalars are multiples of 8, so any of them sends such a point to zero.
        let any = crypto::scalar(&[0x42; 32]);
        let agrees = |key: [u8; 32]| {
            let low = PublicKey(key).is_low_order();
            assert_eq!(low, crypto::exchange(&any, &key).is_none(), "{key:x?}");
            low
        };
        for mut key in LOW_ORDER {
            assert!(agrees(key));
            key[31] |= 0x80;
            assert!(agrees(key));
            // Its neighbours, of which some are in the list themselves.
            key[0] = key[0].wrapping_add(1);
            agrees(key);
            key[0] = key[0].wrapping_sub(2);
            agrees(key);
        }
        assert!(!agrees(
            *PrivateKey::from_bytes([9; 32]).public().as_bytes()
        ));
        assert!(!agrees([9; 32]));
    }
}
