//! Who has how many slots of the flow table, and who has to make room when it is full: nobody fills
//! it for everybody.
//!
//! Each conversation is charged to the identity that began it. The conversations of one identity
//! form a ring that a hand of its own goes round, so one of them is found at once, however few they
//! are among all: whom the others have to make room for is a matter of numbers, not of luck.

use alloc::vec::Vec;
use core::hash::Hasher;

use hashbrown::HashTable;
use policy::Identity;
use siphasher::sip::SipHasher13;

/// How many identities have an account of their own; those that come when all are taken are one
/// together. A node speaks with some hundreds. The index of so many takes 48 KiB, and the accounts as
/// much again once all are in use.
const COUNTED: usize = 4_096;
/// The account of all that have none of their own.
const OTHERS: u16 = 0;

/// What each identity has of a table.
#[derive(Debug)]
pub(crate) struct Accounts {
    index: HashTable<u16>,
    /// [`OTHERS`] first.
    accounts: Vec<Account>,
    free: Vec<u16>,
    /// By slot: its place in the ring of its account.
    links: Vec<Link>,
    /// How many accounts have a conversation.
    present: usize,
    limit: usize,
    secret: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Account {
    identity: Identity,
    count: u32,
    /// A slot of its ring, which is the next to be looked at; anything where it has none.
    hand: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    account: u16,
    before: u32,
    after: u32,
}

/// What an identity has while the table is full, and what is due to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Its account, if it has any conversation.
    account: Option<u16>,
    /// What each identity may have.
    share: u32,
    /// Whether it has less than that.
    pub(crate) is_below: bool,
}

impl Accounts {
    /// Accounts of a table of at most `limit` slots; all of the memory is reserved here.
    pub(crate) fn new(limit: usize, secret: (u64, u64)) -> Accounts {
        Accounts::with_counted(limit, COUNTED, secret)
    }

    fn with_counted(limit: usize, counted: usize, secret: (u64, u64)) -> Accounts {
        let counted = counted.min(limit);
        let mut accounts = Vec::with_capacity(counted + 1);
        accounts.push(Account::of(Identity::UNKNOWN));
        Accounts {
            // A table that is half empty clears its tombstones in place.
            index: HashTable::with_capacity(counted * 2),
            accounts,
            free: (1..=counted as u16).rev().collect(),
            links: Vec::with_capacity(limit),
            present: 0,
            limit,
            secret,
        }
    }

    /// Charges a slot to `identity`, the last in its ring to be looked at.
    pub(crate) fn charge(&mut self, slot: u32, identity: Identity) {
        let place = self.open(identity);
        let account = &mut self.accounts[place as usize];
        account.count += 1;
        if account.count == 1 {
            account.hand = slot;
            self.present += 1;
        }
        let after = account.hand;
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Link::default());
        }
        let before = match after == slot {
            true => slot,
            false => self.links[after as usize].before,
        };
        self.links[slot as usize] = Link {
            account: place,
            before,
            after,
        };
        self.links[before as usize].after = slot;
        self.links[after as usize].before = slot;
    }

    /// Takes a slot that was charged off its account.
    pub(crate) fn release(&mut self, slot: u32) {
        let Link {
            account: place,
            before,
            after,
        } = self.links[slot as usize];
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
        let account = &mut self.accounts[place as usize];
        account.count -= 1;
        if account.hand == slot {
            account.hand = after;
        }
        if account.count == 0 {
            self.present -= 1;
            self.close(place);
        }
    }

    /// What `identity` may have more, were the table full.
    pub(crate) fn standing(&self, identity: Identity) -> Standing {
        let account = match self.find(identity) {
            None if self.free.is_empty() => Some(OTHERS),
            found => found,
        };
        let count = account.map_or(0, |place| self.accounts[place as usize].count);
        let present = self.present + usize::from(count == 0);
        let share = (self.limit / present).max(1) as u32;
        Standing {
            account,
            share,
            is_below: count < share,
        }
    }

    /// Whether what may go of a charged slot has to make room for a newcomer of this standing.
    #[inline]
    pub(crate) fn has_to_yield(&self, slot: u32, newcomer: &Standing) -> bool {
        let owner = self.links[slot as usize].account;
        let is_above = self.accounts[owner as usize].count > newcomer.share;
        newcomer.account == Some(owner) || newcomer.is_below && is_above
    }

    /// Slots of the newcomer's own identity, from the hand of their ring on.
    pub(crate) fn look_at_own(
        &mut self,
        newcomer: &Standing,
        most: usize,
    ) -> impl Iterator<Item = u32> {
        self.ring_of(newcomer.account, most)
    }

    /// The same of the identity that has most, where others have to make room for a newcomer of this
    /// standing.
    ///
    /// One that is above its share there always is while the table is full and the newcomer's `n`th
    /// identity is below: the others have more than `(n - 1) / n` of the table. Only where there are
    /// more identities than slots, all have what is due to them, and nobody has to make room.
    pub(crate) fn look_at_others(
        &mut self,
        newcomer: &Standing,
        most: usize,
    ) -> impl Iterator<Item = u32> {
        let heaviest = newcomer.is_below.then(|| self.heaviest(newcomer.share));
        self.ring_of(heaviest.flatten(), most)
    }

    fn ring_of(&mut self, place: Option<u16>, most: usize) -> impl Iterator<Item = u32> {
        let count = place.map_or(0, |place| self.accounts[place as usize].count);
        let place = place.unwrap_or(OTHERS) as usize;
        (0..most.min(count as usize)).map(move |_| {
            let hand = &mut self.accounts[place].hand;
            let slot = *hand;
            *hand = self.links[slot as usize].after;
            slot
        })
    }

    /// Who has most, and more than `share`. Looking at all takes about as long as one look at memory
    /// that is in no cache for each hundred of them.
    fn heaviest(&self, share: u32) -> Option<u16> {
        let all = self.accounts.iter().zip(0_u16..);
        let (most, place) = all.max_by_key(|(account, _)| account.count)?;
        (most.count > share).then_some(place)
    }

    fn find(&self, identity: Identity) -> Option<u16> {
        let hash = hash(identity, self.secret);
        let is_it = |place: &u16| self.accounts[*place as usize].identity == identity;
        self.index.find(hash, is_it).copied()
    }

    /// The account of an identity, a new one if need be.
    fn open(&mut self, identity: Identity) -> u16 {
        if let Some(place) = self.find(identity) {
            return place;
        }
        let Some(place) = self.free.pop() else {
            return OTHERS;
        };
        let account = Account::of(identity);
        // The lowest are taken first, so this is at most one more.
        match self.accounts.get_mut(place as usize) {
            Some(old) => *old = account,
            None => self.accounts.push(account),
        }
        let (accounts, secret) = (&self.accounts, self.secret);
        self.index
            .insert_unique(hash(identity, secret), place, |place| {
                hash(accounts[*place as usize].identity, secret)
            });
        place
    }

    /// Gives an account back that is empty.
    fn close(&mut self, place: u16) {
        let hash = hash(self.accounts[place as usize].identity, self.secret);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == place) {
            entry.remove();
            self.free.push(place);
        }
    }
}

impl Account {
    fn of(identity: Identity) -> Account {
        Account {
            identity,
            count: 0,
            hand: 0,
        }
    }
}

/// Other clusters number their identities, so it takes a secret.
fn hash(identity: Identity, (k0, k1): (u64, u64)) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(k0, k1);
    hasher.write(&identity.0.to_be_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::vec;

    use super::*;
    use proptest::prelude::*;

    impl Accounts {
        /// The slots of an account, as its ring gives them.
        fn ring(&self, place: u16) -> Vec<u32> {
            let Account { count, hand, .. } = self.accounts[place as usize];
            let mut slot = hand;
            let step = |_| {
                let this = slot;
                slot = self.links[this as usize].after;
                this
            };
            (0..count).map(step).collect()
        }
    }

    #[test]
    fn a_share_is_what_each_of_those_present_and_the_newcomer_may_have() {
        let mut accounts = Accounts::new(8, (1, 2));
        (0..6).for_each(|slot| accounts.charge(slot, Identity(300)));
        let standing = |accounts: &Accounts, identity| {
            let standing = accounts.standing(Identity(identity));
            (standing.share, standing.is_below)
        };
        assert_eq!(standing(&accounts, 300), (8, true), "alone");
        assert_eq!(standing(&accounts, 301), (4, true));
        (6..8).for_each(|slot| accounts.charge(slot, Identity(301)));
        assert_eq!(standing(&accounts, 300), (4, false));
        assert_eq!(standing(&accounts, 302), (2, true));
        assert_eq!(standing(&accounts, 301), (4, true));
        (6..8).for_each(|slot| accounts.release(slot));
        assert_eq!(standing(&accounts, 300), (8, true), "alone again");
    }

    #[test]
    fn who_looks_for_room_sees_each_slot_of_the_one_that_has_to_make_it_in_turn() {
        let mut accounts = Accounts::new(6, (1, 2));
        let owners = [300, 301, 300, 301, 300, 300];
        for (slot, owner) in (0..).zip(owners) {
            accounts.charge(slot, Identity(owner));
        }
        let mut look = |newcomer, most| {
            let standing = accounts.standing(Identity(newcomer));
            let own = accounts.look_at_own(&standing, most).collect::<Vec<u32>>();
            (
                own,
                accounts
                    .look_at_others(&standing, most)
                    .collect::<Vec<u32>>(),
            )
        };
        assert_eq!(
            look(301, 3),
            (vec![1, 3], vec![0, 2, 4]),
            "it is below its share"
        );
        assert_eq!(
            look(300, 3),
            (vec![5, 0, 2], vec![]),
            "nobody's but its own"
        );
        assert_eq!(look(302, 9), (vec![], vec![4, 5, 0, 2]), "each once");
    }

    #[test]
    fn nobody_has_to_make_room_where_there_are_more_identities_than_slots() {
        let mut accounts = Accounts::new(3, (1, 2));
        (0..3).for_each(|slot| accounts.charge(slot, Identity(300 + slot)));
        let standing = accounts.standing(Identity(400));
        assert!(standing.is_below);
        assert_eq!(accounts.look_at_others(&standing, 9).count(), 0);
        assert!((0..3).all(|slot| !accounts.has_to_yield(slot, &standing)));
    }

    proptest! {
        #[test]
        fn the_rings_hold_each_slot_once_and_no_account_outlives_what_is_charged_to_it(
            steps in prop::collection::vec((0..32_u32, 0..9_u32), 1..400),
        ) {
            const COUNTED: usize = 5;
            let mut accounts = Accounts::with_counted(32, COUNTED, (3, 4));
            let reserved = accounts.index.capacity();
            let mut charged: BTreeMap<u32, Identity> = BTreeMap::new();
            let mut slots = 0;
            for (slot, identity) in steps {
                let slot = slot.min(slots);
                match charged.remove(&slot) {
                    Some(_) => accounts.release(slot),
                    None => {
                        let identity = Identity(300 + identity);
                        accounts.charge(slot, identity);
                        charged.insert(slot, identity);
                        slots = slots.max(slot + 1).min(31);
                    }
                }
                let mut seen = BTreeSet::new();
                let places = 0..accounts.accounts.len() as u16;
                for place in places.clone() {
                    for slot in accounts.ring(place) {
                        prop_assert!(seen.insert(slot));
                        let owner = accounts.accounts[place as usize].identity;
                        prop_assert!(place == OTHERS || charged.get(&slot) == Some(&owner));
                    }
                }
                prop_assert!(seen.iter().eq(charged.keys()));
                let in_use = places.filter(|place| accounts.accounts[*place as usize].count > 0);
                prop_assert_eq!(accounts.present, in_use.count());
                prop_assert_eq!(accounts.free.len() + accounts.index.len(), COUNTED);
            }
            prop_assert_eq!(accounts.index.capacity(), reserved);
        }
    }
}
