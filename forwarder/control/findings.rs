//! What is wrong or missing in the files that were read, one line each with its place: `check`
//! prints them all, `run` logs those that are new.

use std::collections::BTreeSet;

use mesh::{Compiled, State};

use super::report;

/// One line about an object or a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The line: `FILE:LINE:COLUMN: what of it is not in force, and why`.
    pub line: String,
    /// Whether somebody has to mend it.
    pub grave: bool,
}

/// All that is to be said of what was compiled. That an object is missing is no fault of a file.
pub(crate) fn findings(compiled: &Compiled) -> Vec<Finding> {
    let statuses = compiled.statuses.iter();
    let of_files = statuses.filter(|s| !s.file.is_empty() && s.state != State::Enforced);
    let objects = of_files.map(|status| {
        let object = report::object(status);
        let line = format!(
            "{}: {} {} is {}: {}",
            object.place,
            object.kind,
            object.name,
            object.state,
            object.reasons.join("; ")
        );
        let grave = status.state != State::Ignored;
        Finding { line, grave }
    });
    let skipped = compiled.sources.iter().flat_map(|source| {
        source.skipped.iter().map(|(what, at)| Finding {
            line: format!(
                "{}:{}:{}: {what} is not read",
                source.file, at.line, at.column
            ),
            grave: false,
        })
    });
    objects.chain(skipped).collect()
}

/// Logs what is to be said of `compiled` and is not in `known`; returns what is known now.
pub(super) fn log_new(compiled: &Compiled, known: &BTreeSet<Finding>) -> BTreeSet<Finding> {
    let found: BTreeSet<Finding> = findings(compiled).into_iter().collect();
    for finding in found.difference(known) {
        if finding.grave {
            tracing::error!("{}", finding.line);
        } else {
            tracing::warn!("{}", finding.line);
        }
    }
    found
}
