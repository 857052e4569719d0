//! Where each address is.

use std::collections::BTreeMap;

use datapath::Route;
use packet::{Address, Prefix, PrefixMap};

use crate::nodes::{Directory, Reach};
use crate::pods::PodEntry;
use crate::scope::Scope;

/// Routes as they are compared between two compilations, longest-prefix match decides.
pub(crate) fn routes(
    scopes: &[Scope],
    directory: &Directory,
    pods: &[PodEntry<'_>],
) -> BTreeMap<Prefix, Route> {
    let mut routes: BTreeMap<Prefix, Route> = BTreeMap::new();
    for prefix in scopes.iter().flat_map(|scope| &scope.prefixes) {
        routes.insert(*prefix, Route::Nowhere);
    }
    for node in &directory.entries {
        let (to_pods, to_node) = match node.reach {
            // Of the own pods' prefix only pods that are known are here.
            Reach::Own => (Route::Nowhere, Route::Own),
            Reach::Peer(index) => (Route::Node(index), Route::Node(index)),
            Reach::None => (Route::Nowhere, Route::Nowhere),
        };
        routes.extend(node.pod_prefixes.iter().map(|prefix| (*prefix, to_pods)));
        let hosts = node.addresses.iter();
        routes.extend(hosts.map(|address| (Prefix::host(*address), to_node)));
    }
    let by_prefix: PrefixMap<Route> = routes.iter().map(|(p, r)| (*p, *r)).collect();
    for pod in pods {
        let route = match directory.entry(pod.cluster, &pod.pod.node).map(|n| n.reach) {
            Some(Reach::Own) => Route::Pod,
            Some(Reach::Peer(index)) => Route::Node(index),
            Some(Reach::None) | None => Route::Nowhere,
        };
        for &address in &pod.addresses {
            // A pod needs a route of its own only where its node's prefixes do not lead to it.
            if by_prefix.lookup(address).map(|(_, found)| *found) != Some(route) {
                routes.insert(Prefix::host(address), route);
            }
        }
    }
    routes
}

/// The routes of a node that does not know its mesh yet: nothing passes.
pub(crate) fn closed() -> PrefixMap<Route> {
    let zero = [Address::from_v4([0; 4]), Address::UNSPECIFIED];
    zero.into_iter()
        .filter_map(|address| Some((Prefix::masked(address, 0)?, Route::Nowhere)))
        .collect()
}
