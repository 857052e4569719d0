//! Two workers against one: `cargo bench --bench workers`.
//!
//! No kernel: a worker's pods send to a service whose backends are pods of another node; each
//! datagram is found in the flow table, translated, and sealed by the lane that owns its source for
//! the one that owns its destination. One worker with both lanes and all flows has a thread for
//! itself; then two, each with its lane and its half of the flows, have one each. The two are
//! measured in turn, and the ratio is that of the packets per second of the median runs. It means
//! something where two cores are free, and where these are not two halves of one; the second ratio
//! counts only the time that the threads had a core, and so tells on a busy machine what workers cost
//! each other in the program itself.

#[path = "common/figures.rs"]
mod figures;
#[path = "common/in_turn.rs"]
mod in_turn;
#[path = "common/node.rs"]
mod node;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use datapath::{LanePeer, Share, Snapshot};
use figures::median;
use in_turn::in_turn;
use node::{BATCH, Node, key, snapshot};
use packet::Address;
use tunnel::{Lane, PrivateKey, Reception};

/// Lanes of a node.
const LANES: u16 = 2;
/// One worker and two are measured so often.
const PAIRS: usize = 7;
/// What a worker handles in one run, for about 0.4 s.
const SMALL: Load = Load {
    length: 64,
    flows: 10_000,
    batches: 20_000,
};
const LARGE: Load = Load {
    length: 1_200,
    flows: 1_000,
    batches: 6_000,
};
const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// The UDP port of a node's lane 0.
const PORT: u16 = 51_820;

fn main() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return println!("two workers need two cores, and here is one");
    }
    for load in [SMALL, LARGE] {
        compare(load);
    }
}

/// What the pods send.
#[derive(Clone, Copy)]
struct Load {
    /// Bytes of each packet.
    length: usize,
    /// Flows of the node.
    flows: usize,
    /// Batches that each worker handles in one run.
    batches: usize,
}

fn compare(load: Load) {
    let snapshot = Arc::new(snapshot([10, 2, 0], vec![far_node()]));
    let mut both = [1, 2].map(|workers| crew(workers, load, &snapshot));
    let [one, two] = in_turn(
        PAIRS,
        &mut both,
        |[one, _]| run(one, load.batches),
        |[_, two]| run(two, load.batches),
    );
    let packets = (load.batches * BATCH) as f64;
    let [one, two] = [one, two / 2].map(|time| packets / time.as_secs_f64());
    for (rate, name) in [(one, "one worker"), (two, "two workers")] {
        let name = format!("{name}, {} bytes, {} flows", load.length, load.flows);
        println!("{name:44} {:7.2} Mpps", rate / 1e6);
    }
    // Twice the packets, in half of the time that both had a core together.
    let [alone, together] = both.map(|crew| median(crew.on_core).as_secs_f64());
    let name = format!("two / one, {} bytes", load.length);
    println!("{name:44} {:7.2}", two / one);
    println!(
        "{:44} {:7.2}",
        format!("{name}, time on a core"),
        4.0 * alone / together
    );
}

/// The workers of a node, and how long their threads had a core in each run, all together.
struct Crew {
    workers: Vec<Node>,
    on_core: Vec<Duration>,
}

/// So many workers of the node, which share its lanes and flows and have their sessions.
fn crew(workers: u16, load: Load, snapshot: &Arc<Snapshot>) -> Crew {
    let worker = |own| {
        let share = Share {
            own,
            workers,
            lanes: LANES,
        };
        let flows = load.flows / usize::from(workers);
        let mut node = Node::new(share, snapshot.clone(), flows, load.length);
        connect(&mut node, flows);
        (0..flows.div_ceil(BATCH)).for_each(|_| node.batch());
        node
    };
    Crew {
        workers: (0..workers).map(worker).collect(),
        on_core: Vec::new(),
    }
}

/// Lets each worker handle so many batches on a thread of its own, and gives the time from the
/// first one's begin to the last one's end.
fn run(crew: &mut Crew, batches: usize) -> Duration {
    let gate = Barrier::new(crew.workers.len());
    let work = |node: &mut Node| {
        gate.wait();
        let (begun, before) = (Instant::now(), on_core());
        (0..batches).for_each(|_| node.batch());
        (begun, Instant::now(), on_core() - before)
    };
    let spans: Vec<(Instant, Instant, Duration)> = thread::scope(|scope| {
        let begin = |node| scope.spawn(|| work(node));
        let threads: Vec<_> = crew.workers.iter_mut().map(begin).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|span| span.expect("no worker fails")).collect()
    });
    crew.on_core.push(spans.iter().map(|span| span.2).sum());
    let begun = spans.iter().map(|span| span.0).min();
    let ended = spans.iter().map(|span| span.1).max();
    ended
        .zip(begun)
        .map_or(Duration::ZERO, |(end, begin)| end - begin)
}

/// How long this thread has had a core (Linux `fs/proc/base.c`, proc_pid_schedstat).
fn on_core() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

/// The node whose pods the backends are.
fn far_node() -> datapath::Node {
    let lane = |number| LanePeer {
        key: far_key(number).public(),
        endpoint: SocketAddr::new(FAR, PORT + number),
    };
    datapath::Node {
        name: "far".into(),
        cluster: 1,
        cluster_name: "cluster".into(),
        addresses: vec![Address::from_v4([192, 0, 2, 2])],
        lanes: (0..LANES).map(lane).collect(),
        knows_lanes: true,
    }
}

fn far_key(lane: u16) -> PrivateKey {
    PrivateKey::from_bytes([lane as u8 + 101; 32])
}

/// Sends packets to all backends, and has the other node's lanes answer the handshakes which these
/// begin, until nothing waits.
fn connect(node: &mut Node, flows: usize) {
    let lane = |number| {
        let mut lane = Lane::new(number, far_key(number), [number as u8 + 101; 32]);
        for near in 0..LANES {
            let peer = lane.add_peer(node.now, key(near).public());
            lane.set_endpoint(peer.expect("a peer"), SocketAddr::new(NEAR, PORT + near));
        }
        lane
    };
    let mut lanes: Vec<Lane> = (0..LANES).map(lane).collect();
    let (mut reception, mut opened) = (Reception::default(), Vec::new());
    for _ in 0..flows.min(8 * BATCH) {
        let frame = node.frame();
        node.forwarder.handle_frame(node.now, frame, &mut node.out);
        while let Some(mut train) = node.out.tunnel.wire.pop() {
            // They take a handshake for each millisecond.
            node.now.time = node.now.time + Duration::from_millis(1);
            let to = train.path.remote;
            let from = if to.ip() == FAR { NEAR } else { FAR };
            train.path = SocketAddr::new(from, PORT + train.lane).into();
            train.lane = to.port() - PORT;
            if to.ip() == FAR {
                let lane = &mut lanes[usize::from(train.lane)];
                let out = &mut node.out.tunnel;
                lane.open(node.now, &mut train, &mut reception, &mut opened, out);
                out.arena.put(train.buf);
            } else {
                node.forwarder
                    .handle_datagrams(node.now, train, &mut node.out);
            }
        }
    }
    node.expect_no_drop();
    assert_eq!(node.forwarder.queued(), 0, "nothing waits for a handshake");
}
