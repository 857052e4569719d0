//! The harness of `scripts/fuzz` for this room: two nodes, whose pods and peers send anything,
//! while policies, services and addresses change. `cargo test` replays `__fuzz__/node/corpus` and
//! what once failed, and then tries some random input.

use std::time::Duration;

use bolero::{TypeGenerator, check};
use packet::{
    Address, Checksum, Complaint, Frame, Offload, Packet, Segmentation, SegmentationKind,
    icmp_error,
};
use policy::Direction;

use crate::judged::only;
use crate::world::{SERVICE, SERVICE_PORT, World, echo, pod, tcp};

/// Steps of one run: more would only be slower.
const STEPS_MAX: usize = 40;

#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A pod sends bytes that may not even be a packet, with what a device may say about them.
    Bytes {
        node: bool,
        bytes: Vec<u8>,
        said: Said,
    },
    /// A pod sends TCP.
    Tcp {
        from: Place,
        to: Place,
        ports: (u8, u8),
        flags: u8,
        length: u8,
        size: Option<u8>,
    },
    /// A pod sends an echo.
    Echo {
        from: Place,
        to: Place,
        ttl: u8,
        asks: bool,
    },
    /// The other node sends what it likes.
    Peer {
        bytes: Vec<u8>,
    },
    /// It sends TCP from and to any place.
    PeerTcp {
        from: Place,
        to: Place,
        ports: (u8, u8),
        flags: u8,
    },
    /// Somebody complains about the last packet.
    Complaint {
        from: Place,
        to: Place,
    },
    /// Time passes, in steps of 50 ms.
    Pass(u8),
    /// Backends of the service: node, pod, whether it is healthy.
    Backends(Vec<(bool, u8, bool)>),
    /// Only one pod may speak to another.
    Only {
        subject: (bool, u8),
        allowed: (bool, u8),
        ingress: bool,
    },
    Free,
    Cut(bool),
    Moved(bool),
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Said {
    partial: Option<(u8, u8)>,
    segments: Option<(bool, u16)>,
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Place {
    Pod(bool, u8),
    Service,
    Node(bool),
    World(u8),
    Any([u8; 4]),
}

fn number(second: bool) -> u8 {
    u8::from(second) + 1
}

fn name((node, pod): (bool, u8)) -> String {
    format!("{}-{}", number(node), pod % 5)
}

impl Place {
    fn address(self) -> [u8; 4] {
        match self {
            Place::Pod(node, number_) => pod(number(node), number_ % 6),
            Place::Service => SERVICE,
            Place::Node(node) => [192, 0, 2, number(node)],
            Place::World(last) => [198, 51, 100, last],
            Place::Any(octets) => octets,
        }
    }

    fn port(self, port: u8) -> u16 {
        match self {
            Place::Service => SERVICE_PORT + u16::from(port / 200),
            Place::Pod(..) if port < 128 => 8080,
            _ => 40_000 + u16::from(port),
        }
    }

    /// At which node its packets come in.
    fn node(self) -> u8 {
        match self {
            Place::Pod(node, _) | Place::Node(node) => number(node),
            _ => 1,
        }
    }
}

impl Said {
    fn offload(self) -> Offload {
        let checksum = match self.partial {
            None => Checksum::Complete,
            Some((start, offset)) => Checksum::Partial {
                start: u16::from(start),
                offset: u16::from(offset),
            },
        };
        let segmentation = self.segments.map(|(tcp, size)| Segmentation {
            kind: if tcp {
                SegmentationKind::Tcp
            } else {
                SegmentationKind::Udp
            },
            size,
        });
        Offload {
            checksum,
            segmentation,
        }
    }
}

/// A checksum that a fuzzer does not find by itself.
fn fix_checksum(bytes: &mut [u8]) {
    if bytes.len() >= 20 && bytes[0] == 0x45 {
        bytes[10..12].fill(0);
        let sum = packet::checksum::internet(&bytes[..20]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn flags(bits: u8) -> String {
    let named = [(1, 'S'), (2, 'A'), (4, 'F'), (8, 'R')];
    let has = named.iter().filter(|(bit, _)| bits & bit != 0);
    has.map(|(_, flag)| flag).collect()
}

struct Run {
    world: World,
    last: Vec<u8>,
}

impl Run {
    fn frame(&mut self, node: u8, bytes: &[u8], offload: Offload) {
        let host = &mut self.world.hosts[usize::from(node) - 1];
        let mut buf = host.out.tunnel.arena.take().expect("a buffer");
        buf.extend(bytes);
        let frame = Frame { buf, offload };
        host.forwarder
            .handle_frame(self.world.now, frame, &mut host.out);
        self.world.settle();
    }

    /// The other node sends it, if it can be sent at all.
    fn peer_sends(&mut self, bytes: &[u8]) {
        let mut buf = packet::Arena::new(0, 1).take().expect("a buffer");
        buf.extend(bytes);
        if Packet::parse(buf, Offload::default()).is_ok() {
            self.world.inject_from_peer(1, bytes);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Bytes { node, bytes, said } => {
                let mut bytes = bytes.clone();
                fix_checksum(&mut bytes);
                self.frame(number(*node), &bytes, said.offload());
            }
            Step::Tcp {
                from,
                to,
                ports,
                flags: bits,
                length,
                size,
            } => {
                let payload = vec![7; usize::from(*length) * 8];
                let ends = [(*from, ports.0), (*to, ports.1)];
                let [source, target] =
                    ends.map(|(place, port)| (place.address(), place.port(port)));
                let bytes = tcp(source, target, &flags(*bits), &payload);
                let segments = size.map(|size| (true, u16::from(size)));
                let partial = size.map(|_| (20, 16));
                let said = Said { partial, segments };
                self.frame(from.node(), &bytes, said.offload());
                self.last = bytes;
            }
            Step::Echo {
                from,
                to,
                ttl,
                asks,
            } => {
                let bytes = echo(from.address(), to.address(), *ttl, *asks);
                self.frame(from.node(), &bytes, Offload::default());
                self.last = bytes;
            }
            Step::Peer { bytes } => {
                let mut bytes = bytes.clone();
                fix_checksum(&mut bytes);
                self.peer_sends(&bytes);
            }
            Step::PeerTcp {
                from,
                to,
                ports,
                flags: bits,
            } => {
                let ends = [(*from, ports.0), (*to, ports.1)];
                let [source, target] =
                    ends.map(|(place, port)| (place.address(), place.port(port)));
                self.peer_sends(&tcp(source, target, &flags(*bits), b"peer"));
            }
            Step::Complaint { from, to } => self.complain(*from, *to),
            Step::Pass(steps) => self
                .world
                .pass(Duration::from_millis(50) * u32::from(*steps)),
            _ => self.change(step),
        }
    }

    fn complain(&mut self, from: Place, to: Place) {
        let mut arena = packet::Arena::new(0, 2);
        let mut error = arena.take().expect("a buffer");
        let mut buf = arena.take().expect("a buffer");
        buf.extend(&self.last);
        let Ok(about) = Packet::parse(buf, Offload::default()) else {
            return;
        };
        let by = Address::from_v4(from.address());
        if !icmp_error(&about, Complaint::PortUnreachable, by, &mut error) {
            return;
        }
        if let Ok(mut error) = Packet::parse(error, Offload::default()) {
            error.set_destination(Address::from_v4(to.address()), 0);
            self.frame(from.node(), error.bytes(), Offload::default());
        }
    }

    fn change(&mut self, step: &Step) {
        match step {
            Step::Backends(backends) => {
                let backend =
                    |&(node, pod, healthy): &(bool, u8, bool)| (number(node), pod % 4 + 1, healthy);
                self.world.backends = backends.iter().take(8).map(backend).collect();
            }
            Step::Only {
                subject,
                allowed,
                ingress,
            } => {
                let direction = if *ingress {
                    Direction::Ingress
                } else {
                    Direction::Egress
                };
                let policy = only(&name(*subject), &name(*allowed), direction);
                self.world.policies.push(policy);
            }
            Step::Free => self.world.policies.clear(),
            Step::Cut(cut) => self.world.cut = *cut,
            Step::Moved(moved) => self.world.moved = *moved,
            _ => {}
        }
        self.world.publish();
        self.world.settle();
    }

    /// Nothing is given to a node's host that belongs to the other one's pods, and it is a packet.
    fn check_delivered(&mut self) {
        for node in [1, 2] {
            for bytes in self.world.delivered(node) {
                let header = packet::Header::parse(&bytes).expect("a packet");
                assert!(
                    etherparse::IpSlice::from_slice(&bytes).is_ok()
                        || header.kind == packet::Kind::Unreadable
                );
                let to = header.flow.destination.v4();
                assert!(
                    to.is_none_or(|to| to[..3] != [10, 3 - node, 0]),
                    "{header:?}"
                );
            }
            let host = &self.world.hosts[usize::from(node) - 1];
            let waiting = host.out.queued() + host.forwarder.queued();
            assert!(
                host.out.tunnel.arena.lent() as u64 <= waiting,
                "a buffer is lost"
            );
            assert!(host.forwarder.flows() <= 64);
        }
    }
}

#[test]
fn whatever_pods_and_peers_send_is_counted_and_goes_where_it_may() {
    check!(name = "node")
        .with_type::<Vec<Step>>()
        .with_iterations(100)
        .for_each(|steps| {
            let mut run = Run {
                world: World::new(),
                last: Vec::new(),
            };
            for step in steps.iter().take(STEPS_MAX) {
                run.step(step);
                run.check_delivered();
            }
        });
}
