//! From the wire: a train is opened, and each packet in it must be from where its peer may be.

use packet::{Address, Header, Now};
use tunnel::Unopened;

use crate::forwarder::{Forwarder, Mode};
use crate::lanes::{Lanes, Via};
use crate::{Outbox, Reason, Route, Snapshot};

impl Forwarder {
    /// Opens a train and gives its packets to the coalescer; what it lets go is in
    /// `self.coalesced`.
    pub(crate) fn open(&mut self, now: Now, mut train: Unopened, out: &mut Outbox) {
        let lane = train.datagrams().lane;
        self.opened.clear();
        let is_ours = self.lanes.open(now, &mut train, &mut self.opened, out);
        let datagrams = train.into_datagrams();
        if !is_ours {
            let frames = datagrams.buf.frames() as u64;
            out.drops.count(Reason::NoPeer, frames);
        }
        let mut proof = Proof { last: None };
        for inner in &self.opened {
            let bytes = &datagrams.buf.as_slice()[inner.start as usize..][..inner.length as usize];
            let header = match Header::parse(bytes) {
                Ok(header) => header,
                Err(why) => {
                    out.drops.count_malformed(why);
                    continue;
                }
            };
            let via = Via {
                lane,
                peer: inner.peer,
            };
            if !proof.holds(&self.mode, &self.lanes, via, header.flow.source) {
                out.drops.count(Reason::ForgedSource, 1);
                continue;
            }
            let arena = &mut out.tunnel.arena;
            if self
                .coalescer
                .push(bytes, &header, via, arena, &mut self.coalesced)
                .is_err()
            {
                out.drops.count(Reason::NoBuffer, 1);
            }
        }
        out.tunnel.arena.put(datagrams.buf);
    }
}

/// "May this peer be this source?", with the last answer remembered: most packets of a train have
/// one source.
struct Proof {
    last: Option<(Via, Address)>,
}

impl Proof {
    /// Whether `source` is an address of who sent the packet.
    #[inline]
    fn holds(&mut self, mode: &Mode, lanes: &Lanes, via: Via, source: Address) -> bool {
        if self.last == Some((via, source)) {
            return true;
        }
        let holds = match mode {
            Mode::Plain => lanes
                .lane(via.lane)
                .is_some_and(|lane| lane.allows(via.peer, source)),
            Mode::Mesh(snapshot) => lanes
                .node(via)
                .is_some_and(|node| is_of(snapshot, node, source)),
            Mode::Waiting => false,
        };
        if holds {
            self.last = Some((via, source));
        }
        holds
    }
}

/// Whether longest-prefix match over all nodes' prefixes names exactly this node, whichever of its
/// lanes has sealed the packet.
fn is_of(snapshot: &Snapshot, node: u32, source: Address) -> bool {
    snapshot.route(source) == Route::Node(node)
}
