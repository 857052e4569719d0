//! Why a new flow would pass, or would not: the same judgements that the data path asks, with names.
//!
//! A [`Question`] is read, alone or as one of many ([`Explainer::answer_lines`]); `directory` knows
//! whose names and addresses those are; `way` asks the data path's judgements at both ends; and
//! what they said becomes an [`Answer`] with names, which `text` writes for people.

mod answer;
mod directory;
mod explainer;
mod lines;
#[cfg(test)]
mod tests;
mod text;
mod way;

use serde::{Deserialize, Serialize};

pub use answer::{Answer, End, Ends, Match, Party};
pub use explainer::Explainer;
pub use lines::{BATCH_BYTES, Unanswered};

use packet::Address;

/// A new flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// `namespace/pod`, `cluster/namespace/pod` or an address.
    pub from: String,
    /// The same, or `svc:namespace/name`.
    pub to: String,
    /// Destination port.
    #[serde(default)]
    pub port: u16,
    /// TCP, UDP, SCTP or ICMP.
    #[serde(default = "tcp")]
    pub protocol: String,
}

fn tcp() -> String {
    String::from("TCP")
}

/// The address and port as people write them.
pub(crate) fn socket(address: Address, port: u16) -> String {
    std::net::SocketAddr::new(address.to_ip(), port).to_string()
}
