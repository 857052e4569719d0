//! The conversations of one worker. It never grows: full, it makes room or refuses.

use alloc::vec::Vec;

use hashbrown::HashTable;
use packet::Time;
use policy::Identity;

use crate::Key;
use crate::conversation::{Conversation, Role, Stage};
use crate::fair::Accounts;
use crate::foresight::Foresight;
use crate::record::{End, Records};

/// How many slots a full table looks through for one that may go, under its own hand and then in the
/// ring of one identity. Who has to make room is certain, whether one identity has nearly all or a
/// little more than its share; what is left to luck is which of its conversations goes. Where a tenth
/// of the table may go for the newcomer, 97 of 100 looks find one under the hand. Where nothing may,
/// the longest silent of so many is nearly always among the tenth of its ring that is silent longest.
const EVICTION_TRIES: usize = 32;

/// So many conversations lie in the caches of a core, at some 240 bytes each.
const MANY: usize = 16_384;

/// Conversations by either of their two keys.
#[derive(Debug)]
pub(crate) struct FlowTable {
    // u32 and role as `slot << 1 | role`: the keys themselves lie in the slots only.
    index: HashTable<u32>,
    slots: Vec<Option<Conversation>>,
    free: Vec<u32>,
    limit: usize,
    hand: usize,
    accounts: Accounts,
    secret: (u64, u64),
    foresight: Foresight,
    /// What is told of them.
    pub(crate) records: Records,
    /// From how many conversations on it pays to look ahead.
    many: usize,
}

/// Why a conversation was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No slot is free, and nobody has to make room for the identity that began it.
    Full,
    /// Its answers could not be told from those of another living conversation, or from itself.
    Clash,
}

impl FlowTable {
    /// A table of at most `limit` conversations; all of its memory is reserved here.
    pub(crate) fn new(limit: usize, secret: (u64, u64)) -> FlowTable {
        FlowTable {
            // Twice the two keys of each: a table that is half empty clears its tombstones in
            // place, a fuller one would grow, which is an allocation (hashbrown `reserve_rehash`).
            index: HashTable::with_capacity(limit * 4),
            slots: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            limit,
            hand: 0,
            accounts: Accounts::new(limit, secret),
            secret,
            foresight: Foresight::new(),
            records: Records::new(limit, secret),
            many: MANY,
        }
    }

    /// Finds a living conversation, and which of its directions `key` is.
    #[inline]
    pub(crate) fn find(&mut self, key: &Key, now: Time) -> Option<(u32, Role)> {
        let place = match self.foresight.take(key) {
            Some(place) if self.holds(place, key) => place,
            _ => self.place(key.hash(self.secret), key)?,
        };
        let (slot, role) = (place >> 1, role(place));
        let found = self.slots[slot as usize].as_ref();
        if let Some(end) = found.filter(|c| c.expired(now)).map(Conversation::end) {
            self.remove(slot, end);
            return None;
        }
        Some((slot, role))
    }

    /// Says which keys will be looked for next, in that order; any other order is only slower.
    pub(crate) fn foresee(&mut self, keys: impl Iterator<Item = Key>) {
        if self.len() < self.many {
            return;
        }
        let mut foresight = core::mem::take(&mut self.foresight);
        let secret = self.secret;
        foresight.note(
            keys,
            |key| key.hash(secret),
            |hash, key| self.place(hash, key),
        );
        self.foresight = foresight;
    }

    /// Enters a conversation.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then, but that expired conversations may be gone.
    pub(crate) fn insert(&mut self, conversation: Conversation, now: Time) -> Result<u32, Refused> {
        if conversation.forward == conversation.reply {
            // A pod to itself by one port at both ends, which the service has as well.
            return Err(Refused::Clash);
        }
        for key in [&conversation.forward, &conversation.reply] {
            if let Some((other, _)) = self.find(key, now) {
                let other_may_go = self.slots[other as usize]
                    .as_ref()
                    .is_some_and(Conversation::may_go);
                if !other_may_go {
                    return Err(Refused::Clash);
                }
                let end = self.at(other).end_before_its_time();
                self.remove(other, end);
            }
        }
        let vacant = self.vacant();
        let slot = vacant.or_else(|| self.make_room(conversation.beginner(), now));
        let slot = slot.ok_or(Refused::Full)?;
        let forward = conversation.forward.hash(self.secret);
        let reply = conversation.reply.hash(self.secret);
        self.accounts.charge(slot, conversation.beginner());
        self.slots[slot as usize] = Some(conversation);
        self.enter(forward, slot << 1);
        self.enter(reply, slot << 1 | 1);
        Ok(slot)
    }

    /// Keeps of a conversation only that its late answers are known, if they can be told from others'
    /// and there is room without anybody having to go for it.
    pub(crate) fn keep_answers(&mut self, replaced: Conversation, now: Time) {
        if replaced.expired(now) || self.find(&replaced.reply, now).is_some() {
            return;
        }
        let Some(slot) = self.vacant() else { return };
        let reply = replaced.reply.hash(self.secret);
        self.accounts.charge(slot, replaced.beginner());
        self.slots[slot as usize] = Some(Conversation {
            stage: Stage::Replaced,
            ..replaced
        });
        self.enter(reply, slot << 1 | 1);
    }

    /// Forgets a conversation that is over, and tells so.
    pub(crate) fn remove(&mut self, slot: u32, why: End) {
        if let Some(conversation) = self.take(slot) {
            self.records.end(&conversation, why);
        }
    }

    /// Takes a conversation out, which may go on as another: its slot is free then, so that one is not
    /// refused.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Conversation> {
        let conversation = self.slots[slot as usize].take()?;
        self.accounts.release(slot);
        for (key, value) in [
            (&conversation.forward, slot << 1),
            (&conversation.reply, slot << 1 | 1),
        ] {
            if let Ok(entry) = self
                .index
                .find_entry(key.hash(self.secret), |v| *v == value)
            {
                entry.remove();
            }
        }
        self.free.push(slot);
        Some(conversation)
    }

    /// The conversation in a slot that [`FlowTable::find`] or [`FlowTable::insert`] has just given.
    ///
    /// # Panics
    /// If the slot is empty: our own bug.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> &mut Conversation {
        self.slots[slot as usize]
            .as_mut()
            .expect("a slot that was just found")
    }

    /// Forgets what has expired among the next `most` slots, and tells what is done.
    pub(crate) fn sweep(&mut self, now: Time, most: usize) {
        for _ in 0..most.min(self.slots.len()) {
            let slot = self.advance_hand();
            let Some(conversation) = &mut self.slots[slot as usize] else {
                continue;
            };
            if conversation.expired(now) {
                let end = conversation.end();
                self.remove(slot, end);
            } else if conversation.is_done(now) {
                self.records.end(conversation, End::Closed);
                conversation.note_told_end();
            }
        }
    }

    /// How many slots there are to look through; more may come behind them.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The conversation in a slot, if there is one, and where it is told what becomes of it. Its keys
    /// stay what they are.
    pub(crate) fn look_at(&mut self, slot: usize) -> Option<(&mut Conversation, &mut Records)> {
        let conversation = self.slots.get_mut(slot)?.as_mut()?;
        Some((conversation, &mut self.records))
    }

    /// How many conversations it holds.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Where a key is: `slot << 1 | role`.
    #[inline]
    fn place(&self, hash: u64, key: &Key) -> Option<u32> {
        self.index
            .find(hash, |place| self.is_at(*place, key))
            .copied()
    }

    #[inline]
    fn is_at(&self, place: u32, key: &Key) -> bool {
        self.slots[(place >> 1) as usize]
            .as_ref()
            .is_some_and(|conversation| match role(place) {
                Role::Forward => conversation.forward == *key,
                Role::Reply => conversation.reply == *key,
            })
    }

    /// Whether a place that was found before still is the key's: of a conversation that was replaced
    /// only the answers are known.
    #[inline]
    fn holds(&self, place: u32, key: &Key) -> bool {
        let replaced = |c: &Conversation| c.stage == Stage::Replaced;
        let is_asked = role(place) == Role::Forward
            && self.slots[(place >> 1) as usize]
                .as_ref()
                .is_some_and(replaced);
        self.is_at(place, key) && !is_asked
    }

    fn enter(&mut self, hash: u64, value: u32) {
        let (slots, secret) = (&self.slots, self.secret);
        // The closure is called only if the table were to grow or to clear its tombstones.
        self.index.insert_unique(hash, value, |value| {
            slots[(value >> 1) as usize].as_ref().map_or(0, |c| {
                if value & 1 == 0 {
                    c.forward.hash(secret)
                } else {
                    c.reply.hash(secret)
                }
            })
        });
    }

    /// A free slot: a freed one, or a new one. While there are any, nobody is limited.
    fn vacant(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() == self.limit {
            return None;
        }
        self.slots.push(None);
        Some((self.slots.len() - 1) as u32)
    }

    /// A slot of a full table for a conversation that `newcomer` begins.
    ///
    /// What has expired goes first, whose ever it is, then what may go of the newcomer's own identity,
    /// and while that is below its share of the identities that are above theirs. Only of these a
    /// conversation goes that was answered: the longest silent of those that were looked at, in the
    /// ring of the identity that has most.
    ///
    /// The oldest that may go would be the fairest; the first one under a hand is nearly that.
    fn make_room(&mut self, newcomer: Identity, now: Time) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let standing = self.accounts.standing(newcomer);
        for _ in 0..EVICTION_TRIES.min(self.slots.len()) {
            let slot = self.advance_hand();
            let yields = self.accounts.has_to_yield(slot, &standing);
            if let Some(end) = self.at(slot).end_if_it_may_go(yields, now) {
                self.remove(slot, end);
                return self.free.pop();
            }
        }
        let slots = &self.slots;
        let may_go = |slot: u32| {
            let end = slots[slot as usize].as_ref()?.end_if_it_may_go(true, now)?;
            Some((slot, end))
        };
        let mut own = self.accounts.look_at_own(&standing, EVICTION_TRIES);
        let mut found = own.find_map(may_go);
        drop(own);
        let mut silent: Option<(Time, u32)> = None;
        let mut others = self.accounts.look_at_others(&standing, EVICTION_TRIES);
        while found.is_none()
            && let Some(slot) = others.next()
        {
            found = may_go(slot);
            let since = slots[slot as usize].as_ref()?.last_seen;
            if silent.is_none_or(|(longest, _)| since < longest) {
                silent = Some((since, slot));
            }
        }
        drop(others);
        let longest = silent.map(|(_, slot)| (slot, End::Evicted));
        let (slot, end) = found.or(longest)?;
        self.remove(slot, end);
        self.free.pop()
    }

    fn advance_hand(&mut self) -> u32 {
        let slot = self.hand;
        self.hand = (self.hand + 1) % self.slots.len();
        slot as u32
    }
}

/// Which direction a place is.
#[inline]
fn role(place: u32) -> Role {
    match place & 1 {
        0 => Role::Forward,
        _ => Role::Reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::OPENING;
    use crate::{Route, Side};
    use packet::{Address, Flow, Kind, protocol};
    use policy::Endpoint;
    use proptest::prelude::*;

    /// One that `beginner` begins.
    fn begun_by(beginner: u32, client: u8, now: Time, replied: bool) -> Conversation {
        Conversation {
            subject: Identity(beginner),
            ..conversation(client, now, replied)
        }
    }

    /// Which of so many clients' conversations a table knows.
    fn known(table: &mut FlowTable, clients: core::ops::Range<u8>, now: Time) -> Vec<u8> {
        let is_known = |client: &u8| {
            let key = conversation(*client, now, true).forward;
            table.find(&key, now).is_some()
        };
        clients.filter(is_known).collect()
    }

    fn conversation(client: u8, now: Time, replied: bool) -> Conversation {
        let world = Endpoint::of(Identity::WORLD);
        let flow = Flow {
            source: Address::from_v4([10, 0, 0, client]),
            destination: Address::from_v4([10, 0, 1, 1]),
            source_port: 1,
            destination_port: 2,
            protocol: protocol::TCP,
        };
        Conversation {
            forward: Key {
                flow,
                side: Side::Out,
            },
            reply: Key {
                flow: flow.reverse(),
                side: Side::In,
            },
            subject: Identity::WORLD,
            peer: Identity::WORLD,
            owners: (world.owner, world.owner),
            frontend: None,
            destination: (flow.destination, 2),
            forward_route: Route::World,
            reply_route: Route::Pod,
            epoch: 1,
            reply_epoch: 1,
            under_way: Default::default(),
            stage: if replied {
                Stage::Established
            } else {
                Stage::Opening
            },
            replied,
            cut: None,
            last_seen: now,
            began: now,
            traffic: Default::default(),
            kind: Kind::Tcp,
            finished: [false; 2],
            told_end: false,
            told_client: false,
        }
    }

    #[test]
    fn a_conversation_is_found_by_both_of_its_keys_and_forgotten_after_its_time() {
        let mut table = FlowTable::new(4, (1, 2));
        let begun = conversation(1, Time::ZERO, false);
        let slot = table.insert(begun.clone(), Time::ZERO).expect("room");
        assert_eq!(
            table.find(&begun.forward, Time::ZERO),
            Some((slot, Role::Forward))
        );
        assert_eq!(
            table.find(&begun.reply, Time::ZERO),
            Some((slot, Role::Reply))
        );
        let late = Time::ZERO + OPENING;
        assert_eq!(table.find(&begun.forward, late), None);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_full_table_gives_up_what_was_never_answered_and_nothing_else() {
        let mut table = FlowTable::new(2, (1, 2));
        table
            .insert(conversation(1, Time::ZERO, true), Time::ZERO)
            .expect("room");
        table
            .insert(conversation(2, Time::ZERO, false), Time::ZERO)
            .expect("room");
        table
            .insert(conversation(3, Time::ZERO, true), Time::ZERO)
            .expect("2 makes room");
        let refused = table.insert(conversation(4, Time::ZERO, true), Time::ZERO);
        assert_eq!(refused, Err(Refused::Full));
        let kept = conversation(1, Time::ZERO, true);
        assert!(table.find(&kept.forward, Time::ZERO).is_some());
    }

    #[test]
    fn nothing_goes_for_the_answers_of_what_was_replaced() {
        let mut table = FlowTable::new(2, (1, 2));
        for client in [1, 2] {
            let new = conversation(client, Time::ZERO, false);
            table.insert(new, Time::ZERO).expect("room");
        }
        let replaced = conversation(3, Time::ZERO, false);
        table.keep_answers(replaced.clone(), Time::ZERO);
        for client in [1, 2] {
            let kept = conversation(client, Time::ZERO, false);
            assert!(table.find(&kept.forward, Time::ZERO).is_some());
        }
        assert_eq!(table.find(&replaced.reply, Time::ZERO), None);
        let (slot, _) = table
            .find(&conversation(1, Time::ZERO, false).reply, Time::ZERO)
            .expect("it");
        table.remove(slot, End::Closed);
        table.keep_answers(replaced.clone(), Time::ZERO);
        assert_eq!(table.find(&replaced.forward, Time::ZERO), None);
        assert_eq!(
            table.find(&replaced.reply, Time::ZERO),
            Some((slot, Role::Reply))
        );
    }

    #[test]
    fn what_was_foreseen_and_is_gone_since_is_not_found() {
        let mut table = FlowTable::new(4, (1, 2));
        table.many = 0;
        let old = conversation(1, Time::ZERO, true);
        let slot = table.insert(old.clone(), Time::ZERO).expect("room");
        table.foresee([old.forward, old.forward].into_iter());
        table.remove(slot, End::Closed);
        assert_eq!(table.find(&old.forward, Time::ZERO), None);
        // The same slot again, in which only answers are known.
        table.keep_answers(old.clone(), Time::ZERO);
        assert_eq!(table.find(&old.forward, Time::ZERO), None);
        assert_eq!(
            table.find(&old.reply, Time::ZERO),
            Some((slot, Role::Reply))
        );
    }

    #[test]
    fn who_fills_the_table_with_answered_flows_leaves_others_their_share() {
        let mut table = FlowTable::new(8, (1, 2));
        let at = |second| Time::ZERO + core::time::Duration::from_secs(second);
        for client in 0..8 {
            let hogs = begun_by(300, client, at(100 - u64::from(client)), true);
            assert!(table.insert(hogs, at(100)).is_ok(), "it is alone");
        }
        for client in 100..104 {
            let other = begun_by(301, client, at(200), true);
            assert!(table.insert(other, at(200)).is_ok());
        }
        // The longest silent had to go.
        assert_eq!(known(&mut table, 0..8, at(200)), [0, 1, 2, 3]);
        for beginner in [300, 301] {
            let one_more = begun_by(beginner, 200, at(200), true);
            let refused = table.insert(one_more, at(200));
            assert_eq!(refused, Err(Refused::Full), "{beginner} has its half");
        }
        let third = begun_by(302, 201, at(200), false);
        assert!(table.insert(third, at(200)).is_ok());
        assert_eq!(table.len(), 8);
    }

    #[test]
    fn a_flood_pushes_out_no_opening_flow_of_who_has_less_than_a_share() {
        let mut table = FlowTable::new(64, (1, 2));
        for client in 0..3 {
            let opening = begun_by(300, client, Time::ZERO, false);
            table.insert(opening, Time::ZERO).expect("room");
        }
        for client in (10..250).cycle().take(2_000) {
            // A flow that is known already only takes its own place.
            let _ = table.insert(begun_by(301, client, Time::ZERO, false), Time::ZERO);
        }
        assert_eq!(known(&mut table, 0..3, Time::ZERO), [0, 1, 2]);
        assert_eq!(known(&mut table, 10..250, Time::ZERO).len(), 61);
    }

    #[test]
    fn the_flood_goes_first_and_answered_flows_only_where_there_is_no_flood() {
        let mut table = FlowTable::new(30, (1, 2));
        for client in 0..15 {
            let answered = begun_by(300, client, Time::ZERO, true);
            table.insert(answered, Time::ZERO).expect("room");
            let opening = begun_by(301, 100 + client, Time::ZERO, false);
            table.insert(opening, Time::ZERO).expect("room");
        }
        // A third is ten, so both are above their share.
        for client in 200..210 {
            let new = begun_by(302, client, Time::ZERO, true);
            assert!(table.insert(new, Time::ZERO).is_ok());
        }
        assert_eq!(known(&mut table, 100..115, Time::ZERO).len(), 10);
        assert_eq!(known(&mut table, 0..15, Time::ZERO).len(), 10);
    }

    #[test]
    fn who_is_below_a_share_gives_up_its_own_openings_before_others_answered_flows() {
        let mut table = FlowTable::new(8, (1, 2));
        for client in 0..6 {
            let answered = begun_by(300, client, Time::ZERO, true);
            table.insert(answered, Time::ZERO).expect("room");
        }
        for client in 100..140 {
            let flood = begun_by(301, client, Time::ZERO, false);
            assert!(table.insert(flood, Time::ZERO).is_ok());
        }
        assert_eq!(known(&mut table, 0..6, Time::ZERO), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_was_taken_out_to_be_judged_again_comes_back_whatever_its_share_is() {
        let mut table = FlowTable::new(8, (1, 2));
        for client in 0..7 {
            let hogs = begun_by(300, client, Time::ZERO, true);
            table.insert(hogs, Time::ZERO).expect("room");
        }
        let other = begun_by(301, 100, Time::ZERO, true);
        table.insert(other, Time::ZERO).expect("room");
        for client in 0..7 {
            let key = conversation(client, Time::ZERO, true).forward;
            let (slot, _) = table.find(&key, Time::ZERO).expect("it");
            let taken = table.take(slot).expect("it");
            assert!(table.insert(taken, Time::ZERO).is_ok());
        }
        assert_eq!(known(&mut table, 0..101, Time::ZERO).len(), 8);
    }

    /// What the laws of a full table speak of.
    #[derive(Debug)]
    struct Held {
        key: Key,
        beginner: Identity,
        expired: bool,
        may_go: bool,
        last_seen: Time,
    }

    fn held(table: &FlowTable, now: Time) -> Vec<Held> {
        let held = |c: &Conversation| Held {
            key: c.forward,
            beginner: c.beginner(),
            expired: c.expired(now),
            may_go: c.may_go(),
            last_seen: c.last_seen,
        };
        table.slots.iter().flatten().map(held).collect()
    }

    proptest! {
        /// All slots of so small a table are looked at, so nothing here is left to luck.
        #[test]
        fn nobody_below_a_share_is_refused_and_nobody_gives_of_it_to_others(
            limit in 1..24_usize,
            steps in prop::collection::vec((0..12_u8, 0..100_u8, any::<bool>(), 0..30_u64), 1..300),
        ) {
            let mut table = FlowTable::new(limit, (3, 4));
            let mut now = Time::ZERO;
            for (action, client, replied, seconds) in steps {
                let beginner = if client < 40 { 300 } else { 300 + u32::from(client) % 30 };
                let new = begun_by(beginner, client, now, replied);
                let keys = [new.forward, new.reply];
                let known = keys.map(|key| table.find(&key, now)).into_iter().flatten().next();
                match (action, known) {
                    (0, _) => {
                        now = now + core::time::Duration::from_secs(seconds);
                        table.sweep(now, 3);
                    }
                    (1, Some((slot, _))) => table.at(slot).stage = Stage::Closing,
                    (2, Some((slot, _))) => {
                        let before = table.len();
                        let taken = table.take(slot).expect("it");
                        prop_assert!(table.insert(taken, now).is_ok());
                        prop_assert_eq!(table.len(), before);
                    }
                    (3, Some((slot, _))) => table.remove(slot, End::Closed),
                    (4, _) => table.keep_answers(new, now),
                    (_, Some((slot, _))) => table.at(slot).last_seen = now,
                    (_, None) => {
                        let before = held(&table, now);
                        let entered = table.insert(new.clone(), now);
                        let after = held(&table, now);
                        let stays = |was: &&Held| after.iter().any(|is| is.key == was.key);
                        let gone: Vec<&Held> = before.iter().filter(|was| !stays(was)).collect();
                        if before.len() < limit {
                            prop_assert!(entered.is_ok() && gone.is_empty());
                            continue;
                        }
                        let count = |who| before.iter().filter(|c| c.beginner == who).count();
                        let mut present: Vec<_> = before.iter().map(|c| c.beginner).collect();
                        present.push(new.subject);
                        present.sort();
                        present.dedup();
                        let share = (limit / present.len()).max(1);
                        let is_below = count(new.subject) < share;
                        let yields = |c: &Held| {
                            c.beginner == new.subject || is_below && count(c.beginner) > share
                        };
                        let mut goes_first = before.iter().filter(|c| c.expired || (yields(c) && c.may_go));
                        match entered {
                            Err(refused) => {
                                prop_assert_eq!(refused, Refused::Full);
                                prop_assert!(gone.is_empty() && goes_first.next().is_none());
                                prop_assert!(!is_below || present.len() > limit);
                            }
                            Ok(_) => {
                                prop_assert_eq!(gone.len(), 1);
                                let gone = gone[0];
                                if goes_first.next().is_some() {
                                    prop_assert!(gone.expired || (yields(gone) && gone.may_go));
                                } else {
                                    prop_assert!(is_below && yields(gone));
                                    let of_its_own = before.iter().filter(|c| c.beginner == gone.beginner);
                                    prop_assert_eq!(of_its_own.map(|c| c.last_seen).min(), Some(gone.last_seen));
                                    let most = before.iter().map(|c| count(c.beginner)).max();
                                    prop_assert_eq!(Some(count(gone.beginner)), most);
                                }
                            }
                        }
                    }
                }
                prop_assert!(table.len() <= limit);
            }
        }

        #[test]
        fn the_table_holds_what_a_list_holds(
            steps in prop::collection::vec((0..5_u8, 0..24_u8, 0..30_u64), 1..300),
        ) {
            const LIMIT: usize = 16;
            let mut table = FlowTable::new(LIMIT, (3, 4));
            table.many = 0;
            let mut model: Vec<Conversation> = Vec::new();
            let mut now = Time::ZERO;
            for (action, client, seconds) in steps {
                let new = conversation(client, now, true);
                model.retain(|c| !c.expired(now));
                let known = model.iter().any(|c| c.forward == new.forward);
                match action {
                    0 | 1 => match table.insert(new.clone(), now) {
                        Ok(_) => {
                            prop_assert!(!known && model.len() < LIMIT);
                            model.push(new);
                        }
                        Err(Refused::Clash) => prop_assert!(known),
                        Err(Refused::Full) => prop_assert!(model.len() == LIMIT),
                    },
                    2 => {
                        let found = table.find(&new.forward, now);
                        prop_assert_eq!(found.is_some(), known);
                        prop_assert_eq!(table.find(&new.reply, now).is_some(), known);
                        if let Some((slot, _)) = found {
                            table.remove(slot, End::Closed);
                            model.retain(|c| c.forward != new.forward);
                        }
                    }
                    3 => table.foresee((client..24).map(|client| conversation(client, now, true).forward)),
                    _ => {
                        now = now + core::time::Duration::from_secs(seconds * 60);
                        table.sweep(now, 5);
                    }
                }
            }
            table.sweep(now, LIMIT);
            model.retain(|c| !c.expired(now));
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
