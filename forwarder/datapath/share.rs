//! How the workers of a node share its lanes, and so its addresses.

use packet::{Address, lane_of};

/// One worker's share: lane `l` is worker `l % workers`'s, and an address is its lane's worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which worker this is, from 0.
    pub own: u16,
    /// How many workers the node has.
    pub workers: u16,
    /// How many lanes the node has, and publishes.
    pub lanes: u16,
}

impl Share {
    /// Everything, for the only worker of a node.
    pub const fn whole(lanes: u16) -> Share {
        Share {
            own: 0,
            workers: 1,
            lanes,
        }
    }

    /// The worker that a lane is of.
    #[inline]
    pub fn worker_of_lane(&self, lane: u16) -> u16 {
        lane % self.workers.max(1)
    }

    /// The lane that owns one of this node's addresses.
    #[inline]
    pub fn lane_of(&self, address: Address) -> u16 {
        lane_of(address, self.lanes)
    }

    /// The worker that owns one of this node's addresses, and with it its flows.
    #[inline]
    pub fn worker_of(&self, address: Address) -> u16 {
        if self.workers <= 1 {
            return 0;
        }
        self.worker_of_lane(self.lane_of(address))
    }

    /// Whether a lane is this worker's.
    #[inline]
    pub fn has_lane(&self, lane: u16) -> bool {
        lane < self.lanes && self.worker_of_lane(lane) == self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_and_every_address_has_exactly_one_worker() {
        for workers in 1..=5 {
            for lanes in 1..=8 {
                let shares = (0..workers).map(|own| Share {
                    own,
                    workers,
                    lanes,
                });
                for lane in 0..lanes {
                    let owners = shares.clone().filter(|share| share.has_lane(lane));
                    assert_eq!(owners.count(), 1, "{workers} {lanes} {lane}");
                }
                for last in 0..=255 {
                    let address = Address::from_v4([10, 1, 0, last]);
                    let owner = shares.clone().map(|share| share.worker_of(address));
                    assert!(owner.clone().all(|worker| worker < workers));
                    let lane = lane_of(address, lanes);
                    assert!(owner.into_iter().all(|worker| worker == lane % workers));
                }
            }
        }
    }
}
