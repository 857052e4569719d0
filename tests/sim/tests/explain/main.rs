//! What `farlane explain` says of a new flow is what becomes of its first packet: random worlds,
//! random questions, and a real packet for each, through the forwarders of all nodes.
//!
//! Every node of the source's cluster is asked, and one of the other cluster about what is left to
//! it; nobody may deny what arrives, somebody must deny what does not, and for the very reason under
//! which a node has counted it.

mod nodes;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use farlane::explain::{Answer, Question};
use packet::{Flow, Header, Kind};
use sim::generate;
use sim::model::{
    CLUSTER_NAMES, CLUSTERS, NODES, Pod, Protocol, View, WORLD, cluster_of, node_v4, node_v6,
    pod_v4, pod_v6,
};
use sim::random::Random;
use sim::reference::node_of_prefix;

use nodes::Mesh;

const WORLDS: u64 = 120;
const QUESTIONS: u32 = 60;
/// The port that `explain` takes a client to use: the backend depends on it.
const CLIENT_PORT: u16 = 32_768;

/// What holds of every answer.
fn check_form(answer: &Answer) {
    let ends = [&answer.ends.egress, &answer.ends.ingress];
    let words = [&answer.egress, &answer.ingress];
    let denies = words.contains(&&String::from("deny"));
    assert_eq!(denies, answer.verdict == "deny", "{answer:#?}");
    assert_eq!(denies, answer.reason.is_some(), "{answer:#?}");
    let rules = ends.iter().flat_map(|end| &end.rules);
    let rules: Vec<&String> = rules.map(|matched| &matched.rule).collect();
    assert_eq!(rules, answer.rules.iter().collect::<Vec<_>>());
    for end in ends {
        assert!(!end.why.is_empty(), "{answer:#?}");
        let decides = end.rules.iter().filter(|matched| matched.decides).count();
        assert!(decides <= 1, "{answer:#?}");
        // NetworkPolicy knows no deny: whatever is isolated is allowed or denied by some rule.
        let by_rule = end.isolated == Some(true) || !end.rules.is_empty();
        assert_eq!(by_rule, decides == 1, "{answer:#?}");
    }
    for line in answer.render().lines() {
        let long = line.split(' ').any(|word| word.chars().count() > 58);
        assert!(long || line.chars().count() <= 80, "{line}");
    }
}

/// One end of a question.
#[derive(Clone, Copy, Debug)]
enum End<'v> {
    Pod(&'v Pod),
    Node(usize),
    World,
    /// Within the pods of a node, and nobody's.
    Nobody(usize),
    /// A service of a cluster: its number there, and its port.
    Service(usize, usize),
}

impl End<'_> {
    fn draw<'v>(random: &mut Random, view: &'v View) -> End<'v> {
        let pods: Vec<&Pod> = view.pods().map(|(_, pod)| pod).collect();
        match random.below(16) {
            0 | 1 => End::Node(random.index(NODES)),
            2 => End::World,
            3 => End::Nobody(random.index(NODES)),
            _ => End::Pod(random.pick(&pods)),
        }
    }

    fn address(self, view: &View, v4: bool) -> Option<IpAddr> {
        let family = |address: &&IpAddr| address.is_ipv4() == v4;
        match self {
            End::Pod(pod) => pod.addresses.iter().find(family).copied(),
            End::Node(node) => Some(if v4 { node_v4(node) } else { node_v6(node) }),
            End::World => WORLD.iter().find(family).copied(),
            End::Nobody(node) => Some(match v4 {
                true => pod_v4(node, 200),
                false => pod_v6(node, 200),
            }),
            End::Service(cluster, number) => {
                let service = &view.clusters[cluster].services[number];
                service.addresses.iter().find(family).copied()
            }
        }
    }

    /// The node that it is on, or would be.
    fn node(self) -> Option<usize> {
        match self {
            End::Pod(pod) => Some(pod.node),
            End::Node(node) | End::Nobody(node) => Some(node),
            End::World | End::Service(..) => None,
        }
    }
}

/// A packet of a new flow, and its ports as a receiver reads them.
fn packet(flow: &Flow, protocol: Protocol, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = match (flow.source.to_ip(), flow.destination.to_ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("one family"),
    };
    let (from, to) = (flow.source_port, flow.destination_port);
    let written = match protocol {
        Protocol::Tcp => {
            let tcp = ip.tcp(from, to, 1_000, 65_000).syn();
            tcp.write(&mut bytes, b"")
        }
        Protocol::Udp => ip.udp(from, to).write(&mut bytes, b"question"),
        Protocol::Sctp => sctp(ip, from, to, &mut bytes),
        Protocol::Icmp if flow.source.is_v4() => {
            let echo = ip.icmpv4_echo_request(id, 1);
            echo.write(&mut bytes, b"question")
        }
        Protocol::Icmp => {
            let echo = ip.icmpv6_echo_request(id, 1);
            echo.write(&mut bytes, b"question")
        }
    };
    written.expect("a vector takes it");
    bytes
}

fn sctp(
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    from: u16,
    to: u16,
    bytes: &mut Vec<u8>,
) -> Result<(), etherparse::err::packet::BuildWriteError> {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&from.to_be_bytes());
    header[2..4].copy_from_slice(&to.to_be_bytes());
    ip.write(bytes, IpNumber(132), &header)
}

/// How a cluster is asked about an end.
fn who(end: End<'_>, address: IpAddr, asked: usize, view: &View, by_name: bool) -> String {
    match end {
        End::Pod(pod) if by_name => {
            let (cluster, name) = (
                cluster_of(pod.node),
                format!("{}/{}", pod.namespace, pod.name),
            );
            match cluster == asked {
                true => name,
                false => format!("{}/{name}", CLUSTER_NAMES[cluster]),
            }
        }
        End::Service(cluster, number) if by_name => {
            let service = &view.clusters[cluster].services[number];
            format!("svc:{}/{}", service.namespace, service.name)
        }
        _ => address.to_string(),
    }
}

#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<String, u64>,
    of_services: u64,
    /// Flows of a pod to itself through its own service.
    of_themselves: u64,
    across: u64,
}

/// What belongs to one world.
struct Inquest<'v> {
    view: &'v View,
    mesh: Mesh,
    /// The original destination of each flow that arrived: answers of two to one place, by the same
    /// client port, could not be told apart, and the second is refused.
    taken: HashMap<Flow, Flow>,
    next: u16,
}

impl Inquest<'_> {
    fn question(&mut self, random: &mut Random, tally: &mut Tally) {
        let view = self.view;
        let from = End::draw(random, view);
        let home = from.node().map(cluster_of);
        // Services have their addresses in their own cluster only.
        let near = home.unwrap_or(random.index(CLUSTERS));
        let services = view.clusters[near].services.len();
        let to = match random.percent(35) && services > 0 {
            true => End::Service(near, random.index(services)),
            false => End::draw(random, view),
        };
        let v4 = random.percent(60);
        let (Some(source), Some(destination)) = (from.address(view, v4), to.address(view, v4))
        else {
            return;
        };
        if source == destination {
            return;
        }
        let (protocol, port) = transport(random, matches!(to, End::Service(..)));
        // A name stands for the first address of the family that both ends have.
        let both_v4 = from.address(view, true).is_some() && to.address(view, true).is_some();
        let by_name = random.percent(60) && v4 == both_v4;
        let asked = home.or(to.node().map(cluster_of)).unwrap_or(near);
        let question = Question {
            from: who(from, source, asked, view, by_name),
            to: who(to, destination, asked, view, by_name),
            port,
            protocol: protocol.name().to_owned(),
        };
        let first = self.mesh.ask(asked, &question);
        let backend = first.backend.as_deref().map(|text| {
            let socket: SocketAddr = text.parse().expect("an address and a port");
            (socket.ip(), socket.port())
        });
        let (target, target_port) = backend.unwrap_or((destination, port));
        let rest = Question {
            from: who(from, source, 1 - asked, view, by_name),
            to: target.to_string(),
            port: target_port,
            ..question.clone()
        };
        let second = self.mesh.ask(1 - asked, &rest);
        [&first, &second].into_iter().for_each(check_form);

        self.next += 1;
        let icmp = protocol == Protocol::Icmp;
        let source_port = match (icmp, to) {
            (true, _) => self.next,
            // The backend was chosen for this port.
            (_, End::Service(..)) => CLIENT_PORT,
            _ => CLIENT_PORT + self.next,
        };
        let flow = |destination: IpAddr, port| Flow {
            source: source.into(),
            destination: destination.into(),
            source_port,
            destination_port: if icmp { self.next } else { port },
            protocol: 0,
        };
        let (sent, mut expected) = (flow(destination, port), flow(target, target_port));
        let is_own = target == source;
        if is_own {
            // A host takes nothing from its own address.
            expected.source = destination.into();
        }
        if *self.taken.entry(expected).or_insert(sent) != sent {
            return;
        }
        let denied = [&first, &second].into_iter().find_map(|a| a.reason.clone());
        let before = self.mesh.drops();
        let node = from.node().or(to.node()).unwrap_or(2 * asked);
        self.mesh.send(node, &packet(&sent, protocol, self.next));
        let arrived = self.arrived(&expected, protocol);
        let said = || format!("{question:?}: {first:#?}\n{second:#?}");
        assert_eq!(arrived, denied.is_none(), "{}", said());
        // From the TUN nobody's address is a forged one, and from the world to nobody is not ours,
        // whatever else it would be.
        let nobodys = matches!(
            (from, to),
            (End::Nobody(_), _) | (End::World, End::Nobody(_))
        );
        if let (Some(denied), false) = (&denied, nobodys) {
            let after = self.mesh.drops();
            let dropped = after
                .iter()
                .find(|(reason, count)| before[*reason] < **count);
            let dropped = dropped.map(|(reason, _)| reason.name());
            assert_eq!(dropped, Some(denied.as_str()), "{}", said());
        }
        *tally
            .verdicts
            .entry(if arrived { "allow" } else { "deny" })
            .or_default() += 1;
        *tally.reasons.entry(denied.unwrap_or_default()).or_default() += 1;
        tally.of_services += u64::from(backend.is_some());
        tally.of_themselves += u64::from(is_own);
        let end = node_of_prefix(target).map(cluster_of);
        tally.across += u64::from(home.is_some() && end.is_some() && home != end);
    }

    /// Whether this is what pods or the world were given, and nothing else but errors.
    fn arrived(&mut self, expected: &Flow, protocol: Protocol) -> bool {
        let hosts = self.mesh.hosts.iter_mut();
        let delivered: Vec<Vec<u8>> = hosts
            .flat_map(|h| std::mem::take(&mut h.delivered))
            .collect();
        let mut found = false;
        for bytes in delivered {
            let header = Header::parse(&bytes).expect("a packet");
            if header.kind == Kind::IcmpError {
                continue;
            }
            let flow = Flow {
                protocol: 0,
                ..header.flow
            };
            // A node answers an echo that comes by the tunnel itself.
            let answered = header.kind == Kind::EchoReply && flow == expected.reverse();
            assert!(
                answered || flow == *expected,
                "{protocol:?} {flow:?} {expected:?}"
            );
            assert!(!found, "twice: {flow:?}");
            found = true;
        }
        found
    }
}

fn transport(random: &mut Random, service: bool) -> (Protocol, u16) {
    match (random.below(10), service) {
        (0, _) => (Protocol::Icmp, 0),
        (1, _) => (Protocol::Sctp, random.pick(&[53, 80, 81])),
        (2 | 3, false) => (Protocol::Udp, random.pick(&[53, 53, 80])),
        (_, false) => (Protocol::Tcp, random.pick(&[80, 80, 81, 53])),
        (2 | 3, true) => (Protocol::Udp, 5300),
        (4, true) => (Protocol::Tcp, 81),
        (_, true) => (Protocol::Tcp, 8000),
    }
}

#[test]
fn what_is_said_of_a_flow_becomes_of_its_first_packet() {
    let mut tally = Tally::default();
    for seed in 0..WORLDS {
        let mut random = Random::new(seed);
        let view = generate::view(&mut random);
        let mut inquest = Inquest {
            mesh: Mesh::new(&mut random, &view),
            view: &view,
            taken: HashMap::new(),
            next: 0,
        };
        for _ in 0..QUESTIONS {
            inquest.question(&mut random, &mut tally);
        }
    }
    println!("{:#?} {:#?}", tally.verdicts, tally.reasons);
    assert!(tally.verdicts.values().sum::<u64>() > 4_000);
    assert!(tally.verdicts.values().all(|count| *count > 1_000));
    assert!(tally.of_services > 300 && tally.across > 300);
    assert!(tally.of_themselves > 30, "{}", tally.of_themselves);
    for reason in [
        "egressDenied",
        "ingressDenied",
        "policyRefused",
        "unknownSource",
        "unknownDestination",
        "noBackend",
        "noServicePort",
        "notOurs",
    ] {
        let count = tally.reasons.get(reason).copied().unwrap_or(0);
        assert!(count >= 10, "{reason}: {:#?}", tally.reasons);
    }
}
