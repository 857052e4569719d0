//! The performance lab: two nodes in network namespaces of this machine, one peer program after the
//! other between them, and what their pods get. `farlane lab --help` says how it is used.
//!
//! [`bench`] makes a sitting of rounds and turns; a turn builds a [`world`], puts a [`peer`] into it
//! by [`tunnel`], and measures one [`stage`] after the other with iperf3 and our own [`traffic`].
//! What comes out is a [`report`], shown as a [`table`] and as a page of [`html`]; [`compare`] sets
//! two of them against each other. A [`record`] says whose everything is, an [`interrupt`] ends it in
//! order.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod error;
pub(crate) mod html;
pub(crate) mod interrupt;
pub(crate) mod machine;
pub(crate) mod measure;
mod nebula;
pub(crate) mod nodes;
pub(crate) mod peer;
mod program;
mod progress;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod stage;
mod statistics;
pub(crate) mod table;
pub(crate) mod traffic;
pub(crate) mod tunnel;
pub(crate) mod world;
