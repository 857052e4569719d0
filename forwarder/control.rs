//! The control thread: it turns what the sources say into snapshots, and keeps the host's own
//! routing in step with them.

pub mod host;
