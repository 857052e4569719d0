//! The way from objects to the content of a snapshot, stage by stage. Each stage keeps what it has
//! made, is told what was touched before it, and tells what it has touched: so a change costs what
//! it touches, and what comes of many changes is what comes of the objects as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use balance::Frontend;
use datapath::{Own, Route, Snapshot};
use packet::{Address, Prefix, PrefixMap};
use policy::{Compiler, Endpoint, Identity, Labels, Policy, PolicyTable};

use crate::host_view::HostView;
use crate::identity::Numbers;
use crate::inventory::{Inventory, Key, Touched};
use crate::nodes::{self, Directory, directory};
use crate::object::{Namespace, Node, Pod};
use crate::pods::{self, PodView, Pods};
use crate::policies::{self, Policies};
use crate::routes::{self, Routes};
use crate::scope::Scopes;
use crate::services::{self, Elsewhere, Services};
use crate::settings::Settings;
use crate::status::Report;

/// All that the stages keep.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// None before everything was looked at once.
    directory: Option<Directory>,
    policies: Policies,
    churning: BTreeSet<&'static str>,
    numbers: Numbers,
    pods: Pods,
    endpoints: PrefixMap<Arc<Endpoint>>,
    routes: Routes,
    services: Services,
    identities: Vec<(Identity, Labels)>,
    compiler: Compiler,
    table: PolicyTable,
    /// How often services or endpoints have changed.
    backends: u64,
}

/// Everything that a compilation reads.
pub(crate) struct Known<'w> {
    pub(crate) settings: &'w Settings,
    pub(crate) scopes: &'w Scopes,
    pub(crate) inventory: &'w Inventory,
    /// Nodes that do not answer.
    pub(crate) silent: &'w BTreeSet<(u8, String)>,
    /// Objects that are not what or where they were.
    pub(crate) touched: &'w Touched,
    /// Whether other nodes are silent than were.
    pub(crate) health: bool,
}

impl Plan {
    /// Takes over the number of a set of labels from before a restart.
    pub(crate) fn remember(&mut self, identity: Identity, labels: Labels) {
        self.numbers.remember(identity, labels);
    }

    /// Follows what has happened; returns whether workers can see it.
    pub(crate) fn update(&mut self, known: &Known<'_>, report: &mut Report) -> bool {
        let nodes = self.update_nodes(known, report);
        let no_nodes = Directory::default();
        let directory = self.directory.as_ref().unwrap_or(&no_nodes);
        let own = policies::Own {
            id: known.settings.id,
            name: &known.settings.cluster,
            inventory: known.inventory,
            host: &directory.own.addresses,
            audit: known.settings.audit,
        };
        let policies = self.policies.update(&own, known.touched, report);
        let churning = self.policies.churning();
        let touched = self.touched_pods(known, &nodes, &churning);
        self.churning = churning;
        let judges = pods::Judges {
            scopes: known.scopes,
            inventory: known.inventory,
            directory,
            churning: &self.churning,
        };
        let pods = self
            .pods
            .update(&judges, touched, &mut self.numbers, report);
        let places = self.place(known, &nodes, &pods);
        let services = self.update_services(known, &pods, nodes.moved || places.moved, report);
        if pods.identities {
            self.identities = self.pods.identities();
        }
        if pods.identities || policies {
            let list = self.policies.list();
            self.table = self.compiler.update(&list, &self.identities);
        }
        let backends = places.differs || services;
        self.backends += u64::from(backends);
        nodes.differs || policies || pods.identities || backends
    }

    fn update_nodes(&mut self, known: &Known<'_>, report: &mut Report) -> nodes::Change {
        let mut touched = known.touched.changed::<Node>().map(|(key, _)| key);
        if let Some(directory) = &mut self.directory {
            match (touched.next(), touched.next()) {
                (None, _) => return nodes::Change::default(),
                (Some(key), None) => {
                    let change = directory.renew(key, known.scopes, known.inventory, report);
                    if let Some(change) = change {
                        return change;
                    }
                }
                _ => {}
            }
        }
        let new = directory(known.settings, known.scopes, known.inventory, report);
        let mut change = new.since(self.directory.as_ref().unwrap_or(&Directory::default()));
        // The clusters' own prefixes are there without any node.
        change.moved |= self.directory.is_none();
        self.directory = Some(new);
        change
    }

    /// Pods that are not what they were, or whose namespace, address or policies are not.
    fn touched_pods(
        &self,
        known: &Known<'_>,
        nodes: &nodes::Change,
        churning: &BTreeSet<&'static str>,
    ) -> BTreeSet<Key> {
        let changed = known.touched.changed::<Pod>().map(|(key, _)| key);
        let mut touched: Vec<Key> = changed.cloned().collect();
        for (namespace, _) in known.touched.changed::<Namespace>() {
            let pods = self.pods.within(namespace.cluster, &namespace.name);
            touched.extend(pods.map(|(key, _)| key.clone()));
        }
        for address in &nodes.addresses {
            touched.extend(self.pods.stating(*address).cloned());
        }
        let mut others = churning.symmetric_difference(&self.churning).peekable();
        if others.peek().is_some() {
            let others: Vec<&str> = others.copied().collect();
            let has_one = |pod: &Pod| others.iter().any(|key| pod.labels.contains_key(*key));
            let pods = self.pods.all().filter(|(_, entry)| has_one(entry.pod()));
            touched.extend(pods.map(|(key, _)| key.clone()));
        }
        // At once: each search for a place among many costs more than to sort them.
        touched.into_iter().collect()
    }

    /// Says whose each address is, and where.
    fn place(&mut self, known: &Known<'_>, nodes: &nodes::Change, pods: &pods::Change) -> Places {
        let mut places = Places::default();
        let Some(directory) = &self.directory else {
            return places;
        };
        for &address in nodes.addresses.union(&pods.addresses) {
            let owner = self.pods.at(address);
            let endpoint = match directory.at(address) {
                Some(node) => Some(Arc::new(node.endpoint())),
                None => owner.and_then(|(_, pod)| pod.endpoint().cloned()),
            };
            let prefix = Prefix::host(address);
            let before = match &endpoint {
                Some(endpoint) => self.endpoints.insert(prefix, endpoint.clone()),
                None => self.endpoints.remove(&prefix),
            };
            places.differs |= before != endpoint;
            if !nodes.moved {
                let node = owner.map(|(key, entry)| (key.cluster, entry.pod().node.as_str()));
                let route = node.map(|(cluster, node)| routes::of_pod(directory, cluster, node));
                places.moved |= self.routes.set(address, route);
            }
        }
        if nodes.moved {
            let mut all = Routes::of_nodes(&known.settings.clusters, directory);
            for (key, entry) in self.pods.all() {
                let route = routes::of_pod(directory, key.cluster, &entry.pod().node);
                for &address in entry.addresses() {
                    all.set(address, Some(route));
                }
            }
            places.moved |= !all.all().iter().eq(self.routes.all().iter());
            self.routes = all;
        }
        places.differs |= places.moved;
        places
    }

    fn update_services(
        &mut self,
        known: &Known<'_>,
        pods: &pods::Change,
        moved: bool,
        report: &mut Report,
    ) -> bool {
        let peers = self.directory.as_ref().map_or(&[][..], |d| &d.peers);
        let is_silent =
            |peer: &datapath::Node| known.silent.contains(&(peer.cluster, peer.name.clone()));
        let silent: Vec<bool> = peers.iter().map(is_silent).collect();
        let answers = |address| match self.routes.at(address) {
            Some(Route::Node(index)) => !silent.get(index as usize).copied().unwrap_or(true),
            Some(Route::Nowhere) => false,
            Some(Route::Pod | Route::Own | Route::World) | None => true,
        };
        let sources = services::Sources {
            own: known.settings.id,
            node: &known.settings.node,
            scopes: known.scopes,
            inventory: known.inventory,
            pods: &self.pods,
            answers: &answers,
            in_mesh: &|address| self.routes.at(address).is_some(),
        };
        let moved = moved || known.health;
        self.services
            .update(&sources, known.touched, &pods.pods, moved, report)
    }

    /// What workers read of it. Before everything was read once nothing passes.
    pub(crate) fn snapshot(&self, epoch: u64, loaded: bool) -> Snapshot {
        let directory = self.directory.as_ref();
        Snapshot {
            epoch,
            backends: self.backends,
            endpoints: self.endpoints.clone(),
            world: Arc::new(Endpoint::of(Identity::WORLD)),
            policy: self.table.clone(),
            services: self.services.table().clone(),
            routes: if loaded {
                self.routes.all().clone()
            } else {
                routes::closed()
            },
            nodes: directory.map_or_else(Vec::new, |d| d.peers.clone()),
            own: directory.map_or_else(Own::default, |d| d.own.clone()),
        }
    }

    /// What the host's rules must know of it.
    pub(crate) fn host_view(&self, settings: &Settings) -> HostView {
        let scopes = settings.clusters.iter();
        let addresses = |global: bool| -> Vec<Address> {
            let services = self.services.table().iter();
            let services = services.filter(|(_, s)| s.global || !global);
            let mut addresses: Vec<Address> = services.map(|(f, _)| f.address).collect();
            // Frontends come by address.
            addresses.dedup();
            addresses
        };
        HostView {
            local_pods: self.routes.local().collect(),
            remote_prefixes: scopes.flat_map(|s| s.prefixes.iter().copied()).collect(),
            global_frontends: addresses(true),
            frontends: addresses(false),
        }
    }

    /// Backends that only clients on other nodes may have.
    pub(crate) fn elsewhere(&self) -> &Arc<BTreeMap<Frontend, Arc<[Elsewhere]>>> {
        self.services.elsewhere()
    }

    /// The own cluster's policies, translated.
    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        self.policies.list()
    }

    /// The labels of each identity that a pod has.
    pub(crate) fn identities(&self) -> &[(Identity, Labels)] {
        &self.identities
    }

    /// All pods, for people.
    pub(crate) fn views(&self) -> Vec<Arc<PodView>> {
        self.pods.views()
    }
}

/// What has become of addresses.
#[derive(Default)]
struct Places {
    moved: bool,
    differs: bool,
}
