//! A plain WireGuard interface, driven by `wg` and `wg-quick`: the contract of a user-space
//! WireGuard program (wireguard.com/xplatform).

#[cfg(test)]
mod fuzz;
mod interface;
mod request;
mod socket;
mod status;
mod watch;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use datapath::{Forwarder, Settings};
use driver::{
    Budget, Engine, EngineChoice, EngineError, TunError, TunOffloads, TunSettings, Udp, UdpError,
    UdpSettings, Waker,
};
use tunnel::Lane;

use crate::helpers::Helpers;
use crate::mailbox::Mailbox;
use crate::neighbours::Neighbours;
use crate::node;
use crate::successor;
use crate::worker::Worker;
use socket::{Socket, SocketError};

/// What `wg-quick` expects where nothing else is known: 1500 less the overhead over IPv6.
const MTU: u32 = 1420;
/// A plain interface has no flows to remember and nobody to probe.
const SETTINGS: Settings = Settings {
    mtu: MTU as usize,
    flows: 0,
    probe_interval: Duration::MAX,
    probe_count: 0,
    secret: (0, 0),
};
/// How long the interface may take to come up behind a parent that waits to detach.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// What the program in the background tells its parent when interface and socket are there.
const UP: &str = "up";

/// Why the interface did not come up, or went down.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    /// The TUN could not be made.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The wire could not be listened on.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// `wg` could not be listened for.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The worker ended in an error.
    #[error(transparent)]
    Worker(#[from] EngineError),
    /// The system refused something else.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The program in the background ended before it was ready; this is what it said.
    #[error("{0}")]
    NotUp(String),
}

/// Makes interface `name` and serves it until the link is deleted or a signal comes. `up` is called
/// when both interface and socket are there.
///
/// # Errors
/// [`WireguardError`] if it cannot be made, or the devices fail.
pub fn run(name: &str, engine: EngineChoice, up: impl FnOnce()) -> Result<(), WireguardError> {
    // First the socket: if another program runs this interface, nothing may be touched.
    let socket = Socket::listen(name)?;
    let tun = successor::create(&TunSettings {
        name: name.to_owned(),
        mtu: Some(MTU),
        // `ip link set up` is its owner's, or wg-quick's, to say.
        up: false,
        offloads: TunOffloads::default(),
    })?;
    let udp = Udp::bind(0, UdpSettings::any(0))?;
    let link = tun.link()?;
    let engine = engine.open(Waker::new()?, tun, vec![udp], Budget::default())?;
    tell_engine(&engine);
    let lane = Lane::unkeyed(0, driver::random()?);
    let settings = Settings {
        secret: node::secret()?,
        ..SETTINGS
    };
    let forwarder = Forwarder::plain(settings, lane);
    let mailbox = Arc::new(Mailbox::new(engine.waker()));
    watch::start(&mailbox, link, socket.path().to_owned())?;
    watch::serve(&mailbox, socket.listener()?)?;
    tracing::info!(interface = name, "up");
    up();
    let alone = Neighbours::nobody();
    let helpers = Helpers::start(1, engine.waker());
    let mail = Arc::clone(&mailbox);
    match Worker::new(0, engine, forwarder, mail, alone, helpers, None).run() {
        // To delete the link is how wg-quick and others end it.
        Ok(()) | Err(EngineError::Deleted { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    tracing::info!(interface = name, "down");
    Ok(())
}

/// Nobody asks a plain interface for its status: the log says which engine runs, and why.
fn tell_engine(engine: &impl Engine) {
    for feature in engine.features() {
        if let Some(name) = feature.name.strip_prefix("engine.") {
            tracing::info!(engine = name, on = feature.on, why = feature.why);
        }
    }
}

/// Starts the interface in the background, and returns when it and its socket are there.
///
/// # Errors
/// [`WireguardError::NotUp`] when it ended instead, with the reason.
pub fn detach(name: &str, engine: &str) -> Result<(), WireguardError> {
    let mut child = Command::new(std::env::current_exe()?)
        // Its file may be called farlane-wg, which takes no verb.
        .arg0("farlane")
        .args(["wireguard", "--detached", "--engine", engine, name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Whoever waits for the end of our output must not wait for its end.
        .stderr(Stdio::null())
        // A group of its own: the terminal's signals are not meant for it.
        .process_group(0)
        .spawn()?;
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let says = child.stdout.take();
    // Not the socket is asked: another program may run this interface, and answer on it.
    std::thread::spawn(move || tell.send(says.map_or(String::new(), first_words)));
    match told.recv_timeout(START_TIMEOUT) {
        Ok(words) if words == UP => Ok(()),
        Ok(words) if !words.is_empty() => Err(WireguardError::NotUp(words)),
        _ => {
            // It may have ended already.
            let _ = child.kill();
            Err(WireguardError::NotUp(format!("{name} did not come up")))
        }
    }
}

/// [`UP`], or all of why it is not.
fn first_words(says: impl Read) -> String {
    let mut reader = BufReader::new(says);
    let mut words = String::new();
    // What cannot be read was not said.
    let read = reader.read_line(&mut words);
    if read.is_ok() && words.trim_end() != UP {
        let _ = reader.read_to_string(&mut words);
    }
    words.trim_end().to_owned()
}

/// The program in the background: it tells its parent on standard output how it went.
///
/// # Errors
/// As [`run`].
pub fn serve_detached(name: &str, engine: EngineChoice) -> Result<(), WireguardError> {
    // A parent that is gone needs no answer.
    let say = |words: &dyn std::fmt::Display| {
        let _ = writeln!(std::io::stdout(), "{words}");
    };
    let outcome = run(name, engine, || say(&UP));
    if let Err(error) = &outcome {
        say(error);
    }
    outcome
}
