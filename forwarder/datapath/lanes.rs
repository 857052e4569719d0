//! This worker's lanes, and which peer of which lane another node's addresses belong to.
//!
//! A packet goes from the lane that owns our end to the lane that owns theirs. Where such a pair
//! does not answer, or cannot be, it goes from our lane 0 to theirs: every node has that one.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use packet::{Address, Datagrams, Now, Packet, Time, lane_of};
use tunnel::{Inner, Lane, Patience, PeerId, PublicKey, Reception, Unopened};

use crate::{Crossing, LanePeer, Node, Outbox, Reason, Share, Snapshot};

/// How long a pair of lanes may owe an answer before its packets go by lane 0: longer than any
/// round trip, shorter than a person's patience. WireGuard asks again only after 5 s.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Between lanes that are not both lane 0 nobody probes, and a lane whose worker was started again
/// has forgotten its keys: both ends notice soon, so that what falls into the gap is soon repeated.
const PATIENCE: Patience = Patience {
    keepalive: Duration::from_millis(250),
    unheard: Duration::from_millis(700),
};
/// Packets of one worker that may wait for handshakes, whosever buffers they hold. As many of its own
/// may wait with the worker of lane 0; both together leave a fair part of the arena (512 buffers).
const WAITING_MAX: usize = 192;
/// Pairs that packets wait for, and that are looked at when [`SILENT_AFTER`] is over. Of more the
/// packets wait as WireGuard's do.
const TRIALS_MAX: usize = 4_096;

/// The lanes, and the peers that the snapshot's nodes are.
#[derive(Debug)]
pub(crate) struct Lanes {
    share: Share,
    /// Those of this worker: lane `own`, and every `workers`th behind it.
    members: Vec<Member>,
    /// Who is let in to their handshakes.
    reception: Reception,
    /// Whether a node knows that we have lanes, by its place in the snapshot.
    knows_lanes: Vec<bool>,
    /// Oldest first: each waits equally long.
    trials: VecDeque<Trial>,
    fell_back: u64,
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

/// By which pair of lanes something came: it is answered the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    /// Our lane's number.
    pub lane: u16,
    /// Their lane, as a peer of ours.
    pub peer: PeerId,
}

/// A pair that packets wait for.
#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Time,
    place: usize,
    peer: PeerId,
}

impl Lanes {
    /// # Panics
    /// If these are not the lanes of this share: our own bug.
    pub(crate) fn new(share: Share, mut lanes: Vec<Lane>) -> Lanes {
        lanes.sort_by_key(Lane::number);
        let numbers = (0..share.lanes).filter(|lane| share.has_lane(*lane));
        assert!(
            lanes.iter().map(Lane::number).eq(numbers),
            "a worker has the lanes of its share"
        );
        let share_of_waiting = WAITING_MAX / lanes.len().max(1);
        for lane in &mut lanes {
            lane.set_waiting_max(share_of_waiting.max(1));
        }
        let member = |lane| Member {
            lane,
            known: BTreeMap::new(),
            by_node: Vec::new(),
            by_peer: Vec::new(),
        };
        Lanes {
            share,
            members: lanes.into_iter().map(member).collect(),
            reception: Reception::default(),
            knows_lanes: Vec::new(),
            trials: VecDeque::with_capacity(TRIALS_MAX),
            fell_back: 0,
        }
    }

    /// Makes the peers of every lane those that `snapshot` names. Sessions of peers that stay, stay.
    pub(crate) fn adopt(&mut self, now: Now, snapshot: &Snapshot, out: &mut Outbox) {
        self.knows_lanes.clear();
        let knows_lanes = snapshot.nodes.iter().map(|node| node.knows_lanes);
        self.knows_lanes.extend(knows_lanes);
        for member in &mut self.members {
            member.adopt(now, snapshot, out);
        }
    }

    /// Seals a packet of ours for `node`: by the lane that owns `local`, our end of its flow, for
    /// the lane that owns its destination.
    pub(crate) fn seal(
        &mut self,
        now: Now,
        node: u32,
        local: Address,
        packet: Packet,
        out: &mut Outbox,
    ) {
        let Some((place, peer)) = self.pair(node, local, packet.header().flow.destination) else {
            return self.seal_first(now, node, packet, out);
        };
        let lane = &mut self.members[place].lane;
        let asked = lane.unanswered_since(peer);
        if asked.is_some_and(|asked| now.time.since(asked) >= SILENT_AFTER) {
            // What waits for it goes first; it is asked again all the same.
            lane.greet(now, peer, &mut out.tunnel);
            self.fall_back(now, place, peer, out);
            self.fell_back += packet.segments() as u64;
            return self.seal_first(now, node, packet, out);
        }
        let waited = lane.has_waiting(peer);
        lane.seal(now, peer, packet, &mut out.tunnel);
        if !waited && lane.has_waiting(peer) && self.trials.len() < TRIALS_MAX {
            self.trials.push_back(Trial {
                since: now.time,
                place,
                peer,
            });
        }
    }

    /// Seals a packet by lane 0 for lane 0, wherever ours is.
    pub(crate) fn seal_first(&mut self, now: Now, node: u32, packet: Packet, out: &mut Outbox) {
        if !self.share.has_lane(0) {
            return out.cross(self.share.worker_of_lane(0), Crossing::Seal(packet));
        }
        let member = &mut self.members[0];
        match member.first_peer(node) {
            Some(peer) => member.lane.seal(now, peer, packet, &mut out.tunnel),
            None => out.drop(packet, Reason::NoPeer),
        }
    }

    /// Seals an echo between nodes by one pair of lanes: an answer by the one that brought what it
    /// answers. It is not padded, so that it has exactly its length on the wire.
    pub(crate) fn seal_by(&mut self, now: Now, via: Via, packet: Packet, out: &mut Outbox) {
        match self.member(via.lane) {
            Some(member) => member
                .lane
                .seal_bare(now, via.peer, packet, &mut out.tunnel),
            None => out.drop(packet, Reason::NoPeer),
        }
    }

    /// A pair of lanes by which something would be sent to `node` at once, if there is one.
    pub(crate) fn live(&self, now: Now, node: u32) -> Option<Via> {
        self.members.iter().find_map(|member| {
            let mut peers = member.by_node.get(node as usize)?.iter().flatten();
            let peer = *peers.find(|peer| member.lane.is_live(now, **peer))?;
            let lane = member.lane.number();
            Some(Via { lane, peer })
        })
    }

    /// Makes a pair of lanes live, so that it is known what the path carries before it is needed. By
    /// lane 0 the nodes' probes do that.
    pub(crate) fn greet(&mut self, now: Now, node: u32, out: &mut Outbox) {
        let Some(member) = self.members.first_mut() else {
            return;
        };
        if member.lane.number() != 0
            && let Some(peer) = member.first_peer(node)
        {
            member.lane.greet(now, peer, &mut out.tunnel);
        }
    }

    /// Where the other end of a pair of lanes is.
    pub(crate) fn endpoint(&self, via: Via) -> Option<SocketAddr> {
        self.lane(via.lane)?.endpoint(via.peer)
    }

    /// The largest packet that the path to `node` carries in the tunnel, in bytes.
    pub(crate) fn set_peer_mtu(&mut self, node: u32, mtu: usize) {
        for member in &mut self.members {
            let peers = member.by_node.get(node as usize);
            for peer in peers.into_iter().flatten().flatten() {
                member.lane.set_peer_mtu(*peer, mtu);
            }
        }
    }

    /// The largest packet that the TUN gives, in bytes.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        for member in &mut self.members {
            member.lane.set_mtu(mtu);
        }
    }

    /// Whether all that is for `node` is sealed by another worker's lane 0.
    #[inline]
    pub(crate) fn crosses(&self, node: u32) -> bool {
        let knows_lanes = self.knows_lanes.get(node as usize).copied();
        knows_lanes == Some(false) && !self.share.has_lane(0)
    }

    /// Whether packets from lane 0 to lane 0 of `node` wait for a handshake.
    pub(crate) fn has_waiting(&self, node: u32) -> bool {
        self.members.first().is_some_and(|member| {
            let peer = member.first_peer(node);
            peer.is_some_and(|peer| member.lane.has_waiting(peer))
        })
    }

    /// Opens a train by the lane that it came by; `false` if that is no lane of this worker.
    pub(crate) fn open(
        &mut self,
        now: Now,
        train: &mut Unopened,
        opened: &mut Vec<Inner>,
        out: &mut Outbox,
    ) -> bool {
        let Some(place) = self.place(train.datagrams().lane) else {
            return false;
        };
        let lane = &mut self.members[place].lane;
        lane.open_tried(now, train, &mut self.reception, opened, &mut out.tunnel);
        true
    }

    /// Gives a train the key that other threads need to open it, if there is one.
    pub(crate) fn unopened(&mut self, now: Now, train: Datagrams) -> Unopened {
        match self.place(train.lane) {
            Some(place) => self.members[place].lane.unopened(now, train),
            None => train.into(),
        }
    }

    /// The node whose lane a packet came from.
    #[inline]
    pub(crate) fn node(&self, via: Via) -> Option<u32> {
        let place = self.place(via.lane)?;
        *self.members[place].by_peer.get(via.peer.index())?
    }

    /// Does what is due: what a lane has to do, and packets that have waited too long for one pair
    /// go on, in order, by lane 0.
    pub(crate) fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        for member in &mut self.members {
            let (lane, reception) = (&mut member.lane, &mut self.reception);
            lane.handle_timeout(now, reception, &mut out.tunnel);
        }
        while let Some(trial) = self.trials.front().copied()
            && now.time.since(trial.since) >= SILENT_AFTER
        {
            self.trials.pop_front();
            self.fall_back(now, trial.place, trial.peer, out);
        }
    }

    /// What waits for a pair goes by lane 0, in order.
    fn fall_back(&mut self, now: Now, place: usize, peer: PeerId, out: &mut Outbox) {
        while let Some(packet) = self.members[place].lane.take_waiting(peer) {
            self.fell_back += packet.segments() as u64;
            let node = self.members[place].by_peer.get(peer.index()).copied();
            match node.flatten() {
                Some(node) => self.seal_first(now, node, packet, out),
                None => out.drop(packet, Reason::NoPeer),
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let members = self.members.iter();
        let trial = self.trials.front().map(|trial| trial.since + SILENT_AFTER);
        members
            .filter_map(|member| member.lane.poll_timeout(&self.reception))
            .chain(trial)
            .min()
    }

    /// Segments that wait for handshakes.
    pub(crate) fn queued(&self) -> u64 {
        self.members.iter().map(|member| member.lane.queued()).sum()
    }

    /// Segments that went by lane 0 because their own pair of lanes did not answer.
    pub(crate) fn fell_back(&self) -> u64 {
        self.fell_back
    }

    /// The pairs that do not answer now, by our lane, the node and its lane.
    pub(crate) fn silent(&self, now: Now) -> impl Iterator<Item = (u16, u32, u16)> + '_ {
        let is_silent = move |lane: &Lane, peer: &PeerId| {
            let asked = lane.unanswered_since(*peer);
            asked.is_some_and(|asked| now.time.since(asked) >= SILENT_AFTER)
        };
        self.members.iter().flat_map(move |member| {
            let nodes = (0u32..).zip(&member.by_node);
            let pairs = nodes.flat_map(|(node, peers)| {
                let peers = (0u16..).zip(peers);
                peers.filter_map(move |(theirs, peer)| Some((node, theirs, (*peer)?)))
            });
            pairs
                .filter(move |(_, _, peer)| is_silent(&member.lane, peer))
                .map(|(node, theirs, _)| (member.lane.number(), node, theirs))
        })
    }

    /// All lanes of this worker.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Lane> {
        self.members.iter().map(|member| &member.lane)
    }

    pub(crate) fn lane(&self, number: u16) -> Option<&Lane> {
        Some(&self.members[self.place(number)?].lane)
    }

    pub(crate) fn lane_mut(&mut self, number: u16) -> Option<&mut Lane> {
        Some(&mut self.member(number)?.lane)
    }

    /// When anything authenticated was last heard from `node`, by whichever lane of this worker.
    pub(crate) fn last_heard(&self, node: u32) -> Option<Time> {
        let of_member = |member: &Member| {
            let peers = member.by_node.get(node as usize)?;
            peers
                .iter()
                .flatten()
                .filter_map(|peer| member.lane.last_heard(*peer))
                .max()
        };
        self.members.iter().filter_map(of_member).max()
    }

    /// The pair of lanes that a packet to `node` belongs to, if there is one beside that of both
    /// lanes 0 and our lane is this worker's.
    #[inline]
    fn pair(&self, node: u32, local: Address, destination: Address) -> Option<(usize, PeerId)> {
        if !*self.knows_lanes.get(node as usize)? {
            return None;
        }
        let own = self.share.lane_of(local);
        let place = self.place(own)?;
        let peers = self.members[place].by_node.get(node as usize)?;
        let theirs = lane_of(destination, peers.len() as u16);
        let peer = (*peers.get(usize::from(theirs))?)?;
        ((own, theirs) != (0, 0)).then_some((place, peer))
    }

    /// Where a lane stands among this worker's.
    #[inline]
    fn place(&self, number: u16) -> Option<usize> {
        let place = usize::from(number / self.share.workers.max(1));
        let member = self.members.get(place)?;
        (member.lane.number() == number).then_some(place)
    }

    #[inline]
    fn member(&mut self, number: u16) -> Option<&mut Member> {
        let place = self.place(number)?;
        self.members.get_mut(place)
    }
}

impl Member {
    fn adopt(&mut self, now: Now, snapshot: &Snapshot, out: &mut Outbox) {
        let before = core::mem::take(&mut self.known);
        self.by_node.clear();
        self.by_peer.clear();
        for (number, node) in snapshot.nodes.iter().enumerate() {
            let mut peers = Vec::with_capacity(node.lanes.len());
            for (place, theirs) in self.reachable(node).iter().enumerate() {
                let peer = self.upsert(now, &before, theirs);
                if let Some(peer) = peer {
                    let watched = node.knows_lanes && (self.lane.number(), place) != (0, 0);
                    let patience = if watched {
                        PATIENCE
                    } else {
                        Patience::default()
                    };
                    self.lane.set_patience(peer, patience);
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

    /// The lanes of a node that know this one.
    fn reachable<'n>(&self, node: &'n Node) -> &'n [LanePeer] {
        if node.knows_lanes || self.lane.number() == 0 {
            &node.lanes
        } else {
            &[]
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

    /// Lane 0 of a node.
    #[inline]
    fn first_peer(&self, node: u32) -> Option<PeerId> {
        self.by_node.get(node as usize)?.first().copied().flatten()
    }
}
