//! The words of the cross-platform interface (wireguard.com/xplatform): a request as steps, in the
//! order in which they stand.

use std::net::SocketAddr;

use packet::Prefix;
use tunnel::{PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// One line of a `set` request.
pub(crate) enum Step {
    /// `private_key`; all zeros takes the key away.
    PrivateKey(Option<PrivateKey>),
    /// `listen_port`; 0 lets the kernel choose.
    ListenPort(u16),
    /// `fwmark`; 0 is none.
    Mark(u32),
    /// `replace_peers=true`.
    ReplacePeers,
    /// `public_key`: what follows is about this peer.
    Peer(PublicKey),
    /// `update_only=true`: a peer that does not exist is not made.
    UpdateOnly,
    /// `remove=true`.
    Remove,
    /// `preshared_key`; all zeros takes it away.
    PresharedKey(Option<PresharedKey>),
    /// `endpoint`.
    Endpoint(SocketAddr),
    /// `persistent_keepalive_interval`, in seconds; 0 is off.
    Keepalive(u16),
    /// `replace_allowed_ips=true`.
    ReplaceAllowed,
    /// `allowed_ip`.
    Allow(Prefix),
    /// `allowed_ip` with a minus before it.
    Disallow(Prefix),
    /// `protocol_version=1`, which says nothing.
    Version,
}

/// Steps that lie together. They are not moved to a larger place when more come: that would leave a
/// copy of each key behind.
const TOGETHER: usize = 512;

/// A request, line by line; the empty line that ends it is not part of it.
pub(crate) enum Request {
    /// No line yet.
    Empty,
    /// `get=1`, alone.
    Get,
    /// `set=1`, and what follows.
    Set(Steps),
    /// Anything else.
    Unknown,
}

/// What a `set` request wants, up to its first error: of what stands behind that nothing is kept.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) steps: Vec<Vec<Step>>,
    pub(crate) error: Option<Malformed>,
    in_peer: bool,
}

impl Request {
    /// Takes in the next line.
    pub(crate) fn add(&mut self, line: &str) {
        match self {
            Request::Empty => {
                *self = match line {
                    "get=1" => Request::Get,
                    "set=1" => Request::Set(Steps::default()),
                    _ => Request::Unknown,
                }
            }
            Request::Get => *self = Request::Unknown,
            Request::Set(steps) => steps.add(line),
            Request::Unknown => {}
        }
    }
}

impl Steps {
    fn add(&mut self, line: &str) {
        if self.error.is_some() {
            return;
        }
        match step(line, self.in_peer) {
            Ok(step) => {
                self.in_peer |= matches!(step, Step::Peer(_));
                self.push(step);
            }
            Err(malformed) => self.error = Some(malformed),
        }
    }

    fn push(&mut self, step: Step) {
        if self.steps.last().is_none_or(|last| last.len() == TOGETHER) {
            self.steps.push(Vec::with_capacity(TOGETHER));
        }
        if let Some(last) = self.steps.last_mut() {
            last.push(step);
        }
    }
}

/// Why a line means nothing to us; answered as `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is no word with a value.
    Line,
    /// We do not know the word, or not here, or its value is none of its.
    Word(Invalid),
}

/// A word or value that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Reads one line of a `set` request. `in_peer` says whether a `public_key` stood before it.
fn step(line: &str, in_peer: bool) -> Result<Step, Malformed> {
    let (key, value) = line.split_once('=').ok_or(Malformed::Line)?;
    word(key, value, in_peer).map_err(Malformed::Word)
}

fn word(key: &str, value: &str, in_peer: bool) -> Result<Step, Invalid> {
    if key == "public_key" {
        return Ok(Step::Peer(PublicKey::from_bytes(hex_key(value)?)));
    }
    if in_peer {
        peer_step(key, value)
    } else {
        device_step(key, value)
    }
}

fn device_step(key: &str, value: &str) -> Result<Step, Invalid> {
    Ok(match key {
        "private_key" => {
            let bytes = hex_key(value)?;
            Step::PrivateKey((bytes != [0; 32]).then(|| PrivateKey::from_bytes(bytes)))
        }
        "listen_port" => Step::ListenPort(value.parse().map_err(|_| Invalid)?),
        "fwmark" => Step::Mark(value.parse().map_err(|_| Invalid)?),
        "replace_peers" => truth(value, Step::ReplacePeers)?,
        _ => return Err(Invalid),
    })
}

fn peer_step(key: &str, value: &str) -> Result<Step, Invalid> {
    Ok(match key {
        "update_only" => truth(value, Step::UpdateOnly)?,
        "remove" => truth(value, Step::Remove)?,
        "preshared_key" => {
            let bytes = hex_key(value)?;
            Step::PresharedKey((bytes != [0; 32]).then(|| PresharedKey::from_bytes(bytes)))
        }
        "endpoint" => Step::Endpoint(endpoint(value)?),
        "persistent_keepalive_interval" => Step::Keepalive(value.parse().map_err(|_| Invalid)?),
        "replace_allowed_ips" => truth(value, Step::ReplaceAllowed)?,
        "allowed_ip" => match value.strip_prefix('-') {
            Some(prefix) => Step::Disallow(prefix.parse().map_err(|_| Invalid)?),
            None => Step::Allow(value.parse().map_err(|_| Invalid)?),
        },
        "protocol_version" if value == "1" => Step::Version,
        _ => return Err(Invalid),
    })
}

/// An address with its port; a link-local one says its interface by number, or by name as `wg` does.
fn endpoint(value: &str) -> Result<SocketAddr, Invalid> {
    if let Ok(endpoint) = value.parse() {
        return Ok(endpoint);
    }
    let (address, rest) = value.split_once('%').ok_or(Invalid)?;
    let (interface, port) = rest.split_once(']').ok_or(Invalid)?;
    let index = driver::interface_index(interface).map_err(|_| Invalid)?;
    format!("{address}%{index}]{port}")
        .parse()
        .map_err(|_| Invalid)
}

fn truth(value: &str, step: Step) -> Result<Step, Invalid> {
    if value == "true" {
        Ok(step)
    } else {
        Err(Invalid)
    }
}

/// 32 bytes of hex, as keys are written here.
fn hex_key(value: &str) -> Result<[u8; 32], Invalid> {
    let digits = value.as_bytes();
    if digits.len() != 64 {
        return Err(Invalid);
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16).ok_or(Invalid);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(key)
}

/// The hex that [`hex_key`] reads.
pub(crate) fn hex(key: &[u8; 32]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_of_hex_and_nothing_else() {
        let digits = "0123456789abcdef".repeat(4);
        let key = hex_key(&digits).expect("a key");
        assert_eq!(*hex(&key), digits);
        assert!(hex_key(&digits[1..]).is_err());
        assert!(hex_key(&"g".repeat(64)).is_err());
        assert!(hex_key(&"é".repeat(32)).is_err());
    }

    #[test]
    fn a_word_of_a_peer_means_nothing_before_a_peer_was_named() {
        assert!(step("endpoint=192.0.2.1:51820", false).is_err());
        assert!(matches!(
            step("endpoint=192.0.2.1:51820", true),
            Ok(Step::Endpoint(_))
        ));
        assert!(step("listen_port=51820", true).is_err());
        assert!(matches!(
            step("listen_port=51820", false),
            Ok(Step::ListenPort(51820))
        ));
    }

    #[test]
    fn an_endpoint_names_its_interface_by_number_or_by_name() {
        let by_number = endpoint("[fe80::1%1]:51820");
        assert!(by_number.is_ok());
        // Loopback is the first of every network namespace.
        assert_eq!(endpoint("[fe80::1%lo]:51820"), by_number);
        for wrong in [
            "[fe80::1%nobody]:1",
            "[fe80::1%lo:1",
            "fe80::1%lo",
            "%lo]:1",
        ] {
            assert_eq!(endpoint(wrong), Err(Invalid), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_taken_away_by_a_minus() {
        let taken = step("allowed_ip=-10.0.0.0/8", true);
        assert!(matches!(taken, Ok(Step::Disallow(_))));
        for wrong in ["allowed_ip=--10.0.0.0/8", "allowed_ip=-", "allowed_ip"] {
            assert!(step(wrong, true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bad_values_and_unknown_words_are_refused() {
        for line in [
            "listen_port=70000",
            "fwmark=-1",
            "replace_peers=yes",
            "colour=blue",
            "listen_port",
            "",
        ] {
            assert!(step(line, false).is_err(), "{line}");
        }
        for line in [
            "allowed_ip=10.0.0.0/33",
            "protocol_version=2",
            "remove=false",
        ] {
            assert!(step(line, true).is_err(), "{line}");
        }
    }
}
