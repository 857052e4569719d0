//! Conversations by chance: a client and a backend that keep to their protocol, while the packets between them have any
//! class, any time to live and any errors about them. The seed is fixed, so that a difference is met again.

use crate::compare::{Script, Step, backend, client};
use crate::forge::{ACK, DF, FIN, PSH, Packet, RST, SYN, TCP, UDP};
use crate::talk::{Family, Talk};

/// Conversations of each kind.
const COUNT: u16 = 200;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = self.pick(&[0, 1, 2, 7, 8, 100, 511, 1_200]);
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// The packet with another header; it is not the last hop's.
    fn dress(&mut self, mut packet: Packet) -> Packet {
        packet.class = self.next() as u8;
        packet.ttl = self.pick(&[2, 3, 64, 255]);
        packet.id = self.below(65_536) as u32;
        packet.word = self.pick(&[0, DF]);
        if self.below(16) == 0 && packet.from.is_ipv4() {
            packet.options = vec![148, 4, 0, 0];
        }
        packet
    }
}

pub(crate) fn scripts() -> Vec<Script> {
    let mut chance = Chance(0x0dd_ba11);
    let mut scripts = Vec::new();
    for number in 0..COUNT {
        for served in [true, false] {
            for protocol in [UDP, TCP] {
                let family = chance.pick(&Family::BOTH);
                let port = 1_024 + 4 * number + u16::from(served) * 2 + u16::from(protocol == UDP);
                let talk = match served {
                    true => Talk::served(family, protocol, port),
                    false => Talk::plain(family, protocol, port),
                };
                let steps = match protocol {
                    UDP => datagrams(&talk, &mut chance),
                    _ => connection(&talk, &mut chance),
                };
                let kind = if served { "" } else { "plain " };
                scripts.push(Script {
                    name: format!("{kind}random {number}"),
                    family,
                    steps,
                });
            }
        }
    }
    scripts
}

fn datagrams(talk: &Talk, chance: &mut Chance) -> Vec<Step> {
    let mut steps = vec![client(chance.dress(talk.forward()))];
    for _ in 0..chance.below(9) {
        let payload = chance.payload();
        let from_client = chance.below(2) == 0;
        // Over IPv6 there is none without (RFC 8200 §8.1).
        let has_checksum = chance.below(8) != 0 || talk.family == Family::V6;
        let mut packet = match from_client {
            true => Packet::udp(talk.client, talk.asked, &payload),
            false => Packet::udp(talk.backend, talk.client, &payload),
        };
        if !has_checksum {
            packet.transport[6..8].fill(0);
        }
        let packet = chance.dress(packet);
        steps.push(if from_client {
            client(packet)
        } else {
            backend(packet)
        });
        if chance.below(3) == 0 {
            let quoted = match from_client {
                true => Packet::udp(talk.client, talk.backend, &payload),
                false => Packet::udp(talk.asked, talk.client, &payload),
            };
            steps.push(error(talk, &quoted, chance));
        }
    }
    steps
}

/// One end of a connection.
#[derive(Clone, Copy)]
struct Tcp {
    next: u32,
    seen: u32,
    has_ended: bool,
}

fn connection(talk: &Talk, chance: &mut Chance) -> Vec<Step> {
    let [ours, theirs] = [0, 0].map(|_: u32| chance.next() as u32);
    let first = |next: u32, seen: u32| Tcp {
        next: next.wrapping_add(1),
        seen: seen.wrapping_add(1),
        has_ended: false,
    };
    let mut ends = [first(ours, theirs), first(theirs, ours)];
    let mut steps = vec![
        client(chance.dress(talk.sent((ours, 0), SYN, b""))),
        backend(chance.dress(talk.answered((theirs, ends[0].next), SYN | ACK, b""))),
        client(chance.dress(talk.sent((ends[0].next, ends[1].next), ACK, b""))),
    ];
    for _ in 0..chance.below(9) {
        let who = chance.below(2) as usize;
        let end = ends[who];
        let (flags, payload) = match chance.below(12) {
            0 if !end.has_ended => (FIN | ACK, Vec::new()),
            1 => (RST | ACK, Vec::new()),
            _ if end.has_ended => (ACK, Vec::new()),
            _ => (PSH | ACK, chance.payload()),
        };
        let numbers = (end.next, end.seen);
        let (segment, quoted) = match who {
            0 => (
                talk.sent(numbers, flags, &payload),
                Packet::tcp(talk.client, talk.backend, numbers, flags, &payload),
            ),
            _ => (
                talk.answered(numbers, flags, &payload),
                Packet::tcp(talk.asked, talk.client, numbers, flags, &payload),
            ),
        };
        let segment = chance.dress(segment);
        steps.push(if who == 0 {
            client(segment)
        } else {
            backend(segment)
        });
        let taken = payload.len() as u32 + u32::from(flags & FIN != 0);
        ends[who].next = end.next.wrapping_add(taken);
        ends[1 - who].seen = ends[who].next;
        ends[who].has_ended |= flags & FIN != 0;
        if chance.below(3) == 0 {
            steps.push(error(talk, &quoted, chance));
        }
        if flags & RST != 0 {
            break;
        }
    }
    steps
}

/// An error about a packet that has just come to one end, as it came there, from that end.
fn error(talk: &Talk, quoted: &Packet, chance: &mut Chance) -> Step {
    let (kind, code) = match talk.family {
        Family::V4 => chance.pick(&[(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (12, 0)]),
        Family::V6 => chance.pick(&[(1, 0), (1, 3), (1, 4), (2, 0), (3, 0), (4, 1)]),
    };
    let mut quote = quoted.clone().ttl(63).bytes();
    let header = quote.len() - quoted.transport.len();
    quote.truncate(header + chance.pick(&[8, 12, 20, 27, 64, 1_000]));
    let error = |from, to| Packet::icmp(from, to, kind, code, 1_400, &quote);
    if quoted.from == talk.client.0 {
        backend(chance.dress(error(talk.backend.0, talk.client.0)))
    } else {
        client(chance.dress(error(talk.client.0, talk.asked.0)))
    }
}
