//! The conversations of one worker. It never grows: full, it makes room or refuses.

use alloc::vec::Vec;

use hashbrown::HashTable;
use packet::Time;

use crate::Key;
use crate::conversation::{Conversation, Role};

/// How many slots a full table looks through for one that may go.
const EVICTION_TRIES: usize = 32;

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
}

/// Why a conversation was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No slot is free, and none may be freed.
    Full,
    /// Its answers could not be told from those of another living conversation.
    Clash,
}

impl FlowTable {
    /// A table of at most `limit` conversations; all of its memory is reserved here.
    pub(crate) fn new(limit: usize, secret: (u64, u64)) -> FlowTable {
        FlowTable {
            index: HashTable::with_capacity(limit * 2),
            slots: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            limit,
            hand: 0,
            secret,
        }
    }

    /// Finds a living conversation, and which of its directions `key` is.
    #[inline]
    pub(crate) fn find(&mut self, key: &Key, now: Time) -> Option<(u32, Role)> {
        let (slot, role) = self.find_any(key)?;
        if self.slots[slot as usize]
            .as_ref()
            .is_some_and(|c| c.expired(now))
        {
            self.remove(slot);
            return None;
        }
        Some((slot, role))
    }

    /// Enters a conversation.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then, but that expired conversations may be gone.
    pub(crate) fn insert(&mut self, conversation: Conversation, now: Time) -> Result<u32, Refused> {
        for key in [&conversation.forward, &conversation.reply] {
            if let Some((other, _)) = self.find(key, now) {
                let other_is_idle = self.slots[other as usize]
                    .as_ref()
                    .is_some_and(|c| !c.replied);
                if !other_is_idle {
                    return Err(Refused::Clash);
                }
                self.remove(other);
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

    /// Forgets a conversation.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(conversation) = self.slots[slot as usize].take() else {
            return;
        };
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

    /// Forgets what has expired among the next `most` slots.
    pub(crate) fn sweep(&mut self, now: Time, most: usize) {
        for _ in 0..most.min(self.slots.len()) {
            let slot = self.advance_hand();
            if self.slots[slot as usize]
                .as_ref()
                .is_some_and(|c| c.expired(now))
            {
                self.remove(slot);
            }
        }
    }

    /// How many conversations it holds.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn find_any(&self, key: &Key) -> Option<(u32, Role)> {
        let slots = &self.slots;
        let value = *self.index.find(key.hash(self.secret), |value| {
            slots[(value >> 1) as usize].as_ref().is_some_and(|c| {
                let own = if value & 1 == 0 { &c.forward } else { &c.reply };
                own == key
            })
        })?;
        Some((
            value >> 1,
            if value & 1 == 0 {
                Role::Forward
            } else {
                Role::Reply
            },
        ))
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
    /// never answered would be the fairest; the first one under the hand is nearly that.
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
            if self.slots[slot as usize]
                .as_ref()
                .is_some_and(|c| c.expired(now) || !c.replied)
            {
                self.remove(slot);
                return self.free.pop();
            }
        }
        None
    }

    fn advance_hand(&mut self) -> u32 {
        let slot = self.hand;
        self.hand = (self.hand + 1) % self.slots.len();
        slot as u32
    }
}
