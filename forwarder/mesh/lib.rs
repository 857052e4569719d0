//! Kubernetes objects in, snapshots out.
//!
//! Bytes become objects in [`parse`]; a [`World`] takes them as [`Event`]s, keeps the last good
//! version of each file, and [`World::compile`] makes of all of them the [`datapath::Snapshot`] that
//! workers read, what the host's rules must know ([`HostView`]), and a status for each object. The
//! room is pure: it reads no file, no clock, and nothing in it depends on the order of events.
#![forbid(unsafe_code)]

mod codec;
mod host_view;
mod identity;
mod inventory;
mod labeller;
mod nodes;
mod object;
mod plan;
mod pods;
mod policies;
mod routes;
mod scope;
mod services;
mod sets;
mod settings;
mod status;
mod world;

pub use codec::{Parsed, Skipped, parse};
pub use host_view::HostView;
pub use object::*;
pub use pods::PodView;
pub use scope::Scope;
pub use services::Elsewhere;
pub use settings::Settings;
pub use status::{Source, State, Status};
pub use world::{Compiled, Event, World};
