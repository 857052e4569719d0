//! How the control thread speaks to a worker: a slot for the newest snapshot, a short queue of
//! questions, and a bell. The worker looks into it once per breath and never waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel;
use datapath::{Forwarder, Outbox, Snapshot};
use driver::{Engine, Sent};
use packet::Now;

use crate::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering, Waker};

/// Questions that may wait; who brings one more is told that the worker is busy.
const QUESTIONS_MAX: usize = 64;
/// How long a worker may take to answer before it counts as stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a question may touch while the worker answers it.
pub struct Desk<'a> {
    /// The core.
    pub forwarder: &'a mut Forwarder,
    /// What the core gives back.
    pub out: &'a mut Outbox,
    /// The devices.
    pub engine: &'a mut dyn Engine,
    /// What the devices took and did not take, so far.
    pub sent: &'a Sent,
    /// How many threads do the cipher's work beside it.
    pub helpers: usize,
    /// Messages that those have in hand, or that wait behind them.
    pub sealing: u64,
    /// The time of this breath.
    pub now: Now,
}

/// Something to be done between two batches.
pub(crate) type Question = Box<dyn FnOnce(&mut Desk<'_>) + Send>;

/// The one shared thing between control and a worker.
pub struct Mailbox {
    snapshot: ArrayQueue<Arc<Snapshot>>,
    questions: ArrayQueue<Question>,
    epoch: AtomicU64,
    stopping: AtomicBool,
    bell: Waker,
}

/// What a worker will say.
pub struct Answer<T> {
    answered: channel::Receiver<T>,
    until: Instant,
}

impl<T> Answer<T> {
    /// Waits for it.
    ///
    /// # Errors
    /// [`MailError::NoAnswer`] when none has come 5 s after the question.
    pub fn wait(self) -> Result<T, MailError> {
        let answer = self.answered.recv_deadline(self.until);
        answer.map_err(|_| MailError::NoAnswer)
    }
}

/// The worker did not answer.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Too many questions wait.
    #[error("the worker has more questions than it answers; try again")]
    Full,
    /// The worker has ended, or hangs.
    #[error("the worker does not answer")]
    NoAnswer,
}

impl Mailbox {
    /// An empty mailbox whose bell is `bell`.
    pub fn new(bell: Waker) -> Mailbox {
        Mailbox {
            snapshot: ArrayQueue::new(1),
            questions: ArrayQueue::new(QUESTIONS_MAX),
            epoch: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            bell,
        }
    }

    /// Replaces the snapshot that waits to be adopted; one that nobody adopted is forgotten.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        drop(self.snapshot.force_push(snapshot));
        self.ring();
    }

    /// Has the worker do something between two batches, and waits for what it returns.
    ///
    /// # Errors
    /// [`MailError`] if the worker has no room for it, or does not answer within 5 s.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk<'_>) -> T + Send + 'static,
    ) -> Result<T, MailError> {
        self.put(question)?.wait()
    }

    /// The same, for who has others to ask before it waits.
    ///
    /// # Errors
    /// [`MailError::Full`] if the worker has no room for it.
    pub fn put<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk<'_>) -> T + Send + 'static,
    ) -> Result<Answer<T>, MailError> {
        let (answer, answered) = channel::bounded(1);
        let until = Instant::now() + ANSWER_TIMEOUT;
        let question: Question = Box::new(move |desk| {
            // Who asked may have given up.
            let _ = answer.send(question(desk));
        });
        self.questions.push(question).map_err(|_| MailError::Full)?;
        self.ring();
        Ok(Answer { answered, until })
    }

    /// Tells the worker to end after its breath.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether the worker is to end.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The epoch that the worker judges by.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if let Err(error) = self.bell.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    pub(crate) fn take_snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.pop()
    }

    /// How many questions wait. One that comes later rings for itself.
    pub(crate) fn waiting(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn take_question(&self) -> Option<Question> {
        self.questions.pop()
    }

    pub(crate) fn adopted(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }
}
