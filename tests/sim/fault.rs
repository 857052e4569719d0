//! What goes wrong.

use core::time::Duration;
use std::sync::Arc;

use crate::generate;
use crate::manifest;
use crate::model::{CLUSTERS, FILES, File, NODES, Readiness};
use crate::random::Random;
use crate::sim::Sim;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A link between two nodes, or all links of one, carry nothing.
    Cut,
    /// The link between two nodes swallows what is longer than it was.
    Narrow,
    /// A node dies and comes back with nothing but its key and its files.
    Restart,
    /// One worker of a node dies, with all that it knows and holds, and is started again.
    WorkerDeath,
    /// Most datagrams are lost for a while.
    LossBurst,
    /// Policies come, go and change.
    PolicyChange,
    /// A pod becomes unready, ends, or is deleted.
    BackendGone,
    /// A file does not parse.
    BrokenFile,
    /// A pod is deleted and stands up on another node.
    PodMoved,
    /// A pod's labels, or a namespace's, change.
    PodRelabelled,
    /// Services are written anew.
    ServiceChange,
}

/// All of them.
pub const ALL: [Fault; 11] = [
    Fault::Cut,
    Fault::Narrow,
    Fault::Restart,
    Fault::WorkerDeath,
    Fault::LossBurst,
    Fault::PolicyChange,
    Fault::BackendGone,
    Fault::BrokenFile,
    Fault::PodMoved,
    Fault::PodRelabelled,
    Fault::ServiceChange,
];

impl Fault {
    /// One of them.
    pub fn draw(random: &mut Random) -> Fault {
        random.pick(&ALL)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Cut => "cut",
            Fault::Narrow => "narrow",
            Fault::Restart => "restart",
            Fault::WorkerDeath => "worker",
            Fault::LossBurst => "loss",
            Fault::PolicyChange => "policy",
            Fault::BackendGone => "backend",
            Fault::BrokenFile => "broken file",
            Fault::PodMoved => "moved",
            Fault::PodRelabelled => "relabelled",
            Fault::ServiceChange => "service",
        }
    }

    /// Makes it happen.
    pub fn begin(self, sim: &mut Sim) {
        if matches!(
            self,
            Fault::Cut | Fault::Restart | Fault::WorkerDeath | Fault::LossBurst
        ) {
            sim.witness.ordered = false;
        }
        sim.calm &= matches!(
            self,
            Fault::Cut | Fault::Narrow | Fault::LossBurst | Fault::BackendGone
        );
        match self {
            Fault::Cut => cut(sim),
            Fault::Narrow => narrow(sim),
            Fault::Restart => restart(sim),
            Fault::WorkerDeath => kill_worker(sim),
            Fault::LossBurst => sim.wires.loss = sim.random.between(150, 700),
            Fault::PolicyChange => change_policies(sim),
            Fault::BackendGone => lose_backend(sim),
            Fault::BrokenFile => break_file(sim),
            Fault::PodMoved => move_pod(sim),
            Fault::PodRelabelled => relabel(sim),
            Fault::ServiceChange => change_services(sim),
        }
    }

    /// Ends what lasts: cuts, narrow links, loss, nodes that are down.
    pub fn heal(sim: &mut Sim) {
        sim.wires.cut.clear();
        sim.wires.narrow.clear();
        sim.wires.loss = sim.wires.loss.min(2);
        for node in 0..NODES {
            if !sim.hosts[node].is_up() {
                sim.start(node);
            }
            for worker in sim.hosts[node].dead_workers() {
                sim.start_worker(node, worker);
            }
        }
    }
}

fn cut(sim: &mut Sim) {
    let one = sim.random.index(NODES);
    let others: Vec<usize> = (0..NODES).filter(|other| *other != one).collect();
    if sim.random.percent(30) {
        let pairs = others.iter().map(|o| (one.min(*o), one.max(*o)));
        sim.wires.cut.extend(pairs);
    } else {
        let other = sim.random.pick(&others);
        sim.wires.cut.insert((one.min(other), one.max(other)));
    }
}

/// As narrow as IPv6 can still cross: 1,280 bytes in the tunnel and 60 around them.
fn narrow(sim: &mut Sim) {
    let one = sim.random.index(NODES);
    let other = (one + 1 + sim.random.index(NODES - 1)) % NODES;
    let most = sim.random.pick(&[1_340, 1_350, 1_400]);
    sim.wires
        .narrow
        .insert((one.min(other), one.max(other)), most);
}

fn restart(sim: &mut Sim) {
    let node = sim.random.index(NODES);
    sim.hosts[node].stop();
    let down = sim.random.pick(&[0, 10, 800, 4_000]);
    if sim.random.percent(75) {
        sim.run(Duration::from_millis(down));
        sim.start(node);
    }
}

fn kill_worker(sim: &mut Sim) {
    let node = sim.random.index(NODES);
    if !sim.hosts[node].is_up() {
        return;
    }
    let worker = sim.random.below(sim.hosts[node].shape.workers.into()) as u16;
    sim.hosts[node].stop_worker(worker);
    let down = sim.random.pick(&[0, 10, 800]);
    sim.run(Duration::from_millis(down));
    sim.start_worker(node, worker);
}

fn change_policies(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let mut policies = (*sim.truth.clusters[cluster].policies).clone();
    match sim.random.below(4) {
        0 if !policies.is_empty() => {
            policies.remove(sim.random.index(policies.len()));
        }
        1 if !policies.is_empty() => {
            let place = sim.random.index(policies.len());
            policies[place] = generate::policy(&mut sim.random, place as u64);
        }
        2 => policies = generate::policies(&mut sim.random),
        _ => {
            let number = sim.random.between(100, 999);
            policies.push(generate::policy(&mut sim.random, number));
        }
    }
    // Of two with one name the later would count.
    let mut names = std::collections::BTreeSet::new();
    policies.retain(|policy| names.insert((policy.namespace, policy.name.clone())));
    sim.truth.clusters[cluster].policies = Arc::new(policies);
    sim.publish(cluster, File::Policies);
}

fn lose_backend(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let mut inventory = (*sim.truth.clusters[cluster].inventory).clone();
    let pod = sim.random.index(inventory.pods.len());
    match sim.random.below(4) {
        0 if inventory.pods.len() > 2 => {
            let gone = inventory.pods.remove(pod);
            sim.places.retain(|place| place.stack.name != gone.name);
        }
        1 => inventory.pods[pod].readiness = Readiness::Terminating,
        2 => {
            // All of one app at once: the other cluster's must stand in.
            let app = inventory.pods[pod].labels.get("app").copied();
            for pod in &mut inventory.pods {
                if pod.labels.get("app").copied() == app {
                    pod.readiness = Readiness::Unready;
                }
            }
        }
        _ => {
            let pod = &mut inventory.pods[pod];
            pod.readiness = match pod.readiness {
                Readiness::Ready => Readiness::Unready,
                _ => Readiness::Ready,
            };
        }
    }
    sim.truth.clusters[cluster].inventory = Arc::new(inventory);
    sim.publish(cluster, File::Inventory);
}

fn break_file(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let file = sim.random.pick(&FILES);
    let mut text = manifest::text(&sim.truth.clusters[cluster], file);
    let broken = sim.random.pick(&[
        "\n---\nkind: [Pod\n",
        "\n---\napiVersion: v1\nkind: Pod\nmetadata: 7\n",
        "\n---\n\t- tabs: {\n",
    ]);
    text.push_str(broken);
    sim.write(cluster, Some(file), &text);
}

fn move_pod(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let mut inventory = (*sim.truth.clusters[cluster].inventory).clone();
    let place = sim.random.index(inventory.pods.len());
    let old = inventory.pods.remove(place);
    sim.places.retain(|place| place.stack.name != old.name);
    let node = old.node ^ 1;
    let number = sim.next_pod;
    let mut new = generate::pod(&mut sim.random, node, number);
    new.labels = old.labels;
    new.namespace = old.namespace;
    sim.add_pod(&new);
    inventory.pods.push(new);
    sim.truth.clusters[cluster].inventory = Arc::new(inventory);
    sim.publish(cluster, File::Inventory);
}

fn relabel(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let mut inventory = (*sim.truth.clusters[cluster].inventory).clone();
    if sim.random.percent(70) {
        let pod = sim.random.index(inventory.pods.len());
        inventory.pods[pod].labels = generate::labels(&mut sim.random);
    } else {
        let name = sim.random.pick(&generate::NAMESPACES);
        let labels = generate::namespace_labels(&mut sim.random);
        inventory.namespaces.insert(name, labels);
    }
    sim.truth.clusters[cluster].inventory = Arc::new(inventory);
    sim.publish(cluster, File::Inventory);
}

fn change_services(sim: &mut Sim) {
    let cluster = sim.random.index(CLUSTERS);
    let services = generate::services(&mut sim.random, cluster, &sim.truth.clusters[cluster]);
    sim.truth.clusters[cluster].services = Arc::new(services);
    sim.publish(cluster, File::Services);
}
