//! Two workers a node: every pod reaches every other whichever worker is its own, a worker whose
//! device is taken away is made anew while the other goes on, and a WireGuard that knows one key of
//! the node reaches every pod.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use common::manifests::{cluster_ips, service};
use common::{FARLANE, Pod, Program, Topology, eventually, may_run};
use packet::{Address, lane_of};
use serde_json::Value;

const LANES: u16 = 4;
const WORKERS: u16 = 2;

/// Four pods on each node: with these addresses both workers have some of each family.
const PODS: [&str; 8] = [
    "eu-1/client",
    "eu-1/web",
    "eu-1/guest",
    "eu-1/other",
    "us-1/client",
    "us-1/web",
    "us-1/guest",
    "us-1/other",
];

/// The same world, with two workers on every node, however many cores this machine has.
fn world() -> Topology {
    let world = Topology::up(1, &PODS);
    for node in world.nodes() {
        let mut file = OpenOptions::new()
            .append(true)
            .open(world.node_file(node))
            .unwrap();
        writeln!(file, "workers: {WORKERS}\nlanes: {LANES}").unwrap();
    }
    world
}

fn pods<'a>(world: &'a Topology, node: &str) -> Vec<&'a Pod> {
    let names = PODS.iter().filter_map(|pod| pod.split_once('/'));
    names
        .filter(|(place, _)| *place == node)
        .map(|(place, name)| world.pod(place, name))
        .collect()
}

/// The worker that owns an address of a node.
fn worker_of(address: &str) -> u16 {
    let address: std::net::IpAddr = address.parse().unwrap();
    lane_of(Address::from(address), LANES) % WORKERS
}

/// The addresses that `from` does not reach.
fn unreached(world: &Topology, from: &Pod, to: &[&Pod]) -> Vec<String> {
    let addresses = to.iter().flat_map(|pod| pod.addresses());
    let addresses: Vec<&str> = addresses.collect();
    // All at once; whoever gets no answer says so.
    let script = format!(
        "for a in {}; do (ping -n -q -c 3 -i 0.2 -W 2 $a | grep -q ' 0% packet loss' || echo $a) & done; wait",
        addresses.join(" ")
    );
    let output = world.run(&from.namespace, &["sh", "-c", &script]);
    output.out.lines().map(str::to_owned).collect()
}

fn worker(world: &Topology, node: &str, number: usize) -> Value {
    world.status(node).expect("the node answers")["workers"][number].clone()
}

#[test]
fn every_pod_reaches_every_other_and_services_whichever_workers_are_theirs() {
    if !may_run("every_pod_reaches_every_other_and_services_whichever_workers_are_theirs") {
        return;
    }
    let world = world();
    let all: Vec<&Pod> = [pods(&world, "eu-1"), pods(&world, "us-1")].concat();
    for family in [0, 1] {
        for node in ["eu-1", "us-1"] {
            let pods = pods(&world, node);
            let mut owners = pods.iter().map(|pod| worker_of(pod.addresses()[family]));
            let first = owners.next();
            assert!(owners.any(|owner| Some(owner) != first), "{node} {family}");
        }
    }
    for cluster in ["eu", "us"] {
        let service = service("web", 80, cluster, "none");
        world.apply(cluster, "web.yaml", &service);
    }
    let _nodes = world.start_mesh();
    let _servers = ["eu-1", "us-1"].map(|node| world.serve(world.pod(node, "web"), 8080));
    for from in &all {
        let name = format!("{}/{}", from.node, from.name);
        assert_eq!(unreached(&world, from, &all), [""; 0], "from {name}");
        let cluster = from.node.split('-').next().unwrap();
        for address in cluster_ips(80, cluster) {
            let answer = world.ask(from, &address, 80);
            let answered = answer.is_some_and(|answer| answer.ends_with("/web"));
            assert!(answered, "{name} asks {address}");
        }
    }
    for node in ["eu-1", "us-1"] {
        let status = world.status(node).unwrap();
        assert_eq!(status["appliedEverywhere"], true, "{status}");
        let workers = status["workers"].as_array().unwrap();
        assert_eq!(workers.len(), usize::from(WORKERS));
        for (number, worker) in workers.iter().enumerate() {
            assert_eq!(worker["device"], format!("farlane{number}"));
            assert_eq!(worker["epoch"], status["epoch"], "{status}");
            assert!(worker["flows"].as_u64() > Some(0), "{status}");
            assert!(
                worker["segments"]["crossedIn"].as_u64() > Some(0),
                "{status}"
            );
        }
        // What one handed over the other took.
        let sums = &status["segments"];
        assert_eq!(sums["crossedIn"], sums["crossedOut"], "{status}");
        assert_eq!(status["drops"]["ringFull"], Value::Null, "{status}");
        assert_eq!(status["drops"]["forgedSource"], Value::Null, "{status}");
    }
}

#[test]
fn a_worker_whose_device_is_deleted_is_made_anew_and_the_other_goes_on() {
    if !may_run("a_worker_whose_device_is_deleted_is_made_anew_and_the_other_goes_on") {
        return;
    }
    let world = world();
    let mut nodes = world.start_mesh();
    let eu = pods(&world, "eu-1");
    let all: Vec<&Pod> = [eu.clone(), pods(&world, "us-1")].concat();
    let whole = || {
        all.iter()
            .all(|from| unreached(&world, from, &all).is_empty())
    };
    assert!(
        eventually(Duration::from_secs(20), whole),
        "all are reached"
    );
    // Both ends of this flow are worker 0's alone.
    let owned_by_0 = |pod: &&&Pod| worker_of(&pod.v4) == 0;
    let [from, to, ..] = eu.iter().filter(owned_by_0).collect::<Vec<_>>()[..] else {
        panic!("two pods of worker 0");
    };
    let command = ["ping", "-n", "-q", "-i", "0.05", "-c", "60", &to.v4];
    let mut pinging = world.spawn(&from.namespace, "pinging", &command);
    std::thread::sleep(Duration::from_millis(500));
    let host = world.namespace("eu-1");
    let deleted = world.run(&host, &["ip", "link", "delete", "farlane1"]);
    assert!(deleted.ok, "{}", deleted.text);
    let made_anew = || {
        let worker = worker(&world, "eu-1", 1);
        worker["restarts"] == 1 && worker["answering"] == true
    };
    assert!(eventually(Duration::from_secs(10), made_anew), "made anew");
    let why = worker(&world, "eu-1", 1)["lastEnd"].clone();
    assert!(
        why.as_str().is_some_and(|why| why.contains("farlane1")),
        "{why}"
    );
    assert_eq!(worker(&world, "eu-1", 0)["restarts"], 0);
    pinging.wait(Duration::from_secs(10));
    let log = fs::read_to_string(world.dir().join("pinging")).unwrap();
    assert!(
        log.contains(" 0% packet loss"),
        "the other worker's flow: {log}"
    );
    assert!(
        eventually(Duration::from_secs(30), whole),
        "all are reached again"
    );
    let status = world.status("eu-1").unwrap();
    assert_eq!(status["appliedEverywhere"], true, "{status}");
    assert_eq!(
        status["host"]["warnings"],
        Value::Array(Vec::new()),
        "{status}"
    );
    assert!(nodes.iter_mut().all(Program::runs));
    let log = fs::read_to_string(world.dir().join("eu-1/log")).unwrap();
    assert!(log.contains("has ended, and is made anew"), "{log}");
}

/// Makes node us-1 a plain WireGuard that knows one key of eu-1, and of which eu-1 knows one key.
fn foreign(world: &Topology, command: &[&str], after: &[&str]) -> Program {
    let host = world.namespace("us-1");
    let file = "node-us-1.yaml";
    let own = world.manifest("us", file);
    let one_key = own
        .lines()
        .filter(|line| !line.contains("farlane.io/lanes"));
    let one_key = one_key.collect::<Vec<_>>().join("\n") + "\n";
    world.apply("us", file, &one_key);
    let node_file = world.node_file("eu-1");
    let key = world.run(&host, &[FARLANE, "key", "public", "--config", &node_file]);
    let key = key.out.trim();
    let device = format!("w{}", std::process::id());
    let program = world.spawn(&host, "foreign", &[command, &[&device], after].concat());
    let shown = || world.run(&host, &["wg", "show", &device]).ok;
    assert!(eventually(Duration::from_secs(10), shown), "{command:?}");
    let private = world.dir().join("us-1/state/private.key");
    let script = format!(
        "wg set {device} private-key {} listen-port 51871 peer {key} endpoint 192.0.2.1:51871 \
         allowed-ips 10.1.0.0/16,fd10:1::/64 && ip link set {device} mtu 1420 up \
         && ip route add 10.1.0.0/16 dev {device} && ip route add fd10:1::/64 dev {device}",
        private.display()
    );
    let set = world.run(&host, &["sh", "-c", &script]);
    assert!(set.ok, "{}", set.text);
    program
}

#[test]
fn a_wireguard_that_knows_one_key_reaches_every_pod_and_is_reached() {
    if !may_run("a_wireguard_that_knows_one_key_reaches_every_pod_and_is_reached") {
        return;
    }
    let world = world();
    world.exchange_keys();
    let foreigner = foreign(&world, &[FARLANE, "wireguard"], &["--foreground"]);
    let mut node = world.start("eu-1");
    let (ours, theirs) = (pods(&world, "eu-1"), pods(&world, "us-1"));
    for from in &theirs {
        let name = &from.name;
        assert_eq!(unreached(&world, from, &ours), [""; 0], "us-1/{name}");
    }
    for from in &ours {
        let name = &from.name;
        assert_eq!(unreached(&world, from, &theirs), [""; 0], "eu-1/{name}");
    }
    // All came by lane 0, and half of it was for the other worker.
    let segments = &worker(&world, "eu-1", 1)["segments"];
    assert!(segments["crossedIn"].as_u64() > Some(0), "{segments}");
    assert!(node.runs(), "nobody died of it");
    drop(foreigner);
}
