//! The core of a worker: frames and datagrams in, an [`Outbox`] out, nothing else. It reads no
//! clock, opens no device and calls nobody back, so a simulator drives it as a worker does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use packet::{Coalescer, Datagrams, Fragment, Frame, Header, Kind, Now, Packet, Time};
use tunnel::{Inner, Lane, Refused, Unopened};

use crate::answers::Answers;
use crate::clients::Clients;
use crate::death::Walk;
use crate::flow_table::FlowTable;
use crate::fragments::Fragments;
use crate::lanes::{Lanes, Via};
use crate::pass::Pass;
use crate::paths::Paths;
use crate::probe::{Probes, consume};
use crate::{
    Crossing, HealthChange, Key, Outbox, ProbeStatus, Reason, Record, Share, Side, Snapshot, Sparse,
};

/// How often the flow table is swept, and which share of it each time: all of it in about 13 s,
/// little enough at once not to be felt.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
const SWEEP_SHARE: usize = 128;
/// Clients that are known to stay with a backend, each for one port of a service: so many pods as a
/// node has at most (Kubernetes advises 110) with 37 such ports each, in some 300 KiB.
const CLIENTS: usize = 4_096;
/// Flows whose packets are made whole at once.
const COALESCED_FLOWS: usize = 16;
/// Packets that one train can hold, and so how much one batch needs: UDP_GRO gives at most 64 KiB
/// and a data message has 32 bytes at least (Linux `UDP_MAX_SEGMENTS` is 128).
const OPENED: usize = 2_048;

/// What a forwarder is made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest inner packet that the tunnel carries, in bytes.
    pub mtu: usize,
    /// How many flows the table holds.
    pub flows: usize,
    /// How often each other node is probed.
    pub probe_interval: Duration,
    /// How many answers may be missing before a node counts as silent.
    pub probe_count: u32,
    /// What outsiders must not guess: the flows' hashes and the probes' identifier.
    pub secret: (u64, u64),
}

/// By what packets are judged.
#[derive(Debug)]
pub(crate) enum Mode {
    /// A plain WireGuard interface: by the peers' allowed IPs alone.
    Plain,
    /// A node that has not read everything yet: nothing passes.
    Waiting,
    /// A node of the mesh.
    Mesh(Arc<Snapshot>),
}

/// The sans-IO core of a worker.
#[derive(Debug)]
pub struct Forwarder {
    pub(crate) mode: Mode,
    pub(crate) lanes: Lanes,
    pub(crate) coalescer: Coalescer<Via>,
    /// Scratch space: the packets of the train at hand.
    pub(crate) opened: Vec<Inner>,
    /// Scratch space: what the coalescer gave back, each with the way that it came.
    pub(crate) coalesced: Vec<(Via, Packet)>,
    pub(crate) probes: Probes,
    paths: Paths,
    flows: FlowTable,
    clients: Clients,
    fragments: Fragments,
    answers: Answers,
    walk: Walk,
    share: Share,
    settings: Settings,
    next_sweep: Time,
}

impl Forwarder {
    /// A node's worker with the lanes of its share: nothing passes before the first snapshot.
    ///
    /// # Panics
    /// If these are not the lanes of this share: our own bug.
    pub fn new(settings: Settings, share: Share, lanes: Vec<Lane>) -> Forwarder {
        Forwarder::with_mode(settings, share, lanes, Mode::Waiting)
    }

    /// A plain WireGuard interface: one lane, and its peers' allowed IPs decide.
    pub fn plain(settings: Settings, lane: Lane) -> Forwarder {
        Forwarder::with_mode(settings, Share::whole(1), Vec::from([lane]), Mode::Plain)
    }

    fn with_mode(settings: Settings, share: Share, mut lanes: Vec<Lane>, mode: Mode) -> Forwarder {
        lanes.iter_mut().for_each(|lane| lane.set_mtu(settings.mtu));
        let flows = if matches!(mode, Mode::Plain) {
            0
        } else {
            settings.flows
        };
        let identifier = settings.secret.0 as u16;
        // Never the same: the answers are told apart by it.
        let of_paths = identifier ^ ((settings.secret.1 as u16) | 1);
        Forwarder {
            mode,
            lanes: Lanes::new(share, lanes),
            coalescer: Coalescer::new(COALESCED_FLOWS),
            opened: Vec::with_capacity(OPENED),
            coalesced: Vec::with_capacity(OPENED),
            probes: Probes::new(settings.probe_interval, settings.probe_count, identifier),
            paths: Paths::new(settings.mtu, of_paths, settings.secret),
            flows: FlowTable::new(flows, settings.secret),
            clients: Clients::new(flows.min(CLIENTS), settings.secret),
            fragments: Fragments::new(flows > 0, settings.secret),
            answers: Answers::new(),
            walk: Walk::default(),
            share,
            settings,
            next_sweep: Time::ZERO,
        }
    }

    /// Judges by `snapshot` from now on; what waits to be made whole goes by the one before, by which
    /// its source was found to be its sender's. That one is given back: to free it is not the worker's
    /// work.
    pub fn adopt(
        &mut self,
        now: Now,
        snapshot: Arc<Snapshot>,
        out: &mut Outbox,
    ) -> Option<Arc<Snapshot>> {
        self.flush(now, out);
        let same_nodes = matches!(&self.mode, Mode::Mesh(before)
            if before.nodes == snapshot.nodes && before.own == snapshot.own);
        if !same_nodes {
            self.lanes.adopt(now, &snapshot, out);
            self.paths.adopt(now, &snapshot, &mut self.lanes);
            // One worker is enough to know who answers.
            if self.share.has_lane(0) {
                self.probes.adopt(now, &snapshot);
            }
        }
        let same_backends = matches!(&self.mode, Mode::Mesh(before)
            if before.backends == snapshot.backends);
        if !same_backends {
            self.walk.begin();
        }
        match core::mem::replace(&mut self.mode, Mode::Mesh(snapshot)) {
            Mode::Mesh(before) => Some(before),
            Mode::Plain | Mode::Waiting => None,
        }
    }

    /// The largest packet that the TUN gives is another from now on, in bytes.
    pub fn set_mtu(&mut self, now: Now, mtu: usize) {
        if mtu != self.settings.mtu {
            self.settings.mtu = mtu;
            self.lanes.set_mtu(mtu);
            self.paths.set_mtu(now, mtu, &mut self.lanes);
        }
    }

    /// The own host has refused to send a datagram to `remote`, because its `bytes` bytes of payload
    /// are more than the link carries.
    pub fn handle_too_big(&mut self, now: Now, remote: IpAddr, bytes: usize) {
        self.paths.refused(now, remote, bytes, &mut self.lanes);
    }

    /// What picks the frames of sparse flows out of at most `limit`.
    pub fn sparse(&self, limit: usize) -> Sparse {
        Sparse::new(limit, self.settings.secret)
    }

    /// Says which frames come next, so that what is known of their flows is at hand by then.
    pub fn foresee<'f>(&mut self, frames: impl Iterator<Item = &'f Frame>) {
        let headers = frames.filter_map(|frame| Header::parse(frame.buf.as_slice()).ok());
        self.flows.foresee(headers.map(|header| Key {
            flow: header.flow,
            side: Side::Out,
        }));
    }

    /// A packet or super-packet from the pods' side.
    pub fn handle_frame(&mut self, now: Now, frame: Frame, out: &mut Outbox) {
        match Packet::parse(frame.buf, frame.offload) {
            Ok(packet) => {
                out.ledger().received += packet.segments() as u64;
                match self.pass(now, out) {
                    Some(mut pass) => pass.handle_from_pods(packet),
                    None => self.handle_unjudged(now, packet, out),
                }
            }
            Err((buf, why)) => {
                out.ledger().received += 1;
                out.drop_malformed(buf, why);
            }
        }
    }

    /// Datagrams from the wire. What they carry may wait, to be made whole with what comes next,
    /// until [`Forwarder::flush`].
    pub fn handle_datagrams(&mut self, now: Now, datagrams: Datagrams, out: &mut Outbox) {
        self.handle_unopened(now, datagrams.into(), out);
    }

    /// Gives datagrams what another thread needs to decrypt them, before
    /// [`Forwarder::handle_unopened`] is called in their turn.
    pub fn unopened(&mut self, now: Now, datagrams: Datagrams) -> Unopened {
        self.lanes.unopened(now, datagrams)
    }

    /// [`Forwarder::handle_datagrams`] of those that another thread may have decrypted.
    pub fn handle_unopened(&mut self, now: Now, unopened: Unopened, out: &mut Outbox) {
        let datagrams = unopened.datagrams();
        if datagrams.buf.is_empty() {
            // A datagram without a payload: no frame of a train, but somebody has sent it.
            out.ledger().received += 1;
            out.tunnel.refused.add(Refused::LengthWrong, 1);
            return out.tunnel.arena.put(unopened.into_datagrams().buf);
        }
        out.ledger().received += datagrams.buf.frames() as u64;
        self.open(now, unopened, out);
        self.deliver(now, out);
    }

    /// What another worker of the node leaves to this one.
    pub fn handle_crossing(&mut self, now: Now, crossing: Crossing, out: &mut Outbox) {
        out.ledger().crossed_in += crossing.segments() as u64;
        match self.pass(now, out) {
            Some(mut pass) => pass.handle_crossing(crossing),
            None => out.drop(crossing.into_packet(), Reason::NotReady),
        }
    }

    /// Ends a batch: whatever waited for more of its flow goes on.
    pub fn flush(&mut self, now: Now, out: &mut Outbox) {
        out.tunnel.arena.mend();
        self.coalescer.flush(&mut self.coalesced);
        self.deliver(now, out);
    }

    /// The same in the middle of what the wire has given: what has begun to be made whole waits for
    /// more, so that many flows at once are not cut up by each share that is handled.
    pub fn flush_singles(&mut self, now: Now, out: &mut Outbox) {
        out.tunnel.arena.mend();
        self.coalescer.flush_singles(&mut self.coalesced);
        self.deliver(now, out);
    }

    /// Does what is due: handshakes, keep-alives, probes, forgetting, telling whose backend has died.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.lanes.handle_timeout(now, out);
        if let Mode::Mesh(snapshot) = &self.mode {
            self.probes.handle_timeout(now, &mut self.lanes, out);
            self.paths.handle_timeout(now, &mut self.lanes, out);
            if now.time >= self.next_sweep {
                self.next_sweep = now.time + SWEEP_INTERVAL;
                self.flows
                    .sweep(now.time, self.settings.flows / SWEEP_SHARE + 1);
            }
            let (flows, answers) = (&mut self.flows, &mut self.answers);
            self.walk.handle_timeout(now, snapshot, flows, answers, out);
        }
    }

    /// When [`Forwarder::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        let sweep = (self.flows.len() > 0).then_some(self.next_sweep);
        let (probes, paths) = (self.probes.poll_timeout(), self.paths.poll_timeout());
        let walk = self.walk.poll_timeout();
        [self.lanes.poll_timeout(), probes, paths, sweep, walk]
            .into_iter()
            .flatten()
            .min()
    }

    /// The epoch of the snapshot in force; 0 before the first.
    pub fn epoch(&self) -> u64 {
        match &self.mode {
            Mode::Mesh(snapshot) => snapshot.epoch,
            Mode::Plain | Mode::Waiting => 0,
        }
    }

    /// Segments that wait inside: for handshakes, and to be made whole.
    pub fn queued(&self) -> u64 {
        self.lanes.queued() + self.coalescer.segments() as u64
    }

    /// Segments that went by lane 0 because their own pair of lanes did not answer.
    pub fn fell_back(&self) -> u64 {
        self.lanes.fell_back()
    }

    /// The pairs of lanes that do not answer now: our lane, the node by its place in
    /// [`Snapshot::nodes`], and its lane.
    pub fn silent_lanes(&self, now: Now) -> impl Iterator<Item = (u16, u32, u16)> + '_ {
        self.lanes.silent(now)
    }

    /// How many flows are known.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Gives what is to be told of flows to `take`, oldest first, until that has no room for one: it
    /// waits, with all behind it.
    pub fn hand_over_records(&mut self, take: impl FnMut(Record) -> bool) {
        self.flows.records.hand_over(take);
    }

    /// How many records found no room.
    pub fn lost_records(&self) -> u64 {
        self.flows.records.lost()
    }

    /// The nodes that began or ceased to answer since the last call.
    pub fn take_health_changes(&mut self) -> impl Iterator<Item = HealthChange> + '_ {
        self.probes.take_changes()
    }

    /// What is known of the other nodes.
    pub fn probe_status(&self) -> impl Iterator<Item = ProbeStatus> + '_ {
        self.probes.status(&self.paths)
    }

    /// The lanes of this worker, by number; there may be gaps between the numbers.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.all()
    }

    /// A lane by its number.
    pub fn lane(&self, number: u16) -> Option<&Lane> {
        self.lanes.lane(number)
    }

    /// A lane by its number, to be configured: what a plain interface's owner asks for.
    pub fn lane_mut(&mut self, number: u16) -> Option<&mut Lane> {
        self.lanes.lane_mut(number)
    }

    /// The judgements for one packet; `None` where packets are not judged by a snapshot.
    fn pass<'a>(&'a mut self, now: Now, out: &'a mut Outbox) -> Option<Pass<'a>> {
        let Mode::Mesh(snapshot) = &self.mode else {
            return None;
        };
        Some(Pass {
            snapshot,
            flows: &mut self.flows,
            clients: &mut self.clients,
            fragments: &mut self.fragments,
            lanes: &mut self.lanes,
            answers: &mut self.answers,
            share: self.share,
            paths: &mut self.paths,
            mtu: self.settings.mtu,
            now,
            crossed: false,
            denied_by: None,
            out,
        })
    }

    /// Sends on what was opened and made whole.
    fn deliver(&mut self, now: Now, out: &mut Outbox) {
        let mut coalesced = core::mem::take(&mut self.coalesced);
        self.flows.foresee(coalesced.iter().map(|(_, packet)| Key {
            flow: packet.header().flow,
            side: Side::In,
        }));
        for (via, packet) in coalesced.drain(..) {
            let packet = match self.for_this_node(now, via, packet, out) {
                Some(packet) => packet,
                None => continue,
            };
            match self.pass(now, out) {
                Some(mut pass) => pass.handle_from_wire(packet, via),
                None => out.to_pods(packet),
            }
        }
        self.coalesced = coalesced;
    }

    /// An echo between nodes is answered or noted before any policy; the rest is given back, a
    /// fragment of one too, which only the host can put together.
    fn for_this_node(
        &mut self,
        now: Now,
        via: Via,
        packet: Packet,
        out: &mut Outbox,
    ) -> Option<Packet> {
        let Mode::Mesh(snapshot) = &self.mode else {
            return Some(packet);
        };
        let header = packet.header();
        let echo = matches!(header.kind, Kind::EchoRequest | Kind::EchoReply)
            && header.fragment == Fragment::No;
        if !echo || !snapshot.own.addresses.contains(&header.flow.destination) {
            return Some(packet);
        }
        let (probes, lanes) = (&mut self.probes, &mut self.lanes);
        if header.kind == Kind::EchoReply && self.paths.has_identifier(header.flow.source_port) {
            self.paths.answer(now, via, &packet, lanes);
            consume(packet, out);
            return None;
        }
        probes.handle_echo(now, packet, via, lanes, out)
    }

    /// From the pods' side of a plain interface: allowed IPs alone say where to.
    fn handle_unjudged(&mut self, now: Now, packet: Packet, out: &mut Outbox) {
        let Mode::Plain = self.mode else {
            return out.drop(packet, Reason::NotReady);
        };
        let Some(lane) = self.lanes.lane_mut(0) else {
            return out.drop(packet, Reason::NoPeer);
        };
        match lane.route(packet.header().flow.destination) {
            Some(peer) => lane.seal(now, peer, packet, &mut out.tunnel),
            None => out.drop(packet, Reason::NoPeer),
        }
    }
}
