//! Who had which address when: a record may come long after its flow was judged, by a snapshot that
//! nobody has any more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use datapath::Snapshot;
use packet::{Address, Prefix};
use policy::{Endpoint, Identity, RuleId, RuleName};

/// Snapshots whose rules have names: records are collected before each new one, so they speak of the
/// newest, or of the one before, which a worker has just left.
const SNAPSHOTS: usize = 3;
/// Owners of addresses that are remembered after they have gone.
const GONE_MAX: usize = 4_096;

/// The newest snapshot, the rules of some before it, and who has gone since.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Newest last.
    snapshots: VecDeque<Arc<Snapshot>>,
    /// By address: owners that it had, each with the first epoch in which it was somebody else's or
    /// nobody's; ascending.
    gone: HashMap<Address, VecDeque<(u64, Arc<Endpoint>)>>,
    /// Whose addresses are in `gone`, in the order in which they went.
    order: VecDeque<Address>,
    /// Of epochs before this one not everybody is remembered.
    horizon: u64,
}

impl Names {
    /// Takes notice of a snapshot. That costs one walk along both, in step; where only other things
    /// have changed an owner is the same object.
    pub(super) fn adopt(&mut self, snapshot: &Arc<Snapshot>) {
        if let Some(last) = self.snapshots.back().cloned() {
            if last.epoch == snapshot.epoch {
                return;
            }
            // In the order in which both come.
            let place = |prefix: &Prefix| (!prefix.is_v4(), *prefix);
            let mut all = snapshot.endpoints.iter().peekable();
            for (prefix, owner) in last.endpoints.iter() {
                while all.next_if(|(p, _)| place(p) < place(&prefix)).is_some() {}
                let now = all.next_if(|(p, _)| *p == prefix);
                let stays = now.is_some_and(|(_, now)| Arc::ptr_eq(now, owner) || now == owner);
                if !stays {
                    self.forget(prefix.address(), snapshot.epoch, owner);
                }
            }
        }
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back(Arc::clone(snapshot));
    }

    fn forget(&mut self, address: Address, until: u64, owner: &Arc<Endpoint>) {
        if self.order.len() == GONE_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(owners) = self.gone.get_mut(&oldest)
        {
            self.horizon = owners.pop_front().map_or(self.horizon, |(until, _)| until);
            if owners.is_empty() {
                self.gone.remove(&oldest);
            }
        }
        let owners = self.gone.entry(address).or_default();
        owners.push_back((until, Arc::clone(owner)));
        self.order.push_back(address);
    }

    /// Who had `identity` at `address` in an epoch. One whose name is not known for sure has none:
    /// somebody else's would be worse.
    pub(super) fn owner(&self, address: Address, identity: Identity, epoch: u64) -> Arc<Endpoint> {
        let gone = self.gone.get(&address).into_iter().flatten();
        let then = gone.into_iter().find(|(until, _)| epoch < *until);
        let newest = || self.snapshots.back()?.endpoint(address);
        let found = match then {
            Some((_, owner)) => Some(owner),
            None => newest(),
        };
        found
            .filter(|owner| owner.identity == identity && epoch >= self.horizon)
            .map_or_else(|| Arc::new(Endpoint::of(identity)), Arc::clone)
    }

    /// The snapshot of an epoch, or else the newest.
    pub(super) fn snapshot(&self, epoch: u64) -> Option<&Arc<Snapshot>> {
        let then = self.snapshots.iter().find(|s| s.epoch == epoch);
        then.or(self.snapshots.back())
    }

    /// What a rule is called, in the table of an epoch.
    pub(super) fn rule(&self, rule: RuleId, epoch: u64) -> Option<RuleName> {
        let then = self.snapshots.iter().find(|s| s.epoch == epoch)?;
        then.policy.rule(rule).cloned()
    }
}

#[cfg(test)]
mod tests {
    use policy::PolicyTable;

    use super::*;

    fn pod(name: &str, identity: u32) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            name: name.into(),
            ..Endpoint::of(Identity(identity))
        })
    }

    fn address(last: u8) -> Address {
        Address::from_v4([10, 1, 0, last])
    }

    fn snapshot(epoch: u64, owners: &[(u8, &Arc<Endpoint>)]) -> Arc<Snapshot> {
        let owners = owners.iter();
        Arc::new(Snapshot {
            epoch,
            backends: 0,
            endpoints: owners
                .map(|(last, owner)| (Prefix::host(address(*last)), Arc::clone(owner)))
                .collect(),
            world: pod("", 2),
            policy: PolicyTable::default(),
            services: Default::default(),
            routes: [].into_iter().collect(),
            nodes: Vec::new(),
            own: Default::default(),
        })
    }

    #[test]
    fn an_address_belongs_to_whom_it_belonged_when_the_flow_was_judged() {
        let (first, second) = (pod("shop/web-1", 0x1_0100), pod("shop/web-2", 0x1_0100));
        let mut names = Names::default();
        names.adopt(&snapshot(1, &[(1, &first)]));
        for epoch in 2..10 {
            names.adopt(&snapshot(epoch, &[(1, &first)]));
        }
        names.adopt(&snapshot(10, &[]));
        names.adopt(&snapshot(11, &[(1, &second)]));
        let at = |epoch| {
            names
                .owner(address(1), Identity(0x1_0100), epoch)
                .name
                .clone()
        };
        assert_eq!(at(1), "shop/web-1");
        assert_eq!(at(9), "shop/web-1");
        assert_eq!(at(11), "shop/web-2");
        assert_eq!(at(12), "shop/web-2");
        let other = names.owner(address(1), Identity(0x1_0200), 11);
        assert_eq!(other.name, "", "of another identity");
    }

    #[test]
    fn neighbours_that_come_and_go_leave_an_owner_alone() {
        let owner = pod("shop/web", 0x1_0100);
        let other = pod("shop/other", 0x1_0200);
        let mut names = Names::default();
        let rounds: [&[u8]; 5] = [&[1, 5], &[2, 5, 7], &[5], &[1, 2, 3, 5, 9], &[6, 5]];
        for (epoch, places) in (1..).zip(rounds) {
            let who = |place: &u8| (*place, if *place == 5 { &owner } else { &other });
            let all: Vec<(u8, &Arc<Endpoint>)> = places.iter().map(who).collect();
            names.adopt(&snapshot(epoch, &all));
        }
        let at = |place, identity, epoch| {
            let owner = names.owner(address(place), Identity(identity), epoch);
            owner.name.clone()
        };
        for epoch in 1..=5 {
            assert_eq!(at(5, 0x1_0100, epoch), "shop/web");
        }
        let others = |epoch| -> Vec<u8> {
            let named = (1..10).filter(|place| at(*place, 0x1_0200, epoch) == "shop/other");
            named.collect()
        };
        // Of whom nobody followed at an address it is known that it was there, not since when.
        assert_eq!(others(5), [6]);
        assert_eq!(others(4), [1, 2, 3, 6, 9]);
    }

    #[test]
    fn what_was_forgotten_has_no_name() {
        let owner = pod("shop/web", 0x1_0100);
        let mut names = Names::default();
        names.adopt(&snapshot(1, &[(1, &owner)]));
        for number in 1..=GONE_MAX as u64 + 1 {
            let who = pod(&format!("shop/web-{number}"), 0x1_0100);
            names.adopt(&snapshot(number + 1, &[(1, &who)]));
        }
        let at = |epoch| {
            names
                .owner(address(1), Identity(0x1_0100), epoch)
                .name
                .clone()
        };
        assert_eq!(at(1), "");
        assert_eq!(at(3), "shop/web-2");
        assert_eq!(names.order.len(), GONE_MAX);
    }
}
