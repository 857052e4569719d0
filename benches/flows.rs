//! What the core does with a packet of a known flow, against the number of flows:
//! `cargo bench --bench flows`.
//!
//! No kernel and no cipher: a frame of 64 bytes comes from a pod, is found in the flow table, gets
//! the address of its backend and its checksums, and goes out of the node. Flows come one after the
//! other, so with many of them nothing that belongs to one is in the caches when it comes again: the
//! worst there is. One thread; each figure is the median of many batches, so that what else the
//! machine does shows little. The last lines are the cost of a flow's first packet.

#[path = "common/figures.rs"]
mod figures;
#[path = "common/node.rs"]
mod node;

use std::sync::Arc;
use std::time::Instant;

use datapath::Share;
use figures::median;
use node::{BATCH, Node, snapshot};

/// Batches that are timed at least, and rounds over all flows.
const BATCHES: usize = 20_000;
const ROUNDS: usize = 3;
/// Bytes of a packet.
const LENGTH: usize = 64;

fn main() {
    for flows in [1, 10_000, 100_000, 1_000_000] {
        // Backends out of the mesh, so that nothing is sealed.
        let snapshot = Arc::new(snapshot([203, 0, 113], Vec::new()));
        let mut node = Node::new(Share::whole(1), snapshot, flows, LENGTH);
        let first = each(&mut node, flows / BATCH);
        let known = each(&mut node, BATCHES.max(ROUNDS * flows / BATCH));
        print(&format!("known flow, 64 bytes, {flows} flows"), known);
        if flows > 1 {
            print(&format!("first packet of {flows} flows"), first);
        }
        node.expect_no_drop();
    }
}

fn print(name: &str, each: f64) {
    println!("{name:44} {each:7.1} ns {:7.2} Mpps", 1e3 / each);
}

/// Nanoseconds for each packet of the median one of so many batches; at least of one.
fn each(node: &mut Node, batches: usize) -> f64 {
    let timed = |_| {
        let begun = Instant::now();
        node.batch();
        begun.elapsed()
    };
    median((0..batches.max(1)).map(timed).collect()).as_nanos() as f64 / BATCH as f64
}
