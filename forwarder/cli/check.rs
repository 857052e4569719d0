//! `farlane check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::Config;
use mesh::{Compiled, Event, World};

use super::Failure;
use crate::control::findings::{Finding, findings};
use crate::control::{Control, ControlError, is_manifest};

/// Say everything that is wrong or not supported in node files and manifests
///
/// A node file is checked with the manifests that it names, as `run` would read them. Manifests
/// alone are checked as one cluster's.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Node files, manifests, or directories of either
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
}

/// What was said, and how much of it.
#[derive(Default)]
struct Findings {
    lines: Vec<String>,
    wrong: usize,
}

impl Check {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let mut nodes = Vec::new();
        let mut manifests = Vec::new();
        for path in &self.paths {
            for file in files(path)? {
                let bytes =
                    std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                // As `run` reads it: what is not UTF-8 is replaced, and does not parse.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if is_node_file(&text) {
                    nodes.push(file)
                } else {
                    manifests.push((file, text))
                }
            }
        }
        let mut findings = Findings::default();
        for node in &nodes {
            findings.node(node);
        }
        // What a node file names was checked with it, where its cluster gives it a meaning.
        let named: Vec<PathBuf> = nodes.iter().flat_map(|node| named_by(node)).collect();
        let absolute = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        manifests.retain(|(file, _)| !named.iter().any(|n| absolute(file).starts_with(n)));
        findings.manifests(&manifests);
        for line in &findings.lines {
            println!("{line}");
        }
        let read = nodes.len() + manifests.len();
        println!(
            "{} checked, {}",
            counted(read, "file"),
            counted(findings.wrong, "problem")
        );
        Ok(if findings.wrong == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Findings {
    fn node(&mut self, file: &Path) {
        let config = match super::read(file) {
            Ok(config) => config,
            Err(problems) => return problems.into_iter().for_each(|p| self.complain(p)),
        };
        match Control::read_only(config) {
            Ok(compiled) => self.objects(&compiled),
            Err(ControlError::FirstStart(problems)) => {
                problems
                    .into_iter()
                    .for_each(|problem| self.complain(problem));
            }
            Err(error) => self.complain(error.to_string()),
        }
    }

    fn manifests(&mut self, files: &[(PathBuf, String)]) {
        if files.is_empty() {
            return;
        }
        let mut world = World::new(mesh::Settings {
            cluster: String::from("checked"),
            id: 1,
            node: String::new(),
            clusters: Vec::new(),
            keys: Vec::new(),
            audit: false,
        });
        for (file, text) in files {
            let name = file.display().to_string();
            let parsed = mesh::parse(&name, text);
            for problem in &parsed.problems {
                self.complain(problem.render(text));
            }
            world.apply(Event::File {
                cluster: 1,
                file: name,
                parsed,
                hash: String::new(),
            });
        }
        world.apply(Event::Loaded);
        self.objects(&world.compile());
    }

    fn objects(&mut self, compiled: &Compiled) {
        let mut texts = BTreeMap::new();
        for Finding { problem, grave } in findings(compiled) {
            // What was compiled from has been read already; unless it is gone since, it is there.
            let text = texts.entry(problem.file.clone()).or_insert_with(|| {
                let bytes = std::fs::read(&problem.file).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            });
            let said = problem.render(text);
            if grave {
                self.complain(said);
            } else {
                self.lines.push(said);
            }
        }
    }

    fn complain(&mut self, line: String) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
            self.wrong += 1;
        }
    }
}

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A manifest has a `kind`; a node's file has a `cluster`.
fn is_node_file(text: &str) -> bool {
    let begins = |word: &str| text.lines().any(|line| line.starts_with(word));
    begins("cluster:") && !begins("kind:")
}

fn named_by(node: &Path) -> Vec<PathBuf> {
    Config::load(node).map_or_else(
        |_| Vec::new(),
        |config| {
            let others = config
                .clusters
                .iter()
                .map(|cluster| cluster.manifests.clone());
            std::iter::once(config.manifests.clone())
                .chain(others)
                .collect()
        },
    )
}

/// The file itself, or every manifest below a directory, in order.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let io = |error: std::io::Error| format!("{}: {error}", path.display());
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(io)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(io)?.iter().map(|e| e.path()).collect();
    entries.sort();
    let mut all = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            all.extend(files(&entry)?);
        } else if is_manifest(&entry) {
            all.push(entry);
        }
    }
    Ok(all)
}
