//! What a node says to the sender of a packet that it could not forward: seldom.

use core::time::Duration;

use packet::{Complaint, Now, Packet, Time, icmp_error};

use crate::{Outbox, Snapshot};

/// ICMP errors a second, and how many at once (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f want a limit).
const PER_SECOND: u64 = 100;
const BURST: u64 = 50;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND);

/// The rate limit of ICMP errors: a token bucket.
#[derive(Debug)]
pub(crate) struct Answers {
    tokens: u64,
    refilled: Time,
}

impl Answers {
    pub(crate) fn new() -> Answers {
        Answers {
            tokens: BURST,
            refilled: Time::ZERO,
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
        if !self.take(now.time) {
            return None;
        }
        let mut buf = out.tunnel.arena.take()?;
        if !icmp_error(offender, complaint, from, &mut buf) {
            out.tunnel.arena.put(buf);
            return None;
        }
        originate(buf, out)
    }

    fn take(&mut self, now: Time) -> bool {
        let refill = (now.since(self.refilled).as_nanos() / INTERVAL.as_nanos()) as u64;
        if refill > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(refill));
            self.refilled = now;
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

/// Makes a packet of a buffer that we have written ourselves, and counts it.
pub(crate) fn originate(buf: packet::Buf, out: &mut Outbox) -> Option<Packet> {
    match Packet::parse(buf, packet::Offload::default()) {
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
