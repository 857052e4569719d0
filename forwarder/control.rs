//! The control thread: what is read (manifests, health, signals) becomes events of the world, and
//! what the world compiles goes to the host's rules and to the workers.

pub(crate) mod findings;
pub mod host;
mod intake;
mod last_good;
mod numbers;
mod observe;
pub(crate) mod policies;
pub mod report;
mod server;
mod sources;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use config::Config;
use datapath::{HealthChange, Share, Snapshot};
use mesh::{Compiled, Event, World};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tunnel::PublicKey;

use crate::crew::{Crew, Hopeless};
use crate::explain::Explainer;
use crate::flows::Board;
use crate::node;
use findings::Finding;
use host::{Host, HostError};
use intake::Intake;
use numbers::Numbers;
use server::{Request, Server, ServerError};
use sources::{Seen, Watch};

pub(crate) use server::remove_stale;
#[cfg(test)]
pub(crate) use server::{Request as AskedOfControl, Server as Socket};
pub(crate) use sources::is_manifest;

/// How long a burst of changes is gathered before it is compiled: far under the second in which a
/// change is to be applied, and long enough for a tool that writes many files.
const BURST: Duration = Duration::from_millis(20);

/// Why control could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Manifests are wrong, and there is no last good version of them.
    #[error("{}\nfarlane: what is wrong above was never right before; mend it and start again", .0.join("\n"))]
    FirstStart(Vec<String>),
    /// A source cannot be read.
    #[error("cannot read the manifests in {path}: {error}")]
    Source {
        /// The directory or file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The directories cannot be watched.
    #[error("cannot watch the manifests: {0}")]
    Watch(#[from] notify::Error),
    /// The host's rules.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The node's socket.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A worker ends again and again.
    #[error(transparent)]
    Hopeless(#[from] Hopeless),
}

/// Everything that control knows.
pub struct Control {
    pub(crate) config: Config,
    pub(crate) intake: Intake,
    pub(crate) world: World,
    numbers: Numbers,
    pub(crate) compiled: Arc<Compiled>,
    /// The workers; nobody before [`Control::run`].
    pub(crate) crew: Crew,
    /// Of the TUNs, in bytes; shared with who makes workers anew.
    pub(crate) mtu: Arc<AtomicU32>,
    pub(crate) host: Option<Host>,
    /// What is wrong with the host's rules, if anything: shown, and tried again with each change.
    pub(crate) host_problem: Option<String>,
    /// Answers about what is compiled; made when somebody asks, for each change once.
    explainer: Option<Arc<Explainer>>,
    /// What was said of the objects already.
    found: BTreeSet<Finding>,
    /// Who gives names to what the workers tell of flows; nobody before [`Control::run`].
    pub(crate) board: Option<Arc<Board>>,
    /// Snapshots that a worker may still hold: it must not be the one to free them.
    passed: VecDeque<Arc<Snapshot>>,
}

impl Control {
    /// Reads everything once.
    ///
    /// # Errors
    /// [`ControlError::FirstStart`] if something does not parse and never did.
    pub fn read(config: Config, keys: Vec<PublicKey>) -> Result<Control, ControlError> {
        let mut world = World::new(mesh::Settings::of(&config, keys));
        let mut intake = Intake::new(&config);
        for event in intake.read_first()? {
            world.apply(event);
        }
        world.apply(Event::Loaded);
        let mut numbers = Numbers::load(&config.state_dir);
        world.remember(numbers.kept());
        let compiled = world.compile();
        numbers.keep(&compiled.identities);
        let found = findings::log_new(&compiled, &BTreeSet::new());
        Ok(Control {
            config,
            intake,
            world,
            numbers,
            compiled,
            crew: Crew::nobody(),
            mtu: Arc::default(),
            host: None,
            host_problem: None,
            explainer: None,
            found,
            board: None,
            passed: VecDeque::new(),
        })
    }

    /// What the files of a node say, as [`Control::read`] would read them, but for what is kept in
    /// its state directory: nothing is written.
    ///
    /// # Errors
    /// [`ControlError::FirstStart`] if something does not parse.
    pub fn read_only(config: Config) -> Result<Arc<Compiled>, ControlError> {
        let mut world = World::new(mesh::Settings::of(&config, Vec::new()));
        for event in Intake::new(&config).read_once()? {
            world.apply(event);
        }
        world.apply(Event::Loaded);
        Ok(world.compile())
    }

    /// Serves the workers, whose devices have that MTU, until a signal ends it or a worker can no
    /// longer be made; takes away what it made on the host.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn run(
        mut self,
        crew: Crew,
        mtu: Arc<AtomicU32>,
        health: mpsc::Receiver<HealthChange>,
        board: Arc<Board>,
    ) -> Result<(), ControlError> {
        self.crew = crew;
        self.mtu = mtu;
        // Before anything is made on the host: a signal meanwhile ends the node as one later does.
        let signals = Signals::new()?;
        let (requests, requested) = mpsc::channel(16);
        let server = Server::listen(&self.config.socket, requests, Arc::clone(&board))?;
        self.board = Some(board);
        let (watch, seen) = Watch::new(self.intake.sources())?;
        // What has changed since everything was read, and before it was watched.
        for event in self.intake.read_again() {
            self.world.apply(event);
        }
        self.compiled = self.world.compile();
        self.numbers.keep(&self.compiled.identities);
        self.host = Some(Host::install(self.plan()).await?);
        self.publish();
        tracing::info!(
            node = self.config.node,
            epoch = self.compiled.snapshot.epoch,
            "running"
        );
        let outcome = self
            .serve(Inputs {
                requested,
                watch,
                seen,
                health,
                signals,
            })
            .await;
        drop(server);
        if let Some(host) = self.host.take() {
            // A worker that cannot be made is a crash: what was asked for then stays closed.
            if outcome.is_ok() {
                host.remove().await?;
            }
        }
        outcome
    }

    async fn serve(&mut self, mut inputs: Inputs) -> Result<(), ControlError> {
        loop {
            let events = tokio::select! {
                seen = inputs.seen.recv() => self.gather(seen, &mut inputs).await,
                Some(change) = inputs.health.recv() => vec![note(change)],
                Some(request) = inputs.requested.recv() => {
                    self.answer(request).await;
                    continue;
                }
                vacancy = self.crew.next_vacancy() => {
                    self.replace(vacancy?).await?;
                    continue;
                }
                () = host_changed(self.host.as_ref()) => {
                    tokio::time::sleep(BURST).await;
                    self.refresh_host().await;
                    continue;
                }
                _ = inputs.signals.hangup.recv() => self.intake.read_again(),
                _ = inputs.signals.terminate.recv() => return Ok(()),
                _ = inputs.signals.interrupt.recv() => return Ok(()),
            };
            if !events.is_empty() {
                self.change(events).await;
            }
        }
    }

    /// Waits for the rest of a burst, and reads what may be read.
    async fn gather(&mut self, first: Option<Seen>, inputs: &mut Inputs) -> Vec<Event> {
        tokio::time::sleep(BURST).await;
        let mut all = vec![first.unwrap_or(Seen::Anything)];
        while let Ok(seen) = inputs.seen.try_recv() {
            all.push(seen);
        }
        if all.iter().any(|seen| matches!(seen, Seen::Anything)) {
            // Before the reading: what changes after it is seen.
            inputs.watch.renew();
        }
        self.intake.read(all)
    }

    /// Applies events, and brings what they change to the host and the workers.
    async fn change(&mut self, events: Vec<Event>) {
        for event in events {
            self.world.apply(event);
        }
        let compiled = self.world.compile();
        let same = Arc::ptr_eq(&compiled.snapshot, &self.compiled.snapshot)
            && compiled.host == self.compiled.host;
        let moved = compiled.snapshot.nodes != self.compiled.snapshot.nodes;
        self.compiled = compiled;
        self.explainer = None;
        self.found = findings::log_new(&self.compiled, &self.found);
        if same {
            return;
        }
        // First the workers, which deny what they do not know, then the host's rules: a pod that is
        // new is never forwarded unjudged.
        self.publish();
        let plan = self.plan();
        if let Some(host) = &mut self.host {
            let outcome = host.update(plan).await;
            self.note_host(outcome);
        }
        if moved {
            self.follow_wire().await;
        }
        // Last: it is for the next start, and nobody waits for it.
        self.numbers.keep(&self.compiled.identities);
    }

    /// Makes a worker anew. It judges before the host's rules lead to it, as everywhere.
    async fn replace(&mut self, worker: u16) -> Result<(), Hopeless> {
        self.crew.replace(worker)?;
        if let Some(member) = self.crew.members().get(usize::from(worker)) {
            let snapshot = Arc::clone(&self.compiled.snapshot);
            member.mailbox.publish(snapshot);
        }
        self.refresh_host().await;
        Ok(())
    }

    /// Looks at the host again. While a worker's device is gone nothing would be whole; when it is
    /// back, this is called again.
    async fn refresh_host(&mut self) {
        if let Some(host) = &mut self.host
            && self.crew.is_whole()
        {
            let outcome = host.refresh().await;
            self.note_host(outcome);
            self.follow_wire().await;
        }
    }

    fn note_host(&mut self, outcome: Result<(), HostError>) {
        self.host_problem = outcome.err().map(|error| error.to_string());
        if let Some(problem) = &self.host_problem {
            tracing::error!("{problem}");
        }
    }

    /// Leaves the newest snapshot to every worker, and lets go of those that all have passed.
    fn publish(&mut self) {
        let members = self.crew.members().iter();
        let applied = members.clone().map(|member| member.mailbox.epoch());
        let applied = applied.min().unwrap_or(0);
        self.passed.retain(|snapshot| snapshot.epoch >= applied);
        self.passed.push_back(Arc::clone(&self.compiled.snapshot));
        if let Some(board) = &self.board {
            board.adopt(&self.compiled.snapshot);
        }
        for member in members {
            member.mailbox.publish(Arc::clone(&self.compiled.snapshot));
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                // Who asked may have hung up.
                let _ = answer.send(report::status(self));
            }
            Request::Explain(answer) => {
                let compiled = &self.compiled;
                let new = || Arc::new(Explainer::new(Arc::clone(compiled)));
                let explainer = self.explainer.get_or_insert_with(new);
                let _ = answer.send(Arc::clone(explainer));
            }
        }
    }

    /// What the host is to look like.
    fn plan(&self) -> host::HostPlan {
        let view = &self.compiled.host;
        let workers = self.crew.members().len() as u16;
        let share = Share {
            own: 0,
            workers,
            lanes: self.config.lanes,
        };
        host::HostPlan {
            tuns: (0..workers).map(|n| self.config.tun.device(n)).collect(),
            mtu: self.mtu.load(Ordering::Relaxed),
            intercept: match self.config.tun.intercept {
                config::TunIntercept::All => host::Intercept::All,
                config::TunIntercept::Mesh => host::Intercept::Mesh,
            },
            on_crash: match self.config.tun.on_crash {
                config::OnCrash::Closed => host::OnCrash::Closed,
                config::OnCrash::Open => host::OnCrash::Open,
            },
            local_pods: view
                .local_pods
                .iter()
                .map(|address| (*address, share.worker_of(*address)))
                .collect(),
            remote_prefixes: view.remote_prefixes.clone(),
            global_frontends: view.global_frontends.clone(),
            service_frontends: view.frontends.clone(),
            own_addresses: self.compiled.snapshot.own.addresses.clone(),
            wire: (0..self.config.lanes)
                .flat_map(|lane| node::lane_addresses(&self.config, lane))
                .collect(),
        }
    }
}

/// What control waits for.
struct Inputs {
    requested: mpsc::Receiver<Request>,
    watch: Watch,
    seen: mpsc::UnboundedReceiver<Seen>,
    health: mpsc::Receiver<HealthChange>,
    signals: Signals,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Returns when links, addresses or routes of the host have changed.
async fn host_changed(host: Option<&Host>) {
    match host {
        Some(host) => host.changed().await,
        None => std::future::pending().await,
    }
}

fn note(change: HealthChange) -> Event {
    if change.answering {
        tracing::info!(node = change.node, cluster = change.cluster, "answers");
    } else {
        tracing::warn!(
            node = change.node,
            cluster = change.cluster,
            "does not answer"
        );
    }
    Event::NodeHealth {
        cluster: change.cluster,
        node: change.node,
        answering: change.answering,
    }
}
