//! The whole mesh under virtual time: nodes, links, pods and the world host, and the order in which
//! things happen to them. What is done to it, and what is asked of it, is `script`'s.

use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;

use packet::{Now, Time};
use tunnel::{PrivateKey, PublicKey};

use crate::generate;
use crate::host::{Host, Shape, Version};
use crate::inspect;
use crate::manifest;
use crate::model::{CLUSTERS, FILES, File, NODES, Pod, View, WORLD, node_v4};
use crate::pod::{MARKER, Stack};
use crate::probe::Ask;
use crate::random::Random;
use crate::wires::{Flight, Wires, is_wireguard};
use crate::witness::Witness;

/// When the mesh was born, in nanoseconds since 1970.
const BIRTH: u64 = 1_700_000_000_000_000_000;
/// From a node to the world host, one way.
const TO_WORLD: Duration = Duration::from_millis(3);
/// Bytes of a datagram that no pod's packet can use: IPv4, UDP, WireGuard, and padding to 16.
const OVERHEAD: usize = 80;
/// A change of a file is read everywhere within a second.
pub const READ_WITHIN: Duration = Duration::from_millis(1_000);
/// What hostile packets carry, and nobody may get.
pub const HOSTILE: &[u8; 16] = b"FARLANE-HOSTILE!";
/// What packets carry that are a pod's own, but mutilated: some may be let through, and end there.
pub const FUZZED: &[u8; 16] = b"FARLANE-FUZZED-!";

/// Something that will happen.
enum Event {
    Datagram(Flight),
    /// A packet between a node and the world host; `None` is the host.
    Plain(Option<usize>, Vec<u8>),
    Read(usize, Box<Version>),
}

struct Planned(Time, u64, Event);

/// A pod or the world host, and where it is.
pub struct Place {
    /// Its stack.
    pub stack: Stack,
    /// Its node; the world host has none.
    pub node: Option<usize>,
}

/// Everything.
pub struct Sim {
    /// The time.
    pub now: Time,
    /// What the script draws from.
    pub random: Random,
    /// What all manifests say.
    pub truth: View,
    /// The nodes.
    pub hosts: Vec<Host>,
    /// All pods, and the world host, which is the first.
    pub places: Vec<Place>,
    /// The links.
    pub wires: Wires,
    /// Who watches.
    pub witness: Witness,
    /// Who answered, by the number of the question.
    pub answers: BTreeMap<u64, Option<String>>,
    /// The next pod's number.
    pub next_pod: u8,
    /// Bytes of the largest packet that a pod sends.
    pub mtu: usize,
    pub(crate) versions: BTreeMap<(usize, Option<File>), Version>,
    pub(crate) numbers: BTreeMap<(usize, Option<File>), u64>,
    planned: BinaryHeap<Reverse<Planned>>,
    planned_so_far: u64,
    next_question: u64,
    /// Whether every flow that a node had is known to it still, and was allowed all the time.
    pub calm: bool,
    /// Datagrams that nodes have sent.
    pub datagrams: u64,
    /// Whether to print what happens (`SIM_TRACE`).
    trace: bool,
    stacks: u8,
}

impl Sim {
    /// A mesh that has not started.
    pub fn new(seed: u64) -> Sim {
        let mut random = Random::new(seed);
        let truth = generate::view(&mut random.fork());
        // Nothing changes the order of packets in some: there it is looked at.
        let calm = random.percent(20);
        let shapes = (0..NODES).map(|_| Shape::draw(&mut random, calm));
        let shapes: Vec<Shape> = shapes.collect();
        let mut secrets: Vec<Vec<PrivateKey>> = Vec::new();
        for shape in &shapes {
            let lanes = (0..shape.lanes).map(|_| PrivateKey::from_bytes(random.bytes()));
            secrets.push(lanes.collect());
        }
        let keys: Vec<Vec<PublicKey>> = secrets
            .iter()
            .map(|lanes| lanes.iter().map(PrivateKey::public).collect())
            .collect();
        let lanes = keys.iter().map(Vec::len).collect();
        let wires = Wires::new(random.fork(), lanes, calm);
        let mtu = wires.mtu - OVERHEAD;
        let hosts = (0..).zip(&shapes).zip(secrets);
        let hosts = hosts.map(|((node, shape), secrets)| {
            Host::new(node, *shape, secrets, &keys, mtu, random.fork())
        });
        let mut sim = Sim {
            now: Time::from_nanos(1_000_000_000),
            hosts: hosts.collect(),
            places: Vec::new(),
            wires,
            witness: Witness::new(calm),
            answers: BTreeMap::new(),
            next_pod: 1,
            mtu,
            versions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            planned: BinaryHeap::new(),
            planned_so_far: 0,
            next_question: 0,
            calm: true,
            datagrams: 0,
            stacks: 0,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            random,
            truth: View::default(),
        };
        sim.add_place("world", &WORLD, None);
        for (_, pod) in truth.pods() {
            sim.add_pod(pod);
        }
        sim.truth = truth;
        for cluster in 0..CLUSTERS {
            let lanes: Vec<bool> = shapes.iter().map(|shape| shape.knows_lanes).collect();
            let text = manifest::nodes(cluster, &keys, &lanes);
            let without_lanes = manifest::nodes(cluster, &keys, &[false; NODES]);
            sim.write_for(cluster, None, &text, Some(&without_lanes));
            for file in FILES {
                let text = manifest::text(&sim.truth.clusters[cluster], file);
                sim.write(cluster, Some(file), &text);
            }
        }
        for node in 0..NODES {
            sim.start(node);
        }
        sim
    }

    /// The clocks.
    pub fn clocks(&self) -> Now {
        Now {
            time: self.now,
            unix_ns: BIRTH + self.now.as_nanos(),
        }
    }

    /// Starts a node, with the files as they are.
    pub fn start(&mut self, node: usize) {
        let files: Vec<Version> = self.versions.values().cloned().collect();
        let now = self.clocks();
        self.hosts[node].start(now, &files);
    }

    /// Starts a worker of a node that is up.
    pub fn start_worker(&mut self, node: usize, worker: u16) {
        let now = self.clocks();
        self.hosts[node].start_worker(now, worker);
    }

    /// Puts a pod where it belongs.
    pub fn add_pod(&mut self, pod: &Pod) {
        self.add_place(&pod.name, &pod.addresses, Some(pod.node));
        self.next_pod += 1;
    }

    fn add_place(&mut self, name: &str, addresses: &[IpAddr], node: Option<usize>) {
        let seed = self.random.below(u64::MAX);
        let stack = Stack::new(name, addresses, self.mtu, (self.stacks, seed), self.now);
        self.stacks += 1;
        self.places.push(Place { stack, node });
    }

    /// Writes a file. If it parses, it is what counts from now on; every node reads it within
    /// [`READ_WITHIN`].
    pub fn write(&mut self, cluster: usize, file: Option<File>, text: &str) {
        self.write_for(cluster, file, text, None);
    }

    /// The same; nodes that know no lanes are given another text, if there is one.
    fn write_for(
        &mut self,
        cluster: usize,
        file: Option<File>,
        text: &str,
        without_lanes: Option<&str>,
    ) {
        let name = format!("{cluster}/{file:?}.yaml");
        let number = self.numbers.entry((cluster, file)).or_default();
        *number += 1;
        let version = Version {
            cluster,
            file,
            number: *number,
            parsed: mesh::parse(&name, text),
            without_lanes: without_lanes.map(|text| mesh::parse(&name, text)),
            says: self.truth.clusters[cluster].clone(),
        };
        if version.parsed.problems.is_empty() {
            self.versions.insert((cluster, file), version.clone());
        }
        for node in 0..NODES {
            let late = self.random.between(1, READ_WITHIN.as_micros() as u64 - 1);
            let event = Event::Read(node, Box::new(version.clone()));
            self.plan(Duration::from_micros(late), event);
        }
    }

    /// Writes a file as the truth is now.
    pub fn publish(&mut self, cluster: usize, file: File) {
        let text = manifest::text(&self.truth.clusters[cluster], file);
        self.write(cluster, Some(file), &text);
    }

    /// Has somebody ask somebody something; the answer will be in [`Sim::answers`].
    pub fn ask(&mut self, place: usize, ask: Ask) -> u64 {
        self.next_question += 1;
        let stack = &mut self.places[place].stack;
        stack.ask(self.next_question, ask, self.now);
        self.next_question
    }

    /// A packet comes out of a node's TUN that no stack has sent.
    pub fn inject(&mut self, node: usize, packet: Vec<u8>) {
        let now = self.now;
        self.hosts[node].push_frame(now, packet);
    }

    /// Says what happens, to those who want to know.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            let ms = self.now.as_nanos() as f64 / 1e6;
            eprintln!("{ms:12.3} {}", what());
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.happen();
            self.breathe();
            self.poll();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Time> {
        let planned = self.planned.peek().map(|planned| planned.0.0);
        let hosts = self.hosts.iter().filter_map(Host::due);
        let stacks = self.places.iter().filter_map(|place| place.stack.due);
        planned.into_iter().chain(hosts).chain(stacks).min()
    }

    fn plan(&mut self, late: Duration, event: Event) {
        self.plan_at(self.now + late, event);
    }

    fn plan_at(&mut self, at: Time, event: Event) {
        self.planned_so_far += 1;
        self.planned
            .push(Reverse(Planned(at, self.planned_so_far, event)));
    }

    fn happen(&mut self) {
        while let Some(Reverse(Planned(at, ..))) = self.planned.peek()
            && *at <= self.now
        {
            let Some(Reverse(Planned(.., event))) = self.planned.pop() else {
                return;
            };
            let now = self.clocks();
            match event {
                Event::Datagram(flight) => {
                    let (to, lane) = flight.to;
                    self.hosts[to].push_datagram(self.now, lane, flight.from, flight.bytes);
                }
                Event::Plain(Some(node), packet) => self.hosts[node].push_frame(self.now, packet),
                Event::Plain(None, packet) => self.reach(0, None, &packet),
                Event::Read(node, version) => {
                    self.tell(|| format!("{node} reads {} {:?}", version.cluster, version.file));
                    self.hosts[node].read(now, &version);
                }
            }
        }
    }

    fn breathe(&mut self) {
        for node in 0..NODES {
            if self.hosts[node].due().is_none_or(|due| due > self.now) {
                continue;
            }
            let now = self.clocks();
            let before = self.trace.then(|| self.hosts[node].drops());
            let (witness, trace) = (&mut self.witness, self.trace);
            let breaths = self.hosts[node].breathe(now, &mut |knowledge, packet| {
                if let Some(seen) = inspect::read(packet)
                    && !WORLD.contains(&seen.tuple.source.0)
                    && !contains(packet, HOSTILE)
                    && !contains(packet, FUZZED)
                {
                    if trace {
                        eprintln!("{:16} {node} sends {:?} {:?}", "", seen.tuple, seen.kind);
                    }
                    witness.sends(Some(knowledge), &seen);
                }
            });
            if let Some(before) = before.filter(|before| *before != self.hosts[node].drops()) {
                self.tell(|| format!("{node} drops {before:?} -> {:?}", self.hosts[node].drops()));
            }
            for (worker, breath) in breaths {
                for (lane, remote, bytes) in breath.wire {
                    self.send((node, lane), remote, bytes);
                }
                for packet in breath.pods {
                    self.route(node, worker, packet);
                }
            }
        }
    }

    fn send(&mut self, from: (usize, u16), remote: std::net::SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        assert!(is_wireguard(&bytes), "not WireGuard: {bytes:02x?}");
        for secret in [MARKER.as_slice(), HOSTILE, FUZZED, b"farlane probe"] {
            assert!(!contains(&bytes, secret), "plaintext on a link");
        }
        assert_ne!(remote.ip(), node_v4(from.0), "a node sends to itself");
        for flight in self.wires.send(self.now, from, remote, bytes) {
            self.plan_at(flight.at, Event::Datagram(flight));
        }
    }

    /// What a node's kernel does with a packet from a worker's TUN.
    fn route(&mut self, node: usize, worker: u16, packet: Vec<u8>) {
        assert!(
            !contains(&packet, HOSTILE),
            "a hostile packet gets through at node {node}: {:?}",
            inspect::ends(&packet)
        );
        if contains(&packet, FUZZED) {
            return;
        }
        let Some((_, to)) = inspect::ends(&packet) else {
            panic!("no IP packet for the pods: {packet:02x?}");
        };
        let here = |place: &Place| place.node == Some(node) && place.stack.addresses.contains(&to);
        if WORLD.contains(&to) {
            self.plan(TO_WORLD, Event::Plain(None, packet));
        } else if let Some(place) = self.places.iter().position(here) {
            self.reach(place, Some((node, worker)), &packet);
        }
    }

    /// A packet reaches a stack, and must be allowed to.
    fn reach(&mut self, place: usize, worker: Option<(usize, u16)>, packet: &[u8]) {
        let Some(seen) = inspect::read(packet) else {
            panic!("nobody sends such packets: {packet:02x?}");
        };
        self.tell(|| {
            let name = &self.places[place].stack.name;
            format!("{name} gets {:?} {:?}", seen.tuple, seen.kind)
        });
        let at = worker.map(|(node, worker)| self.hosts[node].knowledge(self.now, worker));
        if let Err(why) = self.witness.arrives(at, &seen) {
            let name = &self.places[place].stack.name;
            panic!("{name} gets what it must not: {why}\n{seen:?}");
        }
        self.places[place].stack.receive(packet);
        self.places[place].stack.due = Some(self.now);
    }

    fn poll(&mut self) {
        for place in 0..self.places.len() {
            let at = &mut self.places[place];
            if at.stack.due.is_none_or(|due| due > self.now) {
                continue;
            }
            at.stack.poll(self.now);
            self.answers.extend(at.stack.finished());
            while let Some(packet) = self.places[place].stack.transmitted() {
                self.leave(place, packet);
            }
        }
    }

    /// A stack has sent a packet.
    fn leave(&mut self, place: usize, packet: Vec<u8>) {
        match self.places[place].node {
            // The host's rules know each pod's own interface: its source is its own.
            Some(node) => self.hosts[node].push_frame(self.now, packet),
            None => {
                let Some(seen) = inspect::read(&packet) else {
                    return;
                };
                let to = seen.tuple.destination.0;
                let target = self.places.iter().find(|p| p.stack.addresses.contains(&to));
                if let Some(node) = target.and_then(|place| place.node) {
                    self.witness.sends(None, &seen);
                    self.plan(TO_WORLD, Event::Plain(Some(node), packet));
                }
            }
        }
    }
}

/// Whether `bytes` contain `part`.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
