//! ICMP errors: they belong to the flow whose packet they quote.

use packet::Packet;

use crate::conversation::Role;
use crate::cut::LEAST_V6;
use crate::pass::Pass;
use crate::{Key, Reason, Route, Side};

impl Pass<'_> {
    /// An ICMP error that a TUN gave.
    pub(crate) fn error_from_pods(&mut self, packet: Packet) {
        let flow = packet.header().flow;
        let (side, owner) = match self.snapshot.route(flow.source) {
            // A pod may forward for others: the flow's end is whom the quoted packet went to.
            Route::Pod | Route::Own => (
                Side::Out,
                packet.embedded().map_or(flow.source, |q| q.destination),
            ),
            Route::World => (Side::In, flow.destination),
            Route::Node(_) | Route::Nowhere => {
                return self.out.drop(packet, Reason::ForgedSource);
            }
        };
        if let Some(packet) = self.if_owned(owner, packet) {
            self.related(packet, side);
        }
    }

    /// An ICMP error: it passes if the packet that it quotes belongs to a known flow, and quotes it
    /// as its receiver knows it.
    pub(crate) fn related(&mut self, mut packet: Packet, side: Side) {
        // An error goes to whom it quotes as the sender (RFC 792), and to nobody else: a pod could
        // reach anyone with the quote of a flow that it may have.
        let to = packet.header().flow.destination;
        let quoted = packet.embedded().filter(|quoted| quoted.source == to);
        let Some(quoted) = quoted else {
            return self.out.drop(packet, Reason::NoFlow);
        };
        // RFC 8201 §4: it is no path's, and would have the sender make fragments of nothing
        // (RFC 8021 §3).
        if packet
            .too_big_v6()
            .is_some_and(|mtu| mtu < u32::from(LEAST_V6))
        {
            return self.out.drop(packet, Reason::MtuTooSmall);
        }
        let key = Key {
            flow: quoted.reverse(),
            side,
        };
        let found = self.flows.find(&key, self.now.time);
        let Some((slot, role)) = found.filter(|(slot, _)| self.flows.at(*slot).cut.is_none())
        else {
            return self.out.drop(packet, Reason::NoFlow);
        };
        let conversation = self.flows.at(slot);
        let hairpin = conversation.hairpin();
        let (frontend, backend) = (conversation.frontend, conversation.destination);
        // The quoted packet went the other way.
        let under_way = &conversation.under_way[role.opposite() as usize];
        if packet
            .embedded_sequence()
            .is_some_and(|number| !under_way.holds(number))
        {
            return self.out.drop(packet, Reason::WrongSequence);
        }
        if frontend.is_some() && is_redirect(&packet) {
            return self.out.drop(packet, Reason::Redirect);
        }
        let mut side = side;
        if let Some(hairpin) = hairpin {
            hairpin.turn_error(&mut packet, role);
            side = Side::In;
        } else if let Some(frontend) = frontend {
            let flow = packet.header().flow;
            match role {
                Role::Reply => {
                    packet.set_embedded_destination(frontend.0, frontend.1);
                    if flow.source == backend.0 {
                        packet.set_source(frontend.0, 0);
                    }
                }
                Role::Forward => {
                    packet.set_embedded_source(backend.0, backend.1);
                    if flow.destination == frontend.0 {
                        packet.set_destination(backend.0, 0);
                    }
                }
            }
        }
        let route = match side {
            Side::Out => self.snapshot.route(packet.header().flow.destination),
            Side::In => Route::Pod,
        };
        match self.fits(&packet, route) {
            Ok(hop) => self.send(packet, side, hop),
            Err((reason, _)) => self.out.drop(packet, reason),
        }
    }
}

/// Whether an ICMP error is IPv4's redirect (RFC 792), which says by which router the destination of the quoted packet
/// is reached. That of ICMPv6 is no error.
fn is_redirect(error: &Packet) -> bool {
    const REDIRECT: u8 = 5;
    let header = error.header();
    header.is_v4() && error.bytes()[usize::from(header.transport)] == REDIRECT
}
