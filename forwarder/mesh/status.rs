//! What became of each object and of each file, for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Place, Problem};

use crate::object::{Located, Object};

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

/// Collects statuses while objects are compiled.
#[derive(Debug, Default)]
pub(crate) struct Report {
    // Keyed by where objects stand, so that the order does not depend on who asks first.
    statuses: BTreeMap<(u8, Arc<str>, Place), Status>,
}

impl Report {
    /// The object is there, and in force unless something else is said of it.
    pub(crate) fn enforced(&mut self, cluster: u8, located: &Located<Object>) {
        self.status(cluster, located);
    }

    /// Something is to be said of an object. The worst state stays.
    pub(crate) fn say(
        &mut self,
        cluster: u8,
        located: &Located<Object>,
        state: State,
        reason: impl Into<String>,
    ) {
        let reason = reason.into();
        let status = self.status(cluster, located);
        status.state = status.state.max(state);
        if !status.reasons.contains(&reason) {
            status.reasons.push(reason);
        }
    }

    /// What in the object's text is in the way.
    pub(crate) fn explain(&mut self, cluster: u8, located: &Located<Object>, problems: &[Problem]) {
        self.status(cluster, located).problems = problems.to_vec();
    }

    /// An object that should be there and is not.
    pub(crate) fn missing(&mut self, cluster: u8, kind: &'static str, name: &str, reason: String) {
        let key = (cluster, Arc::from(""), Place::default());
        self.statuses.entry(key).or_insert_with(|| Status {
            cluster,
            kind,
            namespace: String::new(),
            name: name.into(),
            file: "".into(),
            at: Place::default(),
            state: State::Refused,
            reasons: vec![reason],
            problems: Vec::new(),
        });
    }

    pub(crate) fn finish(self) -> Vec<Status> {
        self.statuses.into_values().collect()
    }

    fn status(&mut self, cluster: u8, located: &Located<Object>) -> &mut Status {
        let key = (cluster, located.file.clone(), located.at);
        self.statuses.entry(key).or_insert_with(|| Status {
            cluster,
            kind: located.object.kind(),
            namespace: located.object.namespace().into(),
            name: located.object.name().into(),
            file: located.file.clone(),
            at: located.at,
            state: State::Enforced,
            reasons: Vec::new(),
            problems: Vec::new(),
        })
    }
}
