//! What a change costs in a large cluster, from the file that was read to the snapshot that workers
//! take: `cargo bench --bench changes`.
//!
//! 10,000 pods on 20 nodes, of 2,000 sets of labels; 2,000 policies. Each change is one small file:
//! a policy, a pod's labels, a pod that comes and goes, and one that changes nothing. One thread;
//! each figure is the median of some changes.

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
const CHANGES: usize = 20;

fn main() {
    let mut world = World::new(Settings {
        cluster: "eu".into(),
        id: 1,
        node: "node-0".into(),
        clusters: Vec::new(),
        keys: vec![PublicKey::from_bytes([1; 32])],
    });
    let mut text = String::new();
    for node in 0..NODES {
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{node}}}\nspec: {{podCIDRs: [10.{node}.0.0/16]}}\nstatus: {{addresses: [{{type: InternalIP, address: 192.0.2.{}}}]}}\n",
            node + 1
        )
        .expect("text");
    }
    read(&mut world, "nodes.yaml", &text);
    let text: String = (0..PODS).map(|number| pod(number, number % SETS)).collect();
    read(&mut world, "pods.yaml", &text);
    let text: String = (0..POLICIES).map(|number| policy(number, 80)).collect();
    read(&mut world, "policies.yaml", &text);
    world.apply(Event::Loaded);
    let begun = Instant::now();
    world.compile();
    let all = begun.elapsed();
    println!("{PODS} pods, {POLICIES} policies");
    print("all, for the first time", all);
    print("nothing", changed(&mut world, |_| String::new()));
    print("a policy", changed(&mut world, |n| policy(1, n)));
    print("a pod's labels", changed(&mut world, |n| pod(1, n)));
    print(
        "a pod with labels of its own",
        changed(&mut world, |n| pod(1, SETS + n)),
    );
}

fn print(name: &str, time: Duration) {
    println!("{name:44} {:9.2} ms", time.as_secs_f64() * 1e3);
}

/// The median time to compile after a file has changed.
fn changed(world: &mut World, text: impl Fn(usize) -> String) -> Duration {
    let change = |number| {
        read(world, "zz.yaml", &text(number));
        let begun = Instant::now();
        world.compile();
        begun.elapsed()
    };
    median((1..=CHANGES).map(change).collect())
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

fn pod(number: usize, set: usize) -> String {
    let (node, place) = (number % NODES, number / NODES + 1);
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: ns-{}, labels: {{app: app-{}, version: v{set}}}}}\nspec: {{nodeName: node-{node}}}\nstatus: {{phase: Running, podIPs: [{{ip: 10.{node}.{}.{}}}]}}\n",
        number % 10,
        set % 200,
        place / 250,
        place % 250 + 1
    )
}

fn policy(number: usize, port: usize) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: ns-{}}}\nspec:\n  podSelector: {{matchLabels: {{app: app-{}}}}}\n  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: app-{}}}}}}}], ports: [{{port: {port}}}]}}]\n",
        number % 10,
        number % 200,
        number * 7 % 200
    )
}
