//! A node: its workers, each with devices and a thread of its own, and control on this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use config::Config;
use datapath::{Forwarder, HealthChange, Settings, Share};
use driver::{
    Budget, EngineChoice, EngineError, TunError, TunOffloads, TunSettings, UdpError, UdpSettings,
    Waker,
};
use tokio::sync::mpsc;
use tunnel::{Lane, PrivateKey};

use crate::control::{self, Control, ControlError};
use crate::crew::{Crew, Work};
use crate::flows::Recorder;
use crate::helpers::Helpers;
use crate::keys::{self, KeyError};
use crate::mailbox::Mailbox;
use crate::neighbours::Neighbours;
use crate::successor;
use crate::worker::{BUFFERS, Listeners, Worker};

/// Changes of other nodes' health that may wait for control.
const HEALTH_MAX: usize = 1_024;

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No TUN.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The wire's socket.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The devices failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The control plane could not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The keys of a node's lanes, lane 0 first.
///
/// # Errors
/// [`KeyError`].
pub fn lane_keys(config: &Config) -> Result<Vec<PrivateKey>, KeyError> {
    let own = keys::load_or_make(&config.state_dir)?;
    let all = 0..config.lanes;
    Ok(all.map(|number| own.derive_lane(number)).collect())
}

/// How many workers a node has on this machine.
pub fn workers(config: &Config) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.workers.count(cores, config.lanes)
}

/// The engine that the node's file asks for.
fn engine(config: &Config) -> EngineChoice {
    match config.engine {
        config::Engine::Auto => EngineChoice::Auto,
        config::Engine::Epoll => EngineChoice::Epoll,
        config::Engine::Uring => EngineChoice::Uring,
    }
}

/// What outsiders must not guess, for [`Settings::secret`].
pub(crate) fn secret() -> std::io::Result<(u64, u64)> {
    let seed = driver::random()?;
    let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
    Ok((half(0), half(8)))
}

/// Where lane `number` listens: the node's addresses, and its port plus the number.
pub fn lane_addresses(config: &Config, number: u16) -> Vec<SocketAddr> {
    let moved =
        |address: &SocketAddr| SocketAddr::new(address.ip(), address.port().saturating_add(number));
    config.wire.listen.iter().map(moved).collect()
}

/// Runs the node until it is told to end, and removes what it made.
///
/// # Errors
/// [`NodeError`]: one sentence that says what to do.
pub fn run(config: Config) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let keys = lane_keys(&config)?;
    let public = keys.iter().map(PrivateKey::public).collect();
    // Everything is read before anything is touched: what is wrong in the files is said first.
    let control = Control::read(config.clone(), public)?;
    let mtu = Arc::new(AtomicU32::new(runtime.block_on(control.tun_mtu())?));
    let (health, health_changes) = mpsc::channel(HEALTH_MAX);
    let recorder = Recorder::start(&config, usize::from(workers(&config)))?;
    let board = recorder.board();
    let workshop = Workshop::new(config, Arc::clone(&mtu), keys, health, recorder)?;
    let mailboxes = workshop.mailboxes.clone();
    let crew = Crew::start(mailboxes, move |number| workshop.make(number))?;
    runtime.block_on(control.run(crew, mtu, health_changes, board))?;
    Ok(())
}

/// All that a worker is made of, so that it can be made again.
struct Workshop {
    config: Config,
    /// Of the TUNs, in bytes; control changes it.
    mtu: Arc<AtomicU32>,
    keys: Vec<PrivateKey>,
    wakers: Vec<Waker>,
    mailboxes: Vec<Arc<Mailbox>>,
    neighbours: Vec<Neighbours>,
    health: mpsc::Sender<HealthChange>,
    recorder: Recorder,
}

impl Workshop {
    fn new(
        config: Config,
        mtu: Arc<AtomicU32>,
        keys: Vec<PrivateKey>,
        health: mpsc::Sender<HealthChange>,
        recorder: Recorder,
    ) -> Result<Workshop, NodeError> {
        let all = 0..workers(&config);
        let wakers = all.map(|_| Waker::new()).collect::<Result<Vec<_>, _>>()?;
        let mailbox = |waker: &Waker| Arc::new(Mailbox::new(waker.clone()));
        Ok(Workshop {
            mailboxes: wakers.iter().map(mailbox).collect(),
            neighbours: Neighbours::of_all(wakers.clone(), BUFFERS),
            config,
            mtu,
            keys,
            wakers,
            health,
            recorder,
        })
    }

    /// Makes a worker: its TUN, its lanes with their sockets, its core; and says what it does.
    fn make(&self, number: u16) -> Result<Work, NodeError> {
        let config = &self.config;
        let place = usize::from(number);
        let share = Share {
            own: number,
            workers: self.mailboxes.len() as u16,
            lanes: config.lanes,
        };
        let mut lanes = Vec::new();
        let mut sockets = Vec::new();
        for (lane, key) in (0..).zip(&self.keys) {
            if share.has_lane(lane) {
                let settings = UdpSettings {
                    mark: control::host::WIRE_MARK,
                    fragments: false,
                    ..UdpSettings::on(lane_addresses(config, lane))
                };
                sockets.push(successor::bind(lane, &settings)?);
                lanes.push(Lane::new(lane, key.clone(), driver::random()?));
            }
        }
        let tun = successor::create(&TunSettings {
            name: config.tun.device(number),
            mtu: Some(self.mtu.load(Ordering::Relaxed)),
            up: true,
            offloads: TunOffloads::default(),
        })?;
        let waker = self.wakers[place].clone();
        let helpers = Helpers::start(share.workers, waker.clone());
        let worker = Worker::new(
            number,
            engine(config).open(waker, tun, sockets, Budget::default())?,
            Forwarder::new(self.settings()?, share, lanes),
            Arc::clone(&self.mailboxes[place]),
            self.neighbours[place].successor(),
            helpers,
            Some(Listeners {
                health: self.health.clone(),
                flows: self.recorder.ring(number),
            }),
        );
        Ok(Box::new(|| worker.run()))
    }

    fn settings(&self) -> Result<Settings, NodeError> {
        let probe = &self.config.probe;
        Ok(Settings {
            mtu: self.mtu.load(Ordering::Relaxed) as usize,
            flows: (self.config.flows_max as usize).div_ceil(self.mailboxes.len()),
            probe_interval: Duration::from_millis(u64::from(probe.interval_ms)),
            probe_count: u32::from(probe.count),
            secret: secret()?,
        })
    }
}
