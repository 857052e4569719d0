//! The conversations of one worker. It never grows: full, it makes room or refuses.

use alloc::vec::Vec;

use hashbrown::HashTable;
use packet::Time;

use crate::Key;
use crate::conversation::{Conversation, Role, Stage};
use crate::foresight::Foresight;
use crate::record::{End, Records};

/// How many slots a full table looks through for one that may go.
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
    /// No slot is free, and none may be freed.
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
        let slot = self.vacant(now).ok_or(Refused::Full)?;
        let forward = conversation.forward.hash(self.secret);
        let reply = conversation.reply.hash(self.secret);
        self.slots[slot as usize] = Some(conversation);
        self.enter(forward, slot << 1);
        self.enter(reply, slot << 1 | 1);
        Ok(slot)
    }

    /// Keeps of a conversation only that its late answers are known, if they can be told from others'
    /// and there is room without anybody having to go for it.
    pub(crate) fn keep_answers(&mut self, replaced: Conversation, now: Time) {
        let is_full = self.free.is_empty() && self.slots.len() == self.limit;
        if is_full || replaced.expired(now) || self.find(&replaced.reply, now).is_some() {
            return;
        }
        let Some(slot) = self.vacant(now) else { return };
        let reply = replaced.reply.hash(self.secret);
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

    /// Takes a conversation out, which may go on as another.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Conversation> {
        let conversation = self.slots[slot as usize].take()?;
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

    /// A free slot: a new one, a freed one, or one whose conversation may go. The oldest that was
    /// never answered, or that ends, would be the fairest; the first one under the hand is nearly that.
    fn vacant(&mut self, now: Time) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() < self.limit {
            self.slots.push(None);
            return Some((self.slots.len() - 1) as u32);
        }
        for _ in 0..EVICTION_TRIES.min(self.slots.len()) {
            let slot = self.advance_hand();
            let Some(conversation) = &self.slots[slot as usize] else {
                continue;
            };
            let end = match conversation.expired(now) {
                true => conversation.end(),
                false if conversation.may_go() => conversation.end_before_its_time(),
                false => continue,
            };
            self.remove(slot, end);
            return self.free.pop();
        }
        None
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
    use policy::Identity;
    use proptest::prelude::*;

    fn conversation(client: u8, now: Time, replied: bool) -> Conversation {
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

    proptest! {
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
