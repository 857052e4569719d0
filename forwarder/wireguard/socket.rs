//! The socket that `wg` speaks to: `/var/run/wireguard/NAME.sock`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::mem::size_of;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zeroize::Zeroizing;

use super::interface::answer;
use super::request::{Request, Step};
use crate::control::remove_stale;
use crate::mailbox::Mailbox;

/// Where `wg` looks for the sockets of user-space interfaces.
const DIRECTORY: &str = "/var/run/wireguard";
/// A request of 65,536 peers with a few allowed IPs each has about 40 MiB. Each line counts as what
/// it takes as a step at least, so that it is memory, too, that is limited.
const REQUEST_MAX: u64 = 64 << 20;
const STEP: u64 = size_of::<Step>() as u64;
/// Who is silent for so long in the middle of a request, or does not read the answer, is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the socket is tried to be made, where its directory vanishes meanwhile.
const BIND_TRIES: usize = 16;
/// A line with a key: its name and 64 digits of hex.
const LINE: usize = 96;
/// Connections at once; one more is hung up on. `wg` makes one for each command.
const CONNECTIONS_MAX: usize = 32;

/// The socket; its file goes with it.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("{0} is in use: another program runs this interface; stop it, or take another name")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot make {path}: {error}; it needs the rights of root")]
    Io {
        /// The socket, or its directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Where the socket of interface `name` is.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.sock"))
}

impl Socket {
    /// Listens for `wg`; a socket that a killed program left is replaced.
    pub(super) fn listen(name: &str) -> Result<Socket, SocketError> {
        let path = path(name);
        let io = |error| SocketError::Io {
            path: path.clone(),
            error,
        };
        if UnixStream::connect(&path).is_ok() {
            return Err(SocketError::InUse(path));
        }
        let mut tries = 0;
        let listener = loop {
            tries += 1;
            match bind(&path) {
                // Whoever cleans up may take the directory away between two steps of ours.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < BIND_TRIES => {}
                other => break other.map_err(io)?,
            }
        };
        Ok(Socket { listener, path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle, for the thread that serves.
    pub(super) fn listener(&self) -> std::io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing more can be done for a file that does not go.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket, and its directory where that is gone.
pub(super) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    std::fs::create_dir_all(DIRECTORY)?;
    remove_stale(path)?;
    // It is there when it listens, and not before: between bind and listen it refuses `wg`, and
    // `wg` deletes what refuses it (wireguard-tools `ipc-uapi-unix.h`).
    let draft = path.with_extension(std::process::id().to_string());
    remove_stale(&draft)?;
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

/// Serves connections, each on a thread of its own, until the worker ends.
pub(crate) fn serve(listener: &UnixListener, mailbox: &Arc<Mailbox>) {
    let served = Arc::new(AtomicUsize::new(0));
    let setting = Arc::new(Mutex::new(()));
    for stream in listener.incoming() {
        if mailbox.stopping() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let one = One::more(&served);
        if served.load(Ordering::Relaxed) > CONNECTIONS_MAX {
            continue;
        }
        let (mailbox, setting) = (Arc::clone(mailbox), Arc::clone(&setting));
        // Without a thread the connection is dropped, and its other end sees that.
        let _ = std::thread::Builder::new()
            .name("wg-request".into())
            .spawn(move || {
                converse(stream, &mailbox, &setting);
                drop(one);
            });
    }
}

/// One of the connections that are served, as long as it lives.
struct One(Arc<AtomicUsize>);

impl One {
    fn more(served: &Arc<AtomicUsize>) -> One {
        served.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(served))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers requests until the other end hangs up.
fn converse(mut stream: UnixStream, mailbox: &Mailbox, setting: &Mutex<()>) {
    let patient = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| stream.try_clone());
    let Ok(reading) = patient else { return };
    let mut reader = BufReader::new(reading);
    while let Some(request) = read_request(&mut reader) {
        let reply = answer(mailbox, setting, request);
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// The lines up to an empty one; `None` when there is no whole request any more.
pub(super) fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut request = Request::Empty;
    // Most lines fit, so that a key leaves no copy behind in a buffer that was too small.
    let mut line = Zeroizing::new(String::with_capacity(LINE));
    let mut left = REQUEST_MAX;
    loop {
        line.clear();
        let read = reader.by_ref().take(left).read_line(&mut line).ok()? as u64;
        if !line.ends_with('\n') {
            return None;
        }
        line.pop();
        if line.is_empty() {
            return Some(request);
        }
        left = left.checked_sub(read.max(STEP))?;
        request.add(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::request::{Malformed, Steps};

    fn set(lines: &str, times: u64) -> Option<Steps> {
        let text = ["set=1\n", &lines.repeat(times as usize), "\n"].concat();
        match read_request(&mut text.as_bytes())? {
            Request::Set(steps) => Some(steps),
            _ => panic!("a set request"),
        }
    }

    fn kept(steps: &Steps) -> u64 {
        steps.steps.iter().map(Vec::capacity).sum::<usize>() as u64
    }

    #[test]
    fn of_what_stands_behind_the_first_error_of_a_request_nothing_is_kept() {
        let steps = set("fwmark=1\na\nfwmark=2\n", 100_000).expect("a whole request");
        assert!(matches!(steps.steps[0][..], [Step::Mark(1)]));
        assert_eq!(steps.error, Some(Malformed::Line));
        assert!(kept(&steps) < 1_000);
    }

    #[test]
    fn short_lines_take_no_more_memory_than_a_request_may_have() {
        let most = REQUEST_MAX / STEP - 1;
        let steps = set("fwmark=1\n", most).expect("no more than is allowed");
        assert_eq!(steps.steps.iter().map(Vec::len).sum::<usize>() as u64, most);
        assert!(kept(&steps) * STEP <= REQUEST_MAX + (1 << 20));
        assert!(set("fwmark=1\n", most + 1).is_none());
    }

    #[test]
    fn a_request_that_ends_too_early_is_none() {
        for text in ["", "set=1\n", "set=1\nfwmark=1", "set=1\nfwmark=1\n"] {
            assert!(read_request(&mut text.as_bytes()).is_none(), "{text}");
        }
    }
}
