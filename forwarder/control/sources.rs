//! The watched manifest directories. A file is read when it was closed after writing or renamed
//! into place, never in the middle of being written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A manifest of this size would hold some 100,000 pods; a larger one is refused.
pub(crate) const FILE_MAX: u64 = 256 << 20;

/// One cluster's manifests: a directory, or a single file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Id of the cluster whose objects these are.
    pub cluster: u8,
    /// The directory or file.
    pub path: PathBuf,
    /// SHA-256 of each file as it was last read, by name.
    files: BTreeMap<String, String>,
}

/// What happened to a file.
#[derive(Debug)]
pub(crate) enum Change {
    /// It has this content now.
    Content {
        /// Its name within the source.
        file: String,
        /// Its text; what is not UTF-8 was replaced, and will not parse.
        text: String,
        /// SHA-256 of its bytes in hex, as `sha256sum` prints it.
        hash: String,
    },
    /// It is there, and cannot be read.
    Unreadable {
        /// Its name within the source.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is gone.
    Gone {
        /// Its name within the source.
        file: String,
    },
}

/// What the watcher saw: which files may be read now.
#[derive(Debug)]
pub(crate) enum Seen {
    /// These files were closed, moved or removed.
    Files(Vec<PathBuf>),
    /// Something else, or too much: everything is to be looked at.
    Anything,
}

impl Change {
    /// The file's name within its source.
    pub(crate) fn file(&self) -> String {
        match self {
            Change::Content { file, .. }
            | Change::Unreadable { file, .. }
            | Change::Gone { file } => file.clone(),
        }
    }

    /// Its text, where there is one.
    pub(crate) fn text(&self) -> String {
        match self {
            Change::Content { text, .. } => text.clone(),
            Change::Unreadable { .. } | Change::Gone { .. } => String::new(),
        }
    }
}

impl Seen {
    /// The files that it names.
    pub(crate) fn paths(self) -> Vec<PathBuf> {
        match self {
            Seen::Files(paths) => paths,
            Seen::Anything => Vec::new(),
        }
    }
}

impl Source {
    pub(crate) fn new(cluster: u8, path: &Path) -> Source {
        Source {
            cluster,
            path: path.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Looks at every file and returns what has changed since it was last read.
    ///
    /// # Errors
    /// What the system said of the directory, or of the one file.
    pub(crate) fn read_all(&mut self) -> std::io::Result<Vec<Change>> {
        let present = self.list()?;
        let known: BTreeSet<String> = self.files.keys().cloned().collect();
        Ok(known
            .union(&present)
            .filter_map(|file| self.read(file))
            .collect())
    }

    /// Looks at the files of `paths` that are this source's.
    pub(crate) fn read_some(&mut self, paths: &[PathBuf]) -> Vec<Change> {
        let names: BTreeSet<String> = paths.iter().filter_map(|path| self.name_of(path)).collect();
        names.iter().filter_map(|file| self.read(file)).collect()
    }

    /// The directory that is watched for it.
    pub(crate) fn directory(&self) -> &Path {
        if self.is_file() {
            self.path.parent().unwrap_or(Path::new("/"))
        } else {
            &self.path
        }
    }

    fn is_file(&self) -> bool {
        self.path.is_file() || (!self.path.exists() && is_manifest(&self.path))
    }

    fn list(&self) -> std::io::Result<BTreeSet<String>> {
        if self.is_file() {
            return Ok(self.name_of(&self.path).into_iter().collect());
        }
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(self.name_of(&entry?.path()));
        }
        Ok(names)
    }

    /// The name of a file, if it is a manifest of this source.
    fn name_of(&self, path: &Path) -> Option<String> {
        let ours = if self.is_file() {
            path == self.path
        } else {
            path.parent() == Some(self.path.as_path())
        };
        (ours && is_manifest(path))
            .then(|| path.file_name()?.to_str().map(str::to_owned))
            .flatten()
    }

    fn read(&mut self, file: &str) -> Option<Change> {
        let path = self.directory().join(file);
        match read_limited(&path) {
            Ok(bytes) => {
                let hash = hash_of(&bytes);
                if self.files.insert(file.to_owned(), hash.clone()).as_ref() == Some(&hash) {
                    return None;
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Some(Change::Content {
                    file: file.to_owned(),
                    text,
                    hash,
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.files.remove(file)?;
                Some(Change::Gone {
                    file: file.to_owned(),
                })
            }
            Err(error) => Some(Change::Unreadable {
                file: file.to_owned(),
                error,
            }),
        }
    }
}

/// Whether a file is read at all: any name that ends in .yaml, .yml or .json.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// SHA-256 in hex, as `sha256sum` prints it.
pub(crate) fn hash_of(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > FILE_MAX {
        return Err(std::io::Error::other(format!(
            "it has {length} bytes; at most {FILE_MAX} are read"
        )));
    }
    std::fs::read(path)
}

/// Sees what changes in the sources' directories, as long as it lives.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches the directories of `sources`, and where each lies: one that is removed and made
    /// again, or exchanged by a rename, is another one to the kernel (inotify(7)).
    ///
    /// # Errors
    /// What the system said: a directory that does not exist, no more inotify watches.
    pub(crate) fn new(
        sources: &[Source],
    ) -> notify::Result<(Watch, mpsc::UnboundedReceiver<Seen>)> {
        let (seen, receiver) = mpsc::unbounded_channel();
        let directories: BTreeSet<PathBuf> = sources
            .iter()
            .map(|source| source.directory().to_owned())
            .collect();
        let whole = directories.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if let Some(what) = event.map_or(Some(Seen::Anything), |event| look(event, &whole)) {
                // The receiver goes when the node ends.
                let _ = seen.send(what);
            }
        })?;
        let mut watch = Watch {
            watcher,
            directories,
        };
        for directory in &watch.directories {
            watch
                .watcher
                .watch(directory, RecursiveMode::NonRecursive)?;
        }
        let parents: BTreeSet<&Path> = watch
            .directories
            .iter()
            .filter_map(|directory| directory.parent())
            .filter(|parent| !watch.directories.contains(*parent))
            .collect();
        for parent in parents {
            watch.watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        Ok((watch, receiver))
    }

    /// Watches the directories anew that may have been exchanged.
    pub(crate) fn renew(&mut self) {
        for directory in &self.directories {
            // Its old watch died with it, if it is another one.
            let _ = self.watcher.unwatch(directory);
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %directory.display(), "cannot be watched");
            }
        }
    }
}

fn look(event: Event, directories: &BTreeSet<PathBuf>) -> Option<Seen> {
    let whole = event.need_rescan()
        || event
            .paths
            .iter()
            .any(|path| directories.contains(path) || (!is_manifest(path) && path.is_symlink()));
    match event.kind {
        // To read a directory opens and closes it, which changes nothing.
        EventKind::Access(AccessKind::Open(_) | AccessKind::Close(AccessMode::Read)) => None,
        // A ConfigMap volume changes by moving one symbolic link; a whole directory may be exchanged.
        _ if whole => Some(Seen::Anything),
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Some(Seen::Files(event.paths)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("farlane-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory of our own");
        path
    }

    #[test]
    fn a_file_is_told_once_for_each_content_and_when_it_goes() {
        let path = directory("sources");
        let mut source = Source::new(1, &path);
        std::fs::write(path.join("a.yaml"), "kind: Pod").expect("writable");
        std::fs::write(path.join("notes.txt"), "no manifest").expect("writable");
        let changes = source.read_all().expect("readable");
        assert!(matches!(&changes[..], [Change::Content { file, .. }] if file == "a.yaml"));
        assert!(source.read_all().expect("readable").is_empty());
        std::fs::remove_file(path.join("a.yaml")).expect("ours");
        let changes = source.read_some(&[path.join("a.yaml"), path.join("notes.txt")]);
        assert!(matches!(&changes[..], [Change::Gone { file }] if file == "a.yaml"));
        std::fs::remove_dir_all(&path).expect("ours");
    }

    /// Whatever is seen within two seconds that `wanted` says yes to.
    fn sees(seen: &mut mpsc::UnboundedReceiver<Seen>, wanted: impl Fn(&Seen) -> bool) -> bool {
        (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            std::iter::from_fn(|| seen.try_recv().ok()).any(|seen| wanted(&seen))
        })
    }

    #[test]
    fn a_directory_that_is_exchanged_is_watched_again() {
        let path = directory("watch");
        let manifests = path.join("manifests");
        std::fs::create_dir(&manifests).expect("a directory of our own");
        let sources = [Source::new(1, &manifests)];
        let (mut watch, mut seen) = Watch::new(&sources).expect("inotify");
        let is_anything = |seen: &Seen| matches!(seen, Seen::Anything);
        let file = manifests.join("a.yaml");
        for _ in 0..2 {
            std::fs::remove_dir_all(&manifests).expect("ours");
            std::fs::create_dir(&manifests).expect("ours");
            assert!(sees(&mut seen, is_anything));
            watch.renew();
            std::fs::write(&file, "kind: Pod").expect("writable");
            assert!(sees(
                &mut seen,
                |seen| matches!(seen, Seen::Files(files) if files.contains(&file))
            ));
        }
        std::fs::remove_dir_all(&path).expect("ours");
    }
}
