//! What is answered, with names that stay.

use serde::{Deserialize, Serialize};

/// What would become of a new flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `allow` unless an end that this cluster judges denies.
    pub verdict: String,
    /// `allow`, `deny`, or `remote` where another cluster judges the source.
    pub egress: String,
    /// `allow`, `deny`, or `remote` where another cluster judges the destination, or nothing
    /// reaches any.
    pub ingress: String,
    /// Why it is denied, as the counters of drops call it.
    pub reason: Option<String>,
    /// What the verdict alone does not tell: a sentence without its full stop.
    #[serde(default)]
    pub note: Option<String>,
    /// The source.
    pub from: Party,
    /// The destination, after a service was translated.
    pub to: Party,
    /// The service that was asked for.
    pub service: Option<String>,
    /// The backend for this client, where a service was asked for: `address:port`.
    pub backend: Option<String>,
    /// All backends that take new flows.
    pub backends: Vec<String>,
    /// With `sessionAffinity: ClientIP` its time-out, in seconds: a client that had a new flow to the
    /// service less than that ago stays with the backend that it has.
    #[serde(default)]
    pub session_affinity_seconds: Option<u64>,
    /// `cluster`, or `local` where only backends on the client's own node serve it; nothing where no
    /// service was asked for.
    #[serde(default)]
    pub internal_traffic_policy: Option<String>,
    /// The policy rules that matched, with their files: first those of egress, then those of
    /// ingress, each in the order in which they are asked. [`Answer::ends`] says which decided.
    pub rules: Vec<String>,
    /// `pod`, `host`, `node`, `world` or `nowhere`.
    pub route: String,
    /// The node that it goes to through the tunnel.
    pub peer: Option<String>,
    /// The port that was asked for; 0 for ICMP.
    #[serde(default)]
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP` or `ICMP`.
    #[serde(default)]
    pub protocol: String,
    /// The service's own address, where one was asked for: `address:port`.
    #[serde(default)]
    pub frontend: Option<String>,
    /// Each end by itself.
    #[serde(default)]
    pub ends: Ends,
}

/// One end's owner.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// Its address.
    pub address: String,
    /// Whose that is; `unknown` where nobody has it.
    pub name: String,
    /// The number of its identity.
    pub identity: Option<u32>,
    /// The labels that its identity is.
    pub labels: Vec<String>,
}

/// Both ends, as they were judged.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ends {
    /// Leaving the source.
    pub egress: End,
    /// Reaching the destination.
    pub ingress: End,
}

/// How one end was judged.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// `allow`, `deny`, `remote`, or `notReached` where nothing gets there.
    pub verdict: String,
    /// Why, in words.
    pub why: String,
    /// Whether some policy isolates this end in this direction; nothing where none was asked.
    pub isolated: Option<bool>,
    /// The policy rules that matched, in the order in which they are asked.
    pub rules: Vec<Match>,
}

/// A policy rule that matched.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Its policy, direction and place there, with its file.
    pub rule: String,
    /// `allow`, `deny` or `pass`; of a policy as a whole `isolates` or `refused`.
    pub verdict: String,
    /// Whether it is the one that decided.
    pub decides: bool,
}
