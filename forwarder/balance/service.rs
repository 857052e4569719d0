//! A service's port: its backends, which of them take new flows, and the table over those.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use packet::Address;

use crate::{Affinity, Backend, Maglev, select};

/// One port of a service, for one address family. Everything that follows from the backends is
/// worked out when it is made; it never changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `namespace/name`.
    pub name: String,
    /// The port's name, by which the clusters' ports are matched; empty where it has none.
    pub port_name: String,
    /// Which clusters' backends are preferred.
    pub affinity: Affinity,
    /// Whether other clusters' backends belong to it (`service.cilium.io/global`).
    pub global: bool,
    /// Whether all flows of a client go to one backend (`sessionAffinity: ClientIP`), and how long
    /// after its last new flow it stays there when others come. `None`: each flow by itself.
    pub client_stays: Option<Duration>,
    /// Whether only backends on the client's own node serve it (`internalTrafficPolicy: Local`).
    /// The others are left out by whoever knows the nodes: here it is only said.
    pub own_node_only: bool,
    /// All backends that are known, by address and port; each pair occurs once.
    pub backends: Vec<Backend>,
    /// Which of them take new flows: indices into `backends`.
    chosen: Vec<usize>,
    /// Over `chosen`.
    table: Maglev,
    /// How many places the table was asked to have.
    size: usize,
}

impl Service {
    /// A service over all the backends that are known, in any order. Of a service that is not
    /// `global` the other clusters' backends are left out. Backends are of one address family, the
    /// frontend's. `size` is that of the Maglev table
    /// ([`DEFAULT_TABLE_SIZE`](crate::DEFAULT_TABLE_SIZE) unless configured).
    pub fn new(
        name: String,
        port_name: String,
        affinity: Affinity,
        global: bool,
        backends: Vec<Backend>,
        size: usize,
    ) -> Service {
        let backends = normal(global, backends);
        let chosen = select(affinity, &backends);
        let names: Vec<String> = chosen.iter().map(|&i| backend_name(&backends[i])).collect();
        let weights: Vec<u16> = chosen.iter().map(|&i| backends[i].weight).collect();
        let table = Maglev::build(&names, &weights, size);
        Service {
            name,
            port_name,
            affinity,
            global,
            client_stays: None,
            own_node_only: false,
            backends,
            chosen,
            table,
            size,
        }
    }

    /// This service over other backends: this one itself if they come to the same, so that a
    /// change somewhere else in the mesh does not cost a table here.
    #[must_use]
    pub fn renewed(self: &Arc<Service>, backends: Vec<Backend>) -> Arc<Service> {
        let backends = normal(self.global, backends);
        if self.backends == backends {
            return self.clone();
        }
        Arc::new(Service {
            client_stays: self.client_stays,
            own_node_only: self.own_node_only,
            ..Service::new(
                self.name.clone(),
                self.port_name.clone(),
                self.affinity,
                self.global,
                backends,
                self.size,
            )
        })
    }

    /// The backend for a new flow, by [`flow_hash`](crate::flow_hash) or
    /// [`client_hash`](crate::client_hash); `None` if nobody can serve.
    #[inline]
    pub fn pick(&self, hash: u64) -> Option<&Backend> {
        let chosen = *self.chosen.get(self.table.pick(hash)?)?;
        self.backends.get(chosen)
    }

    /// The backend with this address and port, whether or not it takes new flows.
    pub fn backend(&self, address: Address, port: u16) -> Option<&Backend> {
        let found = self
            .backends
            .binary_search_by_key(&(address, port), |b| (b.address, b.port));
        self.backends.get(found.ok()?)
    }

    /// The backend with this address and port, if it takes new flows.
    pub fn taking(&self, address: Address, port: u16) -> Option<&Backend> {
        let found = self
            .backends
            .binary_search_by_key(&(address, port), |b| (b.address, b.port));
        let index = found.ok()?;
        self.chosen.binary_search(&index).ok()?;
        self.backends
            .get(index)
            .filter(|backend| backend.weight > 0)
    }

    /// Kubernetes' `internalTrafficPolicy`, in lower case.
    pub const fn internal_traffic_policy(&self) -> &'static str {
        match self.own_node_only {
            true => "local",
            false => "cluster",
        }
    }

    /// The backends that take new flows, by address and port.
    pub fn in_use(&self) -> impl Iterator<Item = &Backend> {
        self.chosen
            .iter()
            .filter_map(|&index| self.backends.get(index))
            .filter(|backend| backend.weight > 0)
    }
}

/// The backends that belong to a service, in order, each address and port once.
fn normal(global: bool, mut backends: Vec<Backend>) -> Vec<Backend> {
    backends.retain(|b| global || b.local);
    // Of two that claim one address and port, the own cluster's is the one that we can vouch for.
    backends.sort_unstable_by(|a, b| {
        let key = |x: &Backend| (x.address, x.port, !x.local, x.cluster, x.state, !x.healthy);
        key(a).cmp(&key(b)).then(b.weight.cmp(&a.weight))
    });
    backends.dedup_by_key(|b| (b.address, b.port));
    backends
}

/// What a backend is called when tables are built: the same on every node of the mesh.
fn backend_name(backend: &Backend) -> String {
    match backend.address.is_v4() {
        true => format!("{}/{}:{}", backend.cluster, backend.address, backend.port),
        false => format!("{}/[{}]:{}", backend.cluster, backend.address, backend.port),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::{DEFAULT_TABLE_SIZE, State};

    fn backend(cluster: u8, last: u8) -> Backend {
        Backend {
            address: Address::from_v4([10, cluster, 0, last]),
            port: 8080,
            cluster,
            local: cluster == 1,
            state: State::Active,
            healthy: true,
            weight: 1,
        }
    }

    fn service(affinity: Affinity, global: bool, backends: Vec<Backend>) -> Service {
        Service::new(
            "shop/web".to_string(),
            "http".to_string(),
            affinity,
            global,
            backends,
            DEFAULT_TABLE_SIZE,
        )
    }

    fn picked(service: &Service) -> Vec<Address> {
        let mut picked: Vec<Address> = (0..1000)
            .filter_map(|hash| service.pick(hash).map(|b| b.address))
            .collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }

    #[test]
    fn flows_go_to_all_that_are_in_use_and_to_no_other() {
        let all = vec![backend(2, 1), backend(1, 1), backend(1, 2)];
        for affinity in [Affinity::None, Affinity::Local, Affinity::Remote] {
            let service = service(affinity, true, all.clone());
            let in_use: Vec<Address> = service.in_use().map(|b| b.address).collect();
            let want = match affinity {
                Affinity::None => 3,
                Affinity::Local => 2,
                Affinity::Remote => 1,
            };
            assert_eq!(in_use.len(), want);
            for backend in &service.backends {
                let takes = service.taking(backend.address, backend.port).is_some();
                assert_eq!(takes, in_use.contains(&backend.address));
            }
            assert_eq!(picked(&service), in_use);
        }
    }

    #[test]
    fn a_service_that_is_not_global_stays_at_home() {
        let service = service(Affinity::Remote, false, vec![backend(2, 1), backend(1, 1)]);
        assert_eq!(picked(&service), [backend(1, 1).address]);
        assert_eq!(service.backend(backend(2, 1).address, 8080), None);
    }

    #[test]
    fn nobody_serves_where_nobody_is() {
        let mut silent = backend(1, 1);
        silent.healthy = false;
        let service = service(Affinity::None, true, vec![silent.clone()]);
        assert_eq!(service.pick(1), None);
        assert_eq!(service.in_use().count(), 0);
        assert_eq!(service.backend(silent.address, 8080), Some(&silent));
        assert_eq!(service.backend(silent.address, 8081), None);
        assert_eq!(service.taking(silent.address, 8080), None);
    }

    #[test]
    fn two_nodes_agree_whatever_the_order_and_whichever_cluster_is_their_own() {
        let here: Vec<Backend> = (1..=9).map(|i| backend(1 + i % 3, i)).collect();
        let there: Vec<Backend> = here
            .iter()
            .rev()
            .map(|b| Backend {
                local: b.cluster == 2,
                ..b.clone()
            })
            .collect();
        let here = service(Affinity::None, true, here);
        let there = service(Affinity::None, true, there);
        for hash in 0..DEFAULT_TABLE_SIZE as u64 {
            let address = |s: &Service| s.pick(hash).map(|b| b.address);
            assert_eq!(address(&here), address(&there));
        }
    }

    #[test]
    fn of_two_claims_on_one_address_the_own_clusters_wins() {
        let mut forged = backend(1, 1);
        forged.cluster = 2;
        forged.local = false;
        let service = service(Affinity::None, true, vec![forged, backend(1, 1)]);
        assert_eq!(service.backends, [backend(1, 1)]);
    }

    #[test]
    fn a_service_is_made_anew_only_when_its_backends_are_others() {
        let all = vec![backend(1, 1), backend(1, 2), backend(2, 1)];
        let old = Arc::new(service(Affinity::None, true, all.clone()));
        let shuffled: Vec<Backend> = all.iter().rev().cloned().collect();
        assert!(Arc::ptr_eq(&old, &old.renewed(shuffled)));
        let mut fewer = all.clone();
        fewer[0].healthy = false;
        let new = old.renewed(fewer.clone());
        assert_eq!(*new, service(Affinity::None, true, fewer));
        assert_eq!(picked(&new), [all[1].address, all[2].address]);
    }

    #[test]
    fn other_backends_do_not_change_how_clients_are_treated() {
        let mut old = service(Affinity::None, true, vec![backend(1, 1)]);
        old.client_stays = Some(Duration::from_secs(60));
        old.own_node_only = true;
        let new = Arc::new(old).renewed(vec![backend(1, 2)]);
        assert_eq!(new.client_stays, Some(Duration::from_secs(60)));
        assert!(new.own_node_only);
    }

    #[test]
    fn names_are_those_that_every_node_gives() {
        assert_eq!(backend_name(&backend(2, 7)), "2/10.2.0.7:8080");
        let mut six = backend(2, 7);
        six.address = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(backend_name(&six), "2/[fd00::9]:8080");
    }
}
