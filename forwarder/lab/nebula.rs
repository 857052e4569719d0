//! nebula between the two nodes: an authority, a certificate for each node that covers its pods,
//! and one configuration file each.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::error::LabError;
use super::peer::{Peer, on_path};
use super::program;
use super::world::{NODES, Node, World};

const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 4_242;

/// Starts it on both nodes, and returns its processes.
///
/// # Errors
/// [`LabError`].
pub(crate) fn start(world: &mut World, peer: &Peer) -> Result<Vec<u32>, LabError> {
    certify(world, peer)?;
    let mut processes = Vec::new();
    for node in &NODES {
        let file = world.dir().join(format!("{}.yml", node.name));
        let device = world.device(node);
        std::fs::write(&file, configuration(world.dir(), node, &device))
            .map_err(|error| LabError::file(&file, error))?;
        let (program, file) = (
            peer.program.display().to_string(),
            file.display().to_string(),
        );
        let pid = world.serve(node.name, "peer", &[&program, "-config", &file], &[])?;
        processes.push(pid);
        let made = || {
            world
                .run(node.name, &["ip", "link", "show", &device])
                .is_ok()
        };
        if !world.interrupt().clone().eventually(PATIENCE, made)? {
            return Err(LabError::step(peer.name.clone(), world.last_words(pid)));
        }
        // Old ones make the route of `unsafe_routes` themselves.
        let _ = world.run(
            node.name,
            &["ip", "route", "replace", node.other().pods, "dev", &device],
        );
    }
    Ok(processes)
}

/// nebula-cert stands beside nebula.
fn certify(world: &World, peer: &Peer) -> Result<(), LabError> {
    let beside = peer.program.with_file_name("nebula-cert");
    let tool = Some(beside)
        .filter(|path| path.exists())
        .or_else(|| on_path("nebula-cert"));
    let tool = tool.ok_or(LabError::Missing {
        program: "nebula-cert",
        package: "nebula",
    })?;
    let call = |words: &[&str]| {
        let mut command = Command::new(&tool);
        command.args(words).current_dir(world.dir());
        program::run(&mut command, world.interrupt(), PATIENCE)
    };
    call(&["ca", "-name", "lab"])?;
    for node in &NODES {
        let address = format!("{}/24", inside(node));
        call(&[
            "sign", "-name", node.name, "-ip", &address, "-subnets", node.pods,
        ])?;
    }
    Ok(())
}

fn inside(node: &Node) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, 0, node.address.octets()[3])
}

fn configuration(dir: &Path, node: &Node, device: &str) -> String {
    let (dir, name, other) = (dir.display(), node.name, node.other());
    let (there, far) = (inside(other), other.address);
    format!(
        "\
pki:
  ca: {dir}/ca.crt
  cert: {dir}/{name}.crt
  key: {dir}/{name}.key
static_host_map:
  \"{there}\": [\"{far}:{PORT}\"]
lighthouse:
  am_lighthouse: false
listen:
  host: 0.0.0.0
  port: {PORT}
  batch: 64
  read_buffer: 10485760
  write_buffer: 10485760
tun:
  dev: {device}
  mtu: 1300
  unsafe_routes:
    - {{route: {pods}, via: {there}, mtu: 1300}}
logging:
  level: error
firewall:
  outbound:
    - {{port: any, proto: any, host: any}}
  inbound:
    - {{port: any, proto: any, host: any}}
",
        pods = other.pods
    )
}
