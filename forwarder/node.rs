//! A node: devices, a worker on a thread of its own, and control on this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use config::{Config, Mtu};
use datapath::{Forwarder, Settings, Share};
use driver::{
    Budget, Engine, EngineError, Epoll, Tun, TunError, TunOffloads, TunSettings, Udp, UdpError,
    UdpSettings,
};
use tokio::sync::{mpsc, oneshot};
use tunnel::{Lane, PrivateKey};

use crate::control::{self, Control, ControlError};
use crate::keys::{self, KeyError};
use crate::mailbox::Mailbox;
use crate::worker::Worker;

/// What a tunnel over IPv6 adds: IPv6 40, UDP 8, WireGuard 32 (facts: 80 bytes, padding aside).
const OVERHEAD: u32 = 80;
/// The wire where nothing else is known: Ethernet.
const WIRE_MTU: u32 = 1_500;
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
    /// A bug.
    #[error("the worker panicked: please report it with the log above")]
    Panicked,
}

/// The keys of a node's lanes, lane 0 first.
///
/// Until a silent lane falls back to lane 0 a node has one lane, and publishes one: others take that
/// for all of its addresses, so more can come without a change at their end.
///
/// # Errors
/// [`KeyError`].
pub fn lane_keys(config: &Config) -> Result<Vec<PrivateKey>, KeyError> {
    Ok(vec![keys::load_or_make(&config.state_dir)?])
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
    let mut control = Control::read(config.clone(), public)?;
    let mtu = match config.tun.mtu {
        Mtu::Bytes(mtu) => u32::from(mtu),
        Mtu::Auto => WIRE_MTU - OVERHEAD,
    };
    let mut lanes = Vec::new();
    let mut sockets = Vec::new();
    for (number, key) in (0_u16..).zip(keys) {
        let settings = UdpSettings {
            mark: control::host::WIRE_MARK,
            ..UdpSettings::on(lane_addresses(&config, number))
        };
        sockets.push(Udp::bind(number, settings)?);
        lanes.push(Lane::new(number, key, driver::random()?));
    }
    let tun = Tun::create(&TunSettings {
        name: config.tun.name.clone(),
        mtu: Some(mtu),
        up: true,
        offloads: TunOffloads::default(),
    })?;
    let engine = Epoll::new(tun, sockets, Budget::default())?;
    let mailbox = Arc::new(Mailbox::new(engine.waker()));
    let (health, health_changes) = mpsc::channel(HEALTH_MAX);
    let forwarder = Forwarder::new(
        settings(&config, mtu)?,
        Share::whole(lanes.len() as u16),
        lanes,
    );
    let worker = Worker::new(0, engine, forwarder, Arc::clone(&mailbox), Some(health));
    let (thread, ended) = start(worker)?;
    control.connect(Arc::clone(&mailbox), mtu);
    let outcome = runtime.block_on(control.run(health_changes, ended));
    mailbox.stop();
    thread.join().map_err(|_| NodeError::Panicked)??;
    Ok(outcome?)
}

fn settings(config: &Config, mtu: u32) -> Result<Settings, NodeError> {
    let seed = driver::random()?;
    let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
    Ok(Settings {
        mtu: mtu as usize,
        flows: config.flows_max as usize,
        probe_interval: Duration::from_millis(u64::from(config.probe.interval_ms)),
        probe_count: u32::from(config.probe.count),
        secret: (half(0), half(8)),
    })
}

/// Starts a worker; the receiver learns when it has ended, however it did.
fn start<E: Engine + 'static>(
    worker: Worker<E>,
) -> std::io::Result<(JoinHandle<Result<(), EngineError>>, oneshot::Receiver<()>)> {
    let (alive, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("worker-0".into())
        .spawn(move || {
            // Dropped at the end, and by a panic too.
            let _alive: oneshot::Sender<()> = alive;
            worker.run()
        })?;
    Ok((thread, ended))
}
