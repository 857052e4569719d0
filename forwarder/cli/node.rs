//! `farlane node`.

use std::path::PathBuf;
use std::process::ExitCode;

use mesh::{Object, parse};
use serde_json::{Value, json};

use super::Failure;
use crate::{keys, node};

/// Print this node's Node object, ready to lie among the other clusters' manifests
///
/// Addresses and pod prefixes are those of its Node object in the own manifests; the keys, which are
/// made if there are none, and the endpoint are added.
#[derive(Debug, clap::Args)]
pub(super) struct Node {
    /// The node's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Node {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let config = super::load(&self.config)?;
        let keys = node::lane_keys(&config)?;
        let own = own(&config)?;
        let mut lanes = Vec::new();
        for (number, key) in (0_u16..).zip(&keys) {
            let addresses = node::lane_addresses(&config, number);
            // What listens on every address is reached by the InternalIP.
            let reachable = addresses.iter().copied().find(|a| !a.ip().is_unspecified());
            let port = addresses.first().map_or(0, std::net::SocketAddr::port);
            let internal = own.addresses.first().map(|a| (a.to_ip(), port).into());
            let endpoint = reachable
                .or(internal)
                .ok_or("the Node object has no InternalIP")?;
            lanes.push((keys::to_text(&key.public()), endpoint.to_string()));
        }
        println!("{}", render(&config.node, &own, &lanes));
        Ok(ExitCode::SUCCESS)
    }
}

/// This node's object among the own cluster's manifests.
fn own(config: &config::Config) -> Result<mesh::Node, Failure> {
    let missing = || {
        format!(
            "no Node object named {} is in {}; add it (kubectl get node {} -o yaml)",
            config.node,
            config.manifests.display(),
            config.node
        )
    };
    let directly = |file: &PathBuf| {
        *file == config.manifests || file.parent() == Some(config.manifests.as_path())
    };
    // Of two objects with one name the later file's wins.
    let files = super::check::files(&config.manifests)?;
    for file in files.into_iter().filter(directly).rev() {
        let bytes = std::fs::read(&file)?;
        let text = String::from_utf8_lossy(&bytes);
        let found = parse(&file.display().to_string(), &text)
            .objects
            .into_iter()
            .filter_map(|l| match l.object {
                Object::Node(node) if node.name == config.node => Some(node),
                _ => None,
            })
            .next_back();
        if let Some(node) = found {
            return Ok(node);
        }
    }
    Err(missing().into())
}

/// JSON is YAML; a document of it can stand in any manifest.
fn render(name: &str, own: &mesh::Node, lanes: &[(String, String)]) -> String {
    let lanes_json: Vec<Value> = lanes
        .iter()
        .map(|(key, endpoint)| json!({"key": key, "endpoint": endpoint}))
        .collect();
    let first = lanes.first().cloned().unwrap_or_default();
    let mut text = String::from("---\n");
    let quoted = |value: &str| Value::from(value).to_string();
    text += "apiVersion: v1\nkind: Node\nmetadata:\n";
    text += &format!("  name: {}\n  annotations:\n", quoted(name));
    text += &format!("    network.cilium.io/wg-pub-key: {}\n", quoted(&first.0));
    text += &format!("    farlane.io/endpoint: {}\n", quoted(&first.1));
    text += &format!(
        "    farlane.io/lanes: {}\n",
        quoted(&Value::from(lanes_json).to_string())
    );
    let prefixes: Vec<String> = own
        .pod_prefixes
        .iter()
        .map(|p| quoted(&p.to_string()))
        .collect();
    text += &format!(
        "spec:\n  podCIDRs: [{}]\nstatus:\n  addresses:\n",
        prefixes.join(", ")
    );
    for address in &own.addresses {
        text += &format!(
            "    - {{type: InternalIP, address: {}}}\n",
            quoted(&address.to_string())
        );
    }
    text.pop();
    text
}
