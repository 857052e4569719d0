//! What is done to a mesh, and what must be true of it after each step.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::fault::Fault;
use crate::hostile;
use crate::model::{NODES, Pod, Protocol, TCP_PORTS, UDP_PORT, cluster_of};
use crate::probe::{Ask, Target};
use crate::reference::{Direction, Owner, Question, allows, backends, owner, service_at};
use crate::sim::{READ_WITHIN, Sim};

/// Every seed lives so long at least.
const LIFE: Duration = Duration::from_secs(61);
/// How long a question waits for its answer.
const PATIENCE_MS: u64 = 3_500;
/// After a change the mesh must know within this time who answers: a handshake that got lost is
/// repeated after 5 s (whitepaper §6.4), a peer that forgot its keys is noticed after 15 s (§6.5),
/// and three probes must be answered in a row.
const CONVERGENCE: Duration = Duration::from_secs(30);
/// Questions after each step.
const QUESTIONS: usize = 40;

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The faults, and how often each.
    pub faults: BTreeMap<&'static str, u64>,
    /// Questions that had an answer, and that had none, as they should.
    pub answered: u64,
    /// See `answered`.
    pub unanswered: u64,
    /// Questions that were asked again, for their first packets were lost.
    pub repeated: u64,
    /// Packets of answers that came through a service.
    pub served: u64,
    /// Packets that came to their own sender through a service.
    pub came_back: u64,
    /// Packets that reached somebody.
    pub arrived: u64,
    /// Packets that were sent and allowed to reach nobody.
    pub denied: u64,
    /// Packets that reached somebody and were seen to be in order.
    pub in_order: u64,
    /// Packets that crossed from worker to worker, and that fell back to lane 0.
    pub crossed: u64,
    /// See `crossed`.
    pub fell_back: u64,
    /// Resets that nodes have made for dead backends.
    pub resets: u64,
    /// Datagrams on links.
    pub datagrams: u64,
    /// Datagrams of the attacker.
    pub attacked: u64,
    /// Datagrams that were too long for a link that had become narrow.
    pub swallowed: u64,
    /// Pieces of packets that were cut for such a link.
    pub in_pieces: u64,
    /// Virtual time, in seconds.
    pub seconds: u64,
    /// What nodes dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Adds another seed's.
    pub fn add(&mut self, other: &Report) {
        for (fault, count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (reason, segments) in &other.drops {
            *self.drops.entry(reason).or_default() += segments;
        }
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.repeated += other.repeated;
        self.served += other.served;
        self.came_back += other.came_back;
        self.arrived += other.arrived;
        self.denied += other.denied;
        self.in_order += other.in_order;
        self.crossed += other.crossed;
        self.fell_back += other.fell_back;
        self.resets += other.resets;
        self.datagrams += other.datagrams;
        self.attacked += other.attacked;
        self.swallowed += other.swallowed;
        self.in_pieces += other.in_pieces;
        self.seconds += other.seconds;
    }
}

/// Who may answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Nobody,
    One(BTreeSet<String>),
    /// If the backend that was chosen may be reached.
    Perhaps(BTreeSet<String>),
}

/// Runs one seed to its end.
///
/// # Panics
/// If anything is not as it must be.
pub fn run(seed: u64) -> Report {
    let mut sim = Sim::new(seed);
    let mut report = Report::default();
    let begin = sim.now;
    settle(&mut sim);
    check(&mut sim, &mut report);
    let steps = sim.random.between(2, 4);
    for _ in 0..steps {
        let fault = Fault::draw(&mut sim.random);
        *report.faults.entry(fault.name()).or_default() += 1;
        sim.tell(|| format!("fault: {}", fault.name()));
        fault.begin(&mut sim);
        disturb(&mut sim);
        if sim.random.percent(60) {
            Fault::heal(&mut sim);
        }
        if sim.wires.loss < 50 {
            settle(&mut sim);
            check(&mut sim, &mut report);
        }
    }
    Fault::heal(&mut sim);
    settle(&mut sim);
    check(&mut sim, &mut report);
    // Some live long enough to change their keys (whitepaper §6.1: after 120 s).
    let life = LIFE * if seed.is_multiple_of(16) { 3 } else { 1 };
    while sim.now.since(begin) < life {
        disturb(&mut sim);
        sim.run(Duration::from_millis(500));
    }
    settle(&mut sim);
    let lived = sim.now.since(begin);
    finish(&mut sim, &mut report, lived);
    report
}

fn finish(sim: &mut Sim, report: &mut Report, lived: Duration) {
    report.seconds = lived.as_secs();
    report.arrived = sim.witness.arrived;
    report.denied = sim.witness.denied;
    report.served = sim.witness.balanced.values().sum();
    report.resets = sim.witness.resets;
    report.came_back = sim.witness.came_back;
    report.datagrams = sim.datagrams;
    report.attacked = sim.wires.attacked;
    report.swallowed = sim.wires.swallowed;
    report.in_pieces = sim.witness.in_pieces;
    report.in_order = sim.witness.in_order;
    for host in &mut sim.hosts {
        let (crossed, fell_back) = host.crossed();
        report.crossed += crossed;
        report.fell_back += fell_back;
        for (reason, segments) in host.drops() {
            *report.drops.entry(reason).or_default() += segments;
        }
    }
}

/// Traffic while nobody knows yet what is true: only the witness looks. Some of it goes on for long,
/// across what comes then.
fn disturb(sim: &mut Sim) {
    for _ in 0..sim.random.between(8, 20) {
        if let Some((place, target)) = question(sim) {
            let rounds = sim.random.pick(&[1, 1, 3, 30]);
            let ask = Ask {
                target,
                rounds,
                bytes: bytes(sim, target.protocol),
                patience_ms: 1_500 + 700 * u64::from(rounds),
            };
            sim.ask(place, ask);
        }
        if sim.random.percent(40) {
            hostile::act(sim);
        }
        let pause = sim.random.between(0, 200);
        sim.run(Duration::from_millis(pause));
    }
}

/// How much is asked at once: more than a packet holds only of those who cut it.
fn bytes(sim: &mut Sim, protocol: Protocol) -> usize {
    let most = match protocol {
        Protocol::Tcp => 3_500,
        Protocol::Udp => 1_100,
        _ => 400,
    };
    match sim.random.percent(60) {
        true => 0,
        false => sim.random.between(30, most) as usize,
    }
}

/// Lets everybody learn what is true.
///
/// # Panics
/// If they do not within [`CONVERGENCE`].
fn settle(sim: &mut Sim) {
    sim.run(READ_WITHIN + Duration::from_millis(10));
    let begin = sim.now;
    while !settled(sim) {
        let waited = sim.now.since(begin);
        assert!(
            waited < CONVERGENCE,
            "after {waited:?} nodes hold to be silent: {:?}; true is {:?}",
            sim.hosts.iter().map(|h| &h.silent).collect::<Vec<_>>(),
            (0..NODES).map(|n| silent(sim, n)).collect::<Vec<_>>(),
        );
        sim.run(Duration::from_millis(250));
    }
    // A breath for all that nodes have to say about it.
    sim.run(Duration::from_millis(10));
    nobody_talks_with_the_dead(sim);
}

/// Who has an open connection through a service, has one with a backend that may live.
///
/// # Panics
/// If not.
fn nobody_talks_with_the_dead(sim: &Sim) {
    let clients = sim.places.iter().filter(|_| sim.calm);
    for client in clients {
        let Some(node) = client.node.filter(|node| sim.hosts[*node].is_up()) else {
            continue;
        };
        let at = sim.hosts[node].knowledge(sim.now, 0);
        for flow in client.stack.talks() {
            let name = &client.stack.name;
            assert!(
                !sim.witness.is_bereft(&at, flow),
                "{name} hangs: {flow:?} goes to the dead"
            );
        }
    }
}

fn settled(sim: &Sim) -> bool {
    let up = sim.hosts.iter().filter(|host| host.is_up());
    up.into_iter()
        .all(|host| host.silent == silent(sim, host.node) && host.is_up_to_date())
}

/// The nodes that a node cannot reach.
fn silent(sim: &Sim, from: usize) -> BTreeSet<usize> {
    let reaches = |to: usize| sim.hosts[to].is_up() && sim.wires.connected(from, to);
    (0..NODES).filter(|to| !reaches(*to)).collect()
}

/// Asks many questions, and expects the answers that the reference expects.
fn check(sim: &mut Sim, report: &mut Report) {
    for attempt in 0.. {
        let changes = |sim: &Sim| -> Vec<u64> { sim.hosts.iter().map(|h| h.changes).collect() };
        let before = changes(sim);
        let wrong = round(sim, report);
        if wrong.is_empty() {
            return;
        }
        // Three probes in a row may be lost by chance; that is no mistake, but may not go on.
        assert!(
            changes(sim) != before && attempt < 5,
            "{}",
            wrong.join("\n")
        );
        settle(sim);
    }
}

fn round(sim: &mut Sim, report: &mut Report) -> Vec<String> {
    let mut questions = Vec::new();
    while questions.len() < QUESTIONS {
        questions.extend(question(sim));
    }
    let mut wrong = ask(sim, report, questions);
    // Not every stack gets over the loss of the packets that open a connection; and what runs while
    // a link becomes narrow is stuck until that is found out.
    for _ in 0..2 {
        let silent = wrong.iter().all(|wrong| wrong.answer.is_none());
        let loses = sim.wires.loss > 0 || !sim.wires.narrow.is_empty();
        if loses && silent && !wrong.is_empty() {
            report.repeated += wrong.len() as u64;
            let again = wrong.iter().map(|wrong| wrong.question).collect();
            wrong = ask(sim, report, again);
        }
    }
    wrong.iter().map(|wrong| wrong.text.clone()).collect()
}

/// A question that was not answered as expected.
struct Wrong {
    question: (usize, Target),
    answer: Option<String>,
    text: String,
}

fn ask(sim: &mut Sim, report: &mut Report, questions: Vec<(usize, Target)>) -> Vec<Wrong> {
    let mut asked = Vec::new();
    for (place, target) in questions {
        let ask = Ask {
            target,
            rounds: 1,
            bytes: bytes(sim, target.protocol),
            patience_ms: PATIENCE_MS,
        };
        asked.push((sim.ask(place, ask), (place, target)));
        let pause = sim.random.between(0, 60);
        sim.run(Duration::from_millis(pause));
    }
    sim.run(Duration::from_millis(PATIENCE_MS + 50));
    let mut wrong = Vec::new();
    for (number, question) in asked {
        let (place, target) = question;
        let answer = sim.answers.remove(&number).flatten();
        let expected = expected(sim, place, target);
        let right = match (&expected, &answer) {
            (Expected::Nobody | Expected::Perhaps(_), None) => true,
            (Expected::One(names) | Expected::Perhaps(names), Some(name)) => names.contains(name),
            _ => false,
        };
        match &answer {
            Some(_) => report.answered += 1,
            None => report.unanswered += 1,
        }
        if !right {
            let from = &sim.places[place].stack.name;
            let text =
                format!("{from} asks {target:?}: {answer:?} answers, expected is {expected:?}");
            wrong.push(Wrong {
                question,
                answer,
                text,
            });
        }
    }
    wrong
}

/// A question: who asks, and whom.
fn question(sim: &mut Sim) -> Option<(usize, Target)> {
    let place = sim.random.index(sim.places.len());
    let protocol = sim
        .random
        .pick(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Icmp]);
    let v4 = sim.random.percent(50);
    let node = sim.places[place].node;
    let target = match (node, sim.random.below(10)) {
        (Some(node), 0..=3) => service_target(sim, node),
        _ => {
            let other = sim.random.index(sim.places.len());
            if other == place {
                return None;
            }
            Target {
                protocol,
                address: sim.places[other].stack.address(v4)?,
                port: match protocol {
                    Protocol::Tcp => sim.random.pick(&TCP_PORTS),
                    Protocol::Udp => UDP_PORT,
                    _ => 0,
                },
            }
        }
    };
    let own = sim.places[place].stack.address(target.address.is_ipv4());
    own.map(|_| (place, target))
}

fn service_target(sim: &mut Sim, node: usize) -> Target {
    let services = sim.truth.clusters[cluster_of(node)].services.clone();
    if services.is_empty() {
        return Target {
            protocol: Protocol::Udp,
            // Nobody's.
            address: [10, 1, 0, 250].into(),
            port: UDP_PORT,
        };
    }
    let service = &services[sim.random.index(services.len())];
    let port = service.ports[sim.random.index(service.ports.len())];
    Target {
        protocol: port.protocol,
        address: sim.random.pick(&service.addresses),
        port: if sim.random.percent(3) {
            9_999
        } else {
            port.port
        },
    }
}

fn expected(sim: &Sim, place: usize, target: Target) -> Expected {
    let client = &sim.places[place];
    let cluster = client.node.map_or(0, cluster_of);
    let truth = &sim.truth;
    let service = &truth.clusters[cluster].services;
    let is_service = client.node.is_some()
        && service
            .iter()
            .any(|s| s.addresses.contains(&target.address));
    if !is_service {
        return match reached(sim, place, target.protocol, (target.address, target.port)) {
            Some(name) => Expected::One(BTreeSet::from([name])),
            None => Expected::Nobody,
        };
    }
    let node = client.node.expect("a client of services is a pod");
    let found = service_at(truth, cluster, target.address, target.port, target.protocol);
    let Some((service, port)) = found else {
        return Expected::Nobody;
    };
    let silent = silent(sim, node);
    let v4 = target.address.is_ipv4();
    let backends = backends(truth, node, &silent, service, port, v4);
    let names: Vec<Option<String>> = backends
        .iter()
        .map(|backend| reached(sim, place, target.protocol, *backend))
        .collect();
    let known: BTreeSet<String> = names.iter().flatten().cloned().collect();
    match (known.is_empty(), names.iter().all(Option::is_some)) {
        (true, _) => Expected::Nobody,
        (false, true) => Expected::One(known),
        (false, false) => Expected::Perhaps(known),
    }
}

/// Who answers at an address, if the client may and can reach it.
fn reached(
    sim: &Sim,
    place: usize,
    protocol: Protocol,
    (address, port): (IpAddr, u16),
) -> Option<String> {
    let client = &sim.places[place];
    let source = client.stack.address(address.is_ipv4())?;
    let answers = |name: &str| match protocol {
        Protocol::Icmp => Some("echo".to_string()),
        Protocol::Tcp => TCP_PORTS.contains(&port).then(|| name.to_string()),
        _ => (port == UDP_PORT).then(|| name.to_string()),
    };
    let question = |direction| Question {
        direction,
        source,
        destination: address,
        protocol,
        port,
    };
    let out = client.node.is_none_or(|node| {
        sim.hosts[node].is_up() && allows(&sim.truth, node, &question(Direction::Egress))
    });
    match owner(&sim.truth, address) {
        Owner::World if out => answers("world"),
        Owner::Pod(pod) if out && carried(sim, client.node, pod) => {
            allows(&sim.truth, pod.node, &question(Direction::Ingress))
                .then(|| answers(&pod.name))?
        }
        _ => None,
    }
}

fn carried(sim: &Sim, from: Option<usize>, to: &Pod) -> bool {
    let up = |node: usize| sim.hosts[node].is_up();
    match from {
        Some(from) => up(from) && up(to.node) && sim.wires.connected(from, to.node),
        None => up(to.node),
    }
}
