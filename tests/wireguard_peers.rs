//! A `farlane wireguard` interface with thousands of peers: all are listed, each has what is its,
//! and a packet goes to the one whose prefix is the longest, whatever is added, moved or removed.
//!
//! ```text
//!   hub  10.250.0.1 ── 192.0.2.1 ── 192.0.2.2 ── 10.0.0.0/9  far
//! ```
//!
//! Only the far end is there; the others have keys that nobody owns.

mod common;
mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use common::{Program, may_run};
use wireguard::{Interface, Keys, Network};

/// Peers beside the real one.
const OTHERS: u32 = 4000;

/// What a peer is given in a configuration file, its allowed IPs in the order of `wg`'s own words.
struct Peer {
    key: String,
    allowed: BTreeSet<String>,
}

/// Keys that are valid and nobody's: 32 bytes in base64, different for each number.
fn key_of_nobody(number: u32) -> String {
    // Ten groups of three bytes, then two; base64 writes each group of three as four letters.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |bits: u32| (0..4).map(move |at| letters[(bits >> (18 - 6 * at)) as usize & 63]);
    let mut key: Vec<u8> = four(number).collect();
    (0..9).for_each(|group| key.extend(four(0x5a_17c3 ^ group)));
    key.extend(b"xyg=");
    String::from_utf8(key).unwrap()
}

/// Peer `number` has a network of IPv4 and one of IPv6, and a host in the network of the next.
fn other(number: u32) -> Peer {
    let [_, _, high, low] = number.to_be_bytes();
    let [_, _, next_high, next_low] = (number + 1).to_be_bytes();
    Peer {
        key: key_of_nobody(number),
        allowed: [
            format!("10.{high}.{low}.0/24"),
            format!("10.{next_high}.{next_low}.9/32"),
            format!("fd00:{number:x}::/64"),
        ]
        .into(),
    }
}

fn configuration(private: &str, peers: &[Peer], far: &str) -> String {
    let mut text = format!("[Interface]\nPrivateKey = {private}\nListenPort = 51820\n");
    for Peer { key, allowed } in peers {
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let allowed = allowed.join(", ");
        write!(
            text,
            "[Peer]\nPublicKey = {key}\nAllowedIPs = {allowed}\nEndpoint = 192.0.2."
        )
        .unwrap();
        // Nobody answers there.
        text += if key == far {
            "2:51820\n"
        } else {
            "99:51820\n"
        };
    }
    text
}

struct Side {
    network: Network,
    interface: Interface,
    keys: Keys,
    _program: Program,
}

impl Side {
    fn new() -> Side {
        let (network, interface) = (Network::new(), Interface::new());
        let program = interface.serve(&network);
        Side {
            network,
            interface,
            keys: Keys::new(),
            _program: program,
        }
    }

    fn set(&self, words: &str) {
        let name = &self.interface.name;
        self.network.sh(&format!("wg set {name} {words}"));
    }

    /// What `wg show` lists: the allowed IPs of each peer.
    fn listed(&self) -> BTreeMap<String, BTreeSet<String>> {
        let shown = self.interface.shows(&self.network, "allowed-ips");
        let lines = shown.lines().map(|line| {
            let (key, allowed) = line.split_once('\t').unwrap();
            let allowed = allowed.split(' ').filter(|word| *word != "(none)");
            (key.to_owned(), allowed.map(str::to_owned).collect())
        });
        lines.collect()
    }

    fn reaches(&self, address: &str) -> bool {
        let command = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address];
        self.network.run(&command).text.contains(" 0% packet loss")
    }
}

/// The hub with all its peers, and the far end, which answers for 10.0.0.0/9.
fn joined(peers: &mut Vec<Peer>) -> (Side, Side) {
    let (hub, far) = (Side::new(), Side::new());
    hub.network.sh(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}",
        far.network.name
    ));
    let name = &hub.interface.name;
    hub.network.sh(&format!(
        "ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; \
         ip addr add 10.250.0.1/32 dev {name}; ip link set {name} mtu 1420 up; \
         ip route add 10.0.0.0/9 dev {name}"
    ));
    let (name, private) = (
        &far.interface.name,
        far.interface.write("private", &far.keys.private),
    );
    far.set(&format!(
        "private-key {private} listen-port 51820 peer {} allowed-ips 10.250.0.1/32",
        hub.keys.public
    ));
    far.network.sh(&format!(
        "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip link set {name} mtu 1420 up; \
         ip route add 10.250.0.1/32 dev {name}; ip route add local 10.0.0.0/9 dev lo"
    ));
    // In the midst of all, with a network around them and one inside another's.
    let allowed = ["10.0.0.0/9", "10.7.7.128/25"].map(str::to_owned);
    peers.insert(
        peers.len() / 2,
        Peer {
            key: far.keys.public.clone(),
            allowed: allowed.into(),
        },
    );
    let text = configuration(&hub.keys.private, peers, &far.keys.public);
    let file = hub.interface.write("all", &text);
    let name = &hub.interface.name;
    hub.network.sh(&format!("wg setconf {name} {file}"));
    (hub, far)
}

#[test]
fn thousands_of_peers_are_listed_and_the_longest_prefix_has_the_packet() {
    if !may_run("thousands_of_peers_are_listed_and_the_longest_prefix_has_the_packet") {
        return;
    }
    let mut peers: Vec<Peer> = (1..=OTHERS).map(other).collect();
    let (hub, far) = joined(&mut peers);
    let mut expected: BTreeMap<String, BTreeSet<String>> = peers
        .iter()
        .map(|peer| (peer.key.clone(), peer.allowed.clone()))
        .collect();
    assert_eq!(hub.listed().len(), OTHERS as usize + 1);
    assert_eq!(hub.listed(), expected);

    let seventh = key_of_nobody(7 * 256 + 7);
    // Inside 10.7.7.0/24, which another has; around all that others have; and neither.
    assert!(hub.reaches("10.7.7.129") && hub.reaches("10.100.0.1"));
    assert!(!hub.reaches("10.7.7.1"));

    // A prefix that is given to another goes from whom it had, and comes back.
    let inner = "10.7.7.128/25";
    hub.set(&format!("peer {seventh} allowed-ips {inner}"));
    expected.insert(seventh.clone(), [inner.to_owned()].into());
    let ours = expected.get_mut(&far.keys.public).unwrap();
    ours.remove(inner);
    assert_eq!(hub.listed(), expected);
    assert!(!hub.reaches("10.7.7.129"));
    // What it had before is nobody's own now, and so belongs to whose network is around it.
    assert!(hub.reaches("10.7.7.1"));

    // Who is removed has nothing any more.
    hub.set(&format!("peer {seventh} remove"));
    expected.remove(&seventh);
    assert_eq!(hub.listed(), expected);
    assert!(hub.reaches("10.7.7.129"));

    // All are replaced by one.
    let name = &hub.interface.name;
    let last = peers.pop().unwrap();
    let text = configuration(&hub.keys.private, &[last], "");
    let file = hub.interface.write("one", &text);
    hub.network.sh(&format!("wg setconf {name} {file}"));
    assert_eq!(hub.listed().len(), 1);
    assert!(!hub.reaches("10.7.7.129"));
}
