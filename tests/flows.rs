//! `farlane flows` on running nodes, with the packets of programs that are not ours.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{Topology, eventually, may_run};
use serde_json::Value;

const FARLANE: &str = env!("CARGO_BIN_EXE_farlane");

const CLOSED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: nobody}}}]}]
";

/// What the node says of flows like these.
fn flows(world: &Topology, node: &str, filters: &[&str]) -> Vec<Value> {
    let socket = world.socket(node);
    let mut command = vec![FARLANE, "flows", "--json", "--socket", &socket];
    command.extend(filters);
    let said = world.run(&world.namespace(node), &command);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
}

/// `farlane flows --follow`, which ends with this.
struct Follower {
    program: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(world: &Topology, node: &str, filters: &[&str]) -> Follower {
        let mut program = Command::new("ip")
            .args(["netns", "exec", &world.namespace(node), FARLANE, "flows"])
            .args(["--follow", "--last", "0", "--socket", &world.socket(node)])
            .args(filters)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(program.stdout.take().expect("a pipe"));
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let whole = output.lines().map_while(Result::ok);
            whole
                .take_while(|line| said.send(line.clone()).is_ok())
                .count()
        });
        Follower { program, lines }
    }

    fn line(&self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(10));
        line.expect("a line within 10 s")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn flows_are_told_with_names_verdicts_rules_and_what_they_carried() {
    if !may_run("flows_are_told_with_names_verdicts_rules_and_what_they_carried") {
        return;
    }
    let world = Topology::up(1, &[]);
    let log = world.dir().join("flows/eu-1.jsonl");
    let node_file = world.node_file("eu-1");
    let text = std::fs::read_to_string(&node_file).expect("the node's file");
    let text = format!("{text}\nflows: {{log: {{file: {}}}}}\n", log.display());
    std::fs::write(&node_file, text).expect("writable");
    let mut nodes = world.start_mesh();
    let (client, web) = (world.pod("us-1", "client"), world.pod("eu-1", "web"));
    let _server = world.serve(web, 8080);
    let address = web.addresses()[0];

    // Who follows sees it as it happens.
    let follow = Follower::start(
        &world,
        "eu-1",
        &["--from", "us/shop/client-1", "--port", "8080"],
    );
    let asked = || world.ask(client, address, 8080).is_some();
    assert!(eventually(Duration::from_secs(5), asked), "web answers");
    let first = follow.line();
    let told = " start allow ingress TCP us/shop/client-1:";
    assert!(first.contains(told), "{first}");
    assert!(first.ends_with(" > eu/shop/web-1:8080"), "{first}");

    // Its end tells what it carried; each node tells its own end of it.
    let ended = |node| flows(&world, node, &["--event", "end", "--port", "8080"]);
    let both = || ["eu-1", "us-1"].iter().all(|node| !ended(node).is_empty());
    assert!(
        eventually(Duration::from_secs(30), both),
        "both tell the end"
    );
    drop(follow);
    for (node, direction) in [("eu-1", "ingress"), ("us-1", "egress")] {
        let record = &ended(node)[0];
        assert_eq!(record["direction"], direction, "{record}");
        assert_eq!(record["node"], node, "{record}");
        assert_eq!(record["end"]["why"], "closed", "{record}");
        assert_eq!(record["from"]["name"], "shop/client-1", "{record}");
        assert_eq!(record["from"]["cluster"], "us", "{record}");
        assert_eq!(record["to"]["address"], address, "{record}");
        for way in ["forward", "reply"] {
            let packets = record["end"][way]["packets"].as_u64().expect("a number");
            let bytes = record["end"][way]["bytes"].as_u64().expect("a number");
            assert!(packets >= 3 && bytes >= 40 * packets, "{record}");
        }
    }

    // On trial a policy lets it pass, and what it would deny is marked with the rule.
    let trial = CLOSED.replace(
        "namespace: shop}",
        "namespace: shop, annotations: {policy.cilium.io/audit-mode: \"true\"}}",
    );
    assert_ne!(trial, CLOSED);
    world.apply_everywhere("eu", "closed.yaml", &trial);
    assert!(world.ask(client, address, 8080).is_some());
    let audited = || {
        flows(
            &world,
            "eu-1",
            &["--verdict", "audit", "--to", "shop/web-1"],
        )
    };
    assert!(eventually(Duration::from_secs(5), || !audited().is_empty()));
    let record = &audited()[0];
    assert_eq!(record["event"], "start", "{record}");
    assert_eq!(record["reason"], "ingressDenied", "{record}");
    let policies = |node| world.status(node).expect("it answers")["policies"].clone();
    let shown = policies("eu-1");
    let policy = &shown[0];
    assert_eq!(policy["name"], "shop/web", "{shown}");
    assert_eq!(policy["state"], "audit", "{shown}");
    assert_eq!(policy["rules"][0]["verdict"], "isolates", "{shown}");

    // A denied one has its reason and the rule, with the file.
    world.apply_everywhere("eu", "closed.yaml", CLOSED);
    assert!(world.ask(client, address, 8080).is_none());
    let denied = || flows(&world, "eu-1", &["--verdict", "deny", "--to", "shop/web-1"]);
    assert!(eventually(Duration::from_secs(5), || !denied().is_empty()));
    let record = &denied()[0];
    assert_eq!(record["reason"], "ingressDenied", "{record}");
    let rule = record["rule"].as_str().expect("a rule");
    assert!(
        rule.starts_with("NetworkPolicy shop/web ingress ("),
        "{rule}"
    );
    assert!(rule.ends_with("closed.yaml:2)"), "{rule}");
    let shown = policies("eu-1");
    assert_eq!(shown[0]["state"], "enforced", "{shown}");
    assert!(shown[0]["decided"].as_u64() >= Some(1), "{shown}");
    let none = flows(&world, "eu-1", &["--from", "nobody/at-all"]);
    assert!(none.is_empty());

    // All of that is in the log, when the node has ended at the latest.
    nodes.remove(0).stop();
    let text = std::fs::read_to_string(&log).expect("a log");
    let all: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for event in ["start", "deny", "end"] {
        assert!(
            all.iter().any(|record| record["event"] == event),
            "{event}: {text}"
        );
    }
}
