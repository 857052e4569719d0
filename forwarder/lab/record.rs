//! Who made what: one file a run in /run/farlane-lab, written before anything is made and removed
//! last, so that what a killed run left has a name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::LabError;
use super::machine;

/// Where the records lie; it is gone after a reboot, as the namespaces are.
const RECORDS: &str = "/run/farlane-lab";
/// What the name of every run begins with, and so of every namespace of the lab.
const PREFIX: &str = "flab";
/// Where iproute2 keeps named namespaces (ip-netns(8)).
const NAMESPACES: &str = "/run/netns";

/// One run of `farlane lab up`, `bench` or `demo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Its name, which its namespaces begin with.
    pub(crate) run: String,
    /// `up`, `bench` or `demo`.
    pub(crate) verb: String,
    /// The process that made it.
    pub(crate) pid: u32,
    /// When that process was started, in clock ticks after boot: an id alone comes again.
    pub(crate) pid_started_ticks: u64,
    /// RFC 3339.
    pub(crate) started: String,
    /// Its files.
    pub(crate) dir: PathBuf,
}

/// What is left of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Left {
    /// Its name.
    pub(crate) run: String,
    /// What it wrote of itself; nothing where only its namespaces are there.
    pub(crate) record: Option<Record>,
    /// Its network namespaces.
    pub(crate) namespaces: Vec<String>,
}

impl Record {
    /// Writes the record of a new run of this process.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub(crate) fn write(verb: &str) -> Result<Record, LabError> {
        let pid = std::process::id();
        let taken = |run: &String| left().iter().any(|left| left.run == *run);
        // Another run has the name where a process id has come again.
        let names = ["", "b", "c", "d"].map(|more| format!("{PREFIX}{pid:x}{more}"));
        let name = names.into_iter().find(|name| !taken(name));
        let run =
            name.ok_or_else(|| LabError::Asked("remove old labs: farlane lab down".into()))?;
        let record = Record {
            dir: std::env::temp_dir().join(format!("farlane-{run}")),
            run,
            verb: verb.to_owned(),
            pid,
            pid_started_ticks: machine::started_ticks(pid).unwrap_or(0),
            started: machine::now(),
        };
        let path = record.path();
        let failed = |error| LabError::file(&path, error);
        fs::create_dir_all(RECORDS).map_err(failed)?;
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        fs::write(&path, text + "\n").map_err(failed)?;
        Ok(record)
    }

    /// Forgets the run.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.path());
    }

    /// Whether the process that made it is still there.
    pub(crate) fn is_held(&self) -> bool {
        machine::started_ticks(self.pid) == Some(self.pid_started_ticks)
    }

    fn path(&self) -> PathBuf {
        Path::new(RECORDS).join(format!("{}.json", self.run))
    }
}

impl Left {
    /// Whether somebody still works with it.
    pub(crate) fn is_held(&self) -> bool {
        self.record.as_ref().is_some_and(Record::is_held)
    }

    /// Whose it is, in one sentence.
    pub(crate) fn describe(&self) -> String {
        let namespaces = match self.namespaces.as_slice() {
            [] => "no network namespace".to_owned(),
            all => format!("network namespaces {}", all.join(", ")),
        };
        match &self.record {
            None => format!(
                "{namespaces}: left by run {}, of which there is no record",
                self.run
            ),
            Some(record) if record.is_held() => format!(
                "{namespaces}: in use by run {} (`farlane lab {}`, process {}), started at {}",
                self.run, record.verb, record.pid, record.started
            ),
            Some(record) if record.verb == "up" => format!(
                "{namespaces}: put up by run {} (`farlane lab up`), started at {}",
                self.run, record.started
            ),
            Some(record) => format!(
                "{namespaces}: left by run {} (`farlane lab {}`, process {}, which is gone), started at {}",
                self.run, record.verb, record.pid, record.started
            ),
        }
    }
}

/// All that stands or was left on this machine, by name.
pub(crate) fn left() -> Vec<Left> {
    let records = names_in(Path::new(RECORDS));
    let records = records.iter().filter_map(|name| {
        let text = fs::read_to_string(Path::new(RECORDS).join(name)).ok()?;
        serde_json::from_str(&text).ok()
    });
    gather(records.collect(), &names_in(Path::new(NAMESPACES)))
}

/// Which namespaces are of which run.
fn gather(records: Vec<Record>, namespaces: &BTreeSet<String>) -> Vec<Left> {
    let run_of = |namespace: &str| {
        let (run, _) = namespace.split_once('-')?;
        let number = run.strip_prefix(PREFIX)?;
        let hex = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| run.to_owned())
    };
    let mut runs: BTreeSet<String> = records.iter().map(|record| record.run.clone()).collect();
    runs.extend(namespaces.iter().filter_map(|name| run_of(name)));
    let one = |run: String| Left {
        record: records.iter().find(|record| record.run == run).cloned(),
        namespaces: namespaces
            .iter()
            .filter(|name| run_of(name).as_deref() == Some(run.as_str()))
            .cloned()
            .collect(),
        run,
    };
    runs.into_iter().map(one).collect()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: &str, verb: &str) -> Record {
        Record {
            run: run.into(),
            verb: verb.into(),
            // No process has this id (proc_sys_kernel(5): pid_max is 2^22).
            pid: u32::MAX,
            pid_started_ticks: 7,
            started: "2026-11-28T04:00:00Z".into(),
            dir: "/nowhere".into(),
        }
    }

    #[test]
    fn namespaces_are_given_to_the_run_whose_name_they_begin_with_and_foreign_ones_to_none() {
        let names = [
            "flab1f-eu-1",
            "flab1f-us-1",
            "flab2-world",
            "flabx-eu-1",
            "other",
            "flab-a",
        ];
        let names = names.map(String::from).into();
        let left = gather(
            vec![record("flab1f", "bench"), record("flab9", "up")],
            &names,
        );
        let runs: Vec<(&str, usize, bool)> = left
            .iter()
            .map(|left| {
                (
                    left.run.as_str(),
                    left.namespaces.len(),
                    left.record.is_some(),
                )
            })
            .collect();
        assert_eq!(
            runs,
            [("flab1f", 2, true), ("flab2", 1, false), ("flab9", 0, true)]
        );
    }

    #[test]
    fn what_was_left_is_told_with_its_run_its_process_and_when_it_began() {
        let left = Left {
            run: "flab1f".into(),
            record: Some(record("flab1f", "bench")),
            namespaces: vec!["flab1f-eu-1".into()],
        };
        assert!(!left.is_held());
        let text = left.describe();
        for part in [
            "flab1f-eu-1",
            "left by run flab1f",
            "lab bench",
            "2026-11-28T04:00:00Z",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_run_of_this_process_is_held() {
        let mut own = record("flab1", "bench");
        own.pid = std::process::id();
        own.pid_started_ticks = machine::started_ticks(own.pid).unwrap();
        assert!(own.is_held());
        own.pid_started_ticks += 1;
        assert!(!own.is_held());
    }
}
