//! A record as programs read it: one JSON object, with names that stay.

use serde::{Deserialize, Serialize};

/// Something that happened to a flow, at one of its ends.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRecord {
    /// When, RFC 3339.
    pub time: String,
    /// The node that tells it.
    pub node: String,
    /// `start`, `deny` or `end`. What one address is denied at one port is told once in 10 s.
    pub event: String,
    /// `allow`, `deny`, or `audit` where it passes although a policy in audit mode denies it; of an
    /// end `deny` where a change has cut the flow.
    pub verdict: String,
    /// `egress` where it leaves its source, `ingress` where it reaches its destination: a flow
    /// between two pods of one node is told of both.
    pub direction: String,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, or a number.
    pub protocol: String,
    /// The type of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// The source.
    pub from: Party,
    /// The destination; of a service its backend.
    pub to: Party,
    /// The service that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Why it was denied, or would be, as the counters of drops call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy rule that decided, with its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What there is to say of the whole, at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Ended>,
}

/// One end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// `namespace/pod`, a node, or `world`; `unknown` where nobody has the address.
    pub name: String,
    /// Its cluster; nothing outside of the mesh has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its address.
    pub address: String,
    /// Its port, where the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The number of its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<u32>,
}

/// A service, by the address at which it was asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceName {
    /// `namespace/name`.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// A flow from its begin to its end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// `closed` by TCP, `silent` for its time, `evicted` for others, `moved` to another backend, or
    /// `cut` by a change.
    pub why: String,
    /// From its first packet to its last, in milliseconds.
    pub duration_ms: u64,
    /// What its beginner sent.
    pub forward: Way,
    /// What was answered.
    pub reply: Way,
}

/// What has passed one way.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// Packets, as they are on the wire.
    pub packets: u64,
    /// Their bytes with IP headers; of segments that came as one, the headers once.
    pub bytes: u64,
}
