//! Which library seals and opens fastest, and what of its speed is left in the tunnel:
//! `cargo bench --bench aead`.
//!
//! First ChaCha20-Poly1305 alone, in place, with a key prepared once and a counter as nonce: each
//! library seals a batch in turn with the others, then each opens it. Then a lane seals a TCP
//! super-packet into trains, and another lane opens these, in turn with the same library alone over
//! as many messages of the same length; the ratio says what segments, checksums, headers, replay
//! window and the account of peers leave of the cipher's speed. Each figure is a median.

#[path = "common/figures.rs"]
mod figures;
#[path = "common/in_turn.rs"]
mod in_turn;
#[path = "common/pair.rs"]
mod pair;

use std::hint::black_box;
use std::time::{Duration, Instant};

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit};
use figures::median;
use in_turn::in_turn;
use packet::Datagrams;
use pair::{Pair, SEGMENT, SEGMENTS};

const KEY: [u8; 32] = [7; 32];
const TAG: usize = 16;
/// Bytes of a data message's header.
const HEADER: usize = 16;
/// Messages of one batch, and batches.
const BATCH: usize = 64;
const BATCHES: usize = 2_000;
/// Super-packets that are sealed and opened.
const SUPER_PACKETS: usize = 4_000;

fn main() {
    for length in [64, 512, 1_424] {
        libraries(length);
    }
    tunnel_against_cipher();
}

/// One library's cipher with a prepared key.
trait Cipher {
    fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG]);
    /// Opens a message with its tag behind it.
    fn open(&self, counter: u64, message: &mut [u8]) -> bool;
}

struct AwsLc(aws_lc_rs::aead::LessSafeKey);
struct Ring(ring::aead::LessSafeKey);
struct RustCrypto(ChaCha20Poly1305);

impl AwsLc {
    fn new() -> AwsLc {
        use aws_lc_rs::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
        let key = UnboundKey::new(&CHACHA20_POLY1305, &KEY).expect("32 bytes are a key");
        AwsLc(LessSafeKey::new(key))
    }
}

impl Ring {
    fn new() -> Ring {
        use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
        let key = UnboundKey::new(&CHACHA20_POLY1305, &KEY).expect("32 bytes are a key");
        Ring(LessSafeKey::new(key))
    }
}

/// The counter as WireGuard's nonce (paper §5.4.6).
#[inline]
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

impl Cipher for AwsLc {
    #[inline]
    fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG]) {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce(counter));
        // As `tunnel` calls it.
        let sealed = self
            .0
            .seal_in_place_scatter(nonce, Aad::empty(), text, &[], tag);
        sealed.expect("a short text");
    }

    #[inline]
    fn open(&self, counter: u64, message: &mut [u8]) -> bool {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce(counter));
        self.0.open_in_place(nonce, Aad::empty(), message).is_ok()
    }
}

impl Cipher for Ring {
    #[inline]
    fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG]) {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce(counter));
        let sealed = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text);
        tag.copy_from_slice(sealed.expect("a short text").as_ref());
    }

    #[inline]
    fn open(&self, counter: u64, message: &mut [u8]) -> bool {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce(counter));
        self.0.open_in_place(nonce, Aad::empty(), message).is_ok()
    }
}

impl Cipher for RustCrypto {
    #[inline]
    fn seal(&self, counter: u64, text: &mut [u8], tag: &mut [u8; TAG]) {
        let nonce = nonce(counter);
        let sealed = self.0.encrypt_in_place_detached(&nonce.into(), &[], text);
        tag.copy_from_slice(&sealed.expect("a short text"));
    }

    #[inline]
    fn open(&self, counter: u64, message: &mut [u8]) -> bool {
        let nonce = nonce(counter);
        let (text, tag) = message.split_last_chunk_mut::<TAG>().expect("a tag");
        let tag = (*tag).into();
        let opened = self
            .0
            .decrypt_in_place_detached(&nonce.into(), &[], text, &tag);
        opened.is_ok()
    }
}

/// Messages of one length with room for their tags, one behind the other as in a train.
struct Messages {
    bytes: Vec<u8>,
    /// Free bytes in front of each.
    header: usize,
    stride: usize,
    counter: u64,
}

impl Messages {
    fn new(messages: usize, header: usize, length: usize) -> Messages {
        let stride = header + length + TAG;
        Messages {
            bytes: vec![0x5a; messages * stride],
            header,
            stride,
            counter: 0,
        }
    }

    fn seal(&mut self, cipher: &impl Cipher) -> Duration {
        let begun = Instant::now();
        for message in black_box(&mut self.bytes).chunks_exact_mut(self.stride) {
            let message = &mut message[self.header..];
            let (text, tag) = message.split_last_chunk_mut::<TAG>().expect("a tag");
            cipher.seal(self.counter, text, tag);
            self.counter += 1;
        }
        begun.elapsed()
    }

    /// Opens what was sealed last.
    fn open(&mut self, cipher: &impl Cipher) -> Duration {
        let first = self.counter - (self.bytes.len() / self.stride) as u64;
        let mut authentic = true;
        let begun = Instant::now();
        let messages = black_box(&mut self.bytes).chunks_exact_mut(self.stride);
        for (counter, message) in (first..).zip(messages) {
            authentic &= cipher.open(counter, &mut message[self.header..]);
        }
        let took = begun.elapsed();
        assert!(authentic, "all of them are authentic");
        took
    }
}

fn libraries(length: usize) {
    let mut messages = Messages::new(BATCH, 0, length);
    let (aws_lc, ring) = (AwsLc::new(), Ring::new());
    let rust_crypto = RustCrypto(ChaCha20Poly1305::new(&KEY.into()));
    let mut times: [[Vec<Duration>; 2]; 3] = Default::default();
    for _ in 0..BATCHES {
        let [a, b, c] = &mut times;
        // One's messages are opened by the next, so they also prove each other right.
        a[0].push(messages.seal(&aws_lc));
        b[1].push(messages.open(&ring));
        b[0].push(messages.seal(&ring));
        c[1].push(messages.open(&rust_crypto));
        c[0].push(messages.seal(&rust_crypto));
        a[1].push(messages.open(&aws_lc));
    }
    let names = ["aws-lc-rs", "ring", "chacha20poly1305"];
    for (name, [seal, open]) in names.iter().zip(times) {
        for (what, times) in [("seal", seal), ("open", open)] {
            let each = median(times).as_nanos() as f64 / BATCH as f64;
            let rate = length as f64 / each;
            let name = format!("{what} {length} bytes, {name}");
            println!("{name:44} {each:7.1} ns {rate:6.2} GB/s");
        }
    }
}

/// A lane's seal and open of super-packets, against the cipher alone.
fn tunnel_against_cipher() {
    let cipher = AwsLc::new();
    let messages = Messages::new(SEGMENTS, HEADER, SEGMENT);
    let mut both = (Pair::new(), messages);
    let [lane, alone] = in_turn(
        SUPER_PACKETS,
        &mut both,
        |(pair, _)| seal(pair),
        |(_, messages)| messages.seal(&cipher),
    );
    print_ratio("seal", lane, alone);
    let [lane, alone] = in_turn(
        SUPER_PACKETS,
        &mut both,
        |(pair, _)| open(pair),
        |(_, messages)| {
            messages.seal(&cipher);
            messages.open(&cipher)
        },
    );
    print_ratio("open", lane, alone);
}

fn seal(pair: &mut Pair) -> Duration {
    let packet = pair.packet();
    let begun = Instant::now();
    pair.seal(packet);
    let took = begun.elapsed();
    let trains = pair.take_trains();
    let frames: usize = trains.iter().map(|train| train.buf.frames()).sum();
    assert_eq!(frames, SEGMENTS, "all are sealed");
    put(pair, trains);
    took
}

fn open(pair: &mut Pair) -> Duration {
    let packet = pair.packet();
    pair.seal(packet);
    let mut trains = pair.take_trains();
    let mut opened = Vec::with_capacity(SEGMENTS);
    let begun = Instant::now();
    pair.open(&mut trains, &mut opened);
    let took = begun.elapsed();
    assert_eq!(opened.len(), SEGMENTS, "all are opened");
    put(pair, trains);
    took
}

/// Gives the trains' buffers home.
fn put(pair: &mut Pair, trains: Vec<Datagrams>) {
    let arena = &mut pair.out.arena;
    trains.into_iter().for_each(|train| arena.put(train.buf));
}

/// How much of the cipher's speed is left.
fn print_ratio(what: &str, lane: Duration, alone: Duration) {
    let each = |time: Duration| time.as_nanos() as f64 / SEGMENTS as f64;
    let (lane, alone) = (each(lane), each(alone));
    let name = format!("{what} {SEGMENT} bytes");
    println!("{:44} {alone:7.1} ns", format!("{name}, cipher alone"));
    println!("{:44} {lane:7.1} ns", format!("{name}, in a lane"));
    println!(
        "{:44} {:7.2}",
        format!("{name}, lane / cipher alone"),
        alone / lane
    );
}
