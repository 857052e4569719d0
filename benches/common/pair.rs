//! Two lanes with a session, and the TCP super-packet that one of them seals for the other.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::PacketBuilder;
use packet::{
    Buf, Checksum, Datagrams, Now, Offload, Packet, Segmentation, SegmentationKind, Time,
};
use tunnel::{Inner, Lane, Outbox, PeerId, PrivateKey, Reception};

/// Segments of the super-packet: as many as 64 KiB hold.
pub(crate) const SEGMENTS: usize = 46;
/// Bytes of one segment, which is the largest packet that the tunnel carries over Ethernet.
pub(crate) const SEGMENT: usize = 1_420;
/// Bytes of its IPv4 and TCP headers, without options.
const HEADERS: usize = 40;

/// Two lanes; what one seals the other opens.
pub(crate) struct Pair {
    near: Lane,
    far: Lane,
    to_far: PeerId,
    pub(crate) out: Outbox,
    now: Now,
    reception: Reception,
    bytes: Vec<u8>,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let now = Now {
            time: Time::from_nanos(1),
            unix_ns: 1 << 60,
        };
        let mut lanes = keys.clone().map(|key| {
            let mut lane = Lane::new(0, key, [3; 32]);
            lane.set_mtu(SEGMENT);
            lane
        });
        let mut peers = lanes.iter_mut().zip([1, 0]).map(|(lane, other)| {
            let peer = lane.add_peer(now, keys[other].public()).expect("a peer");
            lane.set_endpoint(peer, remote());
            peer
        });
        let to_far = peers.next().expect("the first lane's");
        peers.for_each(drop);
        let [near, far] = lanes;
        let mut pair = Pair {
            near,
            far,
            to_far,
            out: Outbox::new(0, 16, 16),
            now,
            reception: Reception::default(),
            bytes: super_packet(),
        };
        pair.connect();
        pair
    }

    /// Sends the first packet, which waits for the handshake.
    fn connect(&mut self) {
        let packet = self.packet();
        self.seal(packet);
        let mut to_far = true;
        while let Some(mut train) = self.out.wire.pop() {
            // Their lanes take a handshake for each millisecond.
            self.now.time = self.now.time + Duration::from_millis(1);
            train.path = remote().into();
            let lane = if to_far {
                &mut self.far
            } else {
                &mut self.near
            };
            let (reception, opened) = (&mut self.reception, &mut Vec::new());
            lane.open(self.now, &mut train, reception, opened, &mut self.out);
            self.out.arena.put(train.buf);
            to_far = !to_far || self.near.is_live(self.now, self.to_far);
        }
        assert!(self.near.is_live(self.now, self.to_far), "connected");
    }

    /// The super-packet, as a device gives it.
    pub(crate) fn packet(&mut self) -> Packet {
        parse(self.frame())
    }

    /// The same before it was looked at.
    pub(crate) fn frame(&mut self) -> Buf {
        let mut buf = self.out.arena.take().expect("a buffer");
        buf.extend(&self.bytes);
        buf
    }

    /// Seals a packet for the other lane; the trains are in `out`.
    #[inline]
    pub(crate) fn seal(&mut self, packet: Packet) {
        self.near.seal(self.now, self.to_far, packet, &mut self.out);
    }

    /// Takes the trains out, as if they had come from the near lane's address.
    pub(crate) fn take_trains(&mut self) -> Vec<Datagrams> {
        let mut trains: Vec<Datagrams> = std::iter::from_fn(|| self.out.wire.pop()).collect();
        trains
            .iter_mut()
            .for_each(|train| train.path = remote().into());
        trains
    }

    /// Opens what the near lane has sealed.
    #[inline]
    pub(crate) fn open(&mut self, trains: &mut [Datagrams], opened: &mut Vec<Inner>) {
        for train in trains {
            let (reception, out) = (&mut self.reception, &mut self.out);
            self.far.open(self.now, train, reception, opened, out);
        }
    }
}

/// Where either lane is.
fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51_820))
}

/// What is checked of a super-packet's frame.
#[inline]
pub(crate) fn parse(buf: Buf) -> Packet {
    Packet::parse(buf, offload()).expect("a packet")
}

/// What a TUN says of a super-packet.
fn offload() -> Offload {
    Offload {
        checksum: Checksum::Partial {
            start: 20,
            offset: 16,
        },
        segmentation: Some(Segmentation {
            kind: SegmentationKind::Tcp,
            size: (SEGMENT - HEADERS) as u16,
        }),
    }
}

/// Its bytes. The checksum is left to whoever cuts it, so what stands in its place does not matter.
fn super_packet() -> Vec<u8> {
    let payload: Vec<u8> = (0..SEGMENTS * (SEGMENT - HEADERS))
        .map(|i| (i * 7) as u8)
        .collect();
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 1, 0, 1], [10, 2, 0, 1], 64)
        .tcp(12_345, 80, 1, 0xffff)
        .ack(9)
        .write(&mut bytes, &payload)
        .expect("a vector takes it");
    bytes
}
