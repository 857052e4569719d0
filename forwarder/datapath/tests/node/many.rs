//! A mesh of more nodes than one breath has room to speak with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datapath::{Forwarder, LanePeer, Node, Outbox, Own, Route, Settings, Share, Snapshot};
use packet::{Address, Now, Prefix, Time};
use policy::{Endpoint, Identity, PolicyTable};
use tunnel::{Lane, PrivateKey};

const NODES: u16 = 600;
/// Trains that wait for the wire, as in a worker.
const TRAINS: usize = 256;

fn address(node: u16) -> [u8; 4] {
    let [high, low] = node.to_be_bytes();
    [192, 0, high, low]
}

fn mesh() -> Snapshot {
    let node = |number: u16| {
        let mut key = [7; 32];
        key[4..6].copy_from_slice(&number.to_be_bytes());
        Node {
            name: format!("node-{number}"),
            cluster: 2,
            cluster_name: "far".into(),
            addresses: vec![Address::from_v4(address(number))],
            lanes: vec![LanePeer {
                key: PrivateKey::from_bytes(key).public(),
                endpoint: SocketAddr::from((address(number), 51_871)),
            }],
            knows_lanes: true,
        }
    };
    let own = Address::from_v4([10, 0, 0, 1]);
    let places = (0..NODES).map(|n| (address(n + 1), Route::Node(n.into())));
    let mut routes: BTreeMap<Prefix, Route> = places
        .map(|(address, route)| (Prefix::host(Address::from_v4(address)), route))
        .collect();
    routes.insert(Prefix::host(own), Route::Own);
    Snapshot {
        epoch: 1,
        backends: 1,
        endpoints: Default::default(),
        world: Arc::new(Endpoint::of(Identity::WORLD)),
        policy: PolicyTable::compile(&[], &[]),
        services: Default::default(),
        routes: routes.into_iter().collect(),
        nodes: (1..=NODES).map(node).collect(),
        own: Own {
            node: "here".into(),
            cluster: 1,
            addresses: vec![own],
        },
    }
}

#[test]
fn every_node_of_a_large_mesh_is_spoken_with_in_one_interval_and_nothing_finds_no_room() {
    let settings = Settings {
        mtu: 1420,
        flows: 64,
        probe_interval: Duration::from_millis(200),
        probe_count: 3,
        secret: (1, 2),
    };
    let lane = Lane::new(0, PrivateKey::from_bytes([9; 32]), [9; 32]);
    let mut forwarder = Forwarder::new(settings, Share::whole(1), vec![lane]);
    let mut out = Outbox::new(tunnel::Outbox::new(0, 512, TRAINS), TRAINS);
    let mut now = Now {
        time: Time::from_nanos(1_000_000_000),
        unix_ns: 1_700_000_000_000_000_000,
    };
    forwarder.adopt(now, Arc::new(mesh()), &mut out);
    let mut spoken_with = BTreeSet::new();
    for _ in 0..200 {
        forwarder.handle_timeout(now, &mut out);
        while let Some(train) = out.tunnel.wire.pop() {
            spoken_with.insert(train.path.remote);
            out.tunnel.arena.put(train.buf);
        }
        now.time = now.time + Duration::from_millis(1);
    }
    assert_eq!(spoken_with.len(), usize::from(NODES));
    let refused = out.dropped().find(|(name, _)| *name == "wireFull");
    assert_eq!(refused, Some(("wireFull", 0)));
}
