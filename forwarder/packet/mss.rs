//! The maximum segment size that TCP announces with SYN (RFC 9293 §3.7.1), lowered to what the way
//! carries: else its connection stalls where nobody says "packet too big".

use crate::checksum::Sum;
use crate::header::{Fragment, Kind, be16, tcp_flag};
use crate::packet::TCP_CHECKSUM;
use crate::rewrite::adjust;
use crate::tcp_options::TcpOptions;
use crate::{Checksum, Packet};

/// The option that announces it (RFC 9293 §3.2): kind, length and two bytes.
const MSS: u8 = 2;
const MSS_LENGTH: usize = 4;
/// The TCP header without options.
const TCP_HEADER: usize = 20;

impl Packet {
    /// Lowers the maximum segment size that this SYN announces, so that a packet with it is no
    /// longer than `mtu` bytes: the fixed IP and TCP headers are taken off, as RFC 6691 §2 wants
    /// it. It is never raised, and what is no SYN, announces nothing, or has options that cannot be
    /// read to the announcement, stays as it is. Whether it was lowered.
    pub fn clamp_mss(&mut self, mtu: usize) -> bool {
        let header = &self.header;
        if header.kind != Kind::Tcp
            || header.tcp_flags & tcp_flag::SYN == 0
            || header.fragment == Fragment::Later
        {
            return false;
        }
        let network = if header.is_v4() { 20 } else { 40 };
        let most = mtu.saturating_sub(network + TCP_HEADER);
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        let (start, end) = (usize::from(header.transport), usize::from(header.payload));
        let tcp = &mut self.buf.as_mut_slice()[start..];
        let Some(at) = find(&tcp[TCP_HEADER..end - start]).map(|at| TCP_HEADER + at) else {
            return false;
        };
        if be16(tcp, at) <= most {
            return false;
        }
        // The field may lie across two of the words that the checksum adds up.
        let words = at & !1..(at + 3) & !1;
        let before = Sum::ZERO.bytes(&tcp[words.clone()]).fold();
        tcp[at..at + 2].copy_from_slice(&most.to_be_bytes());
        // A partial checksum covers no option yet.
        if self.offload.checksum == Checksum::Complete {
            let delta = Sum::ZERO.without(before).bytes(&tcp[words]);
            adjust(tcp, usize::from(TCP_CHECKSUM), delta);
        }
        true
    }
}

/// Where the two bytes of the announcement begin among a header's options.
fn find(options: &[u8]) -> Option<usize> {
    let mut readable = TcpOptions::new(options).map_while(Result::ok);
    let option = readable.find(|option| option.kind == MSS)?;
    (option.length == MSS_LENGTH).then_some(option.at + 2)
}
