//! A seeded simulator of whole clusters.
//!
//! ```text
//!   pods ─ host eu-1 ══╗            ╔══ host us-1 ─ pods
//!             │        ╠═ WireGuard ╣       │
//!   pods ─ host eu-2 ══╝  on links  ╚══ host us-2 ─ pods
//!             └──────── world host ─────────┘
//! ```
//!
//! Hosts are the product's own [`mesh::World`] and [`datapath::Forwarder`], one for each of their
//! workers, fed with manifests; some have a kernel that gives packets to the wrong worker, some know
//! no lanes. Pods are smoltcp stacks; links lose, delay, reorder and double, and an attacker sits on
//! them. Time is
//! virtual, and everything follows from one seed. `model` is what is true, `reference` says who may
//! reach whom, `witness` watches every packet, `script` asks after each `fault` whether what is
//! reached is what may be reached.
#![forbid(unsafe_code)]

pub mod fault;
pub mod generate;
pub mod host;
pub mod hostile;
pub mod inspect;
pub mod manifest;
pub mod model;
pub mod pod;
pub mod probe;
pub mod random;
pub mod reference;
pub mod rings;
pub mod script;
pub mod sim;
pub mod wires;
pub mod witness;
pub mod worker;
