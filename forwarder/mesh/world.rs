//! All that is known, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use balance::Frontend;
use datapath::Snapshot;
use policy::{Identity, Labels, Policy};

use crate::codec::Parsed;
use crate::host_view::HostView;
use crate::inventory::Inventory;
use crate::plan::{Known, Plan};
use crate::pods::PodView;
use crate::scope::Scopes;
use crate::services::Elsewhere;
use crate::settings::Settings;
use crate::status::{Report, Source, Status};

/// Something that has become known.
#[derive(Clone, Debug)]
pub enum Event {
    /// A file of a cluster was read. If it does not parse, the last good version stays in force.
    File {
        /// Id of the cluster whose file it is.
        cluster: u8,
        /// Its path: of two objects with one name the one in the file with the later path counts.
        file: String,
        /// What it says.
        parsed: Parsed,
        /// Hash of its content, for status only.
        hash: String,
    },
    /// A file is not there any more.
    FileGone {
        /// Id of the cluster whose file it was.
        cluster: u8,
        /// Its path.
        file: String,
    },
    /// A node answers its probes, or does not. Nodes of which nothing was said answer.
    NodeHealth {
        /// Id of its cluster.
        cluster: u8,
        /// Its name.
        node: String,
        /// Whether it answers.
        answering: bool,
    },
    /// Everything was read once. Before that nothing passes.
    Loaded,
}

/// All that follows from what is known.
#[derive(Debug)]
pub struct Compiled {
    /// For the workers.
    pub snapshot: Arc<Snapshot>,
    /// For the host's rules.
    pub host: HostView,
    /// What became of each object, by cluster, file and line.
    pub statuses: Vec<Arc<Status>>,
    /// What became of each file, by cluster and path.
    pub sources: Vec<Arc<Source>>,
    /// The labels of each identity that a pod has.
    pub identities: Vec<(Identity, Labels)>,
    /// All pods of all clusters, by cluster, namespace and name.
    pub pods: Vec<Arc<PodView>>,
    /// Backends that only clients on other nodes may have, by where their service is reached.
    pub elsewhere: Arc<BTreeMap<Frontend, Arc<[Elsewhere]>>>,
}

/// All objects of all clusters, from which a snapshot can be made at any time.
///
/// It keeps what it has made of them, and a change costs what it touches. That is much for some:
/// the labels of a namespace touch all of its pods, a Node's object the ways to all pods, and a
/// policy that is the first to select by a label that churns all pods that have it.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    scopes: Scopes,
    sources: BTreeMap<(u8, String), Arc<Source>>,
    inventory: Inventory,
    silent: BTreeSet<(u8, String)>,
    /// Whether other nodes are silent than at the last compilation.
    health: bool,
    loaded: bool,
    plan: Plan,
    report: Report,
    /// The last snapshot, and whether everything had been read when it was made.
    last: Option<(bool, Arc<Snapshot>)>,
}

impl World {
    /// A world of which nothing is known.
    pub fn new(settings: Settings) -> World {
        World {
            scopes: Scopes::new(settings.id, &settings.cluster, &settings.clusters),
            settings,
            sources: BTreeMap::new(),
            inventory: Inventory::default(),
            silent: BTreeSet::new(),
            health: false,
            loaded: false,
            plan: Plan::default(),
            report: Report::default(),
            last: None,
        }
    }

    /// Takes over the numbers that sets of labels had before a restart. What means something already
    /// stays, so this comes before the first [`World::compile`].
    pub fn remember(&mut self, identities: &[(Identity, Labels)]) {
        for (identity, labels) in identities {
            self.plan.remember(*identity, labels.clone());
        }
    }

    /// Takes notice of something. The order of events about different things does not matter.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::File {
                cluster,
                file,
                parsed,
                hash,
            } => self.read(cluster, file, parsed, hash),
            Event::FileGone { cluster, file } => {
                self.inventory.replace(cluster, &file, Vec::new());
                self.sources.remove(&(cluster, file));
            }
            Event::NodeHealth {
                cluster,
                node,
                answering: true,
            } => self.health |= self.silent.remove(&(cluster, node)),
            Event::NodeHealth { cluster, node, .. } => {
                self.health |= self.silent.insert((cluster, node));
            }
            Event::Loaded => self.loaded = true,
        }
    }

    fn read(&mut self, cluster: u8, file: String, parsed: Parsed, hash: String) {
        let key = (cluster, file);
        let last = self.sources.get(&key);
        let source = if parsed.problems.is_empty() {
            // The objects of clusters that we were not told of do not count.
            if self.scopes.clusters().any(|known| known == cluster) {
                self.inventory.replace(cluster, &key.1, parsed.objects);
            }
            let skipped = parsed.skipped.into_iter();
            let skipped = skipped.map(|s| (format!("{} ({})", s.kind, s.api_version), s.at));
            Source {
                cluster,
                file: key.1.clone(),
                applied: hash.clone(),
                seen: hash,
                problems: Vec::new(),
                skipped: skipped.collect(),
            }
        } else {
            Source {
                cluster,
                file: key.1.clone(),
                applied: last.map_or_else(String::new, |last| last.applied.clone()),
                seen: hash,
                problems: parsed.problems,
                skipped: last.map_or_else(Vec::new, |last| last.skipped.clone()),
            }
        };
        self.sources.insert(key, Arc::new(source));
    }

    /// Whether each file has a version that is in force: without one, a first start must fail.
    pub fn is_complete(&self) -> bool {
        self.sources
            .values()
            .all(|source| !source.applied.is_empty() || source.problems.is_empty())
    }

    /// The own cluster's policies as the last [`World::compile`] translated them, for who judges by
    /// [`policy::reference`]; none before the first.
    pub fn policies(&self) -> Vec<Policy> {
        let policies = self.plan.policies();
        policies.iter().map(|policy| (**policy).clone()).collect()
    }

    /// What follows from all that is known. The epoch rises by one if the snapshot differs from the
    /// last one, and stays otherwise.
    pub fn compile(&mut self) -> Arc<Compiled> {
        let touched = self.inventory.take_touched();
        let known = Known {
            settings: &self.settings,
            scopes: &self.scopes,
            inventory: &self.inventory,
            silent: &self.silent,
            touched: &touched,
            health: std::mem::take(&mut self.health),
        };
        let differs = self.plan.update(&known, &mut self.report);
        Arc::new(Compiled {
            snapshot: self.snapshot(differs),
            host: self.plan.host_view(&self.settings),
            statuses: self.report.statuses(&self.inventory, &touched.moved),
            sources: self.sources.values().cloned().collect(),
            identities: self.plan.identities().to_vec(),
            pods: self.plan.views(),
            elsewhere: self.plan.elsewhere().clone(),
        })
    }

    /// The last snapshot, or a new one if that would differ.
    fn snapshot(&mut self, differs: bool) -> Arc<Snapshot> {
        let epoch = match &self.last {
            Some((loaded, last)) if !differs && *loaded == self.loaded => return last.clone(),
            Some((_, last)) => last.epoch,
            None => 0,
        };
        let snapshot = Arc::new(self.plan.snapshot(epoch + 1, self.loaded));
        self.last = Some((self.loaded, snapshot.clone()));
        snapshot
    }
}
