//! Where each address is: longest-prefix match decides.

use std::collections::BTreeSet;

use datapath::Route;
use packet::{Address, Prefix, PrefixMap};

use crate::nodes::{Directory, Reach};
use crate::scope::Scope;

/// Routes, kept while pods come and go.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Those of clusters and nodes.
    of_nodes: PrefixMap<Route>,
    /// All of them: a pod has a route of its own only where its node's prefixes do not lead to it.
    all: PrefixMap<Route>,
    local: BTreeSet<Address>,
}

impl Routes {
    /// The routes of clusters and nodes alone.
    pub(crate) fn of_nodes(scopes: &[Scope], directory: &Directory) -> Routes {
        let clusters = scopes.iter().flat_map(|scope| &scope.prefixes);
        let clusters = clusters.map(|prefix| (*prefix, Route::Nowhere));
        let nodes = directory.entries.iter().flat_map(|node| {
            let (to_pods, to_node) = match node.reach {
                // Of the own pods' prefix only pods that are known are here.
                Reach::Own => (Route::Nowhere, Route::Own),
                Reach::Peer(index) => (Route::Node(index), Route::Node(index)),
                Reach::None => (Route::Nowhere, Route::Nowhere),
            };
            let pods = node.pod_prefixes.iter();
            let pods = pods.map(move |prefix| (*prefix, to_pods));
            let hosts = node.addresses.iter();
            pods.chain(hosts.map(move |address| (Prefix::host(*address), to_node)))
        });
        let of_nodes: PrefixMap<Route> = clusters.chain(nodes).collect();
        Routes {
            all: of_nodes.clone(),
            of_nodes,
            local: BTreeSet::new(),
        }
    }

    /// Sets where a pod's address is, or that no pod has it; returns whether that is another place.
    pub(crate) fn set(&mut self, address: Address, route: Option<Route>) -> bool {
        match route {
            Some(Route::Pod) => self.local.insert(address),
            _ => self.local.remove(&address),
        };
        let leads = self.of_nodes.lookup(address).map(|(_, found)| *found);
        let prefix = Prefix::host(address);
        let own = route.filter(|route| leads != Some(*route));
        match own.or_else(|| self.of_nodes.get(&prefix).copied()) {
            Some(route) => self.all.insert(prefix, route) != Some(route),
            None => self.all.remove(&prefix).is_some(),
        }
    }

    /// Where an address is, if that is within the mesh.
    pub(crate) fn at(&self, address: Address) -> Option<Route> {
        self.all.lookup(address).map(|(_, route)| *route)
    }

    /// All routes.
    pub(crate) fn all(&self) -> &PrefixMap<Route> {
        &self.all
    }

    /// The addresses of this node's pods, ascending.
    pub(crate) fn local(&self) -> impl Iterator<Item = Address> {
        self.local.iter().copied()
    }
}

/// Where a pod of a node is.
pub(crate) fn of_pod(directory: &Directory, cluster: u8, node: &str) -> Route {
    match directory.reach(cluster, node) {
        Some(Reach::Own) => Route::Pod,
        Some(Reach::Peer(index)) => Route::Node(index),
        Some(Reach::None) | None => Route::Nowhere,
    }
}

/// The routes of a node that does not know its mesh yet: nothing passes.
pub(crate) fn closed() -> PrefixMap<Route> {
    let zero = [Address::from_v4([0; 4]), Address::UNSPECIFIED];
    zero.into_iter()
        .filter_map(|address| Some((Prefix::masked(address, 0)?, Route::Nowhere)))
        .collect()
}
