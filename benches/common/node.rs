//! A worker of a node with one service, without devices, and the datagrams that its pods send there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use balance::{Affinity, Backend, Frontend, Service, State};
use datapath::{Forwarder, Outbox, Own, Route, Settings, Share, Snapshot};
use etherparse::PacketBuilder;
use packet::{Address, Batch, Frame, Now, Offload, Prefix, Time, protocol};
use policy::{Endpoint, Identity, Labels, PolicyTable};
use tunnel::{Lane, PrivateKey};

/// Packets of one batch, as a worker takes them in.
pub(crate) const BATCH: usize = 32;
/// Bytes of a packet's IPv4 and UDP headers.
const HEADERS: usize = 28;
/// Pods that send.
const PODS: u8 = 64;
/// Whose all pods are.
const IDENTITY: Identity = Identity(65_600);
const FRONTEND: ([u8; 4], u16) = ([10, 96, 0, 1], 53);

/// One worker of the node.
pub(crate) struct Node {
    pub(crate) forwarder: Forwarder,
    pub(crate) out: Outbox,
    pub(crate) now: Now,
    /// One datagram of each flow, one behind the other.
    datagrams: Vec<u8>,
    length: usize,
    turn: usize,
    came: Batch<Frame>,
}

impl Node {
    /// A worker with its lanes that knows `snapshot`, and whose pods have so many flows of packets
    /// of `length` bytes.
    pub(crate) fn new(share: Share, snapshot: Arc<Snapshot>, flows: usize, length: usize) -> Node {
        let settings = Settings {
            mtu: 1420,
            flows: flows.max(64),
            probe_interval: Duration::from_secs(1),
            probe_count: 3,
            secret: (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210),
        };
        let lanes = (0..share.lanes).filter(|lane| share.has_lane(*lane));
        let lanes = lanes.map(|lane| Lane::new(lane, key(lane), [lane as u8; 32]));
        let mut forwarder = Forwarder::new(settings, share, lanes.collect());
        let mut out = Outbox::new(tunnel::Outbox::new(share.own, 512, 256), 256);
        let now = Now {
            time: Time::from_nanos(1),
            unix_ns: 1 << 60,
        };
        forwarder.adopt(now, snapshot, &mut out);
        Node {
            forwarder,
            out,
            now,
            datagrams: datagrams(share, flows, length),
            length,
            turn: 0,
            came: Batch::with_limit(BATCH),
        }
    }

    /// The next flow's packet, as a device gives it.
    pub(crate) fn frame(&mut self) -> Frame {
        let mut buf = self.out.tunnel.arena.take().expect("a buffer");
        buf.extend(&self.datagrams[self.turn..][..self.length]);
        self.turn = (self.turn + self.length) % self.datagrams.len();
        let offload = Offload::default();
        Frame { buf, offload }
    }

    /// A breath without its devices; all that came must have gone out.
    pub(crate) fn batch(&mut self) {
        for _ in 0..BATCH {
            let frame = self.frame();
            let came = self.came.push(frame);
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
        while let Some(train) = self.out.tunnel.wire.pop() {
            left += train.buf.frames();
            self.out.tunnel.arena.put(train.buf);
        }
        if left < BATCH {
            self.expect_no_drop();
        }
        assert_eq!(left, BATCH, "all go out");
    }

    pub(crate) fn expect_no_drop(&self) {
        let dropped: Vec<_> = self.out.dropped().filter(|(_, count)| *count > 0).collect();
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}

/// The key of a lane of the node.
pub(crate) fn key(lane: u16) -> PrivateKey {
    PrivateKey::from_bytes([lane as u8 + 1; 32])
}

/// What the node knows: its pods, its service with backends at the first addresses of a network,
/// that 10.2.0.0/16 is at the first of `nodes`, and that nothing is forbidden.
pub(crate) fn snapshot([a, b, c]: [u8; 3], nodes: Vec<datapath::Node>) -> Snapshot {
    let prefix = |octets, length| Prefix::new(Address::from_v4(octets), length).expect("a prefix");
    let (pods, far_pods) = (prefix([10, 1, 0, 0], 16), prefix([10, 2, 0, 0], 16));
    let own = Address::from_v4([192, 0, 2, 1]);
    let endpoint = Arc::new(Endpoint::of(IDENTITY));
    let backend = |last| Backend {
        address: Address::from_v4([a, b, c, last]),
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
    let mut routes = BTreeMap::from([(pods, Route::Pod), (Prefix::host(own), Route::Own)]);
    if !nodes.is_empty() {
        routes.insert(far_pods, Route::Node(0));
    }
    let endpoints = [(pods, endpoint.clone()), (far_pods, endpoint)];
    Snapshot {
        epoch: 1,
        backends: 1,
        endpoints: BTreeMap::from(endpoints).into_iter().collect(),
        world: Arc::new(Endpoint::of(Identity::WORLD)),
        policy: PolicyTable::compile(&[], &[(IDENTITY, Labels::default())]),
        services: [(frontend, Arc::new(service))].into_iter().collect(),
        routes: routes.into_iter().collect(),
        nodes,
        own: Own {
            node: "node".into(),
            cluster: 1,
            addresses: vec![own],
        },
    }
}

/// A datagram for each flow, from the pods of this share.
fn datagrams(share: Share, flows: usize, length: usize) -> Vec<u8> {
    let pods = (0..PODS).map(|last| [10, 1, 0, last]);
    let pods: Vec<[u8; 4]> = pods
        .filter(|pod| share.worker_of(Address::from_v4(*pod)) == share.own)
        .collect();
    let mut bytes = Vec::with_capacity(flows * length);
    for number in 0..flows {
        let port = 1024 + (number / pods.len()) as u16;
        PacketBuilder::ipv4(pods[number % pods.len()], FRONTEND.0, 64)
            .udp(port, FRONTEND.1)
            .write(&mut bytes, &vec![0; length - HEADERS])
            .expect("a vector takes it");
    }
    bytes
}
