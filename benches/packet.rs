//! What each thing that the room packet does to a packet costs: `cargo bench --bench packet`.
//!
//! Each figure is the best of many short runs, so that what else the machine does shows little.

#[path = "common/hosts.rs"]
mod hosts;

use std::hint::black_box;
use std::time::Instant;

use hosts::{host, hosts};
use packet::{Address, Arena, Coalescer, Header, Offload, Packet, Segmenter, checksum, lane_of};

const RUNS: usize = 400;
/// TCP payload of a full segment in a tunnel, in bytes.
const PAYLOAD: usize = 1348;
/// Segments in a super-packet.
const SEGMENTS: u32 = 44;

fn main() {
    for v6 in [false, true] {
        let family = if v6 { "IPv6" } else { "IPv4" };
        parse_and_rewrite(family, v6);
        super_packets(family, v6);
    }
    let data = vec![7; 1400];
    time("checksum, 1,400 bytes", 1, 2000, || {
        black_box(checksum::internet(black_box(&data)));
    });
    let address = Address::from_v4([10, 1, 2, 3]);
    time("lane_of", 1, 5000, || {
        black_box(lane_of(black_box(address), 4));
    });
    for number in [100, 10_000, 100_000] {
        prefixes(number);
    }
}

/// Prints nanoseconds for each of the `items` that one call of `work` handles.
fn time(name: &str, items: u32, calls: u32, mut work: impl FnMut()) {
    let best = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / f64::from(calls) / f64::from(items)
        })
        .fold(f64::MAX, f64::min);
    println!("{name:44} {best:7.1} ns");
}

fn parse_and_rewrite(family: &str, v6: bool) {
    let bytes = segment(v6, 0);
    time(&format!("{family}: parse"), 1, 5000, || {
        black_box(Header::parse(black_box(&bytes))).unwrap();
    });
    let mut buf = Arena::new(0, 1).take().unwrap();
    buf.extend(&bytes);
    let mut packet = Packet::parse(buf, Offload::default()).unwrap();
    let ends = [
        packet.header().flow.source,
        packet.header().flow.destination,
    ];
    time(&format!("{family}: set_destination"), 2, 5000, || {
        black_box(&mut packet).set_destination(ends[0], 1);
        black_box(&mut packet).set_destination(ends[1], 2);
    });
    time(&format!("{family}: set_ecn"), 2, 5000, || {
        black_box(&mut packet).set_ecn(1);
        black_box(&mut packet).set_ecn(2);
    });
}

fn super_packets(family: &str, v6: bool) {
    let segments: Vec<(Vec<u8>, Header)> = (0..SEGMENTS)
        .map(|index| {
            let bytes = segment(v6, index);
            let header = Header::parse(&bytes).unwrap();
            (bytes, header)
        })
        .collect();
    let mut arena = Arena::new(0, 4);
    let mut coalescer = Coalescer::new(16);
    let mut out = Vec::with_capacity(4);
    let mut coalesce = |out: &mut Vec<(u32, Packet)>, arena: &mut Arena| {
        for (bytes, header) in &segments {
            coalescer.push(bytes, header, 0, arena, out).unwrap();
        }
        coalescer.flush(out);
    };
    time(
        &format!("{family}: coalesce, each segment"),
        SEGMENTS,
        50,
        || {
            coalesce(&mut out, &mut arena);
            for (_, packet) in out.drain(..) {
                arena.put(packet.into_buf());
            }
        },
    );
    coalesce(&mut out, &mut arena);
    let (_, whole) = out.pop().unwrap();
    assert_eq!(whole.segments(), SEGMENTS as usize);
    let mut scratch = vec![0; 2048];
    time(
        &format!("{family}: segment, each segment"),
        SEGMENTS,
        50,
        || {
            let mut segmenter = Segmenter::new(black_box(&whole));
            while let Some(length) = segmenter.next(&mut scratch) {
                black_box(length);
            }
        },
    );
}

/// Looks up among `number` host routes, two networks and a default route.
fn prefixes(number: u32) {
    let map = hosts(number);
    let known: Vec<Address> = (0..4096).map(|index| host(index * 37 % number)).collect();
    let mut turn = 0;
    time(
        &format!("prefix lookup, a host of {number}"),
        1,
        4096,
        || {
            turn = (turn + 1) % known.len();
            black_box(map.lookup(black_box(known[turn])));
        },
    );
}

/// The segment at `index` of one TCP flow, with time stamps.
fn segment(v6: bool, index: u32) -> Vec<u8> {
    let length = 32 + PAYLOAD;
    let mut bytes = Vec::new();
    if v6 {
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend([6, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        bytes.extend([0x45, 0]);
        bytes.extend((20 + length as u16).to_be_bytes());
        bytes.extend((index as u16).to_be_bytes());
        bytes.extend([0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
        let sum = checksum::internet(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let at = bytes.len();
    bytes.extend([0x30, 0x39, 0, 80]);
    bytes.extend((index * PAYLOAD as u32).to_be_bytes());
    bytes.extend([0, 0, 0, 9, 0x80, 0x10, 1, 1, 0, 0, 0, 0]);
    bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend((0..PAYLOAD).map(|i| (i * 7) as u8));
    let flow = Header::parse(&bytes).unwrap().flow;
    let sum = checksum::Sum::pseudo_header(flow.source, flow.destination, 6, length as u32)
        .bytes(&bytes[at..])
        .checksum();
    bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    bytes
}
