//! All that is known, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Place, Problem};
use datapath::Snapshot;
use packet::Prefix;
use policy::{Endpoint, Identity, Labels, Policy, PolicyTable};

use crate::codec::Parsed;
use crate::host_view::HostView;
use crate::object::{Located, Object};
use crate::plan::{Known, Memory, Plan};
use crate::pods::PodView;
use crate::routes;
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
    pub statuses: Vec<Status>,
    /// What became of each file, by cluster and path.
    pub sources: Vec<Source>,
    /// The labels of each identity that a pod has.
    pub identities: Vec<(Identity, Labels)>,
    /// All pods of all clusters, by cluster, namespace and name.
    pub pods: Vec<PodView>,
}

/// All objects of all clusters, from which a snapshot can be made at any time.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    files: BTreeMap<(u8, String), File>,
    silent: BTreeSet<(u8, String)>,
    loaded: bool,
    memory: Memory,
    last: Option<Last>,
}

/// One file: the version that is in force, and what is wrong with the one that was read last.
#[derive(Debug, Default)]
struct File {
    objects: Vec<Located<Object>>,
    skipped: Vec<(String, Place)>,
    applied: String,
    seen: String,
    problems: Vec<Problem>,
}

/// What the last snapshot was made of.
#[derive(Debug)]
struct Last {
    plan: Plan,
    policy: PolicyTable,
    snapshot: Arc<Snapshot>,
}

impl World {
    /// A world of which nothing is known.
    pub fn new(settings: Settings) -> World {
        World {
            settings,
            files: BTreeMap::new(),
            silent: BTreeSet::new(),
            loaded: false,
            memory: Memory::default(),
            last: None,
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
            } => self
                .files
                .entry((cluster, file))
                .or_default()
                .read(parsed, hash),
            Event::FileGone { cluster, file } => {
                self.files.remove(&(cluster, file));
            }
            Event::NodeHealth {
                cluster,
                node,
                answering: true,
            } => {
                self.silent.remove(&(cluster, node));
            }
            Event::NodeHealth { cluster, node, .. } => {
                self.silent.insert((cluster, node));
            }
            Event::Loaded => self.loaded = true,
        }
    }

    /// Whether each file has a version that is in force: without one, a first start must fail.
    pub fn is_complete(&self) -> bool {
        self.files
            .values()
            .all(|file| !file.applied.is_empty() || file.problems.is_empty())
    }

    /// The own cluster's policies as the last [`World::compile`] translated them, for who judges by
    /// [`policy::reference`]; none before the first.
    pub fn policies(&self) -> &[Policy] {
        let last = self.last.as_ref();
        last.map_or(&[], |last| &last.plan.policies)
    }

    /// What follows from all that is known. The epoch rises by one if the snapshot differs from the
    /// last one, and stays otherwise.
    pub fn compile(&mut self) -> Arc<Compiled> {
        let mut report = Report::default();
        let mut files: BTreeMap<u8, Vec<&[Located<Object>]>> = BTreeMap::new();
        for ((cluster, _), file) in &self.files {
            files.entry(*cluster).or_default().push(&file.objects);
        }
        let known = Known {
            settings: &self.settings,
            loaded: self.loaded,
            files,
            silent: &self.silent,
        };
        let (plan, pods) = Plan::of(&known, &mut self.memory, &mut report);
        let host = plan.host_view(&self.settings);
        let identities = plan.identities.clone();
        let snapshot = self.snapshot(plan);
        Arc::new(Compiled {
            snapshot,
            host,
            statuses: report.finish(),
            sources: self
                .files
                .iter()
                .map(|(key, file)| file.source(key))
                .collect(),
            identities,
            pods,
        })
    }

    /// Makes a snapshot of the plan, with as much of the last one as has not changed.
    fn snapshot(&mut self, plan: Plan) -> Arc<Snapshot> {
        let last = match self.last.take() {
            Some(last) if last.plan == plan => {
                let snapshot = last.snapshot.clone();
                self.last = Some(last);
                return snapshot;
            }
            last => last,
        };
        let epoch = last.as_ref().map_or(0, |last| last.snapshot.epoch) + 1;
        let same_policy = |last: &Last| {
            last.plan.policies == plan.policies && last.plan.identities == plan.identities
        };
        let policy = match last {
            Some(last) if same_policy(&last) => last.policy,
            _ => PolicyTable::compile(&plan.policies, &plan.identities),
        };
        let snapshot = Arc::new(Snapshot {
            epoch,
            endpoints: plan
                .endpoints
                .iter()
                .map(|(a, e)| (Prefix::host(*a), e.clone()))
                .collect(),
            world: Arc::new(Endpoint::of(Identity::WORLD)),
            policy: policy.clone(),
            services: plan.services.iter().map(|(f, s)| (*f, s.clone())).collect(),
            routes: if plan.loaded {
                plan.routes.iter().map(|(p, r)| (*p, *r)).collect()
            } else {
                routes::closed()
            },
            nodes: plan.nodes.clone(),
            own: plan.own.clone(),
        });
        self.last = Some(Last {
            plan,
            policy,
            snapshot: snapshot.clone(),
        });
        snapshot
    }
}

impl File {
    fn read(&mut self, parsed: Parsed, hash: String) {
        self.seen.clone_from(&hash);
        self.problems = parsed.problems;
        if self.problems.is_empty() {
            self.applied = hash;
            self.objects = parsed.objects;
            let skipped = parsed.skipped.into_iter();
            self.skipped = skipped
                .map(|s| (format!("{} ({})", s.kind, s.api_version), s.at))
                .collect();
        }
    }

    fn source(&self, (cluster, file): &(u8, String)) -> Source {
        Source {
            cluster: *cluster,
            file: file.clone(),
            applied: self.applied.clone(),
            seen: self.seen.clone(),
            problems: self.problems.clone(),
            skipped: self.skipped.clone(),
        }
    }
}
