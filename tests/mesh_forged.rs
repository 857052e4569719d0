//! Malformed and forged packets, of pods, of strangers and of a peer gone rogue: dropped under a
//! name that status shows, and nobody dies of it.

mod common;

use std::fs;
use std::time::Duration;

use common::{FARLANE, Program, Topology, eventually, may_run};

/// Sends one packet as a pod would that is up to no good: the source, the destination, and what of
/// it is wrong.
const FROM_A_POD: &str = r#"
import socket, struct, sys
source, target, what = sys.argv[1:]
v6 = ":" in target
tcp = lambda offset: struct.pack("!HHIIBBHHH", 4000, 8080, 1, 0, offset << 4, 2, 1000, 0, 0)
udp = lambda length: struct.pack("!HHHH", 4000, 8080, length, 0) + b"12345678"
protocol, payload = {
    "tcpHeader": (6, tcp(1)),
    "udpLength": (17, udp(7)),
    "transportLength": (6, tcp(5)[:10]),
    "routingHeaderZero": (43, bytes([59, 2, 0, 1, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "fd10:1::1:11")),
    "good": (17, udp(16)),
}[what]
if v6:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    packet = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload
    out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.sendto(packet, (target, 0))
else:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + ends + payload
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.sendto(packet, (target, 0))
"#;

#[test]
fn malformed_and_forged_packets_of_pods_are_dropped_under_a_name() {
    if !may_run("malformed_and_forged_packets_of_pods_are_dropped_under_a_name") {
        return;
    }
    let world = Topology::up(1, &[]);
    let mut nodes = world.start_mesh();
    let (client, web) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    let far = world.pod("us-1", "web");
    let outsider = ["203.0.113.9", "2001:db8:bad::9"];
    let send = |source: &str, target: &str, what: &str| {
        let sent = world.python(&client.namespace, FROM_A_POD, &[source, target, what]);
        assert!(sent.ok, "{what} to {target}: {}", sent.text);
    };
    for family in [0, 1] {
        let own = client.addresses()[family];
        for to in [web, far] {
            let to = to.addresses()[family];
            for what in [
                "tcpHeader",
                "udpLength",
                "transportLength",
                "routingHeaderZero",
            ] {
                if what == "routingHeaderZero" && family == 0 {
                    continue;
                }
                let before = world.drops("eu-1", what);
                send(own, to, what);
                let counted = || world.drops("eu-1", what) == before + 1;
                let counted = eventually(Duration::from_secs(2), counted);
                let status = world.status("eu-1").unwrap();
                assert!(counted, "{what} to {to}: {}", status["drops"]);
            }
            for (source, counter) in [
                (web.addresses()[family], "spoofed"),
                (far.addresses()[family], "foreign"),
                (outsider[family], "foreign"),
            ] {
                let count = || world.status("eu-1").unwrap()["host"][counter].as_u64();
                let before = count().unwrap();
                send(source, to, "good");
                let counted = eventually(Duration::from_secs(2), || count() == Some(before + 1));
                assert!(counted, "{source} to {to} counts as {counter}");
            }
        }
        assert!(world.pings(&client.namespace, far.addresses()[family], 2));
    }
    assert!(nodes.iter_mut().all(Program::runs), "nobody died of it");
}

/// Catches one data message on the wire: the port that it goes to, and its bytes as hex.
const CATCH: &str = r#"
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
wire.bind(("wire-us-1", 0)); wire.settimeout(5)
while True:
    packet, origin = wire.recvfrom(65536)
    if origin[2] == 0 and packet[9] == 17 and packet[28] == 4 and len(packet) < 400:
        print(int.from_bytes(packet[22:24], "big"), packet[28:].hex()); break
"#;

/// Sends a datagram, given as hex, to a port of the node.
const FROM_THE_WORLD: &str = r#"
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[2]), ("192.0.2.1", int(sys.argv[1])))
"#;

#[test]
fn malformed_and_forged_datagrams_from_anywhere_are_dropped_under_a_name() {
    if !may_run("malformed_and_forged_datagrams_from_anywhere_are_dropped_under_a_name") {
        return;
    }
    let world = Topology::up(1, &[]);
    let mut nodes = world.start_mesh();
    let beyond = world.namespace("world");
    let way = [
        "ip",
        "route",
        "add",
        "192.0.2.1/32",
        "via",
        "198.51.100.1",
        "dev",
        "to-eu-1",
    ];
    assert!(world.run(&beyond, &way).ok);
    let (client, web) = (world.pod("us-1", "client"), world.pod("eu-1", "web"));
    let dropped_at = |port: &str, hex: &str, reason: &str| {
        let before = world.drops("eu-1", reason);
        let sent = world.python(&beyond, FROM_THE_WORLD, &[port, hex]);
        assert!(sent.ok, "{}", sent.text);
        let counted = || world.drops("eu-1", reason) == before + 1;
        let counted = eventually(Duration::from_secs(2), counted);
        let status = world.status("eu-1").unwrap();
        assert!(counted, "{reason}: {}", status["drops"]);
    };
    let dropped = |hex: &str, reason: &str| dropped_at("51871", hex, reason);
    let message =
        |start: &str, bytes: usize| start.to_owned() + &"5a".repeat(bytes - start.len() / 2);
    dropped("", "lengthWrong");
    dropped("04", "lengthWrong");
    dropped(&message("09000000", 64), "typeUnknown");
    dropped(&message("04000001", 64), "typeUnknown");
    dropped(&message("01000000", 147), "lengthWrong");
    dropped(&message("04000000", 31), "lengthWrong");
    dropped(&message("01000000", 148), "macWrong");
    dropped(&message("02000000", 92), "macWrong");
    dropped(&message("04000000", 96), "sessionUnknown");

    // A real message, again; and with one bit of its tag turned, as a counter not seen yet.
    let ping = ["ping", "-n", "-i", "0.1", &web.v4];
    let pinging = world.spawn(&client.namespace, "ping", &ping);
    let caught = world.python(&world.namespace("eu-1"), CATCH, &[]);
    drop(pinging);
    assert!(caught.ok, "{}", caught.text);
    let (port, real) = caught.out.trim().split_once(' ').expect("port and bytes");
    dropped_at(port, real, "replayed");
    let mut forged = real.to_owned();
    // The counter: 8 bytes, little endian, behind type and receiver.
    forged.replace_range(16..24, "ffff0000");
    dropped_at(port, &forged, "dataForged");

    assert!(nodes.iter_mut().all(Program::runs), "nobody died of it");
    for address in web.addresses() {
        assert!(world.pings(&client.namespace, address, 3), "{address}");
    }
    // Nobody moved the peer to where the forger sat.
    let status = world.status("eu-1").unwrap();
    let endpoint = &status["peers"][0]["lanes"][0]["endpoint"];
    assert_eq!(endpoint, "192.0.2.3:51871");
}

/// A node of the other cluster that its owner has turned into a plain WireGuard with the same key,
/// so that nothing at that end asks what it sends.
#[test]
fn a_peer_that_sends_from_addresses_that_are_not_its_own_is_dropped_under_a_name() {
    if !may_run("a_peer_that_sends_from_addresses_that_are_not_its_own_is_dropped_under_a_name") {
        return;
    }
    let world = Topology::up(1, &[]);
    world.exchange_keys();
    let mut node = world.start("eu-1");
    let host = world.namespace("us-1");
    let key = [
        FARLANE,
        "key",
        "public",
        "--config",
        &world.node_file("eu-1"),
    ];
    let key = world.run(&host, &key).out.trim().to_owned();
    let device = format!("t{}", std::process::id());
    let rogue = world.spawn(
        &host,
        "rogue",
        &[FARLANE, "wireguard", &device, "--foreground"],
    );
    let socket = format!("/var/run/wireguard/{device}.sock");
    let listens = || fs::metadata(&socket).is_ok();
    assert!(eventually(Duration::from_secs(5), listens), "{socket}");
    let private = world.dir().join("us-1/state/private.key");
    let script = format!(
        "wg set {device} private-key {} listen-port 51871 peer {key} endpoint 192.0.2.1:51871 allowed-ips 10.1.0.0/16,fd10:1::/64 \
         && ip link set {device} up && ip route add 10.1.0.0/16 dev {device} && ip route add fd10:1::/64 dev {device}",
        private.display()
    );
    let set = world.run(&host, &["sh", "-c", &script]);
    assert!(set.ok, "{}", set.text);
    let (own, web) = (world.pod("us-1", "client"), world.pod("eu-1", "web"));
    for family in [0, 1] {
        // What is its own passes: the handshake was right, and the same packet is taken.
        let to = web.addresses()[family];
        assert!(world.pings(&own.namespace, to, 2), "{to}");
        for source in [
            world.pod("eu-1", "client").addresses()[family],
            ["192.0.2.1", "2001:db8::1"][family],
            ["203.0.113.9", "2001:db8:bad::9"][family],
        ] {
            let before = world.drops("eu-1", "forgedSource");
            let sent = world.python(&host, FROM_A_POD, &[source, to, "good"]);
            assert!(sent.ok, "{}", sent.text);
            let counted = || world.drops("eu-1", "forgedSource") == before + 1;
            let counted = eventually(Duration::from_secs(2), counted);
            let status = world.status("eu-1").unwrap();
            assert!(counted, "{source}: {}", status["drops"]);
        }
    }
    assert!(node.runs(), "nobody died of it");
    assert_eq!(rogue.stop(), Some(0));
}
