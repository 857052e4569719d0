//! What is wrong with a file or a host is said once, at its place, with what to do; and what runs
//! goes on.

mod common;

use std::fs;
use std::time::Duration;

use common::{FARLANE, Topology, eventually, may_run};

/// A node file of eu-1 with one thing changed; its path.
fn changed(world: &Topology, from: &str, to: &str) -> String {
    let good = fs::read_to_string(world.node_file("eu-1")).unwrap();
    assert!(good.contains(from), "{from:?} in\n{good}");
    let path = world.dir().join("eu-1/changed.yaml");
    fs::write(&path, good.replacen(from, to, 1)).unwrap();
    path.display().to_string()
}

/// `farlane run` on eu-1 until it gives up, 5 s at most; its exit code and what it said, without
/// log lines.
fn run(world: &Topology, before: &[&str], file: &str) -> (Option<i32>, String) {
    let command = [before, &[FARLANE, "run", "--config", file]].concat();
    let host = world.namespace("eu-1");
    let output = world.run_for(Duration::from_secs(5), &host, &command);
    (output.code, output.text)
}

fn log(world: &Topology, node: &str) -> String {
    fs::read_to_string(world.dir().join(node).join("log")).unwrap()
}

/// How often a node's log has a line with these words.
fn logged(world: &Topology, node: &str, words: &str) -> usize {
    log(world, node).matches(words).count()
}

#[test]
fn a_mistake_in_the_nodes_file_is_one_error_at_its_place() {
    if !may_run("a_mistake_in_the_nodes_file_is_one_error_at_its_place") {
        return;
    }
    let world = Topology::up(1, &["eu-1/client", "us-1/client"]);
    let before = world.host_state("eu-1");
    let table = [
        (
            ("wire:", "wires: 1\nwire:"),
            "11:1: the file has no key `wires`\n  11 | wires: 1\n     | ^ did you mean `wire`?",
        ),
        (
            ("id: 1}", "id: one}"),
            "1:25: a cluster's `id` must be a whole number from 1 to 255, not \"one\"\n  1 | cluster: {name: eu, id: one}\n    |                         ^",
        ),
        (
            ("id: 1}", "id: 256}"),
            "1:25: a cluster's `id` must be a whole number from 1 to 255, not the number 256\n  1 | cluster: {name: eu, id: 256}\n    |                         ^",
        ),
        (
            ("192.0.2.1:51871", "192.0.2.256:51871"),
            "12:11: `wire.listen`: \"192.0.2.256:51871\" is not an address with a port, such as \"192.0.2.1:51871\"\n  12 |   listen: \"192.0.2.256:51871\"\n     |           ^",
        ),
        (
            (
                "wire:",
                "  - {name: ap, id: 3, manifests: ap, prefixes: [10.3.0.0/16, 10.2.128.0/17]}\nwire:",
            ),
            "11:62: the prefix 10.2.128.0/17 of cluster `ap` overlaps 10.2.0.0/16 of cluster `us` (line 10)\n  11 |   - {name: ap, id: 3, manifests: ap, prefixes: [10.3.0.0/16, 10.2.128.0/17]}\n     |                                                              ^ clusters that share addresses cannot be joined yet",
        ),
    ];
    for ((from, to), error) in table {
        let file = changed(&world, from, to);
        let expected = format!("farlane: {file}:{error}\n");
        assert_eq!(run(&world, &[], &file), (Some(1), expected), "{to}");
    }
    assert_eq!(world.host_state("eu-1"), before, "nothing was touched");
}

#[test]
fn a_host_that_is_not_ready_is_one_sentence_that_says_what_to_do() {
    if !may_run("a_host_that_is_not_ready_is_one_sentence_that_says_what_to_do") {
        return;
    }
    let world = Topology::up(1, &["eu-1/client", "us-1/client"]);
    world.exchange_keys();
    let host = world.namespace("eu-1");
    let good = world.node_file("eu-1");
    let before = world.host_state("eu-1");
    let refused = |before: &[&str], file: &str, sentence: &str| {
        let expected = format!("farlane: {sentence}\n");
        assert_eq!(run(&world, before, file), (Some(1), expected));
    };
    let taken = changed(&world, "wire:", "pods: {tun: {name: wire-us-1}}\nwire:");
    refused(
        &[],
        &taken,
        "the interface name wire-us-1 is taken: end the program that holds it, remove it with `ip link delete \
         wire-us-1`, or choose another name",
    );
    let holder = world.spawn(&host, "socat", &["socat", "-u", "UDP-RECV:51871", "STDOUT"]);
    let held = || world.run(&host, &["ss", "-lun"]).out.contains(":51871");
    assert!(eventually(Duration::from_secs(5), held));
    refused(
        &[],
        &good,
        "UDP 192.0.2.1:51871 is in use: end the program that listens there (`ss -lunp` shows it), or choose another port",
    );
    drop(holder);
    refused(
        &["setpriv", "--bounding-set", "-net_admin"],
        &good,
        "no right to make the interface farlane0: run as root or with CAP_NET_ADMIN, and let the container use \
         /dev/net/tun",
    );
    refused(
        &["setpriv", "--bounding-set", "-all"],
        &good,
        "no right to set the firewall mark for UDP 192.0.2.1:51871: run as root or with CAP_NET_ADMIN and \
         CAP_NET_BIND_SERVICE",
    );
    let hide = |what: &str| {
        let script = format!("mount -t tmpfs none {what} && exec \"$0\" \"$@\"");
        ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned)
    };
    for (what, sentence) in [
        (
            "/dev/net",
            "there is no /dev/net/tun: load the module with `modprobe tun`, or give the container the device",
        ),
        (
            "/usr/sbin",
            "the program nft was not found: install the package nftables",
        ),
    ] {
        let hidden = hide(what);
        refused(&hidden.each_ref().map(String::as_str), &good, sentence);
    }
    assert_eq!(world.host_state("eu-1"), before, "nothing was left");
    // Nothing of it is remembered: the same file runs on a host that is ready.
    let node = world.start("eu-1");
    assert_eq!(node.stop(), Some(0));
}

/// Guests may not reach the web.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

#[test]
fn a_manifest_that_does_not_parse_leaves_its_last_good_version_in_force() {
    if !may_run("a_manifest_that_does_not_parse_leaves_its_last_good_version_in_force") {
        return;
    }
    let world = Topology::up(1, &["eu-1/client", "eu-1/web", "eu-1/guest", "us-1/client"]);
    world.exchange_keys();
    let broken = POLICY.replace("[Ingress]", "[Ingress");
    let file = world.dir().join("manifests/eu/policy.yaml");
    let problem = format!("{}:7:10: does not parse: ", file.display());

    // The first start ever ends: there is no last good version.
    world.apply("eu", "policy.yaml", &broken);
    let (code, said) = run(&world, &[], &world.node_file("eu-1"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with(&format!("farlane: {problem}")), "{said}");
    assert!(
        said.ends_with(
            "\nfarlane: what is wrong above was never right before; mend it and start again\n"
        ),
        "{said}"
    );
    assert_eq!(
        said.matches("does not parse").count(),
        1,
        "said once: {said}"
    );

    world.apply("eu", "policy.yaml", POLICY);
    let mut node = world.start("eu-1");
    let pod = |name: &str| world.pod("eu-1", name).clone();
    let in_force = |why: &str| {
        for address in pod("web").addresses() {
            let ping = |from: &str| world.pings(&pod(from).namespace, address, 2);
            assert!(ping("client"), "{why}: {address}");
            assert!(!ping("guest"), "{why}: {address}");
        }
    };
    in_force("from the start");
    world.apply("eu", "policy.yaml", &broken);
    let source = || -> Option<serde_json::Value> {
        let status = world.status("eu-1")?;
        let mut sources = status["sources"].as_array()?.iter();
        sources.find(|one| one["file"] == "policy.yaml").cloned()
    };
    let noticed = || source().is_some_and(|one| one["problems"] != serde_json::json!([]));
    for why in ["while it runs", "after a restart"] {
        assert!(eventually(Duration::from_secs(5), noticed), "{why}");
        let source = source().unwrap();
        assert_ne!(source["applied"], source["seen"], "{why}");
        let problems = source["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].as_str().unwrap().starts_with(&problem),
            "{problems:?}"
        );
        assert_eq!(
            logged(&world, "eu-1", &problem),
            1,
            "{}",
            log(&world, "eu-1")
        );
        assert_eq!(
            logged(&world, "eu-1", "; its last good version stays in force"),
            1
        );
        in_force(why);
        if why == "while it runs" {
            assert_eq!(node.stop(), Some(0));
            node = world.start("eu-1");
        }
    }
    world.apply(
        "eu",
        "policy.yaml",
        &POLICY.replace("app: client", "app: guest"),
    );
    let mended = || world.pings(&pod("guest").namespace, pod("web").addresses()[0], 1);
    assert!(eventually(Duration::from_secs(5), mended), "mended");
    assert!(!world.pings(&pod("client").namespace, pod("web").addresses()[0], 1));
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn objects_that_cannot_be_in_force_are_said_once_and_what_runs_goes_on() {
    if !may_run("objects_that_cannot_be_in_force_are_said_once_and_what_runs_goes_on") {
        return;
    }
    let world = Topology::up(1, &[]);
    let _nodes = world.start_mesh();
    let key = [
        FARLANE,
        "key",
        "public",
        "--config",
        &world.node_file("us-1"),
    ];
    let key = world
        .run(&world.namespace("us-1"), &key)
        .out
        .trim()
        .to_owned();
    let manifests = [
        (
            ("us", "twin.yaml"),
            format!(
                "apiVersion: v1\nkind: Node\nmetadata:\n  name: us-9\n  annotations: {{network.cilium.io/wg-pub-key: \
                 {key}}}\nspec: {{podCIDRs: [10.2.9.0/24]}}\nstatus: {{addresses: [{{type: InternalIP, address: \
                 10.2.200.1}}]}}\n"
            ),
            "1:1: Node us-9 is refused: its key is that of node us-1 of cluster us: no two nodes may have one",
        ),
        (
            ("us", "stray.yaml"),
            "apiVersion: v1\nkind: Pod\nmetadata: {name: stray, namespace: shop}\nspec: {nodeName: us-1}\nstatus: {phase: \
             Running, podIPs: [{ip: 10.7.0.1}]}\n"
                .to_owned(),
            "1:1: Pod shop/stray is refused: 10.7.0.1 is outside of the prefixes of cluster us",
        ),
        (
            ("eu", "weekdays.yaml"),
            POLICY.replace("[{from:", "[{schedule: weekdays, from:"),
            "7:14: NetworkPolicy shop/web is refused: a rule of `ingress` has the field `schedule`, which is not enforced",
        ),
    ];
    for ((cluster, file), text, error) in &manifests {
        world.apply_everywhere(cluster, file, text);
        let path = world.dir().join("manifests").join(cluster).join(file);
        let line = format!("{}:{error}", path.display());
        // Policies of another cluster are that cluster's to say.
        assert_eq!(
            logged(&world, "eu-1", &line),
            1,
            "{line}\n{}",
            log(&world, "eu-1")
        );
        let status = world.status("eu-1").unwrap();
        let objects = status["objects"].as_array().unwrap();
        let place = format!("{}:1:1", path.display());
        let shown = objects.iter().filter(|one| one["place"] == place.as_str());
        assert_eq!(shown.count(), 1, "{objects:?}");
    }
    let pod = |node, name| world.pod(node, name);
    for family in [0, 1] {
        let to = |node, name| world.pod(node, name).addresses()[family].to_owned();
        let client = &pod("eu-1", "client").namespace;
        assert!(
            world.pings(client, &to("us-1", "web"), 3),
            "the twin took nothing"
        );
        assert!(world.pings(client, &to("eu-1", "guest"), 3));
        let refused = world.drops("eu-1", "policyRefused");
        assert!(
            !world.pings(client, &to("eu-1", "web"), 1),
            "governed by a refused policy"
        );
        assert!(world.drops("eu-1", "policyRefused") > refused);
    }
    // Another change does not say it again.
    let namespace = world.manifest("eu", "namespace.yaml");
    world.apply_everywhere("eu", "namespace.yaml", &(namespace + "\n"));
    for (_, _, error) in &manifests {
        assert_eq!(logged(&world, "eu-1", error), 1, "{error}");
    }
}
