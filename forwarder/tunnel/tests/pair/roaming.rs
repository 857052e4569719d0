//! Who is believed about where a peer is, and whose an address is.

use packet::{Address, Prefix};
use tunnel::{PrivateKey, Refused};

use crate::world::{LEFT, RIGHT, World, millis, seconds};

fn endpoint(world: &World, side: usize) -> Option<core::net::SocketAddr> {
    world.sides[side].lane.peers().next().unwrap().endpoint
}

#[test]
fn an_authentic_packet_from_elsewhere_moves_the_endpoint() {
    let mut world = World::connected();
    world.sides[LEFT].address = "198.51.100.7:7".parse().unwrap();
    world.ping(LEFT, 1);
    world.run(millis(100));
    assert_eq!(endpoint(&world, RIGHT), Some(world.sides[LEFT].address));
}

#[test]
fn a_handshake_from_elsewhere_moves_the_endpoint() {
    let mut world = World::connected();
    world.run(seconds(200));
    world.sides[LEFT].address = "[2001:db8::7]:7".parse().unwrap();
    world.ping(LEFT, 1);
    world.run(millis(11));
    assert_eq!(endpoint(&world, RIGHT), Some(world.sides[LEFT].address));
    world.run(millis(100));
    assert_eq!(world.sequences(RIGHT), [1]);
}

#[test]
fn forged_and_replayed_packets_and_cookie_replies_move_nothing() {
    let mut world = World::connected();
    world.ping(LEFT, 1);
    let good = world.wire.front().unwrap().clone();
    world.run(millis(100));
    let home = endpoint(&world, RIGHT);
    let mut replayed = good.clone();
    replayed.from = "198.51.100.66:6".parse().unwrap();
    let mut forged = replayed.clone();
    forged.bytes[40] ^= 1;
    forged.bytes[8] = 77;
    let mut cookie = replayed.clone();
    cookie.bytes = vec![0; 64];
    cookie.bytes[0] = 3;
    cookie.bytes[4..8].copy_from_slice(&good.bytes[4..8]);
    cookie.stride = 64;
    for letter in [replayed, forged, cookie] {
        world.deliver(letter);
    }
    assert_eq!(endpoint(&world, RIGHT), home);
    for reason in [
        Refused::Replayed,
        Refused::DataForged,
        Refused::CookieForged,
    ] {
        assert_eq!(world.refused(RIGHT, reason), 1, "{}", reason.name());
    }
}

#[test]
fn a_packet_to_a_peer_without_endpoint_is_refused_by_its_name() {
    let mut world = World::new();
    world.ping(RIGHT, 1);
    assert_eq!(world.refused(RIGHT, Refused::EndpointUnknown), 1);
    assert_eq!(world.log, []);
}

#[test]
fn the_longest_prefix_of_all_peers_names_the_sender() {
    let mut world = World::new();
    let now = world.now(LEFT);
    let left = &mut world.sides[LEFT];
    let other = left
        .lane
        .add_peer(now, PrivateKey::from_bytes([8; 32]).public())
        .unwrap();
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    left.lane.allow(left.peer, prefix("10.0.0.0/8"));
    left.lane.allow(other, prefix("10.1.0.0/16"));
    left.lane.allow(left.peer, prefix("10.1.2.0/24"));
    let address = |d, c| Address::from_v4([10, d, c, 1]);
    for (who, address) in [
        (left.peer, address(0, 0)),
        (other, address(1, 0)),
        (left.peer, address(1, 2)),
    ] {
        assert_eq!(left.lane.route(address), Some(who));
        assert!(left.lane.allows(who, address));
        let not = if who == other { left.peer } else { other };
        assert!(!left.lane.allows(not, address));
    }
    // A prefix that moves is no more the first one's, and one that is taken away uncovers the next.
    left.lane.allow(other, prefix("10.1.2.0/24"));
    assert_eq!(left.lane.route(address(1, 2)), Some(other));
    left.lane.disallow_all(other);
    assert_eq!(left.lane.route(address(1, 2)), Some(left.peer));
    left.lane.allow(other, prefix("10.1.2.0/24"));
    left.lane.remove_peer(other, &mut left.out);
    assert_eq!(left.lane.route(address(1, 2)), Some(left.peer));
    assert_eq!(
        left.lane.peers().next().unwrap().allowed,
        [prefix("10.0.0.0/8")]
    );
}
