//! The nodes of two clusters without devices, each with what it would explain.

use std::collections::BTreeMap;
use std::sync::Arc;

use datapath::{Forwarder, Outbox, Reason, Share, Snapshot};
use farlane::explain::{Answer, Explainer, Question};
use mesh::{Event, World, parse};
use packet::{Datagrams, Frame, Now, Offload, Time};
use sim::host::settings;
use sim::manifest;
use sim::model::{CLUSTER_NAMES, FILES, NODES, View, cluster_of};
use sim::random::Random;
use sim::wires::endpoint;
use tunnel::{Lane, PrivateKey};

/// Each packet has one, and nothing waits but for a handshake.
const BUFFERS: usize = 256;

/// One node, and what it gave to its pods and the world since it was last asked.
pub(crate) struct Host {
    explainer: Explainer,
    forwarder: Forwarder,
    out: Outbox,
    pub(crate) delivered: Vec<Vec<u8>>,
}

/// Two clusters of two nodes each, and wires that lose nothing.
pub(crate) struct Mesh {
    now: Now,
    pub(crate) hosts: Vec<Host>,
}

impl Mesh {
    pub(crate) fn new(random: &mut Random, view: &View) -> Mesh {
        let secrets: Vec<PrivateKey> = (0..NODES)
            .map(|_| PrivateKey::from_bytes(random.bytes()))
            .collect();
        let keys: Vec<_> = secrets.iter().map(|key| vec![key.public()]).collect();
        let mut files = Vec::new();
        for (cluster, name) in CLUSTER_NAMES.iter().enumerate() {
            let mut texts = vec![manifest::nodes(cluster, &keys, &[true; NODES])];
            texts.extend(FILES.map(|file| manifest::text(&view.clusters[cluster], file)));
            for (number, text) in texts.iter().enumerate() {
                let file = format!("{name}/{number}.yaml");
                let parsed = parse(&file, text);
                assert_eq!(parsed.problems, [], "{text}");
                files.push(Event::File {
                    cluster: cluster as u8 + 1,
                    file,
                    parsed,
                    hash: String::from("x"),
                });
            }
        }
        let now = Now {
            time: Time::from_nanos(1_000_000_000),
            unix_ns: 1_700_000_000_000_000_000,
        };
        let host = |(node, key): (usize, PrivateKey)| {
            let mut world = World::new(settings(node, &keys));
            for event in files.iter().cloned().chain([Event::Loaded]) {
                world.apply(event);
            }
            let compiled = world.compile();
            let lane = Lane::new(0, key, [node as u8; 32]);
            let out = tunnel::Outbox::new(0, BUFFERS, 64);
            let mut host = Host {
                forwarder: forwarder(lane),
                out: Outbox::new(out, 64),
                delivered: Vec::new(),
                explainer: Explainer::new(compiled.clone()),
            };
            let snapshot: Arc<Snapshot> = compiled.snapshot.clone();
            host.forwarder.adopt(now, snapshot, &mut host.out);
            host
        };
        Mesh {
            now,
            hosts: secrets.into_iter().enumerate().map(host).collect(),
        }
    }

    /// A packet comes by the TUN of a node, and everything that follows happens.
    pub(crate) fn send(&mut self, node: usize, bytes: &[u8]) {
        let host = &mut self.hosts[node];
        let mut buf = host.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        let frame = Frame {
            buf,
            offload: Offload::default(),
        };
        host.forwarder.handle_frame(self.now, frame, &mut host.out);
        loop {
            let mut moved = false;
            for node in 0..NODES {
                self.take_delivered(node);
                while let Some(datagrams) = self.hosts[node].out.tunnel.wire.pop() {
                    moved = true;
                    self.carry(node, datagrams);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn take_delivered(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        while let Some(mut packet) = host.out.pods.pop() {
            packet.finish_checksum();
            host.delivered.push(packet.bytes().to_vec());
            host.out.tunnel.arena.put(packet.into_buf());
        }
    }

    fn carry(&mut self, from: usize, datagrams: Datagrams) {
        let remote = datagrams.path.remote;
        let to = (0..NODES).find(|node| endpoint(*node, 0) == remote);
        let receiver = &mut self.hosts[to.expect("a node")];
        let mut buf = receiver.out.tunnel.arena.take().expect("a buffer");
        buf.extend(datagrams.buf.as_slice());
        buf.set_stride(datagrams.buf.stride());
        let arrived = Datagrams {
            lane: 0,
            path: endpoint(from, 0).into(),
            ecn: datagrams.ecn,
            buf,
        };
        let out = &mut receiver.out;
        receiver.forwarder.handle_datagrams(self.now, arrived, out);
        receiver.forwarder.flush(self.now, out);
        self.hosts[from].out.tunnel.arena.put(datagrams.buf);
    }

    pub(crate) fn drops(&self) -> BTreeMap<Reason, u64> {
        let of = |reason: &Reason| {
            let hosts = self.hosts.iter();
            (*reason, hosts.map(|h| h.out.drops.of(*reason)).sum())
        };
        Reason::ALL.iter().map(of).collect()
    }

    /// The answer of every node of a cluster, which must be one and the same.
    pub(crate) fn ask(&self, cluster: usize, question: &Question) -> Answer {
        let nodes = (0..NODES).filter(|node| cluster_of(*node) == cluster);
        let ask = |node: usize| self.hosts[node].explainer.answer(question);
        let answers: Vec<Answer> = nodes
            .map(|node| ask(node).unwrap_or_else(|error| panic!("{question:?}: {error}")))
            .collect();
        for other in &answers[1..] {
            let facts = |answer: &Answer| {
                let ends = format!("{:?}", answer.ends);
                (answer.verdict.clone(), answer.reason.clone(), ends)
            };
            assert_eq!(facts(&answers[0]), facts(other), "{question:?}");
            assert_eq!(answers[0].backend, other.backend, "{question:?}");
        }
        answers[0].clone()
    }
}

fn forwarder(lane: Lane) -> Forwarder {
    let settings = datapath::Settings {
        mtu: 1420,
        flows: 4_096,
        probe_interval: sim::host::PROBE_INTERVAL,
        probe_count: 3,
        secret: (1, 2),
    };
    Forwarder::new(settings, Share::whole(1), vec![lane])
}
