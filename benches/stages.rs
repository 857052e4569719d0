//! What each stage of a packet's way costs, in instructions: `cargo bench --bench stages`.
//!
//! Callgrind counts them, so a figure is the same on a busy machine, and tells what a change of one
//! stage costs where a time would drown; it says nothing of caches and of how many instructions go
//! at once. Each stage is one function, and what it needs is made before the count begins. Those
//! with a super-packet are for all of its 46 segments of 1,420 bytes. What seals and opens chooses
//! its code by the processor's features, so these two are comparable on like processors only.

// What the macros make has no documentation.
#![allow(missing_docs)]

#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/node.rs"]
mod node;
#[path = "common/pair.rs"]
mod pair;

use std::hint::black_box;
use std::process::{Command, Stdio, exit};
use std::sync::Arc;

use datapath::Share;
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use hosts::{host, hosts};
use node::{BATCH, Node, snapshot};
use packet::{
    Address, Arena, Buf, Coalescer, Datagrams, Frame, Header, Packet, PrefixMap, Segmenter,
    checksum,
};
use pair::{Pair, SEGMENT, SEGMENTS};
use tunnel::Inner;

/// The runner must have gungraun's version, which Cargo.toml fixes.
const RUNNER: &str = "0.20.0";

library_benchmark_group!(
    name = way,
    benchmarks = [
        parse, forward, segment, seal, open, coalesce, internet, lookup
    ]
);
main!(config = config(), library_benchmark_groups = way);

/// Ends with a sentence where a program is missing that the count needs.
fn config() -> LibraryBenchmarkConfig {
    let runner = option_env!("GUNGRAUN_RUNNER").unwrap_or("gungraun-runner");
    if !exists("valgrind") || !exists(runner) {
        eprintln!(
            "instructions are counted by valgrind (Debian's package `valgrind`) and gungraun-runner \
             (`cargo install --locked --version ={RUNNER} gungraun-runner`): install both"
        );
        exit(1);
    }
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::with_args(["--cache-sim=no"]));
    config
}

fn exists(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

// A frame becomes a checked packet.
#[library_benchmark]
#[bench::super_packet(Pair::new().frame())]
fn parse(frame: Buf) -> Packet {
    pair::parse(black_box(frame))
}

// A packet of a known flow, from the frame to the queue out of the node: parsed, found, judged
// already, translated to its backend.
#[library_benchmark]
#[bench::known_flow(known_flow())]
fn forward((mut node, frame): (Box<Node>, Frame)) -> Box<Node> {
    let Node {
        forwarder,
        now,
        out,
        ..
    } = &mut *node;
    forwarder.handle_frame(*now, black_box(frame), out);
    node
}

fn known_flow() -> (Box<Node>, Frame) {
    let snapshot = Arc::new(snapshot([203, 0, 113], Vec::new()));
    let mut node = Box::new(Node::new(Share::whole(1), snapshot, 1_024, 64));
    (0..1_024 / BATCH).for_each(|_| node.batch());
    node.expect_no_drop();
    let frame = node.frame();
    (node, frame)
}

// A super-packet is cut into finished segments.
#[library_benchmark]
#[bench::super_packet(Pair::new().packet(), vec![0; SEGMENT])]
fn segment(packet: Packet, mut scratch: Vec<u8>) -> (Packet, Vec<u8>) {
    let mut segmenter = Segmenter::new(black_box(&packet));
    while let Some(length) = segmenter.next(&mut scratch) {
        black_box(&mut scratch[..length]);
    }
    (packet, scratch)
}

// A lane cuts and seals a super-packet into trains.
#[library_benchmark]
#[bench::super_packet(to_seal())]
fn seal((mut pair, packet): (Box<Pair>, Packet)) -> Box<Pair> {
    pair.seal(black_box(packet));
    pair
}

fn to_seal() -> (Box<Pair>, Packet) {
    let mut pair = Box::new(Pair::new());
    let packet = pair.packet();
    (pair, packet)
}

// The other lane opens these trains.
#[library_benchmark]
#[bench::super_packet(to_open())]
fn open((mut pair, mut trains, mut opened): Opening) -> Opening {
    pair.open(black_box(&mut trains), &mut opened);
    (pair, trains, opened)
}

/// A pair, what is to be opened, and where it is told.
type Opening = (Box<Pair>, Vec<Datagrams>, Vec<Inner>);

fn to_open() -> Opening {
    let (mut pair, packet) = to_seal();
    pair.seal(packet);
    let trains = pair.take_trains();
    (pair, trains, Vec::with_capacity(SEGMENTS))
}

// Segments in sequence become a super-packet again.
#[library_benchmark]
#[bench::super_packet(Segments::new())]
fn coalesce(mut segments: Segments) -> Segments {
    let Segments {
        all,
        coalescer,
        arena,
        out,
    } = &mut segments;
    for (bytes, header) in &*all {
        let taken = coalescer.push(bytes, header, 0, arena, out);
        taken.expect("a buffer");
    }
    coalescer.flush(out);
    segments
}

/// What is made whole, and with what.
struct Segments {
    all: Vec<(Vec<u8>, Header)>,
    coalescer: Coalescer,
    arena: Arena,
    out: Vec<(u32, Packet)>,
}

impl Segments {
    fn new() -> Segments {
        let packet = Pair::new().packet();
        let mut segmenter = Segmenter::new(&packet);
        let mut bytes = vec![0; SEGMENT];
        let all = std::iter::from_fn(|| {
            let length = segmenter.next(&mut bytes)?;
            let header = Header::parse(&bytes[..length]).expect("a packet");
            Some((bytes[..length].to_vec(), header))
        });
        Segments {
            all: all.collect(),
            coalescer: Coalescer::new(16),
            arena: Arena::new(0, 4),
            out: Vec::with_capacity(4),
        }
    }
}

// The checksum of a packet's bytes.
#[library_benchmark]
#[bench::whole_packet(vec![7; SEGMENT])]
fn internet(bytes: Vec<u8>) -> (Vec<u8>, u16) {
    let sum = checksum::internet(black_box(&bytes));
    (bytes, sum)
}

// Longest-prefix match among 10,000 host routes, two networks and a default route.
#[library_benchmark]
#[bench::a_host(hosts(10_000), host(4_711))]
#[bench::nobody(hosts(10_000), Address::from_v4([198, 51, 100, 1]))]
fn lookup(routes: PrefixMap<u32>, address: Address) -> PrefixMap<u32> {
    black_box(routes.lookup(black_box(address)));
    routes
}
