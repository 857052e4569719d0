//! How long a service is missed when a cluster dies, and that it is not missed at all when its
//! backends go and come back in order. The client gives up after 500 ms and comes every 20 ms. Who has
//! a connection with the dead cluster hears so, and does not hang.
//!
//! The bounds here are wide, for machines that do other things as well; the figures are printed.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::manifests::{cluster_ips, service};
use common::{Program, Topology, eventually, may_run, script, unready};

/// One attempt of scripts/attempts.
#[derive(Debug)]
struct Attempt {
    start_ms: f64,
    answer: Option<String>,
}

/// All that the client saw, and when, in ms of Unix time, it began.
struct Report {
    began_unix_ms: f64,
    attempts: Vec<Attempt>,
}

fn world_with(affinity: &str) -> Topology {
    let world = Topology::up(1, &[]);
    for cluster in ["eu", "us"] {
        world.apply(cluster, "web.yaml", &service("web", 80, cluster, affinity));
    }
    world
}

fn serve(world: &Topology) -> [Program; 2] {
    ["eu-1", "us-1"].map(|node| world.serve(world.pod(node, "web"), 8080))
}

/// A client in eu that asks at the service's address of a family for so many seconds.
fn client(world: &Topology, family: usize, seconds: &str) -> Program {
    let address = &cluster_ips(80, "eu")[family];
    let namespace = &world.pod("eu-1", "client").namespace;
    world.spawn(
        namespace,
        "attempts",
        &[&script("attempts"), address, "80", seconds],
    )
}

fn report(world: &Topology, mut client: Program) -> Report {
    assert_eq!(client.wait(Duration::from_secs(30)), Some(0));
    let text = fs::read_to_string(world.dir().join("attempts")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let attempts = document["attempts"].as_array().unwrap().iter();
    Report {
        began_unix_ms: document["startedUnixMs"].as_f64().unwrap(),
        attempts: attempts
            .map(|attempt| Attempt {
                start_ms: attempt["startMs"].as_f64().unwrap(),
                answer: attempt["answer"].as_str().map(str::to_owned),
            })
            .collect(),
    }
}

impl Report {
    /// From the first failed attempt to the last, by their starts; and how many.
    fn failed(&self) -> (f64, usize) {
        let mut failed = self.attempts.iter().filter(|one| one.answer.is_none());
        let Some(first) = failed.next() else {
            return (0.0, 0);
        };
        let rest: Vec<_> = failed.collect();
        let last = rest.last().map_or(first.start_ms, |one| one.start_ms);
        (last - first.start_ms, 1 + rest.len())
    }

    /// Who served, each once as long as nobody else did, with the time of the first answer.
    fn served(&self) -> Vec<(&str, f64)> {
        let mut served: Vec<(&str, f64)> = Vec::new();
        for one in &self.attempts {
            if let Some(by) = one.answer.as_deref()
                && served.last().is_none_or(|(last, _)| *last != by)
            {
                served.push((by, one.start_ms));
            }
        }
        served
    }

    /// A time of this machine's clock as time since the client began.
    fn at(&self, time: SystemTime) -> f64 {
        time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3 - self.began_unix_ms
    }
}

fn wait(milliseconds: u64) -> SystemTime {
    std::thread::sleep(Duration::from_millis(milliseconds));
    SystemTime::now()
}

#[test]
fn a_stopped_cluster_is_missed_briefly_and_comes_back_without_flapping() {
    if !may_run("a_stopped_cluster_is_missed_briefly_and_comes_back_without_flapping") {
        return;
    }
    let world = world_with("remote");
    let _servers = serve(&world);
    let nodes = world.start_mesh();
    for family in [0, 1] {
        let asking = client(&world, family, "9");
        let stopped = wait(2000);
        nodes[1].signal("STOP");
        let continued = wait(3000);
        nodes[1].signal("CONT");
        let report = report(&world, asking);
        let (span_ms, failed) = report.failed();
        let served = report.served();
        println!(
            "IPv{}: {failed} attempts failed within {span_ms:.0} ms of their starts; stopped at {:.0} ms, continued at \
             {:.0} ms, served {served:?}",
            [4, 6][family],
            report.at(stopped),
            report.at(continued),
        );
        assert!(failed > 0, "it was asked while nobody knew yet");
        assert!(span_ms < 3000.0, "missed for {span_ms} ms");
        let names: Vec<&str> = served.iter().map(|(by, _)| *by).collect();
        assert_eq!(names, ["us-1/web", "eu-1/web", "us-1/web"], "no flapping");
        let back_ms = served[2].1 - report.at(continued);
        assert!(back_ms < 3500.0, "back after {back_ms} ms");
        world.await_peers();
    }
}

/// A client that connects, says the begin of a request, and waits for the answer; `talk` has it say more
/// and more meanwhile. Prints when it is connected, and by which error and when that was over, in ms of
/// Unix time.
const PATIENT: &str = r#"
import errno, socket, sys, time
address, port, manner = sys.argv[1], int(sys.argv[2]), sys.argv[3]
peer = socket.create_connection((address, port), timeout=5)
peer.sendall(b"GET / HTTP/1.1\r\n")
peer.settimeout(0.1 if manner == "talk" else 30)
print("connected", flush=True)
over = None
while over is None:
    try:
        if manner == "talk":
            peer.sendall(b"More: more\r\n")
        over = "data" if peer.recv(1) else "closed"
    except TimeoutError:
        over = "timeout" if manner == "idle" else None
    except OSError as error:
        over = errno.errorcode[error.errno]
print(over, time.time() * 1e3, flush=True)
"#;

#[test]
fn who_is_connected_with_a_cluster_that_dies_is_reset_soon_and_connects_to_another() {
    if !may_run("who_is_connected_with_a_cluster_that_dies_is_reset_soon_and_connects_to_another") {
        return;
    }
    let world = world_with("remote");
    let _servers = serve(&world);
    let nodes = world.start_mesh();
    let client = world.pod("eu-1", "client");
    let mut patient = Vec::new();
    for (family, address) in cluster_ips(80, "eu").iter().enumerate() {
        for manner in ["idle", "talk"] {
            let log = format!("patient-{family}-{manner}");
            let command: [&str; 6] = ["python3", "-c", PATIENT, address, "80", manner];
            let program = world.spawn(&client.namespace, &log, &command);
            patient.push((world.dir().join(log), program));
        }
    }
    let said = |log: &Path| fs::read_to_string(log).unwrap_or_default();
    for (log, _) in &patient {
        let connected = || said(log).starts_with("connected");
        assert!(eventually(Duration::from_secs(10), connected), "{log:?}");
    }
    let stopped = wait(200);
    nodes[1].signal("STOP");
    let stopped_ms = stopped.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3;
    for (log, program) in &mut patient {
        program.wait(Duration::from_secs(10));
        let text = said(log);
        let (how, when_ms) = text
            .strip_prefix("connected\n")
            .and_then(|rest| rest.trim().split_once(' '))
            .unwrap_or_else(|| panic!("{log:?}: {text}"));
        assert_eq!(how, "ECONNRESET", "{log:?}");
        let after_ms = when_ms.parse::<f64>().unwrap() - stopped_ms;
        println!("{log:?}: reset {after_ms:.0} ms after the other cluster stopped");
        assert!(after_ms < 3000.0, "{log:?}: after {after_ms} ms");
    }
    for address in cluster_ips(80, "eu") {
        let answer = world.ask_until(client, &address, 80, "eu-1/web");
        assert_eq!(answer, "eu-1/web");
    }
    nodes[1].signal("CONT");
}

#[test]
fn no_attempt_fails_when_local_backends_become_unready_and_ready_again() {
    if !may_run("no_attempt_fails_when_local_backends_become_unready_and_ready_again") {
        return;
    }
    let world = world_with("local");
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    let ready = world.manifest("eu", "pods.yaml");
    for family in [0, 1] {
        let asking = client(&world, family, "5");
        wait(1500);
        world.apply("eu", "pods.yaml", &unready(&ready, "web-1"));
        wait(1500);
        world.apply("eu", "pods.yaml", &ready);
        let report = report(&world, asking);
        let names: Vec<&str> = report.served().iter().map(|(by, _)| *by).collect();
        assert_eq!(names, ["eu-1/web", "us-1/web", "eu-1/web"]);
        assert_eq!(report.failed(), (0.0, 0), "{:?}", report.served());
        let asked = report.attempts.len();
        println!("IPv{}: {asked} attempts, none failed", [4, 6][family]);
    }
}
