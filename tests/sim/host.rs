//! A node: the product's world and forwarder, fed as the node feeds them, and the books that must
//! balance after each breath.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use datapath::{Forwarder, Outbox, Share};
use mesh::{Event, Parsed, Scope, World};
use packet::{Coalescer, Datagrams, Frame, Header, Now, Offload, Packet, Segmenter, Time};
use tunnel::{Lane, PrivateKey, PublicKey};

use crate::model::{
    CLUSTER_NAMES, CLUSTERS, Cluster, File, NODES, View, cluster_of, node_name, node_v4, node_v6,
};
use crate::random::Random;
use crate::witness::Knowledge;

/// Buffers of a node.
const BUFFERS: usize = 96;
/// Flows that its table holds.
const FLOWS: usize = 4_096;
/// How often it probes the others; three unanswered probes make one silent.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const PROBE_COUNT: u32 = 3;

/// A version of a manifest file, read once for all.
#[derive(Clone, Debug)]
pub struct Version {
    /// Of which cluster, 0 or 1.
    pub cluster: usize,
    /// Which file; `None` for the one with the nodes.
    pub file: Option<File>,
    /// Rises with each version of the file.
    pub number: u64,
    /// What the codec makes of it.
    pub parsed: Parsed,
    /// What its cluster's files say then.
    pub says: Cluster,
}

/// What a breath gave out.
#[derive(Debug, Default)]
pub struct Breath {
    /// Datagrams, with where they go.
    pub wire: Vec<(SocketAddr, Vec<u8>)>,
    /// Packets for the pods, or for the world, cut as the kernel cuts them.
    pub pods: Vec<Vec<u8>>,
}

/// One node.
pub struct Host {
    /// Its number.
    pub node: usize,
    /// What it has read, in the simulator's words.
    pub view: View,
    /// The nodes that it holds to be silent.
    pub silent: BTreeSet<usize>,
    /// How often that has changed.
    pub changes: u64,
    /// When it breathes next because something has come.
    pub wake: Option<Time>,
    born: Time,
    world: World,
    forwarder: Option<Forwarder>,
    out: Outbox,
    key: PrivateKey,
    keys: Vec<PublicKey>,
    mtu: usize,
    frames: Vec<Vec<u8>>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    versions: BTreeMap<(usize, Option<File>), u64>,
    coalescer: Coalescer,
    random: Random,
}

impl Host {
    /// A node that is down. `keys` are the public keys of all nodes.
    pub fn new(
        node: usize,
        key: PrivateKey,
        keys: &[PublicKey],
        mtu: usize,
        random: Random,
    ) -> Host {
        Host {
            node,
            view: View::default(),
            silent: BTreeSet::new(),
            changes: 0,
            wake: None,
            born: Time::ZERO,
            world: World::new(settings(node, keys)),
            forwarder: None,
            out: outbox(),
            key,
            keys: keys.to_vec(),
            mtu,
            frames: Vec::new(),
            datagrams: Vec::new(),
            versions: BTreeMap::new(),
            coalescer: Coalescer::new(4),
            random,
        }
    }

    /// Starts with what the files say.
    pub fn start(&mut self, now: Now, files: &[Version]) {
        let lane = Lane::new(0, self.key.clone(), self.random.bytes());
        let settings = datapath::Settings {
            mtu: self.mtu,
            flows: FLOWS,
            probe_interval: PROBE_INTERVAL,
            probe_count: PROBE_COUNT,
            secret: (self.random.below(u64::MAX), self.random.below(u64::MAX)),
        };
        self.world = World::new(self::settings(self.node, &self.keys));
        self.out = outbox();
        self.forwarder = Some(Forwarder::new(settings, Share::whole(1), vec![lane]));
        self.view = View::default();
        self.born = now.time;
        self.silent.clear();
        self.versions.clear();
        self.frames.clear();
        self.datagrams.clear();
        for version in files {
            self.take(version);
        }
        assert!(self.world.is_complete(), "a first start without a file");
        self.world.apply(Event::Loaded);
        self.compile(now);
    }

    /// Dies.
    pub fn stop(&mut self) {
        self.forwarder = None;
        self.frames.clear();
        self.datagrams.clear();
        self.wake = None;
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.forwarder.is_some()
    }

    /// Reads a version of a file, if it is news.
    pub fn read(&mut self, now: Now, version: &Version) {
        if self.is_up() && self.take(version) {
            self.compile(now);
        }
    }

    fn take(&mut self, version: &Version) -> bool {
        let key = (version.cluster, version.file);
        let newest = self.versions.entry(key).or_default();
        if *newest >= version.number {
            return false;
        }
        *newest = version.number;
        if let (Some(file), true) = (version.file, version.parsed.problems.is_empty()) {
            self.view.read(version.cluster, file, &version.says);
        }
        self.world.apply(Event::File {
            cluster: version.cluster as u8 + 1,
            file: format!("{:?}.yaml", version.file),
            parsed: version.parsed.clone(),
            hash: version.number.to_string(),
        });
        true
    }

    fn compile(&mut self, now: Now) {
        let compiled = self.world.compile();
        let Some(forwarder) = &mut self.forwarder else {
            return;
        };
        if compiled.snapshot.epoch != forwarder.epoch() {
            drop(forwarder.adopt(now, compiled.snapshot.clone(), &mut self.out));
            self.wake = Some(now.time);
        }
    }

    /// What it knows now.
    pub fn knowledge(&self, now: Time) -> Knowledge<'_> {
        Knowledge {
            now,
            born: self.born,
            node: self.node,
            view: &self.view,
            silent: &self.silent,
        }
    }

    /// A packet comes by the TUN.
    pub fn push_frame(&mut self, now: Time, packet: Vec<u8>) {
        if self.is_up() {
            self.frames.push(packet);
            self.wake_at(now);
        }
    }

    /// A datagram comes by the socket.
    pub fn push_datagram(&mut self, now: Time, from: SocketAddr, bytes: Vec<u8>) {
        if self.is_up() {
            self.datagrams.push((from, bytes));
            self.wake_at(now);
        }
    }

    /// It has been taken over: it seals for `to` what it should not.
    pub fn forge(&mut self, now: Now, to: usize, bytes: &[u8]) {
        let Some(forwarder) = &mut self.forwarder else {
            return;
        };
        let out = &mut self.out.tunnel;
        let lane = forwarder.lane_mut(0).expect("a lane");
        let mut buf = out.arena.take().expect("a node ran out of buffers");
        buf.extend(bytes);
        match (
            lane.peer(&self.keys[to]),
            Packet::parse(buf, Offload::default()),
        ) {
            (Some(peer), Ok(packet)) => {
                out.ledger.received += 1;
                lane.seal(now, peer, packet, out);
                self.wake = Some(now.time);
            }
            (_, Ok(packet)) => out.arena.put(packet.into_buf()),
            (_, Err((buf, _))) => out.arena.put(buf),
        }
    }

    fn wake_at(&mut self, now: Time) {
        if self.wake.is_none() {
            let late = self.random.pick(&[10, 10, 20, 200]);
            self.wake = Some(now + Duration::from_micros(late));
        }
    }

    /// When it breathes next.
    pub fn due(&self) -> Option<Time> {
        let timer = self.forwarder.as_ref()?.poll_timeout();
        self.wake.into_iter().chain(timer).min()
    }

    /// One breath, as a worker's. `sends` is told of each packet before it is judged.
    pub fn breathe(&mut self, now: Now, mut sends: impl FnMut(&Host, &[u8])) -> Breath {
        self.wake = None;
        let frames = core::mem::take(&mut self.frames);
        for frame in &frames {
            sends(self, frame);
        }
        let frames = self.frames_of(&frames);
        let trains = self.trains();
        let mut breath = Breath::default();
        for frame in frames {
            self.with(|forwarder, out| forwarder.handle_frame(now, frame, out));
            self.relieve(now, &mut breath);
        }
        for train in trains {
            self.with(|forwarder, out| forwarder.handle_datagrams(now, train, out));
            self.relieve(now, &mut breath);
        }
        self.with(|forwarder, out| {
            forwarder.flush(now, out);
            if forwarder.poll_timeout().is_some_and(|due| due <= now.time) {
                forwarder.handle_timeout(now, out);
            }
        });
        self.drain(&mut breath);
        self.count_buffers();
        self.hear(now);
        breath
    }

    /// Transmits in the middle of a breath, as a worker does.
    fn relieve(&mut self, now: Now, breath: &mut Breath) {
        if self.out.is_crowded() {
            self.with(|forwarder, out| forwarder.flush(now, out));
            self.drain(breath);
        }
    }

    fn with(&mut self, what: impl FnOnce(&mut Forwarder, &mut Outbox)) {
        if let Some(forwarder) = &mut self.forwarder {
            what(forwarder, &mut self.out);
        }
    }

    /// Packets as a TUN gives them: some made one, as the kernel's GRO does.
    fn frames_of(&mut self, packets: &[Vec<u8>]) -> Vec<Frame> {
        let arena = &mut self.out.tunnel.arena;
        let mut frames = Vec::new();
        let mut whole = Vec::new();
        let coalesce = packets.len() > 1 && self.random.percent(50);
        for packet in packets {
            match Header::parse(packet) {
                Ok(header) if coalesce => {
                    let full = self.coalescer.push(packet, &header, 0, arena, &mut whole);
                    assert!(full.is_ok(), "a node ran out of buffers");
                }
                _ => {
                    let mut buf = arena.take().expect("a node ran out of buffers");
                    buf.extend(packet);
                    let offload = Offload::default();
                    frames.push(Frame { buf, offload });
                }
            }
        }
        self.coalescer.flush(&mut whole);
        frames.extend(whole.into_iter().map(|(_, packet)| Frame {
            offload: *packet.offload(),
            buf: packet.into_buf(),
        }));
        frames
    }

    /// Datagrams as a socket gives them: some of one sender and length in a train, as UDP_GRO does.
    fn trains(&mut self) -> Vec<Datagrams> {
        let gro = self.random.percent(70);
        let arena = &mut self.out.tunnel.arena;
        let mut trains: Vec<Datagrams> = Vec::new();
        let mut open = None;
        for (remote, bytes) in self.datagrams.drain(..) {
            if let (Some((from, length)), Some(train)) = (open, trains.last_mut())
                && gro
                && from == remote
                && bytes.len() <= length
            {
                train.buf.set_stride(length);
                train.buf.extend(&bytes);
                // A shorter one ends it.
                open =
                    (bytes.len() == length && train.buf.len() < 30_000).then_some((from, length));
                continue;
            }
            let mut buf = arena.take().expect("a node ran out of buffers");
            buf.extend(&bytes);
            open = Some((remote, bytes.len()));
            trains.push(Datagrams {
                lane: 0,
                path: remote.into(),
                ecn: 0,
                buf,
            });
        }
        trains
    }

    fn drain(&mut self, breath: &mut Breath) {
        self.balance("before sending");
        while let Some(mut datagrams) = self.out.tunnel.wire.pop() {
            self.out.ledger().sent += datagrams.buf.frames() as u64;
            for frame in datagrams.buf.frames_mut() {
                breath.wire.push((datagrams.path.remote, frame.to_vec()));
            }
            self.out.tunnel.arena.put(datagrams.buf);
        }
        while let Some(packet) = self.out.pods.pop() {
            self.out.ledger().sent += packet.segments() as u64;
            cut(&packet, &mut breath.pods);
            self.out.tunnel.arena.put(packet.into_buf());
        }
        self.balance("after sending");
    }

    /// *received + originated = sent + consumed + queued + Σ drops*, and no buffer is lost.
    fn balance(&mut self, when: &str) {
        let waiting = self.forwarder.as_ref().map_or(0, Forwarder::queued);
        let queued = self.out.queued() + waiting;
        let dropped: u64 = self.out.dropped().map(|(_, segments)| segments).sum();
        let ledger = *self.out.ledger();
        assert_eq!(
            ledger.received + ledger.originated,
            ledger.sent + ledger.consumed + queued + dropped,
            "{}, {when}: {ledger:?}, queued {queued}, dropped {dropped}: {:?}",
            node_name(self.node),
            self.drops(),
        );
    }

    /// Between two breaths only what waits for a handshake holds a buffer.
    fn count_buffers(&self) {
        let waiting = self.forwarder.as_ref().map_or(0, Forwarder::queued);
        let lent = self.out.tunnel.arena.lent() as u64;
        assert!(
            lent <= waiting,
            "{lent} buffers are out, {waiting} packets wait"
        );
    }

    /// What was dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.out.dropped().filter(|(_, n)| *n > 0).collect()
    }

    /// Tells the world who answers, as control does.
    fn hear(&mut self, now: Now) {
        let Some(forwarder) = &mut self.forwarder else {
            return;
        };
        let changes: Vec<_> = forwarder.take_health_changes().collect();
        if changes.is_empty() {
            return;
        }
        for change in changes {
            let node = (0..NODES).find(|n| node_name(*n) == change.node);
            let node = node.expect("a node that exists");
            match change.answering {
                true => self.silent.remove(&node),
                false => self.silent.insert(node),
            };
            self.changes += 1;
            self.world.apply(Event::NodeHealth {
                cluster: change.cluster,
                node: change.node,
                answering: change.answering,
            });
        }
        self.compile(now);
    }
}

fn outbox() -> Outbox {
    Outbox::new(tunnel::Outbox::new(0, BUFFERS, 64), 64)
}

fn cut(packet: &Packet, into: &mut Vec<Vec<u8>>) {
    let mut segmenter = Segmenter::new(packet);
    loop {
        let mut segment = vec![0; segmenter.next_length()];
        match segmenter.next(&mut segment) {
            Some(_) => into.push(segment),
            None => break,
        }
    }
}

fn settings(node: usize, keys: &[PublicKey]) -> mesh::Settings {
    let cluster = cluster_of(node);
    let others = (0..CLUSTERS).filter(|other| *other != cluster);
    mesh::Settings {
        cluster: CLUSTER_NAMES[cluster].into(),
        id: cluster as u8 + 1,
        node: node_name(node),
        clusters: others.map(scope).collect(),
        keys: vec![keys[node]],
    }
}

/// What a cluster may speak of.
fn scope(cluster: usize) -> Scope {
    let number = cluster + 1;
    let mut texts = vec![format!("10.{number}.0.0/16"), format!("fd10:{number}::/32")];
    for node in (0..NODES).filter(|node| cluster_of(*node) == cluster) {
        texts.push(format!("{}/32", node_v4(node)));
        texts.push(format!("{}/128", node_v6(node)));
    }
    Scope {
        name: CLUSTER_NAMES[cluster].into(),
        id: number as u8,
        prefixes: texts
            .iter()
            .map(|text| text.parse().expect("a prefix"))
            .collect(),
    }
}
