//! The world of these tests: two lanes, what is under way between them, and the books of both,
//! which are checked after every step.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use packet::{Address, Datagrams, Now, Offload, Packet, Time, echo_request};
use tunnel::{Inner, Lane, Outbox, PeerId, PrivateKey, Reception, Refused};

/// How long a datagram is under way.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);
const UNIX_NS: u64 = 1_800_000_000_000_000_000;

pub(crate) const LEFT: usize = 0;
pub(crate) const RIGHT: usize = 1;

/// One train under way.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) at: Time,
    pub(crate) to: usize,
    pub(crate) from: SocketAddr,
    pub(crate) ecn: u8,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stride: usize,
}

impl Letter {
    /// The message type of its first frame.
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0]
    }

    pub(crate) fn frames(&self) -> usize {
        self.bytes.len().div_ceil(self.stride)
    }
}

/// A message that was put on the wire: when, by whom, its type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: Time,
    pub(crate) by: usize,
    pub(crate) kind: u8,
    pub(crate) length: usize,
}

pub(crate) struct Side {
    pub(crate) lane: Lane,
    pub(crate) reception: Reception,
    pub(crate) out: Outbox,
    pub(crate) address: SocketAddr,
    /// The other one, as this lane names it.
    pub(crate) peer: PeerId,
    /// What came out, in order.
    pub(crate) delivered: Vec<Vec<u8>>,
    pub(crate) clock_ns: u64,
    received: u64,
    sent: u64,
}

impl Side {
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.lane.poll_timeout(&self.reception)
    }
}

pub(crate) struct World {
    pub(crate) sides: [Side; 2],
    pub(crate) time: Time,
    pub(crate) wire: VecDeque<Letter>,
    pub(crate) log: Vec<Record>,
    pub(crate) loses: Box<dyn FnMut(&Letter) -> bool>,
    /// Trains delivered: every other one is opened as by another thread.
    delivered: usize,
}

impl World {
    /// Both know the other's key; only the left one knows where the right one is.
    pub(crate) fn new() -> World {
        World::with_buffers(80)
    }

    /// The same, with so many buffers a side.
    pub(crate) fn with_buffers(buffers: usize) -> World {
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let publics = [keys[0].public(), keys[1].public()];
        let addresses = ["192.0.2.1:1000", "192.0.2.2:2000"];
        let mut number = 0;
        let sides = keys.map(|key| {
            let mut lane = Lane::new(0, key, [number as u8 + 77; 32]);
            let peer = lane.add_peer(Now::default(), publics[1 - number]).unwrap();
            let side = Side {
                lane,
                reception: Reception::default(),
                out: Outbox::new(0, buffers, 256),
                address: addresses[number].parse().unwrap(),
                peer,
                delivered: Vec::new(),
                clock_ns: UNIX_NS,
                received: 0,
                sent: 0,
            };
            number += 1;
            side
        });
        let mut world = World {
            sides,
            time: Time::ZERO,
            wire: VecDeque::new(),
            log: Vec::new(),
            loses: Box::new(|_| false),
            delivered: 0,
        };
        world.introduce(LEFT);
        world
    }

    /// A world whose sides have talked: left is the initiator of the session.
    pub(crate) fn connected() -> World {
        let mut world = World::new();
        world.ping(LEFT, 0);
        world.run(Duration::from_millis(100));
        world.ping(RIGHT, 0);
        world.run(Duration::from_millis(100));
        assert_eq!(world.counts(), (1, 1));
        world.log.clear();
        for side in &mut world.sides {
            side.delivered.clear();
        }
        world
    }

    /// Tells one side where the other is.
    pub(crate) fn introduce(&mut self, side: usize) {
        let address = self.sides[1 - side].address;
        let side = &mut self.sides[side];
        side.lane.set_endpoint(side.peer, address);
    }

    pub(crate) fn now(&self, side: usize) -> Now {
        Now {
            time: self.time,
            unix_ns: self.sides[side].clock_ns + self.time.as_nanos(),
        }
    }

    /// A pod of this side sends an echo request with this number.
    pub(crate) fn ping(&mut self, side: usize, sequence: u16) {
        let packet = self.echo(side, sequence, 0);
        self.seal(side, packet);
    }

    pub(crate) fn echo(&mut self, side: usize, sequence: u16, ecn: u8) -> Packet {
        let pods = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Address::from_v4);
        let mut buf = self.sides[side].out.arena.take().unwrap();
        let (from, to) = (pods[side], pods[1 - side]);
        echo_request(from, to, 7, sequence, &[0xab; 21], &mut buf);
        let mut packet = Packet::parse(buf, Offload::default()).unwrap();
        packet.set_ecn(ecn);
        packet
    }

    pub(crate) fn seal(&mut self, side: usize, packet: Packet) {
        self.push(side, packet);
        self.collect(side);
    }

    /// Seals, and leaves in the outbox what comes of it.
    pub(crate) fn push(&mut self, side: usize, packet: Packet) {
        let now = self.now(side);
        let side_ = &mut self.sides[side];
        side_.received += packet.segments() as u64;
        side_.lane.seal(now, side_.peer, packet, &mut side_.out);
    }

    /// Lets time pass, event by event.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.time + duration;
        loop {
            let letter = self.wire.front().map(|letter| letter.at);
            let timers = self.sides.iter().map(Side::poll_timeout);
            let next = timers.chain([letter]).flatten().min();
            match next {
                Some(next) if next <= until => self.time = self.time.max(next),
                _ => break,
            }
            while self
                .wire
                .front()
                .is_some_and(|letter| letter.at <= self.time)
            {
                let letter = self.wire.pop_front().unwrap();
                self.deliver(letter);
            }
            for side in [LEFT, RIGHT] {
                let now = self.now(side);
                let side_ = &mut self.sides[side];
                let (reception, out) = (&mut side_.reception, &mut side_.out);
                side_.lane.handle_timeout(now, reception, out);
                self.collect(side);
            }
        }
        self.time = until;
    }

    /// Hands a letter over, whatever it holds.
    pub(crate) fn deliver(&mut self, letter: Letter) {
        let now = self.now(letter.to);
        let side = &mut self.sides[letter.to];
        let mut buf = side.out.arena.take().unwrap();
        buf.extend(&letter.bytes);
        buf.set_stride(letter.stride);
        let mut opened: Vec<Inner> = Vec::new();
        side.received += buf.frames() as u64;
        let mut train = Datagrams {
            lane: 0,
            path: letter.from.into(),
            ecn: letter.ecn,
            buf,
        };
        let (reception, out) = (&mut side.reception, &mut side.out);
        self.delivered += 1;
        if self.delivered.is_multiple_of(2) {
            side.lane.open(now, &mut train, reception, &mut opened, out);
        } else {
            // As if another thread had opened it.
            let mut unopened = side.lane.unopened(now, train);
            unopened.open();
            side.lane
                .open_tried(now, &mut unopened, reception, &mut opened, out);
            train = unopened.into_datagrams();
        }
        for inner in &opened {
            assert_eq!(inner.peer, side.peer);
            let bytes = &train.buf.as_slice()[inner.start as usize..][..inner.length as usize];
            side.delivered.push(bytes.to_vec());
        }
        side.sent += opened.len() as u64;
        side.out.arena.put(train.buf);
        self.collect(letter.to);
    }

    /// Moves what a side wants to send to the wire, and checks its books.
    pub(crate) fn collect(&mut self, by: usize) {
        while let Some(train) = self.sides[by].out.wire.pop() {
            let letter = self.letter(by, train);
            let side = &mut self.sides[by];
            side.sent += letter.frames() as u64;
            for frame in letter.bytes.chunks(letter.stride) {
                self.log.push(Record {
                    at: self.time,
                    by,
                    kind: frame[0],
                    length: frame.len(),
                });
            }
            if !(self.loses)(&letter) {
                self.wire.push_back(letter);
            }
        }
        let side = &mut self.sides[by];
        let (ledger, refused) = (&side.out.ledger, side.out.refused.total());
        assert_eq!(
            side.received + ledger.originated,
            side.sent + ledger.consumed + side.lane.queued() + refused,
            "the books of side {by} do not balance"
        );
    }

    /// A train as it travels.
    pub(crate) fn letter(&mut self, by: usize, train: Datagrams) -> Letter {
        let side = &mut self.sides[by];
        let letter = Letter {
            at: self.time + LATENCY,
            to: 1 - by,
            from: side.address,
            ecn: train.ecn,
            bytes: train.buf.as_slice().to_vec(),
            stride: train.buf.stride(),
        };
        side.out.arena.put(train.buf);
        letter
    }

    /// How many packets came out on the left and on the right.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let [left, right] = &self.sides;
        (left.delivered.len(), right.delivered.len())
    }

    /// The echo sequence numbers that came out.
    pub(crate) fn sequences(&self, side: usize) -> Vec<u16> {
        let delivered = self.sides[side].delivered.iter();
        delivered
            .map(|p| u16::from_be_bytes([p[26], p[27]]))
            .collect()
    }

    /// Messages of a type put on the wire by a side.
    pub(crate) fn sent(&self, by: usize, kind: u8) -> usize {
        let of_kind = |record: &&Record| record.by == by && record.kind == kind;
        self.log.iter().filter(of_kind).count()
    }

    pub(crate) fn refused(&self, side: usize, reason: Refused) -> u64 {
        self.sides[side].out.refused[reason]
    }

    pub(crate) fn is_live(&self, side: usize) -> bool {
        let now = self.now(side);
        self.sides[side].lane.is_live(now, self.sides[side].peer)
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
