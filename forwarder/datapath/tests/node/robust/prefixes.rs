//! RFC 7608: the longest prefix decides, whatever its length.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datapath::{Forwarder, LanePeer, Node, Outbox, Own, Route, Settings, Share, Snapshot};
use packet::{Address, Frame, Now, Offload, Prefix, PrefixMap, Time};
use policy::{Endpoint, Identity, PolicyTable};
use tunnel::{Lane, PrivateKey};

use crate::robust::stage::{Ends, Way};

/// For each length the prefix of that length of one address leads to a node of its own.
fn nested(base: Address, bits: u8, pod: Address) -> Snapshot {
    let node = |number: u8| Node {
        name: format!("node-{number}"),
        cluster: 2,
        cluster_name: "far".into(),
        addresses: Vec::new(),
        lanes: vec![LanePeer {
            key: PrivateKey::from_bytes([number, 7].repeat(16).try_into().expect("32 bytes"))
                .public(),
            endpoint: endpoint(number),
        }],
        knows_lanes: true,
    };
    let world = Arc::new(Endpoint::of(Identity::WORLD));
    let prefix = |length: u8| Prefix::masked(base, length).expect("a length of its family");
    let mut routes: PrefixMap<Route> = (0..=bits)
        .map(|length| (prefix(length), Route::Node(length.into())))
        .collect();
    routes.insert(Prefix::host(pod), Route::Pod);
    Snapshot {
        epoch: 1,
        backends: 1,
        endpoints: [(prefix(0), world.clone())].into_iter().collect(),
        world,
        policy: PolicyTable::compile(&[], &[]),
        services: Default::default(),
        routes,
        nodes: (0..=bits).map(node).collect(),
        own: Own::default(),
    }
}

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 10_000 + u16::from(number)))
}

/// The address that has `length` bits of `base` and no more.
fn address(base: &[u8], length: usize) -> Vec<u8> {
    let mut address = base.to_vec();
    if let Some(octet) = address.get_mut(length / 8) {
        *octet ^= 0x80 >> (length % 8);
    }
    address
}

#[test]
fn every_length_from_0_to_128_is_matched_before_the_shorter_ones() {
    for v6 in [false, true] {
        let ends = Ends::new(Way::Across, v6);
        let base: Vec<u8> = match v6 {
            false => vec![42, 77, 13, 5],
            true => (0..16).map(|octet| 0x20 + octet * 7).collect(),
        };
        let (bits, base_address, pod) = match v6 {
            false => (32, v4(&base), v4(&ends.near)),
            true => (128, of_v6(&base), of_v6(&ends.near)),
        };
        let settings = Settings {
            mtu: 1420,
            flows: 256,
            probe_interval: Duration::from_millis(200),
            probe_count: 3,
            secret: (1, 2),
        };
        let lane = Lane::new(0, PrivateKey::from_bytes([9; 32]), [9; 32]);
        let mut forwarder = Forwarder::new(settings, Share::whole(1), vec![lane]);
        let mut out = Outbox::new(tunnel::Outbox::new(0, 512, 256), 256);
        let now = Now {
            time: Time::from_nanos(1_000_000_000),
            unix_ns: 1_700_000_000_000_000_000,
        };
        let snapshot = Arc::new(nested(base_address, bits, pod));
        forwarder.adopt(now, snapshot, &mut out);
        for length in 0..=bits {
            let to = address(&base, length.into());
            let bytes = ends.udp(b"data").with(|ip| ip.destination = to).bytes();
            let mut buf = out.tunnel.arena.take().expect("a buffer");
            buf.extend(&bytes);
            let offload = Offload::default();
            forwarder.handle_frame(now, Frame { buf, offload }, &mut out);
            let train = out.tunnel.wire.pop().expect("a handshake");
            assert_eq!(train.path.remote, endpoint(length), "/{length}");
            out.tunnel.arena.put(train.buf);
            // The packet waits for that handshake, and nothing else happens.
            assert_eq!(forwarder.queued(), u64::from(length) + 1);
            assert!(out.tunnel.wire.pop().is_none());
        }
    }
}

fn v4(octets: &[u8]) -> Address {
    Address::from_v4(octets.try_into().expect("4 bytes"))
}

fn of_v6(octets: &[u8]) -> Address {
    Address::from_v6(octets.try_into().expect("16 bytes"))
}
