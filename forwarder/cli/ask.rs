//! Asks the running node on its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Failure;

/// Longer than a node waits for its worker; one that was stopped (SIGSTOP) does not answer at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one request and returns the body of the answer. HTTP/1.0, so that the answer ends with the
/// connection.
pub(super) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<String, Failure> {
    let mut stream = send(socket, method, path, body)?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(silence(socket))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the node hung up without an answer")?;
    if is_good(head) {
        Ok(body.to_owned())
    } else {
        Err(refusal(head, body))
    }
}

/// Sends one request whose answer comes line by line; with `forever` for as long as it takes.
pub(super) fn lines(
    socket: &Path,
    path: &str,
    forever: bool,
) -> Result<impl Iterator<Item = Result<String, Failure>> + use<>, Failure> {
    let silent = silence(socket);
    let mut answer = BufReader::new(send(socket, "GET", path, "")?);
    // The head comes at once, what follows when there is something.
    let mut head = String::new();
    while answer.read_line(&mut head).map_err(&silent)? > "\r\n".len() {}
    if !is_good(&head) {
        let mut body = String::new();
        answer.read_to_string(&mut body).map_err(&silent)?;
        return Err(refusal(&head, &body));
    }
    if forever {
        answer.get_ref().set_read_timeout(None)?;
    }
    Ok(answer.lines().map(move |line| line.map_err(&silent)))
}

/// What to say of an error between us and the node.
fn silence(socket: &Path) -> impl Fn(std::io::Error) -> Failure + use<> {
    let socket = socket.display().to_string();
    move |error| {
        format!("the node on {socket} does not answer: {error}; is its process stopped?").into()
    }
}

fn send(socket: &Path, method: &str, path: &str, body: &str) -> Result<UnixStream, Failure> {
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        format!(
            "no node answers on {}: {error}; is it running? name its socket by --socket",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: farlane\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
    )
    .map_err(silence(socket))?;
    Ok(stream)
}

fn is_good(head: &str) -> bool {
    head.split_whitespace().nth(1) == Some("200")
}

/// What the node says when it does not do what was asked.
fn refusal(head: &str, body: &str) -> Failure {
    if !body.trim().is_empty() {
        return body.trim().into();
    }
    let status = head.lines().next().unwrap_or_default();
    format!("the node answers {status}; is it of another version?").into()
}
