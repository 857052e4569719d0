//! From files to events. A file that does not parse leaves its last good version in force (the
//! world sees to that), also across a restart (that is seen to here).

use std::collections::BTreeSet;

use config::{Config, Place, Problem};
use mesh::{Event, Parsed};

use super::ControlError;
use super::last_good::LastGood;
use super::sources::{Change, Seen, Source, hash_of};

/// All sources of a node.
#[derive(Debug)]
pub(crate) struct Intake {
    sources: Vec<Source>,
    kept: LastGood,
}

impl Intake {
    pub(crate) fn new(config: &Config) -> Intake {
        let own = Source::new(config.cluster.id, &config.manifests);
        let others = config
            .clusters
            .iter()
            .map(|c| Source::new(c.cluster.id, &c.manifests));
        Intake {
            sources: std::iter::once(own).chain(others).collect(),
            kept: LastGood::new(&config.state_dir),
        }
    }

    /// Reads everything at the start of the node: for a file that does not parse first its last
    /// good version, if there is one.
    ///
    /// # Errors
    /// [`ControlError::FirstStart`] with all that is wrong, if the node has never run before.
    pub(crate) fn read_first(&mut self) -> Result<Vec<Event>, ControlError> {
        let is_first = !self.kept.has_any();
        let (mut events, mut wrong, mut good) = (Vec::new(), Vec::new(), Vec::new());
        for source in &mut self.sources {
            let path = source.path.display().to_string();
            let changes = source
                .read_all()
                .map_err(|error| ControlError::Source { path, error })?;
            let present: BTreeSet<String> = changes.iter().map(Change::file).collect();
            self.kept.forget_others(source.cluster, &present)?;
            for change in changes {
                let file = change.file();
                let text = change.text();
                let event = event_of(source, change);
                if is_good(&event) {
                    good.push((source.cluster, file, text));
                } else if let Event::File { parsed, .. } = &event {
                    wrong.extend(parsed.problems.iter().map(|p| p.render(&text)));
                    let recalled = recall(source, &self.kept, &file);
                    // At the first start they are the error that ends it.
                    if !is_first {
                        log(&parsed.problems, recalled.is_some());
                    }
                    events.extend(recalled);
                }
                events.push(event);
            }
        }
        if is_first && !wrong.is_empty() {
            return Err(ControlError::FirstStart(wrong));
        }
        // Only now: after a first start that failed the next one is the first again.
        self.kept.begin()?;
        for (cluster, file, text) in good {
            keep(&self.kept, cluster, &file, &text);
        }
        Ok(events)
    }

    /// Reads everything, and keeps nothing.
    ///
    /// # Errors
    /// [`ControlError::FirstStart`] with all that is wrong.
    pub(crate) fn read_once(&mut self) -> Result<Vec<Event>, ControlError> {
        let (mut events, mut wrong) = (Vec::new(), Vec::new());
        for source in &mut self.sources {
            let path = source.path.display().to_string();
            let changes = source
                .read_all()
                .map_err(|error| ControlError::Source { path, error })?;
            for change in changes {
                let (file, text) = (change.file(), change.text());
                let path = source.directory().join(&file).display().to_string();
                let parsed = mesh::parse(&path, &text);
                wrong.extend(parsed.problems.iter().map(|p| p.render(&text)));
                let (cluster, hash) = (source.cluster, hash_of(text.as_bytes()));
                events.push(Event::File {
                    cluster,
                    file,
                    parsed,
                    hash,
                });
            }
        }
        if wrong.is_empty() {
            Ok(events)
        } else {
            Err(ControlError::FirstStart(wrong))
        }
    }

    /// Reads everything again (SIGHUP).
    pub(crate) fn read_again(&mut self) -> Vec<Event> {
        self.read(vec![Seen::Anything])
    }

    /// Reads what the watcher says may be read.
    pub(crate) fn read(&mut self, seen: Vec<Seen>) -> Vec<Event> {
        let anything = seen.iter().any(|seen| matches!(seen, Seen::Anything));
        let paths: Vec<_> = seen.into_iter().flat_map(Seen::paths).collect();
        let mut events = Vec::new();
        for source in &mut self.sources {
            let changes = if anything {
                source.read_all().unwrap_or_else(|error| {
                    tracing::error!(path = %source.path.display(), %error, "cannot be read");
                    Vec::new()
                })
            } else {
                source.read_some(&paths)
            };
            for change in changes {
                let file = change.file();
                let event = take(source, &self.kept, change);
                if let Event::File { parsed, .. } = &event {
                    let any_good = self.kept.load(source.cluster, &file).is_some();
                    log(&parsed.problems, any_good);
                }
                events.push(event);
            }
        }
        events
    }

    /// What is watched.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }
}

/// Says what is wrong with a file, and what is in force in its place.
fn log(problems: &[Problem], any_good: bool) {
    let instead = if any_good {
        "its last good version stays in force"
    } else {
        "nothing of this file is in force"
    };
    for problem in problems {
        tracing::error!("{problem}; {instead}");
    }
}

/// Makes an event of a change, and keeps what is good.
fn take(source: &Source, kept: &LastGood, change: Change) -> Event {
    let text = change.text();
    let event = event_of(source, change);
    match &event {
        Event::File { cluster, file, .. } if is_good(&event) => keep(kept, *cluster, file, &text),
        Event::FileGone { cluster, file } => {
            if let Err(error) = kept.forget(*cluster, file) {
                tracing::error!(file, %error, "its last good version cannot be removed");
            }
        }
        _ => {}
    }
    event
}

fn is_good(event: &Event) -> bool {
    matches!(event, Event::File { parsed, .. } if parsed.problems.is_empty())
}

fn keep(kept: &LastGood, cluster: u8, file: &str, text: &str) {
    if let Err(error) = kept.save(cluster, file, text) {
        tracing::error!(file, %error, "the last good version cannot be kept");
    }
}

/// Makes an event of a change.
fn event_of(source: &Source, change: Change) -> Event {
    let cluster = source.cluster;
    match change {
        Change::Content { file, text, hash } => {
            let path = source.directory().join(&file).display().to_string();
            let parsed = mesh::parse(&path, &text);
            Event::File {
                cluster,
                file,
                parsed,
                hash,
            }
        }
        Change::Unreadable { file, error } => {
            let message = format!("cannot be read: {error}");
            let problem = Problem::new(&file, Place::default(), message, "make it readable");
            let parsed = Parsed {
                problems: vec![problem],
                ..Parsed::default()
            };
            Event::File {
                cluster,
                file,
                parsed,
                hash: String::new(),
            }
        }
        Change::Gone { file } => Event::FileGone { cluster, file },
    }
}

/// The last good version of a file that does not parse when the node starts.
fn recall(source: &Source, kept: &LastGood, file: &str) -> Option<Event> {
    let text = kept.load(source.cluster, file)?;
    let path = source.directory().join(file).display().to_string();
    let parsed = mesh::parse(&path, &text);
    let hash = hash_of(text.as_bytes());
    let file = file.to_owned();
    parsed.problems.is_empty().then_some(Event::File {
        cluster: source.cluster,
        file,
        parsed,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_that_fails_is_followed_by_a_first_start() {
        let home = std::env::temp_dir().join(format!("farlane-intake-{}", std::process::id()));
        let manifests = home.join("manifests");
        std::fs::create_dir_all(&manifests).expect("a directory of our own");
        let file = home.join("node.yaml");
        let text = "cluster: {name: eu, id: 1}\nnode: eu-1\nmanifests: manifests\n\
                    stateDir: state\nwire: {listen: \"192.0.2.1:51871\"}\n";
        std::fs::write(&file, text).expect("writable");
        let policy = manifests.join("policy.yaml");
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n";
        std::fs::write(manifests.join("pod.yaml"), pod).expect("writable");
        std::fs::write(&policy, "kind: [").expect("writable");
        let start = || {
            let config = Config::load(&file).expect("a right file");
            Intake::new(&config).read_first()
        };
        for _ in 0..2 {
            assert!(matches!(start(), Err(ControlError::FirstStart(_))));
        }
        std::fs::write(&policy, pod.replace("name: a", "name: b")).expect("writable");
        assert_eq!(start().expect("everything is right").len(), 2);
        // From now on what was right once stays in force.
        std::fs::write(&policy, "kind: [").expect("writable");
        let events = start().expect("a last good version");
        assert_eq!(events.iter().filter(|event| is_good(event)).count(), 2);
        std::fs::remove_dir_all(&home).expect("ours");
    }
}
