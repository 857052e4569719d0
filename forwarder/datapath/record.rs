//! What is told of flows: that one began, was denied, or ended. A record is made when that happens
//! and never for a packet of a known flow; there is room for a fixed number of them between two
//! breaths, and what finds none is counted.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use packet::{Address, Flow, Kind, Time};
use policy::{Identity, RuleId};

use crate::conversation::{Conversation, Stage};
use crate::{Key, Reason, Side};

/// How many records may wait to be taken: a sweep of a large table can end so many flows at once.
const ROOM: usize = 4_096;
/// Once half of the room is taken, one address has an eighth of it at most: who makes flows without
/// end does not keep others' records from being told. Addresses share so many accounts.
const SHARE: u32 = ROOM as u32 / 8;
const ACCOUNTS: usize = 256;
/// Denied flows that are remembered, so that each is told once in [`QUIET`] and not with every
/// packet.
const DENIALS: usize = 1_024;
/// How long nothing more is told of a denied flow.
const QUIET: Duration = Duration::from_secs(10);

/// Something that happened to a flow, at one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// At which end: leaving its source, or reaching its destination.
    pub side: Side,
    /// The flow as its packets arrive there, before any translation.
    pub flow: Flow,
    /// What the packet was that began it; of an end what its flow was by.
    pub kind: Kind,
    /// Where its packets really go: a service's backend, or the destination as it stands.
    pub destination: (Address, u16),
    /// Whose the judged end is, where anybody has it.
    pub subject: Option<Identity>,
    /// Whose the other end is.
    pub peer: Option<Identity>,
    /// The rule of the policies that decided, in the table of the snapshot of `epoch`.
    pub rule: Option<RuleId>,
    /// The snapshot that judged it.
    pub epoch: u64,
}

/// What can happen to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It began, and passes.
    Began,
    /// It began and passes, for the policies that would deny it for this reason are in audit mode.
    Audited(Reason),
    /// It may not be. From one address to one port that is told once in 10 s.
    Denied(Reason),
    /// It passed, and is over.
    Ended {
        /// Why.
        why: End,
        /// From its first packet to its last.
        lasted: Duration,
        /// What went the way of its first packet.
        forward: Traffic,
        /// What was answered.
        reply: Traffic,
    },
}

/// Why a flow is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// TCP has ended it.
    Closed,
    /// Nothing was heard of it for its time.
    Silent,
    /// Another packet, or another flow, needed its place in the table.
    Evicted,
    /// What begins as the same flow goes to another backend since, or another has its address.
    Moved,
    /// A change has cut it, for this reason.
    Cut(Reason),
}

/// What has passed one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets, as they are on the wire: the segments of a super-packet.
    pub packets: u64,
    /// Their bytes with IP headers; of a super-packet's headers only the first.
    pub bytes: u64,
}

impl Traffic {
    /// Adds a packet, or a super-packet of so many segments.
    #[inline]
    pub(crate) fn add(&mut self, segments: usize, bytes: usize) {
        self.packets += segments as u64;
        self.bytes += bytes as u64;
    }
}

/// Records that wait to be taken.
#[derive(Debug)]
pub(crate) struct Records {
    waiting: VecDeque<Record>,
    limit: usize,
    /// How many of those that wait are of the addresses that share an account.
    accounts: Vec<u32>,
    denials: Vec<(u64, Time)>,
    secret: (u64, u64),
    lost: u64,
}

impl Records {
    /// Room for what a table of flows can tell; none where there is no table.
    pub(crate) fn new(flows: usize, secret: (u64, u64)) -> Records {
        let or_none = |count| if flows == 0 { 0 } else { count };
        Records {
            waiting: VecDeque::with_capacity(or_none(ROOM)),
            limit: or_none(ROOM),
            accounts: alloc::vec![0; or_none(ACCOUNTS)],
            denials: alloc::vec![(0, Time::ZERO); or_none(DENIALS)],
            secret,
            lost: 0,
        }
    }

    /// Tells something.
    #[cold]
    pub(crate) fn push(&mut self, record: Record) {
        let waiting = self.waiting.len();
        let place = self.account(&record);
        let Some(account) = self.accounts.get_mut(place) else {
            return;
        };
        if waiting == self.limit || (waiting >= self.limit / 2 && *account >= SHARE) {
            self.lost += 1;
            return;
        }
        *account += 1;
        self.waiting.push_back(record);
    }

    /// Where it is counted what the source of a flow takes.
    fn account(&self, record: &Record) -> usize {
        let of_source = Key {
            flow: Flow {
                source: record.flow.source,
                destination: record.flow.source,
                source_port: 0,
                destination_port: 0,
                protocol: 0,
            },
            side: Side::Out,
        };
        of_source.hash(self.secret) as usize % ACCOUNTS
    }

    /// Tells that a flow is over, unless that was told already.
    #[cold]
    pub(crate) fn end(&mut self, conversation: &Conversation, why: End) {
        self.tell_end(conversation, why, None, conversation.epoch);
    }

    /// Tells that a change has cut a flow, by a rule of the snapshot of `epoch`.
    #[cold]
    pub(crate) fn cut(
        &mut self,
        conversation: &Conversation,
        reason: Reason,
        rule: Option<RuleId>,
        epoch: u64,
    ) {
        self.tell_end(conversation, End::Cut(reason), rule, epoch);
    }

    fn tell_end(
        &mut self,
        conversation: &Conversation,
        why: End,
        rule: Option<RuleId>,
        epoch: u64,
    ) {
        if conversation.told_end || conversation.stage == Stage::Replaced {
            return;
        }
        let [forward, reply] = conversation.traffic;
        self.push(Record {
            event: Event::Ended {
                why,
                lasted: conversation.last_seen.since(conversation.began),
                forward,
                reply,
            },
            side: conversation.forward.side,
            flow: conversation.forward.flow,
            kind: conversation.kind,
            destination: conversation.destination,
            subject: Some(conversation.subject),
            peer: Some(conversation.peer),
            rule,
            epoch,
        });
    }

    /// Whether a denial of this flow is to be told now, whichever port it comes from. Two may share a
    /// place: then each is told more often.
    pub(crate) fn is_news(&mut self, mut key: Key, now: Time) -> bool {
        key.flow.source_port = 0;
        let hash = key.hash(self.secret);
        let Some(place) = hash.checked_rem(self.denials.len() as u64) else {
            return false;
        };
        let (known, until) = &mut self.denials[place as usize];
        if *known == hash && now < *until {
            return false;
        }
        (*known, *until) = (hash, now + QUIET);
        true
    }

    /// Gives what waits to `take`, oldest first, until that has no room for one.
    pub(crate) fn hand_over(&mut self, mut take: impl FnMut(Record) -> bool) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some(record) = self.waiting.front() {
            if !take(*record) {
                return;
            }
            self.waiting.pop_front();
        }
        self.accounts.fill(0);
    }

    /// How many found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use packet::protocol;

    use super::*;

    fn record(port: u16) -> Record {
        Record {
            event: Event::Began,
            side: Side::Out,
            flow: Flow {
                source: Address::from_v4([10, 0, 0, 1]),
                destination: Address::from_v4([10, 0, 0, 2]),
                source_port: port,
                destination_port: 80,
                protocol: protocol::TCP,
            },
            kind: Kind::Tcp,
            destination: (Address::from_v4([10, 0, 0, 2]), 80),
            subject: None,
            peer: None,
            rule: None,
            epoch: 1,
        }
    }

    /// What a ring with so much room takes.
    fn taken(records: &mut Records, room: usize) -> Vec<Record> {
        let mut taken = Vec::new();
        records.hand_over(|record| {
            let fits = taken.len() < room;
            if fits {
                taken.push(record);
            }
            fits
        });
        taken
    }

    #[test]
    fn records_are_given_in_order_and_those_without_room_are_counted() {
        let mut records = Records::new(1, (1, 2));
        let from = |source: u16| {
            let mut record = record(source);
            let [high, low] = source.to_be_bytes();
            record.flow.source = Address::from_v4([10, 9, high, low]);
            record
        };
        let all = ROOM as u16;
        for source in 0..all + 3 {
            records.push(from(source));
        }
        assert_eq!(records.lost(), 3);
        let first = taken(&mut records, 100)
            .into_iter()
            .map(|r| r.flow.source_port);
        assert!(first.eq(0..100));
        let rest = taken(&mut records, usize::MAX)
            .into_iter()
            .map(|r| r.flow.source_port);
        assert!(rest.eq(100..all));
        records.push(record(7));
        assert_eq!(taken(&mut records, 9).len(), 1, "there is room again");
        let mut none = Records::new(0, (1, 2));
        none.push(record(1));
        assert_eq!((taken(&mut none, 9).len(), none.lost()), (0, 0));
    }

    #[test]
    fn who_makes_records_without_end_leaves_room_for_others() {
        let mut records = Records::new(1, (1, 2));
        for port in 0..10_000 {
            records.push(record(port));
        }
        let mut other = record(1);
        other.flow.source = Address::from_v4([10, 9, 9, 9]);
        records.push(other);
        assert_eq!(records.lost(), 10_000 - ROOM as u64 / 2);
        let last = taken(&mut records, usize::MAX).pop().expect("records");
        assert_eq!(last.flow.source, other.flow.source);
    }

    #[test]
    fn a_denied_flow_is_news_once_in_a_while() {
        let mut records = Records::new(1, (1, 2));
        let key = |from, to| {
            let mut key = Key {
                flow: record(from).flow,
                side: Side::Out,
            };
            key.flow.destination_port = to;
            key
        };
        let (soon, late) = (Time::from_nanos(9), Time::ZERO + QUIET);
        assert!(records.is_news(key(1, 80), Time::ZERO));
        assert!(!records.is_news(key(1, 80), soon));
        assert!(!records.is_news(key(2, 80), soon), "from another port");
        assert!(records.is_news(key(1, 81), soon));
        assert!(records.is_news(key(1, 80), late));
    }
}
