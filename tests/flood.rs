//! A stranger who knows our public key and sends first messages from many addresses: he is told
//! less than he says, takes no memory, and a new peer connects all the same.
//!
//! ```text
//!   stranger 198.18.0.2, 10.99.0.0/16 ── victim 198.18.0.1, 198.19.0.1 ── guest 198.19.0.2
//! ```

mod common;
mod wireguard;

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{eventually, may_run};
use packet::Now;
use tunnel::{Lane, Outbox, PrivateKey, PublicKey};
use wireguard::{Interface, Keys, Network};

/// Addresses of the stranger's; each has a socket, so no more than a process may open.
const ADDRESSES: usize = 800;
const VICTIM: &str = "198.18.0.1:51820";

/// What the stranger has sent and what came back, in bytes of UDP payload.
#[derive(Debug, Default)]
struct Books {
    sent: AtomicUsize,
    cookies: AtomicUsize,
    other: AtomicUsize,
    ended: AtomicBool,
}

/// A first message to `receiver` from a key that is nobody's: its first MAC is right, and the same
/// from wherever it is sent.
fn forged(receiver: &str) -> Vec<u8> {
    let key = STANDARD.decode(receiver).unwrap().try_into().unwrap();
    let mut out = Outbox::new(0, 4, 4);
    let mut lane = Lane::new(0, PrivateKey::from_bytes([9; 32]), [1; 32]);
    let (now, key) = (Now::default(), PublicKey::from_bytes(key));
    let peer = lane.add_peer(now, key).unwrap();
    lane.set_endpoint(peer, VICTIM.parse().unwrap());
    lane.set_keepalive(now, peer, 1, &mut out);
    let message = out.wire.pop().unwrap().buf.as_slice().to_vec();
    assert_eq!((message[0], message.len()), (1, 148));
    message
}

/// Sends it from all addresses in turn, some 50,000 times a second, until the books are closed.
fn flood(network: &Network, message: Vec<u8>, books: Arc<Books>) -> JoinHandle<()> {
    let namespace = fs::File::open(format!("/run/netns/{}", network.name)).unwrap();
    std::thread::spawn(move || {
        // SAFETY: setns moves this thread alone, to a namespace that the file holds, and touches
        // no memory.
        let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(moved, 0, "{}", std::io::Error::last_os_error());
        let sockets: Vec<UdpSocket> = (0..ADDRESSES)
            .map(|number| {
                let address = format!("10.99.{}.{}:0", number / 200, 1 + number % 200);
                let socket = UdpSocket::bind(address).unwrap();
                socket.connect(VICTIM).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            })
            .collect();
        let mut answer = [0; 2_000];
        while !books.ended.load(Ordering::Relaxed) {
            for socket in &sockets {
                let sent = socket.send(&message).unwrap_or(0);
                books.sent.fetch_add(sent, Ordering::Relaxed);
                while let Ok(length) = socket.recv(&mut answer) {
                    let cookie = (answer[0], length) == (3, 64);
                    let column = if cookie { &books.cookies } else { &books.other };
                    column.fetch_add(length, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    })
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    number.parse().unwrap()
}

/// Gives an interface its key, and the address 10.77.0.`number` inside.
fn configure(network: &Network, interface: &Interface, keys: &Keys, number: u8) {
    let (name, file) = (&interface.name, interface.write("private", &keys.private));
    network.sh(&format!(
        "wg set {name} private-key {file} listen-port 51820; \
         ip addr add 10.77.0.{number}/24 dev {name}; ip link set {name} mtu 1420 up"
    ));
}

#[test]
fn under_a_flood_a_new_peer_connects_and_the_stranger_gets_less_than_he_gives() {
    if !may_run("under_a_flood_a_new_peer_connects_and_the_stranger_gets_less_than_he_gives") {
        return;
    }
    let [victim, stranger, guest] = [(); 3].map(|()| Network::new());
    for (number, other) in [(18, &stranger), (19, &guest)] {
        victim.sh(&format!(
            "ip link add net{number} type veth peer name eth0 netns {}; \
             ip addr add 198.{number}.0.1/24 dev net{number}; ip link set net{number} up",
            other.name
        ));
        other.sh(&format!(
            "ip addr add 198.{number}.0.2/24 dev eth0; ip link set eth0 up"
        ));
    }
    victim.sh("ip route add 10.99.0.0/16 via 198.18.0.2");
    stranger.sh("ip route add local 10.99.0.0/16 dev lo");
    let keys = [Keys::new(), Keys::new()];
    let interfaces = [Interface::new(), Interface::new()];
    let program = interfaces[0].serve(&victim);
    let _other = interfaces[1].serve(&guest);
    configure(&victim, &interfaces[0], &keys[0], 1);
    configure(&guest, &interfaces[1], &keys[1], 2);
    let names = [&interfaces[0].name, &interfaces[1].name];
    victim.sh(&format!(
        "wg set {} peer {} allowed-ips 10.77.0.2/32",
        names[0], keys[1].public
    ));
    let idle = resident_kib(program.pid());

    let books = Arc::new(Books::default());
    let flooding = flood(&stranger, forged(&keys[0].public), Arc::clone(&books));
    let loaded = || books.cookies.load(Ordering::Relaxed) > 0;
    let loaded = eventually(Duration::from_secs(20), loaded);
    guest.sh(&format!(
        "wg set {} peer {} allowed-ips 10.77.0.1/32 endpoint 198.19.0.1:51820",
        names[1], keys[0].public
    ));
    let pings = || {
        guest
            .run(&["ping", "-n", "-c", "1", "-W", "1", "10.77.0.1"])
            .ok
    };
    let connected = eventually(Duration::from_secs(30), pings);
    let flooded = resident_kib(program.pid());
    books.ended.store(true, Ordering::Relaxed);
    flooding.join().unwrap();

    assert!(loaded, "the flood was none: {books:?}");
    assert!(connected, "{books:?}");
    let [sent, cookies, other] =
        [&books.sent, &books.cookies, &books.other].map(|column| column.load(Ordering::Relaxed));
    assert_eq!(other, 0, "{books:?}");
    assert!(cookies < sent / 2, "{books:?}");
    assert!(flooded < idle + (8 << 10), "{idle} KiB idle, {flooded} KiB");
}
