//! The part of the mesh that the host's rules depend on.

use packet::{Address, Prefix};

/// What the host's rules must know of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The addresses of this node's pods, ascending.
    pub local_pods: Vec<Address>,
    /// The prefixes of all other clusters.
    pub remote_prefixes: Vec<Prefix>,
    /// The addresses of global services, ascending.
    pub global_frontends: Vec<Address>,
    /// The addresses of all services, ascending.
    pub frontends: Vec<Address>,
}
