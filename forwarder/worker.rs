//! A worker: one thread, its devices, its lanes, its flows.

use std::iter;
use std::sync::Arc;

use datapath::{Forwarder, HealthChange, Outbox, Sparse};
use driver::{Engine, EngineError, Sent};
use packet::{Batch, Datagrams, Frame, Now};
use tokio::sync::mpsc;
use tunnel::{Sealing, Unopened};

use crate::flows::Told;
use crate::helpers::Helpers;
use crate::mailbox::{Desk, Mailbox};
use crate::neighbours::Neighbours;
use crate::ring::Ring;

/// Buffers of a worker: what may be received, queued and under way at once. Pages that were never
/// used take no memory.
pub(crate) const BUFFERS: usize = 512;
/// Trains from the wire that a worker holds at most, beside those that were given to helpers.
const TRAINS_HELD: usize = 32;
/// Frames that a worker holds at most. It takes in more than it handles in a breath, so that a single
/// packet behind many super-packets is seen, and handled, before them.
const FRAMES_HELD: usize = 64;
/// Bytes of frames after which a breath handles no more, and the wire has its turn again: three
/// super-packets, some 0.15 ms of sealing.
const FRAMES_SHARE: usize = 128 << 10;
/// Bytes of trains after which a breath delivers no more, and single packets have their turn again; of
/// what helpers have, it may open a few trains beside. A message counts as [`MESSAGE`] at least: the
/// cipher, and all that is done for each, take that long.
const TRAINS_SHARE: usize = 128 << 10;
const MESSAGE: usize = 512;
/// Bytes of trains over which packets towards the pods are made whole: of many flows there are few in
/// one share. With 32 of TCP it took an eighth of the throughput to end with each.
const GROWTH: usize = 512 << 10;
/// Bytes of frames in a breath from which on helpers are of use: more than one train.
const SHARED_FRAMES: usize = 72 << 10;
/// Trains from the wire that are held, of so many bytes, from which on helpers are of use. Fewer say
/// that the worker keeps up, and what another core has decrypted comes back to this one's cache: on
/// two cores that both had work, sharing two trains cost a tenth of the throughput.
const SHARED_TRAINS: usize = 6;
const SHARED_TRAIN: usize = 8 << 10;
/// Packets taken from each neighbour in one breath.
const CROSSING_BATCH: usize = 64;
/// Trains that may wait for the wire, and packets for the pods and for each neighbour.
const TRANSMIT_BATCH: usize = 256;

/// Who is told what a worker notices.
#[derive(Clone)]
pub struct Listeners {
    /// That a node begins or ceases to answer: control.
    pub(crate) health: mpsc::Sender<HealthChange>,
    /// What happens to flows: the collector of their records.
    pub(crate) flows: Arc<Ring<Told>>,
}

/// One worker, ready to run on a thread of its own.
pub struct Worker<E> {
    engine: E,
    forwarder: Forwarder,
    out: Outbox,
    frames: Batch<Frame>,
    sparse: Sparse,
    datagrams: Batch<Datagrams>,
    /// Bytes of trains since packets were last made whole to their end; 0: none is held.
    grown: usize,
    sent: Sent,
    now: Now,
    mailbox: Arc<Mailbox>,
    neighbours: Neighbours,
    helpers: Helpers,
    listeners: Option<Listeners>,
    /// Changes that control had no room for yet.
    untold: Vec<HealthChange>,
}

impl<E: Engine> Worker<E> {
    /// Worker `number` among its neighbours, with its helpers; it tells its listeners when a node
    /// begins or ceases to answer, and what happens to flows.
    pub fn new(
        number: u16,
        engine: E,
        forwarder: Forwarder,
        mailbox: Arc<Mailbox>,
        neighbours: Neighbours,
        helpers: Helpers,
        listeners: Option<Listeners>,
    ) -> Worker<E> {
        let tunnel = tunnel::Outbox::new(number, BUFFERS, TRANSMIT_BATCH);
        let out = Outbox::new(tunnel, TRANSMIT_BATCH);
        let sparse = forwarder.sparse(FRAMES_HELD);
        Worker {
            engine,
            forwarder,
            out: out.among(neighbours.workers() as u16, TRANSMIT_BATCH),
            frames: Batch::with_limit(FRAMES_HELD),
            sparse,
            datagrams: Batch::with_limit(TRAINS_HELD),
            grown: 0,
            sent: Sent::default(),
            now: driver::now(),
            mailbox,
            neighbours,
            helpers,
            listeners,
            untold: Vec::new(),
        }
    }

    /// Breathes until it is told to stop.
    ///
    /// # Errors
    /// [`EngineError`] when a device is gone.
    pub fn run(mut self) -> Result<(), EngineError> {
        while !self.mailbox.stopping() {
            self.breath()?;
        }
        Ok(())
    }

    /// Sleep, receive, handle, transmit.
    ///
    /// # Errors
    /// [`EngineError`] when a device is gone.
    pub fn breath(&mut self) -> Result<(), EngineError> {
        let timeout = match self.lie_down() {
            // What a helper has in hand may take long if it has lost its core: nothing that was opened
            // already waits for that.
            true if self.grown > 0 => {
                self.grown = GROWTH;
                Some(self.now.time)
            }
            true => self.forwarder.poll_timeout(),
            false => Some(self.now.time),
        };
        let timeout = timeout.map(|due| due.since(self.now.time));
        let arena = &mut self.out.tunnel.arena;
        self.engine
            .turn(timeout, arena, &mut self.frames, &mut self.datagrams)?;
        self.neighbours.rise();
        self.helpers.rise();
        self.now = driver::now();
        self.read_mail();
        self.take_crossings()?;
        self.handle_sparse()?;
        self.handle_datagrams()?;
        self.handle_frames()?;
        self.flush();
        let (now, out) = (self.now, &mut self.out);
        if self
            .forwarder
            .poll_timeout()
            .is_some_and(|due| due <= now.time)
        {
            self.forwarder.handle_timeout(now, out);
            self.tell_health();
        }
        self.transmit()?;
        self.neighbours.ring();
        self.tell_flows();
        Ok(())
    }

    /// Before a sleep: says to the others that this worker may be asleep until they are told
    /// otherwise; `false` if there is something to do already.
    fn lie_down(&self) -> bool {
        (self.frames.is_empty() || !self.helpers.take_frames())
            && (self.datagrams.is_empty() || !self.helpers.take_trains())
            && self.helpers.lie_down()
            && self.neighbours.lie_down(&self.out.tunnel.arena)
    }

    /// Handles the frames that need not wait for those in front of them. They are on their way before
    /// anything else is handled, unless a helper still has a train in hand.
    fn handle_sparse(&mut self) -> Result<(), EngineError> {
        self.sparse.pick(&mut self.frames);
        if self.sparse.is_empty() {
            return Ok(());
        }
        self.forwarder.foresee(self.sparse.iter());
        while let Some(frame) = self.sparse.pop() {
            self.forwarder.handle_frame(self.now, frame, &mut self.out);
            self.relieve()?;
        }
        self.send_off()
    }

    /// Handles a breath's share of what the wire gave; before many frames are sealed it is on its way.
    fn handle_datagrams(&mut self) -> Result<(), EngineError> {
        if self.datagrams.is_empty() && !self.helpers.have_trains() {
            return Ok(());
        }
        let shared = self.helpers.have_trains() || self.is_work_to_share();
        if shared {
            self.give_out_trains();
        }
        let mut bytes = 0;
        while bytes < TRAINS_SHARE
            && let Some(train) = self.next_train(shared)
        {
            bytes += cost(train.datagrams());
            self.forwarder
                .handle_unopened(self.now, train, &mut self.out);
            self.relieve()?;
        }
        self.grown += bytes;
        match self.frames.is_empty() {
            true => Ok(()),
            false => self.send_off(),
        }
    }

    /// Whether so much came from the wire that helpers are of use.
    fn is_work_to_share(&self) -> bool {
        let trains = self.datagrams.iter().map(|train| train.buf.len());
        let long = trains.filter(|bytes| *bytes >= SHARED_TRAIN);
        self.helpers.count() > 0 && long.count() >= SHARED_TRAINS
    }

    /// Gives trains from the wire to whoever helps.
    fn give_out_trains(&mut self) {
        let (forwarder, datagrams, now) = (&mut self.forwarder, &mut self.datagrams, self.now);
        let trains = iter::from_fn(|| datagrams.pop());
        self.helpers
            .open(trains.map(|train| forwarder.unopened(now, train)));
    }

    /// The oldest train from the wire. `None`: there is none, or a helper has it; that waits for the next
    /// breath then, and so does all behind it.
    fn next_train(&mut self, shared: bool) -> Option<Unopened> {
        match shared {
            true => self.helpers.next_opened(),
            false => self.datagrams.pop().map(Unopened::from),
        }
    }

    /// Handles a breath's share of the frames; the rest waits for the next.
    fn handle_frames(&mut self) -> Result<(), EngineError> {
        if !self.helpers.take_frames() {
            return Ok(());
        }
        let mut bytes = 0;
        let share = self.frames.iter().take_while(|frame| {
            let fits = bytes < FRAMES_SHARE;
            bytes += frame.buf.len();
            fits
        });
        let share = share.count();
        if self.helpers.count() > 0 && bytes >= SHARED_FRAMES {
            self.out.tunnel.sealing = Sealing::Later;
        }
        self.forwarder.foresee(self.frames.iter().take(share));
        for _ in 0..share {
            let Some(frame) = self.frames.pop() else {
                break;
            };
            self.forwarder.handle_frame(self.now, frame, &mut self.out);
            self.relieve()?;
        }
        Ok(())
    }

    fn take_crossings(&mut self) -> Result<(), EngineError> {
        self.neighbours.take_home(&mut self.out.tunnel.arena);
        for other in self.neighbours.others() {
            for _ in 0..CROSSING_BATCH {
                let Some(crossing) = self.neighbours.take_crossing(other) else {
                    break;
                };
                self.forwarder
                    .handle_crossing(self.now, crossing, &mut self.out);
                self.relieve()?;
            }
        }
        Ok(())
    }

    fn read_mail(&mut self) {
        if let Some(snapshot) = self.mailbox.take_snapshot() {
            let epoch = snapshot.epoch;
            // Control keeps the one before until it sees the epoch: nothing large is freed here.
            drop(self.forwarder.adopt(self.now, snapshot, &mut self.out));
            self.mailbox.adopted(epoch);
        }
        if self.mailbox.waiting() > 0 {
            // A question may change whom a peer is, and what is held was taken from the one that it was.
            self.forwarder.flush(self.now, &mut self.out);
        }
        // What is asked meanwhile has rung for the next breath: two who ask again and again must not
        // keep the worker from its packets.
        for _ in 0..self.mailbox.waiting() {
            let Some(question) = self.mailbox.take_question() else {
                return;
            };
            question(&mut Desk {
                forwarder: &mut self.forwarder,
                out: &mut self.out,
                engine: &mut self.engine,
                sent: &self.sent,
                helpers: self.helpers.count(),
                sealing: self.helpers.queued(),
                now: self.now,
            });
        }
    }

    /// Transmits in the middle of a breath, when another input might not fit.
    fn relieve(&mut self) -> Result<(), EngineError> {
        if self.out.is_crowded() {
            self.send_off()?;
            self.neighbours.take_home(&mut self.out.tunnel.arena);
        }
        Ok(())
    }

    /// Lets go all that was handled, in the middle of a breath. A neighbour is woken for its part: what
    /// it sleeps through would fill its ring, and wait.
    fn send_off(&mut self) -> Result<(), EngineError> {
        self.flush();
        self.transmit()?;
        self.neighbours.ring();
        Ok(())
    }

    /// Lets go on to the pods what was opened. While the wire has given more, what has begun to grow may
    /// go on, for a while.
    fn flush(&mut self) {
        let (now, out) = (self.now, &mut self.out);
        let more = !self.datagrams.is_empty() || self.helpers.have_trains();
        if more && self.grown < GROWTH {
            self.forwarder.flush_singles(now, out);
        } else {
            self.grown = 0;
            self.forwarder.flush(now, out);
        }
    }

    fn transmit(&mut self) -> Result<(), EngineError> {
        self.neighbours.hand_over(&mut self.out);
        let Outbox { tunnel, pods, .. } = &mut self.out;
        let sent = &mut self.sent;
        loop {
            self.helpers.seal(tunnel);
            self.engine
                .transmit(pods, &mut tunnel.wire, &mut tunnel.arena, sent)?;
            if !self.helpers.has_sealed(tunnel) {
                break;
            }
        }
        tunnel.ledger.sent = sent.pods + sent.wire;
        if let Some((remote, bytes)) = sent.too_big.take() {
            self.forwarder.handle_too_big(self.now, remote, bytes);
        }
        self.neighbours.send_home(&mut tunnel.arena);
        Ok(())
    }

    fn tell_health(&mut self) {
        self.untold.extend(self.forwarder.take_health_changes());
        let Some(Listeners { health, .. }) = &self.listeners else {
            return;
        };
        while let Some(change) = self.untold.first() {
            if health.try_send(change.clone()).is_err() {
                return;
            }
            self.untold.remove(0);
        }
    }

    /// Leaves what happened to flows to who collects it; what its ring has no room for waits.
    fn tell_flows(&mut self) {
        let Some(Listeners { flows, .. }) = &self.listeners else {
            return;
        };
        let unix_ns = self.now.unix_ns;
        self.forwarder
            .hand_over_records(|record| flows.push(Told { record, unix_ns }).is_ok());
    }
}

/// What of [`TRAINS_SHARE`] a train takes.
fn cost(train: &Datagrams) -> usize {
    train.buf.len().max(train.buf.frames() * MESSAGE)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use datapath::Settings;
    use driver::Waker;
    use packet::Arena;
    use tunnel::Lane;

    use super::*;
    use crate::no_devices::NoDevices;

    const SETTINGS: Settings = Settings {
        mtu: 1_420,
        flows: 0,
        probe_interval: Duration::MAX,
        probe_count: 0,
        secret: (0, 0),
    };

    fn worker(neighbours: Neighbours) -> Worker<NoDevices> {
        worker_with(neighbours, 0)
    }

    /// One with so many helpers.
    fn worker_with(neighbours: Neighbours, helpers: usize) -> Worker<NoDevices> {
        let waker = Waker::new().expect("an eventfd");
        let forwarder = Forwarder::plain(SETTINGS, Lane::unkeyed(0, [1; 32]));
        let mailbox = Arc::new(Mailbox::new(waker.clone()));
        let engine = NoDevices::new(waker.clone());
        let helpers = Helpers::with_count(helpers, waker);
        Worker::new(0, engine, forwarder, mailbox, neighbours, helpers, None)
    }

    /// Asks, and while that is answered asks again, up to a hundred times.
    fn ask_on_and_on(mailbox: Arc<Mailbox>, answered: Arc<AtomicUsize>) {
        let asked = Arc::clone(&mailbox).put(move |_| {
            if answered.fetch_add(1, Ordering::Relaxed) < 100 {
                ask_on_and_on(mailbox, answered);
            }
        });
        assert!(asked.is_ok());
    }

    #[test]
    fn a_breath_answers_what_was_asked_before_it_and_nothing_asked_meanwhile() {
        let mut worker = worker(Neighbours::nobody());
        let answered = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            ask_on_and_on(Arc::clone(&worker.mailbox), Arc::clone(&answered));
        }
        for breaths in 1..=3 {
            worker.breath().expect("a breath");
            assert_eq!(answered.load(Ordering::Relaxed), 2 * breaths);
        }
    }

    /// A worker that holds as many trains as it can, each of so many messages of so many bytes; none
    /// has a key.
    fn full_worker(helpers: usize, messages: usize, bytes: usize) -> Worker<NoDevices> {
        let mut worker = worker_with(Neighbours::nobody(), helpers);
        for _ in 0..TRAINS_HELD {
            let mut buf = worker.out.tunnel.arena.take().expect("a buffer");
            buf.grow_back(messages * bytes);
            buf.set_stride(bytes);
            let remote: SocketAddr = "192.0.2.1:1".parse().expect("an address");
            let train = Datagrams {
                lane: 0,
                path: remote.into(),
                ecn: 0,
                buf,
            };
            worker.datagrams.push(train).expect("room");
        }
        worker
    }

    #[test]
    fn a_breath_opens_its_share_of_the_trains_and_the_worker_goes_on_until_none_is_left() {
        for helpers in [0, 1] {
            for (messages, bytes) in [(20, 1_600), (64, 96)] {
                let mut worker = full_worker(helpers, messages, bytes);
                let mut lent = TRAINS_HELD;
                while lent > 0 {
                    worker.breath().expect("a breath");
                    let left = worker.out.tunnel.arena.lent();
                    let share = lent - left;
                    assert!((4..=5).contains(&share) || left == 0, "{share} of {lent}");
                    assert_eq!(worker.lie_down(), left == 0);
                    lent = left;
                }
            }
        }
    }

    #[test]
    fn a_neighbour_is_woken_in_the_middle_of_a_breath_for_what_it_is_given_there() {
        let wakers = (0..2).map(|_| Waker::new().expect("an eventfd"));
        let all = Neighbours::of_all(wakers.collect(), BUFFERS);
        let (mut worker, there) = (worker(all[0].successor()), &all[1]);
        let mut theirs = Arena::new(1, 1);
        let arena = &mut worker.out.tunnel.arena;
        arena.put(theirs.take().expect("a buffer"));
        let lent: Vec<_> = std::iter::from_fn(|| arena.take()).collect();
        assert!(
            there.lie_down(&theirs),
            "it may sleep until it has a buffer"
        );
        worker.relieve().expect("relieved");
        assert!(there.was_woken());
        lent.into_iter()
            .for_each(|buf| worker.out.tunnel.arena.put(buf));
    }
}
