//! What policies cost at the size of a large cluster: `cargo bench --bench policies`.
//!
//! 2,000 identities and 2,000 policies, a fifth of them with blocks of addresses, 100,000 prefixes
//! in all. A table is compiled from nothing; and asked about flows that begin: of an identity that
//! ten policies govern with one of a random other identity or a random address. What is governed
//! by one policy with all the prefixes in it is a look-up among them. One thread; each figure is
//! the median of many batches.

#[path = "common/figures.rs"]
mod figures;

use std::hint::black_box;
use std::time::{Duration, Instant};

use figures::median;
use packet::{Address, Prefix, protocol};
use policy::{
    Direction, Endpoint, Entry, EntryVerdict, Identity, Isolates, Labels, Party, Peer, Peers,
    Policy, PolicyName, PolicyTable, PortMatch, PortRule, Ports, Question, Selector, Tier, Whose,
};

const IDENTITIES: u16 = 2_000;
const POLICIES: usize = 2_000;
const PREFIXES: usize = 100_000;
/// Labels that policies select by have so many values: each policy governs ten identities.
const APPS: usize = 200;
/// So many that nothing learns them by heart.
const ASKED: usize = 1 << 15;
const BATCHES: usize = 20;

fn main() {
    let identities = identities();
    let policies = policies();
    let before = resident();
    let table = PolicyTable::compile(&policies, &identities);
    let size = resident().saturating_sub(before);
    println!(
        "{POLICIES} policies, {IDENTITIES} identities, {PREFIXES} prefixes: {} KiB",
        size / 1024
    );
    let compiled = (0..10).map(|_| {
        let begun = Instant::now();
        black_box(PolicyTable::compile(black_box(&policies), &identities));
        begun.elapsed()
    });
    let compiled = median(compiled.collect());
    println!(
        "{:44} {:9.2} ms",
        "compiled from nothing",
        compiled.as_secs_f64() * 1e3
    );
    print("decision, peer by labels", each(&table, &questions(false)));
    print("decision, peer by address", each(&table, &questions(true)));

    let all = (0..PREFIXES).map(prefix).map(cidr).collect();
    let one = [policy(0, "app-0", all)];
    let table = PolicyTable::compile(&one, &identities);
    print(
        "look-up among 100,000 prefixes",
        each(&table, &questions(true)),
    );
}

fn print(name: &str, each: f64) {
    println!("{name:44} {each:9.1} ns");
}

fn identity(number: u16) -> Identity {
    Identity::of_cluster(1, number).expect("of a cluster")
}

fn identities() -> Vec<(Identity, Labels)> {
    let labels = |number: u16| {
        let app = format!("app-{}", usize::from(number) % APPS);
        let tier = format!("tier-{}", number % 7);
        Labels::from_iter([("app", app), ("tier", tier), ("name", number.to_string())])
    };
    let all = (0..IDENTITIES).map(|number| (identity(number), labels(number)));
    all.collect()
}

/// Every fifth policy is about addresses.
fn policies() -> Vec<Policy> {
    let of_addresses = POLICIES / 5;
    let blocks = PREFIXES / of_addresses;
    let made = (0..POLICIES).map(|number| {
        let peers = if number % 5 == 0 {
            let first = number / 5 * blocks;
            (first..first + blocks).map(prefix).map(cidr).collect()
        } else {
            let app = format!("app-{}", number * 7 % APPS);
            vec![Peer::Selector(Selector::everything().with("app", app))]
        };
        policy(number, &format!("app-{}", number % APPS), peers)
    });
    made.collect()
}

fn policy(number: usize, app: &str, peers: Vec<Peer>) -> Policy {
    Policy {
        name: PolicyName {
            kind: "NetworkPolicy".into(),
            namespace: "shop".into(),
            name: format!("p{number}"),
        },
        origin: format!("p{number}.yaml:1"),
        subject: Selector::everything().with("app", app),
        entries: vec![Entry {
            direction: Direction::Egress,
            tier: Tier::Normal,
            priority: 0,
            verdict: EntryVerdict::Allow,
            peers: Peers::Of(peers),
            ports: Ports::Of(vec![PortRule {
                protocol: protocol::TCP,
                port: PortMatch::Range(80, 90),
            }]),
        }],
        isolates: Isolates {
            ingress: false,
            egress: true,
        },
        refused: None,
        audit: false,
    }
}

/// Every other /24, so that no two of them make one range.
fn prefix(number: usize) -> Prefix {
    let first = (0x1000_0000 + (number as u32) * 0x200).to_be_bytes();
    Prefix::masked(Address::from_v4(first), 24).expect("24 bits")
}

fn cidr(prefix: Prefix) -> Peer {
    Peer::Cidr {
        prefix,
        except: Vec::new(),
        whose: Whose::Anybody,
    }
}

/// Both ends of a flow.
struct Asked {
    subject: Endpoint,
    peer: Endpoint,
    address: Address,
}

fn questions(world: bool) -> Vec<Asked> {
    // Xorshift32 (Marsaglia 2003): the same each time, and nothing that a cache could foresee.
    let mut state = 2_463_534_242u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let asked = (0..ASKED).map(|_| {
        let peer = identity((random() % u32::from(IDENTITIES)) as u16);
        let address = 0x1000_0000 + random() % (PREFIXES as u32 * 0x200);
        Asked {
            subject: Endpoint::of(identity(0)),
            peer: Endpoint::of(if world { Identity::WORLD } else { peer }),
            address: Address::from_v4(address.to_be_bytes()),
        }
    });
    asked.collect()
}

/// Nanoseconds of a decision.
fn each(table: &PolicyTable, asked: &[Asked]) -> f64 {
    let batch = |_| -> Duration {
        let begun = Instant::now();
        for flow in asked {
            let question = Question {
                direction: Direction::Egress,
                subject: Party {
                    address: Address::from_v4([10, 1, 0, 1]),
                    endpoint: &flow.subject,
                },
                peer: Party {
                    address: flow.address,
                    endpoint: &flow.peer,
                },
                protocol: protocol::TCP,
                port: Some(80),
            };
            black_box(table.decide(black_box(&question)));
        }
        begun.elapsed()
    };
    median((0..BATCHES).map(batch).collect()).as_nanos() as f64 / ASKED as f64
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
