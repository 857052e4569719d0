//! What is wrong or missing in the files that were read, each with its place: `check` prints it
//! all, `run` logs what is new.

use std::collections::BTreeSet;

use config::Problem;
use mesh::{Compiled, State};

use super::report;

/// Something about an object or a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// What of it is not in force, and why.
    pub problem: Problem,
    /// Whether somebody has to mend it.
    pub grave: bool,
}

/// All that is to be said of what was compiled. That an object is missing is no fault of a file.
pub(crate) fn findings(compiled: &Compiled) -> Vec<Finding> {
    let statuses = compiled.statuses.iter();
    let of_files = statuses.filter(|s| !s.file.is_empty() && s.state != State::Enforced);
    let skipped = compiled.sources.iter().flat_map(|source| {
        source.skipped.iter().map(|(what, at)| Finding {
            problem: Problem::new(&source.file, *at, format!("{what} is not read"), ""),
            grave: false,
        })
    });
    of_files
        .flat_map(|status| of_object(status))
        .chain(skipped)
        .collect()
}

/// What its text is refused for, each at its place; or else why it is not wholly in force.
fn of_object(status: &mesh::Status) -> Vec<Finding> {
    let object = report::object(status);
    let said = |why: &str| format!("{} {} is {}: {why}", object.kind, object.name, object.state);
    let whole = || {
        Problem::new(
            &status.file,
            status.at,
            said(&object.reasons.join("; ")),
            "",
        )
    };
    let in_text = status.problems.iter().map(|problem| Problem {
        message: said(&problem.message),
        ..problem.clone()
    });
    let mut problems: Vec<Problem> = in_text.collect();
    if problems.is_empty() {
        problems.push(whole());
    }
    let grave = status.state != State::Ignored;
    let found = |problem| Finding { problem, grave };
    problems.into_iter().map(found).collect()
}

/// Logs what is to be said of `compiled` and is not in `known`; returns what is known now.
pub(super) fn log_new(compiled: &Compiled, known: &BTreeSet<Finding>) -> BTreeSet<Finding> {
    let found: BTreeSet<Finding> = findings(compiled).into_iter().collect();
    for Finding { problem, grave } in found.difference(known) {
        let hint = match problem.hint.as_str() {
            "" => String::new(),
            hint => format!(": {hint}"),
        };
        if *grave {
            tracing::error!("{problem}{hint}");
        } else {
            tracing::warn!("{problem}{hint}");
        }
    }
    found
}
