//! The links between nodes: late, in another order, twice, or not at all. And the one who listens
//! there, and sends what was never sent.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use packet::Time;

use crate::model::{NODES, node_v4};
use crate::random::Random;

/// The port that every node listens on.
pub const PORT: u16 = 51_871;
/// Datagrams that the attacker remembers.
const REMEMBERED: usize = 64;
/// IPv4 and UDP headers of a datagram, in bytes.
const OUTER: usize = 28;

/// One datagram on its way.
#[derive(Debug)]
pub struct Flight {
    /// When it arrives.
    pub at: Time,
    /// To which node, and which of its lanes.
    pub to: (usize, u16),
    /// Where it says that it is from.
    pub from: SocketAddr,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}

/// All links, and what is wrong with them.
#[derive(Debug)]
pub struct Wires {
    random: Random,
    /// One-way latency of each pair, in microseconds.
    latency_us: [[u64; NODES]; NODES],
    jitter_us: u64,
    /// Of a thousand datagrams so many are lost.
    pub loss: u64,
    /// So many arrive twice.
    duplicates: u64,
    /// So many are much later than others.
    stragglers: u64,
    /// Pairs of nodes between which nothing passes, lower number first.
    pub cut: BTreeSet<(usize, usize)>,
    /// Pairs between which IP packets that are longer, in bytes, are lost without a word.
    pub narrow: BTreeMap<(usize, usize), usize>,
    /// Datagrams lost so.
    pub swallowed: u64,
    /// The largest IP packet that a link carries, in bytes.
    pub mtu: usize,
    /// So many of a thousand make the attacker do something.
    attacks: u64,
    remembered: VecDeque<((usize, u16), SocketAddr, Vec<u8>)>,
    /// How many lanes each node has.
    lanes: Vec<usize>,
    /// Datagrams that the attacker has sent.
    pub attacked: u64,
}

/// Where a lane of a node listens.
pub fn endpoint(node: usize, lane: u16) -> SocketAddr {
    SocketAddr::new(node_v4(node), PORT + lane)
}

impl Wires {
    /// Links drawn at random; on calm ones everything arrives, and in order.
    pub fn new(mut random: Random, lanes: Vec<usize>, calm: bool) -> Wires {
        let trouble = |drawn: u64| if calm { 0 } else { drawn };
        let mut latency_us = [[0; NODES]; NODES];
        let pairs = (0..NODES).flat_map(|a| (0..a).map(move |b| (a, b)));
        for (a, b) in pairs {
            let far = a / 2 != b / 2;
            let latency = if far {
                random.between(2_000, 60_000)
            } else {
                random.between(50, 2_000)
            };
            latency_us[a][b] = latency;
            latency_us[b][a] = latency;
        }
        Wires {
            latency_us,
            jitter_us: trouble(random.pick(&[0, 100, 3_000])),
            loss: trouble(random.pick(&[0, 0, 2, 5])),
            duplicates: random.pick(&[0, 5, 30]),
            stragglers: trouble(random.pick(&[0, 5, 30])),
            cut: BTreeSet::new(),
            narrow: BTreeMap::new(),
            swallowed: 0,
            mtu: random.pick(&[1_360, 1_420, 1_500, 1_500, 1_500, 9_000]),
            attacks: random.pick(&[0, 5, 30]),
            remembered: VecDeque::new(),
            lanes,
            attacked: 0,
            random,
        }
    }

    /// Whether anything passes between two nodes.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        a == b || !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// A node sends a datagram.
    ///
    /// # Panics
    /// If it is larger than the link carries: nobody may send that.
    pub fn send(
        &mut self,
        now: Time,
        from: (usize, u16),
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Vec<Flight> {
        assert!(
            bytes.len() + OUTER <= self.mtu,
            "{} bytes on a link of {}",
            bytes.len() + OUTER,
            self.mtu
        );
        let mut flights = Vec::new();
        // A port below is a stranger's, whom somebody has answered.
        let Some(lane) = to.port().checked_sub(PORT) else {
            return flights;
        };
        let listens =
            |node: &usize| node_v4(*node) == to.ip() && usize::from(lane) < self.lanes[*node];
        let Some(to) = (0..NODES).find(listens).map(|node| (node, lane)) else {
            return flights;
        };
        let connected = self.connected(from.0, to.0);
        let pair = (from.0.min(to.0), from.0.max(to.0));
        let is_long = self
            .narrow
            .get(&pair)
            .is_some_and(|most| bytes.len() + OUTER > *most);
        if connected && is_long {
            self.swallowed += 1;
            return flights;
        }
        if connected && !self.random.permille(self.loss) {
            let copies = 1 + u64::from(self.random.permille(self.duplicates));
            for _ in 0..copies {
                flights.push(self.flight(now, from, to, bytes.clone()));
            }
        }
        if connected && self.random.permille(self.attacks) {
            self.attack(now, to, &mut flights);
        }
        // What was lost must not be sent again by the attacker: it would be genuine.
        if let Some(flight) = flights
            .first()
            .filter(|f| f.from == endpoint(from.0, from.1))
        {
            self.remembered.push_back((to, flight.from, bytes));
            if self.remembered.len() > REMEMBERED {
                self.remembered.pop_front();
            }
        }
        flights
    }

    fn flight(
        &mut self,
        now: Time,
        from: (usize, u16),
        to: (usize, u16),
        bytes: Vec<u8>,
    ) -> Flight {
        let mut late_us = self.latency_us[from.0][to.0];
        late_us += self.random.between(0, self.jitter_us);
        if self.random.permille(self.stragglers) {
            late_us += self.random.between(1_000, 40_000);
        }
        Flight {
            at: now + Duration::from_micros(late_us),
            to,
            from: endpoint(from.0, from.1),
            bytes,
        }
    }

    /// Replays, changes or invents something for the node `to`.
    fn attack(&mut self, now: Time, to: (usize, u16), flights: &mut Vec<Flight>) {
        // Later than any straggler: a copy that overtakes is no replay.
        let at = now + Duration::from_micros(self.random.between(150_000, 900_000));
        let stranger: SocketAddr = "203.0.113.66:4444".parse().expect("an address");
        let known = match self.remembered.len() {
            0 => None,
            length => Some(self.remembered[self.random.index(length)].clone()),
        };
        let (to, from, bytes) = match (self.random.below(5), known) {
            (0 | 1, Some(replay)) => replay,
            (2, Some((to, from, mut bytes))) => {
                let place = self.random.index(bytes.len());
                bytes[place] ^= 1 << self.random.below(8);
                (
                    to,
                    if self.random.percent(50) {
                        from
                    } else {
                        stranger
                    },
                    bytes,
                )
            }
            (3, Some((to, from, mut bytes))) => {
                bytes.truncate(self.random.index(bytes.len()));
                (to, from, bytes)
            }
            _ => {
                let length = self.random.pick(&[1, 4, 31, 32, 64, 92, 148, 160, 1_024]);
                let mut bytes = vec![0; length];
                self.random.fill(&mut bytes);
                let kind = self.random.below(6) as u8;
                for (byte, value) in bytes.iter_mut().zip([kind, 0, 0, 0]) {
                    *byte = value;
                }
                (to, stranger, bytes)
            }
        };
        if bytes.is_empty() {
            return;
        }
        self.attacked += 1;
        flights.push(Flight {
            at,
            to,
            from,
            bytes,
        });
    }
}

/// Whether a datagram can be one of WireGuard's: type, reserved bytes and length (whitepaper §5.4).
pub fn is_wireguard(bytes: &[u8]) -> bool {
    match bytes {
        [1, 0, 0, 0, ..] => bytes.len() == 148,
        [2, 0, 0, 0, ..] => bytes.len() == 92,
        [3, 0, 0, 0, ..] => bytes.len() == 64,
        [4, 0, 0, 0, ..] => bytes.len() >= 32,
        _ => false,
    }
}
