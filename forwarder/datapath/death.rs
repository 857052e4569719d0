//! When a backend dies, who talks with it through a service hears so at once, and connects anew instead
//! of waiting for what never comes.
//!
//! A snapshot in which services or endpoints are others begins a walk through the flow table, a share
//! of it a breath. An answered TCP connection is reset towards its client; it is never moved in
//! mid-stream, and what is still sent of it is answered by resets (`pass`). A client that may wait for
//! a datagram is told by ICMP; its next one goes to another backend. A flow whose backend is only not
//! chosen any more lives on, and so does one that goes to a pod directly: there nobody else could serve
//! it.

use core::time::Duration;

use packet::{Header, Kind, Now, Packet, Time, protocol};

use crate::answers::{Answers, end};
use crate::conversation::{Conversation, RST, Role, Stage};
use crate::flow_table::FlowTable;
use crate::pass::Pass;
use crate::{Outbox, Reason, Route, Side, Snapshot};

/// Slots that are looked at in one breath: some 0.2 ms, as much as a breath takes for packets.
const SHARE: usize = 1_024;
/// Clients that are told in one breath: each costs a write to the TUN.
const ANSWERS: usize = 64;
/// When it goes on if nothing finds room: what is in front has to be taken first.
const PAUSE: Duration = Duration::from_millis(1);
/// For so long after its last datagram a client may wait for an answer: resolvers ask again after 5 s
/// (`RES_TIMEOUT` of resolv.h). To tell one that does not wait would only fail its next call, which
/// goes to another backend.
const PATIENCE: Duration = Duration::from_secs(5);

/// A walk through the flow table, if one is under way.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The slot that is looked at next.
    next: usize,
    /// How many are to be looked at still; nothing where that is all of them.
    left: Option<usize>,
    due: Option<Time>,
}

impl Walk {
    /// Begins it, again if need be: it goes on from where it is, once round, so that no slot waits for
    /// changes to end.
    pub(crate) fn begin(&mut self) {
        self.left = None;
        self.due = Some(Time::ZERO);
    }

    /// When [`Walk::handle_timeout`] is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Goes on with it for a breath's share, as far as there is room for what it says.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        flows: &mut FlowTable,
        answers: &mut Answers,
        out: &mut Outbox,
    ) {
        if self.due.is_none_or(|due| due > now.time) {
            return;
        }
        let mut room = out.takes_for_pods().min(ANSWERS);
        let pause = if room == 0 { PAUSE } else { Duration::ZERO };
        let slots = flows.slots();
        let mut left = self.left.unwrap_or(slots);
        let end = left.saturating_sub(SHARE);
        while left > end && room > 0 {
            self.next = if self.next < slots { self.next } else { 0 };
            room -= usize::from(look_at(self.next, now, snapshot, flows, answers, out));
            self.next += 1;
            left -= 1;
        }
        self.left = Some(left);
        self.due = (left > 0).then_some(now.time + pause);
    }
}

/// Ends the flow in a slot if its backend is dead; whether its client is told.
fn look_at(
    slot: usize,
    now: Now,
    snapshot: &Snapshot,
    flows: &mut FlowTable,
    answers: &mut Answers,
    out: &mut Outbox,
) -> bool {
    let Some((conversation, records)) = flows.look_at(slot) else {
        return false;
    };
    // One that was never answered gets another backend with its next packet.
    let is_over = conversation.cut.is_some()
        || conversation.stage == Stage::Replaced
        || conversation.finished == [true; 2]
        || conversation.expired(now.time);
    if is_over || !conversation.replied || lives(snapshot, conversation) {
        return false;
    }
    let flow = conversation.forward.flow;
    // Its client may be somewhere else by now, or nowhere.
    let is_here = matches!(snapshot.route(flow.source), Route::Pod | Route::Own);
    let told = match flow.protocol {
        protocol::TCP => {
            records.cut(conversation, Reason::BackendGone, None, snapshot.epoch);
            conversation.cut_off(Reason::BackendGone, now.time);
            // What has passed here, the client has got, or it says otherwise.
            let expected = conversation.under_way[Role::Reply as usize].next();
            is_here
                .then(|| end(&flow.reverse(), expected, out))
                .flatten()
        }
        protocol::UDP
            if is_here
                && !conversation.told_client
                && now.time.since(conversation.last_seen) < PATIENCE =>
        {
            let error = answers.unreachable(now, &flow, out);
            conversation.told_client = error.is_some();
            error
        }
        _ => None,
    };
    let Some(packet) = told else {
        return false;
    };
    out.to_pods(packet);
    true
}

impl Pass<'_> {
    /// Whether nothing cuts a flow but that its backend is dead. One that a policy has cut hears nothing.
    pub(crate) fn might_go_on(&self, old: &Conversation, kind: Kind) -> bool {
        old.cut.is_none() || self.still_allowed(old, kind).is_some()
    }

    /// Drops a segment, going out, of a connection to a service that is dead or not known, and resets
    /// its client.
    ///
    /// Not known is a connection whose flow had to make room, or whose worker was made anew, or that
    /// has ended long ago; it cannot be translated any more, so its client would only wait for minutes.
    #[cold]
    pub(crate) fn break_off(&mut self, segment: Packet, reason: Reason) {
        let header = segment.header();
        // What is never answered takes nothing from what is, and is no work.
        let may_hear = header.tcp_flags & RST == 0
            && self.answers.has_reset(self.now.time)
            && (reason == Reason::BackendGone || self.hears_of_a_new_one(header));
        let reset = match may_hear {
            true => self.answers.refuse(self.now, &segment, self.out),
            false => None,
        };
        self.out.drop(segment, reason);
        if let Some(reset) = reset {
            self.out.to_pods(reset);
        }
    }

    /// Whether a SYN in the place of a segment would be let out of here, or be told that there is no
    /// backend, which needs no policy.
    ///
    /// Nothing is known of an unknown connection but its ends, so it is asked what would be asked of a
    /// new one: whoever may not begin it hears nothing of it either, and nobody can learn more by such
    /// segments than by SYNs. What the backend's own policies say is judged where that is; the reset
    /// depends on no backend, and so says nothing of one. It goes to an address of ours, from which the
    /// segment was proven to come, it is no longer than the segment, and there are so many a second.
    fn hears_of_a_new_one(&self, header: &Header) -> bool {
        let judged = self.judge_alone(header, Side::Out);
        matches!(judged, Ok(()) | Err(Reason::NoBackend))
    }
}

/// Whether the backend of a flow may live: it is not known dead, and nobody else is known to have its
/// address. A flow that has none goes to who lives or does not.
pub(crate) fn lives(snapshot: &Snapshot, conversation: &Conversation) -> bool {
    let Some((address, port)) = conversation.frontend else {
        return true;
    };
    let frontend = balance::Frontend {
        address,
        port,
        protocol: conversation.forward.flow.protocol,
    };
    let (address, port) = conversation.destination;
    let service = snapshot.services.find(&frontend);
    let backend = service.and_then(|service| service.backend(address, port));
    let owner = snapshot.endpoint(address).map(|endpoint| endpoint.owner);
    match (backend, owner) {
        // Whoever has the address with another name is another pod, which may serve as well.
        (_, Some(owner)) if owner != conversation.owners.1 => false,
        (Some(backend), _) => backend.healthy,
        (None, owner) => owner.is_some(),
    }
}
