//! Services become frontends with backends: their own, and for global ones the other clusters'.

use std::collections::BTreeMap;
use std::sync::Arc;

use balance::{Backend, DEFAULT_TABLE_SIZE, Frontend, Service as Balanced, State as BackendState};
use packet::Address;

use crate::inventory::{ClusterObjects, Held};
use crate::object::{EndpointSlice, Service, ServicePort, Target};
use crate::pods::PodEntry;
use crate::scope::Scopes;
use crate::status::{Report, State};

/// Balanced services of the last compilation: a lookup table is made again only if a backend has
/// changed.
#[derive(Debug, Default)]
pub(crate) struct Cache(BTreeMap<CacheKey, (Vec<Backend>, Arc<Balanced>)>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CacheKey {
    service: String,
    port_name: String,
    protocol: u8,
    v4: bool,
}

/// What services are compiled from.
pub(crate) struct Sources<'a, 'w> {
    pub(crate) own: u8,
    pub(crate) scopes: &'a Scopes,
    pub(crate) clusters: &'a BTreeMap<u8, ClusterObjects<'w>>,
    pub(crate) pods: &'a [PodEntry<'w>],
    /// Whether what is behind an address answers.
    pub(crate) answers: &'a dyn Fn(Address) -> bool,
    /// Whether an address is within the mesh, where no service may have its own.
    pub(crate) in_mesh: &'a dyn Fn(Address) -> bool,
}

/// All frontends of the own cluster.
pub(crate) fn compile(
    sources: &Sources<'_, '_>,
    cache: &mut Cache,
    report: &mut Report,
) -> BTreeMap<Frontend, Arc<Balanced>> {
    let mut frontends: BTreeMap<Frontend, Arc<Balanced>> = BTreeMap::new();
    let mut kept = Cache::default();
    sources.check_slices(report);
    let pods = sources.pods_by_namespace();
    let own = sources.clusters.get(&sources.own);
    for held in own
        .into_iter()
        .flat_map(|objects| objects.services.values())
    {
        let service = held.object;
        report.enforced(sources.own, held.located);
        if let Some(reason) = &service.skipped {
            report.say(sources.own, held.located, State::Ignored, reason.as_str());
            continue;
        }
        for missing in &service.missing {
            report.say(sources.own, held.located, State::Partly, missing.as_str());
        }
        let addresses = sources.frontend_addresses(*held, report);
        for port in &service.ports {
            for v4 in [true, false] {
                let family = addresses.iter().filter(|address| address.is_v4() == v4);
                let family: Vec<Address> = family.copied().collect();
                if family.is_empty() {
                    continue;
                }
                let backends = sources.backends(service, port, v4, &pods);
                let balanced = kept.balanced(cache, service, port, v4, backends);
                for address in family {
                    let frontend = Frontend {
                        address,
                        port: port.port,
                        protocol: port.protocol,
                    };
                    match frontends.get(&frontend) {
                        None => {
                            frontends.insert(frontend, balanced.clone());
                        }
                        Some(other) => {
                            let reason = format!(
                                "{address} port {} is that of {} already",
                                port.port, other.name
                            );
                            report.say(sources.own, held.located, State::Refused, reason);
                        }
                    }
                }
            }
        }
    }
    *cache = kept;
    frontends
}

impl Cache {
    fn balanced(
        &mut self,
        last: &mut Cache,
        service: &Service,
        port: &ServicePort,
        v4: bool,
        backends: Vec<Backend>,
    ) -> Arc<Balanced> {
        let key = CacheKey {
            service: format!("{}/{}", service.namespace, service.name),
            port_name: port.name.clone(),
            protocol: port.protocol,
            v4,
        };
        let same = last.0.remove(&key).filter(|(old, balanced)| {
            *old == backends
                && balanced.affinity == service.affinity
                && balanced.global == service.global
        });
        let balanced = match same {
            Some((_, balanced)) => balanced,
            None => Arc::new(Balanced::new(
                key.service.clone(),
                key.port_name.clone(),
                service.affinity,
                service.global,
                backends.clone(),
                DEFAULT_TABLE_SIZE,
            )),
        };
        self.0.insert(key, (backends, balanced.clone()));
        balanced
    }
}

impl<'w> Sources<'_, 'w> {
    fn frontend_addresses(&self, held: Held<'_, Service>, report: &mut Report) -> Vec<Address> {
        let mut addresses = Vec::new();
        for &address in &held.object.cluster_ips {
            let refused = self.scopes.refuses(self.own, address).or_else(|| {
                let reason = || format!("{address} lies among the addresses of pods and nodes");
                (self.in_mesh)(address).then(reason)
            });
            match refused {
                Some(reason) => report.say(self.own, held.located, State::Refused, reason),
                None => addresses.push(address),
            }
        }
        addresses
    }

    /// Backends that their cluster may not name are left out; here it is said.
    fn check_slices(&self, report: &mut Report) {
        for (&cluster, objects) in self.clusters {
            for held in objects.slices.values().flatten() {
                let addresses = held.object.endpoints.iter().flat_map(|e| &e.addresses);
                for &address in addresses {
                    if let Some(reason) = self.scopes.refuses(cluster, address) {
                        report.say(cluster, held.located, State::Refused, reason);
                    }
                }
            }
        }
    }

    fn pods_by_namespace(&self) -> BTreeMap<(u8, &'w str), Vec<usize>> {
        let mut pods: BTreeMap<(u8, &str), Vec<usize>> = BTreeMap::new();
        for (index, entry) in self.pods.iter().enumerate() {
            let key = (entry.cluster, entry.pod.namespace.as_str());
            pods.entry(key).or_default().push(index);
        }
        pods
    }

    /// All backends of one port, the own cluster's and, for a global service, those of clusters
    /// that share theirs. Ports are matched by name.
    fn backends(
        &self,
        service: &Service,
        port: &ServicePort,
        v4: bool,
        pods: &BTreeMap<(u8, &str), Vec<usize>>,
    ) -> Vec<Backend> {
        let mut backends = Vec::new();
        for (&cluster, objects) in self.clusters {
            let local = cluster == self.own;
            let name = (service.namespace.as_str(), service.name.as_str());
            let (theirs, their_port) = if local {
                (service, port)
            } else {
                let Some(theirs) = objects.services.get(&name).map(|held| held.object) else {
                    continue;
                };
                let mut ports = theirs.ports.iter();
                let same = ports.find(|p| p.name == port.name && p.protocol == port.protocol);
                match same {
                    Some(same) if service.global && theirs.shared => (theirs, same),
                    _ => continue,
                }
            };
            let found = match objects.slices.get(&name) {
                Some(slices) => self.of_slices(cluster, slices, their_port),
                None => {
                    let pods = pods.get(&(cluster, name.0)).map_or(&[][..], Vec::as_slice);
                    self.of_pods(theirs, their_port, pods)
                }
            };
            backends.extend(
                found
                    .into_iter()
                    .filter(|f| f.address.is_v4() == v4)
                    .map(|found| Backend {
                        address: found.address,
                        port: found.port,
                        cluster,
                        local,
                        state: found.state,
                        healthy: (self.answers)(found.address),
                        weight: 1,
                    }),
            );
        }
        backends
    }

    fn of_slices(
        &self,
        cluster: u8,
        slices: &[Held<'_, EndpointSlice>],
        port: &ServicePort,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for slice in slices.iter().map(|held| held.object) {
            let ports = slice.ports.iter();
            for target in ports.filter(|p| p.name == port.name && p.protocol == port.protocol) {
                for endpoint in &slice.endpoints {
                    let state = match (endpoint.ready, endpoint.serving, endpoint.terminating) {
                        (true, _, _) => BackendState::Active,
                        (false, true, true) => BackendState::Terminating,
                        (false, _, _) => continue,
                    };
                    let addresses = endpoint.addresses.iter();
                    let allowed = addresses.filter(|a| self.scopes.refuses(cluster, **a).is_none());
                    found.extend(allowed.map(|&address| Found {
                        address,
                        port: target.port,
                        state,
                    }));
                }
            }
        }
        found
    }

    /// Where nobody writes slices: the ready pods that the service selects.
    fn of_pods(&self, service: &Service, port: &ServicePort, pods: &[usize]) -> Vec<Found> {
        let mut found = Vec::new();
        if service.selector.is_empty() {
            return found;
        }
        for entry in pods.iter().filter_map(|&index| self.pods.get(index)) {
            let pod = entry.pod;
            let mut selector = service.selector.iter();
            if !selector.all(|(key, value)| pod.labels.get(key) == Some(value)) {
                continue;
            }
            let state = match (pod.ready, pod.terminating) {
                (true, true) => BackendState::Terminating,
                (true, false) => BackendState::Active,
                (false, _) if service.publish_not_ready => BackendState::Active,
                (false, _) => continue,
            };
            let number = match &port.target {
                Target::Number(number) => Some(*number),
                Target::Name(name) => pod
                    .ports
                    .iter()
                    .find(|p| p.name == *name && p.protocol == port.protocol)
                    .map(|p| p.port),
            };
            let allowed = entry.addresses.iter().chain(&entry.of_node);
            found.extend(allowed.filter_map(|&address| {
                Some(Found {
                    address,
                    port: number?,
                    state,
                })
            }));
        }
        found
    }
}

/// A backend as its cluster names it.
struct Found {
    address: Address,
    port: u16,
    state: BackendState,
}
