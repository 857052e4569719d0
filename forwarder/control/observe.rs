//! What only the workers know, as each tells it between two batches, and all of it added up.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datapath::ProbeStatus;
use driver::Dropped;

use super::report::{Driver, Lane, Segments};
use crate::mailbox::Desk;

/// What one worker knows, or several together.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) flows: usize,
    pub(super) drivers: Vec<Driver>,
    pub(super) drops: BTreeMap<String, u64>,
    pub(super) segments: Segments,
    pub(super) probes: Vec<ProbeStatus>,
    /// Flow records that found no room.
    pub(super) lost_records: u64,
    /// Pairs of lanes that do not answer.
    pub(super) silent: Vec<Silent>,
    /// Other nodes' lanes by their keys: what all of our lanes have with each.
    pub(super) lanes: BTreeMap<String, Lane>,
}

/// A pair of lanes that does not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent {
    /// The snapshot that says which node is meant.
    pub(super) epoch: u64,
    /// The node's place among its nodes.
    pub(super) node: u32,
    /// That node's lane.
    pub(super) theirs: u16,
    /// Our lane.
    pub(super) own: u16,
}

impl Observed {
    /// Adds what another worker knows.
    pub(super) fn add(&mut self, other: Observed) {
        self.flows += other.flows;
        self.lost_records += other.lost_records;
        for (reason, segments) in other.drops {
            *self.drops.entry(reason).or_default() += segments;
        }
        self.segments.add(&other.segments);
        self.probes.extend(other.probes);
        self.silent.extend(other.silent);
        for (key, lane) in other.lanes {
            add_lane(&mut self.lanes, key, lane);
        }
    }
}

/// Asked of a worker.
pub(super) fn observe(desk: &mut Desk<'_>) -> Observed {
    let dropped = desk.out.dropped();
    let unsent = Dropped::ALL
        .iter()
        .map(|cause| (cause.name(), desk.sent.dropped(*cause)));
    let drops = dropped
        .chain(unsent)
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| (name.to_owned(), n));
    let drops = drops.collect();
    let drivers = desk.engine.features().into_iter().map(|feature| Driver {
        name: feature.name.to_owned(),
        on: feature.on,
        why: feature.why,
    });
    let drivers = drivers.chain([helpers(desk.helpers)]);
    let queued = desk.out.queued() + desk.sealing + desk.forwarder.queued();
    let ledger = *desk.out.ledger();
    let epoch = desk.forwarder.epoch();
    let silent = desk.forwarder.silent_lanes(desk.now);
    let silent = silent.map(|(own, node, theirs)| Silent {
        epoch,
        node,
        theirs,
        own,
    });
    Observed {
        flows: desk.forwarder.flows(),
        lost_records: desk.forwarder.lost_records(),
        drivers: drivers.collect(),
        drops,
        segments: Segments {
            received: ledger.received,
            originated: ledger.originated,
            sent: ledger.sent,
            consumed: ledger.consumed,
            queued,
            fell_back: desk.forwarder.fell_back(),
            crossed_in: ledger.crossed_in,
            crossed_out: ledger.crossed_out,
        },
        probes: desk.forwarder.probe_status().collect(),
        silent: silent.collect(),
        lanes: lanes(desk),
    }
}

/// Whether other threads do a part of the cipher's work.
fn helpers(count: usize) -> Driver {
    Driver {
        name: "helpers".to_owned(),
        on: count > 0,
        why: match count {
            0 => "there is no other core, or no thread to be had".to_owned(),
            1 => "1 thread for the cipher".to_owned(),
            _ => format!("{count} threads for the cipher"),
        },
    }
}

fn lanes(desk: &Desk<'_>) -> BTreeMap<String, Lane> {
    let now = desk.now.unix_ns;
    let mut lanes = BTreeMap::new();
    for lane in desk.forwarder.lanes() {
        for peer in lane.peers() {
            let key = STANDARD.encode(peer.key.as_bytes());
            let ago = peer
                .last_handshake_unix_ns
                .map(|then| now.saturating_sub(then));
            let lane = Lane {
                key: key.clone(),
                endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
                last_handshake_ago_s: ago.map(|ns| (ns / 1_000_000) as f64 / 1_000.0),
                tx_bytes: peer.tx_bytes,
                rx_bytes: peer.rx_bytes,
                ..Lane::default()
            };
            add_lane(&mut lanes, key, lane);
        }
    }
    lanes
}

/// Each of our lanes has sessions of its own with a lane of another node: the bytes are all that
/// any carried, and the newest handshake says where it is.
fn add_lane(lanes: &mut BTreeMap<String, Lane>, key: String, other: Lane) {
    let Some(lane) = lanes.get_mut(&key) else {
        lanes.insert(key, other);
        return;
    };
    let ago = |lane: &Lane| lane.last_handshake_ago_s.unwrap_or(f64::INFINITY);
    let (tx_bytes, rx_bytes) = (
        lane.tx_bytes + other.tx_bytes,
        lane.rx_bytes + other.rx_bytes,
    );
    if ago(&other) < ago(lane) {
        *lane = other;
    }
    (lane.tx_bytes, lane.rx_bytes) = (tx_bytes, rx_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(ago: Option<f64>, endpoint: &str, bytes: u64) -> Lane {
        Lane {
            key: "theirs".into(),
            endpoint: Some(endpoint.into()),
            last_handshake_ago_s: ago,
            tx_bytes: bytes,
            rx_bytes: 2 * bytes,
            ..Lane::default()
        }
    }

    #[test]
    fn sessions_of_several_lanes_with_one_are_shown_as_one() {
        let mut all = Observed::default();
        for (ago, endpoint, bytes) in [
            (None, "192.0.2.2:1", 1),
            (Some(2.5), "192.0.2.2:2", 10),
            (Some(9.0), "192.0.2.2:3", 100),
        ] {
            let lanes = [("theirs".to_owned(), lane(ago, endpoint, bytes))];
            all.add(Observed {
                flows: 1,
                drops: [("no-peer".to_owned(), bytes)].into(),
                lanes: lanes.into(),
                ..Observed::default()
            });
        }
        let theirs = &all.lanes["theirs"];
        assert_eq!(theirs.endpoint.as_deref(), Some("192.0.2.2:2"));
        assert_eq!(theirs.last_handshake_ago_s, Some(2.5));
        assert_eq!((theirs.tx_bytes, theirs.rx_bytes), (111, 222));
        assert_eq!((all.flows, all.drops["no-peer"]), (3, 111));
    }
}
