//! Truth tables of `tests/netpol` with real packets: every pod asks every other one, over TCP, UDP
//! and SCTP in both families, between and within two running nodes.
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

/// What is sent: cases of every kind, of every change in steps, and all of UDP and of SCTP.
const SENT: [&str; 19] = [
    "01-", "02-", "09-", "10-", "15-", "17-", "20-", "21-", "22-", "28-", "33-", "38-", "39-",
    "43-", "44-", "45-", "46-", "47-", "48-",
];

/// SCTP by raw sockets, for not every kernel has it: an association's INIT, and the answer to one
/// (RFC 9260 §3.3.2, §3.3.3; the checksum is CRC32c, appendix A).
const SCTP: &str = r#"
import struct
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
def sctp(source, destination, verification, kind, tag):
    cookie = struct.pack("!HHI", 7, 8, 1) if kind == INIT_ACK else b""
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20 + len(cookie), tag, 65536, 1, 1, tag) + cookie
    head = struct.pack("!HHI", source, destination, verification)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk
INIT, INIT_ACK = 1, 2
def received(k):
    data, sender = k.recvfrom(2048)
    data = data[(data[0] & 15) * 4:] if k.family == socket.AF_INET else data
    if len(data) < 20 or crc32c(data[:8] + bytes(4) + data[12:]) != struct.unpack("<I", data[8:12])[0]:
        return None
    return sender[0], *struct.unpack("!HHI", data[:8]), data[12], struct.unpack("!I", data[16:20])[0]
def raw(family):
    return socket.socket(family, socket.SOCK_RAW, 132)
"#;

/// Answers at ports 80 and 81: TCP by accepting, UDP by sending back, SCTP by an INIT ACK.
const ANSWER: &str = r#"
import selectors, socket
s = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    s.register(raw(family), selectors.EVENT_READ)
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
        k = key.fileobj
        if k.type == socket.SOCK_STREAM:
            k.accept()[0].close()
        elif k.type == socket.SOCK_DGRAM:
            k.sendto(b"here", k.recvfrom(64)[1])
        elif (packet := received(k)) and packet[4] == INIT and packet[2] in (80, 81):
            sender, source, port, _, _, tag = packet
            k.sendto(sctp(port, source, tag, INIT_ACK, 9), (sender, 0))
"#;

/// Asks all addresses at once, and prints those that answered within a second.
const ASK: &str = r#"
import random, selectors, socket, sys, time
protocol, port, targets = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
s = selectors.DefaultSelector()
family = lambda address: socket.AF_INET6 if ":" in address else socket.AF_INET
end = time.monotonic() + 1
def ask_sctp():
    mine, tag, waiting = random.randrange(1024, 65536), random.randrange(1, 1 << 32), set(targets)
    sockets = {each: raw(each) for each in (socket.AF_INET, socket.AF_INET6)}
    for k in sockets.values():
        s.register(k, selectors.EVENT_READ)
    for address in targets:
        sockets[family(address)].sendto(sctp(mine, port, 0, INIT, tag), (address, 0))
    while waiting and time.monotonic() < end:
        for key, _ in s.select(max(0, end - time.monotonic())):
            packet = received(key.fileobj)
            if packet and packet[1:5] == (port, mine, tag, INIT_ACK) and packet[0] in waiting:
                waiting.remove(packet[0])
                print(packet[0])
def ask_by_sockets():
    for address in targets:
        k = socket.socket(family(address), socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
        k.setblocking(False)
        k.connect_ex((address, port))
        if protocol == "UDP":
            k.send(b"who?")
        s.register(k, selectors.EVENT_WRITE if protocol == "TCP" else selectors.EVENT_READ, address)
    while s.get_map() and time.monotonic() < end:
        for key, _ in s.select(max(0, end - time.monotonic())):
            s.unregister(key.fileobj)
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                print(key.data)
ask_sctp() if protocol == "SCTP" else ask_by_sockets()
"#;

/// The pod of a table in the world of network namespaces.
fn pod(world: &Topology, number: usize) -> &Pod {
    let (namespace, short, node) = PODS[number];
    world.pod(node, &format!("{namespace}{short}"))
}

/// What a probe shows in each family. A pod does not ask itself: no packet would leave it.
fn ask(world: &Topology, probe: &Probe) -> [Table; 2] {
    let program = format!("{SCTP}{ASK}");
    let program = program.as_str();
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
                        .python(&pod(world, from).namespace, program, &arguments)
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
            holds(world, &format!("{}: {}", case.file, step.say), probe);
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
            let program = format!("{SCTP}{ANSWER}");
            let command = ["python3", "-c", &program];
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
