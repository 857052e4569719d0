//! Our half: a node without devices and other nodes, that has the client as its pod. Pods' side and world are one TUN
//! to it, and addresses alone say which side a packet leaves by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use balance::{Affinity, Backend, Frontend, Service, State};
use datapath::{Forwarder, Outbox, Own, Route, Settings, Share, Snapshot};
use packet::{Address, Frame, Now, Offload, Prefix, Time};
use policy::{Endpoint, Identity, Labels, PolicyTable};
use tunnel::{Lane, PrivateKey};

use crate::talk::{Family, PORTS};
use crate::{Came, Side};

const POD: Identity = Identity(65_600);
/// Our ICMP errors are limited to 100 a second; this much time passes between two packets.
const STEP: Duration = Duration::from_millis(20);

pub(crate) struct Ours {
    forwarder: Forwarder,
    out: Outbox,
    now: Now,
}

impl Ours {
    pub(crate) fn start() -> Ours {
        let settings = Settings {
            mtu: 9000,
            flows: 16_384,
            probe_interval: Duration::from_secs(1),
            probe_count: 3,
            secret: (7, 11),
        };
        let lane = Lane::new(0, PrivateKey::from_bytes([1; 32]), [1; 32]);
        let mut forwarder = Forwarder::new(settings, Share::whole(1), vec![lane]);
        let mut out = Outbox::new(tunnel::Outbox::new(0, 64, 16), 64);
        let now = Now {
            time: Time::from_nanos(1_000_000_000),
            unix_ns: 1_700_000_000_000_000_000,
        };
        forwarder.adopt(now, Arc::new(snapshot()), &mut out);
        Ours {
            forwarder,
            out,
            now,
        }
    }

    /// Gives it a packet, from whichever side; what leaves it, and by which side.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Vec<Came> {
        self.now.time = self.now.time + STEP;
        self.now.unix_ns += STEP.as_nanos() as u64;
        let mut buf = self.out.tunnel.arena.take().expect("a buffer");
        buf.extend(packet);
        let offload = Offload::default();
        let frame = Frame { buf, offload };
        self.forwarder.handle_frame(self.now, frame, &mut self.out);
        self.forwarder.flush(self.now, &mut self.out);
        let mut came = Vec::new();
        while let Some(mut packet) = self.out.pods.pop() {
            packet.finish_checksum();
            self.out.ledger().sent += packet.segments() as u64;
            let to_client =
                |family: Family| packet.header().flow.destination == family.client().into();
            came.push(Came {
                side: if Family::BOTH.into_iter().any(to_client) {
                    Side::Client
                } else {
                    Side::Backend
                },
                bytes: packet.bytes().to_vec(),
            });
            self.out.tunnel.arena.put(packet.into_buf());
        }
        self.balance();
        came
    }

    /// Why packets were dropped so far.
    pub(crate) fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.out.dropped().filter(|(_, count)| *count > 0).collect()
    }

    /// Every packet is accounted for, and no buffer is lost.
    fn balance(&mut self) {
        let queued = self.out.queued() + self.forwarder.queued();
        let dropped: u64 = self.out.dropped().map(|(_, segments)| segments).sum();
        let ledger = *self.out.ledger();
        assert_eq!(
            ledger.received + ledger.originated,
            ledger.sent + ledger.consumed + queued + dropped,
            "{ledger:?}, {queued} queued, {dropped} dropped"
        );
        assert_eq!(self.out.tunnel.arena.lent(), 0);
    }
}

fn snapshot() -> Snapshot {
    let host = |ip: IpAddr| Prefix::host(Address::from(ip));
    let endpoint = |identity| Arc::new(Endpoint::of(identity));
    let both = Family::BOTH;
    let pods = both.map(|family| (host(family.client()), endpoint(POD)));
    let own = both.map(|family| (host(family.node()), endpoint(Identity::HOST)));
    let routes = both.map(|family| {
        let (client, node) = (host(family.client()), host(family.node()));
        [(client, Route::Pod), (node, Route::Own)]
    });
    let services = both.into_iter().flat_map(|family| {
        PORTS.map(|(protocol, port, backend_port)| {
            let frontend = Frontend {
                address: family.service().into(),
                port,
                protocol,
            };
            (frontend, service(family, backend_port))
        })
    });
    Snapshot {
        epoch: 1,
        backends: 1,
        endpoints: pods.into_iter().chain(own).collect(),
        world: endpoint(Identity::WORLD),
        policy: PolicyTable::compile(&[], &[(POD, Labels::default())]),
        services: services.collect(),
        routes: routes.into_iter().flatten().collect(),
        nodes: Vec::new(),
        own: Own {
            node: "node".into(),
            cluster: 1,
            addresses: both.map(|family| family.node().into()).to_vec(),
        },
    }
}

fn service(family: Family, port: u16) -> Arc<Service> {
    let backend = Backend {
        address: family.backend().into(),
        port,
        cluster: 1,
        local: true,
        state: State::Active,
        healthy: true,
        weight: 1,
    };
    let name = format!("shop/{port}");
    let service = Service::new(
        name,
        "port".into(),
        Affinity::None,
        true,
        vec![backend],
        251,
    );
    Arc::new(service)
}
