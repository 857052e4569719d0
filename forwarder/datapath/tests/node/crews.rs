//! Two nodes of several workers and lanes each: their workers, the rings between them, and the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balance::{Affinity, Backend, Frontend, Service, State};
use datapath::{Forwarder, LanePeer, Node, Outbox, Own, Reason, Route, Settings, Share, Snapshot};
use packet::{Address, Datagrams, Frame, Now, Offload, Prefix, PrefixMap, Time, lane_of, protocol};
use policy::{Endpoint, Identity, Labels, PolicyTable};
use tunnel::{Lane, PrivateKey};

use crate::world::{SERVICE, SERVICE_PORT, pod};

const BUFFERS: usize = 512;
/// All pods are alike.
const PODS: Identity = Identity(0x100);

/// One worker, and what its TUN was given.
pub(crate) struct Worker {
    pub(crate) forwarder: Forwarder,
    pub(crate) out: Outbox,
    delivered: Vec<Vec<u8>>,
}

/// What differs between two snapshots of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) epoch: u64,
    /// Whether the other node knows that we have lanes.
    pub(crate) knows_lanes: bool,
    /// Another node stands before the other one, whose place is so another.
    pub(crate) another_first: bool,
    /// This pod is thought to be with the other node, or here, where it is not.
    pub(crate) moved: Option<(u8, u8)>,
    /// The only backend of [`SERVICE`].
    pub(crate) backend: Option<(u8, u8)>,
    /// Whether it is known to be dead.
    pub(crate) dead: bool,
}

pub(crate) const PLAIN: View = View {
    epoch: 1,
    knows_lanes: true,
    another_first: false,
    moved: None,
    backend: None,
    dead: false,
};

/// Two nodes with the same numbers of workers and lanes.
pub(crate) struct Crews {
    pub(crate) now: Now,
    lanes: u16,
    pub(crate) nodes: [Vec<Worker>; 2],
    /// Lanes whose datagrams are lost.
    pub(crate) silent: fn(u16) -> bool,
    /// The lanes that datagrams were sent by and to, but handshakes.
    pub(crate) carried: Vec<(u16, u16)>,
    /// How often packets crossed.
    pub(crate) crossed: u64,
}

pub(crate) fn key(node: u8, lane: u16) -> PrivateKey {
    PrivateKey::from_bytes([node * 16 + lane as u8 + 1; 32])
}

pub(crate) fn endpoint(node: u8, lane: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node], 51_871 + lane))
}

fn snapshot(own: u8, lanes: u16, view: View) -> Snapshot {
    let other = 3 - own;
    let place = Route::Node(view.another_first.into());
    let mut routes: BTreeMap<Prefix, Route> = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    for node in [1, 2] {
        for number in 1..9 {
            let here = (node == own) != (view.moved == Some((node, number)));
            let prefix = Prefix::host(Address::from_v4(pod(node, number)));
            routes.insert(prefix, if here { Route::Pod } else { place });
            endpoints.insert(prefix, Arc::new(Endpoint::of(PODS)));
        }
    }
    let address = Address::from_v4([192, 0, 2, own]);
    routes.insert(Prefix::host(address), Route::Own);
    let peer = |node: u8, lane| LanePeer {
        key: key(node, lane).public(),
        endpoint: endpoint(node, lane),
    };
    let node = |name: u8| Node {
        name: format!("node-{name}"),
        cluster: name,
        cluster_name: format!("cluster-{name}"),
        addresses: Vec::new(),
        lanes: (0..if view.knows_lanes { lanes } else { 1 })
            .map(|lane| peer(name, lane))
            .collect(),
        knows_lanes: view.knows_lanes,
    };
    let mut nodes = vec![node(other)];
    if view.another_first {
        nodes.insert(0, node(3));
    }
    Snapshot {
        epoch: view.epoch,
        backends: view.epoch,
        endpoints: endpoints.into_iter().collect(),
        world: Arc::new(Endpoint::of(Identity::WORLD)),
        policy: PolicyTable::compile(&[], &[(PODS, Labels::default())]),
        services: view
            .backend
            .map(|backend| services(own, backend, !view.dead))
            .into_iter()
            .flatten()
            .collect(),
        routes: routes.into_iter().collect::<PrefixMap<Route>>(),
        nodes,
        own: Own {
            node: format!("node-{own}"),
            cluster: own,
            addresses: vec![address],
        },
    }
}

/// [`SERVICE`] over TCP and UDP, with one backend.
fn services(own: u8, (node, number): (u8, u8), healthy: bool) -> [(Frontend, Arc<Service>); 2] {
    let backend = Backend {
        address: Address::from_v4(pod(node, number)),
        port: 8080,
        cluster: node,
        local: node == own,
        state: State::Active,
        healthy,
        weight: 1,
    };
    let (name, port) = ("shop/cart".into(), "dns".into());
    let service = Service::new(name, port, Affinity::None, true, vec![backend], 251);
    let service = Arc::new(service);
    [protocol::TCP, protocol::UDP].map(|protocol| {
        let frontend = Frontend {
            address: Address::from_v4(SERVICE),
            port: SERVICE_PORT,
            protocol,
        };
        (frontend, service.clone())
    })
}

impl Crews {
    pub(crate) fn new(workers: u16, lanes: u16) -> Crews {
        let crew = |node: u8| {
            (0..workers)
                .map(|own| {
                    let share = Share {
                        own,
                        workers,
                        lanes,
                    };
                    let settings = Settings {
                        mtu: 1420,
                        flows: 64,
                        probe_interval: Duration::from_millis(200),
                        probe_count: 3,
                        secret: (u64::from(node), own.into()),
                    };
                    let own_lanes = (0..lanes).filter(|lane| share.has_lane(*lane));
                    let own_lanes = own_lanes
                        .map(|lane| Lane::new(lane, key(node, lane), [node * 16 + lane as u8; 32]));
                    Worker {
                        forwarder: Forwarder::new(settings, share, own_lanes.collect()),
                        out: Outbox::new(tunnel::Outbox::new(own, BUFFERS, 128), 128)
                            .among(workers, 128),
                        delivered: Vec::new(),
                    }
                })
                .collect()
        };
        let mut crews = Crews {
            now: Now {
                time: Time::from_nanos(1_000_000_000),
                unix_ns: 1_700_000_000_000_000_000,
            },
            lanes,
            nodes: [crew(1), crew(2)],
            silent: |_| false,
            carried: Vec::new(),
            crossed: 0,
        };
        for node in [1, 2] {
            for worker in 0..workers {
                crews.adopt(node, worker, PLAIN);
            }
        }
        crews
    }

    pub(crate) fn adopt(&mut self, node: u8, worker: u16, view: View) {
        let snapshot = snapshot(node, self.lanes, view);
        let now = self.now;
        let worker = self.worker(node, worker);
        let snapshot = Arc::new(snapshot);
        worker.forwarder.adopt(now, snapshot, &mut worker.out);
    }

    pub(crate) fn worker(&mut self, node: u8, worker: u16) -> &mut Worker {
        &mut self.nodes[usize::from(node) - 1][usize::from(worker)]
    }

    /// A worker's TUN gives a packet.
    pub(crate) fn frame(&mut self, node: u8, worker: u16, bytes: &[u8]) {
        let now = self.now;
        let worker = self.worker(node, worker);
        let mut buf = worker.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        let offload = Offload::default();
        let frame = Frame { buf, offload };
        worker.forwarder.handle_frame(now, frame, &mut worker.out);
    }

    /// Moves everything until nothing moves, and sees that it comes to an end.
    pub(crate) fn settle(&mut self) {
        for _ in 0..64 {
            let mut moved = false;
            for node in [1, 2] {
                for worker in 0..self.nodes[0].len() as u16 {
                    moved |= self.cross_from(node, worker);
                    moved |= self.send_from(node, worker);
                    self.deliver(node, worker);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("something goes round in a circle");
    }

    fn cross_from(&mut self, node: u8, from: u16) -> bool {
        let mut moved = false;
        for to in 0..self.nodes[0].len() as u16 {
            let mut ring = Vec::new();
            // What finds no room comes back by value, as in a worker.
            #[allow(clippy::result_large_err)]
            self.worker(node, from).out.hand_over(to, |crossing| {
                ring.push(crossing);
                Ok(())
            });
            for crossing in ring {
                assert_ne!(from, to, "a worker leaves something to itself");
                moved = true;
                self.crossed += 1;
                let now = self.now;
                let worker = self.worker(node, to);
                let (forwarder, out) = (&mut worker.forwarder, &mut worker.out);
                forwarder.handle_crossing(now, crossing, out);
            }
        }
        moved
    }

    fn send_from(&mut self, node: u8, from: u16) -> bool {
        let mut moved = false;
        while let Some(mut sent) = self.worker(node, from).out.tunnel.wire.pop() {
            moved = true;
            let (lane, remote) = (sent.lane, sent.path.remote);
            let theirs = remote.port() - endpoint(1, 0).port();
            let (stride, bytes) = (sent.buf.stride(), sent.buf.as_slice().to_vec());
            let handshakes = sent.buf.frames_mut().all(|frame| frame[0] != 4);
            let worker = self.worker(node, from);
            worker.out.ledger().sent += sent.buf.frames() as u64;
            worker.out.tunnel.arena.put(sent.buf);
            if (self.silent)(lane) || (self.silent)(theirs) {
                continue;
            }
            if !handshakes {
                self.carried.push((lane, theirs));
            }
            let now = self.now;
            let workers = self.nodes[0].len() as u16;
            let other = self.worker(3 - node, theirs % workers);
            let mut buf = other.out.tunnel.arena.take().expect("a buffer");
            buf.extend(&bytes);
            buf.set_stride(stride);
            let datagrams = Datagrams {
                lane: theirs,
                path: endpoint(node, lane).into(),
                ecn: 0,
                buf,
            };
            let (forwarder, out) = (&mut other.forwarder, &mut other.out);
            forwarder.handle_datagrams(now, datagrams, out);
            forwarder.flush(now, out);
        }
        moved
    }

    fn deliver(&mut self, node: u8, worker: u16) {
        let worker = self.worker(node, worker);
        let out = &mut worker.out;
        while let Some(mut packet) = out.pods.pop() {
            packet.finish_checksum();
            out.ledger().sent += packet.segments() as u64;
            worker.delivered.push(packet.bytes().to_vec());
            out.tunnel.arena.put(packet.into_buf());
        }
        let queued = out.queued() + worker.forwarder.queued();
        let dropped: u64 = out.dropped().map(|(_, segments)| segments).sum();
        let ledger = *out.ledger();
        assert_eq!(
            ledger.received + ledger.originated + ledger.crossed_in,
            ledger.sent + ledger.consumed + ledger.crossed_out + queued + dropped,
            "{ledger:?}"
        );
    }

    /// Lets time pass, with all that is due in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.now.time = self.now.time + step;
            self.now.unix_ns += step.as_nanos() as u64;
            let now = self.now;
            for worker in self.nodes.iter_mut().flatten() {
                worker.forwarder.handle_timeout(now, &mut worker.out);
            }
            self.settle();
        }
    }

    /// What pods of a node were given, by the worker that gave it.
    pub(crate) fn delivered(&mut self, node: u8) -> Vec<(u16, Vec<u8>)> {
        let crew = (0u16..).zip(&mut self.nodes[usize::from(node) - 1]);
        let each = crew.map(|(number, worker)| {
            let delivered = std::mem::take(&mut worker.delivered);
            delivered.into_iter().map(move |bytes| (number, bytes))
        });
        each.flatten().collect()
    }

    /// How many segments all workers of a node dropped for `reason`.
    pub(crate) fn drops(&self, node: u8, reason: Reason) -> u64 {
        let crew = &self.nodes[usize::from(node) - 1];
        crew.iter().map(|worker| worker.out.drops.of(reason)).sum()
    }

    /// The worker that an address of a node belongs to.
    pub(crate) fn owner(&self, address: [u8; 4]) -> u16 {
        lane_of(Address::from_v4(address), self.lanes) % self.nodes[0].len() as u16
    }
}
