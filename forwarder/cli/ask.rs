//! Asks the running node on its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Failure;

/// Longer than a node waits for its worker; one that was stopped (SIGSTOP) does not answer at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one request and returns the body of the answer. HTTP/1.0, so that the answer ends with the
/// connection.
pub(super) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<String, Failure> {
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        format!(
            "no node answers on {}: {error}; is it running? name its socket by --socket",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: farlane\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| {
        format!(
            "the node on {} does not answer: {error}; is its process stopped?",
            socket.display()
        )
    })?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the node hung up without an answer")?;
    if head.split_whitespace().nth(1) == Some("200") {
        Ok(body.to_owned())
    } else if body.trim().is_empty() {
        let status = head.lines().next().unwrap_or_default();
        Err(format!("the node answers {status}; is it of another version?").into())
    } else {
        Err(body.trim().to_owned().into())
    }
}
