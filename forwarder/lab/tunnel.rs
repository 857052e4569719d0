//! Puts one peer between the two nodes of a world: starts it on both, gives it keys and routes, and
//! waits until a datagram of a pod comes back from the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::error::LabError;
use super::nebula;
use super::nodes;
use super::peer::{Kind, Peer};
use super::world::{CLIENT, NODES, Node, SERVER, SERVER_ADDRESS, World};
use crate::keys;

/// Where the server's pod answers: iperf3, and the lab's own servers.
pub(crate) const IPERF_PORT: u16 = 5201;
pub(crate) const DATAGRAM_PORT: u16 = 7001;
pub(crate) const ECHO_PORT: u16 = 7002;
pub(crate) const ACCEPT_PORT: u16 = 7003;

/// Port of a foreign peer on the underlay.
const WIREGUARD_PORT: u16 = 51_820;
/// Where the lab's own bad link listens.
const RELAY_PORT: u16 = 51_900;
/// So long a peer may take until it listens, and until it carries.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a global service's cluster IP is in the client's cluster.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 101, 0, 52);

/// A peer that carries.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Its processes, one on each node; none for plain forwarding.
    pub(crate) processes: Vec<u32>,
    /// What the client asks for: the service's address through `farlane run`, else the pod's own.
    pub(crate) address: Ipv4Addr,
    /// The same for new connections, where each peer has a service: through others by DNAT.
    pub(crate) service: Ipv4Addr,
}

impl Tunnel {
    /// Starts a peer on both nodes, with an impaired link between them where there is one: only
    /// those for wg(8) can be led over it.
    ///
    /// # Errors
    /// [`LabError`], with what the peer said where it does not carry.
    pub(crate) fn start(
        world: &mut World,
        peer: &Peer,
        link: Option<&str>,
    ) -> Result<Tunnel, LabError> {
        let processes = match peer.kind {
            Kind::Plain => forward(world)?,
            Kind::Node => run_nodes(world)?,
            Kind::Wireguard(words) => wireguard(world, peer, words, link)?,
            Kind::Nebula => nebula::start(world, peer)?,
        };
        let address = match peer.kind {
            Kind::Node => SERVICE,
            _ => SERVER_ADDRESS,
        };
        if peer.kind != Kind::Node {
            translate(world)?;
        }
        let tunnel = Tunnel {
            processes,
            address,
            service: SERVICE,
        };
        tunnel.wait(world, peer)?;
        Ok(tunnel)
    }

    /// Waits until the server's echo comes back.
    fn wait(&self, world: &mut World, peer: &Peer) -> Result<(), LabError> {
        world.serve_own(SERVER, &["echo", &ECHO_PORT.to_string()])?;
        let farlane = world.farlane.display().to_string();
        let to = format!("{}:{ECHO_PORT}", self.address);
        let ask = [&farlane, "lab", "ask", &to, "--count", "1"];
        let carries = || {
            let answer = world.run(CLIENT, &ask);
            answer.is_ok_and(|text| text.contains("\"lost\":0"))
        };
        if world.interrupt().clone().eventually(PATIENCE, carries)? {
            return Ok(());
        }
        let said = self.processes.iter().map(|pid| world.last_words(*pid));
        let said: Vec<String> = said.filter(|text| !text.is_empty()).collect();
        let said = format!(
            "it carries nothing; what it said last:\n{}",
            said.join("\n")
        );
        Err(LabError::step(peer.name.clone(), said))
    }
}

/// Plain forwarding: each node knows the way to the other's pods.
fn forward(world: &World) -> Result<Vec<u32>, LabError> {
    for node in &NODES {
        let (other, via) = (node.other(), node.other().address.to_string());
        world.run(
            node.name,
            &[
                "ip", "route", "add", other.pods, "via", &via, "dev", node.wire,
            ],
        )?;
    }
    Ok(Vec::new())
}

/// A service in front of those who have none, as kube-proxy's nftables mode has it: DNAT with
/// connection tracking.
fn translate(world: &World) -> Result<(), LabError> {
    let rule = format!(
        "add table ip lab; \
         add chain ip lab service {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip lab service ip daddr {SERVICE} tcp dport {ACCEPT_PORT} dnat to {SERVER_ADDRESS}:{ACCEPT_PORT}"
    );
    world.run(NODES[0].name, &["nft", &rule]).map(|_| ())
}

// ---- a program for wg(8) ----

fn wireguard(
    world: &mut World,
    peer: &Peer,
    words: &[&str],
    link: Option<&str>,
) -> Result<Vec<u32>, LabError> {
    let endpoints = match link {
        Some(link) => impair(world, link)?,
        None => NODES.map(|node| SocketAddr::from((node.other().address, WIREGUARD_PORT))),
    };
    let mut processes = Vec::new();
    let keys = [make_key(world, &NODES[0])?, make_key(world, &NODES[1])?];
    for (index, node) in NODES.iter().enumerate() {
        let device = world.device(node);
        let program = peer.program.display().to_string();
        let command = [&[program.as_str()], words, &[device.as_str()]].concat();
        // wireguard-go and those that follow it stay where they are by this.
        let environment = [
            ("WG_PROCESS_FOREGROUND", "1"),
            ("LOG_LEVEL", "error"),
            ("WG_SUDO", "1"),
        ];
        let pid = world.serve(node.name, "peer", &command, &environment)?;
        processes.push(pid);
        let shown = || world.run(node.name, &["wg", "show", &device]).is_ok();
        if !world.interrupt().clone().eventually(PATIENCE, shown)? {
            let said = format!("it does not make {device}:\n{}", world.last_words(pid));
            return Err(LabError::step(peer.name.clone(), said));
        }
        let (other, port) = (node.other(), WIREGUARD_PORT.to_string());
        let key = keys[index].0.display().to_string();
        let endpoint = endpoints[index].to_string();
        world.run(
            node.name,
            &[
                "wg",
                "set",
                &device,
                "listen-port",
                &port,
                "private-key",
                &key,
                "peer",
                &keys[1 - index].1,
                "allowed-ips",
                other.pods,
                "endpoint",
                &endpoint,
            ],
        )?;
        world.run(
            node.name,
            &["ip", "link", "set", &device, "mtu", "1420", "up"],
        )?;
        world.run(
            node.name,
            &["ip", "route", "add", other.pods, "dev", &device],
        )?;
    }
    Ok(processes)
}

/// Puts the lab's own bad link between the two: a relay on the first node, which each of them takes
/// for the other. Returns the endpoints that they are to have.
fn impair(world: &mut World, link: &str) -> Result<[SocketAddr; 2], LabError> {
    let [first, second] = NODES;
    let at = |address: Ipv4Addr, port: u16| SocketAddr::from((address, port));
    let near = [
        at(Ipv4Addr::LOCALHOST, RELAY_PORT),
        at(Ipv4Addr::LOCALHOST, WIREGUARD_PORT),
    ];
    let far = [
        at(first.address, RELAY_PORT),
        at(second.address, WIREGUARD_PORT),
    ];
    let words = [near, far].map(|ends| ends.map(|end| end.to_string()));
    let [[a, b], [c, d]] = &words;
    world.serve_own(first.name, &["wire", link, "--near", a, b, "--far", c, d])?;
    Ok([near[0], far[0]])
}

/// A private key in a file, and its public one.
fn make_key(world: &World, node: &Node) -> Result<(PathBuf, String), LabError> {
    let dir = world.dir().join(node.name);
    let key = keys::load_or_make(&dir).map_err(|error| LabError::step("make a key", error))?;
    Ok((dir.join(keys::FILE), keys::to_text(&key.public())))
}

// ---- farlane run ----

/// `farlane run` on both nodes, with all that a packet can meet: identities, a policy at the server,
/// and a global service that the client asks.
fn run_nodes(world: &mut World) -> Result<Vec<u32>, LabError> {
    world.write_files()?;
    for node in &NODES {
        let cluster_ip = match node.cluster {
            "eu" => SERVICE,
            _ => Ipv4Addr::new(10, 102, 0, 52),
        };
        nodes::apply(world, node.cluster, "policy.yaml", POLICY)?;
        nodes::apply(world, node.cluster, "service.yaml", &service(cluster_ip))?;
    }
    nodes::start(world)
}

/// The client's pods of all clusters may reach the ports of the server and of the neighbour, nobody
/// else.
const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: servers-for-clients, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [server, neighbour]}]}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app: client}
            matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]
      ports:
        - {port: 5201, protocol: TCP}
        - {port: 7001, protocol: UDP}
        - {port: 7002, protocol: UDP}
        - {port: 7003, protocol: TCP}
";

fn service(cluster_ip: Ipv4Addr) -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata:
  name: server
  namespace: shop
  annotations: {{service.cilium.io/global: \"true\"}}
spec:
  selector: {{app: server}}
  clusterIP: {cluster_ip}
  clusterIPs: [{cluster_ip}]
  ports:
    - {{name: iperf, port: {IPERF_PORT}, targetPort: {IPERF_PORT}, protocol: TCP}}
    - {{name: datagrams, port: {DATAGRAM_PORT}, targetPort: {DATAGRAM_PORT}, protocol: UDP}}
    - {{name: echo, port: {ECHO_PORT}, targetPort: {ECHO_PORT}, protocol: UDP}}
    - {{name: accept, port: {ACCEPT_PORT}, targetPort: {ACCEPT_PORT}, protocol: TCP}}
"
    )
}
