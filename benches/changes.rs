//! What a change costs in a large cluster, from the file that was read to the snapshot that workers
//! take: `cargo bench --bench changes`.
//!
//! 10,000 pods on 20 nodes, of 2,000 sets of labels; 2,000 policies, a fifth of them with blocks of
//! addresses, 100,000 prefixes in all; 200 services that have all of the pods between them, half of
//! them by slices. Each change is one small file, or that a node does not answer. One thread; each
//! figure is the median of some changes.

#[path = "common/figures.rs"]
mod figures;

use std::fmt::Write;
use std::time::{Duration, Instant};

use figures::median;
use mesh::{Event, Settings, World, parse};
use tunnel::PublicKey;

const NODES: usize = 20;
const PODS: usize = 10_000;
const SETS: usize = 2_000;
const POLICIES: usize = 2_000;
const BLOCKS: usize = 250;
const SERVICES: usize = 200;
const CHANGES: usize = 20;

fn main() {
    let mut world = World::new(Settings {
        cluster: "eu".into(),
        id: 1,
        node: "node-0".into(),
        clusters: Vec::new(),
        keys: vec![PublicKey::from_bytes([1; 32])],
        audit: false,
    });
    let text: String = (0..NODES).map(node).collect();
    read(&mut world, "nodes.yaml", &text);
    let text: String = (0..PODS).map(|number| pod(number, number % SETS)).collect();
    read(&mut world, "pods.yaml", &text);
    let text: String = (0..POLICIES).map(|number| policy(number, 80)).collect();
    read(&mut world, "policies.yaml", &text);
    let text: String = (0..SERVICES).map(service).collect();
    read(&mut world, "services.yaml", &text);
    let text: String = (0..SERVICES)
        .step_by(2)
        .map(|number| slice(number, 0))
        .collect();
    read(&mut world, "slices.yaml", &text);
    world.apply(Event::Loaded);
    let begun = Instant::now();
    world.compile();
    let all = begun.elapsed();
    println!("{PODS} pods, {POLICIES} policies, {SERVICES} services");
    print("all, for the first time", all);
    print("nothing", changed(&mut world, |_| String::new()));
    print("a policy", changed(&mut world, |n| policy(1, n)));
    print(
        "a policy with many blocks",
        changed(&mut world, |n| policy(5, n)),
    );
    print("a pod's labels", changed(&mut world, |n| pod(1, n)));
    print(
        "a pod with labels of its own",
        changed(&mut world, |n| pod(1, SETS + n)),
    );
    let comes_and_goes = |n: usize| match n % 2 {
        1 => pod(PODS, 1),
        _ => String::new(),
    };
    print(
        "a pod that comes and goes",
        changed(&mut world, comes_and_goes),
    );
    print("an EndpointSlice", changed(&mut world, |n| slice(2, n)));
    print(
        "a service",
        changed(&mut world, |n| service_with(3, 1000 + n)),
    );
    let namespace = |n| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-1, labels: {{n: l{n}}}}}\n"
        )
    };
    print(
        "a label of a namespace with 1,000 pods",
        changed(&mut world, namespace),
    );
    read(&mut world, "zz.yaml", "");
    world.compile();
    print("a node's health", health(&mut world));
    let moved = |n: usize| node(3).replace("192.0.2.4", &format!("192.0.2.{}", 100 + n));
    print("a node's address", changed(&mut world, moved));
}

fn print(name: &str, time: Duration) {
    println!("{name:44} {:9.2} ms", time.as_secs_f64() * 1e3);
}

/// The median time to compile after a file has changed.
fn changed(world: &mut World, text: impl Fn(usize) -> String) -> Duration {
    let change = |number| {
        read(world, "zz.yaml", &text(number));
        compiled(world)
    };
    median((1..=CHANGES).map(change).collect())
}

/// The median time to compile after a node has stopped to answer, or answers again.
fn health(world: &mut World) -> Duration {
    let change = |number| {
        world.apply(Event::NodeHealth {
            cluster: 1,
            node: "node-1".into(),
            answering: number % 2 == 0,
        });
        compiled(world)
    };
    median((1..=CHANGES).map(change).collect())
}

/// What was compiled before stays meanwhile, as it does for workers.
fn compiled(world: &mut World) -> Duration {
    let begun = Instant::now();
    let compiled = world.compile();
    let took = begun.elapsed();
    drop(compiled);
    took
}

fn read(world: &mut World, file: &str, text: &str) {
    let parsed = parse(file, text);
    assert_eq!(parsed.problems, [], "{file}");
    world.apply(Event::File {
        cluster: 1,
        file: file.into(),
        parsed,
        hash: format!("{:?}", text.len()),
    });
}

/// A key for each node but this one, in base64.
fn key(number: usize) -> String {
    // Zeros are nobody's key.
    let letter = char::from(b'B' + number as u8);
    format!("{}A=", letter.to_string().repeat(42))
}

fn node(number: usize) -> String {
    let annotation = format!("network.cilium.io/wg-pub-key: {}", key(number));
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}, annotations: {{{annotation}}}}}\nspec: {{podCIDRs: [10.{number}.0.0/16]}}\nstatus: {{addresses: [{{type: InternalIP, address: 192.0.2.{}}}]}}\n",
        number + 1
    )
}

/// The address of a pod.
fn address(number: usize) -> String {
    let (node, place) = (number % NODES, number / NODES + 1);
    format!("10.{node}.{}.{}", place / 250, place % 250 + 1)
}

fn pod(number: usize, set: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: ns-{}, labels: {{app: app-{}, version: v{set}}}}}\nspec: {{nodeName: node-{}}}\nstatus: {{phase: Running, podIPs: [{{ip: {}}}], conditions: [{{type: Ready, status: \"True\"}}]}}\n",
        number % 10,
        set % 200,
        number % NODES,
        address(number)
    )
}

fn policy(number: usize, port: usize) -> String {
    let mut peers = format!(
        "podSelector: {{matchLabels: {{app: app-{}}}}}",
        number * 7 % 200
    );
    if number.is_multiple_of(5) {
        for block in 0..BLOCKS {
            let block = number / 5 * BLOCKS + block;
            let cidr = format!("100.{}.{}.0/24", 64 + block / 250 % 64, block % 250);
            write!(peers, "}}, {{ipBlock: {{cidr: {cidr}}}").expect("text");
        }
    }
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: ns-{}}}\nspec:\n  podSelector: {{matchLabels: {{app: app-{}}}}}\n  ingress: [{{from: [{{{peers}}}], ports: [{{port: {port}}}]}}]\n",
        number % 10,
        number % 200,
    )
}

fn service(number: usize) -> String {
    service_with(number, 80)
}

fn service_with(number: usize, port: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: ns-{}}}\nspec: {{clusterIP: 172.16.0.{}, selector: {{app: app-{number}}}, ports: [{{port: {port}, targetPort: 8080}}]}}\n",
        number % 10,
        number + 1
    )
}

/// A slice with the pods of a service; at every other change one of them is missing.
fn slice(number: usize, change: usize) -> String {
    let pods = (0..PODS).filter(|pod| pod % 200 == number);
    let endpoint = |pod| format!("{{addresses: [{}]}}", address(pod));
    let endpoints: Vec<String> = pods.skip(change % 2).map(endpoint).collect();
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {{name: s{number}, namespace: ns-{}, labels: {{kubernetes.io/service-name: s{number}}}}}\nports: [{{port: 8080}}]\nendpoints: [{}]\n",
        number % 10,
        endpoints.join(", ")
    )
}
