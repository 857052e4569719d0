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
//!
//! What a flood may take of time and memory is the worker's to give, so there is one reception for
//! all of its lanes. Who comes is told apart by lane all the same: to each of them a node's first
//! message comes from a stranger, and who floods one lane uses up no source's share of another.

use core::fmt;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use packet::{Path, Time};
use siphasher::sip::SipHasher13;

use crate::backlog::{Backlog, Load, Message};
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

/// The lane that a message is for.
pub(crate) struct Host<'a> {
    pub(crate) number: u16,
    pub(crate) load: &'a mut Load,
    pub(crate) cookies: &'a mut CookieMaker,
    pub(crate) random: &'a mut Random,
}

/// Who is let in to the handshakes of one worker's lanes, and what waits for them. Lanes that share
/// one have different numbers, and all are called when it is time ([`crate::Lane::poll_timeout`]):
/// what waits for one holds up the others.
#[derive(Default)]
pub struct Reception {
    backlog: Backlog,
    /// Made when the first has to wait.
    comers: Option<Comers>,
}

/// A flood of all lanes takes less than 4 MiB of a node with two workers, and less than 7 MiB of one
/// with four; with what else grows under it both stay within 8 MiB.
const _: () = assert!(2 * Reception::BYTES_MAX < 4 << 20 && 4 * Reception::BYTES_MAX < 7 << 20);

/// What is known about those who come.
struct Comers {
    keyed: Keyed,
    limiter: Limiter,
    replies: Replies,
    returners: Returners,
}

impl Reception {
    /// The most memory that one takes, in bytes, whatever comes: none before handshakes have to
    /// wait.
    pub const BYTES_MAX: usize =
        Backlog::BYTES + Limiter::BYTES + Replies::BYTES + Returners::BYTES;

    /// Decides about a message whose first MAC is right.
    ///
    /// # Errors
    /// Why it is dropped in silence.
    pub(crate) fn welcome(
        &mut self,
        now: Time,
        host: Host,
        path: Path,
        frame: &mut [u8],
    ) -> Result<Welcome, Refused> {
        let loaded = host.load.is_high(now);
        if !loaded && self.backlog.passes(now) {
            return Ok(Welcome::Enter);
        }
        let Comers {
            keyed,
            limiter,
            replies,
            returners,
        } = self
            .comers
            .get_or_insert_with(|| Comers::new(Keyed::new(host.random)));
        let remote = path.remote;
        let source = keyed.source(host.number, remote);
        if loaded || self.backlog.is_crowded_by(source) {
            if !host.cookies.knows(now, remote, frame) {
                let comer = keyed.scatter(source ^ u64::from(remote.port()));
                if !returners.admits(now, comer) {
                    match replies.ask(now, keyed, host.number, remote) {
                        Reply::Given => {
                            let reply = host.cookies.reply(now, host.random, remote, frame);
                            return Ok(Welcome::Prove(reply));
                        }
                        Reply::WithheldFromNew => returners.note(now, comer),
                        Reply::Withheld => {}
                    }
                    return Err(Refused::CookieWithheld);
                }
            } else if !limiter.admits(now, source) {
                return Err(Refused::HandshakeTooOften);
            }
        }
        let message = Message::new(host.number, path, frame);
        if self.backlog.push(now, source, message, host.load) {
            Ok(Welcome::Wait)
        } else {
            Err(Refused::HandshakeQueueFull)
        }
    }

    /// Takes a message out that this lane is to handle now.
    pub(crate) fn next(&mut self, now: Time, lane: u16, load: &mut Load) -> Option<Message> {
        self.backlog.pop(now, lane, load)
    }

    /// When [`Reception::next`] has one for this lane; past, if that is now.
    #[inline]
    pub(crate) fn due(&self, lane: u16) -> Option<Time> {
        self.backlog.next(lane)
    }
}

impl fmt::Debug for Reception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reception").finish_non_exhaustive()
    }
}

impl Comers {
    fn new(keyed: Keyed) -> Comers {
        Comers {
            keyed,
            limiter: Limiter::new(),
            replies: Replies::new(),
            returners: Returners::new(),
        }
    }
}

/// Prefixes of an address that are told apart, the widest first: so many bytes of IPv4, and of
/// IPv6. The last is who counts as one source: whoever has one address of a /64 has them all.
const PREFIXES: [(usize, usize); LEVELS] = [(2, 4), (3, 6), (4, 8)];
pub(crate) const LEVELS: usize = 3;

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

    /// A source of messages to a lane.
    pub(crate) fn source(&self, lane: u16, remote: SocketAddr) -> u64 {
        self.prefix(lane, remote, LEVELS - 1)
    }

    /// One of the prefixes that a source of messages to a lane is in. No two of a level have the
    /// same bytes, since those of the two families have different lengths.
    pub(crate) fn prefix(&self, lane: u16, remote: SocketAddr, level: usize) -> u64 {
        let (of_v4, of_v6) = PREFIXES[level];
        let mut hasher = self.sip;
        hasher.write(&lane.to_le_bytes());
        match remote.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()[..of_v4]),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..of_v6]),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_of_ipv4_and_a_64_of_ipv6_as_a_lane_sees_it() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let source = |text: &str| keyed.source(0, text.parse().expect("an address"));
        assert_eq!(source("192.0.2.1:1"), source("192.0.2.1:2"));
        assert_ne!(source("192.0.2.1:1"), source("192.0.2.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::2:1]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        let of_another = keyed.source(1, "192.0.2.1:1".parse().expect("an address"));
        assert_ne!(source("192.0.2.1:1"), of_another);
    }

    #[test]
    fn a_prefix_is_so_much_of_an_address() {
        let keyed = Keyed::new(&mut Random::new([1; 32]));
        let prefixes = |text: &str| {
            let remote = text.parse().expect("an address");
            [0, 1, 2].map(|level| keyed.prefix(0, remote, level))
        };
        // How many of the prefixes two addresses have in common, the widest first.
        let common = |one, other| {
            let pairs = prefixes(one).into_iter().zip(prefixes(other));
            pairs.take_while(|(one, other)| one == other).count()
        };
        let v4 = ["10.1.2.3:4", "10.1.2.4:4", "10.1.3.3:4", "10.2.2.3:4"];
        assert_eq!(v4.map(|other| common(v4[0], other)), [3, 2, 1, 0]);
        let v6 = [
            "[1:2:3:4::5]:6",
            "[1:2:3:5::5]:6",
            "[1:2:4:4::5]:6",
            "[1:3:3:4::5]:6",
        ];
        assert_eq!(v6.map(|other| common(v6[0], other)), [3, 2, 1, 0]);
        assert_eq!(common("10.1.2.3:4", "[0a01:0203::]:4"), 0);
    }
}
