//! This worker's lanes, and which peer of which lane another node's addresses belong to.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use packet::{Address, Buf, Now, Packet, Time, lane_of};
use tunnel::{Inner, Lane, PeerId, PublicKey};

use crate::{LanePeer, Outbox, Reason, Snapshot};

/// The lanes, and the peers that the snapshot's nodes are.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Member>,
}

/// One lane with what the snapshot says about its peers.
#[derive(Debug)]
struct Member {
    lane: Lane,
    /// The peers that the last snapshot named, with the endpoint that it gave: a peer that has
    /// roamed since stays where it is until the snapshot says something new.
    known: BTreeMap<PublicKey, (PeerId, SocketAddr)>,
    /// Peers by node, then by the node's lane; `None` where the lane refused the key.
    by_node: Vec<Vec<Option<PeerId>>>,
    /// Nodes by [`PeerId::index`].
    by_peer: Vec<Option<u32>>,
}

impl Lanes {
    pub(crate) fn new(lanes: Vec<Lane>) -> Lanes {
        let member = |lane| Member {
            lane,
            known: BTreeMap::new(),
            by_node: Vec::new(),
            by_peer: Vec::new(),
        };
        Lanes {
            lanes: lanes.into_iter().map(member).collect(),
        }
    }

    /// Makes the peers of every lane those that `snapshot` names. Sessions of peers that stay, stay.
    pub(crate) fn adopt(&mut self, now: Now, snapshot: &Snapshot, out: &mut Outbox) {
        for member in &mut self.lanes {
            member.adopt(now, snapshot, out);
        }
    }

    /// Seals a packet to the lane of `node` that owns its destination.
    pub(crate) fn seal(&mut self, now: Now, node: u32, packet: Packet, out: &mut Outbox) {
        let flow = packet.header().flow;
        let own = usize::from(lane_of(flow.source, self.lanes.len() as u16));
        let member = &mut self.lanes[own];
        match member.peer(node, flow.destination) {
            Some(peer) => member.lane.seal(now, peer, packet, &mut out.tunnel),
            None => out.drop(packet, Reason::NoPeer),
        }
    }

    /// Whether packets to the lane of `node` that owns `destination` wait for a handshake.
    pub(crate) fn has_waiting(&self, node: u32, destination: Address) -> bool {
        self.lanes.iter().any(|member| {
            member
                .peer(node, destination)
                .is_some_and(|peer| member.lane.has_waiting(peer))
        })
    }

    /// Opens a train that came by lane `number`; `false` if there is no such lane.
    pub(crate) fn open(
        &mut self,
        now: Now,
        (number, remote, ecn): (u16, SocketAddr, u8),
        train: &mut Buf,
        opened: &mut Vec<Inner>,
        out: &mut Outbox,
    ) -> bool {
        match self.lanes.get_mut(usize::from(number)) {
            Some(member) => {
                member
                    .lane
                    .open(now, remote, ecn, train, opened, &mut out.tunnel);
                true
            }
            None => false,
        }
    }

    /// The node whose key `peer` of lane `number` has.
    #[inline]
    pub(crate) fn node(&self, number: u16, peer: PeerId) -> Option<u32> {
        *self.lanes[usize::from(number)].by_peer.get(peer.index())?
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        for member in &mut self.lanes {
            member.lane.handle_timeout(now, &mut out.tunnel);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.lanes
            .iter()
            .filter_map(|member| member.lane.poll_timeout())
            .min()
    }

    /// Segments that wait for handshakes.
    pub(crate) fn queued(&self) -> u64 {
        self.lanes.iter().map(|member| member.lane.queued()).sum()
    }

    pub(crate) fn lane(&self, number: u16) -> Option<&Lane> {
        self.lanes
            .get(usize::from(number))
            .map(|member| &member.lane)
    }

    pub(crate) fn lane_mut(&mut self, number: u16) -> Option<&mut Lane> {
        self.lanes
            .get_mut(usize::from(number))
            .map(|member| &mut member.lane)
    }

    /// When anything authenticated was last heard from `node`, by whichever lane.
    pub(crate) fn last_heard(&self, node: u32) -> Option<Time> {
        let of_member = |member: &Member| {
            let peers = member.by_node.get(node as usize)?;
            peers
                .iter()
                .flatten()
                .filter_map(|peer| member.lane.last_heard(*peer))
                .max()
        };
        self.lanes.iter().filter_map(of_member).max()
    }
}

impl Member {
    fn adopt(&mut self, now: Now, snapshot: &Snapshot, out: &mut Outbox) {
        let before = core::mem::take(&mut self.known);
        self.by_node.clear();
        self.by_peer.clear();
        for (number, node) in snapshot.nodes.iter().enumerate() {
            let mut peers = Vec::with_capacity(node.lanes.len());
            for theirs in &node.lanes {
                let peer = self.upsert(now, &before, theirs);
                if let Some(peer) = peer {
                    self.known.insert(theirs.key, (peer, theirs.endpoint));
                    self.remember(peer, number as u32);
                }
                peers.push(peer);
            }
            self.by_node.push(peers);
        }
        for (key, (peer, _)) in before {
            if !self.known.contains_key(&key) {
                self.lane.remove_peer(peer, &mut out.tunnel);
            }
        }
    }

    /// The peer with their key; its endpoint is set only where the snapshot says something new.
    fn upsert(
        &mut self,
        now: Now,
        before: &BTreeMap<PublicKey, (PeerId, SocketAddr)>,
        theirs: &LanePeer,
    ) -> Option<PeerId> {
        let (peer, told) = match before.get(&theirs.key) {
            Some((peer, endpoint)) => (*peer, Some(*endpoint)),
            None => (self.lane.add_peer(now, theirs.key).ok()?, None),
        };
        if told != Some(theirs.endpoint) {
            self.lane.set_endpoint(peer, theirs.endpoint);
        }
        Some(peer)
    }

    fn remember(&mut self, peer: PeerId, node: u32) {
        let index = peer.index();
        if self.by_peer.len() <= index {
            self.by_peer.resize(index + 1, None);
        }
        self.by_peer[index] = Some(node);
    }

    /// The peer that owns `destination` on `node`; its lane 0 where that lane is not known.
    fn peer(&self, node: u32, destination: Address) -> Option<PeerId> {
        let peers = self.by_node.get(node as usize)?;
        let theirs = usize::from(lane_of(destination, peers.len() as u16));
        peers
            .get(theirs)
            .copied()
            .flatten()
            .or_else(|| peers.first().copied().flatten())
    }
}
