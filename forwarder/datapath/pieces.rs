//! Fragments: judged as the first of their datagram is, and dropped where they overlap.

use packet::{Fragment, Packet};

use crate::pass::Pass;
use crate::{Key, Side};

impl Pass<'_> {
    /// A fragment that a TUN gave.
    #[cold]
    pub(crate) fn piece_from_pods(&mut self, packet: Packet) {
        let (side, owner) = match self.side(&packet.header().flow) {
            Ok(found) => found,
            Err(reason) => return self.out.drop(packet, reason),
        };
        if let Some(packet) = self.if_owned(owner, packet) {
            self.follow(packet, side);
        }
    }

    /// A fragment of an address of this worker's: it belongs to the flow that its first began. One
    /// whose first has not come is judged by itself, and only a rule for any port lets it pass.
    #[cold]
    pub(crate) fn follow(&mut self, packet: Packet, side: Side) {
        debug_assert!(packet.header().fragment != Fragment::No);
        let header = *packet.header();
        let judged_by = match packet.piece() {
            Some(piece) => self.fragments.note(&header, piece, side, self.now.time),
            None => Ok(header),
        };
        let header = match judged_by {
            Ok(header) => header,
            Err(reason) => return self.out.drop(packet, reason),
        };
        let key = Key {
            flow: header.flow,
            side,
        };
        let found = self.flows.find(&key, self.now.time);
        let judged = self.conversation(&header, side, found);
        self.go_on(packet, side, judged);
    }
}
