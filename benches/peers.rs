//! What a packet costs a lane with one peer, and among 20,000 peers with 100,000 allowed IPs:
//! `cargo bench --bench peers`.
//!
//! Once all packets are of one peer, as those of one flow are; once each is of another peer than the
//! one before, so that nothing of it is in the nearest caches: the worst there is. Each figure is
//! the median of many batches, so that what else the machine does shows little.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use packet::{Address, Datagrams, Now, Offload, Packet, Prefix, Time, echo_request};
use tunnel::{Lane, Outbox, PeerId, PrivateKey, Reception};

/// Batches that are timed: each of the peers has its turn several times.
const BATCHES: usize = 4000;
/// Packets of one batch, as a worker takes them in.
const BATCH: u32 = 32;
/// Payload of an echo request that fills 1,420 bytes.
const PAYLOAD: usize = 1392;
const HUB: Address = Address::from_v4([10, 255, 0, 1]);

fn main() {
    for peers in [1, 20_000] {
        let begun = Instant::now();
        let mut world = World::new(peers);
        let took = begun.elapsed();
        println!("{peers} peers: connected in {:.1} s", took.as_secs_f64());
        for step in [0, 7919] {
            if step % peers == 0 && step != 0 {
                continue;
            }
            let which = if step == 0 { "one" } else { "all" };
            let of = |what: &str| format!("{what}, {which} of {peers} peers");
            print_median(&of("route"), || world.route(step));
            print_median(&of("seal 1,420 bytes"), || world.seal(step));
            print_median(&of("open 1,420 bytes"), || world.open(step));
        }
    }
}

/// Prints nanoseconds for each packet of the median batch.
fn print_median(name: &str, mut batch: impl FnMut() -> Duration) {
    let mut times: Vec<Duration> = (0..BATCHES).map(|_| batch()).collect();
    times.sort_unstable();
    let each = times[BATCHES / 2].as_nanos() as f64 / f64::from(BATCH);
    println!("{name:44} {each:7.1} ns");
}

/// A lane with many peers, and all of their lanes; each pair has a session.
struct World {
    hub: Lane,
    ids: Vec<PeerId>,
    fars: Vec<(Lane, PeerId)>,
    out: Outbox,
    now: Now,
    /// The peer whose turn it is.
    turn: u32,
}

/// An address of a peer's.
fn address(peer: u32) -> Address {
    let [_, _, high, low] = peer.to_be_bytes();
    Address::from_v4([10, high, low, 200])
}

/// The allowed IPs of a peer: nested ones, and both families.
fn prefixes(peer: u32) -> impl Iterator<Item = Prefix> {
    let [_, _, high, low] = peer.to_be_bytes();
    let v6 = Address::from_v6({
        let mut octets = [0; 16];
        (octets[0], octets[2], octets[3]) = (0xfd, high, low);
        octets
    });
    let v4 = [24, 25, 32].map(|length| Prefix::masked(address(peer), length));
    let v6 = [64, 65].map(|length| Prefix::masked(v6, length));
    v4.into_iter().chain(v6).flatten()
}

impl World {
    fn new(peers: u32) -> World {
        let mut world = World {
            hub: Lane::new(0, PrivateKey::from_bytes([1; 32]), [1; 32]),
            ids: Vec::new(),
            fars: Vec::new(),
            out: Outbox::new(0, 256, 256),
            now: Now {
                time: Time::from_nanos(1),
                unix_ns: 1 << 60,
            },
            turn: 0,
        };
        (0..peers).for_each(|peer| world.join(peer));
        world
    }

    /// Adds a peer, and has both ends make a session.
    fn join(&mut self, peer: u32) {
        let mut secret = [3; 32];
        secret[..4].copy_from_slice(&peer.to_be_bytes());
        let key = PrivateKey::from_bytes(secret);
        let hub_key = self.hub.public_key().expect("it has one");
        let id = self.hub.add_peer(self.now, key.public()).expect("a peer");
        prefixes(peer).for_each(|prefix| self.hub.allow(id, prefix));
        let mut far = Lane::new(1, key, secret);
        let to_hub = far.add_peer(self.now, hub_key).expect("a peer");
        self.hub.set_endpoint(id, remote(peer));
        self.ids.push(id);
        self.fars.push((far, to_hub));
        let packet = self.packet(HUB, address(peer));
        self.hub.seal(self.now, id, packet, &mut self.out);
        // The hub handles a handshake for each millisecond.
        self.now.time = self.now.time + Duration::from_millis(1);
        while let Some(mut train) = self.out.wire.pop() {
            let lane = if train.lane == 0 {
                &mut self.fars[peer as usize].0
            } else {
                &mut self.hub
            };
            train.path = remote(peer).into();
            // Nobody has to wait at this pace.
            let reception = &mut Reception::default();
            let (opened, out) = (&mut Vec::new(), &mut self.out);
            lane.open(self.now, &mut train, reception, opened, out);
            self.out.arena.put(train.buf);
        }
        assert!(self.hub.is_live(self.now, id), "peer {peer} is connected");
    }

    fn packet(&mut self, from: Address, to: Address) -> Packet {
        let mut buf = self.out.arena.take().expect("a buffer");
        echo_request(from, to, 1, 1, &[7; PAYLOAD], &mut buf);
        Packet::parse(buf, Offload::default()).expect("a packet")
    }

    /// The peers of one batch, `step` after another.
    fn some(&mut self, step: u32) -> Vec<u32> {
        let peers = self.ids.len() as u32;
        let next = |turn: &mut u32| {
            *turn = (*turn + step) % peers;
            *turn
        };
        (0..BATCH).map(|_| next(&mut self.turn)).collect()
    }

    fn route(&mut self, step: u32) -> Duration {
        let all = self.some(step);
        let addresses: Vec<Address> = all.into_iter().map(address).collect();
        let begun = Instant::now();
        for address in addresses {
            black_box(self.hub.route(black_box(address)));
        }
        begun.elapsed()
    }

    fn seal(&mut self, step: u32) -> Duration {
        let all = self.some(step);
        let packets: Vec<(Address, Packet)> = all
            .into_iter()
            .map(|peer| (address(peer), self.packet(HUB, address(peer))))
            .collect();
        let begun = Instant::now();
        for (address, packet) in packets {
            let id = self.hub.route(address).expect("a peer's");
            self.hub.seal(self.now, id, packet, &mut self.out);
        }
        let took = begun.elapsed();
        let mut sealed = 0;
        while let Some(train) = self.out.wire.pop() {
            sealed += train.buf.frames();
            self.out.arena.put(train.buf);
        }
        assert_eq!(sealed, BATCH as usize);
        took
    }

    fn open(&mut self, step: u32) -> Duration {
        let all = self.some(step);
        for &peer in &all {
            let packet = self.packet(address(peer), HUB);
            let (far, to_hub) = &mut self.fars[peer as usize];
            far.seal(self.now, *to_hub, packet, &mut self.out);
        }
        let mut trains: Vec<Datagrams> = std::iter::from_fn(|| self.out.wire.pop()).collect();
        for (train, peer) in trains.iter_mut().zip(&all) {
            train.path = remote(*peer).into();
        }
        let reception = &mut Reception::default();
        let mut opened = Vec::with_capacity(BATCH as usize);
        let begun = Instant::now();
        for train in &mut trains {
            let out = &mut self.out;
            self.hub.open(self.now, train, reception, &mut opened, out);
        }
        for (inner, peer) in opened.iter().zip(&all) {
            assert!(self.hub.allows(inner.peer, address(*peer)));
        }
        let took = begun.elapsed();
        assert_eq!(opened.len(), BATCH as usize);
        for train in trains {
            self.out.arena.put(train.buf);
        }
        took
    }
}

/// Where a peer is.
fn remote(peer: u32) -> SocketAddr {
    let [_, _, high, low] = peer.to_be_bytes();
    SocketAddr::from(([192, 0, high, low], 51820))
}
