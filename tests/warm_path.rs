//! Once warm, the packet path allocates and locks nothing.
//!
//! Whole programs run on threads of this test, each in a network namespace of its own, with the
//! devices that they make there: what is counted is every breath of their workers, drivers
//! included. Locks do not show in an allocator: that no worker waits for one is what strace says.

mod common;
mod wireguard;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use common::manifests::{cluster_ips, service};
use common::{Topology, eventually, may_run};
use driver::EngineChoice;
use wireguard::{Interface, Keys, Network};

/// Counts what the threads that are watched allocate and free.
struct Counting;

/// Threads that are watched, by their ids in the kernel; 0 is nobody.
static WATCHED: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];
/// What each of them asked of the allocator.
static ASKED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

fn count() {
    if WATCHED[0].load(Ordering::Relaxed) == 0 {
        return; // nobody is watched
    }
    // SAFETY: gettid always succeeds and touches no memory.
    let own = unsafe { libc::gettid() };
    for (watched, asked) in WATCHED.iter().zip(&ASKED) {
        if watched.load(Ordering::Relaxed) == own {
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: each call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What each of the workers asks of the allocator while `work` is done.
fn asked_during<const N: usize>(workers: [i32; N], work: impl FnOnce()) -> [u64; N] {
    for (asked, (watched, worker)) in ASKED.iter().zip(WATCHED.iter().zip(workers)) {
        asked.store(0, Ordering::Relaxed);
        watched.store(worker, Ordering::Relaxed);
    }
    work();
    for watched in &WATCHED {
        watched.store(0, Ordering::Relaxed);
    }
    std::array::from_fn(|worker| ASKED[worker].load(Ordering::Relaxed))
}

/// There is one allocator and one set of signals in a process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `program` on a thread named `name` in a namespace that `ip netns` knows.
fn within<T: Send + 'static>(
    namespace: &str,
    name: &str,
    program: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let start = move || {
        // SAFETY: setns moves this thread alone, to a namespace that `file` holds, and touches no
        // memory.
        let moved = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(moved, 0, "{}", std::io::Error::last_os_error());
        program()
    };
    thread.spawn(start).unwrap()
}

/// The threads of this process that are called `name`, by their ids in the kernel.
fn threads(name: &str) -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let comm = fs::read_to_string(path.join("comm")).ok()?;
            (comm.trim() == name).then(|| path.file_name()?.to_str()?.parse().ok())?
        })
        .collect()
}

/// The only two threads called `name`.
fn two_threads(name: &str) -> [i32; 2] {
    threads(name).try_into().expect("two workers")
}

/// Moves bytes by iperf3, and not only a few: what is counted must be real work.
fn iperf3(network: &str, arguments: &[&str]) {
    let mut command = vec!["iperf3", "-J", "-t", "1", "-c"];
    command.extend(arguments);
    let output = common::served(|| {
        common::bounded(
            Duration::from_secs(20),
            std::process::Command::new("ip")
                .args(["netns", "exec", network])
                .args(&command),
        )
    });
    let told: serde_json::Value = serde_json::from_str(&output.out).expect("JSON");
    let sum = ["sum_received", "sum"].map(|name| told["end"][name]["bytes"].as_u64());
    let bytes = sum.into_iter().flatten().next().unwrap_or(0);
    assert!(bytes > 1 << 18, "{arguments:?}: {}", output.text);
}

/// Two plain interfaces that are each other's peers; `start` makes them answer.
struct Plain {
    networks: [Network; 2],
    interfaces: [Interface; 2],
}

impl Plain {
    fn up() -> Plain {
        let plain = Plain {
            networks: [Network::new(), Network::new()],
            interfaces: [Interface::new(), Interface::new()],
        };
        let [left, right] = &plain.networks;
        left.sh(&format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            right.name
        ));
        for (number, network) in (1..).zip(&plain.networks) {
            network.sh(&format!(
                "ip addr add 192.0.2.{number}/24 dev eth0; ip link set eth0 up"
            ));
        }
        plain
    }

    fn join(&self) {
        let keys = [Keys::new(), Keys::new()];
        for own in 0..2 {
            let (network, interface) = (&self.networks[own], &self.interfaces[own]);
            let answers = || network.run(&["wg", "show", &interface.name]).ok;
            assert!(eventually(Duration::from_secs(10), answers));
            let file = interface.write("private", &keys[own].private);
            let (peer, key) = (2 - own, &keys[1 - own].public);
            let (name, number) = (&interface.name, own + 1);
            network.sh(&format!(
                "wg set {name} private-key {file} listen-port 51820 peer {key} \
                 endpoint 192.0.2.{peer}:51820 allowed-ips 10.9.0.{peer}/32,fd09::{peer}/128; \
                 ip addr add 10.9.0.{number}/24 dev {name}; ip addr add fd09::{number}/64 dev {name}; \
                 ip link set {name} mtu 1420 up"
            ));
        }
    }

    fn server(&self) -> common::Program {
        let log = self.interfaces[1].file("iperf3");
        let server = self.networks[1].spawn(&log, &["iperf3", "-s"]);
        let listens = || self.networks[1].sh("ss -ltnH").contains(":5201");
        assert!(eventually(Duration::from_secs(5), listens));
        server
    }

    /// Super-packets and single ones, both ways, both families, and what nobody takes.
    fn work(&self) {
        let [left, _] = &self.networks;
        for address in ["10.9.0.2", "fd09::2"] {
            iperf3(&left.name, &[address]);
            iperf3(&left.name, &[address, "-R"]);
            iperf3(&left.name, &[address, "-u", "-b", "50M", "-l", "200"]);
            left.sh(&format!("ping -n -c 5 -i 0.1 {address}"));
        }
        left.run(&["ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "10.9.0.77"]);
    }
}

#[test]
fn the_workers_of_plain_interfaces_allocate_nothing_once_warm() {
    if may_run("the_workers_of_plain_interfaces_allocate_nothing_once_warm") {
        plain_workers_allocate_nothing(EngineChoice::Epoll);
    }
}

#[test]
fn over_io_uring_they_allocate_nothing_either() {
    if may_run("over_io_uring_they_allocate_nothing_either") {
        plain_workers_allocate_nothing(EngineChoice::Uring);
    }
}

fn plain_workers_allocate_nothing(engine: EngineChoice) {
    let _alone = alone();
    let plain = Plain::up();
    let programs: Vec<_> = (0..2)
        .map(|number| {
            let name = plain.interfaces[number].name.clone();
            within(&plain.networks[number].name, "plain-worker", move || {
                farlane::wireguard::run(&name, engine, || {})
            })
        })
        .collect();
    plain.join();
    let server = plain.server();
    plain.work();
    let [one, two] = two_threads("plain-worker");
    // One for each worker, where there are two cores.
    let helpers = threads("helper-0");
    let helper = |number: usize| helpers.get(number).copied().unwrap_or(0);
    let watched = [one, two, helper(0), helper(1)];
    let asked = asked_during(watched, || plain.work());
    assert_eq!(
        asked, [0; 4],
        "allocations and frees of workers and helpers"
    );
    // The counter counts: `wg` is answered by the worker, which allocates for that.
    let workers = two_threads("plain-worker");
    let [asked, _] = asked_during(workers, || {
        for (network, interface) in plain.networks.iter().zip(&plain.interfaces) {
            interface.shows(network, "dump");
        }
    });
    assert!(asked > 0);
    drop(server);
    for (network, interface) in plain.networks.iter().zip(&plain.interfaces) {
        network.sh(&format!("ip link delete {}", interface.name));
    }
    for program in programs {
        let ended = program.join().expect("no panic");
        assert!(ended.is_ok(), "{ended:?}");
    }
}

/// The lane of four that owns an address.
fn lane(address: &str) -> u16 {
    let address: std::net::IpAddr = address.parse().unwrap();
    packet::lane_of(packet::Address::from(address), 4)
}

#[test]
fn the_workers_of_two_nodes_allocate_nothing_once_warm() {
    if may_run("the_workers_of_two_nodes_allocate_nothing_once_warm") {
        node_workers_allocate_nothing(config::Engine::Epoll);
    }
}

#[test]
fn over_io_uring_the_workers_of_two_nodes_allocate_nothing_either() {
    if may_run("over_io_uring_the_workers_of_two_nodes_allocate_nothing_either") {
        node_workers_allocate_nothing(config::Engine::Uring);
    }
}

fn node_workers_allocate_nothing(engine: config::Engine) {
    let _alone = alone();
    let pods = ["client", "guest", "second", "third"].map(|name| format!("eu-1/{name}"));
    let pods = pods.iter().map(String::as_str).chain(["us-1/web"]);
    let world = Topology::up(1, &pods.collect::<Vec<_>>());
    for cluster in ["eu", "us"] {
        world.apply(cluster, "web.yaml", &service("web", 80, cluster, "none"));
    }
    world.exchange_keys();
    let programs: Vec<_> = ["eu-1", "us-1"]
        .map(|node| {
            let mut config =
                config::Config::load(world.node_file(node).as_ref()).expect("its file");
            config.workers = config::Workers::Count(2);
            config.engine = engine;
            within(&world.namespace(node), node, move || {
                farlane::node::run(config)
            })
        })
        .into();
    let (client, web) = (world.pod("eu-1", "client"), world.pod("us-1", "web"));
    let ready = || world.pings(&client.namespace, &web.v4, 1);
    assert!(eventually(Duration::from_secs(15), ready), "the nodes talk");
    // A pod here whose worker is another than the client's, so that packets cross between the two.
    let other = (lane(&client.v4) % 2) ^ 1;
    let guest = ["guest", "second", "third"].map(|name| world.pod("eu-1", name));
    let guest = guest.iter().find(|pod| lane(&pod.v4) % 2 == other);
    let guest = *guest.expect("a pod of the other worker");
    let serve = ["iperf3", "-s", "-p", "8080"];
    let _servers = [web, guest]
        .map(|pod| world.spawn(&pod.namespace, &format!("iperf3-{}", pod.node), &serve));
    let [v4, v6] = cluster_ips(80, "eu");
    let work = || {
        let from = &client.namespace;
        // Translated, both families; every connection is a flow that is new.
        for address in [&v4, &v6] {
            iperf3(from, &[address, "-p", "80"]);
            iperf3(from, &[address, "-p", "80", "-R"]);
        }
        for address in web.addresses() {
            iperf3(from, &[address, "-p", "8080"]);
            iperf3(
                from,
                &[address, "-p", "8080", "-u", "-b", "50M", "-l", "200"],
            );
            assert!(world.pings(from, address, 5));
        }
        // To a pod of the same node.
        for address in guest.addresses() {
            iperf3(from, &[address, "-p", "8080"]);
            iperf3(from, &[address, "-p", "8080", "-R"]);
            iperf3(
                from,
                &[address, "-p", "8080", "-u", "-b", "50M", "-l", "200"],
            );
        }
        // To nobody, and beyond the mesh.
        world.pings(from, "10.2.1.200", 2);
        world.pings(from, "198.51.100.254", 2);
    };
    work();
    let [one, two] = two_threads("worker-0");
    let [three, four] = two_threads("worker-1");
    let asked = asked_during([one, two, three, four], work);
    assert_eq!(asked, [0; 4], "allocations and frees of all workers");
    let own = std::process::id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &own])
        .status();
    assert!(told.is_ok_and(|status| status.success()));
    for program in programs {
        let ended = program.join().expect("no panic");
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[test]
fn a_worker_neither_asks_for_memory_nor_waits_for_a_lock() {
    if !may_run("a_worker_neither_asks_for_memory_nor_waits_for_a_lock") {
        return;
    }
    let plain = Plain::up();
    let programs = [0, 1].map(|number| plain.interfaces[number].serve(&plain.networks[number]));
    plain.join();
    let _server = plain.server();
    plain.work();
    // The worker is the program's first thread, and without -f strace follows that alone.
    let traces = [0, 1].map(|number| {
        let (interface, pid) = (&plain.interfaces[number], programs[number].pid());
        let calls = "trace=brk,mmap,munmap,mremap,madvise,futex,writev";
        let (file, log) = (interface.file("calls"), interface.file("strace"));
        let (file, pid) = (file.display().to_string(), pid.to_string());
        let command = ["strace", "-e", calls, "-o", &file, "-p", &pid];
        let trace = plain.networks[number].spawn(&log, &command);
        let says = || fs::read_to_string(&log).unwrap();
        let attached = eventually(Duration::from_secs(5), || says().contains("attached"));
        assert!(attached, "strace: {}", says());
        trace
    });
    plain.work();
    for (trace, interface) in traces.into_iter().zip(&plain.interfaces) {
        trace.signal("INT");
        trace.stop();
        let calls = fs::read_to_string(interface.file("calls")).unwrap();
        let calls: Vec<&str> = calls.lines().filter(|line| line.contains('(')).collect();
        // Frames to the TUN, which show that it is the worker who was followed.
        let (frames, other): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .partition(|line| line.starts_with("writev("));
        assert!(frames.len() > 100, "{}", frames.len());
        // To wake a helper is not to wait.
        let is_wait = |line: &&str| !line.contains("FUTEX_WAKE_PRIVATE");
        let other: Vec<_> = other.into_iter().filter(is_wait).collect();
        assert!(other.is_empty(), "{other:?}");
    }
}
