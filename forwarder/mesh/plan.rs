//! The way from objects to the content of a snapshot, stage by stage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use balance::{Frontend, Service as Balanced};
use datapath::{Node as Peer, Own, Route};
use packet::{Address, Prefix, PrefixMap};
use policy::{Endpoint, Identity, Labels, Policy};

use crate::host_view::HostView;
use crate::identity::Numbers;
use crate::inventory::{self, ClusterObjects};
use crate::nodes::directory;
use crate::object::{Located, Object};
use crate::pods::{PodEntry, PodView};
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::status::Report;
use crate::{pods, policies, routes, services};

/// A snapshot's content in a form that can be compared.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) loaded: bool,
    pub(crate) endpoints: BTreeMap<Address, Arc<Endpoint>>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) identities: Vec<(Identity, Labels)>,
    pub(crate) services: BTreeMap<Frontend, Arc<Balanced>>,
    pub(crate) routes: BTreeMap<Prefix, Route>,
    pub(crate) nodes: Vec<Peer>,
    pub(crate) own: Own,
}

/// What outlives a compilation: meanings of numbers, and tables that are dear to make.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    numbers: Numbers,
    services: services::Cache,
}

/// Everything that a compilation reads.
pub(crate) struct Known<'w> {
    pub(crate) settings: &'w Settings,
    pub(crate) loaded: bool,
    /// The objects of each file, by cluster, files in the order of their names.
    pub(crate) files: BTreeMap<u8, Vec<&'w [Located<Object>]>>,
    /// Nodes that do not answer.
    pub(crate) silent: &'w BTreeSet<(u8, String)>,
}

impl Plan {
    /// Makes all of it, and lists the pods for people.
    pub(crate) fn of(
        known: &Known<'_>,
        memory: &mut Memory,
        report: &mut Report,
    ) -> (Plan, Vec<PodView>) {
        let settings = known.settings;
        let scopes = Scopes::new(settings.id, &settings.cluster, &settings.clusters);
        let clusters = known.clusters(report);
        let directory = directory(settings, &scopes, &clusters, report);
        let policies = known.policies(&clusters, report);
        let selected = policies::selected(&policies);
        let pods = pods::entries(&scopes, &clusters, &directory, &selected, report);
        let identified = pods::identify(&pods, &directory, &mut memory.numbers, report);
        let routes = routes::routes(&settings.clusters, &directory, &pods);
        let services = known.services(
            &scopes,
            &clusters,
            &pods,
            &routes,
            &directory.peers,
            &mut memory.services,
            report,
        );
        let views = pods::views(&pods, &identified.endpoints);
        let plan = Plan {
            loaded: known.loaded,
            endpoints: identified.endpoints,
            identities: identified.identities,
            policies,
            services,
            routes,
            nodes: directory.peers,
            own: directory.own,
        };
        (plan, views)
    }

    /// What the host's rules must know of it.
    pub(crate) fn host_view(&self, settings: &Settings) -> HostView {
        let local = self
            .routes
            .iter()
            .filter(|(_, route)| **route == Route::Pod);
        let scopes = settings.clusters.iter();
        let addresses = |global: bool| -> Vec<Address> {
            let services = self.services.iter().filter(|(_, s)| s.global || !global);
            let addresses: BTreeSet<Address> = services.map(|(f, _)| f.address).collect();
            addresses.into_iter().collect()
        };
        HostView {
            local_pods: local.map(|(prefix, _)| prefix.address()).collect(),
            remote_prefixes: scopes.flat_map(|s| s.prefixes.iter().copied()).collect(),
            global_frontends: addresses(true),
            frontends: addresses(false),
        }
    }
}

impl<'w> Known<'w> {
    /// The objects of all clusters that we were told of; others' do not count.
    fn clusters(&self, report: &mut Report) -> BTreeMap<u8, ClusterObjects<'w>> {
        let others = self.settings.clusters.iter().map(|scope| scope.id);
        std::iter::once(self.settings.id)
            .chain(others)
            .map(|cluster| {
                let files = self.files.get(&cluster).into_iter().flatten().copied();
                (cluster, inventory::take(cluster, files, report))
            })
            .collect()
    }

    fn policies(
        &self,
        clusters: &BTreeMap<u8, ClusterObjects<'_>>,
        report: &mut Report,
    ) -> Vec<Policy> {
        let mut translated = Vec::new();
        for (&cluster, objects) in clusters {
            if cluster == self.settings.id {
                let own = policies::Own {
                    id: cluster,
                    name: &self.settings.cluster,
                    objects,
                };
                translated = own.translate(report);
            } else {
                policies::ignore(cluster, &objects.policies, report);
            }
        }
        translated
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one stage's inputs, named where it is called"
    )]
    fn services(
        &self,
        scopes: &Scopes,
        clusters: &BTreeMap<u8, ClusterObjects<'_>>,
        pods: &[PodEntry<'_>],
        routes: &BTreeMap<Prefix, Route>,
        peers: &[Peer],
        cache: &mut services::Cache,
        report: &mut Report,
    ) -> BTreeMap<Frontend, Arc<Balanced>> {
        let routes: PrefixMap<Route> = routes.iter().map(|(p, r)| (*p, *r)).collect();
        let route = |address| routes.lookup(address).map(|(_, route)| *route);
        let silent: Vec<bool> = peers
            .iter()
            .map(|peer| self.silent.contains(&(peer.cluster, peer.name.clone())))
            .collect();
        let answers = |address| match route(address) {
            Some(Route::Node(index)) => !silent.get(index as usize).copied().unwrap_or(true),
            Some(Route::Nowhere) => false,
            Some(Route::Pod | Route::Own | Route::World) | None => true,
        };
        let in_mesh = |address| route(address).is_some();
        let sources = services::Sources {
            own: self.settings.id,
            scopes,
            clusters,
            pods,
            answers: &answers,
            in_mesh: &in_mesh,
        };
        services::compile(&sources, cache, report)
    }
}
