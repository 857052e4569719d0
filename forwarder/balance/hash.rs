//! Hashes that every node and every release must agree on.
//!
//! All are SipHash-2-4 with fixed, published keys: they decide where flows go, so nodes must agree,
//! and a change of a key moves every flow of a mesh. They are not a defence: whoever chooses a
//! name or a flow may choose its backend as well.

use core::hash::Hasher;

use packet::{Address, Flow};
use siphasher::sip::SipHasher24;

// The first digits of π and e in hexadecimal: numbers with nothing up the sleeve.
const OFFSET_KEY: (u64, u64) = (0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
const SKIP_KEY: (u64, u64) = (0xb7e1_5162_8aed_2a6a, 0xbf71_5880_9cf4_f3c7);
const FLOW_KEY: (u64, u64) = (0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89);

fn siphash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
    hasher.write(bytes);
    hasher.finish()
}

/// The two hashes of a backend's name that §3.4 of the Maglev paper calls h1 (offset) and h2 (skip).
pub(crate) fn name_hashes(name: &[u8]) -> (u64, u64) {
    (siphash(OFFSET_KEY, name), siphash(SKIP_KEY, name))
}

/// What [`Service::pick`](crate::Service::pick) takes for a flow: the same on every node.
pub fn flow_hash(flow: &Flow) -> u64 {
    let mut bytes = [0; 37];
    bytes[..16].copy_from_slice(flow.source.octets());
    bytes[16..32].copy_from_slice(flow.destination.octets());
    bytes[32..34].copy_from_slice(&flow.source_port.to_be_bytes());
    bytes[34..36].copy_from_slice(&flow.destination_port.to_be_bytes());
    bytes[36] = flow.protocol;
    siphash(FLOW_KEY, &bytes)
}

/// What [`Service::pick`](crate::Service::pick) takes where all flows of a client go to one backend
/// (session affinity `ClientIP`): the same on every node.
pub fn client_hash(client: Address) -> u64 {
    siphash(FLOW_KEY, client.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_gives_the_vector_of_its_authors() {
        // Aumasson and Bernstein, "SipHash: a fast short-input PRF", appendix A.
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let message: [u8; 15] = core::array::from_fn(|i| i as u8);
        assert_eq!(siphash(key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn every_part_of_a_flow_counts() {
        let flow = Flow {
            source: Address::from_v4([10, 0, 0, 1]),
            destination: Address::from_v4([10, 0, 0, 2]),
            source_port: 1000,
            destination_port: 80,
            protocol: 6,
        };
        let others = [
            Flow {
                source: Address::from_v4([10, 0, 0, 3]),
                ..flow
            },
            Flow {
                destination: Address::from_v4([10, 0, 0, 3]),
                ..flow
            },
            Flow {
                source_port: 1001,
                ..flow
            },
            Flow {
                destination_port: 81,
                ..flow
            },
            Flow {
                protocol: 17,
                ..flow
            },
            flow.reverse(),
        ];
        for other in others {
            assert_ne!(flow_hash(&flow), flow_hash(&other), "{other:?}");
        }
    }
}
