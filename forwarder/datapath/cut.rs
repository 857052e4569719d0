//! A packet that its way cannot carry in one piece, and that may be cut: IPv4 without DF into
//! fragments, TCP over IPv6 into smaller segments where the way carries less than IPv6 promises.

use packet::{Fragmenter, Offload, Packet, Segmenter};

use crate::answers::originate;
use crate::{Outbox, Reason};

/// The least that a link must carry for IPv6 (RFC 8200 §5): "packet too big" brings a sender so
/// far, and no further.
pub(crate) const LEAST_V6: u16 = 1_280;

/// Whether a packet that is too long for its way may be cut to `mtu` bytes.
pub(crate) fn may_be_cut(packet: &Packet, mtu: u16) -> bool {
    if packet.header().is_v4() {
        return !packet.header().dont_fragment;
    }
    mtu < LEAST_V6
        && packet.segment_length() <= usize::from(LEAST_V6)
        && packet.can_resegment(usize::from(mtu))
}

/// Cuts a packet that [`may_be_cut`], or each segment of a super-packet, into pieces of at most
/// `mtu` bytes, and gives them to `each` in order. What finds no buffer is dropped and counted.
pub(crate) fn cut(
    mut packet: Packet,
    mtu: usize,
    out: &mut Outbox,
    mut each: impl FnMut(Packet, &mut Outbox),
) {
    if !packet.header().is_v4() {
        out.ledger().consumed += packet.segments() as u64;
        packet.resegment(mtu);
        out.ledger().originated += packet.segments() as u64;
        return each(packet, out);
    }
    packet.finish_checksum();
    let all = packet.segments() as u64;
    let mut done = 0;
    if all == 1 {
        done += u64::from(fragment(&packet, mtu, out, &mut each));
    } else {
        let mut segmenter = Segmenter::new(&packet);
        while let Some(segment) = segment(&mut segmenter, out) {
            let whole = fragment(&segment, mtu, out, &mut each);
            out.tunnel.arena.put(segment.into_buf());
            if !whole {
                break;
            }
            done += 1;
        }
    }
    out.ledger().consumed += done;
    out.drops.count(Reason::NoBuffer, all - done);
    out.tunnel.arena.put(packet.into_buf());
}

fn segment(segmenter: &mut Segmenter<'_>, out: &mut Outbox) -> Option<Packet> {
    let mut buf = out.tunnel.arena.take()?;
    let Some(length) = segmenter.next(buf.spare_mut()) else {
        out.tunnel.arena.put(buf);
        return None;
    };
    buf.grow_back(length);
    Packet::parse(buf, Offload::default())
        .map_err(|(buf, _)| out.tunnel.arena.put(buf))
        .ok()
}

/// Whether all fragments were made.
fn fragment(
    packet: &Packet,
    mtu: usize,
    out: &mut Outbox,
    each: &mut impl FnMut(Packet, &mut Outbox),
) -> bool {
    let Some(mut fragmenter) = Fragmenter::new(packet, mtu) else {
        return false;
    };
    while fragmenter.remaining() > 0 {
        let Some(mut buf) = out.tunnel.arena.take() else {
            return false;
        };
        fragmenter.next(&mut buf);
        match originate(buf, out) {
            Some(fragment) => each(fragment, out),
            None => return false,
        }
    }
    true
}
