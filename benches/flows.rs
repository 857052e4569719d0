//! What the core does with a packet of a known flow, against the number of flows:
//! `cargo bench --bench flows`.
//!
//! No kernel and no cipher: a frame of 64 bytes comes from a pod, is found in the flow table, gets
//! the address of its backend and its checksums, and goes out of the node. Flows come one after the
//! other, so with many of them nothing that belongs to one is in the caches when it comes again: the
//! worst there is. One thread; each figure is the median of many batches, so that what else the
//! machine does shows little. The last lines are the cost of a flow's first packet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balance::{Affinity, Backend, Frontend, Service, State};
use datapath::{Forwarder, Outbox, Own, Route, Settings, Share, Snapshot};
use etherparse::PacketBuilder;
use packet::{Address, Batch, Frame, Now, Offload, Prefix, Time, protocol};
use policy::{Endpoint, Identity, Labels, PolicyTable};
use tunnel::{Lane, PrivateKey};

/// Packets of one batch, as a worker takes them in.
const BATCH: usize = 32;
/// Batches that are timed at least, and rounds over all flows.
const BATCHES: usize = 20_000;
const ROUNDS: usize = 3;
/// Bytes of a packet, and of its IPv4 and UDP headers.
const LENGTH: usize = 64;
const HEADERS: usize = 28;
/// Whose all pods are.
const PODS: Identity = Identity(65_600);
const FRONTEND: ([u8; 4], u16) = ([10, 96, 0, 1], 53);

fn main() {
    for flows in [1, 10_000, 100_000, 1_000_000] {
        let mut world = World::new(flows);
        let first = world.median(flows / BATCH);
        let known = world.median(BATCHES.max(ROUNDS * flows / BATCH));
        print(&format!("known flow, 64 bytes, {flows} flows"), known);
        if flows > 1 {
            print(&format!("first packet of {flows} flows"), first);
        }
        world.expect_no_drop();
    }
}

fn print(name: &str, each: f64) {
    println!("{name:44} {each:7.1} ns {:7.2} Mpps", 1e3 / each);
}

/// A node with one service whose backends are out of the mesh, and what its pods send.
struct World {
    forwarder: Forwarder,
    out: Outbox,
    now: Now,
    frames: Vec<[u8; LENGTH]>,
    came: Batch<Frame>,
    turn: usize,
}

impl World {
    fn new(flows: usize) -> World {
        let settings = Settings {
            mtu: 1420,
            flows: flows.max(64),
            probe_interval: Duration::from_secs(1),
            probe_count: 3,
            secret: (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210),
        };
        let lane = Lane::new(0, PrivateKey::from_bytes([1; 32]), [1; 32]);
        let mut forwarder = Forwarder::new(settings, Share::whole(1), vec![lane]);
        let mut out = Outbox::new(tunnel::Outbox::new(0, 512, 256), 256);
        let now = Now {
            time: Time::from_nanos(1),
            unix_ns: 1 << 60,
        };
        forwarder.adopt(now, Arc::new(snapshot()), &mut out);
        World {
            forwarder,
            out,
            now,
            frames: (0..flows as u32).map(datagram).collect(),
            came: Batch::with_limit(BATCH),
            turn: 0,
        }
    }

    /// Nanoseconds for each packet of the median one of so many batches; at least of one.
    fn median(&mut self, batches: usize) -> f64 {
        let mut times: Vec<Duration> = (0..batches.max(1)).map(|_| self.batch()).collect();
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / BATCH as f64
    }

    /// A breath without its devices.
    fn batch(&mut self) -> Duration {
        let start = Instant::now();
        for _ in 0..BATCH {
            let mut buf = self.out.tunnel.arena.take().expect("a buffer");
            buf.extend(&self.frames[self.turn]);
            self.turn = (self.turn + 1) % self.frames.len();
            let offload = Offload::default();
            let came = self.came.push(Frame { buf, offload });
            assert!(came.is_ok(), "room for a batch");
        }
        self.forwarder.foresee(self.came.iter());
        while let Some(frame) = self.came.pop() {
            self.forwarder.handle_frame(self.now, frame, &mut self.out);
        }
        self.forwarder.flush(self.now, &mut self.out);
        let mut left = 0;
        while let Some(packet) = self.out.pods.pop() {
            left += 1;
            self.out.tunnel.arena.put(packet.into_buf());
        }
        let took = start.elapsed();
        if left < BATCH {
            self.expect_no_drop();
        }
        assert_eq!(left, BATCH, "all go out");
        took
    }

    fn expect_no_drop(&self) {
        let dropped: Vec<_> = self.out.dropped().filter(|(_, count)| *count > 0).collect();
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}

/// What the node knows: its pods, its service, and that nothing is forbidden.
fn snapshot() -> Snapshot {
    let pods = Prefix::new(Address::from_v4([10, 1, 0, 0]), 16).expect("a prefix");
    let own = Address::from_v4([192, 0, 2, 1]);
    let endpoint = Arc::new(Endpoint::of(PODS));
    let backend = |last| Backend {
        address: Address::from_v4([203, 0, 113, last]),
        port: 5353,
        cluster: 1,
        local: true,
        state: State::Active,
        healthy: true,
        weight: 1,
    };
    let service = Service::new(
        "shop/names".into(),
        "dns".into(),
        Affinity::None,
        true,
        (1..9).map(backend).collect(),
        251,
    );
    let frontend = Frontend {
        address: Address::from_v4(FRONTEND.0),
        port: FRONTEND.1,
        protocol: protocol::UDP,
    };
    let routes = BTreeMap::from([(pods, Route::Pod), (Prefix::host(own), Route::Own)]);
    Snapshot {
        epoch: 1,
        endpoints: BTreeMap::from([(pods, endpoint)]).into_iter().collect(),
        world: Arc::new(Endpoint::of(Identity::WORLD)),
        policy: PolicyTable::compile(&[], &[(PODS, Labels::default())]),
        services: [(frontend, Arc::new(service))].into_iter().collect(),
        routes: routes.into_iter().collect(),
        nodes: Vec::new(),
        own: Own {
            node: "node".into(),
            cluster: 1,
            addresses: vec![own],
        },
    }
}

/// A datagram of flow `number`, from one of 64 pods.
fn datagram(number: u32) -> [u8; LENGTH] {
    let (pod, port) = ((number % 64) as u8, 1024 + (number / 64) as u16);
    let mut bytes = Vec::with_capacity(LENGTH);
    PacketBuilder::ipv4([10, 1, 0, pod], FRONTEND.0, 64)
        .udp(port, FRONTEND.1)
        .write(&mut bytes, &[0; LENGTH - HEADERS])
        .expect("a vector takes it");
    bytes.try_into().expect("64 bytes")
}
