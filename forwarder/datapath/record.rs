//! What is told of flows: that one began, was denied, or ended. A record is made when that happens
//! and never for a packet of a known flow; there is room for a fixed number of them between two
//! breaths, and what finds none is counted.

use alloc::vec::Vec;
use core::time::Duration;

use packet::{Address, Flow, Kind, Time};
use policy::{Identity, RuleId};

use crate::conversation::{Conversation, Stage};
use crate::{Key, Reason, Side};

/// How many records may wait to be taken: a sweep of a large table can end so many flows at once.
const ROOM: usize = 4_096;
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
    /// It may not be. Told once in 10 s while it goes on.
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
    /// What began as the same flow has another backend since.
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
    waiting: Vec<Record>,
    denials: Vec<(u64, Time)>,
    lost: u64,
}

impl Records {
    /// Room for what a table of flows can tell; none where there is no table.
    pub(crate) fn new(flows: usize) -> Records {
        let (room, denials) = if flows == 0 { (0, 0) } else { (ROOM, DENIALS) };
        Records {
            waiting: Vec::with_capacity(room),
            denials: alloc::vec![(0, Time::ZERO); denials],
            lost: 0,
        }
    }

    /// Tells something.
    #[cold]
    pub(crate) fn push(&mut self, record: Record) {
        if self.waiting.len() < self.waiting.capacity() {
            self.waiting.push(record);
        } else {
            self.lost += 1;
        }
    }

    /// Tells that a flow is over, unless that was told already.
    #[cold]
    pub(crate) fn end(&mut self, conversation: &Conversation, why: End) {
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
            rule: None,
            epoch: conversation.epoch,
        });
    }

    /// Whether a denial of this flow is to be told now. Two flows may share a place: then each is
    /// told more often.
    pub(crate) fn is_news(&mut self, key: &Key, secret: (u64, u64), now: Time) -> bool {
        let hash = key.hash(secret);
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

    /// Gives away what waits, oldest first.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Record> + '_ {
        self.waiting.drain(..)
    }

    /// Counts such as nobody took.
    pub(crate) fn lose(&mut self, records: u64) {
        self.lost += records;
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

    #[test]
    fn records_are_given_in_order_and_those_without_room_are_counted() {
        let mut records = Records::new(1);
        for port in 0..ROOM as u16 + 3 {
            records.push(record(port));
        }
        assert_eq!(records.lost(), 3);
        let ports: Vec<u16> = records.take().map(|r| r.flow.source_port).collect();
        assert!(ports.into_iter().eq(0..ROOM as u16));
        records.push(record(7));
        assert_eq!(records.take().count(), 1, "there is room again");
        let mut none = Records::new(0);
        none.push(record(1));
        assert_eq!((none.take().count(), none.lost()), (0, 1));
    }

    #[test]
    fn a_denied_flow_is_news_once_in_a_while() {
        let mut records = Records::new(1);
        let key = |port| Key {
            flow: record(port).flow,
            side: Side::Out,
        };
        let late = Time::ZERO + QUIET;
        assert!(records.is_news(&key(1), (1, 2), Time::ZERO));
        assert!(!records.is_news(&key(1), (1, 2), Time::from_nanos(9)));
        assert!(records.is_news(&key(2), (1, 2), Time::from_nanos(9)));
        assert!(records.is_news(&key(1), (1, 2), late));
    }
}
