//! What a node is told about itself and the others.

use config::Config;
use tunnel::PublicKey;

use crate::scope::Scope;

/// Who we are, and whom we trust with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the own cluster.
    pub cluster: String,
    /// Id of the own cluster.
    pub id: u8,
    /// Name of this node's Node object.
    pub node: String,
    /// The other clusters.
    pub clusters: Vec<Scope>,
    /// The public keys of this node's lanes: nobody else may have them.
    pub keys: Vec<PublicKey>,
    /// Whether all policies are in audit mode on this node.
    pub audit: bool,
}

impl Settings {
    /// As the node's file says, with the keys of the lanes.
    pub fn of(config: &Config, keys: Vec<PublicKey>) -> Settings {
        let scope = |remote: &config::Remote| Scope {
            name: remote.cluster.name.clone(),
            id: remote.cluster.id,
            prefixes: remote.prefixes.clone(),
        };
        Settings {
            cluster: config.cluster.name.clone(),
            id: config.cluster.id,
            node: config.node.clone(),
            clusters: config.clusters.iter().map(scope).collect(),
            keys,
            audit: config.audit,
        }
    }
}
