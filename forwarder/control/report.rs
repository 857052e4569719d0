//! What `status` shows: the running node as one document, with names that stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use balance::{Service, State as BackendState};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datapath::{Health, PathState, ProbeStatus};
use mesh::State;
use serde::{Deserialize, Serialize};

use super::Control;
use super::observe::{Observed, Silent, observe};
use super::policies::{Policy, policies};
use crate::crew::Member;
use crate::explain::socket;
use crate::mailbox::Answer;

/// The running node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Name of its cluster.
    pub cluster: String,
    /// The epoch of what control has compiled; a worker with the same has applied it.
    pub epoch: u64,
    /// Whether every worker has applied it.
    pub applied_everywhere: bool,
    /// The workers.
    pub workers: Vec<Worker>,
    /// What was read, and whether it is in force.
    pub sources: Vec<Source>,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// The services, one entry for each address and port.
    pub services: Vec<ServicePort>,
    /// Segments dropped, by reason; only reasons that occurred.
    pub drops: BTreeMap<String, u64>,
    /// Segments received, originated, sent, consumed, and queued.
    pub segments: Segments,
    /// Flow records that are missing somewhere.
    #[serde(default)]
    pub flow_records: FlowRecords,
    /// The own cluster's policies, and how often each has decided.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Objects that are not wholly in force, and why.
    pub objects: Vec<Object>,
    /// The host's rules.
    pub host: HostRules,
}

/// One worker.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Its number.
    pub worker: u16,
    /// Its device towards the pods.
    pub device: String,
    /// The epoch that it judges by.
    pub epoch: u64,
    /// Flows that it knows.
    pub flows: usize,
    /// Whether it answered.
    pub answering: bool,
    /// How often it was made anew since the node started.
    pub restarts: u64,
    /// Why it ended last, if it did.
    pub last_end: Option<String>,
    /// Segments that went through it.
    pub segments: Segments,
    /// Drivers and offloads: which run, which do not, and why.
    pub drivers: Vec<Driver>,
}

/// One driver or offload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Driver {
    /// What it is.
    pub name: String,
    /// Whether it runs.
    pub on: bool,
    /// Why not, or with what.
    pub why: String,
}

/// One file of manifests.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Id of its cluster.
    pub cluster: u8,
    /// Its name in the cluster's directory.
    pub file: String,
    /// SHA-256 of the content in force, as sha256sum prints it.
    pub applied: String,
    /// SHA-256 of the content that was read last.
    pub seen: String,
    /// Why the last content is not in force.
    pub problems: Vec<String>,
    /// Documents of kinds that Farlane does not know.
    pub skipped: Vec<String>,
}

/// Another node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Name of its cluster.
    pub cluster: String,
    /// `unknown`, `answering`, `foreign` or `silent`.
    pub health: String,
    /// The last round trip of a probe.
    pub rtt_ms: Option<f64>,
    /// What is known of the path's size: `unknown`, `searching`, `found`, `narrow` (it carries no
    /// 1,280 bytes) or `foreign` (it answers no probes, and gets what every path carries).
    pub path_state: String,
    /// The longest datagram that is sent to it, from the outer IP header on.
    pub path_mtu_bytes: Option<u16>,
    /// The longest packet that is sent to it in the tunnel.
    pub inner_mtu_bytes: Option<u16>,
    /// Whether IPv6 has its 1,280 bytes in the tunnel. If not, only TCP gets over IPv6, by the
    /// segment size that it announces.
    pub carries_ipv6: Option<bool>,
    /// Its lanes.
    pub lanes: Vec<Lane>,
}

/// A lane of another node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    /// Its public key.
    pub key: String,
    /// Where it is now.
    pub endpoint: Option<String>,
    /// Time since the last handshake.
    pub last_handshake_ago_s: Option<f64>,
    /// Bytes of messages sent to it.
    pub tx_bytes: u64,
    /// Bytes of messages received from it.
    pub rx_bytes: u64,
    /// Our lanes that it does not answer: what they have for it goes by lane 0.
    pub unanswered: Vec<u16>,
}

/// One port of a service.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// `namespace/name`.
    pub service: String,
    /// Name of the port.
    pub port_name: String,
    /// Address and port.
    pub frontend: String,
    /// Protocol number of IP.
    pub protocol: u8,
    /// Whether other clusters' backends count.
    pub global: bool,
    /// `none`, `local` or `remote`.
    pub affinity: String,
    /// With `sessionAffinity: ClientIP` its time-out, in seconds: so long a client stays with its
    /// backend after its last new flow.
    #[serde(default)]
    pub session_affinity_seconds: Option<u64>,
    /// `cluster` or `local`: whether only this node's backends count.
    #[serde(default)]
    pub internal_traffic_policy: String,
    /// All backends that are known.
    pub backends: Vec<Backend>,
}

/// One backend.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Address and port.
    pub backend: String,
    /// Id of its cluster.
    pub cluster: u8,
    /// Whether its node answers and it is not failed.
    pub healthy: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether new flows may go to it.
    pub in_use: bool,
}

/// The conservation law: received + originated + crossed in = sent + consumed + crossed out +
/// queued + drops.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Segments {
    /// From pods and wire.
    pub received: u64,
    /// Made here.
    pub originated: u64,
    /// To pods and wire.
    pub sent: u64,
    /// Taken here.
    pub consumed: u64,
    /// Waiting.
    pub queued: u64,
    /// Of those sent, such as went by lane 0 because their own pair of lanes did not answer.
    pub fell_back: u64,
    /// Taken over from the node's other workers.
    pub crossed_in: u64,
    /// Handed over to them.
    pub crossed_out: u64,
}

/// An object that is not wholly in force.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// Where it stands: file, line and column.
    pub place: String,
    /// `partly`, `ignored` or `refused`.
    pub state: String,
    /// Why.
    pub reasons: Vec<String>,
}

/// Flow records that are missing somewhere.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRecords {
    /// Told faster than they were collected: nobody saw them.
    pub lost: u64,
    /// Collected, but the log's disk was slower.
    pub unlogged: u64,
}

/// The host's rules.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRules {
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// Packets with a pod's source that did not come by that pod's interface.
    pub spoofed: u64,
    /// Packets that came in the clear and should have come by the tunnel.
    pub foreign: u64,
    /// Packets that would have left in the clear.
    pub clear: u64,
}

impl Segments {
    /// Adds those of another worker.
    pub(super) fn add(&mut self, other: &Segments) {
        self.received += other.received;
        self.originated += other.originated;
        self.sent += other.sent;
        self.consumed += other.consumed;
        self.queued += other.queued;
        self.fell_back += other.fell_back;
        self.crossed_in += other.crossed_in;
        self.crossed_out += other.crossed_out;
    }
}

/// Puts the document together.
pub(crate) fn status(control: &Control) -> Status {
    let compiled = &control.compiled;
    let snapshot = &compiled.snapshot;
    let mut status = Status {
        node: control.config.node.clone(),
        cluster: control.config.cluster.name.clone(),
        epoch: snapshot.epoch,
        sources: compiled.sources.iter().map(|s| source(s)).collect(),
        services: snapshot
            .services
            .iter()
            .map(|(frontend, service)| ServicePort {
                frontend: socket(frontend.address, frontend.port),
                protocol: frontend.protocol,
                ..service_port(service)
            })
            .collect(),
        policies: policies(compiled),
        objects: objects(control),
        host: host(control),
        ..Status::default()
    };
    let mut seen = Observed::default();
    // All are asked before the first is waited for.
    let members = control.crew.members();
    let asked = |member: &Member| match member.is_alive() {
        true => member.mailbox.put(observe).ok(),
        false => None,
    };
    let asked: Vec<_> = members.iter().map(asked).collect();
    for ((number, member), asked) in (0..).zip(members).zip(asked) {
        let (worker, knows) = worker(control, number, member, asked);
        status.workers.push(worker);
        seen.add(knows);
    }
    status.peers = peers(control, &seen);
    status.flow_records = FlowRecords {
        lost: seen.lost_records,
        unlogged: control.board.as_ref().map_or(0, |board| board.unlogged()),
    };
    status.drops = seen.drops;
    status.segments = seen.segments;
    status.applied_everywhere = status.workers.iter().all(|w| w.epoch == status.epoch);
    status
}

/// One worker, and what it knows.
fn worker(
    control: &Control,
    number: u16,
    member: &Member,
    asked: Option<Answer<Observed>>,
) -> (Worker, Observed) {
    let worker = Worker {
        worker: number,
        device: control.config.tun.device(number),
        epoch: member.mailbox.epoch(),
        restarts: member.restarts,
        last_end: member.last_end.clone(),
        ..Worker::default()
    };
    match asked.and_then(|answer| answer.wait().ok()) {
        Some(mut knows) => {
            let worker = Worker {
                answering: true,
                flows: knows.flows,
                segments: knows.segments.clone(),
                drivers: std::mem::take(&mut knows.drivers),
                ..worker
            };
            (worker, knows)
        }
        None => (worker, Observed::default()),
    }
}

fn peers(control: &Control, seen: &Observed) -> Vec<Peer> {
    let snapshot = &control.compiled.snapshot;
    let one = |(place, node): (u32, &datapath::Node)| {
        let same = |probe: &&ProbeStatus| probe.cluster == node.cluster && probe.node == node.name;
        let probe = seen.probes.iter().find(same);
        let path = probe.and_then(|probe| probe.path);
        let lanes = (0_u16..).zip(&node.lanes).map(|(number, lane)| {
            let key = STANDARD.encode(lane.key.as_bytes());
            let meant = |silent: &&Silent| {
                (silent.epoch, silent.node, silent.theirs) == (snapshot.epoch, place, number)
            };
            let unanswered = seen.silent.iter().filter(meant).map(|silent| silent.own);
            Lane {
                unanswered: unanswered.collect(),
                ..seen.lanes.get(&key).cloned().unwrap_or(Lane {
                    key,
                    ..Lane::default()
                })
            }
        });
        Peer {
            node: node.name.clone(),
            cluster: node.cluster_name.clone(),
            health: probe
                .map_or("unknown", |probe| health(probe.health))
                .to_owned(),
            rtt_ms: probe
                .and_then(|p| p.round_trip)
                .map(|rtt| rtt.as_micros() as f64 / 1_000.0),
            path_state: path
                .map_or("unknown", |path| path_state(path.state))
                .to_owned(),
            path_mtu_bytes: path.map(|path| path.size),
            inner_mtu_bytes: path.map(|path| path.inner),
            carries_ipv6: path.map(|path| path.carries_v6),
            lanes: lanes.collect(),
        }
    };
    (0..).zip(&snapshot.nodes).map(one).collect()
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Answering => "answering",
        Health::Foreign => "foreign",
        Health::Silent => "silent",
    }
}

fn path_state(state: PathState) -> &'static str {
    match state {
        PathState::Unknown => "unknown",
        PathState::Searching => "searching",
        PathState::Found => "found",
        PathState::Narrow => "narrow",
        PathState::Foreign => "foreign",
    }
}

fn source(source: &mesh::Source) -> Source {
    Source {
        cluster: source.cluster,
        file: source.file.clone(),
        applied: source.applied.clone(),
        seen: source.seen.clone(),
        problems: source.problems.iter().map(ToString::to_string).collect(),
        skipped: source
            .skipped
            .iter()
            .map(|(what, at)| format!("{}: {what}", at.line))
            .collect(),
    }
}

fn service_port(service: &Arc<Service>) -> ServicePort {
    let in_use = |backend: &balance::Backend| {
        service
            .in_use()
            .any(|used| (used.address, used.port) == (backend.address, backend.port))
    };
    ServicePort {
        service: service.name.clone(),
        port_name: service.port_name.clone(),
        global: service.global,
        affinity: service.affinity.name().to_owned(),
        session_affinity_seconds: service.client_stays.map(|time| time.as_secs()),
        internal_traffic_policy: service.internal_traffic_policy().to_owned(),
        backends: service
            .backends
            .iter()
            .map(|backend| Backend {
                backend: socket(backend.address, backend.port),
                cluster: backend.cluster,
                healthy: backend.healthy,
                terminating: backend.state == BackendState::Terminating,
                in_use: in_use(backend),
            })
            .collect(),
        ..ServicePort::default()
    }
}

fn objects(control: &Control) -> Vec<Object> {
    let wanting = control
        .compiled
        .statuses
        .iter()
        .filter(|s| s.state != State::Enforced);
    wanting.map(|status| object(status)).collect()
}

/// What became of an object, for `status` and for `check`.
pub(crate) fn object(status: &mesh::Status) -> Object {
    let name = if status.namespace.is_empty() {
        status.name.clone()
    } else {
        format!("{}/{}", status.namespace, status.name)
    };
    Object {
        kind: status.kind.to_owned(),
        name,
        place: format!("{}:{}:{}", status.file, status.at.line, status.at.column),
        state: status.state.name().to_owned(),
        reasons: status.reasons.clone(),
    }
}

fn host(control: &Control) -> HostRules {
    let Some(host) = &control.host else {
        return HostRules::default();
    };
    let mut warnings: Vec<String> = host.warnings().to_vec();
    warnings.extend(control.host_problem.clone());
    match host.counters() {
        Ok(counters) => HostRules {
            warnings,
            spoofed: counters.spoofed,
            foreign: counters.foreign,
            clear: counters.clear,
        },
        Err(error) => {
            warnings.push(error.to_string());
            HostRules {
                warnings,
                ..HostRules::default()
            }
        }
    }
}
