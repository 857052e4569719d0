//! Every packet of the table, spoilt: bits turned over, ends cut off, lengths that lie, fields
//! swapped, garbage in front and behind. Nothing panics, all is counted, no buffer is lost, the tables
//! stay within their limits, and a pod that only some may reach is reached by nobody else.

use std::collections::BTreeSet;

use crate::robust::bytes::{FRAGMENT, TCP, UDP, fix_v4_checksum};
use crate::robust::stage::{End, Ends, Seen, Stage};
use crate::robust::table::{List, all_ends, only_dns_and_web};
use crate::robust::{errors, extensions, fragments, headers, sources, sums};

/// How often each packet is spoilt, for each way and family.
const ROUNDS: usize = 8;

fn lists() -> impl Iterator<Item = List> {
    let all: [&[List]; 6] = [
        &headers::LISTS,
        &extensions::LISTS,
        &fragments::LISTS,
        &errors::LISTS,
        &sums::LISTS,
        &sources::LISTS,
    ];
    all.into_iter().flatten().copied()
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    // Most of what is read stands in the first bytes.
    let early = random.below(bytes.len().min(64));
    match random.below(9) {
        0 if !bytes.is_empty() => {
            for _ in 0..=random.below(4) {
                let bit = random.below(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        1 if !bytes.is_empty() => bytes[early] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => lie_about_a_length(bytes, random),
        4 if early + 4 <= bytes.len() => {
            let (low, high) = (early & !1, random.below(bytes.len() - 1) & !1);
            bytes.swap(low, high);
            bytes.swap(low + 1, high + 1);
        }
        5 => {
            let garbage = (0..random.below(24)).map(|n| (n * 37) as u8);
            bytes.splice(0..0, garbage.collect::<Vec<_>>());
        }
        6 => {
            let garbage = random.below(80);
            bytes.extend((0..garbage).map(|n| (n * 41) as u8));
        }
        7 if !bytes.is_empty() => bytes[early] = [0, 0xff, 0x80, 1][random.below(4)],
        _ => {
            let end = bytes.len().min(at + random.below(16));
            bytes[at.min(end)..end]
                .iter_mut()
                .for_each(|byte| *byte = random.next() as u8);
        }
    }
}

/// Writes something near the truth, or far from it, where a length, an offset or a number of the next
/// header stands.
fn lie_about_a_length(bytes: &mut [u8], random: &mut Random) {
    const PLACES: [usize; 14] = [0, 2, 4, 6, 9, 12, 20, 24, 32, 40, 41, 42, 44, 52];
    let at = PLACES[random.below(PLACES.len())];
    if at + 2 > bytes.len() {
        return;
    }
    let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let new = match random.below(4) {
        0 => old.wrapping_add(random.below(9) as u16),
        1 => old.wrapping_sub(random.below(9) as u16),
        2 => [0, 1, 7, 8, 0x1fff, 0x2000, 0x2001, 0xfff8, 0xffff][random.below(9)],
        _ => random.next() as u16,
    };
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// Gives every packet of the table to `each`, spoilt, in an order that is always the same.
fn all_spoilt(ends: &Ends, seed: u64, mut each: impl FnMut(End, Vec<u8>)) -> usize {
    let mut random = Random(seed);
    let mut count = 0;
    for _ in 0..ROUNDS {
        for list in lists() {
            for row in list(ends) {
                for (from, mut bytes, _) in row.steps {
                    for _ in 0..=random.below(3) {
                        spoil(&mut bytes, &mut random);
                    }
                    let is_v4 = bytes.first().is_some_and(|first| first >> 4 == 4);
                    if is_v4 && random.below(4) > 0 {
                        fix_v4_checksum(&mut bytes);
                    }
                    each(from, bytes);
                    count += 1;
                }
            }
        }
    }
    count
}

fn check_limits(stage: &Stage) {
    for host in &stage.world.hosts {
        let waiting = host.out.queued() + host.forwarder.queued();
        assert!(
            host.out.tunnel.arena.lent() as u64 <= waiting,
            "a buffer is lost"
        );
        assert!(host.forwarder.flows() <= 64);
    }
}

#[test]
fn whatever_the_packets_of_the_table_become_is_counted_and_goes_where_it_may() {
    let mut count = 0;
    for (seed, ends) in (1..).zip(all_ends()) {
        let mut stage = Stage::new(&ends, Vec::new());
        count += all_spoilt(&ends, seed, |from, bytes| {
            let seen = stage.send(from, &bytes);
            assert_is_of_packets(&seen);
            check_limits(&stage);
        });
    }
    assert!(count > 10_000, "{count}");
}

/// What is delivered is a packet, and no more than one of it and one answer comes of one.
fn assert_is_of_packets(seen: &Seen) {
    assert!(seen.arrived.len() + seen.came_back.len() <= 2);
    for bytes in seen.arrived.iter().chain(&seen.came_back) {
        packet::Header::parse(bytes).expect("a packet");
    }
}

#[test]
fn whatever_they_become_nobody_is_reached_whom_policy_protects() {
    let mut reached = 0;
    for (seed, ends) in (101..).zip(all_ends()) {
        let mut stage = Stage::new(&ends, vec![only_dns_and_web(&ends)]);
        let mut first_of = BTreeSet::new();
        all_spoilt(&ends, seed, |from, bytes| {
            // What the far end sends would allow its answers.
            if from == End::Far {
                return;
            }
            if let Some((identifier, true)) = part(&bytes) {
                first_of.insert(identifier);
            }
            let seen = stage.send(from, &bytes);
            check_limits(&stage);
            let to_far = |bytes: &&Vec<u8>| addresses(bytes).1 == ends.far.as_slice();
            for arrived in seen.arrived.iter().chain(&seen.came_back).filter(to_far) {
                assert_eq!(addresses(arrived).0, ends.near, "from whom: {arrived:02x?}");
                let may = match part(arrived) {
                    Some((identifier, false)) => first_of.contains(&identifier),
                    _ => is_allowed(arrived),
                };
                assert!(may, "{ends:?} {arrived:02x?}");
                reached += 1;
            }
        });
    }
    assert!(
        reached > 1_000,
        "{reached}: too little passes to show anything"
    );
}

fn addresses(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes[0] >> 4 {
        6 => (&bytes[8..24], &bytes[24..40]),
        _ => (&bytes[12..16], &bytes[16..20]),
    }
}

/// A naive walk to the transport: its number and where it begins, and where a fragment header is.
fn walk(bytes: &[u8]) -> Option<(u8, usize, Option<usize>)> {
    if bytes.first()? >> 4 != 6 {
        return Some((*bytes.get(9)?, usize::from(bytes[0] & 15) * 4, None));
    }
    let (mut number, mut at, mut fragment) = (*bytes.get(6)?, 40, None);
    loop {
        let header = bytes.get(at..)?;
        let size = match number {
            FRAGMENT => {
                fragment = Some(at);
                8
            }
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*header.get(1)?) + 1) * 8,
            51 => (usize::from(*header.get(1)?) + 2) * 4,
            _ => return Some((number, at, fragment)),
        };
        let is_later = |at: usize| {
            bytes
                .get(at + 2..at + 4)
                .is_some_and(|f| f[0] != 0 || f[1] >= 8)
        };
        if fragment.is_some_and(is_later) {
            return Some((number, at, fragment));
        }
        number = *header.first()?;
        at += size;
    }
}

/// Of a fragment, what tells its datagram from others, and whether it is the first.
fn part(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    if bytes.first()? >> 4 == 6 {
        let (_, _, fragment) = walk(bytes)?;
        let header = bytes.get(fragment?..)?.first_chunk::<8>()?;
        let word = u16::from_be_bytes([header[2], header[3]]);
        return (word & 0xfff9 != 0).then(|| (header[4..].to_vec(), word & 0xfff8 == 0));
    }
    let word = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]);
    let name = vec![bytes[4], bytes[5], *bytes.get(9)?];
    (word & 0x3fff != 0).then_some((name, word & 0x1fff == 0))
}

/// DNS and the web, and errors about their answers.
fn is_allowed(bytes: &[u8]) -> bool {
    let Some((number, at, _)) = walk(bytes) else {
        return false;
    };
    let port =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let is_service = |number, port| matches!((number, port), (UDP, Some(53)) | (TCP, Some(80)));
    if is_service(number, port(bytes, at + 2)) {
        return true;
    }
    let v6 = bytes[0] >> 4 == 6;
    let is_error = match (v6, number) {
        (false, 1) => matches!(bytes[at], 3 | 4 | 5 | 11 | 12),
        (true, 58) => bytes[at] < 128,
        _ => false,
    };
    let quoted = bytes.get(at + 8..).unwrap_or_default();
    is_error && walk(quoted).is_some_and(|(number, at, _)| is_service(number, port(quoted, at)))
}
