//! Once warm, receiving and transmitting allocate nothing: not for trains, not for super-packets,
//! not for what is refused, not while waiting.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use common::build::{Ends, offload, udp};
use common::{Worker, in_empty_network, ip, lane, pattern, tun};
use driver::{Budget, TunOffloads};
use packet::SegmentationKind;

/// Counts what the thread that asks has allocated.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: each call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A breath with every kind of work in it; what it allocated.
fn breathe(
    worker: &mut Worker,
    remotes: &[SocketAddr],
    bytes: &[u8],
    super_packet: &[u8],
) -> usize {
    for remote in remotes {
        worker.queue(0, *remote, 1, 1000, bytes);
        worker.queue(0, *remote, 0, 5000, &bytes[..100]);
    }
    let whole = offload(super_packet, Some(SegmentationKind::Udp), 1000);
    worker.queue_packet(super_packet, whole);
    let before = ALLOCATIONS.get();
    worker.transmit().unwrap();
    worker.turn(5).unwrap();
    worker.turn(1).unwrap();
    let after = ALLOCATIONS.get();
    worker.forget_frames();
    while let Some(item) = worker.datagrams.pop() {
        worker.arena.put(item.buf);
    }
    after - before
}

#[test]
fn a_warm_engine_allocates_nothing() {
    for (offloads, segmentation) in [(TunOffloads::Udp, true), (TunOffloads::None, false)] {
        in_empty_network("a_warm_engine_allocates_nothing", move || {
            let bytes = pattern(20_500, 0);
            let lanes = vec![
                lane(0, "127.0.0.1:0", |s| s.segmentation = segmentation),
                lane(1, "127.0.0.1:0", |s| s.coalescing = segmentation),
            ];
            // The second is refused, the third has no socket.
            let remotes = [
                lanes[1].addresses()[0],
                "203.0.113.1:1".parse().unwrap(),
                "[2001:db8::1]:1".parse().unwrap(),
            ];
            let budget = Budget {
                spin: Duration::from_micros(20),
                ..Budget::default()
            };
            let mut worker = Worker::with_budget(tun("far0", offloads), lanes, budget);
            ip("addr add 10.1.0.1/24 dev far0");
            let ends = Ends {
                source: "10.1.0.2".parse().unwrap(),
                // Routed back into the TUN, so that frames come too.
                destination: "10.1.0.3".parse().unwrap(),
            };
            common::sysctl("ipv4/conf/all/forwarding", "1");
            let super_packet = udp(ends, 0, &pattern(10_500, 0));
            for _ in 0..5 {
                breathe(&mut worker, &remotes, &bytes, &super_packet);
            }
            for _ in 0..20 {
                let allocated = breathe(&mut worker, &remotes, &bytes, &super_packet);
                assert_eq!(allocated, 0, "{offloads:?}");
            }
            assert_eq!(worker.sent.wire, 25 * 22);
            assert!(worker.sent.pods >= 25 * 11);
        });
    }
}
