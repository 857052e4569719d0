//! An IPv4 packet cut into fragments (RFC 791 §2.3, §3.2), where its sender allows it.

use crate::checksum;
use crate::header::be16;
use crate::{Buf, Checksum, Packet};

/// Bit of an option's kind: it is copied into every fragment (RFC 791 §3.1).
const COPIED: u8 = 0x80;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// More fragments follow.
const MORE: u16 = 0x2000;
/// The offset, in units of eight bytes.
const OFFSET: u16 = 0x1fff;
/// The longest IPv4 header.
const HEADER_MAX: usize = 60;

/// The fragments of one packet, in order. Each is a whole IPv4 packet; their receiver puts them
/// together. A packet that is a fragment itself gives fragments of the same datagram.
#[derive(Debug)]
pub struct Fragmenter<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    /// The longest fragment, in bytes.
    mtu: usize,
    /// Flags and offset of the packet.
    word: u16,
    done: usize,
    ended: bool,
}

impl<'a> Fragmenter<'a> {
    /// Cuts `packet` into fragments of at most `mtu` bytes. `None` where it must not be cut (IPv6,
    /// DF), where that is not defined (a super-packet, an unfinished checksum), or where not even
    /// eight bytes fit behind a header.
    pub fn new(packet: &'a Packet, mtu: usize) -> Option<Fragmenter<'a>> {
        let bytes = packet.bytes();
        let whole = packet.segments() == 1 && packet.offload().checksum == Checksum::Complete;
        if packet.header().dont_fragment || !whole || mtu < HEADER_MAX + 8 {
            return None;
        }
        let length = usize::from(bytes[0] & 15) * 4;
        let (header, payload) = bytes.split_at(length);
        Some(Fragmenter {
            header,
            payload,
            mtu,
            word: be16(header, 6),
            done: 0,
            ended: false,
        })
    }

    /// How many payload bytes are still to come; a packet without any is one fragment all the same.
    pub fn remaining(&self) -> usize {
        if self.ended {
            return 0;
        }
        (self.payload.len() - self.done).max(1)
    }

    /// Writes the next fragment to `into`, which is emptied first, and stays empty when there is
    /// none left.
    pub fn next(&mut self, into: &mut Buf) {
        into.reset();
        if self.ended {
            return;
        }
        let rest = self.payload.len() - self.done;
        let mut header = [0; HEADER_MAX];
        let length = self.write_header(&mut header);
        let room = self.mtu - length;
        // All but the last are multiples of eight bytes.
        let (size, more) = if rest <= room {
            (rest, self.word & MORE)
        } else {
            (room & !7, MORE)
        };
        let offset = (self.word & OFFSET) + (self.done / 8) as u16;
        header[2..4].copy_from_slice(&((length + size) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(offset & OFFSET | more).to_be_bytes());
        let sum = checksum::internet(&header[..length]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        into.extend(&header[..length]);
        into.extend(&self.payload[self.done..][..size]);
        self.done += size;
        self.ended = self.done == self.payload.len();
    }

    /// The header of the next fragment, its length, offset and checksum still open; how long it is.
    fn write_header(&self, into: &mut [u8; HEADER_MAX]) -> usize {
        into[..20].copy_from_slice(&self.header[..20]);
        into[10..12].fill(0);
        let mut length = 20;
        let mut options = &self.header[20..];
        if self.done == 0 {
            into[20..self.header.len()].copy_from_slice(options);
            return self.header.len();
        }
        while let [kind, rest @ ..] = options {
            let size = match *kind {
                END => break,
                NO_OPERATION => 1,
                _ => usize::from(rest.first().copied().unwrap_or(0)).max(2),
            };
            let (option, rest) = options.split_at(size.min(options.len()));
            if kind & COPIED != 0 {
                into[length..length + option.len()].copy_from_slice(option);
                length += option.len();
            }
            options = rest;
        }
        // Filled up with zeros, which end the options.
        length = length.next_multiple_of(4);
        into[0] = 0x40 | (length / 4) as u8;
        length
    }
}
