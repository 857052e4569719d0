//! What a look-up among 100,000 prefixes costs: `cargo bench --bench prefixes`.
//!
//! Apart: every other /24, or /64. Nested: a /16 (/56) for each hundred, in it /24s (/64s), and in
//! each of those some hosts: half of all prefixes are hosts. Addresses are random over all that the
//! prefixes hold (hit) or over what lies between them (miss: beside the /24s, or out of every /16);
//! or skewed, nine of ten look-ups for one of a hundred places. There are so many that nothing
//! learns them by heart.
//!
//! Apart from each other look-ups overlap, as those of a batch of packets do; one after the other
//! each waits for the one before, which is what a single packet waits. The map lies in the caches
//! nearest to the core as far as they hold it, as it does when nothing else runs; cold is what the
//! first look-ups cost after 64 MiB of other memory was read. One thread; medians of many batches.

#[path = "common/figures.rs"]
mod figures;

use std::hint::black_box;
use std::time::{Duration, Instant};

use figures::median;
use packet::{Address, Prefix, PrefixMap};

const PREFIXES: usize = 100_000;
const ASKED: usize = 1 << 17;
/// Look-ups of a batch: so few that most batches are not interrupted.
const BATCH: usize = 512;
/// Look-ups of a batch for which nothing is in the caches.
const COLD: usize = 64;
const ELSEWHERE: usize = 64 << 20;

fn main() {
    println!("ns a look-up{:29} apart  after each other    cold", "");
    for family in [Family::V4, Family::V6] {
        for nested in [false, true] {
            let map: PrefixMap<u32> = (0..PREFIXES as u32)
                .map(|number| (family.prefix(number, nested), number))
                .collect();
            assert_eq!(map.len(), PREFIXES);
            for asked in [Asked::Random, Asked::Skewed, Asked::Missed] {
                measure(family, nested, asked, &map);
            }
        }
    }
}

fn measure(family: Family, nested: bool, asked: Asked, map: &PrefixMap<u32>) {
    let mut random = Random(2_463_534_242);
    let addresses: Vec<Address> = (0..ASKED)
        .map(|_| family.address(asked, nested, &mut random))
        .collect();
    let found = addresses.iter().filter(|a| map.lookup(**a).is_some());
    let expected = if asked == Asked::Missed { 0 } else { ASKED };
    assert_eq!(found.count(), expected);
    let apart = |from: usize| {
        addresses[from..from + BATCH].iter().for_each(|address| {
            black_box(map.lookup(*address));
        });
    };
    let chained = |from: usize| {
        let mut last = 0;
        for at in from..from + BATCH {
            // Always the same place, but nobody knows before the last look-up is done.
            let address = addresses[at ^ (last >> 31) as usize];
            last = map.lookup(address).map_or(0, |(_, value)| *value);
        }
        black_box(last);
    };
    println!(
        "{:40} {:6.1} {:18.1} {:7.1}",
        format!(
            "{family:?}, {}, {asked:?}",
            if nested { "nested" } else { "apart" }
        ),
        each(BATCH, || (), apart),
        each(BATCH, || (), chained),
        cold(map, &addresses),
    );
}

/// Nanoseconds of a look-up for which everything has to come from memory, or from a cache that other
/// cores share.
fn cold(map: &PrefixMap<u32>, addresses: &[Address]) -> f64 {
    let elsewhere = vec![1u8; ELSEWHERE];
    let forget = || {
        let lines = elsewhere.iter().step_by(64);
        black_box(lines.map(|byte| u64::from(*byte)).sum::<u64>());
    };
    each(COLD, forget, |from| {
        addresses[from..from + COLD].iter().for_each(|address| {
            black_box(map.lookup(*address));
        });
    })
}

/// Nanoseconds of one of so many, which begin at an address, after something that is not timed.
fn each(count: usize, mut before: impl FnMut(), mut batch: impl FnMut(usize)) -> f64 {
    let batches = (0..ASKED / BATCH).map(|number| -> Duration {
        before();
        let begun = Instant::now();
        batch(number * BATCH);
        begun.elapsed()
    });
    median(batches.collect()).as_nanos() as f64 / count as f64
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Random,
    Skewed,
    Missed,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// Prefixes of a nested hundred: one that holds the others, networks, and hosts in those.
const HUNDRED: u32 = 100;
const NETWORKS: u32 = 49;

impl Family {
    fn prefix(self, number: u32, nested: bool) -> Prefix {
        if !nested {
            return self.network(number * 2, 0, 24);
        }
        let (hundred, place) = (number / HUNDRED * 256, number % HUNDRED);
        match place {
            0 => self.network(hundred, 0, 16),
            1..=NETWORKS => self.network(hundred + place * 2, 0, 24),
            _ => self.network(hundred + (place - NETWORKS) % NETWORKS * 2, place as u8, 32),
        }
    }

    /// The first bits of a host in a /24 that is counted from a fixed one; of IPv6 in a /64.
    fn network(self, number: u32, host: u8, length: u8) -> Prefix {
        let (address, longer) = (self.host(number, host), [(16, 56), (24, 64), (32, 128)]);
        let longer = longer.iter().find(|(v4, _)| *v4 == length);
        let length = match (self, longer) {
            (Family::V6, Some((_, v6))) => *v6,
            _ => length,
        };
        Prefix::masked(address, length).expect("a length of the family")
    }

    fn host(self, network: u32, host: u8) -> Address {
        match self {
            Family::V4 => {
                Address::from_v4((0x1000_0000 + network * 256 + u32::from(host)).to_be_bytes())
            }
            Family::V6 => {
                let bits = 0x2001_0db8 << 96 | u128::from(network) << 64 | u128::from(host);
                Address::from_v6(bits.to_be_bytes())
            }
        }
    }

    fn address(self, asked: Asked, nested: bool, random: &mut Random) -> Address {
        let mut number = random.below(PREFIXES as u32);
        if asked == Asked::Skewed && random.below(10) > 0 {
            // One of each hundred, each time another.
            number = number / HUNDRED * HUNDRED + number / HUNDRED % HUNDRED;
        }
        let host = random.below(256) as u8;
        match (asked, nested) {
            // Beside it, or behind all hundreds.
            (Asked::Missed, false) => self.host(number * 2 + 1, host),
            (Asked::Missed, true) => self.host(PREFIXES as u32 / HUNDRED * 256 + number, host),
            (_, false) => self.host(number * 2, host),
            (_, true) => {
                let prefix = self.prefix(number, true);
                match prefix.is_host() {
                    true => prefix.address(),
                    false => self.host(number / HUNDRED * 256 + number % HUNDRED * 2, host),
                }
            }
        }
    }
}

/// Xorshift32 (Marsaglia 2003): the same each time, and nothing that a cache could foresee.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}
