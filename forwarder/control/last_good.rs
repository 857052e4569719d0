//! The last good version of each manifest, kept across restarts: a file that does not parse must
//! not take away what it last said, also if the node starts anew meanwhile.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The copies, in `stateDir/last-good/CLUSTER-ID/FILE`.
#[derive(Debug)]
pub(crate) struct LastGood {
    directory: PathBuf,
}

impl LastGood {
    pub(super) fn new(state_dir: &Path) -> LastGood {
        LastGood {
            directory: state_dir.join("last-good"),
        }
    }

    /// Whether a node with this state directory has ever run.
    pub(super) fn has_any(&self) -> bool {
        self.directory.is_dir()
    }

    /// Notes that a node has run, so that the next start is not the first.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn begin(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)
    }

    /// The last good version of a file.
    pub(super) fn load(&self, cluster: u8, file: &str) -> Option<String> {
        std::fs::read_to_string(self.path(cluster, file)).ok()
    }

    /// Keeps a good version: written beside and moved into place.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn save(&self, cluster: u8, file: &str, text: &str) -> std::io::Result<()> {
        let path = self.path(cluster, file);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // No manifest has the ending of a part, so a copy that was cut short is never taken for one.
        write_whole(&path, text.as_bytes())
    }

    /// Forgets a file that is gone.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn forget(&self, cluster: u8, file: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.path(cluster, file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets all files of a cluster but `present`: what was removed while no node ran.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn forget_others(
        &self,
        cluster: u8,
        present: &BTreeSet<String>,
    ) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(self.directory.join(cluster.to_string())) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_none_or(|name| !present.contains(name)) {
                std::fs::remove_file(self.directory.join(cluster.to_string()).join(name))?;
            }
        }
        Ok(())
    }

    fn path(&self, cluster: u8, file: &str) -> PathBuf {
        self.directory.join(cluster.to_string()).join(file)
    }
}

/// Writes a file beside its place, with the ending `part`, and moves it there: who reads finds all or
/// nothing.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_version_outlives_the_process_until_its_file_is_gone() {
        let state = std::env::temp_dir().join(format!("farlane-last-good-{}", std::process::id()));
        let kept = LastGood::new(&state);
        assert!(!kept.has_any());
        kept.save(1, "pods.yaml", "kind: Pod").expect("writable");
        kept.save(1, "old.yaml", "kind: Pod").expect("writable");
        let again = LastGood::new(&state);
        assert!(again.has_any());
        assert_eq!(again.load(1, "pods.yaml").as_deref(), Some("kind: Pod"));
        assert_eq!(again.load(2, "pods.yaml"), None);
        again
            .forget_others(1, &BTreeSet::from([String::from("pods.yaml")]))
            .expect("ours");
        assert_eq!(again.load(1, "old.yaml"), None);
        again.forget(1, "pods.yaml").expect("ours");
        again
            .forget(1, "pods.yaml")
            .expect("forgetting twice is no error");
        assert_eq!(again.load(1, "pods.yaml"), None);
        std::fs::remove_dir_all(&state).expect("ours");
    }
}
