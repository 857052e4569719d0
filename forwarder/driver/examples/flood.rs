//! A flood of forged first handshake messages from many addresses, for `scripts/bench-flood` and
//! the test of that name. It ships with nothing.
//!
//! `flood TO KEY FROM RATE SECONDS MAC`: to `address:port`, whose public key is KEY (64 hexadecimal
//! digits), from the addresses of the IPv4 prefix FROM in turn, RATE a second, with a first MAC
//! that is `right` or `wrong`. Prints one JSON object. Needs CAP_NET_RAW.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const MESSAGE: usize = 148;
const HEADERS: usize = 20 + 8;
/// Different messages; each is sent from many addresses.
const MESSAGES: usize = 4_096;

/// A cheap sequence of numbers that look random (Marsaglia's xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The addresses of a prefix, scattered, each once before any comes again.
struct Sources {
    base: u32,
    mask: u32,
    next: u32,
}

impl Sources {
    fn parse(text: &str) -> Option<Sources> {
        let (address, length) = text.split_once('/')?;
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
        let mask = u32::MAX.checked_shr(length).unwrap_or(0);
        Some(Sources {
            base: u32::from(address) & !mask,
            mask,
            next: 0,
        })
    }

    fn next(&mut self) -> u32 {
        // An odd factor permutes the numbers of any power of two.
        self.next = self.next.wrapping_add(1);
        self.base | (self.next.wrapping_mul(2_654_435_761) & self.mask)
    }
}

/// First messages that are random but for their type and, if `right`, their first MAC.
fn messages(key: &[u8; 32], right: bool, numbers: &mut Numbers) -> Vec<[u8; MESSAGE]> {
    let mut hash = Blake2s256::new();
    Digest::update(&mut hash, b"mac1----");
    Digest::update(&mut hash, key);
    let mac_key: [u8; 32] = hash.finalize().into();
    let one = |_| {
        let mut message = [0; MESSAGE];
        for chunk in message[4..132].chunks_mut(8) {
            chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
        }
        message[0] = 1;
        if right {
            let mut mac = Blake2sMac::<U16>::new((&mac_key).into());
            Update::update(&mut mac, &message[..116]);
            message[116..132].copy_from_slice(&mac.finalize_fixed());
        }
        message
    };
    (0..MESSAGES).map(one).collect()
}

/// IPv4 and UDP headers in front of a message. The kernel fills in length and checksum of the
/// former (raw(7)); UDP over IPv4 needs none (RFC 768).
fn packet(message: &[u8; MESSAGE], to: SocketAddrV4, from: u32, port: u16) -> Vec<u8> {
    let mut packet = vec![0; HEADERS];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.to_be_bytes());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..26].copy_from_slice(&((8 + MESSAGE) as u16).to_be_bytes());
    packet.extend_from_slice(message);
    packet
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    bytes?.try_into().ok()
}

fn run(arguments: &[String]) -> Option<()> {
    let [to, key, from, rate, seconds, mac] = arguments else {
        return None;
    };
    let (to, key) = (to.parse().ok()?, unhex(key)?);
    let (mut sources, rate): (Sources, u64) = (Sources::parse(from)?, rate.parse().ok()?);
    let length = Duration::from_secs_f64(seconds.parse().ok()?);
    let right = match mac.as_str() {
        "right" => true,
        "wrong" => false,
        _ => return None,
    };
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let messages = messages(&key, right, &mut numbers);
    let mut packets: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| packet(message, to, 0, 0))
        .collect();
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
    let socket = socket.expect("a raw socket (is this root?)");
    socket.set_header_included_v4(true).expect("IP_HDRINCL");
    let to = SockAddr::from(to);
    let (start, mut sent, mut refused) = (Instant::now(), 0u64, 0u64);
    while start.elapsed() < length {
        // What is due by now; what was missed is made good, but for no more than 10 ms.
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        let missed = due.saturating_sub(sent + refused);
        refused += missed.saturating_sub(rate / 100 + 1);
        for _ in 0..missed.min(rate / 100 + 1) {
            let packet = &mut packets[sent as usize % MESSAGES];
            packet[12..16].copy_from_slice(&sources.next().to_be_bytes());
            let port = 1_024 | numbers.next() as u16;
            packet[20..22].copy_from_slice(&port.to_be_bytes());
            match socket.send_to(packet, &to) {
                Ok(_) => sent += 1,
                Err(_) => refused += 1,
            }
        }
        sleep(Duration::from_micros(500));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(r#"{{"sent": {sent}, "notSent": {refused}, "seconds": {seconds:.3}}}"#);
    Some(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if run(&arguments).is_none() {
        eprintln!("usage: flood ADDRESS:PORT KEY PREFIX RATE SECONDS right|wrong");
        std::process::exit(2);
    }
}
