//! Once warm, a worker asks the kernel for packets and for nothing else.

mod common;

use common::{Topology, may_run};
use std::time::Duration;

#[test]
fn a_worker_under_load_never_asks_for_memory_or_waits_for_a_lock() {
    if !may_run("a_worker_under_load_never_asks_for_memory_or_waits_for_a_lock") {
        return;
    }
    let world = Topology::up(1, &[]);
    let nodes = world.start_mesh();
    let (client, server) = (world.pod("eu-1", "client"), world.pod("us-1", "client"));
    let _server = world.spawn(&server.namespace, "iperf3-server", &["iperf3", "-s"]);
    std::thread::sleep(Duration::from_millis(500));
    let warm = ["iperf3", "-c", &server.v4, "-t", "2"];
    assert!(world.run(&client.namespace, &warm).ok);

    let load = ["iperf3", "-c", &server.v4, "-t", "14"];
    let _load = world.spawn(&client.namespace, "iperf3", &load);
    std::thread::sleep(Duration::from_secs(2));
    let tasks = format!("/proc/{}/task", nodes[0].pid());
    let workers: Vec<String> = std::fs::read_dir(tasks)
        .unwrap()
        .filter_map(|task| {
            let path = task.unwrap().path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let id = path.file_name()?.to_str()?.to_owned();
            name.starts_with("worker").then_some(id)
        })
        .collect();
    assert!(!workers.is_empty(), "no thread is called worker");
    for worker in &workers {
        let trace = world.dir().join(format!("strace-{worker}"));
        let trace = trace.display().to_string();
        let strace = ["strace", "-c", "-p", worker, "-o", &trace];
        let mut strace = world.spawn(&world.namespace("eu-1"), "strace", &strace);
        std::thread::sleep(Duration::from_secs(10));
        strace.signal("INT");
        strace.wait(Duration::from_secs(5));
        let counts = std::fs::read_to_string(&trace).unwrap();
        let called = |call: &str| {
            counts
                .lines()
                .any(|line| line.ends_with(&format!(" {call}")))
        };
        assert!(called("read") || called("readv"), "it worked:\n{counts}");
        for call in ["brk", "mmap", "munmap", "madvise", "futex"] {
            assert!(!called(call), "{call}:\n{counts}");
        }
    }
}
