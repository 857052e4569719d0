//! A user-space data plane for cluster meshes.

pub mod control;
