//! Which backend a client was given lately, for services where a client stays with its own
//! (`sessionAffinity: ClientIP`).
//!
//! The hash of a client alone gives the same backend on every node, but another one when backends
//! come. So it is remembered here, by the worker that owns the client and with it all of its flows;
//! looked at only where a flow begins. It never grows: full, the one that was silent for longest goes.

use alloc::vec::Vec;
use core::time::Duration;

use balance::Frontend;
use hashbrown::HashTable;
use packet::{Address, Flow, Time};

use crate::judge::{Inquiry, Judgement};
use crate::pass::Pass;
use crate::{Key, Side};

/// Among how many slots a full table looks for the one that was silent for longest.
const EVICTION_TRIES: usize = 32;

/// Backends by client and port of a service.
#[derive(Debug)]
pub(crate) struct Clients {
    index: HashTable<u32>,
    slots: Vec<Client>,
    limit: usize,
    hand: usize,
    secret: (u64, u64),
}

/// A client of one port of a service.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// From the client, at no port of its own, to the service.
    flow: Flow,
    backend: (Address, u16),
    /// When its last new flow was.
    last_new: Time,
}

impl Clients {
    /// A table of at most `limit` clients; all of its memory is reserved here.
    pub(crate) fn new(limit: usize, secret: (u64, u64)) -> Clients {
        Clients {
            // Twice what it holds, as the flow table's: so it never grows.
            index: HashTable::with_capacity(limit * 2),
            slots: Vec::with_capacity(limit),
            limit,
            hand: 0,
            secret,
        }
    }

    /// Whether it knows nobody: most nodes have no such service, and then nothing is looked for.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The backend that the client of a new flow was given, if its last one was less than `stays`
    /// ago.
    pub(crate) fn find(&self, flow: &Flow, stays: Duration, now: Time) -> Option<(Address, u16)> {
        let client = &self.slots[self.place(&of_client(flow))? as usize];
        (now.since(client.last_new) < stays).then_some(client.backend)
    }

    /// Notes which backend the client of a new flow was given.
    pub(crate) fn note(&mut self, flow: &Flow, backend: (Address, u16), now: Time) {
        let client = Client {
            flow: of_client(flow),
            backend,
            last_new: now,
        };
        if let Some(slot) = self.place(&client.flow) {
            self.slots[slot as usize] = client;
            return;
        }
        let slot = if self.slots.len() < self.limit {
            self.slots.push(client);
            self.slots.len() - 1
        } else if let Some(slot) = self.longest_silent() {
            self.forget(slot as u32);
            self.slots[slot] = client;
            slot
        } else {
            return;
        };
        let (slots, secret) = (&self.slots, self.secret);
        // The closure is called only if the table were to grow or to clear its tombstones.
        let rehash = |slot: &u32| hash(&slots[*slot as usize].flow, secret);
        self.index
            .insert_unique(hash(&client.flow, secret), slot as u32, rehash);
    }

    fn place(&self, flow: &Flow) -> Option<u32> {
        let is_it = |slot: &u32| self.slots[*slot as usize].flow == *flow;
        self.index.find(hash(flow, self.secret), is_it).copied()
    }

    /// The one that was silent for longest would be the fairest to go; that of some is nearly it.
    fn longest_silent(&mut self) -> Option<usize> {
        let (count, first) = (self.slots.len(), self.hand);
        let tries = EVICTION_TRIES.min(count);
        self.hand = (first + tries).checked_rem(count)?;
        let tried = (0..tries).map(|step| (first + step) % count);
        tried.min_by_key(|slot| self.slots[*slot].last_new)
    }

    fn forget(&mut self, slot: u32) {
        let hash = hash(&self.slots[slot as usize].flow, self.secret);
        if let Ok(entry) = self.index.find_entry(hash, |value| *value == slot) {
            entry.remove();
        }
    }
}

/// What all flows of a client to one port of a service have in common.
fn of_client(flow: &Flow) -> Flow {
    Flow {
        source_port: 0,
        ..*flow
    }
}

fn hash(flow: &Flow, secret: (u64, u64)) -> u64 {
    let (flow, side) = (*flow, Side::Out);
    Key { flow, side }.hash(secret)
}

impl Pass<'_> {
    /// The backend that the client of a new flow was given lately, if it is one that stays.
    pub(crate) fn given_lately(&self, side: Side, flow: &Flow) -> Option<(Address, u16)> {
        if self.clients.is_empty() || side == Side::In {
            return None;
        }
        let frontend = Frontend {
            address: flow.destination,
            port: flow.destination_port,
            protocol: flow.protocol,
        };
        let stays = self.snapshot.services.find(&frontend)?.client_stays?;
        self.clients.find(flow, stays, self.now.time)
    }

    /// Notes which backend a new flow has, if its client is one that stays. What only goes on says
    /// nothing: its backend may be one that takes no new flows any more.
    pub(crate) fn note_client(&mut self, inquiry: &Inquiry, judgement: &Judgement<'_>) {
        let stays = judgement.service.and_then(|service| service.client_stays);
        if stays.is_some() && inquiry.pinned.is_none() {
            let now = self.now.time;
            self.clients.note(&inquiry.flow, judgement.destination, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::protocol;
    use proptest::prelude::*;

    const STAYS: Duration = Duration::from_secs(60);

    fn flow(client: u8, source_port: u16) -> Flow {
        Flow {
            source: Address::from_v4([10, 0, 0, client]),
            destination: Address::from_v4([10, 96, 0, 1]),
            source_port,
            destination_port: 80,
            protocol: protocol::TCP,
        }
    }

    fn backend(last: u8) -> (Address, u16) {
        (Address::from_v4([10, 1, 0, last]), 8080)
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_is_known_by_any_of_its_flows_until_its_time_is_over() {
        let mut clients = Clients::new(4, (1, 2));
        assert!(clients.is_empty());
        clients.note(&flow(1, 1000), backend(1), at(0));
        assert_eq!(
            clients.find(&flow(1, 2000), STAYS, at(59)),
            Some(backend(1))
        );
        assert_eq!(clients.find(&flow(1, 2000), STAYS, at(60)), None);
        assert_eq!(clients.find(&flow(2, 1000), STAYS, at(0)), None);
        let other_port = Flow {
            destination_port: 81,
            ..flow(1, 1000)
        };
        assert_eq!(clients.find(&other_port, STAYS, at(0)), None);
        clients.note(&flow(1, 3000), backend(1), at(59));
        assert_eq!(clients.find(&flow(1, 1), STAYS, at(118)), Some(backend(1)));
    }

    #[test]
    fn a_table_without_room_knows_nobody() {
        let mut clients = Clients::new(0, (1, 2));
        clients.note(&flow(1, 1), backend(1), at(0));
        assert_eq!(clients.find(&flow(1, 1), STAYS, at(0)), None);
    }

    proptest! {
        #[test]
        fn the_table_knows_what_a_list_knows_and_gives_up_the_longest_silent(
            steps in prop::collection::vec((0..12_u8, 1..9_u8, 1..20_u64), 1..200),
        ) {
            // No more than it looks through: so the longest silent is surely found.
            const LIMIT: usize = 8;
            let mut clients = Clients::new(LIMIT, (3, 4));
            let capacity = clients.index.capacity();
            // The last new flow of each client, oldest first.
            let mut model: Vec<(u8, u8, Time)> = Vec::new();
            let mut now = Time::ZERO;
            for (client, last, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                let is_known = model.iter().any(|(known, ..)| *known == client);
                if !is_known && model.len() == LIMIT {
                    model.remove(0);
                }
                model.retain(|(known, ..)| *known != client);
                model.push((client, last, now));
                clients.note(&flow(client, u16::from(last)), backend(last), now);
                for client in 0..12 {
                    let known = model.iter().find(|(known, ..)| *known == client);
                    let known = known.filter(|(_, _, seen)| now.since(*seen) < STAYS);
                    let found = clients.find(&flow(client, 9), STAYS, now);
                    prop_assert_eq!(found, known.map(|(_, last, _)| backend(*last)));
                }
                prop_assert_eq!(clients.index.capacity(), capacity);
            }
        }
    }
}
