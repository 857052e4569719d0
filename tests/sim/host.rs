//! A node: the product's world, its workers and the rings between them, and a kernel that gives
//! each packet to a worker, not always to the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use datapath::{Forwarder, Share};
use mesh::{Event, Parsed, Scope, World};
use packet::{Ledger, Now, Offload, Packet, Time, lane_of};
use tunnel::{PrivateKey, PublicKey};

use crate::inspect;
use crate::model::{
    CLUSTER_NAMES, CLUSTERS, Cluster, File, NODES, View, cluster_of, node_name, node_v4, node_v6,
};
use crate::random::Random;
use crate::reference::node_of_prefix;
use crate::rings::Rings;
use crate::witness::Knowledge;
use crate::worker::{Breath, Known, Worker};

pub use crate::worker::PROBE_INTERVAL;

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
    /// What it makes of what a node is given that knows no lanes; `None` where that is the same.
    pub without_lanes: Option<Parsed>,
    /// What its cluster's files say then.
    pub says: Cluster,
}

/// How a node is built.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many workers it has.
    pub workers: u16,
    /// How many lanes it has.
    pub lanes: u16,
    /// Whether it knows only one key of each node, and publishes one: as a foreign WireGuard does.
    pub knows_lanes: bool,
    /// Of a thousand packets so many are given to any worker, by chance.
    pub mis_steered: u64,
}

impl Shape {
    /// One of many; in a calm mesh packets are steered right.
    pub fn draw(random: &mut Random, calm: bool) -> Shape {
        let knows_lanes = !random.percent(12);
        Shape {
            workers: random.pick(&[1, 1, 2, 2, 3, 4, 5]),
            lanes: if knows_lanes {
                random.pick(&[1, 2, 2, 3, 4, 8])
            } else {
                1
            },
            knows_lanes,
            mis_steered: match calm {
                true => 0,
                false => random.pick(&[0, 20, 1_000]),
            },
        }
    }
}

/// One node.
pub struct Host {
    /// Its number.
    pub node: usize,
    /// How it is built.
    pub shape: Shape,
    /// The nodes that it holds to be silent.
    pub silent: BTreeSet<usize>,
    /// How often that has changed.
    pub changes: u64,
    view: View,
    world: World,
    known: Known,
    up: bool,
    workers: Vec<Option<Worker>>,
    rings: Rings,
    secrets: Vec<PrivateKey>,
    keys: Vec<Vec<PublicKey>>,
    mtu: usize,
    versions: BTreeMap<(usize, Option<File>), u64>,
    gone: Gone,
    random: Random,
}

/// What is left of workers that died.
#[derive(Debug, Default)]
struct Gone {
    ledger: Ledger,
    fell_back: u64,
    drops: BTreeMap<&'static str, u64>,
}

impl Host {
    /// A node that is down. `secrets` are the keys of its lanes, `keys` the public ones of all nodes.
    pub fn new(
        node: usize,
        shape: Shape,
        secrets: Vec<PrivateKey>,
        keys: &[Vec<PublicKey>],
        mtu: usize,
        mut random: Random,
    ) -> Host {
        Host {
            node,
            shape,
            silent: BTreeSet::new(),
            changes: 0,
            view: View::default(),
            world: World::new(settings(node, keys)),
            known: Known::default(),
            up: false,
            workers: Vec::new(),
            rings: Rings::new(random.fork()),
            secrets,
            keys: keys.to_vec(),
            mtu,
            versions: BTreeMap::new(),
            gone: Gone::default(),
            random,
        }
    }

    /// Starts with what the files say.
    pub fn start(&mut self, now: Now, files: &[Version]) {
        self.bury_all();
        self.up = true;
        self.rings = Rings::new(self.random.fork());
        self.gone = Gone::default();
        self.world = World::new(settings(self.node, &self.keys));
        self.known = Known::default();
        self.view = View::default();
        self.silent.clear();
        self.versions.clear();
        for worker in 0..self.shape.workers {
            self.start_worker(now, worker);
        }
        for version in files {
            self.take(version);
        }
        assert!(self.world.is_complete(), "a first start without a file");
        self.world.apply(Event::Loaded);
        self.compile(now);
    }

    /// Starts a worker that has died, with nothing but what control knows.
    pub fn start_worker(&mut self, now: Now, worker: u16) {
        let share = Share {
            own: worker,
            workers: self.shape.workers,
            lanes: self.shape.lanes,
        };
        let random = self.random.fork();
        let mut new = Worker::new(now, (self.node, share), &self.secrets, self.mtu, random);
        if self.known.snapshot.is_some() {
            new.tell(now.time, self.known.clone());
        }
        let place = usize::from(worker);
        if self.workers.len() <= place {
            self.workers.resize_with(place + 1, || None);
        }
        self.workers[place] = Some(new);
    }

    /// The workers that are dead while the node is not.
    pub fn dead_workers(&self) -> Vec<u16> {
        let workers = (0u16..).zip(&self.workers);
        let dead = workers.filter(|(_, worker)| worker.is_none());
        dead.map(|(number, _)| number).collect()
    }

    /// Dies.
    pub fn stop(&mut self) {
        self.bury_all();
        self.up = false;
    }

    fn bury_all(&mut self) {
        for worker in 0..self.workers.len() as u16 {
            self.stop_worker(worker);
        }
        self.workers.clear();
    }

    /// A worker dies with all that it holds, other workers' buffers too.
    pub fn stop_worker(&mut self, worker: u16) {
        if let Some(mut dead) = self.workers[usize::from(worker)].take() {
            self.gone.ledger += dead.ledger();
            self.gone.fell_back += dead.forwarder.fell_back();
            for (reason, segments) in dead.drops() {
                *self.gone.drops.entry(reason).or_default() += segments;
            }
            if self.random.percent(50) {
                self.rings.clear(worker);
            }
        }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether every worker lives and judges by what control knows.
    pub fn is_up_to_date(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.all(|worker| worker.as_ref().is_some_and(Worker::is_up_to_date))
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
        let without_lanes = version.without_lanes.as_ref();
        let without_lanes = without_lanes.filter(|_| !self.shape.knows_lanes);
        self.world.apply(Event::File {
            cluster: version.cluster as u8 + 1,
            file: format!("{:?}.yaml", version.file),
            parsed: without_lanes.unwrap_or(&version.parsed).clone(),
            hash: version.number.to_string(),
        });
        true
    }

    fn compile(&mut self, now: Now) {
        let compiled = self.world.compile();
        let epoch = self.known.snapshot.as_ref().map(|s| s.epoch);
        if epoch == Some(compiled.snapshot.epoch) {
            return;
        }
        self.known = Known {
            snapshot: Some(compiled.snapshot.clone()),
            view: self.view.clone(),
            silent: self.silent.clone(),
        };
        for worker in self.workers.iter_mut().flatten() {
            worker.tell(now.time, self.known.clone());
        }
    }

    /// What one of its workers knows now; what control knows, if it is dead.
    pub fn knowledge(&self, now: Time, worker: u16) -> Knowledge<'_> {
        let alive = self.workers.get(usize::from(worker));
        let alive = alive.and_then(Option::as_ref);
        alive
            .map(|worker| worker.knowledge(now))
            .unwrap_or(Knowledge {
                now,
                born: now,
                node: self.node,
                worker,
                view: &self.view,
                silent: &self.silent,
            })
    }

    /// A packet comes by a TUN: the kernel says whose.
    pub fn push_frame(&mut self, now: Time, packet: Vec<u8>) {
        let right = self.right_worker(&packet);
        let chance = self.random.permille(self.shape.mis_steered);
        let worker = match right {
            Some(right) if !chance => right,
            _ => self.random.below(self.shape.workers.into()) as u16,
        };
        if let Some(Some(worker)) = self.workers.get_mut(usize::from(worker)) {
            worker.push_frame(now, packet);
        }
    }

    /// By the host's map: the source, or from elsewhere the destination.
    fn right_worker(&self, packet: &[u8]) -> Option<u16> {
        let (source, destination) = inspect::ends(packet)?;
        let own = [node_v4(self.node), node_v6(self.node)];
        let here =
            |address: &IpAddr| own.contains(address) || node_of_prefix(*address) == Some(self.node);
        let local = [source, destination].into_iter().find(here)?;
        Some(lane_of(local.into(), self.shape.lanes) % self.shape.workers)
    }

    /// A datagram comes by the socket of a lane.
    pub fn push_datagram(&mut self, now: Time, lane: u16, from: SocketAddr, bytes: Vec<u8>) {
        let worker = usize::from(lane % self.shape.workers);
        if let Some(Some(worker)) = self.workers.get_mut(worker) {
            worker.push_datagram(now, lane, from, bytes);
        }
    }

    /// It has been taken over: it seals for `to` what it should not, by any of its lanes.
    pub fn forge(&mut self, now: Now, to: usize, bytes: &[u8]) {
        let number = self.random.below(self.shape.lanes.into()) as u16;
        let theirs = self.random.index(self.keys[to].len());
        let worker = usize::from(number % self.shape.workers);
        let Some(Some(worker)) = self.workers.get_mut(worker) else {
            return;
        };
        let out = &mut worker.out.tunnel;
        let lane = worker.forwarder.lane_mut(number).expect("a lane");
        let Some(mut buf) = out.arena.take() else {
            return;
        };
        buf.extend(bytes);
        match (
            lane.peer(&self.keys[to][theirs]),
            Packet::parse(buf, Offload::default()),
        ) {
            // What waited might go by lane 0 after all, and so to where it is addressed.
            (Some(peer), Ok(packet)) if lane.is_live(now, peer) => {
                out.ledger.received += 1;
                lane.seal(now, peer, packet, out);
                worker.wake = Some(now.time);
            }
            (_, Ok(packet)) => out.arena.put(packet.into_buf()),
            (_, Err((buf, _))) => out.arena.put(buf),
        }
    }

    /// When its next worker breathes.
    pub fn due(&self) -> Option<Time> {
        let workers = (0u16..).zip(&self.workers);
        workers.filter_map(|(number, _)| self.due_of(number)).min()
    }

    fn due_of(&self, worker: u16) -> Option<Time> {
        let alive = self.workers.get(usize::from(worker))?.as_ref()?;
        let rings = self.rings.due(worker);
        alive.due().into_iter().chain(rings).min()
    }

    /// A breath of every worker that is due. `sends` is told of each packet before it is judged.
    pub fn breathe(
        &mut self,
        now: Now,
        sends: &mut dyn FnMut(Knowledge<'_>, &[u8]),
    ) -> Vec<(u16, Breath)> {
        let mut breaths = Vec::new();
        for number in 0..self.workers.len() as u16 {
            if self.due_of(number).is_none_or(|due| due > now.time) {
                continue;
            }
            if let Some(worker) = &mut self.workers[usize::from(number)] {
                let breath = worker.breathe(now, &mut self.rings, sends);
                breaths.push((number, breath));
            }
        }
        self.balance();
        self.count_buffers();
        self.hear(now);
        breaths
    }

    /// What crossed out has crossed in, is in a ring, or was lost with its end.
    fn balance(&mut self) {
        let ledger = self.ledger();
        assert_eq!(
            ledger.crossed_out,
            ledger.crossed_in + self.rings.segments() + self.rings.lost,
            "{}: {ledger:?}",
            node_name(self.node)
        );
    }

    /// Its books, of all workers that it had since it was started.
    fn ledger(&mut self) -> Ledger {
        let mut sum = self.gone.ledger;
        for worker in self.workers.iter_mut().flatten() {
            sum += worker.ledger();
        }
        sum
    }

    /// Between two breaths only what waits for a handshake or in a ring holds a buffer, whosever.
    fn count_buffers(&mut self) {
        let (mut lent, mut held) = (0, self.rings.buffers() as u64);
        for worker in self.workers.iter_mut().flatten() {
            // What died with another worker is made anew.
            worker.out.tunnel.arena.mend();
            lent += worker.out.tunnel.arena.lent() as u64;
            held += worker.forwarder.queued();
        }
        assert!(lent <= held, "{lent} buffers are out, {held} are held");
    }

    /// What was dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut sum = self.gone.drops.clone();
        for worker in self.workers.iter().flatten() {
            for (reason, segments) in worker.drops() {
                *sum.entry(reason).or_default() += segments;
            }
        }
        sum
    }

    /// Segments that crossed, and that fell back to lane 0.
    pub fn crossed(&mut self) -> (u64, u64) {
        let workers = self.workers.iter().flatten();
        let fell_back = workers
            .map(|worker| worker.forwarder.fell_back())
            .sum::<u64>();
        (self.ledger().crossed_in, fell_back + self.gone.fell_back)
    }

    /// Tells the world who answers, as control does.
    fn hear(&mut self, now: Now) {
        let workers = self.workers.iter_mut().flatten();
        let changes: Vec<_> = workers
            .flat_map(|worker| Forwarder::take_health_changes(&mut worker.forwarder))
            .collect();
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

/// What a node is told of itself and the clusters.
pub fn settings(node: usize, keys: &[Vec<PublicKey>]) -> mesh::Settings {
    let cluster = cluster_of(node);
    let others = (0..CLUSTERS).filter(|other| *other != cluster);
    mesh::Settings {
        cluster: CLUSTER_NAMES[cluster].into(),
        id: cluster as u8 + 1,
        node: node_name(node),
        clusters: others.map(scope).collect(),
        keys: keys[node].clone(),
        audit: false,
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
