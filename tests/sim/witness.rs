//! Watches every packet that a pod sends or gets, and knows of each whether it may be there.
//!
//! A node's view is known to the packet, so nothing here is "about now": what leaves a pod is
//! judged by what its node has read at that moment, what reaches one by what that pod's node has.
//! Answers pass as long as what they answer was once let through. A node that has forgotten a flow,
//! or never knew it because it was started since, takes the next segment of either end for the first
//! of one: then that end must be allowed to begin it, and the other one's segments are its answers.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use packet::Time;

use crate::inspect::{Kind, Seen, Stretch, Tuple};
use crate::model::{Protocol, View, cluster_of};
use crate::reference::{
    Direction, Question, allows, backends, identity, is_dead, service_at, service_of,
};

/// What a node knows when a packet meets it.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge<'v> {
    /// Which node.
    pub node: usize,
    /// Which of its workers.
    pub worker: u16,
    /// What it has read.
    pub view: &'v View,
    /// Which nodes it holds to be silent.
    pub silent: &'v BTreeSet<usize>,
    /// What time it is.
    pub now: Time,
    /// When the worker was started: it knows no flow from before.
    pub born: Time,
}

impl Knowledge<'_> {
    /// A flow at this worker.
    fn place(&self, tuple: Tuple) -> (usize, u16, Tuple) {
        (self.node, self.worker, lesser(tuple))
    }
}

/// A flow that was silent for so long may be forgotten: the time of one that has ended.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// As what a packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sent {
    /// As one that its sender may send of its own.
    Own,
    /// As an answer to what has reached its sender.
    Answer,
}

/// All that was sent and may still arrive.
#[derive(Debug, Default)]
pub struct Witness {
    /// How often each packet may still arrive, by its ends behind the translation and its print.
    due: HashMap<(Sent, Tuple, u64), VecDeque<u64>>,
    /// Of those with a payload what they carry, and how many bytes of it may still come in pieces.
    whole: HashMap<(Sent, Tuple), Vec<(Stretch, usize)>>,
    /// Flows as their clients have sent them, before any translation.
    sent: HashSet<Tuple>,
    /// The backends that a client's flow to a service may have got, by the flow as it was sent.
    served: HashMap<Tuple, BTreeSet<(IpAddr, u16)>>,
    /// Whose the ends of a flow to a service have been: where it may have a backend, more than one for
    /// each, if labels have changed.
    whose: HashMap<Tuple, BTreeSet<(IpAddr, u16, String, String)>>,
    /// Flows to services that may have been ended: their backend had died, an end had become somebody
    /// else, or their node had forgotten them, and would have let them begin.
    ended: HashSet<Tuple>,
    /// Flows that have reached a pod as new ones.
    reached: HashSet<Tuple>,
    /// When a flow was last seen to pass at a worker, by its lesser direction.
    passed: HashMap<(usize, u16, Tuple), Time>,
    /// Packets so far that may still arrive somewhere.
    expected: u64,
    /// The latest of each flow that has arrived.
    latest: HashMap<Tuple, u64>,
    /// Whether packets of one flow must arrive in the order in which they were sent: nothing
    /// disturbs it.
    pub ordered: bool,
    /// Packets that arrived so.
    pub in_order: u64,
    /// Pieces of packets that were cut on their way.
    pub in_pieces: u64,
    /// Packets that reached pods, for the report.
    pub arrived: u64,
    /// Packets that were sent and that nobody may get.
    pub denied: u64,
    /// Resets that nodes have made.
    pub resets: u64,
    /// Packets of services' flows that reached pods.
    pub balanced: BTreeMap<bool, u64>,
    /// Flows of pods to themselves through a service, as they reach them: from the service's address.
    own: HashSet<Tuple>,
    /// Packets of theirs that arrived.
    pub came_back: u64,
}

impl Witness {
    /// One that has seen nothing; `ordered` is what [`Witness::ordered`] begins with.
    pub fn new(ordered: bool) -> Witness {
        Witness {
            ordered,
            ..Witness::default()
        }
    }

    /// A packet leaves a pod or the world host (`at` is nobody's then, and nothing judges it).
    pub fn sends(&mut self, at: Option<Knowledge<'_>>, seen: &Seen) {
        let tuple = seen.tuple;
        if let Kind::Error(_) = seen.kind {
            return;
        }
        let Some(at) = at else {
            self.sent.insert(tuple);
            return self.expect(Sent::Own, tuple, seen);
        };
        if self.reached.contains(&tuple.reverse()) {
            // What a node takes for an answer since it has forgotten who began may be none.
            let sent = match self.sent.contains(&tuple) {
                true => Sent::Own,
                false => Sent::Answer,
            };
            self.expect(sent, tuple, seen);
            if self.is_forgotten(&at, tuple)
                && allows(at.view, at.node, &question(Direction::Egress, tuple))
            {
                self.sent.insert(tuple);
            }
            return;
        }
        if seen.kind == Kind::EchoReply {
            return;
        }
        let (address, port) = tuple.destination;
        let cluster = cluster_of(at.node);
        let may_leave = |destination| {
            let translated = Tuple {
                destination,
                ..tuple
            };
            allows(at.view, at.node, &question(Direction::Egress, translated))
        };
        let mut is_lost = false;
        let candidates: Vec<(IpAddr, u16)> = match service_of(at.view, cluster, address) {
            None => vec![(address, port)],
            Some(_) => {
                let found = service_at(at.view, cluster, address, port, tuple.protocol);
                let new = found.map_or(Vec::new(), |(service, port)| {
                    backends(
                        at.view,
                        at.node,
                        at.silent,
                        service,
                        port,
                        address.is_ipv4(),
                    )
                });
                is_lost =
                    tuple.protocol == Protocol::Tcp && !seen.opens && self.is_forgotten(&at, tuple);
                let might_begin = new.is_empty() || new.iter().any(|new| may_leave(*new));
                if is_lost && found.is_some() && might_begin {
                    self.ended.insert(tuple);
                }
                // A flow keeps the backend that it has.
                let known = self.served.entry(tuple).or_default();
                known.extend(new);
                let known = known.iter().copied().collect();
                self.note_whose(&at, tuple);
                known
            }
        };
        self.sent.insert(tuple);
        let mut allowed = false;
        for destination in candidates {
            if may_leave(destination) {
                allowed = true;
                let translated = Tuple {
                    destination,
                    ..tuple
                };
                let arriving = mirrored(translated, address);
                if arriving != translated {
                    self.own.insert(arriving);
                }
                self.expect(Sent::Own, arriving, seen);
            }
        }
        if allowed && !is_lost {
            self.passed.insert(at.place(tuple), at.now);
        }
        self.denied += u64::from(!allowed);
    }

    fn expect(&mut self, sent: Sent, tuple: Tuple, seen: &Seen) {
        self.expected += 1;
        let due = self.due.entry((sent, tuple, seen.print)).or_default();
        due.push_back(self.expected);
        if let Some(stretch) = &seen.stretch {
            let whole = self.whole.entry((sent, tuple)).or_default();
            whole.push((stretch.clone(), stretch.payload.len()));
        }
    }

    /// A packet reaches a pod, or the world host.
    ///
    /// # Errors
    /// Why it may not.
    pub fn arrives(&mut self, at: Option<Knowledge<'_>>, seen: &Seen) -> Result<(), String> {
        let tuple = seen.tuple;
        self.arrived += 1;
        if let Kind::Error(quoted) = seen.kind {
            let is_own = quoted.source.0 == tuple.destination.0
                && (self.sent.contains(&quoted) || self.reached.contains(&quoted.reverse()));
            return match is_own {
                true => Ok(()),
                false => Err(format!("{tuple:?} quotes what was never sent: {quoted:?}")),
            };
        }
        let allowed =
            at.is_none_or(|at| allows(at.view, at.node, &question(Direction::Ingress, tuple)));
        let forgotten = at.is_some_and(|at| self.is_forgotten(&at, tuple));
        if let Some(at) = at {
            self.passed.insert(at.place(tuple), at.now);
        }
        if self.answers(seen) {
            // From a service's address nothing but an answer ever comes.
            if forgotten && allowed && !self.served.contains_key(&tuple.reverse()) {
                self.reached.insert(tuple);
            }
            return Ok(());
        }
        if seen.is_reset && at.is_some_and(|at| self.may_end(&at, tuple.reverse())) {
            self.resets += 1;
            return Ok(());
        }
        let is_own = self.own.contains(&tuple);
        if !(allowed || is_own) {
            return Err(format!("{tuple:?} is not allowed in"));
        }
        self.came_back += u64::from(is_own);
        if seen.kind == Kind::EchoReply {
            return Err(format!("{tuple:?} answers nothing"));
        }
        // A node that still knows the flow gives an answer the address that was asked; only one
        // that has forgotten it, or knows it as begun by the other end, takes it as it is.
        let known = forgotten || self.reached.contains(&tuple);
        let taken =
            self.take(Sent::Own, tuple, seen) || known && self.take(Sent::Answer, tuple, seen);
        if !taken {
            return Err(format!(
                "{tuple:?} was never sent so, not allowed out, or arrives twice"
            ));
        }
        self.reached.insert(tuple);
        Ok(())
    }

    /// Whether a packet answers what its receiver has sent, from where that was sent to.
    fn answers(&mut self, seen: &Seen) -> bool {
        let forward = seen.tuple.reverse();
        if let Some(served) = self.served.get(&forward) {
            let from: Vec<(IpAddr, u16)> = served.iter().copied().collect();
            return from.into_iter().any(|source| {
                let asked = Tuple {
                    destination: source,
                    ..forward
                };
                let sent = mirrored(asked, forward.destination.0).reverse();
                let taken = self.take_any(sent, seen);
                if taken {
                    *self.balanced.entry(source.0.is_ipv4()).or_default() += 1;
                }
                taken
            });
        }
        self.sent.contains(&forward) && self.take_any(seen.tuple, seen)
    }

    /// Notes whose the ends of a flow to a service are.
    fn note_whose(&mut self, at: &Knowledge<'_>, flow: Tuple) {
        if flow.protocol != Protocol::Tcp {
            return;
        }
        let whose = self.whose.entry(flow).or_default();
        for &(address, port) in self.served.get(&flow).into_iter().flatten() {
            let of = |address| identity(at.view, address);
            whose.insert((address, port, of(flow.source.0), of(address)));
        }
    }

    /// Whether a node may reset a flow towards its client: it has forgotten it, a backend that it may
    /// have is dead, an end is somebody else than before, or any of this was so once; what has ended so
    /// does not come back.
    fn may_end(&mut self, at: &Knowledge<'_>, flow: Tuple) -> bool {
        let dead = |backend: &(IpAddr, u16)| is_dead(at.view, at.node, at.silent, &flow, *backend);
        self.note_whose(at, flow);
        let (served, whose) = (self.served.get(&flow), self.whose.get(&flow));
        let is_over = |backends: &BTreeSet<_>| {
            let changed = whose.is_some_and(|whose| whose.len() > backends.len());
            changed || backends.iter().any(dead)
        };
        if served.is_some_and(is_over) {
            self.ended.insert(flow);
        }
        self.ended.contains(&flow)
    }

    /// Whether a flow to a service has certainly a dead backend.
    pub fn is_bereft(&self, at: &Knowledge<'_>, flow: Tuple) -> bool {
        let dead = |backend: &(IpAddr, u16)| is_dead(at.view, at.node, at.silent, &flow, *backend);
        let served = self.served.get(&flow);
        served.is_some_and(|backends| !backends.is_empty() && backends.iter().all(dead))
    }

    fn is_forgotten(&self, at: &Knowledge<'_>, tuple: Tuple) -> bool {
        let passed = self.passed.get(&at.place(tuple));
        passed.is_none_or(|passed| *passed < at.born || at.now.since(*passed) >= FORGOTTEN)
    }

    fn take_any(&mut self, tuple: Tuple, seen: &Seen) -> bool {
        self.take(Sent::Answer, tuple, seen) || self.take(Sent::Own, tuple, seen)
    }

    fn take(&mut self, sent: Sent, tuple: Tuple, seen: &Seen) -> bool {
        if !self.take_whole(sent, tuple, seen.print) {
            return self.take_piece(sent, tuple, seen);
        }
        // Its bytes have come: no piece of it may.
        if let (Some(came), Some(whole)) = (&seen.stretch, self.whole.get_mut(&(sent, tuple))) {
            let place = whole
                .iter()
                .position(|(sent, left)| sent == came && *left == sent.payload.len());
            place.map(|place| whole.swap_remove(place));
        }
        true
    }

    /// A piece of some that were cut, perhaps the end of one and the begin of the next: of their bytes
    /// each may arrive once.
    fn take_piece(&mut self, sent: Sent, tuple: Tuple, seen: &Seen) -> bool {
        let (Some(piece), Some(whole)) = (&seen.stretch, self.whole.get_mut(&(sent, tuple))) else {
            return false;
        };
        let (mut at, mut parts) = (0, Vec::new());
        while at < piece.payload.len() {
            let part = |(place, (sent, left)): (usize, &(Stretch, usize))| {
                let length = sent.shares(piece, at);
                (length > 0 && length <= *left).then_some((place, length))
            };
            let Some((place, length)) = whole.iter().enumerate().find_map(part) else {
                return false;
            };
            parts.push((place, length));
            at += length;
        }
        for (place, length) in parts {
            whole[place].1 -= length;
        }
        self.in_pieces += 1;
        true
    }

    fn take_whole(&mut self, sent: Sent, tuple: Tuple, print: u64) -> bool {
        let Some(due) = self.due.get_mut(&(sent, tuple, print)) else {
            return false;
        };
        // Of several that are equal, one that was lost must not be taken for one that is late.
        let latest = self.latest.entry(tuple).or_default();
        let next = due.iter().position(|number| *number > *latest);
        let Some(number) = due.remove(next.unwrap_or(0)) else {
            return false;
        };
        if self.ordered {
            assert!(
                next.is_some(),
                "{tuple:?} is overtaken by what was sent later"
            );
            self.in_order += 1;
        }
        *latest = number.max(*latest);
        true
    }
}

/// What reaches the backend of a service at `address`: one that is the client itself is asked by the
/// service.
fn mirrored(mut tuple: Tuple, address: IpAddr) -> Tuple {
    if tuple.source.0 == tuple.destination.0 {
        tuple.source.0 = address;
    }
    tuple
}

fn lesser(tuple: Tuple) -> Tuple {
    tuple.min(tuple.reverse())
}

fn question(direction: Direction, tuple: Tuple) -> Question {
    Question {
        direction,
        source: tuple.source.0,
        destination: tuple.destination.0,
        protocol: tuple.protocol,
        port: tuple.destination.1,
    }
}
