//! From the wire: a train is opened, and each packet in it must be from where its peer may be.

use packet::{Address, Datagrams, Header, Now};
use tunnel::PeerId;

use crate::forwarder::{Forwarder, Mode};
use crate::{Outbox, Reason, Route, Snapshot};

impl Forwarder {
    /// Opens a train and gives its packets to the coalescer; what it lets go is in
    /// `self.coalesced`.
    pub(crate) fn open(&mut self, now: Now, mut datagrams: Datagrams, out: &mut Outbox) {
        let (lane, remote, ecn) = (datagrams.lane, datagrams.remote, datagrams.ecn);
        self.opened.clear();
        let train = &mut datagrams.buf;
        if !self
            .lanes
            .open(now, (lane, remote, ecn), train, &mut self.opened, out)
        {
            out.drops.count(Reason::NoPeer, train.frames() as u64);
        }
        let mut proof = Proof { lane, last: None };
        for inner in &self.opened {
            let bytes = &datagrams.buf.as_slice()[inner.start as usize..][..inner.length as usize];
            let header = match Header::parse(bytes) {
                Ok(header) => header,
                Err(why) => {
                    out.drops.count_malformed(why);
                    continue;
                }
            };
            let Some(node) = proof.node(&self.mode, &self.lanes, inner.peer, header.flow.source)
            else {
                out.drops.count(Reason::ForgedSource, 1);
                continue;
            };
            let arena = &mut out.tunnel.arena;
            if self
                .coalescer
                .push(bytes, &header, node, arena, &mut self.coalesced)
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
    lane: u16,
    last: Option<(PeerId, Address, u32)>,
}

impl Proof {
    /// The node (0 on a plain interface) that sent the packet, if `source` is an address of its.
    #[inline]
    fn node(
        &mut self,
        mode: &Mode,
        lanes: &crate::lanes::Lanes,
        peer: PeerId,
        source: Address,
    ) -> Option<u32> {
        if let Some((last_peer, last_source, node)) = self.last
            && (last_peer, last_source) == (peer, source)
        {
            return Some(node);
        }
        let node = match mode {
            Mode::Plain => lanes.lane(self.lane)?.allows(peer, source).then_some(0),
            Mode::Mesh(snapshot) => owner(snapshot, lanes.node(self.lane, peer)?, source),
            Mode::Waiting => None,
        }?;
        self.last = Some((peer, source, node));
        Some(node)
    }
}

/// The node, if longest-prefix match over all nodes' prefixes names exactly it.
fn owner(snapshot: &Snapshot, node: u32, source: Address) -> Option<u32> {
    (snapshot.route(source) == Route::Node(node)).then_some(node)
}
