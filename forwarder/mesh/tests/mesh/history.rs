//! What comes of many changes is what comes of the objects as they are: a world that has compiled
//! again and again, and a new one that is told only how things stand.

mod decisions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use datapath::{Route, Snapshot};
use mesh::{Compiled, Event, PodView, Scope, Settings, World, parse};
use packet::{Address, Prefix, protocol};
use policy::{Direction, Endpoint, Identity, Labels, Party, Policy, Question};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{address, namespace, node, pod, settings};

use decisions::decisions;

/// Pods, nodes, cluster IPs and outsiders. Few, so that claims meet.
const ADDRESSES: [&str; 14] = [
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.5",
    "10.1.1.3",
    "10.2.0.3",
    "10.2.0.4",
    "10.3.0.3",
    "fd10:1::3",
    "fd10:2::3",
    "192.0.2.1",
    "192.0.2.11",
    "192.0.2.2",
    "10.96.0.1",
    "203.0.113.1",
];
const KEYS: [&str; 3] = [
    "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
    "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=",
];
const NODES: [(u8, &str); 5] = [
    (1, "eu-1"),
    (1, "eu-2"),
    (2, "us-1"),
    (2, "us-2"),
    (3, "asia-1"),
];
const PREFIXES: [&str; 7] = [
    "10.1.0.0/24",
    "10.1.1.0/24",
    "10.1.0.0/16",
    "10.2.0.0/24",
    "10.2.0.4/32",
    "10.3.0.0/24",
    "203.0.113.0/24",
];
/// The last cluster is one that nobody told us of.
const CLUSTERS: [u8; 6] = [1, 1, 1, 2, 3, 4];
const FILES: [&str; 4] = ["a.yaml", "b.yaml", "c.yaml", "d.yaml"];
/// Files of one node each, which come after the others.
const NODE_FILES: [&str; 5] = ["n1.yaml", "n2.yaml", "n3.yaml", "n4.yaml", "n5.yaml"];

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(choices)
}

fn labels() -> impl Strategy<Value = &'static str> {
    text(&[
        "",
        "app: a",
        "app: b",
        "app: a, tier: web",
        "app: a, pod-template-hash: h1",
        "app: a, pod-template-hash: h2",
        "app: b, controller-uid: u, io.cilium.forged: x",
    ])
}

fn pods() -> impl Strategy<Value = String> {
    let flags = text(&["", "unready", "terminating", "host", "twice", "finished"]);
    (
        text(&["x", "y"]),
        text(&["p", "q", "r"]),
        select(&NODES[..]),
        select(&ADDRESSES[..]),
        labels(),
        flags,
    )
        .prop_map(|(namespace, name, (_, node), address, labels, flag)| {
            let text = pod(namespace, name, node, address, labels);
            match flag {
                "unready" => text.replace("\"True\"", "\"False\""),
                "terminating" => text.replace(
                    "metadata: {",
                    "metadata: {deletionTimestamp: \"2026-01-01T00:00:00Z\", ",
                ),
                "host" => text.replace("spec:\n", "spec:\n  hostNetwork: true\n"),
                "twice" => text.replace("podIPs: [", "podIPs: [{ip: 10.1.0.5}, {ip: 10.1.0.5}, "),
                "finished" => text.replace("Running", "Succeeded"),
                _ => text,
            }
        })
}

fn nodes() -> impl Strategy<Value = String> {
    (
        select(&NODES[..]),
        select(&ADDRESSES[..]),
        select(&PREFIXES[..]),
        proptest::option::of(select(&KEYS[..])),
    )
        .prop_map(|((_, name), address, prefix, key)| node(name, address, prefix, key))
}

/// A node in a file of its own, with what no other one in such a file claims: where all are like it,
/// a change of one leaves the others alone.
fn lone_node() -> impl Strategy<Value = Step> {
    (0..NODES.len(), 0..3usize, 0..3usize, 0..4usize).prop_map(|(at, host, block, key)| {
        let (cluster, name) = NODES[at];
        let address = format!("10.{cluster}.20{at}.{}", host + 1);
        let prefix = format!("10.{cluster}.{}.0/24", 100 + at * 10 + block);
        let letters = ["BQUF", "BgYG", "BwcH", "CAgI", "CQkJ"][at];
        // Now and then it is no peer, or has the key of another.
        let key = match key {
            0 => None,
            1 => Some(KEYS[1].to_owned()),
            _ => Some(format!("{}{}=", letters.repeat(10), &letters[..3])),
        };
        let text = node(name, &address, &prefix, key.as_deref());
        Step::File(cluster, NODE_FILES[at], text)
    })
}

fn namespaces() -> impl Strategy<Value = String> {
    let labels = text(&["", "team: red", "team: blue", "team: red, tier: web"]);
    (text(&["x", "y"]), labels).prop_map(|(name, labels)| namespace(name, labels))
}

fn services() -> impl Strategy<Value = String> {
    let annotations = text(&[
        "",
        "service.cilium.io/global: \"true\"",
        "service.cilium.io/global: \"true\", service.cilium.io/affinity: local",
        "service.cilium.io/global: \"true\", service.cilium.io/shared: \"false\"",
    ]);
    let ips = text(&[
        "[10.96.0.1]",
        "[10.96.0.1, \"fd96::1\"]",
        "[10.96.0.2]",
        "[10.1.0.3]",
        "[203.0.113.1]",
        "[None]",
    ]);
    let selector = text(&["", "app: a", "app: b", "tier: web"]);
    let manner = text(&[
        "",
        "",
        ", internalTrafficPolicy: Local",
        ", sessionAffinity: ClientIP",
    ]);
    let ports = text(&[
        "{name: h, port: 80, targetPort: http}",
        "{name: h, port: 80}, {name: s, port: 443}",
        "{name: g, port: 81}",
    ]);
    (
        text(&["x", "y"]),
        text(&["w", "v", "kubernetes"]),
        annotations,
        ips,
        selector,
        ports,
        manner,
    )
        .prop_map(|(namespace, name, annotations, ips, selector, ports, manner)| {
            format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{svc: {name}}}, annotations: {{{annotations}}}}}\nspec: {{clusterIPs: {ips}, selector: {{{selector}}}, ports: [{ports}]{manner}}}\n")
        })
}

fn slices() -> impl Strategy<Value = String> {
    let conditions = text(&[
        "ready: true",
        "ready: false",
        "serving: true, ready: false, terminating: true",
    ]);
    (
        text(&["x", "y", "default"]),
        text(&["s", "t"]),
        text(&["w", "v", "kubernetes"]),
        select(&ADDRESSES[..]),
        conditions,
        text(&["", "nodeName: eu-1, ", "nodeName: eu-2, "]),
    )
        .prop_map(|(namespace, name, service, address, conditions, node)| {
            format!("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}\nports: [{{name: h, port: 9000}}]\nendpoints: [{{addresses: [\"{address}\"], {node}conditions: {{{conditions}}}}}]\n")
        })
        .prop_map(|text| if text.contains("fd10") { text.replace("IPv4", "IPv6") } else { text })
}

fn policies() -> impl Strategy<Value = String> {
    let spec = text(&[
        "podSelector: {}",
        "podSelector: {matchLabels: {app: a}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]",
        "podSelector: {matchLabels: {pod-template-hash: h1}}",
        "podSelector: {}\n  egress: [{to: [{podSelector: {matchExpressions: [{key: controller-uid, operator: Exists}]}}]}]",
        "podSelector: {}\n  ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]",
        "podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]",
        "podSelector: {}\n  unknown: field",
    ]);
    let plain = (text(&["x", "y"]), text(&["p", "q"]), spec).prop_map(|(namespace, name, spec)| {
        format!("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n")
    });
    let spec = text(&[
        "egress: [{toServices: [{k8sService: {serviceName: w, namespace: x}}]}]",
        "egress: [{toServices: [{k8sServiceSelector: {selector: {matchLabels: {svc: v}}}}]}]",
        "egress: [{toEntities: [kube-apiserver]}]",
        "ingress: [{fromEntities: [cluster, world]}]",
        "ingressDeny: [{fromEndpoints: [{matchLabels: {app: b}}]}]",
    ]);
    let cilium = (text(&["x", "y"]), text(&["c", "d"]), spec).prop_map(|(namespace, name, spec)| {
        format!("---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  endpointSelector: {{}}\n  {spec}\n")
    });
    prop_oneof![plain, cilium]
}

fn objects() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => pods(),
        2 => nodes(),
        1 => namespaces(),
        2 => services(),
        1 => slices(),
        2 => policies(),
    ]
}

/// What a file says. Now and then it is broken.
fn content() -> impl Strategy<Value = String> {
    let good = (text(&["", "# a line\n"]), vec(objects(), 0..5))
        .prop_map(|(comment, objects)| format!("{comment}{}", objects.concat()));
    prop_oneof![9 => good, 1 => Just(String::from("kind: ["))]
}

#[derive(Clone, Debug)]
enum Step {
    File(u8, &'static str, String),
    Gone(u8, &'static str),
    Health(u8, &'static str, bool),
    Loaded,
    Compile,
}

fn step() -> impl Strategy<Value = Step> {
    let file = || (select(&CLUSTERS[..]), select(&FILES[..]));
    prop_oneof![
        8 => (file(), content()).prop_map(|((c, f), text)| Step::File(c, f, text)),
        5 => lone_node(),
        1 => file().prop_map(|(c, f)| Step::Gone(c, f)),
        2 => (select(&NODES[..]), any::<bool>()).prop_map(|((c, n), is)| Step::Health(c, n, is)),
        1 => Just(Step::Loaded),
        6 => Just(Step::Compile),
    ]
}

/// Three clusters.
fn three() -> Settings {
    let mut settings = settings();
    settings.clusters.push(Scope {
        name: "asia".into(),
        id: 3,
        prefixes: vec!["10.3.0.0/16".parse().unwrap()],
    });
    settings
}

/// How things stand.
#[derive(Default)]
struct Known {
    /// The last good text of each file, and a broken one that came after it.
    files: BTreeMap<(u8, &'static str), (Option<String>, Option<String>)>,
    silent: BTreeSet<(u8, &'static str)>,
    loaded: bool,
}

impl Known {
    /// Takes a step; an event of it goes to the world.
    fn take(&mut self, step: Step, world: &mut World) {
        match step {
            Step::File(cluster, file, text) => {
                world.apply(read(cluster, file, &text));
                let known = self.files.entry((cluster, file)).or_default();
                if parse(file, &text).problems.is_empty() {
                    *known = (Some(text), None);
                } else {
                    known.1 = Some(text);
                }
            }
            Step::Gone(cluster, file) => {
                let gone = format!("{cluster}/{file}");
                world.apply(Event::FileGone {
                    cluster,
                    file: gone,
                });
                self.files.remove(&(cluster, file));
            }
            Step::Health(cluster, node, answering) => {
                world.apply(Event::NodeHealth {
                    cluster,
                    node: node.into(),
                    answering,
                });
                if answering {
                    self.silent.remove(&(cluster, node));
                } else {
                    self.silent.insert((cluster, node));
                }
            }
            Step::Loaded => {
                world.apply(Event::Loaded);
                self.loaded = true;
            }
            Step::Compile => {}
        }
    }

    /// A world that is told just this.
    fn world(&self) -> World {
        let mut world = World::new(three());
        for ((cluster, file), (good, broken)) in &self.files {
            for text in good.iter().chain(broken) {
                world.apply(read(*cluster, file, text));
            }
        }
        for &(cluster, node) in &self.silent {
            world.apply(Event::NodeHealth {
                cluster,
                node: node.into(),
                answering: false,
            });
        }
        if self.loaded {
            world.apply(Event::Loaded);
        }
        world
    }
}

fn read(cluster: u8, file: &str, text: &str) -> Event {
    let path = format!("{cluster}/{file}");
    Event::File {
        cluster,
        parsed: parse(&path, text),
        file: path,
        hash: text.into(),
    }
}

/// Everything that workers see, but for epochs, with labels in place of their numbers.
#[derive(Debug, PartialEq)]
struct Meaning {
    endpoints: Vec<(Prefix, Endpoint, Option<Labels>)>,
    identities: BTreeSet<Labels>,
    routes: Vec<(Prefix, Route)>,
    services: balance::ServiceTable,
    nodes: Vec<datapath::Node>,
    own: datapath::Own,
    policies: Vec<Policy>,
    decisions: String,
}

impl Meaning {
    fn of(compiled: &Compiled, world: &World) -> Meaning {
        let snapshot = &compiled.snapshot;
        let labels: BTreeMap<Identity, &Labels> =
            compiled.identities.iter().map(|(i, l)| (*i, l)).collect();
        let endpoints = snapshot.endpoints.iter().map(|(prefix, endpoint)| {
            let labels = labels.get(&endpoint.identity).map(|l| (*l).clone());
            (prefix, nameless(endpoint, labels.is_some()), labels)
        });
        let identities: BTreeSet<Labels> = labels.values().map(|l| (*l).clone()).collect();
        assert_eq!(identities.len(), compiled.identities.len());
        Meaning {
            endpoints: endpoints.collect(),
            identities,
            routes: snapshot.routes.iter().map(|(p, r)| (p, *r)).collect(),
            services: snapshot.services.clone(),
            nodes: snapshot.nodes.clone(),
            own: snapshot.own.clone(),
            policies: world.policies(),
            decisions: decisions(snapshot),
        }
    }
}

fn elsewhere(compiled: &Compiled) -> Vec<(balance::Frontend, Vec<mesh::Elsewhere>)> {
    let all = compiled.elsewhere.iter();
    all.map(|(frontend, all)| (*frontend, all.to_vec()))
        .collect()
}

/// The endpoint without the number of its labels.
fn nameless(endpoint: &Endpoint, labelled: bool) -> Endpoint {
    Endpoint {
        identity: if labelled {
            Identity::UNKNOWN
        } else {
            endpoint.identity
        },
        ..endpoint.clone()
    }
}

fn views(compiled: &Compiled) -> Vec<(PodView, Option<Labels>)> {
    let labels: BTreeMap<Identity, &Labels> =
        compiled.identities.iter().map(|(i, l)| (*i, l)).collect();
    let views = compiled.pods.iter().map(|view| {
        let of = view.identity.and_then(|identity| labels.get(&identity));
        let identity = view.identity.filter(|_| of.is_none());
        let view = PodView {
            identity,
            ..(**view).clone()
        };
        (view, of.map(|l| (*l).clone()))
    });
    views.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn many_changes_come_to_the_same_as_how_things_stand(steps in vec(step(), 1..40)) {
        let mut world = World::new(three());
        let mut known = Known::default();
        let mut last: Option<(Meaning, Arc<Snapshot>, bool)> = None;
        let end = std::iter::once(Step::Compile);
        for step in steps.into_iter().chain(end) {
            let compiles = matches!(step, Step::Compile);
            known.take(step, &mut world);
            if !compiles {
                continue;
            }
            let compiled = world.compile();
            let mut new = known.world();
            let expected = new.compile();
            let meaning = Meaning::of(&compiled, &world);
            prop_assert_eq!(&meaning, &Meaning::of(&expected, &new));
            prop_assert_eq!(&compiled.statuses, &expected.statuses);
            prop_assert_eq!(&compiled.sources, &expected.sources);
            prop_assert_eq!(&compiled.host, &expected.host);
            // Workers do not see it: it is no part of a meaning that raises the epoch.
            prop_assert_eq!(elsewhere(&compiled), elsewhere(&expected));
            prop_assert_eq!(views(&compiled), views(&expected));
            prop_assert_eq!(world.is_complete(), new.is_complete());
            // The epoch rises if and only if something is not what it was.
            let snapshot = compiled.snapshot.clone();
            if let Some((before, old, loaded)) = last {
                let same = before == meaning && loaded == known.loaded;
                let kept = Arc::ptr_eq(&old, &snapshot);
                // Before everything was read the routes of a snapshot do not show.
                prop_assert!(same == kept || !loaded && !kept, "{:#?}", meaning);
                prop_assert_eq!(snapshot.epoch, old.epoch + u64::from(!kept));
                // Nor is it missed that a backend may have died.
                let placed = |m: &Meaning| (m.services.clone(), m.endpoints.clone());
                let same = placed(&before) == placed(&meaning);
                prop_assert!(same || snapshot.backends != old.backends);
            }
            last = Some((meaning, snapshot, known.loaded));
        }
        // After a restart even the numbers are the same.
        let identities = world.compile().identities.clone();
        let mut restarted = known.world();
        restarted.remember(&identities);
        prop_assert_eq!(&restarted.compile().identities, &identities);
    }
}
