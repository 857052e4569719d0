//! Allowed IPs, against a list that is searched from one end to the other.

use packet::{Address, Now, Prefix};
use proptest::prelude::*;
use tunnel::{Lane, Outbox, PeerId, PrivateKey};

/// What is done to a lane with four places for peers.
#[derive(Clone, Debug)]
enum Step {
    Allow(usize, Prefix),
    Disallow(usize),
    Remove(usize),
}

fn address() -> impl Strategy<Value = Address> {
    // Few bits that vary, at both ends, so that prefixes nest.
    (any::<bool>(), 0u8..4, 0u8..4).prop_map(|(v4, high, low)| {
        if v4 {
            Address::from_v4([high << 6, 0, 0, low])
        } else {
            let mut octets = [0; 16];
            (octets[0], octets[15]) = (0x20 | high << 6, low);
            Address::from_v6(octets)
        }
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..129).prop_map(|(address, length)| {
        let bits = if address.is_v4() { 32 } else { 128 };
        Prefix::masked(address, length % (bits + 1)).unwrap()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..4, prefix()).prop_map(|(peer, prefix)| Step::Allow(peer, prefix)),
        1 => (0usize..4).prop_map(Step::Disallow),
        1 => (0usize..4).prop_map(Step::Remove),
    ]
}

/// Every prefix with its owner.
#[derive(Default)]
struct Naive(Vec<(Prefix, PeerId)>);

impl Naive {
    fn longest(&self, address: Address) -> Option<PeerId> {
        let holding = self.0.iter().filter(|(prefix, _)| prefix.contains(address));
        let longest = holding.max_by_key(|(prefix, _)| prefix.length());
        longest.map(|(_, peer)| *peer)
    }
}

proptest! {
    #[test]
    fn the_longest_prefix_of_all_peers_names_the_one_that_may_send_it(
        steps in prop::collection::vec(step(), 0..60),
        addresses in prop::collection::vec(address(), 1..20),
    ) {
        let now = Now::default();
        let mut lane = Lane::new(0, PrivateKey::from_bytes([9; 32]), [1; 32]);
        let mut out = Outbox::new(0, 4, 4);
        let keys = [1, 2, 3, 4].map(|byte| PrivateKey::from_bytes([byte; 32]).public());
        let mut peers = keys.map(|key| lane.add_peer(now, key).unwrap());
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Allow(peer, prefix) => {
                    lane.allow(peers[peer], prefix);
                    naive.0.retain(|(other, _)| *other != prefix);
                    naive.0.push((prefix, peers[peer]));
                }
                Step::Disallow(peer) => {
                    lane.disallow_all(peers[peer]);
                    naive.0.retain(|(_, owner)| *owner != peers[peer]);
                }
                Step::Remove(peer) => {
                    lane.remove_peer(peers[peer], &mut out);
                    naive.0.retain(|(_, owner)| *owner != peers[peer]);
                    // A new peer in an old place has none of its prefixes.
                    peers[peer] = lane.add_peer(now, keys[peer]).unwrap();
                }
            }
            for address in &addresses {
                let owner = naive.longest(*address);
                prop_assert_eq!(lane.route(*address), owner);
                for peer in peers {
                    prop_assert_eq!(lane.allows(peer, *address), owner == Some(peer));
                }
            }
        }
        for status in lane.peers() {
            let mut told = status.allowed.clone();
            let owned = naive.0.iter().filter(|(_, owner)| *owner == status.id);
            let mut owned: Vec<Prefix> = owned.map(|(prefix, _)| *prefix).collect();
            told.sort();
            owned.sort();
            prop_assert_eq!(told, owned);
        }
    }
}
