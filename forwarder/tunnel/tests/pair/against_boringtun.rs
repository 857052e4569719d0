//! A lane against boringtun, an implementation of WireGuard that we did not write, in one process:
//! both roles, with and without a pre-shared key, under load, and data both ways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use packet::{Address, Buf, Datagrams, Now, Offload, Packet, Time, echo_request};
use tunnel::{Inner, Lane, Outbox, PeerId, PresharedKey, PrivateKey, Reception, Refusals, Refused};

const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];
const OUR_ADDRESS: &str = "192.0.2.1";
const THEIR_ADDRESS: &str = "192.0.2.2:2000";
const UNIX_NS: u64 = 1_800_000_000_000_000_000;

/// Our lane and their tunnel.
struct Both {
    lane: Lane,
    reception: Reception,
    peer: PeerId,
    out: Outbox,
    tunn: Tunn,
    now: Now,
}

impl Both {
    fn new(psk: Option<[u8; 32]>) -> Both {
        let now = Now {
            time: Time::ZERO,
            unix_ns: UNIX_NS,
        };
        let mut lane = Lane::new(0, PrivateKey::from_bytes(OURS), [3; 32]);
        let (ours, theirs) = (StaticSecret::from(OURS), StaticSecret::from(THEIRS));
        let key = tunnel::PublicKey::from_bytes(PublicKey::from(&theirs).to_bytes());
        let peer = lane.add_peer(now, key).unwrap();
        lane.set_preshared_key(peer, psk.map(PresharedKey::from_bytes));
        lane.set_endpoint(peer, THEIR_ADDRESS.parse().unwrap());
        Both {
            lane,
            reception: Reception::default(),
            peer,
            out: Outbox::new(0, 32, 32),
            tunn: Tunn::new(theirs, PublicKey::from(&ours), psk, None, 7, None),
            now,
        }
    }

    /// A pod of ours sends; gives what leaves for the wire.
    fn we_send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let packet = Packet::parse(self.buf(packet), Offload::default()).unwrap();
        self.lane.seal(self.now, self.peer, packet, &mut self.out);
        self.wire()
    }

    fn buf(&mut self, bytes: &[u8]) -> Buf {
        let mut buf = self.out.arena.take().unwrap();
        buf.extend(bytes);
        buf
    }

    fn wire(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Some(train) = self.out.wire.pop() {
            let bytes = train.buf.as_slice();
            datagrams.extend(bytes.chunks(train.buf.stride()).map(<[u8]>::to_vec));
            self.out.arena.put(train.buf);
        }
        datagrams
    }

    /// A pod of theirs sends; gives what leaves for the wire.
    fn they_send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut room = [0; 2048];
        match self.tunn.encapsulate(packet, &mut room) {
            TunnResult::WriteToNetwork(datagram) => vec![datagram.to_vec()],
            TunnResult::Done => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// They receive a datagram: what leaves for the wire, and what their pod gets.
    fn they_receive(&mut self, datagram: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut answers, mut packets) = (Vec::new(), Vec::new());
        let mut room = [0; 2048];
        let from = OUR_ADDRESS.parse().unwrap();
        let mut result = self.tunn.decapsulate(Some(from), datagram, &mut room);
        loop {
            match result {
                TunnResult::WriteToNetwork(answer) => answers.push(answer.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    packets.push(packet.to_vec());
                    return (answers, packets);
                }
                TunnResult::Done => return (answers, packets),
                TunnResult::Err(error) => panic!("boringtun refuses: {error:?}"),
            }
            result = self.tunn.decapsulate(None, &[], &mut room);
        }
    }

    /// We receive a datagram: what leaves for the wire, and what our pod gets.
    fn we_receive(&mut self, datagram: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (train, opened) = self.open(datagram);
        let packets = opened
            .iter()
            .map(|inner| train.as_slice()[inner.start as usize..][..inner.length as usize].to_vec())
            .collect();
        self.out.arena.put(train);
        assert_eq!(self.out.refused.total(), 0, "{:?}", self.out.refused);
        (self.wire(), packets)
    }

    /// Our lane opens a datagram, whatever comes of it.
    fn open(&mut self, datagram: &[u8]) -> (Buf, Vec<Inner>) {
        self.open_from(THEIR_ADDRESS.parse().unwrap(), datagram)
    }

    fn open_from(&mut self, from: SocketAddr, datagram: &[u8]) -> (Buf, Vec<Inner>) {
        let mut train = Datagrams {
            lane: 0,
            path: from.into(),
            ecn: 0,
            buf: self.buf(datagram),
        };
        let mut opened = Vec::new();
        let (reception, out) = (&mut self.reception, &mut self.out);
        self.lane
            .open(self.now, &mut train, reception, &mut opened, out);
        (train.buf, opened)
    }

    /// Time passes for our lane; gives what leaves for the wire.
    fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.now.time = self.now.time + time;
        self.now.unix_ns += time.as_nanos() as u64;
        let (reception, out) = (&mut self.reception, &mut self.out);
        self.lane.handle_timeout(self.now, reception, out);
        self.wire()
    }

    /// They begin a handshake, whether or not they have begun one.
    fn they_begin(&mut self) -> Vec<u8> {
        let mut room = [0; 256];
        match self.tunn.format_handshake_initiation(&mut room, true) {
            TunnResult::WriteToNetwork(first) => first.to_vec(),
            other => panic!("boringtun begins no handshake: {other:?}"),
        }
    }

    /// Carries datagrams, first to us or to them, until none is under way; gives what both pods got.
    fn carry(&mut self, mut datagrams: Vec<Vec<u8>>, mut to_us: bool) -> [Vec<Vec<u8>>; 2] {
        let mut got = [Vec::new(), Vec::new()];
        for _ in 0..8 {
            let mut next = Vec::new();
            for datagram in datagrams {
                let (answers, packets) = if to_us {
                    self.we_receive(&datagram)
                } else {
                    self.they_receive(&datagram)
                };
                next.extend(answers);
                got[usize::from(!to_us)].extend(packets);
            }
            (datagrams, to_us) = (next, !to_us);
        }
        assert!(datagrams.is_empty(), "they do not come to rest");
        got
    }
}

fn ping(from_us: bool, sequence: u16, payload: usize) -> Vec<u8> {
    let pods = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Address::from_v4);
    let (from, to) = if from_us {
        (pods[0], pods[1])
    } else {
        (pods[1], pods[0])
    };
    let mut buf = packet::Arena::new(0, 1).take().unwrap();
    echo_request(from, to, 7, sequence, &vec![0xab; payload], &mut buf);
    buf.as_slice().to_vec()
}

/// Packets of many lengths, both ways, in a session that is there.
fn talk(both: &mut Both) {
    for sequence in 0..40 {
        let payload = usize::from(sequence) * 33;
        let (ours, theirs) = (
            ping(true, sequence, payload),
            ping(false, sequence, payload),
        );
        let datagrams = both.we_send(&ours);
        assert_eq!(both.carry(datagrams, false), [vec![], vec![ours]]);
        let datagrams = both.they_send(&theirs);
        assert_eq!(both.carry(datagrams, true), [vec![theirs], vec![]]);
    }
}

#[test]
fn boringtun_answers_our_handshake_and_both_talk() {
    for psk in [None, Some([5; 32])] {
        let mut both = Both::new(psk);
        let first = ping(true, 1, 100);
        let datagrams = both.we_send(&first);
        assert_eq!(both.carry(datagrams, false), [vec![], vec![first]]);
        talk(&mut both);
    }
}

#[test]
fn we_answer_the_handshake_of_boringtun_and_both_talk() {
    for psk in [None, Some([5; 32])] {
        let mut both = Both::new(psk);
        let first = ping(false, 1, 100);
        let datagrams = both.they_send(&first);
        assert_eq!(both.carry(datagrams, true), [vec![first], vec![]]);
        talk(&mut both);
    }
}

#[test]
fn a_handshake_of_each_side_after_the_other_leaves_both_talking() {
    let mut both = Both::new(None);
    for round in 0..6 {
        // Their clock is the real one, ours is not; what counts is that stamps increase.
        both.now.unix_ns += 1_000_000_000;
        both.now.time = both.now.time + Duration::from_secs(130);
        if round % 2 == 0 {
            let first = vec![both.they_begin()];
            both.carry(first, true);
        } else {
            let packet = ping(true, round, 10);
            let datagrams = both.we_send(&packet);
            let [_, theirs] = both.carry(datagrams, false);
            assert_eq!(theirs, [packet]);
        }
        talk(&mut both);
    }
}

#[test]
fn another_preshared_key_is_no_session() {
    let mut both = Both::new(Some([5; 32]));
    both.lane.set_preshared_key(both.peer, None);
    let first = both.we_send(&ping(true, 1, 10));
    let (answers, _) = both.they_receive(&first[0]);
    both.open(&answers[0]);
    let refused = both.out.refused[Refused::ResponseForged];
    assert_eq!(
        (refused, both.lane.is_live(both.now, both.peer)),
        (1, false)
    );
}

/// Bytes of the second MAC, the last of a handshake message.
const MAC2: usize = 16;

#[test]
fn boringtun_under_load_gives_us_a_cookie_and_we_come_in_with_it() {
    let mut both = Both::new(None);
    // Under load is every message: it may count none.
    let theirs = PublicKey::from(&StaticSecret::from(THEIRS));
    let limiter = Some(Arc::new(RateLimiter::new(&theirs, 0)));
    let ours = PublicKey::from(&StaticSecret::from(OURS));
    both.tunn = Tunn::new(StaticSecret::from(THEIRS), ours, None, None, 7, limiter);
    let packet = ping(true, 1, 100);
    let first = both.we_send(&packet).remove(0);
    assert_eq!(first[first.len() - MAC2..], [0; MAC2]);
    let (cookie, _) = both.they_receive(&first);
    assert_eq!((cookie[0][0], cookie[0].len()), (3, 64));
    assert_eq!(both.we_receive(&cookie[0]), (vec![], vec![]));
    let again = both.pass(Duration::from_millis(5_400));
    assert_ne!(again[0][first.len() - MAC2..], [0; MAC2]);
    assert_eq!(both.carry(again, false), [vec![], vec![packet]]);
    talk(&mut both);
}

#[test]
fn we_under_load_give_boringtun_a_cookie_and_it_comes_in_with_it() {
    let mut both = Both::new(None);
    // Somebody else's messages, each from an address of its own, more than may wait.
    let mut stranger = Both::new(None);
    let ours = PublicKey::from(&StaticSecret::from(OURS));
    stranger.tunn = Tunn::new(StaticSecret::from([9; 32]), ours, None, None, 7, None);
    let forged = stranger.they_begin();
    for number in 0..16 + 128 {
        let from = SocketAddr::from(([10, 9, 0, number], 4_000));
        let (train, _) = both.open_from(from, &forged);
        both.out.arena.put(train);
    }
    let packet = ping(false, 1, 100);
    let first = both.they_send(&packet);
    let (train, _) = both.open(&first[0]);
    both.out.arena.put(train);
    let cookie = both.wire();
    assert_eq!((cookie[0][0], cookie[0].len()), (3, 64));
    assert_eq!(both.they_receive(&cookie[0]), (vec![], vec![]));
    let again = both.they_begin();
    assert_ne!(again[again.len() - MAC2..], [0; MAC2]);
    let (train, _) = both.open(&again);
    both.out.arena.put(train);
    // It waits behind the others, whom nobody knows.
    let mut answers = Vec::new();
    while answers.is_empty() && both.lane.queued() > 0 {
        answers = both.pass(Duration::from_millis(1));
    }
    let refused = &both.out.refused;
    assert_eq!(refused[Refused::InitiatorUnknown], 16 + 128);
    assert_eq!(refused.total(), 16 + 128 + 1);
    both.out.refused = Refusals::default();
    assert_eq!(both.carry(answers, false), [vec![packet], vec![]]);
    talk(&mut both);
}
