//! Global services between two running nodes: who serves, by affinity and readiness, and what
//! `status` says of it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::manifests::{cluster_ips, service};
use common::{Pod, Program, Topology, eventually, may_run, unready};

/// The affinity of a service by its number.
const SERVICES: [(u8, &str); 3] = [(80, "local"), (81, "remote"), (82, "none")];

fn world_of_services() -> Topology {
    let world = Topology::up(1, &[]);
    for cluster in ["eu", "us"] {
        for (number, affinity) in SERVICES {
            let name = format!("web-{affinity}");
            let text = service(&name, number, cluster, affinity);
            world.apply(cluster, &format!("{name}.yaml"), &text);
        }
    }
    world
}

fn serve(world: &Topology) -> [Program; 2] {
    ["eu-1", "us-1"].map(|node| world.serve(world.pod(node, "web"), 8080))
}

/// A service over eu's only pod `app: web`, in both families. Nobody listens behind its port 81.
fn own_service(number: u8) -> String {
    let [v4, v6] = cluster_ips(number, "eu");
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: own, namespace: shop}}
spec:
  selector: {{app: web}}
  clusterIP: {v4}
  clusterIPs: [{v4}, \"{v6}\"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
    - {{name: http, port: 80, targetPort: 8080, protocol: TCP}}
    - {{name: names, port: 80, targetPort: 8080, protocol: UDP}}
    - {{name: nobody, port: 81, targetPort: 9, protocol: TCP}}
    - {{name: nothing, port: 81, targetPort: 9, protocol: UDP}}
    - {{name: bulk, port: 90, targetPort: 9000, protocol: TCP}}
"
    )
}

/// The pods `app: web` may speak with nobody.
const CLOSED: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress]}
";

/// Asks port 80 of an address from port 80, which the connection before may have left waiting.
const ASK_FROM_ITS_PORT: &str = r#"
import socket, sys
address = sys.argv[1]
k = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
k.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if ":" in address:
    k.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
k.settimeout(2)
k.bind(("", 80))
k.connect((address, 80))
k.sendall(b"GET / HTTP/1.0\r\n\r\n")
answer = b""
while more := k.recv(4096):
    answer += more
print(answer.decode().rpartition("\r\n\r\n")[2])
"#;

/// Prints the answer to a datagram, or what is wrong.
const ASK_UDP: &str = r#"
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
k = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
k.settimeout(2)
k.connect((address, port))
k.send(b"who?")
try:
    print(k.recv(64).decode())
except OSError as wrong:
    print(type(wrong).__name__)
"#;

/// Serves port 9000 and asks it by the address: prints who the other end is to each, and whether
/// 8 MB there and back are the same. To itself the pod would say its own address.
const BULK: &str = r#"
import os, socket, sys, threading
address = sys.argv[1]
server = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
sent, got = os.urandom(8_000_000), bytearray()
client = socket.create_connection((address, 90), 5)
there, other = server.accept()
# Later it has no peer any more.
asked = client.getpeername()
def echo():
    while data := there.recv(65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)
def send():
    client.sendall(sent)
    client.shutdown(socket.SHUT_WR)
for each in (echo, send):
    threading.Thread(target=each, daemon=True).start()
while data := client.recv(65536):
    got += data
plain = lambda address: address.removeprefix("::ffff:")
same_ports = other[1] == client.getsockname()[1]
print(plain(other[0]), asked[0], asked[1], same_ports, got == sent)
"#;

/// Who answers at a service's address of one family, in so many connections.
fn who(world: &Topology, from: &Pod, address: &str, connections: u32) -> BTreeSet<String> {
    let ask = |_| world.ask(from, address, 80).unwrap_or("nobody".to_owned());
    (0..connections).map(ask).collect()
}

/// The addresses of the backends that `status` shows in use at `frontend`.
fn in_use(world: &Topology, node: &str, frontend: &str) -> BTreeSet<String> {
    let status = world.status(node).expect("the node answers");
    let services = status["services"].as_array().expect("services");
    let service = services
        .iter()
        .find(|service| service["frontend"] == frontend)
        .unwrap_or_else(|| panic!("{frontend} in {services:?}"));
    let backends = service["backends"].as_array().expect("backends");
    let used = backends.iter().filter(|backend| backend["inUse"] == true);
    used.map(|backend| backend["backend"].as_str().unwrap().to_owned())
        .collect()
}

fn socket(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// Waits until eu's client is served by `servers` alone at each address of service `number`, and
/// checks that `status` says the same of both families.
fn served_by(world: &Topology, number: u8, servers: &[&str]) {
    let client = world.pod("eu-1", "client");
    for (family, address) in cluster_ips(number, "eu").iter().enumerate() {
        let wanted: BTreeSet<String> = servers.iter().map(|node| format!("{node}/web")).collect();
        let connections = if servers.len() > 1 { 24 } else { 4 };
        let mut last = BTreeSet::new();
        let reached = eventually(Duration::from_secs(10), || {
            last = who(world, client, address, connections);
            last == wanted
        });
        assert!(reached, "{address} is served by {last:?}, not {wanted:?}");
        let backends = servers.iter().map(|node| {
            let address = world.pod(node, "web").addresses()[family];
            socket(address, 8080)
        });
        let shown = in_use(world, "eu-1", &socket(address, 80));
        assert_eq!(shown, backends.collect(), "status of {address}");
    }
}

#[test]
fn affinity_and_readiness_decide_who_serves_and_status_says_who() {
    if !may_run("affinity_and_readiness_decide_who_serves_and_status_says_who") {
        return;
    }
    let world = world_of_services();
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    let everybody = || {
        served_by(&world, 80, &["eu-1"]);
        served_by(&world, 81, &["us-1"]);
        served_by(&world, 82, &["eu-1", "us-1"]);
    };
    everybody();
    for (cluster, left) in [("eu", "us-1"), ("us", "eu-1")] {
        let ready = world.manifest(cluster, "pods.yaml");
        let name = "web-1";
        world.apply_everywhere(cluster, "pods.yaml", &unready(&ready, name));
        for (number, _) in SERVICES {
            served_by(&world, number, &[left]);
        }
        world.apply_everywhere(cluster, "pods.yaml", &ready);
        everybody();
    }
}

#[test]
fn a_client_stays_where_it_was_and_a_local_policy_keeps_it_on_its_node() {
    if !may_run("a_client_stays_where_it_was_and_a_local_policy_keeps_it_on_its_node") {
        return;
    }
    let world = world_of_services();
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    let client = world.pod("eu-1", "client");
    let [four, _] = cluster_ips(82, "eu");
    let line = "  ipFamilyPolicy: RequireDualStack\n";
    let with = |more: &str| service("web-none", 82, "eu", "none").replace(line, more);
    // Only the remote one serves, then both: who came stays there, whatever flow it is.
    let affinity = with("  sessionAffinity: ClientIP\n");
    world.apply_everywhere("eu", "web-none.yaml", &affinity);
    let ready = world.manifest("eu", "pods.yaml");
    world.apply_everywhere("eu", "pods.yaml", &unready(&ready, "web-1"));
    served_by(&world, 82, &["us-1"]);
    world.apply_everywhere("eu", "pods.yaml", &ready);
    let us = BTreeSet::from(["us-1/web".to_owned()]);
    assert_eq!(who(&world, client, &four, 24), us);
    // The same service for clients of the node that a backend is on.
    world.apply_everywhere(
        "eu",
        "web-none.yaml",
        &with("  internalTrafficPolicy: Local\n"),
    );
    served_by(&world, 82, &["eu-1"]);
    world.apply_everywhere("eu", "pods.yaml", &unready(&ready, "web-1"));
    let before = world.drops("eu-1", "noBackend");
    assert_eq!(world.ask(client, &four, 80), None);
    assert!(world.drops("eu-1", "noBackend") > before);
}

#[test]
fn a_service_without_a_backend_refuses_and_counts() {
    if !may_run("a_service_without_a_backend_refuses_and_counts") {
        return;
    }
    let world = world_of_services();
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    for cluster in ["eu", "us"] {
        let ready = world.manifest(cluster, "pods.yaml");
        world.apply_everywhere(cluster, "pods.yaml", &unready(&ready, "web-1"));
    }
    let client = world.pod("eu-1", "client");
    for address in cluster_ips(80, "eu") {
        let before = world.drops("eu-1", "noBackend");
        assert_eq!(world.ask(client, &address, 80), None);
        assert!(world.drops("eu-1", "noBackend") > before, "{address}");
        assert_eq!(
            in_use(&world, "eu-1", &socket(&address, 80)),
            BTreeSet::new()
        );
    }
}

#[test]
fn in_mode_mesh_a_local_backend_still_answers_from_the_services_address() {
    if !may_run("in_mode_mesh_a_local_backend_still_answers_from_the_services_address") {
        return;
    }
    let world = world_of_services();
    for node in ["eu-1", "us-1"] {
        let file = world.node_file(node);
        let text = fs::read_to_string(&file).unwrap() + "pods: {tun: {intercept: mesh}}\n";
        fs::write(&file, text).unwrap();
    }
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    served_by(&world, 80, &["eu-1"]);
    served_by(&world, 81, &["us-1"]);
    served_by(&world, 82, &["eu-1", "us-1"]);
    let (client, web) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    // What the mesh does not need goes as the host routes it.
    for address in web.addresses() {
        let answer = world.ask(client, address, 8080);
        assert_eq!(answer.as_deref(), Some("eu-1/web"), "{address}");
    }
    let ready = world.manifest("eu", "pods.yaml");
    world.apply_everywhere("eu", "pods.yaml", &unready(&ready, "web-1"));
    served_by(&world, 80, &["us-1"]);
    world.apply_everywhere("eu", "pods.yaml", &ready);
    served_by(&world, 80, &["eu-1"]);
    // It is its own only backend.
    for address in cluster_ips(80, "eu") {
        let answer = world.ask(web, &address, 80);
        assert_eq!(answer.as_deref(), Some("eu-1/web"), "{address}");
    }
}

#[test]
fn a_pod_reaches_itself_through_its_own_service_and_no_policy_forbids_it() {
    if !may_run("a_pod_reaches_itself_through_its_own_service_and_no_policy_forbids_it") {
        return;
    }
    let world = Topology::up(1, &[]);
    world.apply("eu", "own.yaml", &own_service(83));
    world.apply("eu", "closed.yaml", CLOSED);
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    let (client, web) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    for address in cluster_ips(83, "eu") {
        let text = |program, arguments: &[&str]| {
            let output = world.python(&web.namespace, program, arguments);
            output.text.trim().to_owned()
        };
        assert_eq!(world.ask_until(web, &address, 80, "eu-1/web"), "eu-1/web");
        let own_port = text(ASK_FROM_ITS_PORT, &[&address]);
        assert_eq!(own_port, "eu-1/web", "{address}");
        assert_eq!(text(ASK_UDP, &[&address, "80"]), "eu-1/web");
        // What its kernel says of a port without anybody reaches its program, too.
        let refused = text(ASK_UDP, &[&address, "81"]);
        assert_eq!(refused, "ConnectionRefusedError", "{address}");
        let output = world.run(&web.namespace, &["nc", "-z", "-w", "2", &address, "81"]);
        assert!(!output.ok, "{address}");
        assert_eq!(
            text(BULK, &[&address]),
            format!("{address} {address} 90 True True")
        );
        assert_eq!(world.ask(client, &address, 80), None, "{address}");
    }
}
