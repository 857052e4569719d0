//! RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f): what is said of others' mistakes is said seldom.

use std::time::Duration;

use datapath::Reason;

use crate::robust::stage::{Ends, Way};
use crate::world::World;

/// How many errors come back of so many that are due.
fn answered(world: &mut World, bytes: &[u8], count: usize) -> usize {
    (0..count).for_each(|_| world.send(1, bytes));
    world.delivered(1).len()
}

#[test]
fn errors_are_limited_to_a_hundred_a_second_and_fifty_at_once() {
    for v6 in [false, true] {
        let mut world = World::new();
        let ends = Ends::new(Way::Across, v6);
        let bytes = ends.udp(b"datagram").with(|ip| ip.ttl = 1).bytes();
        assert_eq!(answered(&mut world, &bytes, 60), 50);
        world.pass(Duration::from_millis(100));
        assert_eq!(answered(&mut world, &bytes, 60), 10);
        world.pass(Duration::from_secs(10));
        assert_eq!(answered(&mut world, &bytes, 60), 50);
        assert_eq!(world.drops(1, Reason::TimeExceeded), 180, "each is counted");
    }
}
