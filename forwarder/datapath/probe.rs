//! Whether the other nodes answer: an ICMP echo through the tunnel, between InternalIPs, answered
//! by the node itself before any policy.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use packet::{Address, Kind, Now, Packet, Time, echo_reply, echo_request};

use crate::answers::originate;
use crate::lanes::{Lanes, Via};
use crate::paths::{PathStatus, Paths};
use crate::{Outbox, Snapshot};

/// A node that has never answered a probe, a foreign WireGuard, is silent when nothing at all was
/// heard from it for so long: its keep-alives come 10 s after our probes, handshakes 5 s later.
const FOREIGN_SILENCE: Duration = Duration::from_secs(30);
/// How long a node may take to be heard for the first time before it counts as silent.
const FIRST_SILENCE: Duration = Duration::from_secs(3);
/// How many probes are remembered: to measure round trips, and to tell those that are missing from
/// those under way. At 200 ms that is a round trip of 12.8 s.
const REMEMBERED: u16 = 64;
/// A round that found no room for all goes on so much later, whether or not what filled it can
/// leave.
const GRAIN: Duration = Duration::from_millis(1);
const PAYLOAD: &[u8] = b"farlane probe";

/// What is known of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet; it is taken to answer.
    Unknown,
    /// It answers our probes.
    Answering,
    /// It never answered a probe, but its tunnel lives: a foreign WireGuard.
    Foreign,
    /// It does not answer.
    Silent,
}

/// A node began to answer, or ceased to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Id of its cluster.
    pub cluster: u8,
    /// Name of its Node object.
    pub node: String,
    /// What it does now.
    pub answering: bool,
}

/// What `status` shows of a node's probes.
#[derive(Clone, Debug)]
pub struct ProbeStatus {
    /// Id of its cluster.
    pub cluster: u8,
    /// Name of its Node object.
    pub node: String,
    /// What is known of it.
    pub health: Health,
    /// The last round trip.
    pub round_trip: Option<Duration>,
    /// What the path to it carries.
    pub path: Option<PathStatus>,
}

/// The probes of all nodes.
#[derive(Debug)]
pub(crate) struct Probes {
    nodes: Vec<Probe>,
    changes: Vec<HealthChange>,
    interval: Duration,
    count: u32,
    identifier: u16,
    next: Option<Time>,
    /// The node that the round goes on with; 0 where none is under way.
    hand: usize,
    /// When the round after this one begins.
    again: Time,
}

#[derive(Debug)]
struct Probe {
    cluster: u8,
    node: String,
    from: Address,
    to: Address,
    health: Health,
    ever_answered: bool,
    /// Answers in a row, none missing between them.
    answered: u32,
    /// The probe sent last, and the latest one that was answered.
    sequence: u16,
    answered_sequence: u16,
    sent: [Time; REMEMBERED as usize],
    round_trip: Option<Duration>,
    since: Time,
}

impl Probes {
    /// Probes every `interval`; `count` missing answers make a node silent, as many in a row bring
    /// it back. Answers are ours if they carry `identifier`.
    pub(crate) fn new(interval: Duration, count: u32, identifier: u16) -> Probes {
        Probes {
            nodes: Vec::new(),
            changes: Vec::new(),
            interval,
            count: count.max(1),
            identifier,
            next: None,
            hand: 0,
            again: Time::ZERO,
        }
    }

    /// Probes the nodes of `snapshot`; what is known of those that stay is kept.
    pub(crate) fn adopt(&mut self, now: Now, snapshot: &Snapshot) {
        let mut before = core::mem::take(&mut self.nodes);
        for node in &snapshot.nodes {
            let (from, to) = snapshot.echo_pair(node);
            let same = before.iter().position(|probe| {
                (probe.cluster, &probe.node, probe.from, probe.to)
                    == (node.cluster, &node.name, from, to)
            });
            self.nodes.push(match same {
                Some(place) => before.swap_remove(place),
                None => Probe::new(node.cluster, node.name.clone(), from, to, now.time),
            });
        }
        // The world goes by what it was told last: one that is gone, or is begun with anew at
        // another address, is taken to answer again, as any new node is.
        let gone = before.iter().filter(|probe| probe.health == Health::Silent);
        self.changes.extend(gone.map(|probe| probe.change(true)));
        self.next = (!self.nodes.is_empty()).then(|| self.next.unwrap_or(now.time));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// Judges every node and sends the next probes, if it is time. Each goes to somewhere else, so
    /// each is a train of its own: when there is no room for more, the round goes on at the next
    /// call, behind what was sent last.
    pub(crate) fn handle_timeout(&mut self, now: Now, lanes: &mut Lanes, out: &mut Outbox) {
        let Some(next) = self.next.filter(|next| *next <= now.time) else {
            return;
        };
        if self.hand == 0 {
            // After a pause (a stopped process) one probe is due, not all that were missed.
            self.again = (next + self.interval).max(now.time + self.interval / 2);
        }
        while let Some(probe) = self.nodes.get_mut(self.hand) {
            if out.takes() == 0 {
                self.next = Some(now.time + GRAIN);
                return;
            }
            let number = self.hand as u32;
            let heard = lanes.last_heard(number);
            let missing = probe.missing(now.time, self.interval, self.count);
            if let Some(answering) = probe.judge(now.time, heard, missing, self.count) {
                self.changes.push(probe.change(answering));
            }
            probe.send(now, number, self.identifier, lanes, out);
            self.hand += 1;
        }
        self.hand = 0;
        self.next = Some(self.again);
    }

    /// Takes an echo for an address of this node: a request is answered, an answer to a probe is
    /// noted; anything else is given back.
    pub(crate) fn handle_echo(
        &mut self,
        now: Now,
        packet: Packet,
        via: Via,
        lanes: &mut Lanes,
        out: &mut Outbox,
    ) -> Option<Packet> {
        let flow = packet.header().flow;
        match packet.header().kind {
            Kind::EchoRequest => {
                let answer = out.tunnel.arena.take();
                let answer = answer.and_then(|mut buf| {
                    if echo_reply(&packet, &mut buf) {
                        return originate(buf, out);
                    }
                    out.tunnel.arena.put(buf);
                    None
                });
                if let Some(answer) = answer {
                    lanes.seal_by(now, via, answer, out);
                }
                consume(packet, out);
                None
            }
            Kind::EchoReply if flow.source_port == self.identifier => {
                let sequence = echo_sequence(&packet);
                let from = lanes.node(via).map(|node| node as usize);
                let probe = from.and_then(|node| self.nodes.get_mut(node));
                // Any address of the node may have sent it, but only one was asked.
                if let Some(probe) = probe.filter(|probe| probe.to == flow.source) {
                    probe.answer(now.time, sequence);
                }
                consume(packet, out);
                None
            }
            _ => Some(packet),
        }
    }

    /// The changes since the last call.
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = HealthChange> + '_ {
        self.changes.drain(..)
    }

    pub(crate) fn status<'a>(&'a self, paths: &'a Paths) -> impl Iterator<Item = ProbeStatus> + 'a {
        self.nodes
            .iter()
            .enumerate()
            .map(|(number, probe)| ProbeStatus {
                cluster: probe.cluster,
                node: probe.node.clone(),
                health: probe.health,
                round_trip: probe.round_trip,
                path: paths.status(number),
            })
    }
}

impl Probe {
    fn new(cluster: u8, node: String, from: Address, to: Address, now: Time) -> Probe {
        Probe {
            cluster,
            node,
            from,
            to,
            health: Health::Unknown,
            ever_answered: false,
            answered: 0,
            sequence: 0,
            answered_sequence: 0,
            sent: [Time::ZERO; REMEMBERED as usize],
            round_trip: None,
            since: now,
        }
    }

    fn change(&self, answering: bool) -> HealthChange {
        HealthChange {
            cluster: self.cluster,
            node: self.node.clone(),
            answering,
        }
    }

    /// How many of the latest probes are missing their answer. One is under way, not missing, for
    /// an interval or two round trips, whichever is longer: a far node is not a silent one. But
    /// never for so long that `count` of them would be forgotten before they are missing.
    fn missing(&self, now: Time, interval: Duration, count: u32) -> u32 {
        let longest = interval * u32::from(REMEMBERED).saturating_sub(count).max(1);
        let round_trips = self.round_trip.unwrap_or_default() * 2;
        let patience = interval.max(round_trips.min(longest));
        let open = self
            .sequence
            .wrapping_sub(self.answered_sequence)
            .min(REMEMBERED);
        let late = |back: &u16| {
            let sequence = self.sequence.wrapping_sub(*back);
            now.since(self.sent[usize::from(sequence % REMEMBERED)]) >= patience
        };
        (0..open).filter(late).count() as u32
    }

    /// Decides what the node is now; whether it answers is told when it is first known, and when it
    /// changes.
    fn judge(&mut self, now: Time, heard: Option<Time>, missing: u32, count: u32) -> Option<bool> {
        if missing > 0 {
            self.answered = 0;
        }
        let health = if self.ever_answered {
            match self.health {
                Health::Silent if self.answered >= count => Health::Answering,
                Health::Silent => Health::Silent,
                _ if missing >= count.min(u32::from(REMEMBERED)) => Health::Silent,
                _ => Health::Answering,
            }
        } else {
            match heard {
                Some(heard) if now.since(heard) < FOREIGN_SILENCE => Health::Foreign,
                None if now.since(self.since) < FIRST_SILENCE => Health::Unknown,
                _ => Health::Silent,
            }
        };
        // What becomes known first is told too: the world may go by what a worker said that has died.
        let before = match self.health {
            Health::Unknown => None,
            known => Some(known == Health::Silent),
        };
        let is_silent = health == Health::Silent;
        self.health = health;
        (health != Health::Unknown && before != Some(is_silent)).then_some(!is_silent)
    }

    fn send(&mut self, now: Now, node: u32, identifier: u16, lanes: &mut Lanes, out: &mut Outbox) {
        if self.to == Address::UNSPECIFIED {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.sent[usize::from(self.sequence % REMEMBERED)] = now.time;
        if lanes.has_waiting(node) {
            // One that waits for the handshake is enough: a queue full of old probes would take
            // the room of what pods send, to this node and to others.
            return;
        }
        let Some(mut buf) = out.tunnel.arena.take() else {
            return;
        };
        echo_request(
            self.from,
            self.to,
            identifier,
            self.sequence,
            PAYLOAD,
            &mut buf,
        );
        if let Some(packet) = originate(buf, out) {
            lanes.seal_first(now, node, packet, out);
        }
    }

    fn answer(&mut self, now: Time, sequence: u16) {
        let open = self.sequence.wrapping_sub(self.answered_sequence);
        let age = self.sequence.wrapping_sub(sequence);
        // Not one of ours, too old, or answered before.
        if age >= REMEMBERED || age >= open {
            return;
        }
        self.answered_sequence = sequence;
        self.round_trip = Some(now.since(self.sent[usize::from(sequence % REMEMBERED)]));
        self.ever_answered = true;
        self.answered = self.answered.saturating_add(1);
    }
}

/// The sequence number of an echo, RFC 792: bytes 6 and 7 of the ICMP header.
fn echo_sequence(packet: &Packet) -> u16 {
    let at = usize::from(packet.header().transport) + 6;
    packet
        .bytes()
        .get(at..at + 2)
        .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

pub(crate) fn consume(packet: Packet, out: &mut Outbox) {
    out.ledger().consumed += packet.segments() as u64;
    out.tunnel.arena.put(packet.into_buf());
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    #[test]
    fn however_far_a_node_was_it_is_silent_when_it_ceases_to_answer() {
        for round_trip in [0, 50, 700, 2_000, 12_000].map(Duration::from_millis) {
            let none = Address::UNSPECIFIED;
            let mut probe = Probe::new(2, "far".into(), none, none, Time::ZERO);
            (probe.ever_answered, probe.health) = (true, Health::Answering);
            probe.round_trip = Some(round_trip);
            let mut now = Time::ZERO;
            let mut silent_after = None;
            for number in 0..200 {
                let missing = probe.missing(now, INTERVAL, 3);
                if probe.judge(now, None, missing, 3) == Some(false) {
                    silent_after = Some(INTERVAL * number);
                    break;
                }
                probe.sequence += 1;
                probe.sent[usize::from(probe.sequence % REMEMBERED)] = now;
                now = now + INTERVAL;
            }
            let after = silent_after.expect("it does not answer");
            let patience = INTERVAL.max(round_trip * 2);
            assert!(
                after >= patience.min(INTERVAL * 61),
                "{round_trip:?} {after:?}"
            );
            assert!(after <= patience + INTERVAL * 3, "{round_trip:?} {after:?}");
        }
    }
}
