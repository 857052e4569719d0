//! What is told of flows, on its way to people.
//!
//! ```text
//! worker ─ records ─→ ring ─→ collector ─┬→ the last ones, remembered   (GET /flows)
//!                                        ├→ who follows                 (GET /flows?follow=true)
//!                                        └→ bounded queue → the log's writer → disk
//! ```
//!
//! A worker only leaves a record in its ring. One thread of its own gives it names by the snapshot
//! that judged it; text is made of it where somebody reads. Every one of these places is bounded,
//! and counts what it has no room for: nobody who reads slowly holds anybody up.

mod log;
mod named;
mod names;
mod pen;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use config::Config;
use datapath::{Record, Snapshot};
use tokio::sync::broadcast;

use crate::ring::Ring;
use log::Log;
pub(crate) use named::Named;
use names::Names;
pub use record::{Ended, FlowRecord, Party, ServiceName, Way};

/// Records of one worker that may wait for the collector.
const RING: usize = 1_024;
/// How many records are remembered.
const REMEMBERED: usize = 4_096;
/// How far who follows may stay behind.
const BEHIND_MAX: usize = 4_096;
/// How long the collector rests after it found something, and after it found nothing.
const BUSY: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_millis(100);

/// A record with its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// What happened.
    pub(crate) record: Record,
    /// When, in nanoseconds since 1970.
    pub(crate) unix_ns: u64,
}

/// The collector's thread, and the log's if there is one. They end with it.
#[derive(Debug)]
pub(crate) struct Recorder {
    board: Arc<Board>,
    collector: Option<JoinHandle<()>>,
    log: Option<Log>,
}

/// What the collector shares with who asks.
#[derive(Debug)]
pub(crate) struct Board {
    rings: Vec<Arc<Ring<Told>>>,
    /// Names of the clusters, by their ids.
    clusters: BTreeMap<u8, String>,
    node: String,
    state: Mutex<State>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    names: Names,
    /// Oldest first.
    remembered: VecDeque<Arc<Named>>,
    followers: broadcast::Sender<Arc<Named>>,
    log: Option<log::Queue>,
}

impl Recorder {
    /// Begins to collect what so many workers tell.
    ///
    /// # Errors
    /// What the system said: of a thread, or of the log's file.
    pub(crate) fn start(config: &Config, workers: usize) -> io::Result<Recorder> {
        let log = config.flow_log.as_ref().map(Log::open).transpose()?;
        let others = config.clusters.iter().map(|other| &other.cluster);
        let clusters = std::iter::once(&config.cluster).chain(others);
        let clusters = clusters.map(|c| (c.id, c.name.clone())).collect();
        let board = Arc::new(Board::new(&config.node, clusters, workers));
        let mut recorder = Recorder {
            board: Arc::clone(&board),
            collector: None,
            log: None,
        };
        if let Some(log) = log {
            board.lock().log = Some(log.start(Arc::clone(&board), &mut recorder.log)?);
        }
        let thread = std::thread::Builder::new().name("flows".into());
        recorder.collector = Some(thread.spawn(move || board.collect_on())?);
        Ok(recorder)
    }

    /// What is told, for who asks.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Where a worker leaves its records.
    pub(crate) fn ring(&self, worker: u16) -> Arc<Ring<Told>> {
        Arc::clone(&self.board.rings[usize::from(worker)])
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.board.stopping.store(true, Ordering::Release);
        if let Some(collector) = self.collector.take() {
            collector.thread().unpark();
            // A panic was written to the log of the process.
            let _ = collector.join();
        }
        // The writer ends when its queue does.
        self.board.lock().log = None;
        if let Some(log) = self.log.take() {
            log.end();
        }
    }
}

impl Board {
    /// One for a node with so many workers, in a mesh of these clusters.
    pub(crate) fn new(node: &str, clusters: BTreeMap<u8, String>, workers: usize) -> Board {
        let ring = |_| Arc::new(Ring::with_limit(RING));
        Board {
            rings: (0..workers).map(ring).collect(),
            clusters,
            node: node.to_owned(),
            state: Mutex::new(State {
                names: Names::default(),
                remembered: VecDeque::new(),
                followers: broadcast::Sender::new(BEHIND_MAX),
                log: None,
            }),
            stopping: AtomicBool::new(false),
        }
    }

    /// Workers will judge by this snapshot.
    pub(crate) fn adopt(&self, snapshot: &Arc<Snapshot>) {
        let mut state = self.lock();
        state.collect(&self.rings);
        state.names.adopt(snapshot);
    }

    /// What is remembered, oldest first.
    pub(crate) fn remembered(&self) -> Vec<Arc<Named>> {
        let mut state = self.lock();
        state.collect(&self.rings);
        state.remembered.iter().cloned().collect()
    }

    /// The same, and all that comes after it.
    pub(crate) fn follow(&self) -> (Vec<Arc<Named>>, broadcast::Receiver<Arc<Named>>) {
        let mut state = self.lock();
        state.collect(&self.rings);
        let past = state.remembered.iter().cloned().collect();
        (past, state.followers.subscribe())
    }

    /// How many records the log's disk was too slow for.
    pub(crate) fn unlogged(&self) -> u64 {
        self.lock().log.as_ref().map_or(0, log::Queue::lost)
    }

    /// A record as programs read it.
    pub(crate) fn describe(&self, named: &Named) -> FlowRecord {
        named.describe(&self.node, &self.clusters)
    }

    /// The same as one line, with its end.
    pub(crate) fn line(&self, named: &Named) -> String {
        let mut line = serde_json::to_string(&self.describe(named)).unwrap_or_default();
        line.push('\n');
        line
    }

    fn collect_on(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            let collected = self.lock().collect(&self.rings);
            std::thread::park_timeout(if collected > 0 { BUSY } else { IDLE });
        }
        self.lock().collect(&self.rings);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is shown is of no harm, whatever a thread was at when it panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in what the workers have left, and says how much.
    fn collect(&mut self, rings: &[Arc<Ring<Told>>]) -> usize {
        let mut collected = 0;
        for ring in rings {
            // Whatever comes meanwhile waits for the next time: it ends.
            for _ in 0..RING {
                let Some(told) = ring.pop() else { break };
                self.add(told);
                collected += 1;
            }
        }
        collected
    }

    fn add(&mut self, told: Told) {
        let named = Arc::new(Named::new(told, &self.names));
        if let Some(log) = &mut self.log {
            log.put(&named);
        }
        if self.followers.receiver_count() > 0 {
            // Nobody follows any more.
            let _ = self.followers.send(Arc::clone(&named));
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(named);
    }
}
