//! The numbers of identities, kept across restarts: what had one takes it over, although it may have
//! been another's first choice (`mesh` numbers sets of labels by what they say).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use policy::{Identity, Labels};
use serde::{Deserialize, Serialize};

use super::last_good::write_whole;

/// The file `stateDir/identities.json`, with the identities that are in use.
#[derive(Debug)]
pub(super) struct Numbers {
    path: PathBuf,
    /// What stands in the file.
    kept: Vec<(Identity, Labels)>,
}

/// One identity, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    identity: u32,
    labels: BTreeMap<String, String>,
}

impl Numbers {
    /// What was kept. Without it, if it cannot be read, numbers may be others than before: nothing
    /// but that, so it is said and no more.
    pub(super) fn load(state_dir: &Path) -> Numbers {
        let path = state_dir.join("identities.json");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::from("[]")),
            text => text,
        };
        let lines = text.map_err(|error| error.to_string()).and_then(|text| {
            serde_json::from_str::<Vec<Line>>(&text).map_err(|error| error.to_string())
        });
        let lines = lines.unwrap_or_else(|error| {
            tracing::error!(
                path = %path.display(),
                error,
                "cannot be read: identities may have other numbers than before"
            );
            Vec::new()
        });
        let lines = lines.into_iter();
        let kept = lines.map(|line| (Identity(line.identity), line.labels.into_iter().collect()));
        Numbers {
            path,
            kept: kept.collect(),
        }
    }

    /// The identities that were kept.
    pub(super) fn kept(&self) -> &[(Identity, Labels)] {
        &self.kept
    }

    /// Keeps these, if they are others.
    pub(super) fn keep(&mut self, identities: &[(Identity, Labels)]) {
        if self.kept == identities {
            return;
        }
        match self.write(identities) {
            Ok(()) => self.kept = identities.to_vec(),
            Err(error) => tracing::error!(
                path = %self.path.display(),
                %error,
                "the identities' numbers cannot be kept"
            ),
        }
    }

    fn write(&self, identities: &[(Identity, Labels)]) -> std::io::Result<()> {
        let text = |text: &str| text.to_owned();
        let lines = identities.iter().map(|(identity, labels)| Line {
            identity: identity.0,
            labels: labels.iter().map(|(k, v)| (text(k), text(v))).collect(),
        });
        let bytes = serde_json::to_vec(&lines.collect::<Vec<_>>())?;
        write_whole(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outlive_the_process_and_a_broken_file_is_none() {
        let state = std::env::temp_dir().join(format!("farlane-numbers-{}", std::process::id()));
        std::fs::create_dir_all(&state).expect("a directory of our own");
        let labels = Labels::from_iter([("app", "a \"quoted\" one")]);
        let identities = [(Identity(0x1_0101), labels)];
        let mut numbers = Numbers::load(&state);
        assert_eq!(numbers.kept(), []);
        numbers.keep(&identities);
        assert_eq!(Numbers::load(&state).kept(), identities);
        let file = state.join("identities.json");
        for broken in ["", "[{", "{}", "[{\"identity\": -1, \"labels\": {}}]"] {
            std::fs::write(&file, broken).expect("writable");
            assert_eq!(Numbers::load(&state).kept(), [], "{broken}");
        }
        // It mends itself.
        Numbers::load(&state).keep(&identities);
        assert_eq!(Numbers::load(&state).kept(), identities);
        std::fs::remove_dir_all(&state).expect("ours");
    }
}
