//! One packet's way through the judgements: out of its source, in to its destination.

use packet::{Complaint, Fragment, Header, Kind, Now, Packet};
use policy::RuleId;

use crate::answers::Answers;
use crate::clients::Clients;
use crate::conversation::{
    ACK, Conversation, Role, SYN, Stage, answers_go, enter, keeps_its_client,
};
use crate::cut::cut;
use crate::death::lives;
use crate::flow_table::{FlowTable, Refused};
use crate::fragments::Fragments;
use crate::judge::{Inquiry, Judgement};
use crate::lanes::{Lanes, Via};
use crate::paths::Paths;
use crate::record::End;
use crate::snapshot::is_routed;
use crate::told::Past;
use crate::{Crossing, Key, Origin, Outbox, Reason, Route, Share, Side, Snapshot};

/// All that a packet meets on its way: a few references, so that the parts of the
/// forwarder can be borrowed beside its snapshot.
pub(crate) struct Pass<'a> {
    pub snapshot: &'a Snapshot,
    pub flows: &'a mut FlowTable,
    pub clients: &'a mut Clients,
    pub fragments: &'a mut Fragments,
    pub lanes: &'a mut Lanes,
    pub answers: &'a mut Answers,
    pub share: Share,
    pub paths: &'a mut Paths,
    /// The largest packet that the TUN gives, in bytes.
    pub mtu: usize,
    pub now: Now,
    /// Whether another worker's TUN gave the packet: then it is judged here or nowhere.
    pub crossed: bool,
    /// The rule that has denied what a known flow is to go on with.
    pub denied_by: Option<RuleId>,
    pub out: &'a mut Outbox,
}

impl Pass<'_> {
    /// A packet that a TUN gave: this worker's, or one that crossed.
    pub(crate) fn handle_from_pods(&mut self, packet: Packet) {
        let flow = packet.header().flow;
        if packet.header().kind == Kind::IcmpError {
            return self.error_from_pods(packet);
        }
        if packet.header().fragment != Fragment::No {
            return self.piece_from_pods(packet);
        }
        // A known flow needs no look at its source: it was looked at when it began, and the host's
        // rules have proven since that the packet came by its pod's own interface. It is known to
        // its owner only.
        let key = |side| Key { flow, side };
        if let Some(found) = self.flows.find(&key(Side::Out), self.now.time) {
            return self.forward(packet, Side::Out, Some(found));
        }
        let (side, owner) = match self.side(&flow) {
            Ok(found) => found,
            Err(reason) => return self.out.drop(packet, reason),
        };
        let Some(packet) = self.if_owned(owner, packet) else {
            return;
        };
        let found = match side {
            Side::Out => None,
            Side::In => self.flows.find(&key(Side::In), self.now.time),
        };
        self.forward(packet, side, found);
    }

    /// A packet that a peer sent, and whose source that peer may be.
    pub(crate) fn handle_from_wire(&mut self, mut packet: Packet, via: Via) {
        match self.snapshot.route(packet.header().flow.destination) {
            Route::Pod | Route::Own => {}
            _ => return self.out.drop(packet, Reason::NotOurs),
        }
        if packet.header().tcp_flags & SYN != 0 {
            // Here is known which way it came, whichever worker owns its flow.
            let node = self.lanes.node(via);
            self.clamp(&mut packet, node.map_or(Route::Nowhere, Route::Node));
        }
        let owner = self.share.worker_of(packet.header().flow.destination);
        if owner == self.share.own {
            return self.inward(packet);
        }
        let node = self.lanes.node(via).map(|node| node as usize);
        match node.and_then(|node| self.snapshot.nodes.get(node)?.lanes.first()) {
            Some(first) => {
                let origin = Origin::Node(first.key);
                self.out.cross(owner, Crossing::In(packet, origin));
            }
            None => self.out.drop(packet, Reason::ForgedSource),
        }
    }

    /// A packet for an address of this worker's.
    pub(crate) fn inward(&mut self, packet: Packet) {
        if packet.header().kind == Kind::IcmpError {
            return self.related(packet, Side::In);
        }
        if packet.header().fragment != Fragment::No {
            return self.follow(packet, Side::In);
        }
        let key = Key {
            flow: packet.header().flow,
            side: Side::In,
        };
        let found = self.flows.find(&key, self.now.time);
        self.forward(packet, Side::In, found);
    }

    /// Finds or begins the conversation of a packet, translates it and sends it on.
    fn forward(&mut self, packet: Packet, side: Side, found: Option<(u32, Role)>) {
        let judged = self.conversation(packet.header(), side, found);
        self.go_on(packet, side, judged);
    }

    /// Translates a packet as the conversation says that it belongs to, and sends it on.
    pub(crate) fn go_on(
        &mut self,
        mut packet: Packet,
        side: Side,
        judged: Result<(u32, Role), Reason>,
    ) {
        let (slot, role) = match judged {
            Ok(found) => found,
            Err(reason) => return self.refuse(packet, side, reason),
        };
        let conversation = self.flows.at(slot);
        let route = conversation.route(role);
        let (frontend, destination) = (conversation.frontend, conversation.destination);
        let is_hairpin = conversation.is_hairpin();
        let hop = match self.fits(&packet, route) {
            Ok(hop) => hop,
            Err((reason, complaint)) => return self.complain(packet, reason, complaint),
        };
        if frontend.is_some() && packet.lacks_checksum_v6() {
            return self.out.drop(packet, Reason::NoChecksum);
        }
        let flags = packet.header().tcp_flags;
        let (conversation, sequence) = (self.flows.at(slot), packet.sequence());
        let bytes = packet.bytes().len();
        if conversation.told_end && bytes > usize::from(packet.header().payload) {
            // Its ends have said that they are done, and go on all the same.
            conversation.told_end = false;
        }
        conversation.traffic[role as usize].add(packet.segments(), bytes);
        conversation.touch(role, flags, sequence, self.now.time);
        if flags & SYN != 0 {
            self.clamp(&mut packet, route);
        }
        match (role, frontend) {
            (_, None) => {}
            (Role::Forward, Some(_)) => packet.set_destination(destination.0, destination.1),
            (Role::Reply, Some((address, port))) => packet.set_source(address, port),
        }
        if is_hairpin && let Some(hairpin) = self.flows.at(slot).hairpin() {
            hairpin.turn(&mut packet, role);
            // It is in as it is out: there is no other end to judge it.
            return self.send(packet, Side::In, hop);
        }
        self.send(packet, side, hop);
    }

    /// Lowers the segment size that a SYN announces to what its answers may be sent with.
    pub(crate) fn clamp(&self, packet: &mut Packet, route: Route) {
        let carried = match route {
            Route::Node(node) if self.lanes.crosses(node) => self.mtu,
            Route::Node(node) => usize::from(self.paths.inner(node)),
            _ => self.mtu,
        };
        packet.clamp_mss(carried.min(self.mtu));
    }

    /// The conversation that a packet belongs to, judged by the current snapshot.
    pub(crate) fn conversation(
        &mut self,
        header: &Header,
        side: Side,
        found: Option<(u32, Role)>,
    ) -> Result<(u32, Role), Reason> {
        let epoch = self.snapshot.epoch;
        if let Some((_, role)) = found
            && !is_of_role(header, role)
        {
            self.judge_alone(header, side)?;
        }
        let slot = match found {
            Some((slot, Role::Forward)) => {
                let conversation = self.flows.at(slot);
                let over = conversation.stage == Stage::Closing || conversation.cut.is_some();
                // No change brings back what its client was told is broken.
                let broken = conversation.cut == Some(Reason::BackendGone);
                if over && opens(header) {
                    self.flows.remove(slot, End::Closed);
                    self.begin(header, side, Past::Nothing)?
                } else if conversation.epoch == epoch || broken {
                    conversation.cut.map_or(Ok(slot), Err)?
                } else {
                    self.judge_again(header, side, slot)?
                }
            }
            Some((slot, Role::Reply)) => {
                let snapshot = self.snapshot;
                let conversation = self.flows.at(slot);
                if let Some(reason) = conversation.cut {
                    if !opens(header) {
                        return Err(reason);
                    }
                    self.flows.remove(slot, End::Closed);
                    return Ok((self.begin(header, side, Past::Nothing)?, Role::Forward));
                }
                if conversation.reply_epoch != epoch && conversation.stage == Stage::Replaced {
                    let old = conversation.clone();
                    self.flows.take(slot);
                    let still = self
                        .still_allowed(&old, header.kind)
                        .ok_or(Reason::NoFlow)?;
                    self.flows.keep_answers(still, self.now.time);
                    let found = self.flows.find(&old.reply, self.now.time);
                    return found.ok_or(Reason::NoFlow);
                }
                if conversation.reply_epoch != epoch {
                    conversation.reply_epoch = epoch;
                    conversation.reply_route = answers_go(snapshot, conversation);
                    if !keeps_its_client(snapshot, conversation) {
                        // What its client agreed to, nobody else has.
                        self.flows.remove(slot, End::Moved);
                        return Ok((self.begin(header, side, Past::Nothing)?, Role::Forward));
                    }
                }
                return Ok((slot, Role::Reply));
            }
            None => self.begin(header, side, Past::Nothing)?,
        };
        Ok((slot, Role::Forward))
    }

    /// Judges a packet by itself, as if it began a flow, whatever is known of that.
    pub(crate) fn judge_alone(&self, header: &Header, side: Side) -> Result<(), Reason> {
        let inquiry = Inquiry {
            flow: header.flow,
            kind: header.kind,
            begins: true,
            pinned: None,
            preferred: self.given_lately(side, &header.flow),
        };
        self.snapshot.judge(side, &inquiry).verdict
    }

    /// Judges a flow that no conversation is known of, and enters it.
    fn begin(&mut self, header: &Header, side: Side, past: Past<'_>) -> Result<u32, Reason> {
        let pinned = past.kept();
        let answers = header.kind == Kind::EchoReply || header.tcp_flags & (SYN | ACK) == SYN | ACK;
        if answers && pinned.is_none() {
            return Err(Reason::NoFlow);
        }
        let inquiry = Inquiry {
            flow: header.flow,
            kind: header.kind,
            begins: header.kind != Kind::Tcp || opens(header),
            pinned: pinned.and_then(|c| c.frontend.map(|_| c.destination)),
            preferred: self.given_lately(side, &header.flow),
        };
        let snapshot = self.snapshot;
        let judgement = snapshot.judge(side, &inquiry);
        let entered = self.enter(side, &inquiry, &judgement, past);
        if entered.is_ok() {
            self.note_client(&inquiry, &judgement);
        }
        self.tell(side, &inquiry, &judgement, past, entered.err());
        entered
    }

    /// Enters what a judgement allows, in the place of the conversation that it continues.
    fn enter(
        &mut self,
        side: Side,
        inquiry: &Inquiry,
        judgement: &Judgement<'_>,
        past: Past<'_>,
    ) -> Result<u32, Reason> {
        judgement.verdict?;
        if !is_routed(&inquiry.flow) {
            return Err(Reason::NotRouted);
        }
        let mut conversation = enter(self.snapshot, side, inquiry, judgement, self.now)
            .ok_or(Reason::UnknownSource)?;
        if let Some(old) = past.kept() {
            if old.frontend.is_some() && conversation.frontend.is_none() {
                // The service is gone, and its address with it: that of the world now, perhaps.
                return Err(Reason::NoServicePort);
            }
            if old.owners != conversation.owners {
                // The address belongs to somebody else now: what was agreed with the other is void.
                return Err(Reason::NoFlow);
            }
            conversation.under_way = old.under_way;
            conversation.stage = old.stage;
            conversation.replied = old.replied;
            conversation.finished = old.finished;
        }
        if let Some(old) = past.continued(judgement) {
            conversation.began = old.began;
            conversation.traffic = old.traffic;
            conversation.finished = old.finished;
            conversation.told_end = old.told_end;
        }
        self.flows
            .insert(conversation, self.now.time)
            .map_err(|refused| match refused {
                Refused::Full => Reason::FlowTableFull,
                Refused::Clash => Reason::FlowClash,
            })
    }

    /// Judges a known flow by a new snapshot. What is not allowed any more is kept as cut.
    fn judge_again(&mut self, header: &Header, side: Side, slot: u32) -> Result<u32, Reason> {
        let old = self.flows.at(slot).clone();
        self.flows.take(slot);
        let judged = self.continue_or_begin(header, side, &old);
        if let Err(reason) = judged {
            self.tell_cut(&old, reason);
        }
        if let Err(reason) = judged
            && !matches!(reason, Reason::FlowTableFull | Reason::FlowClash)
        {
            let mut cut = Conversation {
                epoch: self.snapshot.epoch,
                ..old
            };
            cut.cut_off(reason, self.now.time);
            // Without room it is only forgotten, as before it was known.
            let _ = self.flows.insert(cut, self.now.time);
        }
        judged
    }

    /// The backend of a flow stays, unless it is known dead or has never answered; TCP that has
    /// been answered never moves, and ends with its backend.
    fn continue_or_begin(
        &mut self,
        header: &Header,
        side: Side,
        old: &Conversation,
    ) -> Result<u32, Reason> {
        let is_tcp = header.kind == Kind::Tcp;
        let lives = lives(self.snapshot, old);
        let goes_on = is_tcp && old.replied && !opens(header);
        if goes_on && !lives && old.finished != [true; 2] && self.might_go_on(old, header.kind) {
            // It comes before `death` does, which would have told it.
            self.answers.owe_reset();
            return Err(Reason::BackendGone);
        }
        let stays = goes_on || old.replied && lives;
        if !stays {
            let new = self.begin(header, side, Past::Released(old))?;
            // What the old backend still answers comes from the service, too. Not for TCP: the client
            // is opening a connection to another.
            let moved = self.flows.at(new).destination != old.destination;
            if moved
                && !is_tcp
                && let Some(still) = self.still_allowed(old, header.kind)
            {
                self.flows.keep_answers(still, self.now.time);
            }
            return Ok(new);
        }
        match self.begin(header, side, Past::Kept(old)) {
            // Somebody else's now: it may begin anew, if a flow may begin with this packet.
            Err(Reason::NoFlow) => self.begin(header, side, Past::Released(old)),
            other => other,
        }
    }

    /// A conversation of a service as it would be if it began now with the backend that it had; its
    /// time goes on. `None` where that is not allowed any more, or an end is somebody else now.
    pub(crate) fn still_allowed(&self, old: &Conversation, kind: Kind) -> Option<Conversation> {
        let Key { flow, side } = old.forward;
        old.frontend?;
        let inquiry = Inquiry {
            flow,
            kind,
            begins: true,
            pinned: Some(old.destination),
            preferred: None,
        };
        let judgement = self.snapshot.judge(side, &inquiry);
        judgement.verdict.ok()?;
        let new = enter(self.snapshot, side, &inquiry, &judgement, self.now)?;
        let ends = |c: &Conversation| (c.owners, c.frontend, c.destination);
        (ends(&new) == ends(old)).then_some(Conversation {
            last_seen: old.last_seen,
            ..new
        })
    }

    /// Whether a packet may take its next hop, and how: it has time to live, and the path carries
    /// it, whole or, where it may be cut, in pieces.
    pub(crate) fn fits(
        &mut self,
        packet: &Packet,
        route: Route,
    ) -> Result<Hop, (Reason, Complaint)> {
        let header = packet.header();
        if header.ttl <= 1 && route != Route::Own {
            return Err((Reason::TimeExceeded, Complaint::TimeExceeded));
        }
        let Route::Node(node) = route else {
            return Ok(Hop { route, cut: None });
        };
        if self.lanes.crosses(node) {
            // The worker that seals it knows the path.
            return Ok(Hop { route, cut: None });
        }
        match self.paths.admit(node, packet) {
            Ok(cut) => Ok(Hop { route, cut }),
            Err(mtu) => Err((Reason::PacketTooBig, Complaint::PacketTooBig { mtu })),
        }
    }

    /// Hands a judged and translated packet to its next hop.
    pub(crate) fn send(&mut self, mut packet: Packet, side: Side, hop: Hop) {
        match (side, hop.route) {
            // The other end is here too: its own judgement follows.
            (Side::Out, Route::Pod | Route::Own) => self.inward_from_here(packet),
            (Side::In, Route::Own) => self.out.to_pods(packet),
            (Side::Out, Route::World) | (Side::In, _) => {
                packet.decrement_ttl();
                self.out.to_pods(packet);
            }
            (Side::Out, Route::Node(node)) => {
                packet.decrement_ttl();
                let local = packet.header().flow.source;
                let (lanes, now) = (&mut *self.lanes, self.now);
                match hop.cut {
                    None => lanes.seal(now, node, local, packet, self.out),
                    Some(mtu) => cut(packet, usize::from(mtu), self.out, |piece, out| {
                        lanes.seal(now, node, local, piece, out);
                    }),
                }
            }
            (Side::Out, Route::Nowhere) => self.out.drop(packet, Reason::UnknownDestination),
        }
    }

    fn refuse(&mut self, packet: Packet, side: Side, reason: Reason) {
        match reason {
            // Only its client has a connection with the service.
            Reason::BackendGone | Reason::NoFlowForService if side == Side::Out => {
                self.break_off(packet, reason);
            }
            Reason::NoBackend | Reason::NoServicePort => {
                self.complain(packet, reason, Complaint::PortUnreachable);
            }
            _ => self.out.drop(packet, reason),
        }
    }

    /// Drops a packet and tells its sender, who is found as any destination is.
    pub(crate) fn complain(&mut self, packet: Packet, reason: Reason, complaint: Complaint) {
        // An error goes back by the lane that owns our end, as the packet would have been answered.
        let local = packet.header().flow.destination;
        let error = self
            .answers
            .complain(self.now, self.snapshot, &packet, complaint, self.out);
        self.out.drop(packet, reason);
        let Some(error) = error else { return };
        match self.snapshot.route(error.header().flow.destination) {
            Route::Node(node) => self.lanes.seal(self.now, node, local, error, self.out),
            Route::Nowhere => self.out.drop(error, Reason::UnknownDestination),
            Route::Pod | Route::Own | Route::World => self.out.to_pods(error),
        }
    }
}

/// Where a packet goes next, and how.
pub(crate) struct Hop {
    route: Route,
    /// The longest piece, in bytes, where the packet has to be cut.
    pub(crate) cut: Option<u16>,
}

/// Whether a packet opens a TCP connection.
#[inline]
fn opens(header: &Header) -> bool {
    header.tcp_flags & (SYN | ACK) == SYN
}

/// Whether a packet does what its role in the conversation is. Both ends may ask each other by echoes
/// with one identifier: then one end's questions look like answers, and must not pass as such. (Its
/// answers look like questions then, which it may ask.)
#[inline]
fn is_of_role(header: &Header, role: Role) -> bool {
    header.kind != Kind::EchoRequest || role == Role::Forward
}
