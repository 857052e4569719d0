//! The books of a core: what went in must have come out, or wait, or have been dropped by name.

use core::ops::AddAssign;

/// What a core took in and gave out, in segments (a super-packet counts as the packets that it is
/// cut into). At every moment: *received + originated + crossed in = sent + consumed + crossed out
/// + queued + Σ drops*, for one worker and for the sum of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Taken from devices.
    pub received: u64,
    /// Made by ourselves: ICMP errors, resets, probes, handshakes.
    pub originated: u64,
    /// Given to devices, and taken by them.
    pub sent: u64,
    /// Meant for ourselves and understood: handshakes, keep-alives, answers to probes.
    pub consumed: u64,
    /// Taken over from the node's other workers.
    pub crossed_in: u64,
    /// Handed over to them.
    pub crossed_out: u64,
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Ledger) {
        self.received += other.received;
        self.originated += other.originated;
        self.sent += other.sent;
        self.consumed += other.consumed;
        self.crossed_in += other.crossed_in;
        self.crossed_out += other.crossed_out;
    }
}
