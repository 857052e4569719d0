//! What the underlay sees of two running nodes: WireGuard, whatever the hosts' own rules are and
//! however a node ends. And what an end leaves on the host: nothing, unless it was a crash.

mod common;

use std::fs;
use std::time::Duration;

use common::manifests::{cluster_ips, service};
use common::{FARLANE, Pod, Program, Topology, WORLD, eventually, may_run};

/// What pods say in these tests, in `ping -p` and in TCP; nobody may find it on the wire.
const SECRET: &[u8] = b"farlane-secret!!";

/// Echoes that [`talk`] sends: of two clusters, a pod and a host, over two families.
const ECHOES: usize = 8;

/// Everything on the wire of `eu-1`.
struct Wire {
    tcpdump: Program,
    capture: String,
}

impl Wire {
    fn watch(world: &Topology) -> Wire {
        let capture = world.dir().join("wire.pcap").display().to_string();
        let _ = fs::remove_file(&capture);
        let command = ["tcpdump", "-i", "wire-us-1", "-U", "-w", &capture];
        let tcpdump = world.spawn(&world.namespace("eu-1"), "tcpdump", &command);
        let begun = || fs::metadata(&capture).is_ok_and(|file| file.len() >= 24);
        assert!(eventually(Duration::from_secs(10), begun), "tcpdump runs");
        Wire { tcpdump, capture }
    }

    /// Ends the capture: how many packets tshark takes for WireGuard, and its lines for those that
    /// are something else: neighbour discovery aside, there may be none.
    fn seen(self, world: &Topology) -> (usize, Vec<String>) {
        std::thread::sleep(Duration::from_millis(300));
        self.tcpdump.stop();
        let bytes = fs::read(&self.capture).unwrap();
        let secret = bytes.windows(SECRET.len()).any(|bytes| bytes == SECRET);
        assert!(!secret, "what pods said is on the wire in the clear");
        // Of itself tshark knows WireGuard at 51820 only.
        let read = |filter: &str| {
            // Four lanes, each with a port.
            let ports = "udp.port==51871-51874,wg";
            let arguments = ["-n", "-d", ports, "-Y", filter];
            let command = [&["tshark", "-r", &self.capture], &arguments[..]].concat();
            let host = world.namespace("eu-1");
            let output = world.run_for(Duration::from_secs(60), &host, &command);
            assert!(output.ok, "{}", output.text);
            output.out.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let neighbours = "(icmpv6.type >= 130 && icmpv6.type <= 143)";
        let clear = read(&format!("(ip || ipv6) && !wg && !{neighbours}"));
        (read("wg").len(), clear)
    }
}

/// Pods of both clusters and the hosts themselves talk, over both families: echo, TCP, UDP, and
/// packets that the hosts' kernels answer with errors. How many echoes were answered, of
/// [`ECHOES`]; an answer may take `patience_s`.
fn talk(world: &Topology, patience_s: &str) -> usize {
    let mut answered = 0;
    for (node, from, to) in [
        (
            "eu-1",
            world.pod("eu-1", "client"),
            world.pod("us-1", "web"),
        ),
        (
            "us-1",
            world.pod("us-1", "client"),
            world.pod("eu-1", "web"),
        ),
    ] {
        let host = world.namespace(node);
        for address in to.addresses() {
            for place in [&from.namespace, &host] {
                answered += usize::from(ping(world, place, address, patience_s));
                let script = format!(
                    "echo {0} | socat -t 0.2 - UDP:{1}:8080; echo {0} | socat -t 0.2 - TCP:{1}:8080,connect-timeout=0.3",
                    String::from_utf8_lossy(SECRET),
                    bracketed(address),
                );
                world.run(place, &["sh", "-c", &script]);
                for hops in ["1", "2", "3"] {
                    let short = ["ping", "-n", "-c", "1", "-W", "0.2", "-t", hops, address];
                    world.run(place, &short);
                }
            }
        }
    }
    answered
}

fn ping(world: &Topology, place: &str, address: &str, patience_s: &str) -> bool {
    let pattern: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    let command = [
        "ping", "-n", "-c", "2", "-i", "0.1", "-W", patience_s, "-p", &pattern, address,
    ];
    world.run(place, &command).text.contains(" 0% packet loss")
}

fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

fn serve(world: &Topology) -> [Program; 2] {
    ["eu-1", "us-1"].map(|node| world.serve(world.pod(node, "web"), 8080))
}

#[test]
fn the_wire_shows_only_wireguard_also_of_what_hosts_send() {
    if !may_run("the_wire_shows_only_wireguard_also_of_what_hosts_send") {
        return;
    }
    let world = Topology::up(1, &[]);
    // From before the first packet: nothing leaves in the clear while nodes start either.
    let wire = Wire::watch(&world);
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    let (client, web) = (world.pod("eu-1", "client"), world.pod("us-1", "web"));
    let _sink = world.spawn(&web.namespace, "iperf3-server", &["iperf3", "-s"]);
    let bulk = [
        "sh",
        "-c",
        "sleep 0.5; exec iperf3 -b 50M -t 30 -c \"$0\"",
        &web.v4,
    ];
    let mut bulk = world.spawn(&client.namespace, "iperf3", &bulk);
    assert_eq!(talk(&world, "1"), ECHOES, "all are answered");
    assert!(bulk.runs(), "iperf3 runs beside");
    drop(bulk);
    let (sealed, clear) = wire.seen(&world);
    // A capture on a veth shows a whole train as one packet.
    assert!(sealed > 300, "{sealed} packets of WireGuard");
    assert_eq!(clear, [""; 0]);
}

#[test]
fn rules_of_kube_proxy_on_the_hosts_change_neither_secrecy_nor_services_nor_the_world() {
    if !may_run(
        "rules_of_kube_proxy_on_the_hosts_change_neither_secrecy_nor_services_nor_the_world",
    ) {
        return;
    }
    let world = Topology::up(1, &[]);
    // The rules would answer at home; Farlane is told to prefer the other cluster.
    for (node, cluster) in [("eu-1", "eu"), ("us-1", "us")] {
        let [v4, _] = cluster_ips(80, cluster);
        let text = service("web", 80, cluster, "remote").replace("port: 80,", "port: 8080,");
        world.apply(cluster, "service.yaml", &text);
        world.kube_rules(node, &v4, world.pod(node, "web"), 8080);
    }
    let wire = Wire::watch(&world);
    let _servers = serve(&world);
    let _nodes = world.start_mesh();
    assert_eq!(talk(&world, "1"), ECHOES, "all are answered");
    for (cluster, other) in [("eu", "us-1/web"), ("us", "eu-1/web")] {
        let client = world.pod(&format!("{cluster}-1"), "client");
        for address in cluster_ips(80, cluster) {
            for _ in 0..3 {
                let answer = world.ask(client, &address, 8080);
                assert_eq!(answer.as_deref(), Some(other), "{address} goes by Farlane");
            }
        }
        for address in WORLD {
            assert!(world.pings(&client.namespace, address, 3), "{address}");
        }
    }
    // The world never saw a pod's address: the host's own rule was not by-passed.
    let seen = world.run(
        &world.namespace("world"),
        &["ip", "route", "get", "10.1.1.10"],
    );
    assert!(!seen.ok, "the world has no way to a pod: {}", seen.text);
    let (sealed, clear) = wire.seen(&world);
    assert!(sealed > 100, "{sealed} packets of WireGuard");
    assert_eq!(clear, [""; 0]);
}

#[test]
fn a_killed_node_is_closed_and_starts_again_at_once_and_clean_removes_everything() {
    if !may_run("a_killed_node_is_closed_and_starts_again_at_once_and_clean_removes_everything") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _servers = serve(&world);
    let before = world.host_state("eu-1");
    let mut nodes = world.start_mesh();
    assert_eq!(talk(&world, "1"), ECHOES, "all are answered");
    let wire = Wire::watch(&world);
    kill(&mut nodes[0]);
    let (client, near) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    let far = world.pod("us-1", "web");
    assert_eq!(talk(&world, "0.3"), 0, "a dead node carries nothing");
    for family in [0, 1] {
        for to in [
            near.addresses()[family],
            far.addresses()[family],
            WORLD[family],
        ] {
            assert!(!ping(&world, &client.namespace, to, "0.3"), "closed: {to}");
        }
        let from_host = ping(
            &world,
            &world.namespace("eu-1"),
            far.addresses()[family],
            "0.3",
        );
        assert!(!from_host, "closed for the host too");
    }
    // Started again at once, over what is left; then killed and started without a breath between.
    nodes[0] = world.start("eu-1");
    kill(&mut nodes[0]);
    nodes[0] = world.start("eu-1");
    world.await_peers();
    // The other node learns of each pair of lanes by itself that its session is gone, in a second.
    let answered = || talk(&world, "1") == ECHOES;
    let again = eventually(Duration::from_secs(10), answered);
    assert!(again, "all are answered again");
    kill(&mut nodes[0]);
    let (_, clear) = wire.seen(&world);
    assert_eq!(clear, [""; 0]);

    let clean = [FARLANE, "clean", "--config", &world.node_file("eu-1")];
    let host = world.namespace("eu-1");
    let said = world.run(&host, &clean);
    assert!(said.ok, "{}", said.text);
    assert!(
        said.out.contains("removed the nftables table"),
        "{}",
        said.out
    );
    assert_eq!(world.host_state("eu-1"), before, "clean removes everything");
    let again = world.run(&host, &clean);
    assert_eq!((again.ok, again.out.as_str()), (true, "nothing was left\n"));
}

#[test]
fn a_killed_node_that_is_to_be_open_gives_its_pods_back_to_the_host() {
    if !may_run("a_killed_node_that_is_to_be_open_gives_its_pods_back_to_the_host") {
        return;
    }
    let world = Topology::up(1, &[]);
    let file = world.node_file("eu-1");
    let text = fs::read_to_string(&file).unwrap() + "pods: {tun: {onCrash: open}}\n";
    fs::write(&file, text).unwrap();
    let before = world.host_state("eu-1");
    let mut nodes = world.start_mesh();
    let pods = |node: &str| (world.pod(node, "client"), world.pod(node, "web"));
    let (client, near) = pods("eu-1");
    let ways = |to: &Pod| {
        let to = to.addresses();
        [0, 1].map(|family| (to[family].to_owned(), WORLD[family]))
    };
    for (to, beyond) in ways(near) {
        assert!(world.pings(&client.namespace, &to, 2), "{to}");
        assert!(world.pings(&client.namespace, beyond, 2), "{beyond}");
    }
    kill(&mut nodes[0]);
    // What a ring held goes a moment after its process.
    let host = world.namespace("eu-1");
    let show = ["ip", "link", "show", "farlane0"];
    let gone = || !world.run(&host, &show).ok;
    assert!(eventually(Duration::from_secs(1), gone));
    for (to, beyond) in ways(near) {
        assert!(world.pings(&client.namespace, &to, 2), "open: {to}");
        assert!(world.pings(&client.namespace, beyond, 2), "open: {beyond}");
    }
    let said = world.run(&host, &[FARLANE, "clean", "--config", &file]);
    assert!(said.ok, "{}", said.text);
    assert_eq!(world.host_state("eu-1"), before);
}

#[test]
fn a_clean_end_leaves_nothing_on_the_host() {
    if !may_run("a_clean_end_leaves_nothing_on_the_host") {
        return;
    }
    let world = Topology::up(1, &[]);
    world.kube_rules("eu-1", "10.101.0.80", world.pod("eu-1", "web"), 8080);
    let before = ["eu-1", "us-1"].map(|node| world.host_state(node));
    for signal in ["TERM", "INT"] {
        let nodes = world.start_mesh();
        assert_ne!(world.host_state("eu-1"), before[0], "it did something");
        for (mut node, name) in nodes.into_iter().zip(world.nodes()) {
            node.signal(signal);
            assert_eq!(node.wait(Duration::from_secs(10)), Some(0), "{name}");
            let socket = world.socket(name);
            assert!(fs::metadata(&socket).is_err(), "{socket} is gone");
        }
        assert_eq!(["eu-1", "us-1"].map(|node| world.host_state(node)), before);
    }
}

fn kill(node: &mut Program) {
    node.signal("KILL");
    assert_eq!(node.wait(Duration::from_secs(5)), None);
}
