//! The world that the other tests stand on: without it, what they see proves nothing.

mod common;

use common::{Topology, eventually, may_run};
use std::time::Duration;

#[test]
fn pods_of_a_node_reach_each_other_and_the_world_and_no_pod_of_another_cluster_without_farlane() {
    if !may_run("pods_of_a_node_reach_each_other_and_the_world") {
        return;
    }
    let world = Topology::up(1, &[]);
    let (client, web) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    let _serving = world.serve(web, 8080);
    for address in web.addresses() {
        assert_eq!(
            world.ask(client, address, 8080).as_deref(),
            Some("eu-1/web")
        );
    }
    for address in ["198.51.100.254", "2001:db8:99::254"] {
        assert!(world.pings(&client.namespace, address, 1), "{address}");
    }
    let remote = world.pod("us-1", "web");
    for address in remote.addresses() {
        assert!(!world.pings(&client.namespace, address, 1), "{address}");
    }
}

#[test]
fn a_host_with_rules_as_kube_proxy_writes_them_translates_and_masquerades() {
    if !may_run("a_host_with_rules_as_kube_proxy_writes_them_translates_and_masquerades") {
        return;
    }
    let world = Topology::up(1, &[]);
    let (client, web) = (world.pod("eu-1", "client"), world.pod("eu-1", "web"));
    let _serving = world.serve(web, 8080);
    world.kube_rules("eu-1", "10.101.0.80", web, 8080);
    assert_eq!(
        world.ask(client, "10.101.0.80", 8080).as_deref(),
        Some("eu-1/web")
    );
    for address in ["198.51.100.254", "2001:db8:99::254"] {
        assert!(world.pings(&client.namespace, address, 1), "{address}");
    }
}

#[test]
fn a_test_that_panics_leaves_nothing_behind() {
    if !may_run("a_test_that_panics_leaves_nothing_behind") {
        return;
    }
    let panicked = std::thread::spawn(|| {
        let world = Topology::up(1, &["eu-1/client"]);
        let pod = world.pod("eu-1", "client");
        let sleeping = world.spawn(&pod.namespace, "sleep", &["sleep", "60"]);
        std::panic::panic_any((
            pod.namespace.clone(),
            world.dir().to_owned(),
            sleeping.pid(),
        ));
    })
    .join()
    .unwrap_err();
    let (namespace, dir, pid) = *panicked
        .downcast::<(String, std::path::PathBuf, u32)>()
        .expect("it panicked where it should");
    assert!(!std::path::Path::new("/run/netns").join(namespace).exists());
    assert!(!dir.exists());
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(eventually(Duration::from_secs(2), gone));
}
