//! The node's own file, and how files are read at all.
//!
//! This crate knows nothing of Kubernetes: [`tree`] reads YAML into values that know their place,
//! [`Reader`] turns them into typed ones and collects every [`Problem`], [`Config`] is what the
//! node's file says. The room `mesh` reads manifests by the same two, so that a mistake looks the
//! same wherever it is made; that is why it names this crate, and not the other way round.
#![forbid(unsafe_code)]

#[cfg(test)]
mod fuzz;
mod node;
mod problem;
mod read;
mod reader;
mod shape;
pub mod tree;

pub use node::{
    Cluster, Config, Engine, FlowLog, Mtu, OnCrash, Probe, Remote, Tun, TunIntercept, WORKERS_MAX,
    Wire, Workers,
};
pub use problem::{Place, Problem};
pub use reader::{Fields, Reader};
