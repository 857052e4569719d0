//! The options of a TCP header (RFC 9293 §3.1), one after the other.

/// Kinds of options (RFC 9293 §3.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// One option: its kind, where it begins, and its length, kind and length byte among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpOption {
    pub(crate) kind: u8,
    pub(crate) at: usize,
    pub(crate) length: usize,
}

/// From here on the options cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Reads options to their end, or to the first that is no option; padding is passed over.
pub(crate) struct TcpOptions<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> TcpOptions<'a> {
    /// `bytes` is all that a TCP header has behind its fixed part.
    pub(crate) fn new(bytes: &'a [u8]) -> TcpOptions<'a> {
        TcpOptions { bytes, at: 0 }
    }
}

impl Iterator for TcpOptions<'_> {
    type Item = Result<TcpOption, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.bytes.get(self.at) == Some(&NO_OPERATION) {
            self.at += 1;
        }
        let at = self.at;
        let kind = *self.bytes.get(at).filter(|kind| **kind != END)?;
        let length = self.bytes.get(at + 1).map(|length| usize::from(*length));
        let fits = length.filter(|length| *length >= 2 && at + length <= self.bytes.len());
        self.at = fits.map_or(self.bytes.len(), |length| at + length);
        Some(fits.map_or(Err(Unreadable), |length| Ok(TcpOption { kind, at, length })))
    }
}
