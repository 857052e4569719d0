//! A packet that its way cannot carry in one piece, and that its sender lets us cut.

use packet::{Fragmenter, Offload, Packet, Segmenter};

use crate::answers::originate;
use crate::{Outbox, Reason};

/// Cuts an IPv4 packet without DF, or each segment of a super-packet, into fragments of at most
/// `mtu` bytes, and gives them to `each` in order. What finds no buffer is dropped and counted.
pub(crate) fn cut(
    mut packet: Packet,
    mtu: usize,
    out: &mut Outbox,
    mut each: impl FnMut(Packet, &mut Outbox),
) {
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
