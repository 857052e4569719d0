//! The kernel's translation as the oracle of ours: the same packets go through a network namespace with nftables and
//! through a [`datapath::Forwarder`], and what leaves both is the same, or differs for a reason that is listed beside
//! the packets.
//!
//! ```text
//!                 ┌─ the kernel: DNAT, forwarding ─┐
//!   client (pod) ─┤                                ├─ router ─ backend (outside of the mesh: nothing is sealed)
//!                 └─ ours: translation, policy ────┘
//! ```
//!
//! Both translate a service address to its only backend, have the same addresses, and take the client for theirs.

mod common;
#[path = "nat_oracle/compare.rs"]
mod compare;
#[path = "nat_oracle/connections.rs"]
mod connections;
#[path = "nat_oracle/differences.rs"]
mod differences;
#[path = "nat_oracle/errors.rs"]
mod errors;
#[path = "nat_oracle/forge.rs"]
mod forge;
#[path = "nat_oracle/fragments.rs"]
mod fragments;
#[path = "nat_oracle/headers.rs"]
mod headers;
#[path = "nat_oracle/kernel.rs"]
mod kernel;
#[path = "nat_oracle/ours.rs"]
mod ours;
#[path = "nat_oracle/protocols.rs"]
mod protocols;
#[path = "nat_oracle/random.rs"]
mod random;
#[path = "nat_oracle/talk.rs"]
mod talk;

use common::may_run;
use compare::{Difference, Script, compare};

/// Where a packet comes in or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Backend,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Backend => "backend",
        }
    }

    fn of_name(name: &str) -> Side {
        match name {
            "client" => Side::Client,
            "backend" => Side::Backend,
            other => panic!("no side is called {other}"),
        }
    }
}

/// A packet that left by a side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Came {
    side: Side,
    bytes: Vec<u8>,
}

/// Compares, unless this test may not make network namespaces; at least `passed` packets must pass both alike, else
/// two routers that drop everything were the same.
fn check(test: &str, scripts: &[Script], differences: &[Difference], passed: usize) {
    if !may_run(test) {
        return;
    }
    let tally = compare(scripts, differences);
    assert!(tally.passed >= passed, "{tally:?}");
}

#[test]
fn connections_datagrams_and_echoes_are_translated_as_the_kernel_does() {
    check(
        "connections_datagrams_and_echoes_are_translated_as_the_kernel_does",
        &connections::scripts(),
        differences::CONNECTIONS,
        150,
    );
}

#[test]
fn headers_keep_what_the_kernel_keeps() {
    check(
        "headers_keep_what_the_kernel_keeps",
        &headers::scripts(),
        differences::HEADERS,
        1_500,
    );
}

#[test]
fn icmp_errors_are_translated_as_the_kernel_does() {
    check(
        "icmp_errors_are_translated_as_the_kernel_does",
        &errors::scripts(),
        differences::ERRORS,
        1_000,
    );
}

#[test]
fn fragments_are_translated_as_the_kernel_does() {
    check(
        "fragments_are_translated_as_the_kernel_does",
        &fragments::scripts(),
        differences::FRAGMENTS,
        20,
    );
}

#[test]
fn random_conversations_are_translated_as_the_kernel_does() {
    check(
        "random_conversations_are_translated_as_the_kernel_does",
        &random::scripts(),
        &[],
        1_000,
    );
}
