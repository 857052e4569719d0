//! The workers of a node, each on a thread of its own. One that dies, by an error of its devices or
//! by a bug, is made anew, alone: its TUN, its sockets, its flows and buffers. The others go on.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driver::EngineError;
use tokio::sync::mpsc;

use crate::mailbox::Mailbox;
use crate::node::NodeError;

/// Deaths of one worker within [`PERIOD`] after which the node ends: what kills it will not go away.
const DEATHS_MAX: usize = 6;
const PERIOD: Duration = Duration::from_secs(60);
/// How long a second death in [`PERIOD`] makes a worker wait, doubled with each further one; the
/// first is followed by a start at once.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a worker's thread does.
pub type Work = Box<dyn FnOnce() -> Result<(), EngineError> + Send>;

/// All workers of a node.
pub struct Crew {
    members: Vec<Member>,
    make: Box<dyn FnMut(u16) -> Result<Work, NodeError>>,
    tell: mpsc::UnboundedSender<u16>,
    told: mpsc::UnboundedReceiver<u16>,
}

/// One worker, dead or alive.
pub struct Member {
    /// How control speaks to it; it stays when the worker is made anew.
    pub mailbox: Arc<Mailbox>,
    /// How often it was made anew.
    pub restarts: u64,
    /// Why it ended last.
    pub last_end: Option<String>,
    thread: Option<JoinHandle<Result<(), EngineError>>>,
    deaths: VecDeque<Instant>,
    due: Option<Instant>,
}

/// A worker ended more often than can be mended.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} ended {DEATHS_MAX} times within a minute, the last time because {why}")]
pub struct Hopeless {
    worker: u16,
    why: String,
}

impl Crew {
    /// Makes every worker, and then starts them. `make` is called again for one that died.
    ///
    /// # Errors
    /// The first thing that cannot be made.
    pub fn start(
        mailboxes: Vec<Arc<Mailbox>>,
        mut make: impl FnMut(u16) -> Result<Work, NodeError> + 'static,
    ) -> Result<Crew, NodeError> {
        let numbers = 0..mailboxes.len() as u16;
        let works = numbers.map(&mut make).collect::<Result<Vec<_>, _>>()?;
        let mut crew = Crew::nobody();
        crew.members = mailboxes.into_iter().map(Member::new).collect();
        crew.make = Box::new(make);
        for (number, work) in (0..).zip(works) {
            crew.set_to_work(number, work)?;
        }
        Ok(crew)
    }

    /// No workers at all.
    pub fn nobody() -> Crew {
        let (tell, told) = mpsc::unbounded_channel();
        Crew {
            members: Vec::new(),
            make: Box::new(|_| Ok(Box::new(|| Ok(())))),
            tell,
            told,
        }
    }

    /// The workers, by their numbers.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether every worker is at work.
    pub fn is_whole(&self) -> bool {
        self.members.iter().all(Member::is_alive)
    }

    /// Waits until a worker is to be made anew, because one has ended or has waited long enough
    /// since; its number.
    ///
    /// # Errors
    /// [`Hopeless`] when one ends again and again.
    pub async fn next_vacancy(&mut self) -> Result<u16, Hopeless> {
        loop {
            let first = (0_u16..)
                .zip(&self.members)
                .filter_map(|(number, member)| Some((member.due?, number)))
                .min();
            let due = async {
                match first {
                    Some((due, _)) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(number) = self.told.recv() => self.bury(number)?,
                () = due => if let Some((_, number)) = first {
                    return Ok(number);
                },
            }
        }
    }

    /// Makes a worker anew and sets it to work. Where it cannot be made, that is one more death.
    ///
    /// # Errors
    /// [`Hopeless`] when that has happened too often.
    pub fn replace(&mut self, number: u16) -> Result<(), Hopeless> {
        let Some(member) = self.members.get_mut(usize::from(number)) else {
            return Ok(());
        };
        member.due = None;
        // It judges by nothing until it has adopted something.
        member.mailbox.adopted(0);
        let made = (self.make)(number);
        match made.and_then(|work| Ok(self.set_to_work(number, work)?)) {
            Ok(()) => {
                self.members[usize::from(number)].restarts += 1;
                Ok(())
            }
            Err(error) => self.mourn(number, error.to_string()),
        }
    }

    fn set_to_work(&mut self, number: u16, work: Work) -> std::io::Result<()> {
        let tell = Farewell(self.tell.clone(), number);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // Said at the end of the work, when all that was the worker's is gone, and by a
                // panic too.
                let _tell = tell;
                work()
            })?;
        self.members[usize::from(number)].thread = Some(thread);
        Ok(())
    }

    /// Takes in a thread that has ended.
    fn bury(&mut self, number: u16) -> Result<(), Hopeless> {
        let member = &mut self.members[usize::from(number)];
        let Some(thread) = member.thread.take() else {
            return Ok(());
        };
        let why = match thread.join() {
            Ok(Ok(())) => "it was told to stop".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("it panicked: {}", words(&*panic)),
        };
        self.mourn(number, why)
    }

    /// Notes an end, and when the worker is to be made anew.
    fn mourn(&mut self, number: u16, why: String) -> Result<(), Hopeless> {
        let member = &mut self.members[usize::from(number)];
        let now = Instant::now();
        member.deaths.push_back(now);
        let recent = |then: &Instant| now.duration_since(*then) < PERIOD;
        member.deaths.retain(recent);
        if member.deaths.len() >= DEATHS_MAX {
            return Err(Hopeless {
                worker: number,
                why,
            });
        }
        let wait = match member.deaths.len() {
            0 | 1 => Duration::ZERO,
            deaths => PATIENCE * (1 << (deaths - 2)),
        };
        tracing::error!(worker = number, "has ended, and is made anew: {why}");
        member.due = Some(now + wait);
        member.last_end = Some(why);
        Ok(())
    }
}

impl Drop for Crew {
    /// Tells every worker to end, and waits until all have.
    fn drop(&mut self) {
        for member in &self.members {
            member.mailbox.stop();
        }
        for (number, member) in self.members.iter_mut().enumerate() {
            if let Some(Err(panic)) = member.thread.take().map(JoinHandle::join) {
                tracing::error!(worker = number, "panicked at its end: {}", words(&*panic));
            }
        }
    }
}

impl Member {
    fn new(mailbox: Arc<Mailbox>) -> Member {
        Member {
            mailbox,
            restarts: 0,
            last_end: None,
            thread: None,
            deaths: VecDeque::new(),
            due: None,
        }
    }

    /// Whether it is at work.
    pub fn is_alive(&self) -> bool {
        let ended = self.thread.as_ref().map(JoinHandle::is_finished);
        ended == Some(false)
    }
}

/// Dropped at the end of a thread: tells which.
struct Farewell(mpsc::UnboundedSender<u16>, u16);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens any more when the node ends.
        let _ = self.0.send(self.1);
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use driver::Waker;

    use super::*;

    fn mailboxes(count: usize) -> Vec<Arc<Mailbox>> {
        let mailbox = || Mailbox::new(Waker::new().expect("an eventfd"));
        (0..count).map(|_| Arc::new(mailbox())).collect()
    }

    /// Works until it is told to stop.
    fn diligent(mailbox: Arc<Mailbox>) -> Work {
        Box::new(move || {
            while !mailbox.stopping() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    }

    /// A crew of two whose worker 1 does `task` so often before it works; and how often that was.
    fn crew(times: u32, task: fn() -> Result<(), EngineError>) -> (Crew, Rc<Cell<u32>>) {
        let mailboxes = mailboxes(2);
        let (for_make, done) = (mailboxes.clone(), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&done);
        let make = move |number: u16| {
            if number == 1 && counted.get() < times {
                counted.set(counted.get() + 1);
                return Ok(Box::new(task) as Work);
            }
            Ok(diligent(Arc::clone(&for_make[usize::from(number)])))
        };
        (Crew::start(mailboxes, make).expect("a crew"), done)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(PERIOD, future).await.expect("in time") })
    }

    #[test]
    fn a_worker_that_panics_is_made_anew_and_the_others_go_on() {
        let (mut crew, panics) = crew(2, || panic!("of the test"));
        let other = crew.members[0].thread.as_ref().map(|t| t.thread().id());
        crew.members[1].mailbox.adopted(7);
        for restarts in 1..=2 {
            assert_eq!(block_on(crew.next_vacancy()).expect("not hopeless"), 1);
            assert!(!crew.is_whole());
            crew.replace(1).expect("made");
            assert_eq!(crew.members[1].restarts, restarts);
            assert_eq!(crew.members[1].mailbox.epoch(), 0, "it judges by nothing");
        }
        let said = crew.members[1].last_end.as_deref();
        assert_eq!(said, Some("it panicked: of the test"));
        assert!(crew.is_whole());
        assert_eq!((panics.get(), crew.members[0].restarts), (2, 0));
        let still = crew.members[0].thread.as_ref().map(|t| t.thread().id());
        assert_eq!(other, still, "nobody touched the other");
    }

    #[test]
    fn a_worker_that_never_lives_ends_the_node_with_a_sentence() {
        let (mut crew, ends) = crew(u32::MAX, || {
            Err(EngineError::Kernel {
                step: "reading the TUN",
                error: std::io::Error::other("of the test"),
            })
        });
        let mut ended = || {
            let number = block_on(crew.next_vacancy())?;
            crew.replace(number)
        };
        let hopeless = (0..20).find_map(|_| ended().err()).expect("an end");
        let sentence = hopeless.to_string();
        let begin = "worker 1 ended 6 times within a minute, the last time because ";
        assert!(sentence.starts_with(begin), "{sentence}");
        assert!(sentence.contains("of the test"), "{sentence}");
        assert_eq!(ends.get() as usize, DEATHS_MAX);
    }

    #[test]
    fn a_worker_that_cannot_be_made_is_tried_again() {
        let mailboxes = mailboxes(1);
        let (mailbox, made) = (Arc::clone(&mailboxes[0]), Cell::new(0));
        let make = move |_| {
            made.set(made.get() + 1);
            match made.get() {
                1 => Ok(Box::new(|| Ok(())) as Work),
                2 => Err(std::io::Error::other("of the test").into()),
                _ => Ok(diligent(Arc::clone(&mailbox))),
            }
        };
        let mut crew = Crew::start(mailboxes, make).expect("a crew");
        for restarts in [0, 1] {
            assert_eq!(block_on(crew.next_vacancy()).expect("not hopeless"), 0);
            crew.replace(0).expect("not hopeless");
            assert_eq!(crew.members[0].restarts, restarts);
        }
        assert!(crew.is_whole());
    }
}
