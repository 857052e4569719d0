//! What is remembered of a flow and its answers.

use core::time::Duration;

use packet::{Address, Flow, Kind, Now, Sequence, Time, protocol};
use policy::{Identity, Owner};

use crate::judge::{Inquiry, Judgement};
use crate::record::{End, Traffic};
use crate::under_way::UnderWay;
use crate::{Key, Reason, Route, Side, Snapshot};

/// TCP, both ways seen: RFC 5382 §5 wants at least 2 h 4 min.
pub(crate) const ESTABLISHED: Duration = Duration::from_secs(8_000);
/// TCP, no answer yet: a SYN is repeated for about a minute (Linux `tcp_syn_retries` 6).
pub(crate) const OPENING: Duration = Duration::from_secs(60);
/// TCP after FIN or RST: as long as a late segment may live.
pub(crate) const CLOSING: Duration = Duration::from_secs(10);
/// TCP that is opening or closing, where an address is translated: RFC 5382 §5 wants at least 4 min.
/// A half of a connection may stay open and silent for long.
pub(crate) const TRANSITORY: Duration = Duration::from_secs(240);
/// UDP: RFC 4787 §4.3 wants at least 2 min where an address is translated.
pub(crate) const DATAGRAMS: Duration = Duration::from_secs(120);
/// Everything else.
pub(crate) const OTHER: Duration = Duration::from_secs(60);

/// How long after its last packet the end of a TCP connection that both ends have closed is told.
const SETTLED: Duration = Duration::from_secs(1);

/// FIN, RFC 9293 §3.1.
pub(crate) const FIN: u8 = 0x01;
/// SYN.
pub(crate) const SYN: u8 = 0x02;
/// RST.
pub(crate) const RST: u8 = 0x04;
/// ACK.
pub(crate) const ACK: u8 = 0x10;

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No answer has been seen.
    Opening,
    /// Packets of both directions have been seen.
    Established,
    /// TCP has ended it.
    Closing,
    /// Its flow has another backend since; late answers of the one that it had may still come.
    Replaced,
}

/// Which of a conversation's two directions a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The direction of the packet that began it.
    Forward,
    /// The answers.
    Reply,
}

/// One judgement: a flow on one side, with its answers on the other.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// How packets of the flow arrive.
    pub forward: Key,
    /// How answers arrive: after the translation, reversed. Those of a pod to itself leave it, too.
    pub reply: Key,
    /// Whose the governed end was when it was judged.
    pub subject: Identity,
    /// Whose the other end was.
    pub peer: Identity,
    /// Who subject and peer are, whatever their labels.
    pub owners: (Owner, Owner),
    /// The service address and port that the flow was sent to.
    pub frontend: Option<(Address, u16)>,
    /// Where its packets really go.
    pub destination: (Address, u16),
    /// Where packets of the flow go on to.
    pub forward_route: Route,
    /// Where answers go on to.
    pub reply_route: Route,
    /// The snapshot that judged the flow.
    pub epoch: u64,
    /// The snapshot that routed the answers.
    pub reply_epoch: u64,
    /// What is under way of TCP in each direction, by [`Role`].
    pub under_way: [UnderWay; 2],
    /// How far it has come.
    pub stage: Stage,
    /// Whether an answer was ever seen.
    pub replied: bool,
    /// Why a change has cut it. It is kept then, for without it the other end's segments would begin a
    /// flow of their own, and this end's would pass as their answers.
    pub cut: Option<Reason>,
    /// When its last packet was seen.
    pub last_seen: Time,
    /// When its first one was.
    pub began: Time,
    /// What has passed, by [`Role`].
    pub traffic: [Traffic; 2],
    /// What the packet was that began it.
    pub kind: Kind,
    /// Which ends of TCP have said that they are done, by [`Role`].
    pub finished: [bool; 2],
    /// Whether a record has told its end already.
    pub told_end: bool,
    /// Whether its client was told that nobody is at the service's port any more.
    pub told_client: bool,
}

impl Role {
    /// The other direction.
    #[inline]
    pub(crate) const fn opposite(self) -> Role {
        match self {
            Role::Forward => Role::Reply,
            Role::Reply => Role::Forward,
        }
    }
}

impl Conversation {
    /// Notes that a packet of it passed; `sequence` are a TCP segment's numbers.
    #[inline]
    pub(crate) fn touch(
        &mut self,
        role: Role,
        tcp_flags: u8,
        sequence: Option<Sequence>,
        now: Time,
    ) {
        if self.stage == Stage::Replaced {
            // Nobody asks any more: answers alone do not keep it.
            return;
        }
        if let Some(sequence) = sequence {
            if tcp_flags & RST != 0 && self.under_way[role as usize].is_blind(sequence.start) {
                // Its receiver ignores it, and so it ends nothing here.
                return;
            }
            let opening = self.stage == Stage::Opening;
            self.under_way[role as usize].sent(&sequence, tcp_flags, opening);
            if let Some(number) = sequence.acknowledged {
                self.under_way[role.opposite() as usize].acknowledged(number);
            }
        }
        self.last_seen = now;
        if role == Role::Reply {
            self.replied = true;
            if self.stage == Stage::Opening {
                self.stage = Stage::Established;
            }
        }
        if tcp_flags & (FIN | RST) != 0 {
            self.stage = Stage::Closing;
            self.finished[role as usize] = true;
            self.finished[role.opposite() as usize] |= tcp_flags & RST != 0;
        }
    }

    /// A change has cut it, which has been told. What its client hears by resets is over for good, and
    /// needs its place no longer than what TCP has ended; anything else may be allowed again.
    pub(crate) fn cut_off(&mut self, reason: Reason, now: Time) {
        self.cut = Some(reason);
        self.told_end = true;
        if reason == Reason::BackendGone {
            self.stage = Stage::Closing;
            self.last_seen = now;
        }
    }

    /// Whether TCP has ended it, and nothing more came: its end is to be told, although late segments
    /// are still its own for a while.
    pub(crate) fn is_done(&self, now: Time) -> bool {
        !self.told_end && self.finished == [true; 2] && now.since(self.last_seen) >= SETTLED
    }

    /// Its end is told: what comes after it counts for itself.
    pub(crate) fn note_told_end(&mut self) {
        self.told_end = true;
        self.traffic = Default::default();
        self.began = self.last_seen;
    }

    /// Why it is over, when another needs its place.
    pub(crate) fn end_before_its_time(&self) -> End {
        match self.stage {
            Stage::Closing => End::Closed,
            _ => End::Evicted,
        }
    }

    /// Why it is over, when it is forgotten for its own sake.
    pub(crate) fn end(&self) -> End {
        match self.stage {
            Stage::Closing => End::Closed,
            _ => End::Silent,
        }
    }

    /// How long it may stay silent.
    pub(crate) fn timeout(&self) -> Duration {
        match (self.forward.flow.protocol, self.stage) {
            (protocol::TCP, Stage::Established) => ESTABLISHED,
            (protocol::TCP, _) if self.frontend.is_some() => TRANSITORY,
            (protocol::TCP, Stage::Opening) => OPENING,
            (protocol::TCP, Stage::Closing) => CLOSING,
            (protocol::UDP, _) => DATAGRAMS,
            _ => OTHER,
        }
    }

    /// Whether it has been silent for too long.
    #[inline]
    pub(crate) fn expired(&self, now: Time) -> bool {
        now.since(self.last_seen) >= self.timeout()
    }

    /// Whether it may be forgotten when its place is needed.
    #[inline]
    pub(crate) fn may_go(&self) -> bool {
        !self.replied
            || matches!(self.stage, Stage::Closing | Stage::Replaced)
            || self.cut.is_some()
    }

    /// Why it is over, if it may be forgotten: for its own sake, or because it has to yield its place.
    pub(crate) fn end_if_it_may_go(&self, yields: bool, now: Time) -> Option<End> {
        if self.expired(now) {
            return Some(self.end());
        }
        (yields && self.may_go()).then(|| self.end_before_its_time())
    }

    /// Who began it, and so has to answer for the room that it takes.
    pub(crate) fn beginner(&self) -> Identity {
        match self.forward.side {
            Side::Out => self.subject,
            Side::In => self.peer,
        }
    }

    /// Where packets of one direction go on to.
    #[inline]
    pub(crate) fn route(&self, role: Role) -> Route {
        match role {
            Role::Forward => self.forward_route,
            Role::Reply => self.reply_route,
        }
    }
}

/// Whether the address of who began a conversation still belongs to the same one.
pub(crate) fn keeps_its_client(snapshot: &Snapshot, conversation: &Conversation) -> bool {
    let Key { flow, side } = conversation.forward;
    let client = match side {
        Side::Out => conversation.owners.0,
        Side::In => conversation.owners.1,
    };
    let owner = snapshot.endpoint(flow.source);
    owner.is_some_and(|endpoint| endpoint.owner == client)
}

/// Where the answers of a conversation go on to.
pub(crate) fn answers_go(snapshot: &Snapshot, conversation: &Conversation) -> Route {
    let client = conversation.forward.flow.source;
    match conversation.forward.side {
        Side::Out if snapshot.own.addresses.contains(&client) => Route::Own,
        Side::Out => Route::Pod,
        Side::In => snapshot.route(client),
    }
}

/// The conversation that an allowing judgement begins.
pub(crate) fn enter(
    snapshot: &Snapshot,
    side: Side,
    inquiry: &Inquiry,
    judgement: &Judgement<'_>,
    now: Now,
) -> Option<Conversation> {
    let (subject, peer) = judgement.identities()?;
    let flow = inquiry.flow;
    let (address, port) = judgement.destination;
    let translated = Flow {
        destination: address,
        destination_port: port,
        ..flow
    };
    let frontend = judgement
        .service
        .map(|_| (flow.destination, flow.destination_port));
    let mut conversation = Conversation {
        forward: Key { flow, side },
        reply: Key {
            flow: translated.reverse(),
            side: side.opposite(),
        },
        subject,
        peer,
        owners: judgement.owners()?,
        frontend,
        destination: judgement.destination,
        forward_route: match side {
            Side::Out => judgement.route,
            Side::In => snapshot.route(flow.destination),
        },
        reply_route: Route::Nowhere,
        epoch: snapshot.epoch,
        reply_epoch: snapshot.epoch,
        under_way: Default::default(),
        stage: Stage::Opening,
        replied: false,
        cut: None,
        last_seen: now.time,
        began: now.time,
        traffic: Default::default(),
        kind: inquiry.kind,
        finished: [false; 2],
        told_end: false,
        told_client: false,
    };
    conversation.reply_route = answers_go(snapshot, &conversation);
    if frontend.is_some() && address == flow.source {
        // The client is its own backend: `hairpin`.
        conversation.reply = Key {
            flow: Flow {
                destination: flow.destination,
                ..conversation.reply.flow
            },
            side,
        };
        // Back to whom it came from, as answers do.
        conversation.forward_route = conversation.reply_route;
    }
    Some(conversation)
}
