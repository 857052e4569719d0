//! Between the workers of a node: what is whose, and what is asked again of what crosses.

use packet::{Address, Complaint, Flow, Packet};

use crate::conversation::SYN;
use crate::cut::cut;
use crate::pass::Pass;
use crate::{Crossing, Origin, Reason, Route, Side};

impl Pass<'_> {
    /// Where a packet that a TUN gave is judged, and which of its ends is this node's.
    pub(crate) fn side(&self, flow: &Flow) -> Result<(Side, Address), Reason> {
        match (
            self.snapshot.route(flow.source),
            self.snapshot.route(flow.destination),
        ) {
            (Route::Pod | Route::Own, _) => Ok((Side::Out, flow.source)),
            (Route::World, Route::Pod | Route::Own) => Ok((Side::In, flow.destination)),
            (Route::World, _) => Err(Reason::NotOurs),
            (Route::Node(_) | Route::Nowhere, _) => Err(Reason::ForgedSource),
        }
    }

    /// Gives a packet from a TUN back if its flow's end is this worker's; else it crosses, once.
    pub(crate) fn if_owned(&mut self, end: Address, packet: Packet) -> Option<Packet> {
        let owner = self.share.worker_of(end);
        if owner == self.share.own {
            return Some(packet);
        }
        if self.crossed {
            self.out.drop(packet, Reason::WrongWorker);
        } else {
            self.out.cross(owner, Crossing::Out(packet));
        }
        None
    }

    /// A packet that another worker left to this one. What that one knew of it may be older or
    /// newer than what this one knows, so all but its judgement is asked again.
    pub(crate) fn handle_crossing(&mut self, crossing: Crossing) {
        match crossing {
            Crossing::Out(packet) => {
                self.crossed = true;
                self.handle_from_pods(packet);
            }
            Crossing::In(packet, origin) => self.handle_crossing_in(packet, origin),
            Crossing::Seal(packet) => match self.snapshot.route(packet.header().flow.destination) {
                _ if !self.share.has_lane(0) => self.out.drop(packet, Reason::WrongWorker),
                Route::Node(node) => self.seal_crossed(packet, node),
                _ => self.out.drop(packet, Reason::UnknownDestination),
            },
        }
    }

    /// A packet of a flow that another worker owns, for lane 0: that worker does not know the path.
    fn seal_crossed(&mut self, mut packet: Packet, node: u32) {
        let route = Route::Node(node);
        if packet.header().tcp_flags & SYN != 0 {
            self.clamp(&mut packet, route);
        }
        let (lanes, now) = (&mut *self.lanes, self.now);
        match self.paths.admit(node, &packet) {
            Ok(None) => lanes.seal_first(now, node, packet, self.out),
            Ok(Some(mtu)) => cut(packet, usize::from(mtu), self.out, |piece, out| {
                lanes.seal_first(now, node, piece, out);
            }),
            Err(mtu) => self.complain_crossed(packet, mtu),
        }
    }

    /// Tells the sender of a packet that another worker has translated already. That worker knows
    /// the flow: it turns the quote back into what the sender wrote, as it does with errors that
    /// come from elsewhere.
    fn complain_crossed(&mut self, packet: Packet, mtu: u16) {
        let complaint = Complaint::PacketTooBig { mtu };
        let error = self
            .answers
            .complain(self.now, self.snapshot, &packet, complaint, self.out);
        self.out.drop(packet, Reason::PacketTooBig);
        if let Some(error) = error {
            self.inward_from_here(error);
        }
    }

    fn handle_crossing_in(&mut self, mut packet: Packet, origin: Origin) {
        let flow = packet.header().flow;
        let from = self.snapshot.route(flow.source);
        let proven = match (origin, from) {
            (Origin::Here, Route::Pod | Route::Own) => true,
            (Origin::Node(key), Route::Node(node)) => {
                let node = self.snapshot.nodes.get(node as usize);
                node.and_then(|node| node.lanes.first())
                    .is_some_and(|first| first.key == key)
            }
            _ => false,
        };
        if !proven {
            return self.out.drop(packet, Reason::ForgedSource);
        }
        if self.share.worker_of(flow.destination) != self.share.own {
            return self.out.drop(packet, Reason::WrongWorker);
        }
        if matches!(from, Route::Node(_)) && packet.header().tcp_flags & SYN != 0 {
            // Answers are held to what this worker knows of the path as well.
            self.clamp(&mut packet, from);
        }
        match self.snapshot.route(flow.destination) {
            Route::Pod | Route::Own => self.inward(packet),
            _ => self.out.drop(packet, Reason::NotOurs),
        }
    }

    /// A packet of this node's for an address of this node, judged out.
    pub(crate) fn inward_from_here(&mut self, packet: Packet) {
        let owner = self.share.worker_of(packet.header().flow.destination);
        if owner == self.share.own {
            self.inward(packet);
        } else {
            let crossing = Crossing::In(packet, Origin::Here);
            self.out.cross(owner, crossing);
        }
    }
}
