//! Two nodes with real forwarders, and a wire between them that the test holds in its hands.

mod packets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balance::{Affinity, Backend, Frontend, Service, State};
use datapath::{Forwarder, LanePeer, Node, Outbox, Own, Reason, Route, Settings, Share, Snapshot};
use packet::{Address, Datagrams, Frame, Now, Offload, Packet, Prefix, Time, protocol};
use policy::{Endpoint, Identity, Labels, Policy, PolicyTable};
use tunnel::{Lane, PrivateKey};

pub(crate) use packets::*;

/// A buffer for each packet that the tests leave anywhere, with many to spare.
const BUFFERS: usize = 512;
pub(crate) const SERVICE: [u8; 4] = [10, 96, 0, 1];
pub(crate) const SERVICE_PORT: u16 = 80;
/// Another port of it, which leads to the same one of the backends.
pub(crate) const OTHER_PORT: u16 = 8000;
/// The service's other address.
pub(crate) const SERVICE_V6: [u8; 16] = [0xfd, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// One node: its forwarder, and what its TUN was given.
pub(crate) struct Host {
    pub(crate) forwarder: Forwarder,
    pub(crate) out: Outbox,
    /// What pods and the world received.
    pub(crate) delivered: Vec<Vec<u8>>,
    number: u8,
}

/// Both nodes, the time, and the wire.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) hosts: [Host; 2],
    /// A cut wire carries nothing.
    pub(crate) cut: bool,
    /// The longest outer IP packet that the wire carries, in bytes; it drops longer ones silently.
    pub(crate) carries: usize,
    /// Whether the other node's object has the annotation of Farlane's lanes.
    pub(crate) knows_lanes: bool,
    /// Both nodes have another InternalIP.
    pub(crate) moved: bool,
    /// Backends by host number and pod number, each with whether it is healthy.
    pub(crate) backends: Vec<(u8, u8, bool)>,
    /// Pods that nobody has any more, by the same.
    pub(crate) gone: Vec<(u8, u8)>,
    /// Other pods that have the address now, by the same.
    pub(crate) others: Vec<(u8, u8)>,
    /// Pods whose labels are those of the pod four further on now, by the same.
    pub(crate) relabelled: Vec<(u8, u8)>,
    /// The port of the backends.
    pub(crate) target: u16,
    /// How long a client of the service stays with its backend, if it stays.
    pub(crate) client_stays: Option<Duration>,
    pub(crate) policies: Vec<Policy>,
    /// What routers on the wire write into the ECN field of outer packets, if they do.
    pub(crate) ecn: Option<u8>,
    /// Whether more is always to come, so that what can be made whole waits.
    pub(crate) more: bool,
    epoch: u64,
    /// What the last snapshot said of services and endpoints, and its number.
    placed: Placed,
}

#[derive(Clone, Default, PartialEq)]
struct Placed {
    backends: Vec<(u8, u8, bool)>,
    gone: Vec<(u8, u8)>,
    others: Vec<(u8, u8)>,
    number: u64,
}

/// Pod `pod` of node `node`: 10.`node`.0.`pod`.
pub(crate) fn pod(node: u8, pod: u8) -> [u8; 4] {
    [10, node, 0, pod]
}

/// The same pod's other address: fd10:`node`::`pod`.
pub(crate) fn pod_v6(node: u8, pod: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0xfd, 0x10, 0, node]);
    address[15] = pod;
    address
}

fn node_address(node: u8) -> [u8; 4] {
    [192, 0, 2, node]
}

fn node_address_v6(node: u8) -> Address {
    let mut address = pod_v6(0, node);
    address[1] = 0;
    Address::from_v6(address)
}

fn endpoint(node: u8) -> SocketAddr {
    SocketAddr::from((node_address(node), 51871))
}

fn key(node: u8) -> PrivateKey {
    PrivateKey::from_bytes([node; 32])
}

/// The identity of a pod: a label set of its own, `pod=NODE-POD`.
pub(crate) fn identity(node: u8, pod: u8) -> Identity {
    Identity((u32::from(node) << 16) | (0x100 + u32::from(pod)))
}

impl World {
    pub(crate) fn new() -> World {
        World::with_flows(64)
    }

    /// One whose nodes know so many flows.
    pub(crate) fn with_flows(flows: usize) -> World {
        let host = |number: u8| {
            let settings = Settings {
                mtu: 1420,
                flows,
                probe_interval: Duration::from_millis(200),
                probe_count: 3,
                secret: (u64::from(number), 7),
            };
            let lane = Lane::new(0, key(number), [number; 32]);
            Host {
                forwarder: Forwarder::new(settings, Share::whole(1), vec![lane]),
                out: Outbox::new(tunnel::Outbox::new(0, BUFFERS, 128), 128),
                delivered: Vec::new(),
                number,
            }
        };
        let mut world = World {
            now: Now {
                time: Time::from_nanos(1_000_000_000),
                unix_ns: 1_700_000_000_000_000_000,
            },
            hosts: [host(1), host(2)],
            cut: false,
            carries: usize::MAX,
            knows_lanes: true,
            moved: false,
            backends: Vec::new(),
            gone: Vec::new(),
            others: Vec::new(),
            relabelled: Vec::new(),
            target: 8080,
            client_stays: None,
            policies: Vec::new(),
            ecn: None,
            more: false,
            epoch: 0,
            placed: Placed::default(),
        };
        world.publish();
        world
    }

    /// Gives both nodes a snapshot of what the fields say now.
    pub(crate) fn publish(&mut self) {
        self.epoch += 1;
        let placed = Placed {
            backends: self.backends.clone(),
            gone: self.gone.clone(),
            others: self.others.clone(),
            number: self.placed.number,
        };
        if placed != self.placed {
            self.placed = placed;
            self.placed.number += 1;
        }
        for number in [1, 2] {
            let snapshot = self.snapshot(number);
            let host = &mut self.hosts[usize::from(number) - 1];
            host.forwarder
                .adopt(self.now, Arc::new(snapshot), &mut host.out);
        }
    }

    fn snapshot(&self, own: u8) -> Snapshot {
        let mut endpoints = BTreeMap::new();
        let mut routes = BTreeMap::new();
        let mut identities = Vec::new();
        for node in [1, 2] {
            for number in 1..5 {
                let is_other = self.others.contains(&(node, number));
                let relabelled = self.relabelled.contains(&(node, number));
                let shown = if relabelled { number + 4 } else { number };
                let who = identity(node, shown);
                let mut labels = Labels::default();
                labels.insert("pod", format!("{node}-{shown}"));
                identities.push((who, labels));
                let name = format!("{}-{node}-{number}", if is_other { "other" } else { "pod" });
                let endpoint = Arc::new(Endpoint::named(who, node, name, ""));
                for prefix in pod_prefixes(node, number) {
                    if self.gone.contains(&(node, number)) {
                        continue;
                    }
                    endpoints.insert(prefix, endpoint.clone());
                }
            }
            let route = if node == own {
                Route::Own
            } else {
                Route::Node(0)
            };
            routes.insert(host_prefix(self.address(node)), route);
            routes.insert(Prefix::host(node_address_v6(node)), route);
            let who = if node == own {
                Identity::HOST
            } else {
                Identity::REMOTE_NODE
            };
            endpoints.insert(host_prefix(self.address(node)), Arc::new(Endpoint::of(who)));
            let v6 = Prefix::new(Address::from_v6(pod_v6(node, 0)), 64).unwrap();
            let v4 = Prefix::new(Address::from_v4([10, node, 0, 0]), 24).unwrap();
            let route = if node == own {
                Route::Nowhere
            } else {
                Route::Node(0)
            };
            routes.extend([(v4, route), (v6, route)]);
        }
        for number in 1..5 {
            if !self.gone.contains(&(own, number)) {
                routes.extend(pod_prefixes(own, number).map(|prefix| (prefix, Route::Pod)));
            }
        }
        let other = 3 - own;
        Snapshot {
            epoch: self.epoch,
            backends: self.placed.number,
            endpoints: endpoints.into_iter().collect(),
            world: Arc::new(Endpoint::of(Identity::WORLD)),
            policy: PolicyTable::compile(&self.policies, &identities),
            services: self.services(own).into_iter().collect(),
            routes: routes.into_iter().collect(),
            nodes: vec![Node {
                name: format!("node-{other}"),
                cluster: other,
                cluster_name: format!("cluster-{other}"),
                addresses: vec![
                    Address::from_v4(self.address(other)),
                    node_address_v6(other),
                ],
                lanes: vec![LanePeer {
                    key: key(other).public(),
                    endpoint: endpoint(other),
                }],
                knows_lanes: self.knows_lanes,
            }],
            own: Own {
                node: format!("node-{own}"),
                cluster: own,
                addresses: vec![Address::from_v4(self.address(own)), node_address_v6(own)],
            },
        }
    }

    fn address(&self, node: u8) -> [u8; 4] {
        let [a, b, c, last] = node_address(node);
        [a, b, c, last + if self.moved { 10 } else { 0 }]
    }

    fn services(&self, own: u8) -> Vec<(Frontend, Arc<Service>)> {
        if self.backends.is_empty() {
            return Vec::new();
        }
        let service = |v6: bool| {
            let backend = |(node, number, healthy): &(u8, u8, bool)| Backend {
                address: match v6 {
                    true => Address::from_v6(pod_v6(*node, *number)),
                    false => Address::from_v4(pod(*node, *number)),
                },
                port: self.target,
                cluster: *node,
                local: *node == own,
                state: State::Active,
                healthy: *healthy,
                weight: 1,
            };
            let backends = self.backends.iter().map(backend).collect();
            let (name, port) = ("shop/cart".into(), "http".into());
            let mut service = Service::new(name, port, Affinity::None, true, backends, 251);
            service.client_stays = self.client_stays;
            Arc::new(service)
        };
        let addresses = [Address::from_v4(SERVICE), Address::from_v6(SERVICE_V6)];
        let frontends = addresses.into_iter().flat_map(|address| {
            let service = service(!address.is_v4());
            let protocols = [protocol::TCP, protocol::UDP, protocol::SCTP];
            protocols.into_iter().flat_map(move |protocol| {
                [SERVICE_PORT, OTHER_PORT].map(|port| {
                    let frontend = Frontend {
                        address,
                        port,
                        protocol,
                    };
                    (frontend, service.clone())
                })
            })
        });
        frontends.collect()
    }

    /// A pod (or the world) of `node` sends a packet, and everything that follows happens.
    pub(crate) fn send(&mut self, node: u8, bytes: &[u8]) {
        self.give(node, bytes);
        self.settle();
    }

    /// The same, and what comes of it stays where it is for now.
    pub(crate) fn give(&mut self, node: u8, bytes: &[u8]) {
        let host = &mut self.hosts[usize::from(node) - 1];
        let mut buf = host.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        let frame = Frame {
            buf,
            offload: Offload::default(),
        };
        host.forwarder.handle_frame(self.now, frame, &mut host.out);
    }

    /// `node` receives a packet that the other one sealed, whatever is in it.
    pub(crate) fn inject_from_peer(&mut self, node: u8, bytes: &[u8]) {
        let host = &mut self.hosts[usize::from(3 - node) - 1];
        let mut buf = host.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        let packet = Packet::parse(buf, Offload::default()).expect("a whole packet");
        host.out.ledger().received += packet.segments() as u64;
        let lane = host.forwarder.lane_mut(0).expect("lane 0");
        let peer = lane.peer(&key(node).public()).expect("the peer");
        lane.seal(self.now, peer, packet, &mut host.out.tunnel);
        self.settle();
    }

    /// Carries datagrams to and fro until nothing moves; the books balance after each step.
    pub(crate) fn settle(&mut self) {
        for _ in 0..32 {
            let mut moved = false;
            for from in [0, 1] {
                self.deliver_to_pods(from);
                while let Some(datagrams) = self.hosts[from].out.tunnel.wire.pop() {
                    moved = true;
                    self.carry(from, datagrams);
                }
                self.balance(from);
            }
            if !moved {
                return;
            }
        }
        panic!("the two nodes do not come to rest");
    }

    fn carry(&mut self, from: usize, datagrams: Datagrams) {
        let frames = datagrams.buf.frames() as u64;
        let bytes = datagrams.buf.as_slice().to_vec();
        let stride = datagrams.buf.stride();
        let ecn = self.ecn.unwrap_or(datagrams.ecn);
        let sender = &mut self.hosts[from];
        sender.out.ledger().sent += frames;
        sender.out.tunnel.arena.put(datagrams.buf);
        if self.cut {
            return;
        }
        // An IPv4 header and UDP's.
        let longest = self.carries.saturating_sub(28);
        if bytes.chunks(stride).any(|frame| frame.len() > longest) {
            for frame in bytes.chunks(stride).filter(|frame| frame.len() <= longest) {
                self.arrive(from, frame, frame.len(), ecn);
            }
            return;
        }
        self.arrive(from, &bytes, stride, ecn);
    }

    /// A datagram or train of the node at place `from` arrives at the other one.
    pub(crate) fn arrive(&mut self, from: usize, bytes: &[u8], stride: usize, ecn: u8) {
        let now = self.now;
        let remote = endpoint(self.hosts[from].number);
        let receiver = &mut self.hosts[1 - from];
        let mut buf = receiver.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        buf.set_stride(stride);
        let arrived = Datagrams {
            lane: 0,
            path: remote.into(),
            ecn,
            buf,
        };
        receiver
            .forwarder
            .handle_datagrams(now, arrived, &mut receiver.out);
        match self.more {
            true => receiver.forwarder.flush_singles(now, &mut receiver.out),
            false => receiver.forwarder.flush(now, &mut receiver.out),
        }
    }

    pub(crate) fn deliver_to_pods(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        while let Some(mut packet) = host.out.pods.pop() {
            packet.finish_checksum();
            host.out.ledger().sent += packet.segments() as u64;
            host.delivered.push(packet.bytes().to_vec());
            host.out.tunnel.arena.put(packet.into_buf());
        }
    }

    /// The conservation law, and no buffer lost but those that wait.
    pub(crate) fn balance(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let queued = host.out.queued() + host.forwarder.queued();
        let dropped: u64 = host.out.dropped().map(|(_, segments)| segments).sum();
        let ledger = *host.out.ledger();
        assert_eq!(
            ledger.received + ledger.originated,
            ledger.sent + ledger.consumed + queued + dropped,
            "node {}: {ledger:?}, {queued} queued, {dropped} dropped",
            host.number
        );
    }

    /// Lets time pass in steps of 50 ms, with all that is due in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.now.time = self.now.time + step;
            self.now.unix_ns += step.as_nanos() as u64;
            for host in &mut self.hosts {
                host.forwarder.handle_timeout(self.now, &mut host.out);
            }
            self.settle();
        }
    }

    /// What was delivered on `node` since the last call.
    pub(crate) fn delivered(&mut self, node: u8) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.hosts[usize::from(node) - 1].delivered)
    }

    /// How many segments `node` dropped for `reason`.
    pub(crate) fn drops(&self, node: u8, reason: Reason) -> u64 {
        self.hosts[usize::from(node) - 1].out.drops.of(reason)
    }
}

fn host_prefix(address: [u8; 4]) -> Prefix {
    Prefix::host(Address::from_v4(address))
}

fn pod_prefixes(node: u8, number: u8) -> [Prefix; 2] {
    let v6 = Address::from_v6(pod_v6(node, number));
    [host_prefix(pod(node, number)), Prefix::host(v6)]
}
