//! Source addresses: by which of our own addresses a datagram came, so that the answer leaves by
//! it, and which of them the kernel no longer takes.
//!
//! Only the address is asked for, not the interface: routes decide by which interface a datagram
//! leaves, as in Linux (`drivers/net/wireguard/socket.c`, `send4`, whose lookup has no `oif`). A
//! link-local address means nothing without its interface, so there it goes along.

use packet::Local;

/// Addresses that are remembered at most; one that was forgotten costs one more refusal.
const DISOWNED_MAX: usize = 8;

/// Addresses that the kernel has refused as a source. What would leave by one of them leaves by the
/// routing tables' choice, until something comes by it again.
#[derive(Debug, Default)]
pub(crate) struct Disowned {
    addresses: [Option<Local>; DISOWNED_MAX],
    /// How many were added, so that the oldest makes room.
    added: usize,
    any: bool,
}

impl Disowned {
    /// The kernel has refused `local`.
    pub(crate) fn add(&mut self, local: Local) {
        if self.usable(Some(local)).is_none() {
            return;
        }
        let place =
            (self.addresses.iter().position(Option::is_none)).unwrap_or(self.added % DISOWNED_MAX);
        self.addresses[place] = Some(local);
        self.added += 1;
        self.any = true;
    }

    /// Something came by `local`: it is ours.
    #[inline]
    pub(crate) fn own(&mut self, local: Option<Local>) {
        if !self.any || local.is_none() {
            return;
        }
        for address in &mut self.addresses {
            if *address == local {
                *address = None;
            }
        }
        self.any = self.addresses.iter().any(Option::is_some);
    }

    /// `local`, unless the kernel has refused it.
    #[inline]
    pub(crate) fn usable(&self, local: Option<Local>) -> Option<Local> {
        if self.any && local.is_some() && self.addresses.contains(&local) {
            return None;
        }
        local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn local(number: u8) -> Local {
        Local {
            address: IpAddr::from([192, 0, 2, number]),
            interface: 1,
        }
    }

    #[test]
    fn an_address_is_left_out_until_something_comes_by_it_again() {
        let mut disowned = Disowned::default();
        assert_eq!(disowned.usable(None), None);
        assert_eq!(disowned.usable(Some(local(1))), Some(local(1)));
        disowned.add(local(1));
        disowned.add(local(1));
        assert_eq!(disowned.usable(Some(local(1))), None);
        assert_eq!(disowned.usable(Some(local(2))), Some(local(2)));
        disowned.own(Some(local(2)));
        disowned.own(None);
        assert_eq!(disowned.usable(Some(local(1))), None);
        disowned.own(Some(local(1)));
        assert_eq!(disowned.usable(Some(local(1))), Some(local(1)));
        assert!(!disowned.any);
    }

    #[test]
    fn the_oldest_of_too_many_is_tried_again() {
        let mut disowned = Disowned::default();
        let number = u8::try_from(DISOWNED_MAX).unwrap();
        for n in 0..=number {
            disowned.add(local(n));
        }
        assert_eq!(disowned.usable(Some(local(0))), Some(local(0)));
        for n in 1..=number {
            assert_eq!(disowned.usable(Some(local(n))), None);
        }
    }
}
