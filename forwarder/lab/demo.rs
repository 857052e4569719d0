//! What Farlane does, shown in a minute: two clusters, who reaches whom, through which backend, how
//! fast, and how a service moves to the other cluster and back. Whatever is not as the policies and
//! services say is told.

mod fail_over;
mod manifests;
mod reach;
mod services;
mod throughput;
mod underlay;

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::error::LabError;
use super::interrupt::Interrupt;
use super::nodes;
use super::world::{Pod, World};

const PODS: [&str; 6] = [
    "eu-1/client",
    "eu-1/web",
    "eu-1/guest",
    "us-1/client",
    "us-1/web",
    "us-1/guest",
];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Where web serves.
const WEB_PORT: u16 = 8080;
/// What pods' links carry.
const MTU: u16 = 1_420;

/// The demonstration on its way.
struct Demo {
    world: World,
    pods: Vec<Pod>,
    /// The nodes' processes.
    processes: Vec<u32>,
    /// What was seen, for programs.
    seen: Map<String, Value>,
    /// What was not as it must be.
    unexpected: Vec<String>,
}

/// Shows everything, and returns what was seen: `ok`, `unexpected`, `seconds`, and a list for each
/// part.
///
/// # Errors
/// [`LabError::Interrupted`]. Whatever else does not work is something unexpected.
pub(crate) fn run(interrupt: &Interrupt) -> Result<Value, LabError> {
    let begun = Instant::now();
    let (mut seen, mut unexpected) = (Map::new(), Vec::new());
    match World::up("demo", &PODS, MTU, interrupt) {
        Ok(world) => {
            println!(
                "Two clusters, eu and us, a node and three pods each, in network namespaces of this machine."
            );
            let mut demo = Demo {
                world,
                pods: Vec::new(),
                processes: Vec::new(),
                seen,
                unexpected,
            };
            let shown = demo.show();
            (seen, unexpected) = (demo.seen, demo.unexpected);
            match shown {
                Ok(()) => {}
                Err(LabError::Interrupted) => return Err(LabError::Interrupted),
                Err(error) => unexpected.push(error.to_string()),
            }
        }
        Err(LabError::Interrupted) => return Err(LabError::Interrupted),
        Err(error) => unexpected.push(error.to_string()),
    }
    let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    println!();
    match unexpected.as_slice() {
        [] => println!("Everything is as the policies and services say ({seconds:.0} s)."),
        all => {
            println!("Not as expected:");
            all.iter().for_each(|text| println!("  {text}"));
        }
    }
    seen.insert("ok".into(), unexpected.is_empty().into());
    seen.insert("unexpected".into(), json!(unexpected));
    seen.insert("seconds".into(), json!(seconds));
    Ok(Value::Object(seen))
}

impl Demo {
    fn show(&mut self) -> Result<(), LabError> {
        self.start()?;
        let captures = underlay::watch(self)?;
        reach::show(self)?;
        services::show(self)?;
        underlay::show(self, captures)?;
        throughput::show(self)?;
        fail_over::show(self)
    }

    /// Both nodes with policies and services, and what the pods serve.
    fn start(&mut self) -> Result<(), LabError> {
        self.pods = self.world.pods()?;
        self.world.write_files()?;
        for cluster in ["eu", "us"] {
            nodes::apply(&self.world, cluster, "policies.yaml", manifests::POLICIES)?;
            for service in &services::SERVICES {
                let name = format!("service-{}.yaml", service.name);
                nodes::apply(
                    &self.world,
                    cluster,
                    &name,
                    &manifests::service(service, cluster),
                )?;
            }
        }
        self.processes = nodes::start(&mut self.world)?;
        for pod in self.pods.clone().iter().filter(|pod| pod.name == "web") {
            self.world
                .serve_own(&pod.place, &["answer", &WEB_PORT.to_string(), &pod.label])?;
        }
        let (a, b) = (
            self.pod("eu-1/client").clone(),
            self.pod("us-1/client").clone(),
        );
        let both = || {
            FAMILIES
                .iter()
                .all(|family| reach::pings(self, &a, b.address(family)))
        };
        if self
            .world
            .interrupt()
            .eventually(Duration::from_secs(10), both)?
        {
            return Ok(());
        }
        let logs = self.processes.iter().map(|pid| self.world.last_words(*pid));
        let logs = logs.collect::<Vec<String>>().join("\n---\n");
        Err(LabError::step(
            "the two clusters do not reach each other; the ends of the logs",
            logs,
        ))
    }

    /// Remembers what is not as it must be.
    fn judge(&mut self, good: bool, text: impl FnOnce() -> String) {
        if !good {
            self.unexpected.push(text());
        }
    }

    /// A pod by its label.
    ///
    /// # Panics
    /// If there is none: our own bug.
    fn pod(&self, label: &str) -> &Pod {
        let pod = self.pods.iter().find(|pod| pod.label == label);
        pod.expect("the demonstration names its own pods")
    }
}

/// A plain table; widths follow the content.
fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let head = head
        .iter()
        .map(|cell| (*cell).to_owned())
        .collect::<Vec<String>>();
    let width = |column: usize| {
        let cells = std::iter::once(&head)
            .chain(rows)
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<String>>().join("  ").trim_end());
    };
    line(&head);
    line(&widths.iter().map(|width| "-".repeat(*width)).collect());
    rows.iter().for_each(line);
}

fn url(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("http://[{address}]:{port}/"),
        false => format!("http://{address}:{port}/"),
    }
}
