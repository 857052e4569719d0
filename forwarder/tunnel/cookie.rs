//! Cookies (WireGuard paper §5.3 and §5.4.7; Linux `drivers/net/wireguard/cookie.c`): under load a
//! handshake message costs us nothing before its sender has shown that it receives what is sent to
//! its address. The cookie is a MAC over that address and port under a secret of ours that changes;
//! who has it puts a second MAC, keyed with it, under the next message.
//!
//! [`CookieMaker`] is the side that is under load, [`Cookie`] the side that is asked for one.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use packet::Time;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{self, Secret};
use crate::keys::PublicKey;
use crate::messages::{self, CookieReply, MAC};
use crate::random::Random;
use crate::refused::Refused;

/// How long a cookie is used, and how long a secret makes new ones.
const LIFETIME: Duration = Duration::from_secs(120);

/// The key under which cookies of one receiver travel: a hash of its public key.
fn sealing_key(receiver: &PublicKey) -> Secret {
    Secret(crypto::hash(&[b"cookie--", receiver.as_bytes()]))
}

/// What makes cookies and knows them again, without remembering any.
pub(crate) struct CookieMaker {
    key: Secret,
    // The secret before is known for as long again, so that each cookie lives for its whole time
    // and no peer is asked twice because it came shortly before a change.
    secrets: Option<[Secret; 2]>,
    changed: Time,
}

impl CookieMaker {
    /// For the lane with this public key. Its secrets are made when they are needed.
    pub(crate) fn new(ours: &PublicKey) -> CookieMaker {
        CookieMaker {
            key: sealing_key(ours),
            secrets: None,
            changed: Time::ZERO,
        }
    }

    /// The answer to a handshake message from `remote`.
    pub(crate) fn reply(
        &mut self,
        now: Time,
        random: &mut Random,
        remote: SocketAddr,
        message: &mut [u8],
    ) -> CookieReply {
        self.renew(now, random);
        let secret = self.secrets.as_ref().map(|[newest, _]| newest);
        let mut cookie = cookie(secret.expect("it was just made"), remote);
        let nonce = random.nonce();
        let receiver = messages::sender(message);
        let (_, first, _) = messages::macs(message);
        let tag = crypto::xseal(&self.key, &nonce, first, &mut cookie);
        CookieReply {
            receiver,
            nonce,
            sealed_cookie: cookie,
            tag,
        }
    }

    /// Whether a message from `remote` has the second MAC that a cookie of ours gives it.
    pub(crate) fn knows(&self, now: Time, remote: SocketAddr, message: &mut [u8]) -> bool {
        let Some([newest, before]) = &self.secrets else {
            return false;
        };
        let age = now.since(self.changed);
        let (text, first, second) = messages::macs(message);
        // Without a cookie it is all zeros, which says so before anything is computed.
        if *second == [0; MAC] || age >= 2 * LIFETIME {
            return false;
        }
        let is_of = |secret| {
            let mut cookie = cookie(secret, remote);
            let right = crypto::equal(&crypto::mac(&cookie, &[text, first]), second);
            cookie.zeroize();
            right
        };
        is_of(newest) || age < LIFETIME && is_of(before)
    }

    fn renew(&mut self, now: Time, random: &mut Random) {
        let age = now.since(self.changed);
        let newest = match self.secrets.take() {
            Some(secrets) if age < LIFETIME => {
                self.secrets = Some(secrets);
                return;
            }
            Some([newest, _]) if age < 2 * LIFETIME => newest,
            // One that nobody knows: no cookie is made of it.
            _ => random.secret(),
        };
        self.secrets = Some([random.secret(), newest]);
        self.changed = now;
    }
}

/// The cookie of an address: a MAC over all of it, the port too, since behind one address there may
/// be many.
fn cookie(secret: &Secret, remote: SocketAddr) -> [u8; MAC] {
    let port = remote.port().to_be_bytes();
    match remote.ip() {
        IpAddr::V4(ip) => crypto::mac(&secret.0, &[&ip.octets(), &port]),
        IpAddr::V6(ip) => crypto::mac(&secret.0, &[&ip.octets(), &port]),
    }
}

/// What one peer has asked us to prove, and which message of ours it may still ask about.
#[derive(Default)]
pub(crate) struct Cookie {
    given: Option<(Given, Time)>,
    /// Our index in the last handshake message that we sent, and its first MAC.
    last: Option<(u32, [u8; MAC])>,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Given([u8; MAC]);

impl Cookie {
    /// Writes the second MAC under a handshake message of ours, if the peer has given us a cookie;
    /// it may now ask for one about this message, and no other.
    pub(crate) fn sign(&mut self, now: Time, message: &mut [u8]) {
        let sender = messages::sender(message);
        let (text, first, second) = messages::macs(message);
        self.last = Some((sender, *first));
        self.given
            .take_if(|(_, since)| now.since(*since) >= LIFETIME);
        if let Some((given, _)) = &self.given {
            *second = crypto::mac(&given.0, &[text, first]);
        }
    }

    /// Takes in a cookie reply that says it is from `peer`. It is for the next message; nothing is
    /// sent now, or who can forge nothing could still make us talk.
    ///
    /// # Errors
    /// [`Refused::CookieUnexpected`], if it is not about the last message that we sent, or that was
    /// answered so already; [`Refused::CookieForged`].
    pub(crate) fn accept(
        &mut self,
        now: Time,
        peer: &PublicKey,
        reply: &CookieReply,
    ) -> Result<(), Refused> {
        let last = self.last.filter(|(index, _)| *index == reply.receiver);
        let (_, first) = last.ok_or(Refused::CookieUnexpected)?;
        let mut given = Given(reply.sealed_cookie);
        let key = sealing_key(peer);
        if !crypto::xopen(&key, &reply.nonce, &first, &mut given.0, &reply.tag) {
            return Err(Refused::CookieForged);
        }
        self.given = Some((given, now));
        self.last = None;
        Ok(())
    }

    /// Forgets everything.
    pub(crate) fn wipe(&mut self) {
        *self = Cookie::default();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::keys::PrivateKey;
    use crate::messages::{INITIATION, Initiation, MacKey};
    use std::format;

    const HERE: &str = "192.0.2.1:1000";

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn remote(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// The maker, its public key, and a first message to it.
    fn asked() -> (CookieMaker, PublicKey, [u8; INITIATION], Random) {
        let ours = PrivateKey::from_bytes([1; 32]).public();
        let message = Initiation {
            sender: 7,
            ephemeral: [2; 32],
            sealed_static: [3; 48],
            sealed_stamp: [4; 28],
        };
        let message = message.emit(&MacKey::of(&ours));
        (CookieMaker::new(&ours), ours, message, Random::new([5; 32]))
    }

    /// Signs a fresh message with a cookie that was given `now` to whoever sent one from `HERE`.
    fn signed(now: Time) -> (CookieMaker, Cookie, [u8; INITIATION], Random) {
        let (mut maker, ours, mut message, mut random) = asked();
        let mut cookie = Cookie::default();
        cookie.sign(now, &mut message);
        assert!(!maker.knows(now, remote(HERE), &mut message));
        let reply = maker.reply(now, &mut random, remote(HERE), &mut message);
        assert_eq!(cookie.accept(now, &ours, &reply), Ok(()));
        cookie.sign(now, &mut message);
        (maker, cookie, message, random)
    }

    #[test]
    fn a_cookie_counts_for_its_address_and_port_and_no_other() {
        let (maker, _, mut message, _) = signed(at(1));
        assert!(maker.knows(at(1), remote(HERE), &mut message));
        for other in [
            "192.0.2.1:1001",
            "192.0.2.2:1000",
            "[::ffff:192.0.2.1]:1000",
        ] {
            assert!(!maker.knows(at(1), remote(other), &mut message), "{other}");
        }
        for byte in 0..INITIATION {
            let mut wrong = message;
            wrong[byte] ^= 1;
            assert!(!maker.knows(at(1), remote(HERE), &mut wrong), "{byte}");
        }
    }

    #[test]
    fn a_cookie_lives_for_its_whole_time_although_the_secret_changes() {
        let (mut maker, mut cookie, mut message, mut random) = signed(at(1));
        let ours = PrivateKey::from_bytes([1; 32]).public();
        let reply = maker.reply(at(119), &mut random, remote(HERE), &mut message);
        assert_eq!(cookie.accept(at(119), &ours, &reply), Ok(()));
        // Somebody else is given a cookie of the next secret.
        maker.reply(at(121), &mut random, remote("192.0.2.2:2"), &mut message);
        cookie.sign(at(238), &mut message);
        assert!(maker.knows(at(238), remote(HERE), &mut message));
        // Two changes later nobody knows it.
        maker.reply(at(241), &mut random, remote(HERE), &mut message);
        assert!(!maker.knows(at(241), remote(HERE), &mut message));
    }

    #[test]
    fn a_cookie_is_not_used_after_120_seconds() {
        let (_, mut cookie, mut message, _) = signed(at(1));
        cookie.sign(at(120), &mut message);
        assert_ne!(message[INITIATION - 16..], [0; 16]);
        let (_, _, mut bare, _) = asked();
        cookie.sign(at(121), &mut bare);
        assert_eq!(bare[INITIATION - 16..], [0; 16]);
    }

    #[test]
    fn a_secret_that_was_not_asked_for_in_time_is_known_no_more() {
        let (maker, _, mut message, _) = signed(at(1));
        assert!(maker.knows(at(240), remote(HERE), &mut message));
        assert!(!maker.knows(at(241), remote(HERE), &mut message));
    }

    #[test]
    fn a_reply_counts_once_and_only_for_the_last_message() {
        let (mut maker, ours, mut first, mut random) = asked();
        let mut cookie = Cookie::default();
        cookie.sign(at(0), &mut first);
        let late = maker.reply(at(0), &mut random, remote(HERE), &mut first);
        let mut second = first;
        second[60] ^= 1;
        let (text, mac, _) = messages::macs(&mut second);
        *mac = crypto::mac(&[9; 32], &[text]);
        cookie.sign(at(5), &mut second);
        assert_eq!(
            cookie.accept(at(5), &ours, &late),
            Err(Refused::CookieForged)
        );
        let mut reply = maker.reply(at(5), &mut random, remote(HERE), &mut second);
        reply.receiver += 1;
        let unexpected = Err(Refused::CookieUnexpected);
        assert_eq!(cookie.accept(at(5), &ours, &reply), unexpected);
        reply.receiver -= 1;
        reply.tag[0] ^= 1;
        assert_eq!(
            cookie.accept(at(5), &ours, &reply),
            Err(Refused::CookieForged)
        );
        reply.tag[0] ^= 1;
        assert_eq!(cookie.accept(at(5), &ours, &reply), Ok(()));
        assert_eq!(cookie.accept(at(5), &ours, &reply), unexpected);
    }

    #[test]
    fn every_reply_has_a_nonce_of_its_own() {
        let (mut maker, _, mut message, mut random) = asked();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let reply = maker.reply(at(0), &mut random, remote(HERE), &mut message);
            assert!(seen.insert(format!("{:?}", reply.nonce)));
        }
    }
}
