//! Once warm, sealing and opening take nothing from the allocator and give nothing back to it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use packet::{Address, Now, Offload, Packet, Time, echo_request};
use tunnel::{Lane, Outbox, PrivateKey, Reception};

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_data_path_does_not_allocate() {
    let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let remote: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
    let mut now = Now {
        time: Time::from_nanos(1),
        unix_ns: 1 << 60,
    };
    let mut out = Outbox::new(0, 16, 16);
    let mut left = Lane::new(0, keys[0].clone(), [1; 32]);
    let mut right = Lane::new(1, keys[1].clone(), [2; 32]);
    let mut reception = Reception::default();
    let to_right = left.add_peer(now, keys[1].public()).unwrap();
    right.add_peer(now, keys[0].public()).unwrap();
    left.set_endpoint(to_right, remote);
    let mut opened = Vec::with_capacity(64);
    let mut passed = 0;

    let mut round = |packets: u16, passed: &mut usize| {
        now.time = now.time + core::time::Duration::from_millis(10);
        for sequence in 0..packets {
            let mut buf = out.arena.take().unwrap();
            let (from, to) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            let (from, to) = (Address::from_v4(from), Address::from_v4(to));
            echo_request(from, to, 1, sequence, &[7; 1_000], &mut buf);
            let packet = Packet::parse(buf, Offload::default()).unwrap();
            left.seal(now, to_right, packet, &mut out);
        }
        // Until nothing is said any more: handshakes take several letters.
        let mut to_the_right = true;
        while let Some(mut train) = out.wire.pop() {
            let lane = if to_the_right { &mut right } else { &mut left };
            opened.clear();
            train.path = remote.into();
            lane.open(now, &mut train, &mut reception, &mut opened, &mut out);
            *passed += opened.len();
            out.arena.put(train.buf);
            to_the_right = !to_the_right;
        }
        left.handle_timeout(now, &mut reception, &mut out);
        right.handle_timeout(now, &mut reception, &mut out);
    };

    for _ in 0..3 {
        round(10, &mut passed);
    }
    let (calls, before) = (CALLS.load(Ordering::Relaxed), passed);
    for _ in 0..100 {
        round(10, &mut passed);
    }
    assert_eq!(CALLS.load(Ordering::Relaxed) - calls, 0);
    assert_eq!(passed - before, 1_000);
}
