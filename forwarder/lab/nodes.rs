//! `farlane run` on the nodes of a world: their manifests, their keys, their start.

use std::path::PathBuf;
use std::time::Duration;

use super::error::LabError;
use super::world::{NODES, Node, World};

/// So long a node may take until it answers.
const PATIENCE: Duration = Duration::from_secs(15);

/// Puts a manifest among those of a cluster, renamed into place, as a running node wants it.
///
/// # Errors
/// [`LabError::File`].
pub(crate) fn apply(world: &World, cluster: &str, name: &str, text: &str) -> Result<(), LabError> {
    let path = manifest(world, cluster, name);
    let draft = world.dir().join("draft");
    let moved = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &path));
    moved.map_err(|error| LabError::file(&path, error))
}

/// Reads a manifest of a cluster.
///
/// # Errors
/// [`LabError::File`].
pub(crate) fn read(world: &World, cluster: &str, name: &str) -> Result<String, LabError> {
    let path = manifest(world, cluster, name);
    std::fs::read_to_string(&path).map_err(|error| LabError::file(&path, error))
}

fn manifest(world: &World, cluster: &str, name: &str) -> PathBuf {
    world.dir().join("manifests").join(cluster).join(name)
}

/// Gives each node its key, puts its Node object where both clusters read it, starts both, and waits
/// until they answer. Returns their processes.
///
/// # Errors
/// [`LabError`], with the end of a node's log.
pub(crate) fn start(world: &mut World) -> Result<Vec<u32>, LabError> {
    let farlane = world.farlane.display().to_string();
    for node in &NODES {
        let config = file(world, node, "node.yaml");
        let object = world.run(node.name, &[&farlane, "node", "--config", &config])?;
        apply(
            world,
            node.cluster,
            &format!("node-{}.yaml", node.name),
            &object,
        )?;
    }
    let mut processes = Vec::new();
    for node in &NODES {
        let config = file(world, node, "node.yaml");
        let pid = world.serve(
            node.name,
            "node",
            &[&farlane, "run", "--config", &config],
            &[],
        )?;
        processes.push(pid);
        let socket = socket(world, node);
        let status = [&farlane, "status", "--json", "--socket", &socket];
        let ready = || world.run(node.name, &status).is_ok();
        if !world.interrupt().clone().eventually(PATIENCE, ready)? {
            let said = format!("it does not answer:\n{}", world.last_words(pid));
            return Err(LabError::step(
                format!("farlane run on {}", node.name),
                said,
            ));
        }
    }
    Ok(processes)
}

/// Where a node answers what `farlane status` and others ask.
pub(crate) fn socket(world: &World, node: &Node) -> String {
    file(world, node, "farlane.sock")
}

fn file(world: &World, node: &Node, name: &str) -> String {
    world.dir().join(node.name).join(name).display().to_string()
}
