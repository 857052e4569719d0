//! Events: their order does not matter, bad files change nothing, and epochs mean a change.

use std::sync::Arc;

use datapath::Route;
use mesh::{Event, World, parse};
use proptest::prelude::*;

use crate::{KEY_2, KEY_3, Mesh, address, namespace, node, pod, settings};

#[test]
fn nothing_passes_before_everything_was_read_once() {
    let mut world = World::new(settings());
    world.apply(Event::File {
        cluster: 1,
        file: "a".into(),
        parsed: parse("a", &pod("x", "p", "eu-1", "10.1.0.3", "")),
        hash: "h".into(),
    });
    let early = world.compile();
    for text in ["10.1.0.3", "203.0.113.1", "2001:db8::1", "10.2.0.1"] {
        assert_eq!(
            early.snapshot.route(address(text)),
            Route::Nowhere,
            "{text}"
        );
    }
    world.apply(Event::Loaded);
    let late = world.compile();
    assert_eq!(late.snapshot.route(address("203.0.113.1")), Route::World);
    assert!(late.snapshot.epoch > early.snapshot.epoch);
}

#[test]
fn a_file_that_does_not_parse_leaves_its_last_good_version_in_force() {
    let mut mesh = Mesh::new();
    let good = pod("x", "p", "eu-1", "10.1.0.3", "app: a");
    mesh.write(1, "pods.yaml", &good);
    let epoch = mesh.snapshot().epoch;
    mesh.read(1, "pods.yaml", "kind: [");
    mesh.compile();
    assert_eq!(mesh.snapshot().epoch, epoch);
    assert_eq!(mesh.snapshot().route(address("10.1.0.3")), Route::Pod);
    let source = mesh
        .last
        .sources
        .iter()
        .find(|s| s.file == "eu/pods.yaml")
        .unwrap();
    assert_eq!(source.problems.len(), 1);
    assert_ne!(source.applied, source.seen);
    assert!(mesh.world.is_complete());
    mesh.read(1, "new.yaml", "kind: [");
    assert!(
        !mesh.world.is_complete(),
        "of this one there is no good version"
    );
    mesh.write(1, "new.yaml", "");
    assert!(mesh.world.is_complete());
}

#[test]
fn the_epoch_rises_only_if_something_that_workers_see_has_changed() {
    let mut mesh = Mesh::new();
    mesh.write(1, "pods.yaml", &pod("x", "p", "eu-1", "10.1.0.3", "app: a"));
    let snapshot = mesh.last.snapshot.clone();
    mesh.compile();
    assert!(Arc::ptr_eq(&snapshot, &mesh.last.snapshot));
    let comment = format!(
        "# a comment\n{}",
        pod("x", "p", "eu-1", "10.1.0.3", "app: a")
    );
    mesh.write(1, "pods.yaml", &comment);
    assert!(
        Arc::ptr_eq(&snapshot, &mesh.last.snapshot),
        "the content is the same"
    );
    mesh.write(1, "pods.yaml", &pod("x", "p", "eu-1", "10.1.0.4", "app: a"));
    assert_eq!(mesh.snapshot().epoch, snapshot.epoch + 1);
}

#[test]
fn a_policy_alone_does_not_have_anybody_look_for_dead_backends() {
    let mut mesh = Mesh::new();
    mesh.write(1, "pods.yaml", &pod("x", "p", "eu-1", "10.1.0.3", "app: a"));
    let before = mesh.last.snapshot.clone();
    let policy = "
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: none, namespace: x}
spec: {podSelector: {}}
";
    mesh.write(1, "policy.yaml", policy);
    let after = mesh.last.snapshot.clone();
    assert_eq!(
        (after.epoch, after.backends),
        (before.epoch + 1, before.backends)
    );
    mesh.write(1, "pods.yaml", &pod("x", "p", "eu-1", "10.1.0.4", "app: a"));
    assert_ne!(mesh.snapshot().backends, after.backends);
}

#[test]
fn of_two_objects_with_one_name_the_later_file_wins_and_the_other_comes_back() {
    let mut mesh = Mesh::new();
    mesh.write(1, "b.yaml", &pod("x", "p", "eu-1", "10.1.0.4", ""));
    mesh.write(1, "a.yaml", &pod("x", "p", "eu-1", "10.1.0.3", ""));
    assert_eq!(mesh.last.host.local_pods, [address("10.1.0.4")]);
    assert_eq!(
        mesh.complaints(),
        ["eu/a.yaml:2 stands again at eu/b.yaml:2, and the later file wins"]
    );
    mesh.world.apply(Event::FileGone {
        cluster: 1,
        file: "eu/b.yaml".into(),
    });
    mesh.compile();
    assert_eq!(mesh.last.host.local_pods, [address("10.1.0.3")]);
}

#[test]
fn a_namespace_that_only_pods_name_exists() {
    let mut mesh = Mesh::new();
    mesh.write(1, "pods.yaml", &pod("lone", "p", "eu-1", "10.1.0.3", ""));
    let (_, labels) = &mesh.last.identities[0];
    let key = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name";
    assert_eq!(labels.value(key), Some("lone"));
}

#[test]
fn an_identity_keeps_its_number_while_others_come_and_go() {
    let mut mesh = Mesh::new();
    mesh.write(1, "m.yaml", &pod("x", "m", "eu-1", "10.1.0.3", "app: m"));
    let number = |mesh: &Mesh, text| mesh.snapshot().endpoint(address(text)).unwrap().identity;
    let m = number(&mesh, "10.1.0.3");
    mesh.write(1, "a.yaml", &pod("x", "a", "eu-1", "10.1.0.4", "app: a"));
    assert_eq!(number(&mesh, "10.1.0.3"), m);
    assert_ne!(number(&mesh, "10.1.0.4"), m);
    assert!(m.is_within(1));
}

#[test]
fn two_nodes_number_the_same_labels_alike_whoever_else_they_have_seen() {
    let text = pod("x", "m", "eu-1", "10.1.0.3", "app: m");
    let (mut one, mut other) = (Mesh::new(), Mesh::new());
    one.write(1, "m.yaml", &text);
    other.write(1, "a.yaml", &pod("x", "a", "eu-1", "10.1.0.4", "app: a"));
    other.write(1, "m.yaml", &text);
    other.write(1, "a.yaml", "");
    assert_eq!(one.last.identities, other.last.identities);
}

/// The files of a small mesh.
fn files() -> Vec<(u8, &'static str, String)> {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: w, namespace: x, annotations: {service.cilium.io/global: \"true\"}}\nspec: {clusterIP: 10.96.0.1, selector: {app: a}, ports: [{port: 80}]}\n";
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}}\n";
    vec![
        (1, "n.yaml", node("eu-1", "192.0.2.1", "10.1.0.0/24", None)),
        (
            1,
            "n2.yaml",
            node("eu-2", "192.0.2.11", "10.1.1.0/24", Some(KEY_3)),
        ),
        (
            2,
            "n.yaml",
            node("us-1", "192.0.2.2", "10.2.0.0/24", Some(KEY_2)),
        ),
        (
            2,
            "n2.yaml",
            node("us-2", "10.2.5.1", "10.2.0.0/25", Some(KEY_2)),
        ),
        (
            1,
            "a.yaml",
            pod("x", "a", "eu-1", "10.1.0.3", "app: a") + service,
        ),
        (
            1,
            "b.yaml",
            pod("x", "b", "eu-2", "10.1.1.3", "app: b") + policy,
        ),
        (1, "c.yaml", pod("x", "b", "eu-2", "10.1.1.4", "app: c")),
        (1, "ns.yaml", namespace("x", "team: red")),
        (
            2,
            "a.yaml",
            pod("x", "a", "us-1", "10.2.0.3", "app: a") + service,
        ),
        (2, "b.yaml", pod("x", "b", "us-1", "10.2.0.3", "app: z")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_events_does_not_matter(order in Just((0..10usize).collect::<Vec<_>>()).prop_shuffle()) {
        let compile = |order: &[usize]| {
            let mut world = World::new(settings());
            let files = files();
            for &index in order {
                let (cluster, file, text) = &files[index];
                let path = format!("{cluster}/{file}");
                world.apply(Event::File {
                    cluster: *cluster,
                    parsed: parse(&path, text),
                    file: path,
                    hash: "h".into(),
                });
            }
            world.apply(Event::Loaded);
            world.compile()
        };
        let (one, other) = (compile(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), compile(&order));
        prop_assert_eq!(&one.statuses, &other.statuses);
        prop_assert_eq!(&one.identities, &other.identities);
        prop_assert_eq!(&one.host, &other.host);
        prop_assert_eq!(format!("{:?}", one.snapshot), format!("{:?}", other.snapshot));
    }
}
