//! Services where a client stays with its backend: all of its flows go to one, and what comes later
//! moves nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use packet::{Time, protocol};
use proptest::prelude::*;

use crate::world::{SERVICE, SERVICE_PORT, SERVICE_V6, World, pod, pod_v6, read, tcp, udp, udp_v6};

const FRONTEND: ([u8; 4], u16) = (SERVICE, SERVICE_PORT);
/// Pods of node 1, which are no backends.
const CLIENTS: [u8; 2] = [1, 2];

/// A world whose service has these backends, and keeps clients where they are for so long.
fn world(stays: u64, backends: &[(u8, u8)]) -> World {
    let mut world = World::new();
    world.client_stays = Some(Duration::from_secs(stays));
    let healthy = backends.iter().map(|(node, pod)| (*node, *pod, true));
    world.backends = healthy.collect();
    world.publish();
    world
}

/// Sends what begins a flow of a client, and returns the backend that it reaches, as node and pod.
fn reached(world: &mut World, client: u8, port: u16, by: u8) -> Option<(u8, u8)> {
    let client = (pod(1, client), port);
    world.send(
        1,
        &match by {
            protocol::TCP => tcp(client, FRONTEND, "S", b""),
            _ => udp(client, FRONTEND),
        },
    );
    let arrived = [1, 2].map(|node| world.delivered(node)).concat();
    let flows = arrived.iter().map(|bytes| read(bytes).flow);
    let mut flows = flows.filter(|flow| flow.source_port == port);
    let [_, node, _, pod] = flows.next()?.destination.v4()?;
    assert_eq!(flows.next(), None, "it arrives once");
    Some((node, pod))
}

#[test]
fn all_flows_of_a_client_go_to_one_backend_and_clients_are_spread() {
    let mut world = world(60, &[(1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)]);
    let mut places = BTreeMap::new();
    for port in 0..8 {
        for client in CLIENTS {
            let place = places.entry(client);
            let first = place.or_insert_with(|| {
                reached(&mut world, client, 999, protocol::UDP).expect("a backend")
            });
            for by in [protocol::TCP, protocol::UDP] {
                let now = reached(&mut world, client, 1_000 + port, by);
                assert_eq!(now, Some(*first), "client {client}, port {port}");
            }
        }
    }
    assert_ne!(places[&1], places[&2], "chosen by the client");
}

#[test]
fn without_affinity_flows_of_one_client_are_spread() {
    let mut world = world(60, &[(2, 1), (2, 2), (2, 3), (2, 4)]);
    world.client_stays = None;
    world.publish();
    let ports = 1_000..1_016;
    let reached: Vec<_> = ports
        .map(|port| reached(&mut world, 1, port, protocol::UDP))
        .collect();
    assert!(reached.iter().any(|backend| *backend != reached[0]));
}

#[test]
fn both_families_of_a_client_stay_each_by_itself() {
    let mut world = world(60, &[(2, 1), (2, 2)]);
    let six = |world: &mut World, port| {
        world.send(1, &udp_v6((pod_v6(1, 1), port), (SERVICE_V6, SERVICE_PORT)));
        let arrived = world.delivered(2).pop().expect("it arrives");
        // The last byte of an IPv6 header's destination.
        arrived[39]
    };
    let before = (
        reached(&mut world, 1, 1_000, protocol::UDP),
        six(&mut world, 1_000),
    );
    world.backends.extend([(2, 3, true), (2, 4, true)]);
    world.publish();
    for port in 1_001..1_006 {
        let now = (
            reached(&mut world, 1, port, protocol::UDP),
            six(&mut world, port),
        );
        assert_eq!(now, before);
    }
}

#[test]
fn a_client_moves_to_where_new_backends_want_it_only_after_its_time() {
    let few = [(2, 1)];
    let many = [(1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)];
    // Somebody who never was elsewhere.
    let mut fresh = world(10, &many);
    let wanted = CLIENTS.map(|client| reached(&mut fresh, client, 1, protocol::UDP));
    assert!(wanted.iter().any(|backend| *backend != Some((2, 1))));

    let mut world = world(10, &few);
    let begin =
        |world: &mut World, port| CLIENTS.map(|client| reached(world, client, port, protocol::UDP));
    let first = begin(&mut world, 1_000);
    assert_eq!(first, [Some((2, 1)); 2]);
    world.backends = many.map(|(node, pod)| (node, pod, true)).to_vec();
    world.publish();
    // Each new flow begins its time anew.
    for port in 1_001..1_005 {
        world.pass(Duration::from_secs(6));
        assert_eq!(begin(&mut world, port), first);
    }
    world.pass(Duration::from_secs(10));
    assert_eq!(begin(&mut world, 1_005), wanted);
}

#[test]
fn a_client_whose_backend_is_dead_gets_another_and_stays_there() {
    let mut world = world(60, &[(2, 1), (2, 2), (2, 3)]);
    let first = reached(&mut world, 1, 1_000, protocol::UDP).expect("a backend");
    let alive = |world: &mut World, alive: bool| {
        for backend in &mut world.backends {
            backend.2 = alive || (backend.0, backend.1) != first;
        }
        world.publish();
    };
    alive(&mut world, false);
    let second = reached(&mut world, 1, 1_001, protocol::UDP).expect("another");
    assert_ne!(second, first);
    alive(&mut world, true);
    assert_eq!(reached(&mut world, 1, 1_002, protocol::UDP), Some(second));
}

#[test]
fn a_shorter_time_holds_at_once_and_none_is_none() {
    let mut world = world(3_600, &[(2, 1)]);
    reached(&mut world, 1, 1_000, protocol::UDP);
    reached(&mut world, 2, 1_000, protocol::UDP);
    let many = [(1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)];
    world.backends = many.map(|(node, pod)| (node, pod, true)).to_vec();
    world.client_stays = Some(Duration::from_secs(1));
    world.publish();
    world.pass(Duration::from_secs(1));
    let now = CLIENTS.map(|client| reached(&mut world, client, 1_001, protocol::UDP));
    assert!(now.iter().any(|backend| *backend != Some((2, 1))));
}

#[derive(Clone, Debug)]
enum Step {
    /// A client begins a flow.
    Flow(u8),
    /// A backend comes, goes, or dies, by its place among all.
    Comes(usize),
    Goes(usize),
    Dies(usize),
    /// Time passes, in tenths of a second.
    Passes(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..3_u8).prop_map(Step::Flow),
        1 => (0..6_usize).prop_map(Step::Comes),
        1 => (0..6_usize).prop_map(Step::Goes),
        1 => (0..6_usize).prop_map(Step::Dies),
        1 => (1..15_u64).prop_map(Step::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever becomes of backends: a client leaves its own only if that takes no new flows any
    /// more, or after its time.
    #[test]
    fn no_client_moves_without_need(steps in prop::collection::vec(step(), 1..60)) {
        const ALL: [(u8, u8); 6] = [(1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)];
        const STAYS: Duration = Duration::from_secs(2);
        let mut world = world(STAYS.as_secs(), &[(2, 1), (2, 2)]);
        let mut model: BTreeMap<u8, ((u8, u8), Time)> = BTreeMap::new();
        let mut port = 1_000;
        for step in steps {
            let is = |place: usize| move |b: &(u8, u8, bool)| (b.0, b.1) == ALL[place];
            match step {
                Step::Passes(tenths) => world.pass(Duration::from_millis(100 * tenths)),
                Step::Comes(place) => {
                    let (node, pod) = ALL[place];
                    world.backends.retain(|b| !is(place)(b));
                    world.backends.push((node, pod, true));
                }
                // Without any there would be no service.
                Step::Goes(place) if world.backends.len() > 1 => {
                    world.backends.retain(|b| !is(place)(b));
                }
                Step::Dies(place) => {
                    let dead = world.backends.iter_mut().filter(|b| is(place)(b));
                    dead.for_each(|backend| backend.2 = false);
                }
                Step::Goes(_) | Step::Flow(_) => {}
            }
            let Step::Flow(client) = step else {
                world.publish();
                continue;
            };
            port += 1;
            let now = world.now.time;
            let serving = |backend: (u8, u8)| world.backends.contains(&(backend.0, backend.1, true));
            let known = model.get(&client).copied();
            let known = known.filter(|(backend, seen)| serving(*backend) && now.since(*seen) < STAYS);
            let given = reached(&mut world, client, port, protocol::UDP);
            let any = world.backends.iter().any(|backend| backend.2);
            prop_assert_eq!(given.is_some(), any);
            let Some(given) = given else { continue };
            prop_assert!(world.backends.contains(&(given.0, given.1, true)));
            if let Some((backend, _)) = known {
                prop_assert_eq!(given, backend);
            }
            model.insert(client, (given, now));
        }
    }
}
