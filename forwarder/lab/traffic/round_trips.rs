//! One small datagram to the other pod and back, again and again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::say_ready;

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of a question.
const BYTES: usize = 64;

/// What the asking side has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundTrips {
    /// Each round trip, in order; then the lost ones, if they are to count.
    pub(crate) microseconds: Vec<f64>,
    /// Questions without an answer in 200 ms.
    pub(crate) lost: u64,
}

impl RoundTrips {
    /// All of them, a lost one as long as it was waited for: whoever loses is no faster for that.
    pub(crate) fn with_lost(mut self) -> RoundTrips {
        let waited = PATIENCE.as_secs_f64() * 1e6;
        let lost = std::iter::repeat_n(waited, self.lost as usize);
        self.microseconds.extend(lost);
        self
    }
}

/// Sends everything back to where it came from, for ever.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn echo(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    say_ready()?;
    let mut buffer = [0; 2_048];
    loop {
        // What ICMP said of an earlier answer is no reason to end.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Asks `count` times, or until the time is up, with a gap after each answer.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn ask(
    to: SocketAddr,
    count: u64,
    gap: Duration,
    length: Duration,
) -> io::Result<RoundTrips> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let begun = Instant::now();
    let mut trips = RoundTrips {
        microseconds: Vec::with_capacity(count.min(1 << 20) as usize),
        lost: 0,
    };
    for number in 1..=count {
        if begun.elapsed() > length {
            break;
        }
        match one(&socket, number) {
            Some(took) => {
                let tenths = (took.as_secs_f64() * 1e7).round();
                trips.microseconds.push(tenths / 10.0);
            }
            None => trips.lost += 1,
        }
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
    }
    Ok(trips)
}

/// One question and its own answer; a late one to an earlier question is passed over.
fn one(socket: &UdpSocket, number: u64) -> Option<Duration> {
    let mut question = [0; BYTES];
    question[..8].copy_from_slice(&number.to_le_bytes());
    let start = Instant::now();
    let _ = socket.send(&question);
    let mut answer = [0; BYTES];
    while start.elapsed() < PATIENCE {
        match socket.recv(&mut answer) {
            Ok(BYTES) if answer[..8] == question[..8] => return Some(start.elapsed()),
            Ok(_) => {}
            // Nobody listens, or the time is up.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_that_is_answered_has_a_time_and_the_others_are_lost() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 128];
            for _ in 0..5 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                // A stale answer first: it must not be taken for the right one.
                server.send_to(&[0; BYTES], from).unwrap();
                server.send_to(&buffer[..length], from).unwrap();
            }
        });
        let trips = ask(address, 6, Duration::ZERO, Duration::from_secs(20)).unwrap();
        assert_eq!((trips.microseconds.len(), trips.lost), (5, 1));
        let trips = trips.with_lost();
        assert_eq!(trips.microseconds[5..], [200_000.0]);
    }
}
