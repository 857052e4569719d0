//! Every way in which the tunnel gets rid of a packet or datagram, one line each; counters, texts
//! and documentation follow from this list.

use core::ops::{AddAssign, Index};

macro_rules! refusals {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why the tunnel refused a packet or a datagram.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Refused {
            $($(#[doc = $text])+ $variant,)+
        }

        impl Refused {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Refused] = &[$(Refused::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Refused::ALL.len();

            /// Its name in counters and status.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Refused::$variant => $name,)+
                }
            }

            /// What it means, one or two sentences.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Refused::$variant => concat!($($text,)+),)+
                }
            }
        }
    };
}

refusals! {
    /// To be sent to a peer that is not, or not any more, configured.
    PeerUnknown = "peerUnknown",
    /// To be sent to a peer whose address nobody has told us and that has not spoken yet.
    EndpointUnknown = "endpointUnknown",
    /// The lane has no private key.
    KeyMissing = "keyMissing",
    /// As many packets as allowed wait for a handshake; the oldest gives way.
    QueueFull = "queueFull",
    /// It waited for a handshake that was given up after 90 s.
    HandshakeUnanswered = "handshakeUnanswered",
    /// It waited for a handshake with a peer that was removed.
    PeerRemoved = "peerRemoved",
    /// No buffer was free for the sealed packet.
    BufferMissing = "bufferMissing",
    /// The batch of outgoing datagrams was full.
    WireFull = "wireFull",
    /// Sealed it would be longer than a UDP datagram can be.
    TooLong = "tooLong",
    /// Neither of the four message types, or reserved bytes that are not zero.
    TypeUnknown = "typeUnknown",
    /// Its length does not fit its message type.
    LengthWrong = "lengthWrong",
    /// A handshake message without a right first MAC: it is not from a peer of ours.
    MacWrong = "macWrong",
    /// A first handshake message that cannot be decrypted with our key.
    InitiationForged = "initiationForged",
    /// A first handshake message from a key that is no peer's.
    InitiatorUnknown = "initiatorUnknown",
    /// A first handshake message whose time stamp is not later than the last one's.
    InitiationReplayed = "initiationReplayed",
    /// A first handshake message less than 20 ms after the last one of this peer.
    InitiationTooSoon = "initiationTooSoon",
    /// An answer to a handshake that we do not have in hand.
    ResponseUnexpected = "responseUnexpected",
    /// An answer that does not fit our handshake: another key, or another pre-shared key.
    ResponseForged = "responseForged",
    /// A handshake message under load from whoever has not proven where it is; it was sent a cookie,
    /// by which it can.
    CookieWanted = "cookieWanted",
    /// The same, but as many cookies as allowed had been sent.
    CookieWithheld = "cookieWithheld",
    /// A handshake message under load from a source that has sent more than 20 a second.
    HandshakeTooOften = "handshakeTooOften",
    /// As many handshake messages as allowed wait to be worked off.
    HandshakeQueueFull = "handshakeQueueFull",
    /// A cookie reply to nothing that we sent last, or the second one to it.
    CookieUnexpected = "cookieUnexpected",
    /// A cookie reply that cannot be decrypted: it is not from who was asked, or to another message.
    CookieForged = "cookieForged",
    /// A data message for a session that we do not have (any more).
    SessionUnknown = "sessionUnknown",
    /// A data message of a session that is older than 180 s.
    SessionExpired = "sessionExpired",
    /// A data message with a counter past the limit of a session.
    CounterExhausted = "counterExhausted",
    /// A data message that was received before, or is too old to know.
    Replayed = "replayed",
    /// A data message whose tag is wrong.
    DataForged = "dataForged",
    /// A decrypted packet that is neither IPv4 nor IPv6.
    InnerVersion = "innerVersion",
    /// A decrypted packet that is shorter than it says.
    InnerLength = "innerLength",
    /// Congestion was marked outside on a packet whose sender does not know the mark (RFC 6040 §4.2).
    CongestionUnmarkable = "congestionUnmarkable",
}

/// How many segments were refused, by reason.
#[derive(Clone, Debug)]
pub struct Refusals([u64; Refused::COUNT]);

impl Refusals {
    /// Counts `segments` more.
    #[inline]
    pub fn add(&mut self, reason: Refused, segments: u64) {
        self.0[reason as usize] += segments;
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Refused, u64)> {
        Refused::ALL.iter().copied().zip(self.0)
    }
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals([0; Refused::COUNT])
    }
}

impl Index<Refused> for Refusals {
    type Output = u64;
    #[inline]
    fn index(&self, reason: Refused) -> &u64 {
        &self.0[reason as usize]
    }
}

impl AddAssign<&Refusals> for Refusals {
    fn add_assign(&mut self, other: &Refusals) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_its_place() {
        let names: HashSet<_> = Refused::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Refused::COUNT);
        for (place, reason) in Refused::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
