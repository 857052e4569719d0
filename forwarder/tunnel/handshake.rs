//! Noise_IKpsk2 as a typestate: each step consumes what came before, and only a
//! [`Handshake<Finished>`] yields a session. Initiator: [`Handshake::initiate`], then
//! [`Handshake::finish`]. Responder: [`Handshake::receive`], [`Handshake::verify`],
//! [`Handshake::respond`]. Times, indices and random bytes are arguments.

use aws_lc_rs::agreement::PrivateKey as Scalar;
use packet::Time;

use crate::cookie::CookieMaker;
use crate::crypto::{self, Cipher, Secret};
use crate::keys::{PrivateKey, PublicKey};
use crate::messages::{Initiation, MacKey, Response};
use crate::noise::Symmetric;
use crate::session::Session;

/// Our side of every handshake.
pub(crate) struct Identity {
    pub(crate) private: PrivateKey,
    pub(crate) public: PublicKey,
    pub(crate) macs: MacKey,
    pub(crate) cookies: CookieMaker,
    scalar: Scalar,
}

impl Identity {
    pub(crate) fn new(private: PrivateKey) -> Identity {
        let public = private.public();
        Identity {
            scalar: crypto::scalar(private.as_bytes()),
            macs: MacKey::of(&public),
            cookies: CookieMaker::new(&public),
            private,
            public,
        }
    }

    /// The exchange of both static keys, which every handshake with this peer uses, made once into
    /// `made`: when it is needed, for it takes 40 us, and a lane may be given many peers at once, or
    /// another key. `None` for our own key, and for one of low order.
    pub(crate) fn statics<'a>(
        &self,
        peer: &PublicKey,
        made: &'a mut Option<Secret>,
    ) -> Option<&'a Secret> {
        if made.is_none() && self.public != *peer {
            *made = self.exchange(peer);
        }
        made.as_ref()
    }

    fn exchange(&self, peer: &PublicKey) -> Option<Secret> {
        crypto::exchange(&self.scalar, peer.as_bytes())
    }
}

/// The random part of a message of ours: an ephemeral private key and the index by which the other
/// side is to call us.
pub(crate) struct Fresh {
    pub(crate) ephemeral: Secret,
    pub(crate) index: u32,
}

/// A handshake in one of its states.
pub(crate) struct Handshake<State> {
    noise: Symmetric,
    state: State,
}

/// We have sent the first message.
pub(crate) struct Initiated {
    ephemeral: Scalar,
    local: u32,
}

/// We have read who sends a first message, and nothing else of it.
pub(crate) struct Received {
    initiation: Initiation,
    peer: PublicKey,
}

/// The first message is authentic: it was made by its peer, with this time stamp.
pub(crate) struct Verified {
    ephemeral: [u8; 32],
    peer: PublicKey,
    remote: u32,
    stamp: [u8; 12],
}

/// Both sides can make the same keys.
pub(crate) struct Finished {
    local: u32,
    remote: u32,
    initiator: bool,
}

impl Handshake<Initiated> {
    /// Makes the first message to `peer`. `statics` is [`Identity::statics`] with it; `None` for
    /// a peer of low order.
    pub(crate) fn initiate(
        ours: &Identity,
        peer: &PublicKey,
        statics: &Secret,
        fresh: Fresh,
        stamp: [u8; 12],
    ) -> Option<(Handshake<Initiated>, Initiation)> {
        let mut noise = Symmetric::new(peer.as_bytes());
        let ephemeral = crypto::scalar(&fresh.ephemeral.0);
        let public = crypto::public(&ephemeral);
        noise.mix_hash(&public);
        noise.mix_key(&public);
        let key = noise.mix_key_for_message(&crypto::exchange(&ephemeral, peer.as_bytes())?.0);
        let sealed_static = noise.seal(&key, ours.public.as_bytes());
        let key = noise.mix_key_for_message(&statics.0);
        let sealed_stamp = noise.seal(&key, &stamp);
        let state = Initiated {
            ephemeral,
            local: fresh.index,
        };
        let message = Initiation {
            sender: fresh.index,
            ephemeral: public,
            sealed_static,
            sealed_stamp,
        };
        Some((Handshake { noise, state }, message))
    }

    /// Reads the answer. A wrong one leaves the handshake as it was: the right one may still come.
    pub(crate) fn finish(
        &self,
        ours: &Identity,
        psk: &[u8; 32],
        answer: &Response,
    ) -> Option<Handshake<Finished>> {
        let mut noise = self.noise.clone();
        noise.mix_hash(&answer.ephemeral);
        noise.mix_key(&answer.ephemeral);
        noise.mix_key(&crypto::exchange(&self.state.ephemeral, &answer.ephemeral)?.0);
        noise.mix_key(&crypto::exchange(&ours.scalar, &answer.ephemeral)?.0);
        let key = noise.mix_preshared(psk);
        noise.open::<0>(&key, &answer.sealed_nothing)?;
        let state = Finished {
            local: self.state.local,
            remote: answer.sender,
            initiator: true,
        };
        Some(Handshake { noise, state })
    }

    /// The index by which the answer will call us.
    pub(crate) fn local(&self) -> u32 {
        self.state.local
    }
}

impl Handshake<Received> {
    /// Reads who claims to send a first message; `None` if it is not for us.
    pub(crate) fn receive(ours: &Identity, initiation: Initiation) -> Option<Handshake<Received>> {
        let mut noise = Symmetric::new(ours.public.as_bytes());
        noise.mix_hash(&initiation.ephemeral);
        noise.mix_key(&initiation.ephemeral);
        let shared = crypto::exchange(&ours.scalar, &initiation.ephemeral)?;
        let key = noise.mix_key_for_message(&shared.0);
        let peer = PublicKey::from_bytes(noise.open(&key, &initiation.sealed_static)?);
        let state = Received { initiation, peer };
        Some(Handshake { noise, state })
    }

    /// Who claims to send it.
    pub(crate) fn peer(&self) -> &PublicKey {
        &self.state.peer
    }

    /// Verifies that claim; `statics` is [`Identity::statics`] with that peer.
    pub(crate) fn verify(mut self, statics: &Secret) -> Option<Handshake<Verified>> {
        let key = self.noise.mix_key_for_message(&statics.0);
        let message = &self.state.initiation;
        let stamp = self.noise.open(&key, &message.sealed_stamp)?;
        let state = Verified {
            ephemeral: message.ephemeral,
            peer: self.state.peer,
            remote: message.sender,
            stamp,
        };
        Some(Handshake {
            noise: self.noise,
            state,
        })
    }
}

impl Handshake<Verified> {
    /// The TAI64N stamp of the message: must be later than every one before.
    pub(crate) fn stamp(&self) -> [u8; 12] {
        self.state.stamp
    }

    /// Makes the answer.
    pub(crate) fn respond(
        mut self,
        psk: &[u8; 32],
        fresh: Fresh,
    ) -> Option<(Handshake<Finished>, Response)> {
        let ephemeral = crypto::scalar(&fresh.ephemeral.0);
        let public = crypto::public(&ephemeral);
        let noise = &mut self.noise;
        noise.mix_hash(&public);
        noise.mix_key(&public);
        noise.mix_key(&crypto::exchange(&ephemeral, &self.state.ephemeral)?.0);
        noise.mix_key(&crypto::exchange(&ephemeral, self.state.peer.as_bytes())?.0);
        let key = noise.mix_preshared(psk);
        let message = Response {
            sender: fresh.index,
            receiver: self.state.remote,
            ephemeral: public,
            sealed_nothing: noise.seal(&key, &[]),
        };
        let state = Finished {
            local: fresh.index,
            remote: self.state.remote,
            initiator: false,
        };
        let noise = self.noise;
        Some((Handshake { noise, state }, message))
    }
}

impl Handshake<Finished> {
    /// The session that both sides now have.
    pub(crate) fn session(self, born: Time) -> Session {
        let [first, second] = self.noise.split();
        let (send, receive) = if self.state.initiator {
            (first, second)
        } else {
            (second, first)
        };
        Session::new(
            Cipher::new(&send),
            Cipher::new(&receive),
            self.state.local,
            self.state.remote,
            born,
            self.state.initiator,
        )
    }
}

#[cfg(test)]
mod against_snow;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::messages::{DATA_OVERHEAD, INITIATION, RESPONSE};
    use std::vec::Vec;

    // Made by another implementation: the paper's §5.4 in Python, over its hashlib and hmac, and
    // X25519 and ChaCha20-Poly1305 written out from RFC 7748 and RFC 8439.
    const FIRST: &[&str] = &[
        "01000000443322115dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9",
        "df1c6e0124b3ef220a26599fb2188bb723276fc173af67616c817fc32fd04d68",
        "6d87ec152fac10eed2bda3bb3b6f1eded6977684082284d817fb46b3a78148e3",
        "bd27951b6fde43de43da4247a501d2e216bac216c6ef4f74c7f91afd10eab3f3",
        "65f3b23500000000000000000000000000000000",
    ];
    const ANSWER: &[&str] = &[
        "020000008877665544332211ac01b2209e86354fb853237b5de0f4fab13c7fcb",
        "f433a61c019369617fecf10bb1c23ce9ab3684dc9722577de463ee14003c040f",
        "081e6bf38f291d8f8026951300000000000000000000000000000000",
    ];
    const FROM_INITIATOR: &[&str] =
        &["040000008877665500000000000000002573d3030aabba0c616df8e5a1bab60b"];
    const FROM_RESPONDER: &[&str] =
        &["04000000443322110000000000000000debc5ce8db9dfbdcc00a210e42229c06"];
    const STAMP: [u8; 12] = [0x40, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x0a, 0, 0, 0xab, 0xcd];
    const PSK: [u8; 32] = [5; 32];

    fn unhex<const N: usize>(lines: &[&str]) -> [u8; N] {
        let digits: Vec<u32> = lines
            .iter()
            .flat_map(|line| line.chars())
            .map(|c| c.to_digit(16).expect("a hexadecimal digit"))
            .collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect();
        bytes.try_into().expect("as many bytes as wanted")
    }

    fn identity(byte: u8) -> Identity {
        Identity::new(PrivateKey::from_bytes([byte; 32]))
    }

    fn fresh(ephemeral: u8, index: u32) -> Fresh {
        Fresh {
            ephemeral: Secret([ephemeral; 32]),
            index,
        }
    }

    #[test]
    fn both_sides_say_what_another_implementation_says() {
        let (left, right) = (identity(1), identity(2));
        let statics = left.exchange(&right.public).expect("a good key");
        let (began, first) =
            Handshake::initiate(&left, &right.public, &statics, fresh(3, 0x1122_3344), STAMP)
                .expect("a good key");
        assert_eq!(first.emit(&right.macs), unhex::<INITIATION>(FIRST));

        let received = Handshake::receive(&right, Initiation::parse(&unhex(FIRST)));
        let received = received.expect("it is for us");
        assert_eq!(*received.peer(), left.public);
        let verified = received.verify(&statics).expect("it is authentic");
        assert_eq!(verified.stamp(), STAMP);
        let answered = verified.respond(&PSK, fresh(4, 0x5566_7788));
        let (responder, answer) = answered.expect("a good key");
        assert_eq!(answer.emit(&left.macs), unhex::<RESPONSE>(ANSWER));

        let answer = Response::parse(&unhex(ANSWER));
        assert!(began.finish(&left, &[6; 32], &answer).is_none());
        let initiator = began.finish(&left, &PSK, &answer).expect("it fits");

        for (state, expected) in [(initiator, FROM_INITIATOR), (responder, FROM_RESPONDER)] {
            let mut frame = [0; DATA_OVERHEAD];
            state.session(Time::ZERO).seal(&mut frame, 0);
            assert_eq!(frame, unhex::<DATA_OVERHEAD>(expected));
        }
    }

    #[test]
    fn an_ephemeral_key_of_low_order_is_refused_on_both_sides() {
        let (left, right) = (identity(1), identity(2));
        let statics = left.exchange(&right.public).expect("a good key");
        let mut first = Initiation::parse(&unhex(FIRST));
        first.ephemeral = [0; 32];
        assert!(Handshake::receive(&right, first).is_none());
        let (began, _) =
            Handshake::initiate(&left, &right.public, &statics, fresh(3, 1), STAMP).expect("good");
        let mut answer = Response::parse(&unhex(ANSWER));
        answer.ephemeral = [0; 32];
        assert!(began.finish(&left, &PSK, &answer).is_none());
    }
}
