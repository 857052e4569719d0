//! What the lab's own programs send, answer and count, inside the pods: hidden verbs of
//! `farlane lab`, each of which prints one JSON object. Servers print `ready` first, so that nobody
//! has to guess when they listen.

pub(crate) mod attempts;
pub(crate) mod connections;
pub(crate) mod datagrams;
pub(crate) mod round_trips;
pub(crate) mod wire;

use std::io::Write;

/// Says that a server listens.
fn say_ready() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()
}

/// For what waits on many sockets, in one thread.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
