//! What a node says to the sender of a packet that it could not forward: seldom.

use core::time::Duration;

use packet::{
    Buf, Complaint, Flow, Now, Offload, Packet, Time, empty_datagram, icmp_error, reset, reset_for,
};

use crate::{Outbox, Snapshot};

/// ICMP errors a second, and how many at once (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f want a limit).
const ERRORS: Limit = Limit {
    per_second: 100,
    burst: 50,
};
/// Resets that answer segments. Each goes to a pod of ours that has just sent one, and is no longer
/// than that, so it amplifies nothing; the limit keeps who sends on regardless from taking the worker's
/// time. Who was told at the wrong number answers once (RFC 5961 §3.2), so there is room for many.
const RESETS: Limit = Limit {
    per_second: 1_000,
    burst: 1_000,
};

/// The rate limits of what is answered.
#[derive(Debug)]
pub(crate) struct Answers {
    errors: Bucket,
    /// Of those that tell of dead backends: many of one moment, which leave the others theirs.
    deaths: Bucket,
    resets: Bucket,
}

impl Answers {
    pub(crate) fn new() -> Answers {
        Answers {
            errors: Bucket::full(ERRORS),
            deaths: Bucket::full(ERRORS),
            resets: Bucket::full(RESETS),
        }
    }

    /// An ICMP error about `offender`, as a packet of its own that counts as originated; `None`
    /// where the RFCs forbid one, the limit is reached, or no buffer is free.
    pub(crate) fn complain(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        offender: &Packet,
        complaint: Complaint,
        out: &mut Outbox,
    ) -> Option<Packet> {
        let from = snapshot.own_address(offender.header().flow.source)?;
        if !self.errors.take(now.time) {
            return None;
        }
        let error = |buf: &mut Buf| icmp_error(offender, complaint, from, buf);
        originate(write(out, error)?, out)
    }

    /// One more answer by a reset is due, beside the limit: to the segment that finds its connection
    /// dead, of which there is one.
    pub(crate) fn owe_reset(&mut self) {
        self.resets.tokens += 1;
    }

    /// Whether the limit lets a reset answer something now.
    pub(crate) fn has_reset(&mut self, now: Time) -> bool {
        self.resets.refill(now);
        self.resets.tokens > 0
    }

    /// The reset that answers a segment of a connection that is none, or none any more; `None` where the
    /// RFCs forbid one, the limit is reached, or no buffer is free.
    pub(crate) fn refuse(
        &mut self,
        now: Now,
        segment: &Packet,
        out: &mut Outbox,
    ) -> Option<Packet> {
        if !self.resets.take(now.time) {
            return None;
        }
        originate(write(out, |buf| reset_for(segment, buf))?, out)
    }

    /// The ICMP error that says to the source of `flow`, which has sent datagrams, that nobody is at
    /// its destination's port any more. It comes from there, and quotes one as they were.
    pub(crate) fn unreachable(
        &mut self,
        now: Now,
        flow: &Flow,
        out: &mut Outbox,
    ) -> Option<Packet> {
        if !self.deaths.take(now.time) {
            return None;
        }
        let datagram = write(out, |buf| empty_datagram(flow, buf))?;
        let datagram = match Packet::parse(datagram, Offload::default()) {
            Ok(datagram) => datagram,
            Err((buf, _)) => {
                out.tunnel.arena.put(buf);
                return None;
            }
        };
        let error = write(out, |buf| {
            icmp_error(&datagram, Complaint::PortUnreachable, flow.destination, buf)
        });
        out.tunnel.arena.put(datagram.into_buf());
        originate(error?, out)
    }
}

/// The reset that ends the connection `flow` for its destination, which expects this number next. It
/// is no answer: there is one for each connection, and no limit.
pub(crate) fn end(flow: &Flow, sequence: u32, out: &mut Outbox) -> Option<Packet> {
    let buf = write(out, |buf| reset(flow, sequence, None, buf))?;
    originate(buf, out)
}

/// A buffer that `make` has written something to; `None` if it would not, or none is free.
fn write(out: &mut Outbox, make: impl FnOnce(&mut Buf) -> bool) -> Option<Buf> {
    let mut buf = out.tunnel.arena.take()?;
    if make(&mut buf) {
        return Some(buf);
    }
    out.tunnel.arena.put(buf);
    None
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
struct Limit {
    per_second: u64,
    burst: u64,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    limit: Limit,
    tokens: u64,
    refilled: Time,
}

impl Bucket {
    fn full(limit: Limit) -> Bucket {
        Bucket {
            limit,
            tokens: limit.burst,
            refilled: Time::ZERO,
        }
    }

    fn take(&mut self, now: Time) -> bool {
        self.refill(now);
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }

    fn refill(&mut self, now: Time) {
        let Limit { per_second, burst } = self.limit;
        let interval = Duration::from_secs(1) / per_second as u32;
        let refill = (now.since(self.refilled).as_nanos() / interval.as_nanos()) as u64;
        if refill > 0 {
            self.tokens = burst.min(self.tokens.saturating_add(refill));
            self.refilled = now;
        }
    }
}

/// Makes a packet of a buffer that we have written ourselves, and counts it.
pub(crate) fn originate(buf: Buf, out: &mut Outbox) -> Option<Packet> {
    match Packet::parse(buf, Offload::default()) {
        Ok(packet) => {
            out.ledger().originated += 1;
            Some(packet)
        }
        Err((buf, why)) => {
            debug_assert!(false, "we wrote a malformed packet: {why:?}");
            out.tunnel.arena.put(buf);
            None
        }
    }
}
