//! What became of each object and of each file, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Place, Problem};

use crate::inventory::{Inventory, Key, Stand};
use crate::object::Located;

/// How much of an object is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// All of it.
    Enforced,
    /// Less than it asks for.
    Partly,
    /// Nothing, and that is right: another one stands in its place, or it is not ours to enforce.
    Ignored,
    /// Nothing, or for a policy: what it governs is denied.
    Refused,
}

impl State {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Enforced => "enforced",
            State::Partly => "partly",
            State::Ignored => "ignored",
            State::Refused => "refused",
        }
    }
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Id of the cluster whose object it is.
    pub cluster: u8,
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for cluster-wide objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The file that it stands in; empty for an object that is missing.
    pub file: Arc<str>,
    /// Where it begins in the file.
    pub at: Place,
    /// How much of it is in force.
    pub state: State,
    /// Why it is less than all; each a sentence without its full stop.
    pub reasons: Vec<String>,
    /// Of a policy that is refused for what it says: each thing that is in the way, at its place.
    pub problems: Vec<Problem>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Id of the cluster whose file it is.
    pub cluster: u8,
    /// The file.
    pub file: String,
    /// Hash of the content that is in force; empty if no version of it was ever good.
    pub applied: String,
    /// Hash of the content that was read last.
    pub seen: String,
    /// Why the last content is not in force.
    pub problems: Vec<Problem>,
    /// Documents in it of kinds that we do not know, as `kind (apiVersion)` with their lines.
    pub skipped: Vec<(String, Place)>,
}

/// What is to be said of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    state: State,
    reasons: Vec<String>,
    /// What in its text is in the way.
    pub(crate) problems: Vec<Problem>,
}

impl Said {
    /// It is in force.
    pub(crate) const ENFORCED: Said = Said {
        state: State::Enforced,
        reasons: Vec::new(),
        problems: Vec::new(),
    };

    /// Something more. The worst state stays.
    pub(crate) fn say(&mut self, state: State, reason: impl Into<String>) {
        let reason = reason.into();
        self.state = self.state.max(state);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// The statuses of all objects, kept while they come and go.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What is to be said of objects that count.
    said: BTreeMap<Key, Said>,
    /// Of whom something else is to be said than before.
    news: BTreeSet<Key>,
    statuses: BTreeMap<Line, Arc<Status>>,
    /// The lines about all objects of one name.
    lines: BTreeMap<Key, Vec<Line>>,
}

/// Where statuses are shown: by where the objects stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    cluster: u8,
    file: Arc<str>,
    at: Place,
    key: Key,
}

impl Report {
    /// What is to be said of the object that has a name.
    pub(crate) fn set(&mut self, key: &Key, said: Said) {
        if self.said.get(key) != Some(&said) {
            self.said.insert(key.clone(), said);
            self.news.insert(key.clone());
        }
    }

    /// Nothing is to be said of it.
    pub(crate) fn unset(&mut self, key: &Key) {
        if self.said.remove(key).is_some() {
            self.news.insert(key.clone());
        }
    }

    /// Whether an object that should be there is missing, and why that matters.
    pub(crate) fn missing(&mut self, key: Key, reason: Option<String>) {
        let line = Line {
            cluster: key.cluster,
            file: "".into(),
            at: Place::default(),
            key,
        };
        match reason {
            Some(reason) => {
                let mut said = Said::ENFORCED;
                said.say(State::Refused, reason);
                let status = line.status(&said);
                self.statuses.insert(line, Arc::new(status));
            }
            None => {
                self.statuses.remove(&line);
            }
        }
    }

    /// All statuses by cluster, file and place, now that these objects are not where they were.
    pub(crate) fn statuses(
        &mut self,
        inventory: &Inventory,
        moved: &BTreeSet<Key>,
    ) -> Vec<Arc<Status>> {
        for key in std::mem::take(&mut self.news).union(moved) {
            self.renew(key, inventory.stands(key));
        }
        self.statuses.values().cloned().collect()
    }

    fn renew(&mut self, key: &Key, stands: &[Stand]) {
        for line in self.lines.remove(key).unwrap_or_default() {
            self.statuses.remove(&line);
        }
        let mut lines = Vec::with_capacity(stands.len());
        for (stand, later) in stands.iter().zip(stands.iter().skip(1)) {
            let mut said = Said::ENFORCED;
            let Located { file, at, .. } = &later.located;
            let reason = format!(
                "stands again at {file}:{}, and the later file wins",
                at.line
            );
            said.say(State::Ignored, reason);
            lines.push((Line::of(key, stand), said));
        }
        match stands.last() {
            Some(last) => {
                let said = self.said.get(key).cloned();
                lines.extend(said.map(|said| (Line::of(key, last), said)));
            }
            None => {
                self.said.remove(key);
            }
        }
        let lines = lines.into_iter().map(|(line, said)| {
            self.statuses
                .insert(line.clone(), Arc::new(line.status(&said)));
            line
        });
        let lines: Vec<Line> = lines.collect();
        if !lines.is_empty() {
            self.lines.insert(key.clone(), lines);
        }
    }
}

impl Line {
    fn of(key: &Key, stand: &Stand) -> Line {
        Line {
            cluster: key.cluster,
            file: stand.located.file.clone(),
            at: stand.located.at,
            key: key.clone(),
        }
    }

    fn status(&self, said: &Said) -> Status {
        Status {
            cluster: self.cluster,
            kind: self.key.kind,
            namespace: (*self.key.namespace).into(),
            name: (*self.key.name).into(),
            file: self.file.clone(),
            at: self.at,
            state: said.state,
            reasons: said.reasons.clone(),
            problems: said.problems.clone(),
        }
    }
}
