//! What can go wrong in the lab: one sentence each, that says what to do.

use std::path::{Path, PathBuf};

/// Why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    /// A signal came. Whoever prints this has taken the world down before.
    #[error("interrupted; what the lab made is removed")]
    Interrupted,
    /// Namespaces cannot be made.
    #[error("the lab makes network namespaces: run it as root")]
    NotRoot,
    /// A program that the lab drives is not there.
    #[error(
        "{program} is not on the PATH, and the lab drives it; on Debian: apt-get install {package}"
    )]
    Missing {
        program: &'static str,
        package: &'static str,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Asked(String),
    /// Something that the lab itself needs did not work.
    #[error("{what}: {said}")]
    Step { what: String, said: String },
    /// A file cannot be read, written or understood.
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
}

impl LabError {
    pub(crate) fn step(what: impl Into<String>, said: impl std::fmt::Display) -> LabError {
        LabError::Step {
            what: what.into(),
            said: said.to_string().trim().to_owned(),
        }
    }

    pub(crate) fn file(path: &Path, reason: impl std::fmt::Display) -> LabError {
        LabError::File {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
