//! What control knows, as the workers read it: immutable, and replaced as a whole.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use balance::ServiceTable;
use packet::{Address, Flow, PrefixMap};
use policy::{Endpoint, PolicyTable};
use tunnel::PublicKey;

/// Everything that a worker asks when it decides about a flow. Compiled by the control plane;
/// adopted between two batches, never in one.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises by one with each snapshot; a flow that remembers another is judged again.
    pub epoch: u64,
    /// Another number whenever services or endpoints have changed: then it is asked of all flows
    /// whether their backends live.
    pub backends: u64,
    /// Whose each address is: pods, and nodes by their InternalIPs, with their full length.
    pub endpoints: PrefixMap<Arc<Endpoint>>,
    /// What an address outside of the mesh belongs to.
    pub world: Arc<Endpoint>,
    /// The compiled policies of the own cluster.
    pub policy: PolicyTable,
    /// Service addresses and their backends.
    pub services: ServiceTable,
    /// Where each address is; what it does not name is the world.
    pub routes: PrefixMap<Route>,
    /// All other nodes of the mesh, the own cluster's too.
    pub nodes: Vec<Node>,
    /// This node.
    pub own: Own,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a pod of this node.
    Pod,
    /// To this node itself.
    Own,
    /// To another node, by its place in [`Snapshot::nodes`].
    Node(u32),
    /// Out of the mesh, by the host's own routing.
    World,
    /// Into the mesh's prefixes, to nobody known.
    Nowhere,
}

/// Another node: a WireGuard peer for each of its lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of its Node object.
    pub name: String,
    /// Id of its cluster, 1 to 255.
    pub cluster: u8,
    /// Name of its cluster.
    pub cluster_name: String,
    /// Its InternalIPs, which answer our probes.
    pub addresses: Vec<Address>,
    /// Lane 0 first; a foreign WireGuard has that one only.
    pub lanes: Vec<LanePeer>,
    /// Whether it knows that we have lanes. If not, all that we send it is sealed by our lane 0.
    pub knows_lanes: bool,
}

/// One lane of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePeer {
    /// Its static public key.
    pub key: PublicKey,
    /// Where it listens.
    pub endpoint: SocketAddr,
}

/// What a node knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Name of its Node object.
    pub node: String,
    /// Id of its cluster.
    pub cluster: u8,
    /// Its InternalIPs: what probes are answered by, and ICMP errors come from.
    pub addresses: Vec<Address>,
}

impl Snapshot {
    /// Where `address` is.
    #[inline]
    pub fn route(&self, address: Address) -> Route {
        self.routes
            .lookup(address)
            .map_or(Route::World, |(_, route)| *route)
    }

    /// Whose `address` is; `None` inside the mesh's prefixes when nobody is known to have it.
    #[inline]
    pub fn endpoint(&self, address: Address) -> Option<&Arc<Endpoint>> {
        match self.endpoints.lookup(address) {
            Some((_, endpoint)) => Some(endpoint),
            None if self.route(address) == Route::World => Some(&self.world),
            None => None,
        }
    }

    /// Our InternalIP and one of `node`'s that echoes go between; both unspecified where there is
    /// no such pair.
    pub(crate) fn echo_pair(&self, node: &Node) -> (Address, Address) {
        let pair = |to: &Address| self.own_address(*to).map(|from| (from, *to));
        let none = (Address::UNSPECIFIED, Address::UNSPECIFIED);
        node.addresses.iter().find_map(pair).unwrap_or(none)
    }

    /// The node's own address of the family of `other`.
    pub fn own_address(&self, other: Address) -> Option<Address> {
        self.own
            .addresses
            .iter()
            .copied()
            .find(|own| own.is_v4() == other.is_v4())
    }
}

/// Whether any router would send packets between these addresses on: none does to a broadcast
/// (RFC 1812 §5.3.5.1), and none from or to one link only (RFC 4291 §2.5.6). To a group one that
/// routes groups would, which we do not. IPv4's 169.254/16 is let through: clouds answer there.
pub(crate) fn is_routed(flow: &Flow) -> bool {
    let is_of_one_link = |address: &Address| {
        let octets = address.octets();
        octets[0] == 0xfe && octets[1] & 0xc0 == 0x80
    };
    let is_for_many = match flow.destination.v4() {
        Some(v4) => v4[0] >= 224,
        None => flow.destination.octets()[0] == 0xff,
    };
    !is_for_many && !is_of_one_link(&flow.source) && !is_of_one_link(&flow.destination)
}
