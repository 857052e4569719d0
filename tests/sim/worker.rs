//! A worker of a node: the product's forwarder, fed as a worker feeds it, and the books that must
//! balance after each step.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use datapath::{Crossing, Forwarder, Outbox, Share, Snapshot};
use packet::{Coalescer, Datagrams, Frame, Header, Ledger, Now, Offload, Packet, Segmenter, Time};
use tunnel::{Lane, PrivateKey, Sealing, Unsealed};

use crate::model::{View, node_name};
use crate::random::Random;
use crate::rings::Rings;
use crate::witness::Knowledge;

/// Buffers of a worker.
const BUFFERS: usize = 96;
/// Flows that its table holds.
const FLOWS: usize = 4_096;
/// How often lane 0's worker probes the other nodes; three unanswered probes make one silent.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const PROBE_COUNT: u32 = 3;

/// What a breath gave out.
#[derive(Debug, Default)]
pub struct Breath {
    /// Datagrams: the lane that they leave by, where they go, and what is in them.
    pub wire: Vec<(u16, SocketAddr, Vec<u8>)>,
    /// Packets for the pods, or for the world, cut as the kernel cuts them.
    pub pods: Vec<Vec<u8>>,
}

/// What control knows, as a worker is told it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What it judges by; `None` before the first.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The same in the simulator's words.
    pub view: View,
    /// Which nodes are held to be silent.
    pub silent: BTreeSet<usize>,
}

/// One worker.
pub struct Worker {
    node: usize,
    share: Share,
    born: Time,
    known: Known,
    /// The newest that it was told and has not adopted, and when it will.
    mail: Option<(Time, Known)>,
    pub(crate) forwarder: Forwarder,
    pub(crate) out: Outbox,
    frames: VecDeque<Vec<u8>>,
    datagrams: VecDeque<(u16, SocketAddr, Vec<u8>)>,
    /// When it breathes next because something has come.
    pub(crate) wake: Option<Time>,
    /// When its forwarder has something to do; asked after each breath, for it changes in one only.
    timer: Option<Time>,
    coalescer: Coalescer,
    random: Random,
}

impl Worker {
    /// A worker that knows nothing yet. `keys` are those of all lanes of its node.
    pub fn new(
        now: Now,
        (node, share): (usize, Share),
        keys: &[PrivateKey],
        mtu: usize,
        mut random: Random,
    ) -> Worker {
        let settings = datapath::Settings {
            mtu,
            flows: FLOWS,
            probe_interval: PROBE_INTERVAL,
            probe_count: PROBE_COUNT,
            secret: (random.below(u64::MAX), random.below(u64::MAX)),
        };
        let lanes = (0u16..).zip(keys).filter(|(lane, _)| share.has_lane(*lane));
        let lanes = lanes.map(|(lane, key)| Lane::new(lane, key.clone(), random.bytes()));
        let lanes = lanes.collect();
        Worker {
            node,
            share,
            born: now.time,
            known: Known::default(),
            mail: None,
            forwarder: Forwarder::new(settings, share, lanes),
            out: Outbox::new(tunnel::Outbox::new(share.own, BUFFERS, 64), 64)
                .among(share.workers, 64),
            frames: VecDeque::new(),
            datagrams: VecDeque::new(),
            wake: None,
            timer: None,
            coalescer: Coalescer::new(4),
            random,
        }
    }

    /// Control tells it something new, which it reads a little later. What it has not read yet is
    /// forgotten.
    pub fn tell(&mut self, now: Time, known: Known) {
        let late = Duration::from_micros(self.random.pick(&[0, 0, 200, 3_000]));
        let at = self.mail.take().map_or(now + late, |(at, _)| at);
        self.mail = Some((at, known));
    }

    /// Whether it judges by the newest snapshot.
    pub fn is_up_to_date(&self) -> bool {
        self.mail.is_none()
    }

    /// What it knows now.
    pub fn knowledge(&self, now: Time) -> Knowledge<'_> {
        Knowledge {
            now,
            born: self.born,
            node: self.node,
            worker: self.share.own,
            view: &self.known.view,
            silent: &self.known.silent,
        }
    }

    /// A packet comes by its TUN.
    pub fn push_frame(&mut self, now: Time, packet: Vec<u8>) {
        self.frames.push_back(packet);
        self.wake_at(now);
    }

    /// A datagram comes by the socket of one of its lanes.
    pub fn push_datagram(&mut self, now: Time, lane: u16, from: SocketAddr, bytes: Vec<u8>) {
        self.datagrams.push_back((lane, from, bytes));
        self.wake_at(now);
    }

    fn wake_at(&mut self, now: Time) {
        if self.wake.is_none() {
            let late = self.random.pick(&[10, 10, 20, 200]);
            self.wake = Some(now + Duration::from_micros(late));
        }
    }

    /// When it breathes next, rings aside.
    pub fn due(&self) -> Option<Time> {
        let mail = self.mail.as_ref().map(|(at, _)| *at);
        let all = [self.wake, self.timer, mail];
        all.into_iter().flatten().min()
    }

    /// One breath, as a worker's. `sends` is told of each packet that it judges as its pod sent it.
    pub fn breathe(
        &mut self,
        now: Now,
        rings: &mut Rings,
        sends: &mut dyn FnMut(Knowledge<'_>, &[u8]),
    ) -> Breath {
        self.wake = None;
        let mut breath = Breath::default();
        while let Some(buf) = rings.take_home(now.time, self.share.own) {
            self.out.tunnel.arena.put(buf);
        }
        self.read_mail(now);
        if self.random.percent(30) {
            self.out.tunnel.sealing = Sealing::Later;
        }
        for (frame, packets) in self.take_frames() {
            self.forwarder.handle_frame(now, frame, &mut self.out);
            // Whoever owns the flow is about to judge it, and to be asked what it knows.
            if !self.hand_over(now.time, rings) {
                for packet in &packets {
                    sends(self.knowledge(now.time), packet);
                }
            }
            self.relieve(now, rings, &mut breath);
        }
        for train in self.take_trains() {
            if self.random.percent(30) {
                let mut unopened = self.forwarder.unopened(now, train);
                unopened.open();
                self.forwarder.handle_unopened(now, unopened, &mut self.out);
            } else {
                self.forwarder.handle_datagrams(now, train, &mut self.out);
            }
            self.relieve(now, rings, &mut breath);
        }
        while let Some(crossing) = rings.take(now.time, self.share.own) {
            if let Crossing::Out(packet) = &crossing {
                let mut packets = Vec::new();
                cut(packet, &mut packets);
                for packet in &packets {
                    sends(self.knowledge(now.time), packet);
                }
            }
            self.forwarder.handle_crossing(now, crossing, &mut self.out);
            self.relieve(now, rings, &mut breath);
        }
        self.forwarder.flush(now, &mut self.out);
        let due = self.forwarder.poll_timeout();
        if due.is_some_and(|due| due <= now.time) {
            self.forwarder.handle_timeout(now, &mut self.out);
        }
        self.drain(now.time, rings, &mut breath);
        self.out.tunnel.arena.mend();
        self.timer = self.forwarder.poll_timeout();
        if !(self.frames.is_empty() && self.datagrams.is_empty()) {
            self.wake_at(now.time);
        }
        breath
    }

    fn read_mail(&mut self, now: Now) {
        let Some((_, known)) = self.mail.take_if(|(at, _)| *at <= now.time) else {
            return;
        };
        if let Some(snapshot) = &known.snapshot
            && snapshot.epoch != self.forwarder.epoch()
        {
            let snapshot = snapshot.clone();
            drop(self.forwarder.adopt(now, snapshot, &mut self.out));
        }
        self.known = known;
    }

    /// Transmits in the middle of a breath, as a worker does.
    fn relieve(&mut self, now: Now, rings: &mut Rings, breath: &mut Breath) {
        if self.out.is_crowded() {
            self.forwarder.flush(now, &mut self.out);
            self.drain(now.time, rings, breath);
        }
    }

    /// Fills the rings; whether a packet was among it that another worker is to judge from its pod
    /// on.
    fn hand_over(&mut self, now: Time, rings: &mut Rings) -> bool {
        let mut out = false;
        let own = self.share.own;
        for to in 0..self.share.workers {
            // What finds no room comes back by value, as in a worker.
            #[allow(clippy::result_large_err)]
            self.out.hand_over(to, |crossing| {
                out |= matches!(crossing, Crossing::Out(_));
                rings.push(now, (own, to), crossing)
            });
        }
        out
    }

    /// Frames as a TUN gives them: some made one, as the kernel's GRO does, each with what it
    /// was made of. For what there is no
    /// buffer, it waits.
    fn take_frames(&mut self) -> Vec<(Frame, Vec<Vec<u8>>)> {
        let arena = &mut self.out.tunnel.arena;
        let mut frames = Vec::new();
        let mut whole = Vec::new();
        let coalesce = self.frames.len() > 1 && self.random.percent(50);
        while arena.available() > BUFFERS / 2
            && let Some(packet) = self.frames.pop_front()
        {
            match Header::parse(&packet) {
                Ok(header) if coalesce => {
                    let full = self.coalescer.push(&packet, &header, 0, arena, &mut whole);
                    assert!(full.is_ok(), "a buffer was free");
                }
                _ => {
                    let mut buf = arena.take().expect("a buffer was free");
                    buf.extend(&packet);
                    let offload = Offload::default();
                    frames.push((Frame { buf, offload }, vec![packet]));
                }
            }
        }
        self.coalescer.flush(&mut whole);
        frames.extend(whole.into_iter().map(|(_, packet)| {
            let mut packets = Vec::new();
            cut(&packet, &mut packets);
            let offload = *packet.offload();
            let buf = packet.into_buf();
            (Frame { offload, buf }, packets)
        }));
        frames
    }

    /// Datagrams as a socket gives them: some of one sender and length in a train, as UDP_GRO does.
    fn take_trains(&mut self) -> Vec<Datagrams> {
        let gro = self.random.percent(70);
        let arena = &mut self.out.tunnel.arena;
        let mut trains: Vec<Datagrams> = Vec::new();
        let mut open = None;
        while arena.available() > BUFFERS / 4
            && let Some((lane, remote, bytes)) = self.datagrams.pop_front()
        {
            if let (Some((way, length)), Some(train)) = (open, trains.last_mut())
                && gro
                && way == (lane, remote)
                && bytes.len() <= length
            {
                train.buf.set_stride(length);
                train.buf.extend(&bytes);
                // A shorter one ends it.
                open = (bytes.len() == length && train.buf.len() < 30_000)
                    .then_some(((lane, remote), length));
                continue;
            }
            let mut buf = arena.take().expect("a buffer was free");
            buf.extend(&bytes);
            open = Some(((lane, remote), bytes.len()));
            trains.push(Datagrams {
                lane,
                path: remote.into(),
                ecn: 0,
                buf,
            });
        }
        trains
    }

    fn drain(&mut self, now: Time, rings: &mut Rings, breath: &mut Breath) {
        self.balance("before sending");
        self.hand_over(now, rings);
        while let Some(mut datagrams) = self.next_train() {
            self.out.ledger().sent += datagrams.buf.frames() as u64;
            for frame in datagrams.buf.frames_mut() {
                let (lane, remote) = (datagrams.lane, datagrams.path.remote);
                breath.wire.push((lane, remote, frame.to_vec()));
            }
            self.out.tunnel.arena.put(datagrams.buf);
        }
        while let Some(packet) = self.out.pods.pop() {
            self.out.ledger().sent += packet.segments() as u64;
            cut(&packet, &mut breath.pods);
            self.out.tunnel.arena.put(packet.into_buf());
        }
        while let Some(buf) = self.out.tunnel.arena.take_foreign() {
            rings.send_home(now, buf);
        }
        self.balance("after sending");
    }

    /// The next train to be sent; those that helpers have sealed come last.
    fn next_train(&mut self) -> Option<Datagrams> {
        let out = &mut self.out.tunnel;
        if let Some(train) = out.wire.pop() {
            return Some(train);
        }
        let train = out.unsealed.pop();
        if train.is_none() {
            out.sealing = Sealing::AtOnce;
        }
        train.map(Unsealed::into_datagrams)
    }

    /// *received + originated + crossed in = sent + consumed + crossed out + queued + Σ drops*.
    fn balance(&mut self, when: &str) {
        let queued = self.out.queued() + self.forwarder.queued();
        let dropped: u64 = self.out.dropped().map(|(_, segments)| segments).sum();
        let ledger = *self.out.ledger();
        assert_eq!(
            ledger.received + ledger.originated + ledger.crossed_in,
            ledger.sent + ledger.consumed + ledger.crossed_out + queued + dropped,
            "{} worker {}, {when}: {ledger:?}, queued {queued}, dropped {dropped}: {:?}",
            node_name(self.node),
            self.share.own,
            self.drops(),
        );
    }

    /// Its books.
    pub fn ledger(&mut self) -> Ledger {
        *self.out.ledger()
    }

    /// What was dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.out.dropped().filter(|(_, n)| *n > 0).collect()
    }
}

/// The packets that a super-packet is on a wire.
pub(crate) fn cut(packet: &Packet, into: &mut Vec<Vec<u8>>) {
    let mut segmenter = Segmenter::new(packet);
    loop {
        let mut segment = vec![0; segmenter.next_length()];
        match segmenter.next(&mut segment) {
            Some(_) => into.push(segment),
            None => break,
        }
    }
}
