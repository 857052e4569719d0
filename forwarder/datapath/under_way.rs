//! Which bytes of a TCP connection may be under way, as far as a box between its ends can know:
//! an ICMP error about any other was not made by whom it reached (RFC 5927 §4.1).

use packet::{Sequence, tcp_flag};

/// The sequence numbers of one direction that were sent and not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// The first of them: SND.UNA of RFC 9293 §3.3.1.
    unacknowledged: u32,
    /// The one behind them: SND.NXT.
    next: u32,
    /// Whether a segment has been seen that says where they are.
    known: bool,
}

impl UnderWay {
    /// Notes a segment of this direction; `opening` while no answer has been seen.
    #[inline]
    pub(crate) fn sent(&mut self, sequence: &Sequence, tcp_flags: u8, opening: bool) {
        if tcp_flags & tcp_flag::SYN != 0 {
            // Of an open connection it is a repetition, or a blind try to reset it (RFC 5961 §4):
            // the next segment says where the connection is.
            self.known = false;
            if !opening {
                return;
            }
        }
        if !self.known {
            *self = UnderWay {
                unacknowledged: sequence.start,
                next: sequence.end,
                known: true,
            };
        } else if (sequence.end.wrapping_sub(self.next) as i32) > 0 {
            self.next = sequence.end;
        }
    }

    /// Notes what the other direction acknowledges; what was not sent cannot be (RFC 5961 §5).
    #[inline]
    pub(crate) fn acknowledged(&mut self, number: u32) {
        if self.holds(number) {
            self.unacknowledged = number;
        }
    }

    /// What the receiver expects next, if it has got all that was sent.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Whether a reset with this number is a blind one: it is not where the connection is
    /// (RFC 5961 §3; a box between the ends does not know their windows).
    #[inline]
    pub(crate) fn is_blind(&self, number: u32) -> bool {
        self.known && !self.holds(number)
    }

    /// Whether a segment that begins with this number may be under way: one without data begins
    /// where the next one will.
    #[inline]
    pub(crate) fn holds(&self, number: u32) -> bool {
        let length = self.next.wrapping_sub(self.unacknowledged);
        self.known && number.wrapping_sub(self.unacknowledged) <= length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcp_flag::{ACK, SYN};

    fn sent(way: &mut UnderWay, start: u32, length: u32, flags: u8) {
        let sequence = Sequence {
            start,
            end: start.wrapping_add(length),
            acknowledged: None,
        };
        way.sent(&sequence, flags, flags == SYN);
    }

    #[test]
    fn what_was_sent_and_not_acknowledged_is_under_way_and_nothing_else() {
        for first in [1_000, u32::MAX - 50, i32::MAX as u32 - 50] {
            let mut way = UnderWay::default();
            assert!(!way.holds(first), "nothing is known");
            sent(&mut way, first, 1, SYN);
            sent(&mut way, first.wrapping_add(1), 100, ACK);
            let holds = |way: &UnderWay, offset: i32| way.holds(first.wrapping_add_signed(offset));
            assert!(holds(&way, 0) && holds(&way, 1) && holds(&way, 101));
            assert!(!holds(&way, -1) && !holds(&way, 102));
            way.acknowledged(first.wrapping_add(51));
            assert!(!holds(&way, 50) && holds(&way, 51));
            way.acknowledged(first.wrapping_add(102));
            assert!(holds(&way, 51), "that was never sent");
            sent(&mut way, first.wrapping_add(1), 20, ACK);
            assert!(!holds(&way, 1), "a repetition of what has arrived");
            assert!(holds(&way, 101));
        }
    }

    #[test]
    fn a_blind_syn_leaves_it_to_the_next_segment_to_say_where_the_connection_is() {
        let mut way = UnderWay::default();
        sent(&mut way, 1_000, 1, SYN);
        sent(&mut way, 1_001, 10, ACK);
        sent(&mut way, 900_000_000, 1, SYN | ACK);
        assert!(!way.holds(900_000_000));
        sent(&mut way, 1_011, 10, ACK);
        assert!(way.holds(1_011) && !way.holds(900_000_000));
    }
}
