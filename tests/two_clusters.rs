//! Two clusters, a `farlane run` on each node: who reaches whom, and who serves.

mod common;

use common::manifests::{POLICIES, cluster_ips, service};
use common::{Pod, Topology, may_run};
use std::time::Duration;

/// Two nodes that run, with policies and two services, and `web` serving in both clusters.
struct Mesh {
    world: Topology,
    running: Vec<common::Program>,
}

impl Mesh {
    fn up() -> Mesh {
        let world = Topology::up(1, &[]);
        for cluster in ["eu", "us"] {
            world.apply(cluster, "policies.yaml", POLICIES);
            world.apply(cluster, "near.yaml", &service("web", 80, cluster, "local"));
            world.apply(
                cluster,
                "far.yaml",
                &service("web-far", 81, cluster, "remote"),
            );
        }
        let mut running = world.start_and_join();
        for node in ["eu-1", "us-1"] {
            running.push(world.serve(world.pod(node, "web"), 8080));
        }
        Mesh { world, running }
    }

    /// Whether `from` gets the answer of the pod `to` itself, over both families alike.
    fn serves(&self, from: &Pod, to: &Pod) -> bool {
        let own = format!("{}/{}", to.node, to.name);
        let [v4, v6] = to
            .addresses()
            .map(|address| self.world.ask(from, address, 8080).as_deref() == Some(&own));
        assert_eq!(v4, v6, "{} to {own}: IPv4 and IPv6 differ", from.name);
        v4
    }

    fn pings(&self, from: &Pod, to: [&str; 2]) -> bool {
        let [v4, v6] = to.map(|address| self.world.pings(&from.namespace, address, 1));
        assert_eq!(v4, v6, "{} to {to:?}: IPv4 and IPv6 differ", from.name);
        v4
    }
}

#[test]
fn policies_decide_who_reaches_whom_within_and_between_clusters() {
    if !may_run("policies_decide_who_reaches_whom_within_and_between_clusters") {
        return;
    }
    let mesh = Mesh::up();
    let pod = |node, name| mesh.world.pod(node, name);
    for node in ["eu-1", "us-1"] {
        for web in ["eu-1", "us-1"] {
            assert!(mesh.serves(pod(node, "client"), pod(web, "web")));
            assert!(!mesh.serves(pod(node, "guest"), pod(web, "web")));
        }
    }
    let (eu, us) = (pod("eu-1", "client"), pod("us-1", "client"));
    assert!(!mesh.pings(eu, pod("us-1", "web").addresses()), "TCP only");
    assert!(mesh.pings(us, eu.addresses()));
    assert!(mesh.pings(pod("eu-1", "guest"), eu.addresses()));
    assert!(!mesh.pings(pod("eu-1", "guest"), us.addresses()));
    let beyond = ["198.51.100.254", "2001:db8:99::254"];
    assert!(mesh.pings(eu, beyond));
    assert!(!mesh.pings(pod("us-1", "guest"), beyond));
}

#[test]
fn a_policy_that_changes_holds_within_a_second_for_flows_that_run_too() {
    if !may_run("a_policy_that_changes_holds_within_a_second_for_flows_that_run_too") {
        return;
    }
    let mesh = Mesh::up();
    let (eu, us) = (
        mesh.world.pod("eu-1", "client"),
        mesh.world.pod("us-1", "client"),
    );
    let mut flow = mesh.world.spawn(
        &eu.namespace,
        "ping",
        &["ping", "-n", "-D", "-i", "0.1", "-w", "6", &us.v4],
    );
    std::thread::sleep(Duration::from_secs(1));
    let deny = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress]}
";
    mesh.world.apply("us", "deny.yaml", deny);
    std::thread::sleep(Duration::from_secs(1));
    let log = mesh.world.dir().join("ping");
    let answers = || {
        std::fs::read_to_string(&log)
            .unwrap()
            .matches("bytes from")
            .count()
    };
    let after_a_second = answers();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(answers(), after_a_second, "the flow is cut");
    mesh.world.withdraw("us", "deny.yaml");
    std::thread::sleep(Duration::from_secs(1));
    let opened = answers();
    assert!(opened > after_a_second, "the flow is open again");
    flow.signal("INT");
    flow.wait(Duration::from_secs(5));
}

#[test]
fn a_global_service_is_served_at_home_or_abroad_as_its_affinity_says() {
    if !may_run("a_global_service_is_served_at_home_or_abroad_as_its_affinity_says") {
        return;
    }
    let mesh = Mesh::up();
    for (cluster, other) in [("eu", "us"), ("us", "eu")] {
        let client = mesh.world.pod(&format!("{cluster}-1"), "client");
        let guest = mesh.world.pod(&format!("{cluster}-1"), "guest");
        for (number, by) in [(80, cluster), (81, other)] {
            for address in cluster_ips(number, cluster) {
                for _ in 0..3 {
                    let answer = mesh.world.ask(client, &address, 80);
                    assert_eq!(
                        answer.as_deref(),
                        Some(&*format!("{by}-1/web")),
                        "{address}"
                    );
                }
                assert_eq!(mesh.world.ask(guest, &address, 80), None, "{address}");
            }
        }
    }
}

#[test]
fn a_service_moves_abroad_when_its_local_backends_are_unready_and_comes_home_without_one_failure() {
    if !may_run("a_service_moves_abroad_and_comes_home_without_one_failure") {
        return;
    }
    let mesh = Mesh::up();
    let world = &mesh.world;
    let client = world.pod("eu-1", "client");
    let [address, _] = cluster_ips(80, "eu");
    let attempts = common::script("attempts");
    let impatient = [&*attempts, &address, "80", "6"];
    let mut asking = world.spawn(&client.namespace, "attempts", &impatient);
    let pods = world.dir().join("manifests/eu/pods.yaml");
    let ready = std::fs::read_to_string(pods).unwrap();
    let unready = ready
        .split("---")
        .map(|pod| {
            if pod.contains("{app: web,") {
                pod.replace("status: \"True\"", "status: \"False\"")
            } else {
                pod.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join("---");
    assert_ne!(ready, unready);
    std::thread::sleep(Duration::from_millis(1500));
    world.apply("eu", "pods.yaml", &unready);
    std::thread::sleep(Duration::from_millis(1500));
    world.apply("eu", "pods.yaml", &ready);
    assert_eq!(asking.wait(Duration::from_secs(20)), Some(0));
    let served = who_served(world, |attempt| panic!("an attempt failed: {attempt}"));
    assert_eq!(served, ["eu-1/web", "us-1/web", "eu-1/web"]);
}

#[test]
fn a_service_leaves_a_cluster_that_falls_silent_and_goes_back_when_it_answers() {
    if !may_run("a_service_leaves_a_cluster_that_falls_silent_and_goes_back_when_it_answers") {
        return;
    }
    let mesh = Mesh::up();
    let world = &mesh.world;
    let client = world.pod("eu-1", "client");
    let [address, _] = cluster_ips(81, "eu");
    let attempts = common::script("attempts");
    let impatient = [&*attempts, &address, "80", "8"];
    let mut asking = world.spawn(&client.namespace, "attempts", &impatient);
    let silenced = &mesh.running[1];
    std::thread::sleep(Duration::from_millis(1500));
    silenced.signal("STOP");
    std::thread::sleep(Duration::from_secs(3));
    silenced.signal("CONT");
    assert_eq!(asking.wait(Duration::from_secs(20)), Some(0));
    let mut failed = 0;
    let served = who_served(world, |_| failed += 1);
    assert_eq!(served, ["us-1/web", "eu-1/web", "us-1/web"]);
    // How long it took is a matter of the demo; here only that the silence was noticed at all.
    assert!(
        failed < 100,
        "{failed} attempts failed of 150 in the silence"
    );
}

/// Who answered scripts/attempts, in order, each once in a row; attempts without an answer are
/// given to `failed`.
fn who_served(world: &Topology, mut failed: impl FnMut(&serde_json::Value)) -> Vec<String> {
    let report = std::fs::read_to_string(world.dir().join("attempts")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let mut served: Vec<String> = Vec::new();
    for attempt in report["attempts"].as_array().unwrap() {
        match attempt["answer"].as_str() {
            None => failed(attempt),
            Some(by) if served.last().is_none_or(|last| last != by) => served.push(by.to_owned()),
            Some(_) => {}
        }
    }
    served
}
