//! Our handshakes and those of snow, an implementation of Noise that knows nothing of WireGuard:
//! with the same keys and ephemerals both say the same, byte for byte.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;
use snow::{Builder, HandshakeState, TransportState};

use super::*;
use crate::messages::{DATA_HEADER, DATA_OVERHEAD};
use crate::session::Tried;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// All that is random in a handshake.
#[derive(Debug)]
struct Chance {
    keys: [[u8; 32]; 2],
    ephemerals: [[u8; 32]; 2],
    psk: [u8; 32],
    stamp: [u8; 12],
    indices: [u32; 2],
}

fn chance() -> impl Strategy<Value = Chance> {
    let psk = prop_oneof![Just([0; 32]), any::<[u8; 32]>()];
    let keys = any::<([[u8; 32]; 2], [[u8; 32]; 2])>();
    (keys, psk, any::<([u8; 12], [u32; 2])>()).prop_map(|((keys, ephemerals), psk, rest)| Chance {
        keys,
        ephemerals,
        psk,
        stamp: rest.0,
        indices: rest.1,
    })
}

impl Chance {
    fn identity(&self, side: usize) -> Identity {
        Identity::new(PrivateKey::from_bytes(self.keys[side]))
    }

    fn fresh(&self, side: usize) -> Fresh {
        Fresh {
            ephemeral: Secret(self.ephemerals[side]),
            index: self.indices[side],
        }
    }

    fn snow(&self, side: usize) -> HandshakeState {
        let builder = Builder::new(PATTERN.parse().expect("a pattern that snow knows"))
            .prologue(PROLOGUE)
            .and_then(|builder| builder.local_private_key(&self.keys[side]))
            .and_then(|builder| builder.psk(2, &self.psk))
            .expect("nothing is said twice")
            .fixed_ephemeral_key_for_testing_only(&self.ephemerals[side]);
        if side == 1 {
            return builder.build_responder().expect("all is there");
        }
        let responder = self.identity(1).public;
        let builder = builder.remote_public_key(responder.as_bytes());
        let builder = builder.expect("nothing is said twice");
        builder.build_initiator().expect("all is there")
    }
}

/// What Noise says of a message of ours: all but type, indices and MACs.
fn noise_of_first(message: &Initiation) -> Vec<u8> {
    let Initiation {
        ephemeral,
        sealed_static,
        sealed_stamp,
        ..
    } = message;
    [&ephemeral[..], sealed_static, sealed_stamp].concat()
}

fn noise_of_answer(message: &Response) -> Vec<u8> {
    [&message.ephemeral[..], &message.sealed_nothing].concat()
}

/// Both sessions seal the same, message after message, and open what the other one's peer sealed.
fn same_keys(ours: Handshake<Finished>, mut snow: TransportState, peer: &mut TransportState) {
    let mut session = ours.session(Time::ZERO);
    for text in [&b""[..], b"sixteen bytes...", &[7; 1420 / 16 * 16]] {
        let mut frame = std::vec![0; text.len() + DATA_OVERHEAD];
        frame[DATA_HEADER..][..text.len()].copy_from_slice(text);
        session.seal(&mut frame, text.len());
        let mut theirs = std::vec![0; text.len() + 16];
        snow.write_message(text, &mut theirs).expect("room enough");
        assert_eq!(frame[DATA_HEADER..], theirs);
        // The peer's snow opens it; what it seals in turn, our session opens.
        let mut opened = std::vec![0; text.len()];
        peer.read_message(&frame[DATA_HEADER..], &mut opened)
            .expect("authentic");
        assert_eq!(opened, text);
        let counter = peer.sending_nonce();
        peer.write_message(text, &mut frame[DATA_HEADER..])
            .expect("room enough");
        frame[8..16].copy_from_slice(&counter.to_le_bytes());
        assert_eq!(
            session.open(Time::ZERO, &mut frame, Tried::Not),
            Ok(text.len())
        );
        assert_eq!(frame[DATA_HEADER..][..text.len()], *text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_roles_say_byte_for_byte_what_snow_says_and_have_its_keys(chance in chance()) {
        let (left, right) = (chance.identity(0), chance.identity(1));
        let (mut snow_left, mut snow_right) = (chance.snow(0), chance.snow(1));
        let statics = left.exchange(&right.public).expect("a good key");

        let (began, first) =
            Handshake::initiate(&left, &right.public, &statics, chance.fresh(0), chance.stamp)
                .expect("a good key");
        let mut said = [0; 108];
        snow_left.write_message(&chance.stamp, &mut said).expect("room enough");
        prop_assert_eq!(&noise_of_first(&first)[..], &said[..]);

        // Each reads what the other one's twin wrote.
        let mut stamp = [0; 12];
        snow_right.read_message(&noise_of_first(&first), &mut stamp).expect("authentic");
        prop_assert_eq!(stamp, chance.stamp);
        let received = Handshake::receive(&right, first).expect("it is for us");
        prop_assert_eq!(received.peer(), &left.public);
        let verified = received.verify(&statics).expect("authentic");
        prop_assert_eq!(verified.stamp(), chance.stamp);

        let (responder, answer) =
            verified.respond(&chance.psk, chance.fresh(1)).expect("a good key");
        let mut said = [0; 48];
        snow_right.write_message(&[], &mut said).expect("room enough");
        prop_assert_eq!(&noise_of_answer(&answer)[..], &said[..]);
        snow_left.read_message(&noise_of_answer(&answer), &mut []).expect("authentic");
        let initiator = began.finish(&left, &chance.psk, &answer).expect("authentic");

        let mut snow_left = snow_left.into_transport_mode().expect("finished");
        let mut snow_right = snow_right.into_transport_mode().expect("finished");
        // Twins of the same state, since each session is used once as a sender of its own.
        let (twin_left, twin_right) = (twin(&chance, 0), twin(&chance, 1));
        same_keys(initiator, twin_left, &mut snow_right);
        same_keys(responder, twin_right, &mut snow_left);
    }
}

/// The transport of one side of a handshake between two snows.
fn twin(chance: &Chance, side: usize) -> TransportState {
    let (mut left, mut right) = (chance.snow(0), chance.snow(1));
    let (mut message, mut payload) = ([0; 108], [0; 12]);
    left.write_message(&chance.stamp, &mut message)
        .and_then(|_| right.read_message(&message, &mut payload))
        .and_then(|_| right.write_message(&[], &mut message))
        .and_then(|length| left.read_message(&message[..length], &mut payload))
        .expect("they understand each other");
    let finished = if side == 0 { left } else { right };
    finished.into_transport_mode().expect("finished")
}
