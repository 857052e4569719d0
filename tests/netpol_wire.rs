//! Truth tables of `tests/netpol` with real packets: every pod asks every other one, over TCP and
//! UDP in both families, between and within two running nodes.
//!
//! ```text
//!   x/a x/c y/b z/a z/c ── eu-1 ══ WireGuard ══ eu-2 ── x/b y/a y/c z/b
//! ```

#[path = "netpol/case.rs"]
mod case;
mod common;
#[path = "netpol/table.rs"]
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use case::{Case, Manifests, Probe};
use common::{Pod, Program, Topology, eventually, may_run};
use table::{PODS, Table, addresses, name};

/// What is sent: cases of every kind, of every change in steps, and all of UDP.
const SENT: [&str; 14] = [
    "01-", "02-", "09-", "10-", "15-", "17-", "20-", "21-", "22-", "28-", "33-", "43-", "44-",
    "45-",
];

/// Answers at ports 80 and 81: TCP by accepting, UDP by sending back.
const ANSWER: &str = r#"
import selectors, socket
s = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for port in (80, 81):
        k = socket.socket(socket.AF_INET6, kind)
        k.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        k.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            k.listen(128)
        s.register(k, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in s.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            key.fileobj.sendto(b"here", key.fileobj.recvfrom(64)[1])
"#;

/// Asks all addresses at once, and prints those that answered within a second.
const ASK: &str = r#"
import selectors, socket, sys, time
protocol, port, targets = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
s = selectors.DefaultSelector()
for address in targets:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    k = socket.socket(family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
    k.setblocking(False)
    k.connect_ex((address, port))
    if protocol == "UDP":
        k.send(b"who?")
    s.register(k, selectors.EVENT_WRITE if protocol == "TCP" else selectors.EVENT_READ, address)
end = time.monotonic() + 1
while s.get_map() and time.monotonic() < end:
    for key, _ in s.select(end - time.monotonic()):
        s.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print(key.data)
"#;

/// The pod of a table in the world of network namespaces.
fn pod(world: &Topology, number: usize) -> &Pod {
    let (namespace, short, node) = PODS[number];
    world.pod(node, &format!("{namespace}{short}"))
}

/// What a probe shows in each family. A pod does not ask itself: no packet would leave it.
fn ask(world: &Topology, probe: &Probe) -> [Table; 2] {
    let answers: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..PODS.len())
            .map(|from| {
                let others = (0..PODS.len()).filter(move |to| *to != from);
                let targets: Vec<String> = others.flat_map(addresses).collect();
                scope.spawn(move || {
                    let port = probe.port.to_string();
                    let mut arguments = vec![probe.protocol, port.as_str()];
                    arguments.extend(targets.iter().map(String::as_str));
                    world
                        .python(&pod(world, from).namespace, ASK, &arguments)
                        .out
                })
            })
            .collect();
        let ended = asking.into_iter().map(|asking| asking.join().unwrap());
        ended.collect()
    });
    [0, 1].map(|family| {
        Table::of(|from, to| {
            let address = &addresses(to)[family];
            from == to || answers[from].lines().any(|line| line == address)
        })
    })
}

/// Asks until both families answer as the file says, 10 s at most, for a packet may be lost.
fn holds(world: &Topology, place: &str, probe: &Probe) {
    let expected = Table::of(|from, to| from == to || probe.table.allows(from, to));
    let mut heard = ask(world, probe);
    eventually(Duration::from_secs(10), || {
        if heard != [expected; 2] {
            heard = ask(world, probe);
        }
        heard == [expected; 2]
    });
    let picture = expected.picture(&heard);
    assert_eq!(heard, [expected; 2], "{place}, {}\n{picture}", probe.on);
}

fn run(world: &Topology, case: &Case, manifests: &mut Manifests) {
    for step in &case.steps {
        for (file, text) in manifests.take(step) {
            match text {
                Some(text) => {
                    world.apply_everywhere("eu", &file, &text);
                }
                None => world.withdraw_everywhere("eu", &file),
            }
        }
        for probe in &step.expect {
            if probe.protocol != "SCTP" {
                holds(world, &format!("{}: {}", case.file, step.say), probe);
            }
        }
    }
}

/// Brings back the pods as they are without a case.
fn reset(world: &Topology, manifests: &mut Manifests) {
    let base = Manifests::new();
    for (file, text) in manifests.files() {
        match base.files().get(file) {
            None => world.withdraw_everywhere("eu", file),
            Some(plain) if plain != text => {
                world.apply_everywhere("eu", file, plain);
            }
            Some(_) => {}
        }
    }
    *manifests = base;
}

#[test]
fn packets_between_pods_of_two_nodes_meet_the_truth_tables() {
    if !may_run("packets_between_pods_of_two_nodes_meet_the_truth_tables") {
        return;
    }
    let names = PODS.map(|(namespace, short, node)| format!("{node}/{namespace}{short}"));
    let world = Topology::up(2, &names.each_ref().map(String::as_str));
    for number in 0..PODS.len() {
        let addresses = addresses(number);
        assert_eq!(
            pod(&world, number).addresses(),
            addresses.each_ref().map(String::as_str)
        );
    }
    // The topology's own pods, all in one namespace, make place for the tables'.
    world.withdraw("eu", "pods.yaml");
    let mut manifests = Manifests::new();
    for (file, text) in manifests.files() {
        world.apply("eu", file, text);
    }
    let _nodes = world.start_mesh();
    let _servers: Vec<Program> = (0..PODS.len())
        .map(|number| {
            let log = format!("answer-{}", name(number).replace('/', "-"));
            let command = ["python3", "-c", ANSWER];
            let server = world.spawn(&pod(&world, number).namespace, &log, &command);
            let log = world.dir().join(log);
            let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
            assert!(eventually(Duration::from_secs(10), ready), "{log:?}");
            server
        })
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netpol");
    let cases = case::read_all(&folder).unwrap_or_else(|wrong| panic!("{wrong}"));
    let start = Instant::now();
    let mut sent = 0;
    for case in &cases {
        if SENT.iter().any(|number| case.file.starts_with(number)) {
            run(&world, case, &mut manifests);
            reset(&world, &mut manifests);
            sent += 1;
        }
    }
    assert_eq!(sent, SENT.len());
    println!("{sent} cases in {:.1} s", start.elapsed().as_secs_f64());
}
