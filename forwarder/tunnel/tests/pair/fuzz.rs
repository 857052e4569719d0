//! The harness of `scripts/fuzz` for this room: two lanes, a wire that loses, keeps, repeats and
//! changes, a stranger who knows both public keys, clocks that jump, and an owner who changes his
//! mind. `cargo test` replays `__fuzz__/lane/corpus` and what once failed, and then tries some
//! random input.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bolero::{TypeGenerator, check};
use packet::{Address, Now, Offload, Packet, Time, echo_request};
use tunnel::{Lane, Outbox, PresharedKey, PrivateKey, Refused};

use crate::world::{LATENCY, LEFT, Letter, RIGHT, World, millis, seconds};

/// Steps of one run: more would only be slower.
const STEPS_MAX: usize = 40;
/// Packets of a lane that wait for a handshake with one peer.
const PACKETS_MAX: u64 = 64;
/// Handshake messages that wait for their turn: half of the worker's places.
const HANDSHAKES_MAX: u64 = 512;
/// Messages that are a load, and those that are handled before any has to wait. Each costs an
/// exchange of X25519 in the end, so no more are sent.
const FLOOD: u8 = 128 + 16 + 1;
/// Letters that the wire remembers, the newest.
const KEPT_MAX: usize = 64;
/// No clock of Linux is set further: `ktime_t` counts nanoseconds with a sign, to the year 2262.
const CLOCK_END: u64 = 1 << 63;
/// Bytes of the second MAC, which only a lane under load looks at.
const MAC2: usize = 16;

#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A pod sends.
    Ping(Side),
    /// Time passes, and what is under way arrives.
    Pass {
        ms: u16,
        long: bool,
    },
    /// The wire loses the next letters.
    Lose(u8),
    /// A letter of before arrives again.
    Replay(u8),
    /// A letter of before arrives at who sent it.
    Reflect(u8),
    /// A letter of before arrives from another address.
    Roam(u8, u16),
    /// A letter of before arrives with another byte.
    Change {
        which: u8,
        at: u16,
        by: u8,
    },
    /// A letter of before arrives shorter.
    Cut {
        which: u8,
        length: u16,
    },
    /// Anything arrives.
    Noise {
        to: Side,
        kind: u8,
        bytes: Vec<u8>,
        stride: u8,
    },
    /// A stranger begins handshakes, with a right first MAC, from several addresses: one for each of
    /// a few, or so many that the side is under load.
    Stranger(Side, u8),
    /// The clock of a side is set, to nanoseconds since 1970.
    Clock(Side, u64),
    /// The monotonic clock of both does what it must not.
    Back {
        ms: u16,
    },
    /// The owner of a side changes something.
    Preshared(Side, u8),
    Keepalive(Side, u16),
    Private(Side, Key),
    Remove(Side),
    Anew(Side),
    Mtu(Side, u16),
}

/// The private key that a side is given.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Key {
    None,
    Own,
    /// One that the other side does not know.
    Other,
}

/// What one run does.
#[derive(Clone, Debug, TypeGenerator)]
struct Script {
    /// Whether both have talked before.
    connected: bool,
    /// Whether both must talk again in the end, which costs as much as the rest.
    heals: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn index(self) -> usize {
        match self {
            Side::Left => LEFT,
            Side::Right => RIGHT,
        }
    }
}

fn key(side: usize) -> PrivateKey {
    PrivateKey::from_bytes([side as u8 + 1; 32])
}

/// The world, and what the harness knows of it.
struct Run {
    world: World,
    /// The letters that were put on the wire last, the oldest first.
    kept: Rc<RefCell<VecDeque<Letter>>>,
    losing: Rc<RefCell<u8>>,
    /// Who sent the ping with this number.
    pings: Vec<usize>,
    /// The latest time that there was.
    latest: Time,
}

impl Run {
    fn new(connected: bool) -> Run {
        let mut world = if connected {
            World::connected()
        } else {
            World::new()
        };
        let kept = Rc::new(RefCell::new(VecDeque::new()));
        let losing = Rc::new(RefCell::new(0));
        let (all, lost) = (Rc::clone(&kept), Rc::clone(&losing));
        world.loses = Box::new(move |letter| {
            let mut all = all.borrow_mut();
            if all.len() >= KEPT_MAX {
                all.pop_front();
            }
            all.push_back(letter.clone());
            let loses = *lost.borrow() > 0;
            *lost.borrow_mut() -= u8::from(loses);
            loses
        });
        let latest = world.time;
        Run {
            world,
            kept,
            losing,
            pings: Vec::new(),
            latest,
        }
    }

    fn ping(&mut self, side: usize) {
        self.world.ping(side, self.pings.len() as u16);
        self.pings.push(side);
    }

    /// A letter of before, as one frame.
    fn letter(&self, which: u8) -> Option<Letter> {
        let kept = self.kept.borrow();
        let mut letter = kept.get(usize::from(which) % kept.len().max(1))?.clone();
        letter.bytes.truncate(letter.stride);
        Some(letter)
    }

    /// Hands over what nobody who knows a key has made: nothing comes of it, but perhaps a cookie
    /// reply that is smaller than the request.
    fn forged(&mut self, letter: Letter) {
        let to = letter.to;
        let (length, frames) = (
            letter.bytes.len(),
            letter.bytes.len().div_ceil(letter.stride),
        );
        let before = (self.world.log.len(), self.world.counts(), self.endpoint(to));
        let counted = |run: &Run| {
            let side = &run.world.sides[to];
            side.out.refused.total() + side.lane.queued()
        };
        let counted_before = counted(self);
        self.world.deliver(letter);
        let answers = self.world.log.split_off(before.0);
        for answer in &answers {
            assert_eq!((answer.kind, answer.by), (3, to), "answered: {answer:?}");
            assert!(answer.length < length);
        }
        assert!(answers.len() <= frames);
        let now = (self.world.log.len(), self.world.counts(), self.endpoint(to));
        assert_eq!(now, before);
        // Refused, perhaps until its sender proves his address, or waiting for its turn.
        assert_eq!(counted(self) - counted_before, frames as u64);
    }

    fn endpoint(&self, side: usize) -> Vec<Option<std::net::SocketAddr>> {
        let peers = self.world.sides[side].lane.peers();
        peers.map(|peer| peer.endpoint).collect()
    }

    fn stray(&self, to: usize, bytes: Vec<u8>, stride: usize) -> Letter {
        Letter {
            at: self.world.time + LATENCY,
            to,
            from: "198.51.100.66:6".parse().unwrap(),
            ecn: 0,
            bytes,
            stride,
        }
    }

    /// The first message of somebody who knows this side's public key, and nothing else.
    fn stranger(&self, to: usize) -> Letter {
        let mut lane = Lane::new(
            0,
            PrivateKey::from_bytes([9; 32]),
            [self.pings.len() as u8; 32],
        );
        let mut out = Outbox::new(0, 4, 4);
        let now = Now::default();
        let peer = lane.add_peer(now, key(to).public()).unwrap();
        lane.set_endpoint(peer, "192.0.2.9:9".parse().unwrap());
        let mut buf = out.arena.take().unwrap();
        let pods = [[10, 0, 0, 9], [10, 0, 0, 1]].map(Address::from_v4);
        echo_request(pods[0], pods[1], 7, 1, b"let me in", &mut buf);
        let packet = Packet::parse(buf, Offload::default()).unwrap();
        lane.seal(now, peer, packet, &mut out);
        let train = out.wire.pop().unwrap();
        self.stray(to, train.buf.as_slice().to_vec(), 148)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ping(side) => self.ping(side.index()),
            Step::Pass { ms, long } => {
                let factor = if *long { 10 } else { 1 };
                self.world.run(millis(u64::from(*ms) * factor));
            }
            Step::Lose(count) => *self.losing.borrow_mut() = *count,
            Step::Clock(side, ns) => self.world.sides[side.index()].clock_ns = ns % CLOCK_END,
            Step::Back { ms } => {
                self.latest = self.latest.max(self.world.time);
                let back = self.world.time.since(Time::ZERO + millis(u64::from(*ms)));
                self.world.time = Time::ZERO + back;
            }
            Step::Noise {
                to,
                kind,
                bytes,
                stride,
            } => {
                let mut bytes = bytes.clone();
                // Most of the time one of the four types.
                if let Some(start) = bytes.first_chunk_mut::<4>() {
                    *start = [kind % 6, 0, 0, kind / 250];
                }
                if !bytes.is_empty() {
                    let stride = usize::from(*stride).max(1);
                    self.forged(self.stray(to.index(), bytes, stride));
                }
            }
            Step::Stranger(to, many) => {
                let letter = self.stranger(to.index());
                let count = if many % 16 == 0 { FLOOD } else { many % 4 };
                for number in 0..=count {
                    let mut letter = letter.clone();
                    letter.from.set_ip([198, 51, 100, number / 5].into());
                    self.forged(letter);
                }
            }
            Step::Preshared(..) | Step::Keepalive(..) | Step::Private(..) => self.configure(step),
            Step::Remove(side) => self.remove(side.index()),
            Step::Anew(side) => self.anew(side.index()),
            Step::Mtu(side, mtu) => {
                self.world.sides[side.index()]
                    .lane
                    .set_mtu(usize::from(*mtu));
            }
            _ => self.old_letter(step),
        }
        self.latest = self.latest.max(self.world.time);
        // What waits is bounded, and all else went home.
        for side in &self.world.sides {
            let (lent, queued) = (side.out.arena.lent() as u64, side.lane.queued());
            assert!(lent <= PACKETS_MAX && lent <= queued && queued - lent <= HANDSHAKES_MAX);
        }
    }

    fn old_letter(&mut self, step: &Step) {
        let (Step::Replay(which)
        | Step::Reflect(which)
        | Step::Roam(which, _)
        | Step::Change { which, .. }
        | Step::Cut { which, .. }) = step
        else {
            return;
        };
        let Some(mut letter) = self.letter(*which) else {
            return;
        };
        let length = letter.bytes.len();
        match step {
            Step::Replay(_) => self.world.deliver(letter),
            Step::Reflect(_) => {
                letter.to = 1 - letter.to;
                self.forged(letter);
            }
            Step::Roam(_, port) => {
                letter.from.set_port(*port);
                self.world.deliver(letter);
            }
            Step::Change { at, by, .. } if *by != 0 => {
                let at = usize::from(*at) % length;
                let authentic = matches!(letter.kind(), 1 | 2) && at >= length - MAC2;
                letter.bytes[at] ^= by;
                if authentic {
                    self.world.deliver(letter);
                } else {
                    self.forged(letter);
                }
            }
            Step::Cut { length: cut, .. } if length > 1 => {
                letter.bytes.truncate(usize::from(*cut) % (length - 1) + 1);
                self.forged(letter);
            }
            _ => {}
        }
    }

    fn configure(&mut self, step: &Step) {
        let (Step::Preshared(side, _) | Step::Keepalive(side, _) | Step::Private(side, _)) = step
        else {
            return;
        };
        let index = side.index();
        let now = self.world.now(index);
        let side = &mut self.world.sides[index];
        match step {
            Step::Preshared(_, byte) => {
                let psk = (*byte != 0).then(|| PresharedKey::from_bytes([*byte; 32]));
                side.lane.set_preshared_key(side.peer, psk);
            }
            Step::Keepalive(_, seconds) => {
                let (peer, out) = (side.peer, &mut side.out);
                side.lane.set_keepalive(now, peer, *seconds, out);
            }
            Step::Private(_, which) => {
                let own = match which {
                    Key::None => None,
                    Key::Own => Some(key(index)),
                    Key::Other => Some(PrivateKey::from_bytes([99; 32])),
                };
                side.lane.set_private_key(now, own);
            }
            _ => {}
        }
        self.world.collect(index);
    }

    /// The peer is removed, whatever is under way; it may have been before.
    fn remove(&mut self, index: usize) {
        let side = &mut self.world.sides[index];
        side.lane.remove_peer(side.peer, &mut side.out);
        self.world.collect(index);
    }

    /// The peer is removed and made again.
    fn anew(&mut self, index: usize) {
        self.remove(index);
        let now = self.world.now(index);
        let side = &mut self.world.sides[index];
        let other = key(1 - index).public();
        side.peer = side.lane.add_peer(now, other).unwrap();
        self.world.introduce(index);
    }

    /// What came out was sent by the other side, and came out once.
    fn check_delivered(&self) {
        for side in [LEFT, RIGHT] {
            let mut numbers = self.world.sequences(side);
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "something was delivered twice");
            for number in numbers {
                assert_eq!(self.pings[usize::from(number)], 1 - side);
            }
        }
    }

    /// Nothing hinders them any more: they talk again.
    fn heal(&mut self) {
        *self.losing.borrow_mut() = 0;
        self.world.time = self.latest;
        for side in [Side::Left, Side::Right] {
            self.step(&Step::Private(side, Key::Own));
            let side_ = &self.world.sides[side.index()];
            if side_.lane.peer(&key(1 - side.index()).public()).is_none() {
                self.step(&Step::Anew(side));
            }
            self.step(&Step::Preshared(side, 0));
            self.step(&Step::Keepalive(side, 0));
            self.step(&Step::Mtu(side, 1420));
            self.world.introduce(side.index());
        }
        self.world.run(seconds(700));
        for side in &self.world.sides {
            assert_eq!((side.lane.queued(), side.out.arena.lent()), (0, 0));
        }
        for side in [LEFT, RIGHT] {
            let before = self.world.sides[1 - side].delivered.len();
            self.ping(side);
            self.world.run(seconds(30));
            let after = self.world.sides[1 - side].delivered.len();
            assert_eq!(after, before + 1, "side {side} is not heard");
        }
    }
}

#[test]
fn whatever_arrives_is_refused_or_authentic_and_the_lanes_live_on() {
    check!(name = "lane")
        .with_type::<Script>()
        .with_iterations(100)
        .for_each(|script| {
            run(script);
        });
}

fn run(script: &Script) -> Run {
    let mut run = Run::new(script.connected);
    for step in script.steps.iter().take(STEPS_MAX) {
        run.step(step);
        run.check_delivered();
    }
    if script.heals {
        run.heal();
        run.check_delivered();
    }
    run
}

#[test]
fn the_harness_reaches_all_that_it_is_for() {
    use Side::{Left, Right};
    let pass = |ms| Step::Pass { ms, long: false };
    let after = |steps: &[Step]| {
        run(&Script {
            connected: true,
            heals: true,
            steps: steps.to_vec(),
        })
    };
    // Cookies: asked for, given, and used.
    let flood = Step::Stranger(Right, 0);
    let old = Step::Pass {
        ms: 20_000,
        long: true,
    };
    let run_ = after(&[
        old.clone(),
        flood.clone(),
        Step::Ping(Left),
        pass(100),
        pass(6_000),
    ]);
    assert!(run_.world.refused(RIGHT, Refused::CookieWanted) > 0);
    assert_eq!(run_.world.sent(RIGHT, 3), 1);
    assert!(run_.world.sequences(RIGHT).contains(&0));
    // A new session beside the old one.
    let run_ = after(&[pass(60_000), pass(61_000), Step::Ping(Left), pass(1_000)]);
    assert!(run_.world.sent(LEFT, 1) > 0 && run_.world.sent(RIGHT, 2) > 0);
    // Data that comes late, and again.
    let run_ = after(&[
        Step::Lose(1),
        Step::Ping(Left),
        Step::Ping(Left),
        pass(100),
        Step::Replay(0),
        Step::Replay(1),
    ]);
    assert_eq!(run_.world.refused(RIGHT, Refused::Replayed), 1);
    assert!(run_.world.sequences(RIGHT).starts_with(&[1, 0]));
    // A peer and a key that go while a handshake is under way.
    let run_ = after(&[old, Step::Ping(Left), Step::Remove(Left), pass(1_000)]);
    assert_eq!(run_.world.refused(LEFT, Refused::ResponseUnexpected), 1);
    let other = Step::Private(Right, Key::Other);
    let run_ = after(&[Step::Anew(Left), Step::Ping(Left), other, pass(1_000)]);
    assert_eq!(run_.world.refused(RIGHT, Refused::MacWrong), 1);
}
