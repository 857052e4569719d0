//! A client that never gives up: one new TCP connection every few milliseconds, each with a
//! time-out, and who answered. And the server that answers with its name, over HTTP.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{runtime, say_ready};

/// Between two attempts.
const EVERY: Duration = Duration::from_millis(20);
/// An attempt that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(500);
/// A request or an answer is not longer.
const LONGEST: usize = 4_096;
/// Where an HTTP message's header ends.
const BLANK: &[u8] = b"\r\n\r\n";

/// All attempts, by when they began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempts {
    /// From when on the attempts count.
    pub(crate) started_unix_ms: f64,
    pub(crate) attempts: Vec<Attempt>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempt {
    pub(crate) start_ms: f64,
    pub(crate) took_ms: f64,
    /// Who answered; nobody where it failed.
    pub(crate) answer: Option<String>,
    pub(crate) error: Option<String>,
}

/// Tries for so long.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn attempt(to: SocketAddr, length: Duration) -> io::Result<Attempts> {
    runtime()?.block_on(async {
        let (begun, started_unix_ms) = (Instant::now(), driver::now().unix_ns as f64 / 1e6);
        let (mut running, mut number) = (JoinSet::new(), 0u32);
        while EVERY * number < length {
            running.spawn(one(to, begun));
            number += 1;
            // Against the start, not against the last attempt: the pace does not drift.
            tokio::time::sleep_until((begun + EVERY * number).into()).await;
        }
        let mut attempts: Vec<Attempt> = running.join_all().await;
        attempts.sort_by(|a, b| a.start_ms.total_cmp(&b.start_ms));
        Ok(Attempts {
            started_unix_ms,
            attempts,
        })
    })
}

async fn one(to: SocketAddr, begun: Instant) -> Attempt {
    let start = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, ask(to)).await;
    let (answer, error) = match answer {
        Ok(Ok(name)) => (Some(name), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(_) => (None, Some("timeout".to_owned())),
    };
    let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    Attempt {
        start_ms: ms(start - begun),
        took_ms: ms(start.elapsed()),
        answer,
        error,
    }
}

async fn ask(to: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(to).await?;
    write(&stream, b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    loop {
        if let Some(body) = body_of(&answer).filter(|body| !body.is_empty()) {
            return Ok(String::from_utf8_lossy(body).trim().to_owned());
        }
        if !read(&stream, &mut answer).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Answers every HTTP request with a name, over IPv4 and IPv6, for ever.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn answer(port: u16, name: &str) -> io::Result<()> {
    let body = format!("{name}\n");
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ";
    let answer = format!("{head}{}\r\n\r\n{body}", body.len());
    runtime()?.block_on(async {
        // One socket for both families (ipv6(7), IPV6_V6ONLY is off where nobody sets it).
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
        say_ready()?;
        serve(listener, answer).await
    })
}

async fn serve(listener: TcpListener, answer: String) -> io::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut request = Vec::new();
            while body_of(&request).is_none() {
                match tokio::time::timeout(Duration::from_secs(5), read(&stream, &mut request))
                    .await
                {
                    Ok(Ok(true)) => {}
                    _ => return,
                }
            }
            let _ = write(&stream, answer.as_bytes()).await;
        });
    }
}

fn body_of(message: &[u8]) -> Option<&[u8]> {
    let at = message
        .windows(BLANK.len())
        .position(|window| window == BLANK)?;
    Some(&message[at + BLANK.len()..])
}

/// Reads what is there; false at the end, or when it gets too long.
async fn read(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1_024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(length) => {
                into.extend_from_slice(&chunk[..length]);
                return Ok(length > 0 && into.len() <= LONGEST);
            }
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_is_told_with_who_answered_or_why_nobody_did() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            runtime().unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let answer = "HTTP/1.0 200 OK\r\n\r\neu-1/web\n".to_owned();
                serve(listener, answer).await.unwrap();
            });
        });
        let done = attempt(address, Duration::from_millis(100)).unwrap();
        assert_eq!(done.attempts.len(), 5);
        for one in &done.attempts {
            assert_eq!(one.answer.as_deref(), Some("eu-1/web"), "{one:?}");
        }
        let refused = attempt("127.0.0.1:1".parse().unwrap(), Duration::from_millis(10)).unwrap();
        assert!(
            refused.attempts[0]
                .error
                .as_deref()
                .unwrap()
                .contains("refused")
        );
    }
}
