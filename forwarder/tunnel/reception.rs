//! Who is let in to a handshake. Not under load that is everybody whose first MAC is right: either
//! at once, or when those before have been worked off. Under load, and from a source that takes
//! more than its share, it is only who shows by a second MAC that its address is its own; others
//! are told how, by a cookie, if they may have one.
//!
//! ```text
//! first MAC → nobody waits ─────────────────────────────────────→ in
//!           → no load, and places left for the source → backlog → in
//!           → second MAC → limiter ────────────────────→ backlog → in
//!           → returners ──────────────────────────────→ backlog → in
//!           → replies → cookie
//! ```
//!
//! A right second MAC goes past everything that a stranger with a forged address could use up, so
//! none can lock out the owner of the address.

use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use packet::{Path, Time};
use siphasher::sip::SipHasher13;

use crate::backlog::{Backlog, Message};
use crate::cookie::CookieMaker;
use crate::limiter::Limiter;
use crate::messages::CookieReply;
use crate::random::Random;
use crate::refused::Refused;
use crate::replies::{Replies, Reply};
use crate::returners::Returners;

/// What becomes of a handshake message.
pub(crate) enum Welcome {
    /// It is to be handled now.
    Enter,
    /// It waits in the queue.
    Wait,
    /// Its sender must first prove where it is.
    Prove(CookieReply),
}

/// The reception of one lane. All of its tables are made when they are first needed.
#[derive(Default)]
pub(crate) struct Reception {
    keyed: Option<Keyed>,
    backlog: Backlog,
    limiter: Limiter,
    replies: Replies,
    returners: Returners,
}

impl Reception {
    /// Decides about a message whose first MAC is right.
    ///
    /// # Errors
    /// Why it is dropped in silence.
    pub(crate) fn welcome(
        &mut self,
        now: Time,
        path: Path,
        frame: &mut [u8],
        cookies: &mut CookieMaker,
        random: &mut Random,
    ) -> Result<Welcome, Refused> {
        let loaded = self.backlog.is_loaded(now);
        if !loaded && self.backlog.passes(now) {
            return Ok(Welcome::Enter);
        }
        let keyed = self.keyed.get_or_insert_with(|| Keyed::new(random));
        let remote = path.remote;
        let source = keyed.source(remote);
        if loaded || self.backlog.is_crowded_by(source) {
            if !cookies.knows(now, remote, frame) {
                let comer = keyed.scatter(source ^ u64::from(remote.port()));
                if !self.returners.admits(now, comer) {
                    match self.replies.ask(now, keyed, remote) {
                        Reply::Given => {
                            let reply = cookies.reply(now, random, remote, frame);
                            return Ok(Welcome::Prove(reply));
                        }
                        Reply::WithheldFromNew => self.returners.note(now, comer),
                        Reply::Withheld => {}
                    }
                    return Err(Refused::CookieWithheld);
                }
            } else if !self.limiter.admits(now, source) {
                return Err(Refused::HandshakeTooOften);
            }
        }
        if self.backlog.push(now, path, source, frame) {
            Ok(Welcome::Wait)
        } else {
            Err(Refused::HandshakeQueueFull)
        }
    }

    /// Takes a message out that is to be handled now.
    pub(crate) fn next(&mut self, now: Time) -> Option<Message> {
        self.backlog.pop(now)
    }

    /// When [`Reception::next`] has one; past, if that is now.
    #[inline]
    pub(crate) fn due(&self) -> Option<Time> {
        self.backlog.next()
    }

    /// How many wait.
    #[inline]
    pub(crate) fn waiting(&self) -> u64 {
        self.backlog.len() as u64
    }
}

/// Hashes that nobody outside can compute, so that nobody chooses his neighbours in a table.
pub(crate) struct Keyed {
    sip: SipHasher13,
    add: u64,
    factor: u64,
}

impl Keyed {
    pub(crate) fn new(random: &mut Random) -> Keyed {
        let key = random.secret();
        let quarter = |at: usize| {
            let bytes = key.0[at..].first_chunk().expect("32 bytes have quarters");
            u64::from_le_bytes(*bytes)
        };
        Keyed {
            sip: SipHasher13::new_with_keys(quarter(0), quarter(8)),
            add: quarter(16),
            factor: quarter(24) | 1,
        }
    }

    /// Spreads a number over 64 bits, fast and less well than the other; for tables that only guess.
    #[inline]
    pub(crate) fn scatter(&self, number: u64) -> u64 {
        let product = u128::from(number ^ self.add) * u128::from(self.factor);
        let folded = (product >> 64) as u64 ^ product as u64;
        let product = u128::from(folded) * u128::from(self.factor);
        (product >> 64) as u64 ^ product as u64
    }

    /// Who counts as one source: an IPv4 address, or the /64 of an IPv6 address, since whoever has
    /// one of its addresses has them all.
    fn source(&self, remote: SocketAddr) -> u64 {
        let mut hasher = self.sip;
        match remote.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_of_ipv4_and_a_64_of_ipv6() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let source = |text: &str| keyed.source(text.parse().expect("an address"));
        assert_eq!(source("192.0.2.1:1"), source("192.0.2.1:2"));
        assert_ne!(source("192.0.2.1:1"), source("192.0.2.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::2:1]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
    }
}
