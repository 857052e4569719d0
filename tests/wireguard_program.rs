//! The contract of a WireGuard program (wireguard.com/xplatform), held by the real `wg` and
//! `wg-quick`: whoever drives wireguard-go with them can drive farlane.

mod common;
mod wireguard;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{FARLANE, eventually, may_run};
use wireguard::{Interface, Keys, Network, preshared_key};

/// Linux `errno-base.h` and `errno.h`.
const EINVAL: &str = "errno=22";
const EPROTO: &str = "errno=71";
const EADDRINUSE: &str = "errno=98";

/// Longest that a program may take to end.
const END: Duration = Duration::from_secs(5);

/// A link to farlane by another name, as a package would install it.
fn linked(interface: &Interface, name: &str) -> String {
    // Beside the binary: a hard link cannot leave its file system.
    let beside = PathBuf::from(FARLANE).with_file_name(&interface.name);
    fs::create_dir_all(&beside).unwrap();
    let path = beside.join(name);
    if !path.exists() {
        fs::hard_link(FARLANE, &path).unwrap();
    }
    path.display().to_string()
}

fn exists(network: &Network, interface: &Interface) -> bool {
    network.run(&["ip", "link", "show", &interface.name]).ok
}

/// The interface and its socket are both gone, or will be very soon.
fn is_gone(network: &Network, interface: &Interface) -> bool {
    eventually(END, || {
        !exists(network, interface) && !interface.socket().exists()
    })
}

#[test]
fn wg_sets_everything_and_shows_it_again() {
    if !may_run("wg_sets_everything_and_shows_it_again") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let _program = interface.serve(&network);
    let (own, peer, preshared) = (Keys::new(), Keys::new(), preshared_key());
    let private = interface.write("private", &own.private);
    let preshared_file = interface.write("preshared", &preshared);
    let Interface { name, .. } = &interface;
    network.sh(&format!(
        "wg set {name} private-key {private} listen-port 51999 fwmark 0x2a peer {} \
         preshared-key {preshared_file} endpoint 192.0.2.7:4242 persistent-keepalive 25 \
         allowed-ips 10.7.0.0/16,fd07::/64,192.0.2.99/32",
        peer.public
    ));
    let dump = interface.shows(&network, "dump");
    let lines: Vec<&str> = dump.lines().collect();
    assert_eq!(
        lines[0],
        format!("{}\t{}\t51999\t0x2a", own.private, own.public)
    );
    let words: Vec<&str> = lines[1].split('\t').collect();
    assert_eq!(words[..3], [&*peer.public, &preshared, "192.0.2.7:4242"]);
    let mut allowed: Vec<&str> = words[3].split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["10.7.0.0/16", "192.0.2.99/32", "fd07::/64"]);
    // No handshake yet, nothing received; it tries, so something may have been sent.
    assert_eq!((words[4], words[5], words[7]), ("0", "0", "25"));
    network.sh(&format!(
        "wg set {name} fwmark 0 peer {} preshared-key /dev/null persistent-keepalive off \
         endpoint '[2001:db8::7]:4242'",
        peer.public
    ));
    let dump = interface.shows(&network, "dump");
    let words: Vec<&str> = dump.lines().last().unwrap().split('\t').collect();
    assert_eq!(words[1..3], ["(none)", "[2001:db8::7]:4242"]);
    assert_eq!(words[7], "off");
    assert!(dump.lines().next().unwrap().ends_with("\toff"), "{dump}");
    network.sh(&format!("wg set {name} private-key /dev/null"));
    assert_eq!(interface.shows(&network, "private-key"), "(none)");
}

#[test]
fn a_configuration_goes_in_comes_out_and_is_brought_up_to_date() {
    if !may_run("a_configuration_goes_in_comes_out_and_is_brought_up_to_date") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let _program = interface.serve(&network);
    let name = &interface.name;
    let (own, peers) = (Keys::new(), [Keys::new(), Keys::new(), Keys::new()]);
    let device = format!(
        "[Interface]\nListenPort = 51998\nPrivateKey = {}\n",
        own.private
    );
    let section = |number: usize, allowed: &str| {
        let public = &peers[number].public;
        format!("\n[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\n")
    };
    let two = device.clone() + &section(0, "10.0.0.0/24") + &section(1, "10.1.0.0/24");
    let has = |expected: &[(usize, &str)]| {
        let shown = interface.shows(&network, "allowed-ips");
        let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
        lines.sort();
        let line =
            |(number, allowed): &(usize, &str)| format!("{}\t{allowed}", peers[*number].public);
        let mut expected: Vec<String> = expected.iter().map(line).collect();
        expected.sort();
        assert_eq!(lines, expected);
    };

    let file = interface.write("two", &two);
    network.sh(&format!("wg setconf {name} {file}"));
    has(&[(0, "10.0.0.0/24"), (1, "10.1.0.0/24")]);
    // What comes out goes in again and says the same.
    let out = network.sh(&format!("wg showconf {name}"));
    let again = interface.write("again", &out);
    network.sh(&format!("wg setconf {name} {again}"));
    let sections = |text: &str| {
        let mut all: Vec<String> = text.split("\n\n").map(|s| s.trim().to_owned()).collect();
        all.sort();
        all
    };
    let out_again = network.sh(&format!("wg showconf {name}"));
    assert_eq!(sections(&out_again), sections(&out));

    // Brought up to date: one goes, one comes, one moves to other addresses.
    let other = device.clone() + &section(1, "10.9.0.0/24") + &section(2, "10.2.0.0/24");
    let file = interface.write("other", &other);
    network.sh(&format!("wg syncconf {name} {file}"));
    has(&[(1, "10.9.0.0/24"), (2, "10.2.0.0/24")]);
    let more = interface.write("more", &section(0, "10.0.0.0/24"));
    network.sh(&format!("wg addconf {name} {more}"));
    has(&[(0, "10.0.0.0/24"), (1, "10.9.0.0/24"), (2, "10.2.0.0/24")]);
    let file = interface.write("none", &device);
    network.sh(&format!("wg setconf {name} {file}"));
    has(&[]);
    assert_eq!(interface.shows(&network, "private-key"), own.private);
}

#[test]
fn peers_are_removed_and_an_allowed_ip_has_one_owner() {
    if !may_run("peers_are_removed_and_an_allowed_ip_has_one_owner") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let _program = interface.serve(&network);
    let name = &interface.name;
    let [a, b] = [Keys::new().public, Keys::new().public];
    network.sh(&format!(
        "wg set {name} peer {a} allowed-ips 10.0.0.0/24,10.0.1.0/24 peer {b} allowed-ips 10.0.2.0/24"
    ));
    // The same range under another peer: it moves.
    network.sh(&format!("wg set {name} peer {b} allowed-ips 10.0.1.0/24"));
    let allowed = interface.shows(&network, "allowed-ips");
    assert!(allowed.contains(&format!("{a}\t10.0.0.0/24")), "{allowed}");
    assert!(allowed.contains(&format!("{b}\t10.0.1.0/24")), "{allowed}");
    assert!(!allowed.contains("10.0.2.0/24"), "replaced: {allowed}");
    network.sh(&format!("wg set {name} peer {a} remove"));
    assert_eq!(interface.shows(&network, "peers"), b);
    // What is not there is neither removed nor made, and a peer with our own key never is.
    let own = Keys::new();
    let file = interface.write("private", &own.private);
    network.sh(&format!(
        "wg set {name} private-key {file} peer {a} remove peer {} allowed-ips 10.0.5.0/24",
        own.public
    ));
    assert_eq!(interface.shows(&network, "peers"), b);
}

#[test]
fn a_peer_goes_when_its_key_becomes_our_own() {
    if !may_run("a_peer_goes_when_its_key_becomes_our_own") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let _program = interface.serve(&network);
    let own = Keys::new();
    let (name, public) = (&interface.name, &own.public);
    network.sh(&format!(
        "wg set {name} peer {public} allowed-ips 10.0.0.0/24"
    ));
    assert_eq!(interface.shows(&network, "peers"), *public);
    let file = interface.write("private", &own.private);
    network.sh(&format!("wg set {name} private-key {file}"));
    assert_eq!(interface.shows(&network, "peers"), "");
}

#[test]
fn the_port_changes_while_it_runs_and_one_in_use_is_refused() {
    if !may_run("the_port_changes_while_it_runs_and_one_in_use_is_refused") {
        return;
    }
    let (network, interface, other) = (Network::new(), Interface::new(), Interface::new());
    let _program = interface.serve(&network);
    let _other = other.serve(&network);
    let first: u16 = interface.shows(&network, "listen-port").parse().unwrap();
    assert_ne!(first, 0, "a port of the kernel's choice, both families");
    let listens = |port: &str| {
        let sockets = network.sh("ss -lunH");
        let on = |family: &str| {
            let end = format!("{family}:{port}");
            sockets.split_whitespace().any(|word| word == end)
        };
        (on("0.0.0.0") || on("*")) && (on("[::]") || on("*"))
    };
    assert!(listens(&first.to_string()));
    network.sh(&format!("wg set {} listen-port 51990", interface.name));
    assert!(listens("51990") && !listens(&first.to_string()));
    assert_eq!(
        interface.request("set=1\nlisten_port=51990\n\n"),
        ["errno=0"]
    );
    assert_eq!(other.request("set=1\nlisten_port=51990\n\n"), [EADDRINUSE]);
    let stayed = other.shows(&network, "listen-port");
    assert!(stayed != "51990" && listens(&stayed), "{stayed}");
    network.sh(&format!("wg set {} listen-port 0", interface.name));
    let random = interface.shows(&network, "listen-port");
    assert!(random != "51990" && listens(&random), "{random}");
}

#[test]
fn a_bad_request_is_answered_by_number_and_changes_nothing_after_its_first_error() {
    if !may_run("a_bad_request_is_answered_by_number_and_changes_nothing_after_its_first_error") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let _program = interface.serve(&network);
    let key = "ab".repeat(32);
    for (request, answer) in [
        ("set=1\ncolour=blue\n\n".to_owned(), EINVAL),
        ("set=1\nlisten_port=70000\n\n".to_owned(), EINVAL),
        ("set=1\nendpoint=192.0.2.1:1\n\n".to_owned(), EINVAL),
        ("set=1\nprivate_key=abcd\n\n".to_owned(), EINVAL),
        (
            format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33\n\n"),
            EINVAL,
        ),
        (
            format!("set=1\npublic_key={key}\nprotocol_version=2\n\n"),
            EINVAL,
        ),
        ("set=1\nno equals sign\n\n".to_owned(), EPROTO),
        ("set=2\n\n".to_owned(), EPROTO),
        ("hello\n\n".to_owned(), EPROTO),
        ("\n".to_owned(), EPROTO),
    ] {
        assert_eq!(interface.request(&request), [answer], "{request}");
    }
    // The first half was right, and stays; what stands behind the error is not done.
    let removed = format!("set=1\npublic_key={key}\nremove=true\n\n");
    assert_eq!(interface.request(&removed), ["errno=0"]);
    let half = format!(
        "set=1\nfwmark=7\npublic_key={key}\nallowed_ip=10.0.0.0/8\ncolour=blue\nallowed_ip=10.1.0.0/16\n\n"
    );
    assert_eq!(interface.request(&half), [EINVAL]);
    let told = interface.request("get=1\n\n");
    assert!(told.contains(&"fwmark=7".to_owned()), "{told:?}");
    assert!(
        told.contains(&"allowed_ip=10.0.0.0/8".to_owned()),
        "{told:?}"
    );
    assert!(
        !told.contains(&"allowed_ip=10.1.0.0/16".to_owned()),
        "{told:?}"
    );
    assert_eq!(told.last().unwrap(), "errno=0");
    // Two requests by one connection, and one cut off in the middle: it goes on.
    let two = interface.request("set=1\nfwmark=8\n\nget=1\n\n");
    assert_eq!(two, ["errno=0"]);
    interface.request("get=1");
    assert_eq!(interface.shows(&network, "fwmark"), "0x8");
}

#[test]
fn a_second_program_on_one_name_is_refused_and_harms_nothing() {
    if !may_run("a_second_program_on_one_name_is_refused_and_harms_nothing") {
        return;
    }
    let (network, elsewhere) = (Network::new(), Network::new());
    let interface = Interface::new();
    let _program = interface.serve(&network);
    for place in [&network, &elsewhere] {
        for way in [&["--foreground", &*interface.name][..], &[&interface.name]] {
            let mut command = vec![FARLANE, "wireguard"];
            command.extend(way);
            let output = place.run(&command);
            assert_eq!(output.code, Some(1), "{command:?}: {}", output.text);
            assert!(output.text.contains("another program"), "{}", output.text);
        }
    }
    network.sh(&format!("wg set {} listen-port 51991", interface.name));
    assert!(exists(&network, &interface));
}

#[test]
fn a_name_that_a_link_has_is_refused_and_leaves_nothing() {
    if !may_run("a_name_that_a_link_has_is_refused_and_leaves_nothing") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    network.sh(&format!(
        "ip link add {} type veth peer name other",
        interface.name
    ));
    for way in [&["--foreground", &*interface.name][..], &[&interface.name]] {
        let mut command = vec![FARLANE, "wireguard"];
        command.extend(way);
        let output = network.run(&command);
        assert_eq!(output.code, Some(1), "{command:?}: {}", output.text);
        assert!(output.text.contains("is taken"), "{}", output.text);
        assert!(!interface.socket().exists());
    }
    assert!(exists(&network, &interface), "it was not touched");
    let output = network.run(&[FARLANE, "wireguard", "much-too-long-for-a-link"]);
    assert_eq!(output.code, Some(1), "{}", output.text);
}

#[test]
fn it_detaches_when_interface_and_socket_are_there() {
    if !may_run("it_detaches_when_interface_and_socket_are_there") {
        return;
    }
    let network = Network::new();
    for _ in 0..5 {
        let interface = Interface::new();
        let name = &interface.name;
        // One shell, so that nothing comes between; output that ends shows that nobody holds it.
        let line = format!("{FARLANE} wireguard {name}; ip link show {name}; wg show {name}");
        let shown = network.sh(&line);
        assert!(shown.contains("listening port"), "{shown}");
        network.sh(&format!("ip link delete {name}"));
        assert!(is_gone(&network, &interface));
    }
}

#[test]
fn it_goes_by_the_name_of_farlane_wg() {
    if !may_run("it_goes_by_the_name_of_farlane_wg") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let link = linked(&interface, "farlane-wg");
    let mut program = interface.serve_by(&network, &[&link, "-f", &interface.name]);
    program.signal("INT");
    assert_eq!(program.wait(END), Some(0));
    assert!(is_gone(&network, &interface));
    network.sh(&format!("{link} {}", interface.name));
    network.sh(&format!("wg show {}", interface.name));
    network.sh(&format!("ip link delete {}", interface.name));
    assert!(is_gone(&network, &interface));
    let _ = fs::remove_dir_all(PathBuf::from(link).parent().unwrap());
}

#[test]
fn it_ends_with_its_link_or_on_sigterm_and_leaves_no_socket() {
    if !may_run("it_ends_with_its_link_or_on_sigterm_and_leaves_no_socket") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let name = &interface.name;
    for up in [false, true] {
        let mut program = interface.serve(&network);
        if up {
            network.sh(&format!("ip link set {name} up"));
        }
        network.sh(&format!("ip link delete {name}"));
        assert_eq!(program.wait(END), Some(0), "{}", interface.log());
        assert!(!interface.socket().exists());

        let mut program = interface.serve(&network);
        if up {
            network.sh(&format!("ip link set {name} up"));
        }
        program.signal("TERM");
        assert_eq!(program.wait(END), Some(0), "{}", interface.log());
        assert!(!interface.socket().exists() && !exists(&network, &interface));
    }
}

#[test]
fn an_idle_one_takes_little_memory() {
    if !may_run("an_idle_one_takes_little_memory") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    let program = interface.serve(&network);
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let resident = status.lines().find_map(|line| {
        let words = line.strip_prefix("VmRSS:")?;
        words.trim().strip_suffix(" kB")?.parse::<u32>().ok()
    });
    // 512 buffers of 64 KiB are 33 MB, of which an idle one has touched none.
    let resident = resident.expect("VmRSS");
    assert!(resident < 20_000, "{resident} kB");
}

#[test]
fn one_that_was_killed_starts_again_at_once() {
    if !may_run("one_that_was_killed_starts_again_at_once") {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    for _ in 0..3 {
        let mut program = interface.serve(&network);
        network.sh(&format!("wg set {} listen-port 51992", interface.name));
        program.signal("KILL");
        program.wait(END);
        assert!(interface.socket().exists(), "nobody could take it away");
        // Detached, as whoever watches over it would.
        network.sh(&format!("{FARLANE} wireguard {}", interface.name));
        network.sh(&format!("wg set {} listen-port 51992", interface.name));
        network.sh(&format!("ip link delete {}", interface.name));
        assert!(is_gone(&network, &interface));
    }
}

#[test]
fn wg_quick_brings_an_interface_up_and_down() {
    const TEST: &str = "wg_quick_brings_an_interface_up_and_down";
    if !may_run(TEST) {
        return;
    }
    let (network, interface) = (Network::new(), Interface::new());
    if fs::exists("/sys/module/wireguard").unwrap() {
        return common::skip(
            TEST,
            "wg-quick prefers the kernel's WireGuard, which is here",
        );
    }
    let (own, peer) = (Keys::new(), Keys::new());
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.66.0.1/24, fd66::1/64\nListenPort = 51993\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.66.1.0/24, fd66:1::/64\n",
        own.private, peer.public
    );
    let file = interface.write(&format!("{}.conf", interface.name), &text);
    let link = linked(&interface, "farlane-wg");
    let quick = |verb: &str| {
        let way = format!("WG_QUICK_USERSPACE_IMPLEMENTATION={link}");
        network.sh(&format!("export {way}; wg-quick {verb} {file} 2>&1"))
    };
    quick("up");
    assert_eq!(interface.shows(&network, "listen-port"), "51993");
    for (family, destination) in [("-4", "10.66.1.7"), ("-6", "fd66:1::7")] {
        let route = network.sh(&format!("ip {family} route get {destination}"));
        assert!(
            route.contains(&format!("dev {}", interface.name)),
            "{route}"
        );
    }
    quick("down");
    assert!(is_gone(&network, &interface));
    let _ = fs::remove_dir_all(PathBuf::from(link).parent().unwrap());
}
