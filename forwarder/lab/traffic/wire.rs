//! An impaired link in user space, since not every kernel has netem: a relay of UDP datagrams
//! between two WireGuard peers that delays, loses, reorders and slows them down, both directions
//! alike.
//!
//! Times are those of tokio's timer, to about a millisecond; a delay of less is none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::{runtime, say_ready};

/// The longest datagram.
const LONGEST: usize = 65_535;
/// What waits for a slow link longer than this is dropped, as a router's full queue does.
const LONGEST_QUEUE: Duration = Duration::from_millis(100);
/// Datagrams taken from one side before the other has its turn.
const AT_ONCE: usize = 64;
/// Longer waits for nothing are cut, so that a wake-up that was lost costs no more than this.
const IDLE: Duration = Duration::from_secs(1);

/// Of each direction, so that every sitting meets the same bad luck.
const SEEDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// What a link does to datagrams.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Impairment {
    /// One way.
    delay: Duration,
    /// Up to so much more or less, evenly.
    jitter: Duration,
    /// Part that is lost, 0 to 1.
    loss: f64,
    /// Part that overtakes: it is not delayed.
    reorder: f64,
    /// Bits a second; no limit without it.
    rate: Option<f64>,
}

impl FromStr for Impairment {
    type Err = String;

    /// `delay=20ms,jitter=2ms,loss=0.5%,reorder=1%,rate=100M`, each at most once.
    fn from_str(text: &str) -> Result<Impairment, String> {
        let mut link = Impairment::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            seen.push(name);
            match name {
                "delay" => link.delay = milliseconds(value).ok_or_else(|| wrong(part))?,
                "jitter" => link.jitter = milliseconds(value).ok_or_else(|| wrong(part))?,
                "loss" => link.loss = percent(value).ok_or_else(|| wrong(part))?,
                "reorder" => link.reorder = percent(value).ok_or_else(|| wrong(part))?,
                "rate" => link.rate = Some(bits(value).ok_or_else(|| wrong(part))?),
                _ => return Err(wrong(part)),
            }
        }
        if link.reorder > 0.0 && link.delay.is_zero() {
            return Err("reorder needs a delay: who is reordered is not delayed".into());
        }
        if link.jitter > link.delay {
            return Err("jitter is at most the delay".into());
        }
        Ok(link)
    }
}

fn wrong(part: &str) -> String {
    format!(
        "{part:?} is not understood; write such as delay=20ms,jitter=2ms,loss=0.5%,reorder=1%,rate=100M"
    )
}

fn milliseconds(text: &str) -> Option<Duration> {
    let number: f64 = text.strip_suffix("ms")?.parse().ok()?;
    let within = (0.0..=10_000.0).contains(&number);
    within.then(|| Duration::from_secs_f64(number / 1e3))
}

fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&number).then_some(number / 100.0)
}

fn bits(text: &str) -> Option<f64> {
    let (number, factor) = match text.strip_suffix(['k', 'M', 'G']) {
        Some(number) if text.ends_with('k') => (number, 1e3),
        Some(number) if text.ends_with('M') => (number, 1e6),
        Some(number) => (number, 1e9),
        None => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number * factor)
}

/// One direction: decides when what comes in goes out. Time is an argument, chance has a seed.
#[derive(Debug)]
struct Line {
    link: Impairment,
    /// When the slow part of the link has sent what it has.
    free_at: Duration,
    random: u64,
}

impl Line {
    fn new(link: Impairment, seed: u64) -> Line {
        Line {
            link,
            free_at: Duration::ZERO,
            random: seed | 1,
        }
    }

    /// When a datagram of so many bytes that comes now goes out; nothing when it is lost.
    fn due(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.chance() < self.link.loss {
            return None;
        }
        let mut out = now;
        if let Some(rate) = self.link.rate {
            let begin = now.max(self.free_at);
            if begin - now > LONGEST_QUEUE {
                return None;
            }
            self.free_at = begin + Duration::from_secs_f64(bytes as f64 * 8.0 / rate);
            out = self.free_at;
        }
        if self.chance() < self.link.reorder {
            return Some(out);
        }
        let jitter = self.link.jitter.mul_f64(2.0 * self.chance());
        Some(out + self.link.delay + jitter - self.link.jitter)
    }

    /// 0 to 1, by Marsaglia's xorshift64.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One end: our socket, and the peer that it speaks with.
struct End {
    socket: UdpSocket,
    peer: SocketAddr,
    line: Line,
    /// What goes out here, by when, in order of arrival.
    queue: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
}

impl End {
    async fn bind((own, peer): (SocketAddr, SocketAddr), line: Line) -> io::Result<End> {
        Ok(End {
            socket: UdpSocket::bind(own).await?,
            peer,
            line,
            queue: BinaryHeap::new(),
        })
    }

    /// Takes what is there, for the other end.
    fn take(&mut self, other: &mut End, number: &mut u64, begun: Instant) {
        let mut buffer = [0; LONGEST];
        for _ in 0..AT_ONCE {
            let Ok((length, _)) = self.socket.try_recv_from(&mut buffer) else {
                return;
            };
            *number += 1;
            if let Some(due) = other.line.due(begun.elapsed(), length) {
                let datagram = buffer[..length].to_vec();
                other.queue.push(Reverse((due, *number, datagram)));
            }
        }
    }

    /// Sends what is due; a full socket loses it, as a link would.
    fn send(&mut self, now: Duration) {
        while let Some(Reverse((due, _, _))) = self.queue.peek() {
            if *due > now {
                return;
            }
            if let Some(Reverse((_, _, datagram))) = self.queue.pop() {
                let _ = self.socket.try_send_to(&datagram, self.peer);
            }
        }
    }

    fn next(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((due, _, _))| *due)
    }
}

/// Relays between two peers for ever: each end is where we listen, and the peer that speaks there.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn relay(
    near: (SocketAddr, SocketAddr),
    far: (SocketAddr, SocketAddr),
    link: &Impairment,
) -> io::Result<()> {
    runtime()?.block_on(async {
        let line = |seed| Line::new(link.clone(), seed);
        let mut near = End::bind(near, line(SEEDS[0])).await?;
        let mut far = End::bind(far, line(SEEDS[1])).await?;
        say_ready()?;
        let (begun, mut number) = (Instant::now(), 0);
        loop {
            let next = [near.next(), far.next()].into_iter().flatten().min();
            let wake = begun + next.unwrap_or(begun.elapsed() + IDLE);
            tokio::select! {
                _ = near.socket.readable() => near.take(&mut far, &mut number, begun),
                _ = far.socket.readable() => far.take(&mut near, &mut number, begun),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = begun.elapsed();
            near.send(now);
            far.send(now);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_link_is_written_by_its_delay_loss_reordering_and_rate() {
        let link: Impairment = "delay=20ms,jitter=2ms,loss=0.5%,reorder=1%,rate=100M"
            .parse()
            .unwrap();
        assert_eq!((link.delay, link.jitter), (20 * MS, 2 * MS));
        assert_eq!(
            (link.loss, link.reorder, link.rate),
            (0.005, 0.01, Some(1e8))
        );
        for text in [
            "",
            "delay",
            "delay=20",
            "loss=101%",
            "loss=-1%",
            "rate=0",
            "rate=NaN",
            "x=1",
            "reorder=1%",
            "jitter=1ms",
            "loss=1%,loss=1%",
        ] {
            assert!(text.parse::<Impairment>().is_err(), "{text}");
        }
    }

    #[test]
    fn so_many_are_lost_as_was_asked_for_and_the_same_ones_each_time() {
        let link: Impairment = "loss=10%".parse().unwrap();
        let lost = |seed| {
            let mut line = Line::new(link.clone(), seed);
            (0..10_000).filter(|_| line.due(MS, 100).is_none()).count()
        };
        assert!((900..1_100).contains(&lost(7)), "{}", lost(7));
        assert_eq!(lost(7), lost(7));
    }

    #[test]
    fn a_slow_link_spaces_datagrams_and_drops_what_would_wait_too_long() {
        // 1,000 bytes take 8 ms.
        let mut line = Line::new("rate=1M,delay=5ms".parse().unwrap(), 1);
        let due: Vec<Option<Duration>> = (0..20).map(|_| line.due(MS, 1_000)).collect();
        assert_eq!(due[..3], [Some(14 * MS), Some(22 * MS), Some(30 * MS)]);
        assert_eq!(due.iter().filter(|due| due.is_some()).count(), 13);
    }

    #[test]
    fn who_is_reordered_overtakes_those_who_are_delayed() {
        let mut line = Line::new("delay=50ms,reorder=20%".parse().unwrap(), 3);
        let due: Vec<Duration> = (0..1_000).filter_map(|_| line.due(MS, 100)).collect();
        let early = due.iter().filter(|due| **due == MS).count();
        assert!((150..250).contains(&early), "{early}");
        assert!(due.iter().all(|due| *due == MS || *due == 51 * MS));
    }
}
