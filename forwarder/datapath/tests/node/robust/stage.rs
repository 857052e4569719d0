//! Where a packet of the table is sent: from a pod over two nodes, from a pod to another of its own
//! node, and by a peer that seals whatever it likes.

use std::collections::BTreeMap;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use policy::Policy;

use crate::robust::bytes::{ICMP, ICMPV6, Ip, TCP, UDP, icmp, tcp, udp};
use crate::world::{World, pod, pod_v6};

/// How a packet comes from its sender, who is near, to its receiver, who is far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Pod 1-1 to pod 2-1, over both nodes.
    Across,
    /// Pod 1-1 to pod 1-2, over node 1 alone.
    Inside,
    /// What may be pod 2-1 to pod 1-1: sealed by a WireGuard that is not ours and looks at nothing.
    Peer,
}

pub(crate) const WAYS: [Way; 3] = [Way::Across, Way::Inside, Way::Peer];

/// Both ends of a way, in one family.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) way: Way,
    pub(crate) v6: bool,
    pub(crate) near: Vec<u8>,
    pub(crate) far: Vec<u8>,
    /// The labels of the two pods.
    pub(crate) near_name: &'static str,
    pub(crate) far_name: &'static str,
}

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Near,
    Far,
}

impl Ends {
    pub(crate) fn new(way: Way, v6: bool) -> Ends {
        let (near, far) = match way {
            Way::Across => ((1, 1, "1-1"), (2, 1, "2-1")),
            Way::Inside => ((1, 1, "1-1"), (1, 2, "1-2")),
            Way::Peer => ((2, 1, "2-1"), (1, 1, "1-1")),
        };
        let address = |(node, number, _)| match v6 {
            true => pod_v6(node, number).to_vec(),
            false => pod(node, number).to_vec(),
        };
        Ends {
            way,
            v6,
            near: address(near),
            far: address(far),
            near_name: near.2,
            far_name: far.2,
        }
    }

    /// The same, seen from the far end.
    pub(crate) fn reverse(&self) -> Ends {
        Ends {
            near: self.far.clone(),
            far: self.near.clone(),
            near_name: self.far_name,
            far_name: self.near_name,
            ..*self
        }
    }

    /// A datagram from port 5000 to port 53.
    pub(crate) fn udp(&self, payload: &[u8]) -> Ip {
        self.udp_of((5000, 53), payload)
    }

    pub(crate) fn udp_of(&self, ports: (u16, u16), payload: &[u8]) -> Ip {
        Ip::new(self, UDP, udp(ports, payload))
    }

    /// A segment from port 40,000 to port 80.
    pub(crate) fn tcp(&self, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Ip {
        Ip::new(self, TCP, tcp((40_000, 80), numbers, flags, payload))
    }

    /// A segment of the other direction.
    pub(crate) fn tcp_back(&self, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Ip {
        let transport = tcp((80, 40_000), numbers, flags, payload);
        Ip::new(&self.reverse(), TCP, transport)
    }

    pub(crate) fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Ip {
        let protocol = if self.v6 { ICMPV6 } else { ICMP };
        Ip::new(self, protocol, icmp(kind, code, rest, body))
    }

    pub(crate) fn echo(&self, payload: &[u8]) -> Ip {
        self.icmp(if self.v6 { 128 } else { 8 }, 0, [0, 77, 0, 1], payload)
    }

    /// "Port unreachable" from the far end, about what the near end has sent.
    pub(crate) fn unreachable(&self, quoted: &[u8]) -> Ip {
        let (kind, code) = if self.v6 { (1, 4) } else { (3, 3) };
        self.reverse().icmp(kind, code, [0; 4], quoted)
    }

    /// How many routers take the time to live down on this way.
    pub(crate) fn hops(&self) -> u8 {
        if self.way == Way::Across { 2 } else { 1 }
    }

    /// One of two, by whether a peer has sealed the packet.
    pub(crate) fn sealed<T>(&self, by_peer: T, by_pod: T) -> T {
        if self.way == Way::Peer {
            by_peer
        } else {
            by_pod
        }
    }
}

/// What came of one packet.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the other end received.
    pub(crate) arrived: Vec<Vec<u8>>,
    /// What its sender received.
    pub(crate) came_back: Vec<Vec<u8>>,
    /// Segments dropped, by name, on both nodes.
    pub(crate) drops: BTreeMap<&'static str, u64>,
}

/// The nodes, and who is on the wire.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) ends: Ends,
    peer: Option<Tunn>,
    /// What the peer has opened.
    opened: Vec<Vec<u8>>,
}

impl Stage {
    pub(crate) fn new(ends: &Ends, policies: Vec<Policy>) -> Stage {
        let mut world = World::new();
        world.policies = policies;
        world.publish();
        let mut stage = Stage {
            world,
            ends: ends.clone(),
            peer: None,
            opened: Vec::new(),
        };
        if ends.way == Way::Peer {
            stage.greet();
        }
        stage
    }

    /// The peer takes the place of node 2.
    fn greet(&mut self) {
        let (ours, theirs) = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
        let mut tunn = Tunn::new(theirs, PublicKey::from(&ours), None, None, 7, None);
        let mut room = [0; 256];
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut room, false)
        else {
            panic!("it begins");
        };
        let initiation = initiation.to_vec();
        self.peer = Some(tunn);
        self.world.arrive(1, &initiation, initiation.len(), 0);
        self.settle();
    }

    /// One end sends a packet, and everything that follows happens; the books balance.
    pub(crate) fn send(&mut self, from: End, bytes: &[u8]) -> Seen {
        let before = self.drops();
        match (self.ends.way, from) {
            (Way::Across, End::Near) | (Way::Inside, _) => self.world.send(1, bytes),
            (Way::Across, End::Far) => self.world.send(2, bytes),
            (Way::Peer, End::Near) => self.peer_sends(bytes),
            (Way::Peer, End::Far) => {
                self.world.give(1, bytes);
                self.settle();
            }
        }
        let mut drops = self.drops();
        for (name, segments) in before {
            if let Some(now) = drops.get_mut(name) {
                *now -= segments;
            }
        }
        drops.retain(|_, segments| *segments > 0);
        let at_node_1 = self.world.delivered(1);
        let (arrived, came_back) = match (self.ends.way, from) {
            (Way::Across, End::Near) => (self.world.delivered(2), at_node_1),
            (Way::Across, End::Far) => (at_node_1, self.world.delivered(2)),
            (Way::Peer, End::Near) => (at_node_1, std::mem::take(&mut self.opened)),
            (Way::Peer, End::Far) => (std::mem::take(&mut self.opened), at_node_1),
            (Way::Inside, _) => {
                let sender = match from {
                    End::Near => &self.ends.near,
                    End::Far => &self.ends.far,
                };
                let is_back = |bytes: &Vec<u8>| destination(bytes) == sender.as_slice();
                let (back, there) = at_node_1.into_iter().partition(is_back);
                (there, back)
            }
        };
        Seen {
            arrived,
            came_back,
            drops,
        }
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = BTreeMap::new();
        let all = self.world.hosts.iter().flat_map(|host| host.out.dropped());
        for (name, segments) in all.filter(|(_, segments)| *segments > 0) {
            *drops.entry(name).or_default() += segments;
        }
        drops
    }

    fn peer_sends(&mut self, bytes: &[u8]) {
        let mut room = vec![0; bytes.len() + 64];
        let tunn = self.peer.as_mut().expect("a peer");
        let TunnResult::WriteToNetwork(datagram) = tunn.encapsulate(bytes, &mut room) else {
            panic!("it has a session");
        };
        self.world.arrive(1, datagram, datagram.len(), 0);
        self.settle();
    }

    /// Carries to and fro between node 1 and the peer until nothing moves.
    pub(crate) fn settle(&mut self) {
        loop {
            self.world.deliver_to_pods(0);
            let host = &mut self.world.hosts[0];
            let Some(train) = host.out.tunnel.wire.pop() else {
                break;
            };
            let datagrams = train.buf.as_slice().chunks(train.buf.stride());
            let datagrams: Vec<Vec<u8>> = datagrams.map(<[u8]>::to_vec).collect();
            host.out.ledger().sent += datagrams.len() as u64;
            host.out.tunnel.arena.put(train.buf);
            datagrams.iter().for_each(|datagram| self.open(datagram));
        }
        self.world.balance(0);
    }

    fn open(&mut self, datagram: &[u8]) {
        let mut room = vec![0; datagram.len() + 256];
        let tunn = self.peer.as_mut().expect("a peer");
        match tunn.decapsulate(None, datagram, &mut room) {
            TunnResult::WriteToNetwork(answer) => {
                self.world.arrive(1, answer, answer.len(), 0);
            }
            TunnResult::WriteToTunnelV4(inner, _) | TunnResult::WriteToTunnelV6(inner, _) => {
                self.opened.push(inner.to_vec());
            }
            TunnResult::Done => {}
            TunnResult::Err(error) => panic!("the peer refuses: {error:?}"),
        }
    }
}

/// The destination address of a packet.
pub(crate) fn destination(bytes: &[u8]) -> &[u8] {
    match bytes[0] >> 4 {
        6 => &bytes[24..40],
        _ => &bytes[16..20],
    }
}
