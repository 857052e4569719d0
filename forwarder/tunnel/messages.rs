//! The four messages on the wire (WireGuard paper §5.4): lengths, fields, and the two MACs at the
//! end of a handshake message. All integers are little-endian.

use crate::crypto::{self, PublicMacKey, TAG};
use crate::keys::PublicKey;

/// Bytes of a first message of a handshake, type 1.
pub(crate) const INITIATION: usize = 148;
/// Bytes of its answer, type 2.
pub(crate) const RESPONSE: usize = 92;
/// Bytes of a cookie reply, type 3.
pub(crate) const COOKIE: usize = 64;
/// Bytes in front of the encrypted packet in a data message, type 4.
pub(crate) const DATA_HEADER: usize = 16;
/// Bytes that a data message has beside its padded inner packet; a keep-alive has just them.
pub(crate) const DATA_OVERHEAD: usize = DATA_HEADER + TAG;
/// Inner packets are padded to a multiple of this many bytes.
pub(crate) const PADDING: usize = 16;
/// Bytes of one MAC.
pub(crate) const MAC: usize = 16;
const MACS: usize = 2 * MAC;

const _: () = assert!(INITIATION == 4 + 4 + 32 + (32 + TAG) + (12 + TAG) + MACS);
const _: () = assert!(RESPONSE == 4 + 4 + 4 + 32 + TAG + MACS);
const _: () = assert!(COOKIE == 4 + 4 + 24 + (16 + TAG));
const _: () = assert!(DATA_HEADER == 4 + 4 + 8 && DATA_OVERHEAD == 32);

/// What a datagram says it is; a type of another length than its own is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initiation,
    Response,
    Cookie,
    Data,
}

impl Kind {
    /// The type byte and the three reserved zeros; `Err(true)` where only the length is wrong.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Result<Kind, WrongLength> {
        let Some(&kind) = bytes.first_chunk::<4>() else {
            return Err(WrongLength(true));
        };
        let (kind, right) = match u32::from_le_bytes(kind) {
            4 => (Kind::Data, bytes.len() >= DATA_OVERHEAD),
            1 => (Kind::Initiation, bytes.len() == INITIATION),
            2 => (Kind::Response, bytes.len() == RESPONSE),
            3 => (Kind::Cookie, bytes.len() == COOKIE),
            _ => return Err(WrongLength(false)),
        };
        if right {
            Ok(kind)
        } else {
            Err(WrongLength(true))
        }
    }
}

/// Why a datagram is no message: its length does not fit its type, or (false) it has no type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongLength(pub(crate) bool);

/// The fields of a first message.
pub(crate) struct Initiation {
    pub(crate) sender: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_static: [u8; 32 + TAG],
    pub(crate) sealed_stamp: [u8; 12 + TAG],
}

impl Initiation {
    /// Reads it; the MACs are [`MacKey::is_right`]'s.
    pub(crate) fn parse(bytes: &[u8; INITIATION]) -> Initiation {
        Initiation {
            sender: read_u32(bytes, 4),
            ephemeral: read(bytes, 8),
            sealed_static: read(bytes, 40),
            sealed_stamp: read(bytes, 88),
        }
    }

    /// Writes it, with its first MAC; the second is [`crate::cookie::Cookie::sign`]'s.
    pub(crate) fn emit(&self, macs: &MacKey) -> [u8; INITIATION] {
        let mut bytes = [0; INITIATION];
        bytes[0] = 1;
        bytes[4..8].copy_from_slice(&self.sender.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.ephemeral);
        bytes[40..88].copy_from_slice(&self.sealed_static);
        bytes[88..116].copy_from_slice(&self.sealed_stamp);
        macs.write(&mut bytes);
        bytes
    }
}

/// The fields of its answer.
pub(crate) struct Response {
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_nothing: [u8; TAG],
}

impl Response {
    /// Reads it; the MACs are [`MacKey::is_right`]'s.
    pub(crate) fn parse(bytes: &[u8; RESPONSE]) -> Response {
        Response {
            sender: read_u32(bytes, 4),
            receiver: read_u32(bytes, 8),
            ephemeral: read(bytes, 12),
            sealed_nothing: read(bytes, 44),
        }
    }

    /// Writes it, with its first MAC; the second is [`crate::cookie::Cookie::sign`]'s.
    pub(crate) fn emit(&self, macs: &MacKey) -> [u8; RESPONSE] {
        let mut bytes = [0; RESPONSE];
        bytes[0] = 2;
        bytes[4..8].copy_from_slice(&self.sender.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[12..44].copy_from_slice(&self.ephemeral);
        bytes[44..60].copy_from_slice(&self.sealed_nothing);
        macs.write(&mut bytes);
        bytes
    }
}

/// The fields of a cookie reply.
pub(crate) struct CookieReply {
    /// Who sent the message that this answers, by its own index.
    pub(crate) receiver: u32,
    pub(crate) nonce: [u8; 24],
    pub(crate) sealed_cookie: [u8; MAC],
    pub(crate) tag: [u8; TAG],
}

impl CookieReply {
    /// Reads it.
    pub(crate) fn parse(bytes: &[u8; COOKIE]) -> CookieReply {
        CookieReply {
            receiver: read_u32(bytes, 4),
            nonce: read(bytes, 8),
            sealed_cookie: read(bytes, 32),
            tag: read(bytes, 48),
        }
    }

    /// Its bytes; it has no MACs.
    pub(crate) fn emit(&self) -> [u8; COOKIE] {
        let mut bytes = [0; COOKIE];
        bytes[0] = 3;
        bytes[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[8..32].copy_from_slice(&self.nonce);
        bytes[32..48].copy_from_slice(&self.sealed_cookie);
        bytes[48..].copy_from_slice(&self.tag);
        bytes
    }
}

/// The header of a data message.
pub(crate) struct Data {
    pub(crate) receiver: u32,
    pub(crate) counter: u64,
}

impl Data {
    /// Reads it from the first bytes of a message that [`Kind::of`] took for one.
    #[inline]
    pub(crate) fn parse(bytes: &[u8; DATA_HEADER]) -> Data {
        Data {
            receiver: read_u32(bytes, 4),
            counter: u64::from_le_bytes(read(bytes, 8)),
        }
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn emit(&self) -> [u8; DATA_HEADER] {
        let mut bytes = [0; DATA_HEADER];
        bytes[0] = 4;
        bytes[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }
}

/// The key of the first MAC of every handshake message to one receiver: a hash of the receiver's
/// public key, so that a lane is silent towards whoever does not know that.
#[derive(Clone)]
pub(crate) struct MacKey(PublicMacKey);

impl MacKey {
    /// The key for messages to `receiver`.
    pub(crate) fn of(receiver: &PublicKey) -> MacKey {
        let key = crypto::hash(&[b"mac1----", receiver.as_bytes()]);
        MacKey(PublicMacKey::new(&key))
    }

    /// Whether a handshake message carries the right first MAC.
    pub(crate) fn is_right(&self, message: &[u8]) -> bool {
        let Some(end) = message.len().checked_sub(MACS) else {
            return false;
        };
        let (text, macs) = message.split_at(end);
        crypto::equal(&self.0.mac(text), &macs[..MAC])
    }

    fn write(&self, message: &mut [u8]) {
        let (text, macs) = message.split_at_mut(message.len() - MACS);
        macs[..MAC].copy_from_slice(&self.0.mac(text));
    }
}

/// The sender's index of an initiation or a response.
pub(crate) fn sender(message: &[u8]) -> u32 {
    read_u32(message, 4)
}

/// A handshake message in its three parts: what the first MAC covers, that MAC, and the second,
/// which covers both.
///
/// # Panics
/// If the message is shorter than its MACs, which none is that [`Kind::of`] took for one.
pub(crate) fn macs(message: &mut [u8]) -> (&mut [u8], &mut [u8; MAC], &mut [u8; MAC]) {
    let (rest, second) = message.split_last_chunk_mut().expect("a second MAC");
    let (text, first) = rest.split_last_chunk_mut().expect("a first MAC");
    (text, first, second)
}

#[inline]
fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[inline]
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(read(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_must_be_zero_and_lengths_exact() {
        let mut bytes = [0; 256];
        bytes[0] = 1;
        assert_eq!(Kind::of(&bytes[..148]), Ok(Kind::Initiation));
        assert_eq!(Kind::of(&bytes[..147]), Err(WrongLength(true)));
        assert_eq!(Kind::of(&bytes[..149]), Err(WrongLength(true)));
        bytes[2] = 1;
        assert_eq!(Kind::of(&bytes[..148]), Err(WrongLength(false)));
        bytes[2] = 0;
        bytes[0] = 4;
        assert_eq!(Kind::of(&bytes[..31]), Err(WrongLength(true)));
        assert_eq!(Kind::of(&bytes[..32]), Ok(Kind::Data));
        assert_eq!(Kind::of(&bytes[..3]), Err(WrongLength(true)));
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let macs = MacKey::of(&PublicKey::from_bytes([3; 32]));
        let response = Response {
            sender: 0x0102_0304,
            receiver: 0x0506_0708,
            ephemeral: [9; 32],
            sealed_nothing: [8; 16],
        };
        let mut bytes = response.emit(&macs);
        let read = Response::parse(&bytes);
        assert_eq!((read.sender, read.receiver), (0x0102_0304, 0x0506_0708));
        assert!(macs.is_right(&bytes));
        assert!(!MacKey::of(&PublicKey::from_bytes([4; 32])).is_right(&bytes));
        bytes[20] ^= 1;
        assert!(!macs.is_right(&bytes));
    }
}
