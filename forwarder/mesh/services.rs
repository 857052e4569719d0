//! Services become frontends with backends: their own, and for global ones the other clusters'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use balance::{
    Backend, DEFAULT_TABLE_SIZE, Frontend, Service as Balanced, ServiceTable, State as BackendState,
};
use packet::Address;

use crate::inventory::{Inventory, Key, Kind, Touched, service_of};
use crate::object::{EndpointSlice, Object, Pod, Service, ServicePort, Target};
use crate::pods::Pods;
use crate::scope::Scopes;
use crate::status::{Report, Said, State};

/// The own cluster's services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    entries: BTreeMap<Key, Entry>,
    table: ServiceTable,
    elsewhere: Arc<BTreeMap<Frontend, Arc<[Elsewhere]>>>,
}

/// A backend of the own cluster that only clients on its own node, another one, may have: for whoever
/// asks what happens there.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// Name of that node.
    pub node: String,
    /// The backend; whether it answers is not asked.
    pub backend: Backend,
}

/// A service.
#[derive(Debug)]
struct Entry {
    service: Arc<Object>,
    /// Cluster IPs that it may have.
    addresses: Vec<Address>,
    offers: Vec<Offer>,
    said: Said,
}

/// One port of a service, for one address family.
#[derive(Debug)]
struct Offer {
    port: ServicePort,
    v4: bool,
    /// All backends that are named, with whether they answer.
    found: Vec<Backend>,
    /// Those on other nodes, if only a client's own node may serve it.
    elsewhere: Arc<[Elsewhere]>,
    /// Whether other backends may be named than the table is over.
    stale: bool,
    /// None if the service has no address of the family.
    balanced: Option<Arc<Balanced>>,
}

/// What services are compiled from.
pub(crate) struct Sources<'a> {
    pub(crate) own: u8,
    /// This node's name.
    pub(crate) node: &'a str,
    pub(crate) scopes: &'a Scopes,
    pub(crate) inventory: &'a Inventory,
    pub(crate) pods: &'a Pods,
    /// Whether what is behind an address answers.
    pub(crate) answers: &'a dyn Fn(Address) -> bool,
    /// Whether an address is within the mesh, where no service may have its own.
    pub(crate) in_mesh: &'a dyn Fn(Address) -> bool,
}

impl Services {
    /// Looks anew at services whose objects were touched, their slices, or pods that they select,
    /// as those were or are. `moved` says that an address may be elsewhere or answer no more: then
    /// all backends are asked. Returns whether any frontend is not what it was.
    pub(crate) fn update(
        &mut self,
        sources: &Sources<'_>,
        touched: &Touched,
        pods: &[(u8, Arc<Object>)],
        moved: bool,
        report: &mut Report,
    ) -> bool {
        sources.check_slices(touched, report);
        let mut differs = false;
        for key in sources.concerned(touched, pods) {
            let old = self.entries.remove(&key);
            differs |= old.is_some();
            if let Some(mut entry) = Entry::of(&key, old, sources) {
                entry.judge(sources);
                self.entries.insert(key, entry);
                differs = true;
            }
        }
        if moved {
            for entry in self.entries.values_mut() {
                differs |= entry.judge(sources);
            }
        }
        differs && self.settle(report)
    }

    /// Gives each frontend to the first who claims it; returns whether any is not what it was.
    fn settle(&mut self, report: &mut Report) -> bool {
        let mut frontends: BTreeMap<Frontend, Arc<Balanced>> = BTreeMap::new();
        let mut elsewhere = BTreeMap::new();
        for (key, entry) in &self.entries {
            let mut said = entry.said.clone();
            for (frontend, balanced, others) in entry.frontends() {
                match frontends.get(&frontend) {
                    None => {
                        frontends.insert(frontend, balanced.clone());
                        if !others.is_empty() {
                            elsewhere.insert(frontend, others.clone());
                        }
                    }
                    Some(other) => {
                        let (address, port) = (frontend.address, frontend.port);
                        let reason =
                            format!("{address} port {port} is that of {} already", other.name);
                        said.say(State::Refused, reason);
                    }
                }
            }
            report.set(key, said);
        }
        let table: ServiceTable = frontends.into_iter().collect();
        let differs = table != self.table;
        self.table = table;
        self.elsewhere = Arc::new(elsewhere);
        differs
    }

    /// All frontends.
    pub(crate) fn table(&self) -> &ServiceTable {
        &self.table
    }

    /// What is left out of it because it is for clients on other nodes.
    pub(crate) fn elsewhere(&self) -> &Arc<BTreeMap<Frontend, Arc<[Elsewhere]>>> {
        &self.elsewhere
    }
}

impl Entry {
    /// The service that has a name, if there is one, with its backends, before it is judged. A
    /// lookup table is made again only if a backend has changed.
    fn of(key: &Key, old: Option<Entry>, sources: &Sources<'_>) -> Option<Entry> {
        let object = sources.inventory.object(key)?;
        let service = Service::of(object)?;
        let mut offers = Vec::new();
        let ports = match &service.skipped {
            Some(_) => &[],
            None => service.ports.as_slice(),
        };
        let mut old = old.map_or_else(Vec::new, |old| old.offers);
        for port in ports {
            for v4 in [true, false] {
                if service.cluster_ips.iter().any(|ip| ip.is_v4() == v4) {
                    let same = old.iter().position(|old| old.is_of(port, v4));
                    let (found, elsewhere) = sources.backends(key, service, port, v4);
                    offers.push(Offer {
                        port: port.clone(),
                        v4,
                        found,
                        elsewhere,
                        stale: true,
                        balanced: same.and_then(|at| old.swap_remove(at).balanced),
                    });
                }
            }
        }
        Some(Entry {
            service: object.clone(),
            addresses: Vec::new(),
            offers,
            said: Said::ENFORCED,
        })
    }

    /// Decides which addresses it may have, and asks which backends answer; returns whether it is
    /// not what it was.
    fn judge(&mut self, sources: &Sources<'_>) -> bool {
        let service = Service::of(&self.service).expect("it was made of a service");
        let (addresses, said) = sources.frontend_addresses(service);
        let mut differs = addresses != self.addresses || said != self.said;
        (self.addresses, self.said) = (addresses, said);
        for offer in &mut self.offers {
            let has_address = self.addresses.iter().any(|a| a.is_v4() == offer.v4);
            differs |= offer.judge(service, has_address, sources);
        }
        differs
    }

    fn frontends(&self) -> impl Iterator<Item = (Frontend, &Arc<Balanced>, &Arc<[Elsewhere]>)> {
        self.offers.iter().flat_map(|offer| {
            let family = self.addresses.iter().filter(|a| a.is_v4() == offer.v4);
            family.filter_map(|&address| {
                let frontend = Frontend {
                    address,
                    port: offer.port.port,
                    protocol: offer.port.protocol,
                };
                Some((frontend, offer.balanced.as_ref()?, &offer.elsewhere))
            })
        })
    }
}

impl Offer {
    /// Whether it would be the same table if the backends were.
    fn is_of(&self, port: &ServicePort, v4: bool) -> bool {
        self.v4 == v4 && self.port.name == port.name && self.port.protocol == port.protocol
    }

    fn judge(&mut self, service: &Service, has_address: bool, sources: &Sources<'_>) -> bool {
        for backend in &mut self.found {
            let healthy = (sources.answers)(backend.address);
            self.stale |= std::mem::replace(&mut backend.healthy, healthy) != healthy;
        }
        if !has_address {
            return self.balanced.take().is_some();
        }
        if !self.stale && self.balanced.is_some() {
            return false;
        }
        self.stale = false;
        let last = self.balanced.as_ref().filter(|balanced| {
            balanced.affinity == service.affinity
                && balanced.global == service.global
                && balanced.client_stays == service.client_stays
                && balanced.own_node_only == service.own_node_only
        });
        let balanced = match last {
            Some(last) => last.renewed(self.found.clone()),
            None => {
                let mut balanced = Balanced::new(
                    format!("{}/{}", service.namespace, service.name),
                    self.port.name.clone(),
                    service.affinity,
                    service.global,
                    self.found.clone(),
                    DEFAULT_TABLE_SIZE,
                );
                balanced.client_stays = service.client_stays;
                balanced.own_node_only = service.own_node_only;
                Arc::new(balanced)
            }
        };
        let before = self.balanced.replace(balanced);
        before != self.balanced
    }
}

impl Sources<'_> {
    /// The own cluster's services that these touch.
    fn concerned(&self, touched: &Touched, pods: &[(u8, Arc<Object>)]) -> BTreeSet<Key> {
        let mut names: BTreeSet<Key> = BTreeSet::new();
        for (key, _) in touched.changed::<Service>() {
            names.insert(key.clone());
        }
        for (key, before) in touched.changed::<EndpointSlice>() {
            let after = self.inventory.object(key);
            let slices = before.into_iter().chain(after);
            let slices = slices.filter_map(|slice| EndpointSlice::of(slice));
            names.extend(slices.map(|slice| service_of(key, slice)));
        }
        let mut by_namespace: BTreeMap<(u8, &str), Vec<&Pod>> = BTreeMap::new();
        for (cluster, object) in pods {
            if let Some(pod) = Pod::of(object) {
                let place = (*cluster, pod.namespace.as_str());
                by_namespace.entry(place).or_default().push(pod);
            }
        }
        for ((cluster, namespace), pods) in by_namespace {
            let namespace = namespace.into();
            let services = self.inventory.within::<Service>(cluster, &namespace);
            let selecting = services.filter(|(key, service)| {
                !names.contains(*key) && pods.iter().any(|pod| selects(service, pod))
            });
            let selecting: Vec<Key> = selecting.map(|(key, _)| key.clone()).collect();
            names.extend(selecting);
        }
        let own = |key: Key| Key {
            cluster: self.own,
            ..key
        };
        names.into_iter().map(own).collect()
    }

    fn frontend_addresses(&self, service: &Service) -> (Vec<Address>, Said) {
        let mut said = Said::ENFORCED;
        let mut addresses = Vec::new();
        if let Some(reason) = &service.skipped {
            said.say(State::Ignored, reason.as_str());
            return (addresses, said);
        }
        for missing in &service.missing {
            said.say(State::Partly, missing.as_str());
        }
        for &address in &service.cluster_ips {
            let refused = self.scopes.refuses(self.own, address).or_else(|| {
                let reason = || format!("{address} lies among the addresses of pods and nodes");
                (self.in_mesh)(address).then(reason)
            });
            match refused {
                Some(reason) => said.say(State::Refused, reason),
                None => addresses.push(address),
            }
        }
        (addresses, said)
    }

    /// Backends that their cluster may not name are left out; here it is said.
    fn check_slices(&self, touched: &Touched, report: &mut Report) {
        for (key, _) in touched.changed::<EndpointSlice>() {
            let mut said = Said::ENFORCED;
            let slice = self.inventory.get::<EndpointSlice>(key);
            let endpoints = slice.into_iter().flat_map(|slice| &slice.endpoints);
            for &address in endpoints.flat_map(|endpoint| &endpoint.addresses) {
                if let Some(reason) = self.scopes.refuses(key.cluster, address) {
                    said.say(State::Refused, reason);
                }
            }
            if said == Said::ENFORCED {
                report.unset(key);
            } else {
                report.set(key, said);
            }
        }
    }

    /// All backends of one port, the own cluster's and, for a global service, those of clusters
    /// that share theirs; with them those that are for clients on other nodes. Ports are matched by
    /// name. Whether they answer is not asked yet.
    fn backends(
        &self,
        key: &Key,
        service: &Service,
        port: &ServicePort,
        v4: bool,
    ) -> (Vec<Backend>, Arc<[Elsewhere]>) {
        let mut backends = Vec::new();
        let mut elsewhere = Vec::new();
        for cluster in self.scopes.clusters() {
            let local = cluster == self.own;
            let their_key = Key {
                cluster,
                ..key.clone()
            };
            let (theirs, their_port) = if local {
                (service, port)
            } else {
                let Some(theirs) = self.inventory.get::<Service>(&their_key) else {
                    continue;
                };
                let mut ports = theirs.ports.iter();
                let same = ports.find(|p| p.name == port.name && p.protocol == port.protocol);
                match same {
                    Some(same) if service.global && theirs.shared => (theirs, same),
                    _ => continue,
                }
            };
            if service.own_node_only && !local {
                // No node of another cluster is this one, whatever its name.
                continue;
            }
            let found = match self.inventory.slices(&their_key) {
                Some(slices) => self.of_slices(cluster, &slices, their_port),
                None => self.of_pods(&their_key, theirs, their_port),
            };
            for found in found.into_iter().filter(|f| f.address.is_v4() == v4) {
                let backend = Backend {
                    address: found.address,
                    port: found.port,
                    cluster,
                    local,
                    state: found.state,
                    healthy: true,
                    weight: 1,
                };
                if service.own_node_only && found.node != self.node {
                    let node = found.node.into();
                    elsewhere.push(Elsewhere { node, backend });
                } else {
                    backends.push(backend);
                }
            }
        }
        (backends, elsewhere.into())
    }

    fn of_slices<'s>(
        &self,
        cluster: u8,
        slices: &[&'s EndpointSlice],
        port: &ServicePort,
    ) -> Vec<Found<'s>> {
        let mut found = Vec::new();
        for slice in slices {
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
                        node: &endpoint.node,
                        state,
                    }));
                }
            }
        }
        found
    }

    /// Where nobody writes slices: the ready pods that the service selects.
    fn of_pods(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Found<'_>> {
        let mut found = Vec::new();
        for (_, entry) in self.pods.within(key.cluster, &key.namespace) {
            let pod = entry.pod();
            if !selects(service, pod) {
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
            found.extend(entry.believed().filter_map(|address| {
                Some(Found {
                    address,
                    port: number?,
                    node: &pod.node,
                    state,
                })
            }));
        }
        found
    }
}

/// Whether a service has the pods of its selector, and this is one.
fn selects(service: &Service, pod: &Pod) -> bool {
    let mut selector = service.selector.iter();
    !service.selector.is_empty() && selector.all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// A backend as its cluster names it.
struct Found<'a> {
    address: Address,
    port: u16,
    /// Name of the node that it runs on; empty where that was not said.
    node: &'a str,
    state: BackendState,
}
