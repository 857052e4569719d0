//! Numbered UDP datagrams: one pod sends them at a rate or as fast as it can, the other counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use driver::Volley;
use serde::{Deserialize, Serialize};

use super::say_ready;

/// Shorter sleeps are not worth their wake-up; what is due meanwhile goes in one volley.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);
/// So long a receiver waits for the first datagram.
const FIRST: Duration = Duration::from_secs(20);
/// Datagrams of one flow before it is the next one's turn.
const BURST: usize = 8;
/// Bytes of a datagram's number, at its front.
const NUMBER: usize = 8;

/// What a sender has done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Datagrams that the kernel took.
    pub(crate) sent: u64,
    /// Between the first and the last.
    pub(crate) seconds: f64,
}

/// What a receiver has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Datagrams.
    pub(crate) received: u64,
    /// Those that came behind a later one.
    pub(crate) behind: u64,
    /// Between the first and the last.
    pub(crate) seconds: f64,
}

/// Sends datagrams of `bytes` for that long, `rate` a second, or as fast as the kernel takes them; by
/// so many flows in turn, [`BURST`] datagrams of each.
///
/// # Errors
/// What the system says; a full queue and a port that nobody listens on yet are none.
pub(crate) fn generate(
    to: SocketAddr,
    bytes: usize,
    length: Duration,
    rate: Option<f64>,
    flows: Option<usize>,
) -> io::Result<Sent> {
    let socket = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        io::Result::Ok(socket)
    };
    let mut volley = Volley::new(socket()?);
    let sockets = (0..flows.unwrap_or(0)).map(|_| socket());
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    let most = if sockets.is_empty() {
        Volley::DATAGRAMS
    } else {
        BURST
    };
    let mut turns = sockets.iter().cycle();
    let bytes = bytes.clamp(NUMBER, Volley::LONGEST);
    let (start, mut sent) = (Instant::now(), 0u64);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= length {
            return Ok(Sent {
                sent,
                seconds: elapsed.as_secs_f64(),
            });
        }
        let count = match rate {
            None => most,
            Some(rate) => {
                let due = elapsed.as_secs_f64() * rate - sent as f64;
                if due < 1.0 {
                    let wait = Duration::from_secs_f64((1.0 - due) / rate);
                    std::thread::sleep(wait.max(SHORTEST_SLEEP));
                    continue;
                }
                (due as usize).min(most)
            }
        };
        for index in 0..count {
            let number = sent + 1 + index as u64;
            volley.payload_mut(index)[..NUMBER].copy_from_slice(&number.to_le_bytes());
        }
        let taken = match turns.next() {
            Some(socket) => volley.send_by(socket, count, bytes),
            None => volley.send(count, bytes),
        };
        match taken {
            Ok(taken) => sent += taken as u64,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A full queue (ENOBUFS, EAGAIN), or what ICMP said of an earlier datagram.
fn is_passing(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105; // include/uapi/asm-generic/errno.h
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(ENOBUFS)
}

/// Counts what comes to a port, from the first datagram until none has come for `quiet`.
///
/// # Errors
/// What the system says.
pub(crate) fn receive(port: u16, quiet: Duration) -> io::Result<Received> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_read_timeout(Some(quiet))?;
    let mut volley = Volley::new(socket);
    say_ready()?;
    let (mut start, mut count, mut last) = (Instant::now(), Received::default(), 0u64);
    loop {
        let taken = match volley.receive() {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if count.received == 0 && start.elapsed() < FIRST => continue,
            Err(_) => return Ok(count),
        };
        if count.received == 0 {
            start = Instant::now();
        }
        count.seconds = start.elapsed().as_secs_f64();
        for index in 0..taken {
            let Some(number) = volley.received(index).first_chunk::<NUMBER>() else {
                continue;
            };
            let number = u64::from_le_bytes(*number);
            count.received += 1;
            count.behind += u64::from(number < last);
            last = last.max(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_at_a_rate_is_about_what_was_asked_for() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let length = Duration::from_millis(200);
        let sent = generate(to.local_addr().unwrap(), 64, length, Some(1_000.0), None).unwrap();
        // Never more than is due; how much less is the machine's matter.
        assert!((1..=201).contains(&sent.sent), "{sent:?}");
    }

    #[test]
    fn each_flow_has_its_turn() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        to.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let (at, length) = (to.local_addr().unwrap(), Duration::from_millis(100));
        generate(at, 64, length, Some(2_000.0), Some(3)).unwrap();
        let senders = std::iter::from_fn(|| Some(to.recv_from(&mut [0; 64]).ok()?.1));
        let senders: std::collections::BTreeSet<SocketAddr> = senders.collect();
        assert_eq!(senders.len(), 3);
    }
}
