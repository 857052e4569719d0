use std::collections::VecDeque;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use packet::{Address, Datagrams, Now, Offload, Packet, Time, echo_request};
use tunnel::{Lane, PeerId, PrivateKey, Reception};

use super::*;

const BUFFERS: usize = 200;

/// Two lanes with a session, of which the left one seals and the right one opens.
struct Pair {
    now: Now,
    left: Lane,
    right: Lane,
    peer: PeerId,
    out: Outbox,
    sequence: u16,
}

impl Pair {
    fn new() -> Pair {
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let now = Now {
            time: Time::from_nanos(1),
            unix_ns: 1 << 60,
        };
        let mut left = Lane::new(0, keys[0].clone(), [1; 32]);
        let mut right = Lane::new(1, keys[1].clone(), [2; 32]);
        let peer = left.add_peer(now, keys[1].public()).expect("a good key");
        right.add_peer(now, keys[0].public()).expect("a good key");
        let remote: std::net::SocketAddr = "192.0.2.1:1".parse().expect("an address");
        left.set_endpoint(peer, remote);
        let out = Outbox::new(0, BUFFERS, BUFFERS);
        let mut pair = Pair {
            now,
            left,
            right,
            peer,
            out,
            sequence: 0,
        };
        // The first waits for the handshake, and confirms it.
        pair.seal(1);
        let mut to_the_right = true;
        while let Some(mut train) = pair.out.wire.pop() {
            let lane = if to_the_right {
                &mut pair.right
            } else {
                &mut pair.left
            };
            train.path = remote.into();
            let (reception, opened) = (&mut Reception::default(), &mut Vec::new());
            lane.open(now, &mut train, reception, opened, &mut pair.out);
            pair.out.arena.put(train.buf);
            to_the_right = !to_the_right;
        }
        pair
    }

    /// Seals so many packets, of which every other one is long; a short one ends its train.
    fn seal(&mut self, packets: u16) {
        for _ in 0..packets {
            let mut buf = self.out.arena.take().expect("a buffer");
            let (from, to) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            let (from, to) = (Address::from_v4(from), Address::from_v4(to));
            let payload = &[7; 9_000][..500 + usize::from(self.sequence % 2) * 8_000];
            echo_request(from, to, 1, self.sequence, payload, &mut buf);
            let packet = Packet::parse(buf, Offload::default()).expect("a packet");
            self.left.seal(self.now, self.peer, packet, &mut self.out);
            self.sequence += 1;
        }
    }

    /// Opens a train; the numbers of the packets in it.
    fn open(&mut self, mut train: Unopened) -> Vec<u16> {
        let mut opened = Vec::new();
        let reception = &mut Reception::default();
        self.right
            .open_tried(self.now, &mut train, reception, &mut opened, &mut self.out);
        let train = train.into_datagrams();
        let bytes = train.buf.as_slice();
        let number = |start: usize| u16::from_be_bytes([bytes[start + 26], bytes[start + 27]]);
        let numbers = opened.iter().map(|inner| number(inner.start as usize));
        let numbers = numbers.collect();
        self.out.arena.put(train.buf);
        numbers
    }
}

fn helpers(count: usize) -> Helpers {
    let waker = Waker::new().expect("an eventfd");
    Helpers::with_count(count, waker)
}

#[test]
fn everything_is_sealed_and_opened_in_order_whoever_does_it() {
    const PACKETS: u16 = 4_000;
    for count in [1, 3] {
        let (mut pair, mut helpers) = (Pair::new(), helpers(count));
        let mut received: Vec<u16> = Vec::new();
        let mut under_way: VecDeque<Datagrams> = VecDeque::new();
        let until = Instant::now() + Duration::from_secs(60);
        while received.len() < usize::from(PACKETS) {
            assert!(Instant::now() < until, "{} packets", received.len());
            if pair.sequence <= PACKETS && helpers.take_frames() {
                pair.out.sealing = Sealing::Later;
                let few = (pair.sequence % 7).min(PACKETS + 1 - pair.sequence);
                pair.seal(few.max(1).min(PACKETS + 1 - pair.sequence));
                // Among them one that is sealed at once.
                pair.out.sealing = Sealing::Behind;
                pair.seal(u16::from(pair.sequence <= PACKETS));
            }
            helpers.seal(&mut pair.out);
            let waits = pair.out.sealing == Sealing::Behind;
            assert_eq!(waits, helpers.queued() > 0);
            under_way.extend(std::iter::from_fn(|| pair.out.wire.pop()));
            // What the line has no room for waits.
            let (lane, now) = (&mut pair.right, pair.now);
            let trains = std::iter::from_fn(|| under_way.pop_front());
            let trains = trains.map(|train| lane.unopened(now, train));
            helpers.open(trains.inspect(|train| assert!(train.has_key())));
            while let Some(train) = helpers.next_opened() {
                received.extend(pair.open(train));
            }
        }
        assert_eq!(received, (1..=PACKETS).collect::<Vec<_>>());
        assert_eq!((helpers.queued(), pair.out.arena.lent()), (0, 0));
        assert_eq!(pair.out.refused.total(), 0);
    }
}

#[test]
fn without_helpers_nothing_is_left_to_anybody() {
    let mut pair = Pair::new();
    let mut nobody = helpers(0);
    pair.seal(3);
    nobody.seal(&mut pair.out);
    assert_eq!(
        (pair.out.wire.len(), pair.out.sealing),
        (2, Sealing::AtOnce)
    );
    assert!(nobody.lie_down() && nobody.count() == 0);
}

#[test]
fn a_full_wire_keeps_the_line_and_its_order() {
    let (mut pair, mut helpers) = (Pair::new(), helpers(1));
    pair.out.sealing = Sealing::Later;
    pair.seal(5);
    pair.out.wire = packet::Batch::with_limit(2);
    let mut numbers = Vec::new();
    let until = Instant::now() + Duration::from_secs(10);
    while numbers.len() < 5 && Instant::now() < until {
        helpers.seal(&mut pair.out);
        assert!(pair.out.wire.len() <= 2);
        while let Some(train) = pair.out.wire.pop() {
            numbers.extend(pair.open(train.into()));
        }
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
#[should_panic(expected = "a helper has panicked")]
fn a_worker_does_not_wait_for_a_helper_that_has_panicked() {
    let helpers = helpers(1);
    helpers.push(0, Work::Panic);
    helpers.wake(1);
    let until = Instant::now() + Duration::from_secs(10);
    while !helpers.yard.is_broken() && Instant::now() < until {
        yield_now();
    }
    let mut helpers = helpers;
    helpers.opens.add(None);
    assert!(!helpers.lie_down(), "what is lost wakes nobody");
    helpers.rise();
}

#[test]
fn a_worker_does_not_sleep_beside_what_was_opened_while_it_sealed() {
    let (mut pair, mut helpers) = (Pair::new(), helpers(0));
    pair.seal(2);
    let train = pair.out.wire.pop().expect("a train");
    let train = pair.right.unopened(pair.now, train);
    helpers.open(std::iter::once(train));
    // As if a helper had it in hand, and has done it just now.
    assert!(!helpers.lie_down(), "nobody has begun it");
    let mut job = helpers.yard.jobs.pop().expect("a job");
    job.work.perform();
    assert!(helpers.next_opened().is_none() && helpers.lie_down());
    assert!(helpers.yard.done.push(job).is_ok());
    assert!(!helpers.lie_down());
    pair.out.sealing = Sealing::Later;
    pair.seal(1);
    helpers.seal(&mut pair.out);
    assert!(!helpers.lie_down(), "it was taken in, and waits");
    assert!(helpers.next_opened().is_some() && helpers.lie_down());
}
