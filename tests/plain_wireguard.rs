//! `farlane wireguard` beside another WireGuard: Debian's wireguard-go, both driven by `wg`.

mod common;

use common::{FARLANE, Program, Topology, eventually, may_run, skip};
use std::process::Command;
use std::time::Duration;

/// One end of a tunnel: a program, its device, and the address inside.
struct End<'a> {
    world: &'a Topology,
    node: &'static str,
    device: String,
    address: &'static str,
    public_key: String,
    _program: Program,
}

/// The nodes of a world with their inner addresses and their underlay addresses.
const PLACES: [(&str, &str, &str); 2] = [
    ("eu-1", "10.99.0.1", "192.0.2.1"),
    ("us-1", "10.99.0.2", "192.0.2.3"),
];

/// A wireguard-go to test against; `None` when there is none within reach.
fn wireguard_go() -> Option<String> {
    if let Ok(path) = std::env::var("FARLANE_WIREGUARD_GO") {
        return Some(path);
    }
    let script = common::script("peer-wireguard-go");
    let output = Command::new(script).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().to_owned())
}

impl<'a> End<'a> {
    /// Starts `command DEVICE` on a node of the world and gives it a key, a port and an address.
    fn start(world: &'a Topology, place: usize, command: &[&str], after: &[&str]) -> End<'a> {
        let (node, address, _) = PLACES[place];
        let namespace = world.namespace(node);
        let device = format!("{}{place}", world.prefix());
        let full = [command, &[&device], after].concat();
        let shown = || world.run(&namespace, &["wg", "show", &device]).ok;
        let start = || {
            let program = world.spawn(&namespace, &format!("wireguard-{node}"), &full);
            eventually(Duration::from_secs(10), shown).then_some(program)
        };
        // wireguard-go loses a race at its start now and then, and ends: it is started again.
        let program = (0..3).find_map(|_| start());
        let program = program.unwrap_or_else(|| panic!("{full:?} does not answer"));
        let key = world.dir().join(format!("key-{node}"));
        let make = format!("umask 077; wg genkey > {}", key.display());
        assert!(world.run(&namespace, &["sh", "-c", &make]).ok);
        let end = End {
            world,
            node,
            public_key: String::new(),
            device,
            address,
            _program: program,
        };
        let key = key.display().to_string();
        end.wg(&["listen-port", "51820", "private-key", &key]);
        for step in [
            vec!["addr", "add", end.address, "dev", &end.device],
            vec!["link", "set", &end.device, "mtu", "1420", "up"],
            vec!["route", "add", "10.99.0.0/24", "dev", &end.device],
        ] {
            let done = world.run(&namespace, &[vec!["ip"], step].concat());
            assert!(done.ok, "{}", done.text);
        }
        let public_key = end.show("public-key");
        End { public_key, ..end }
    }

    fn wg(&self, settings: &[&str]) {
        let command = [&["wg", "set", &self.device], settings].concat();
        let done = self.world.run(&self.world.namespace(self.node), &command);
        assert!(done.ok, "{}: {}", self.node, done.text);
    }

    fn show(&self, field: &str) -> String {
        let command = ["wg", "show", &self.device, field];
        let output = self.world.run(&self.world.namespace(self.node), &command);
        assert!(output.ok, "{}", output.text);
        output.out.trim().to_owned()
    }

    /// Makes `other` a peer; without an endpoint it must be the other that begins.
    fn meet(&self, other: &End<'_>, with_endpoint: bool) {
        let allowed = format!("{}/32", other.address);
        let place = PLACES.iter().find(|place| place.0 == other.node).unwrap();
        let endpoint = format!("{}:51820", place.2);
        let mut settings = vec!["peer", &other.public_key, "allowed-ips", &allowed];
        if with_endpoint {
            settings.extend(["endpoint", &endpoint]);
        }
        self.wg(&settings);
    }

    /// Pings `other` through the tunnel; the summary of ping.
    fn ping(&self, other: &End<'_>, count: u32) -> String {
        let count = count.to_string();
        let command = ["ping", "-n", "-q", "-i", "0.2", "-c", &count, other.address];
        let bound = Duration::from_secs(400);
        let namespace = self.world.namespace(self.node);
        self.world.run_for(bound, &namespace, &command).text
    }
}

/// Two ends, Farlane's and wireguard-go's; `initiator` says who knows the other's endpoint.
fn pair<'a>(world: &'a Topology, peer: &str, farlane_begins: bool) -> (End<'a>, End<'a>) {
    let ours = End::start(world, 0, &[FARLANE, "wireguard"], &["--foreground"]);
    let theirs = End::start(world, 1, &[peer, "-f"], &[]);
    ours.meet(&theirs, farlane_begins);
    theirs.meet(&ours, !farlane_begins);
    (ours, theirs)
}

#[test]
fn six_minutes_of_pings_across_rekeying_lose_nothing_whoever_begins() {
    const NAME: &str = "six_minutes_of_pings_across_rekeying_lose_nothing_whoever_begins";
    if !may_run(NAME) {
        return;
    }
    let Some(peer) = wireguard_go() else {
        return skip(NAME, "no wireguard-go within reach");
    };
    let summaries: Vec<String> = std::thread::scope(|scope| {
        let run = |farlane_begins| {
            let peer = &peer;
            scope.spawn(move || {
                let world = Topology::up(1, &["eu-1/client", "us-1/client"]);
                let (ours, theirs) = pair(&world, peer, farlane_begins);
                if farlane_begins {
                    ours.ping(&theirs, 1800)
                } else {
                    theirs.ping(&ours, 1800)
                }
            })
        };
        let both = [run(true), run(false)];
        both.map(|thread| thread.join().unwrap()).into()
    });
    for (summary, begins) in summaries.iter().zip(["farlane", "wireguard-go"]) {
        let all = summary.contains("1800 received, 0% packet loss");
        assert!(all, "{begins} begins: {summary}");
    }
}
