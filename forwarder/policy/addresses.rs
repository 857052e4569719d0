//! Sets of addresses: what prefixes with exceptions come to.

use alloc::vec::Vec;

use packet::{Address, Prefix, SearchTree};

/// Addresses as disjoint ranges, by their borders: the first address of one, the first behind it, the
/// first of the next, and so on. However many prefixes they came from, a look-up is one search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    v4: SearchTree<u32>,
    v6: SearchTree<u128>,
}

/// Where IPv4 addresses stand among the sixteen-byte ones (RFC 4291 §2.5.5.2).
const V4: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl Addresses {
    /// Everything in some prefix and not in one of that prefix's exceptions.
    pub(crate) fn of<'a>(cidrs: impl Iterator<Item = (&'a Prefix, &'a [Prefix])>) -> Addresses {
        let mut ranges = Vec::new();
        for (prefix, except) in cidrs {
            let mut left = ranges_of(prefix);
            for hole in except.iter().flat_map(ranges_of) {
                left = without(left, hole);
            }
            ranges.append(&mut left);
        }
        let is_v4 = |range: &(u128, u128)| (V4.0..=V4.1).contains(&range.0);
        let (v4, v6) = ranges.into_iter().partition(is_v4);
        // The border behind the last of all addresses is none.
        let v4 = borders(v4).filter_map(|border| u32::try_from(border - V4.0).ok());
        Addresses {
            v4: SearchTree::of(&v4.collect::<Vec<u32>>()),
            v6: SearchTree::of(&borders(v6).collect::<Vec<u128>>()),
        }
    }

    #[inline]
    pub(crate) fn contains(&self, address: Address) -> bool {
        let number = u128::from_be_bytes(*address.octets());
        let border = if address.is_v4() {
            self.v4.last_from(number as u32)
        } else {
            self.v6.last_from(number)
        };
        // What begins at each second border is no range.
        border.is_some_and(|border| border.is_multiple_of(2))
    }
}

/// The borders of the ranges that some come to.
fn borders(ranges: Vec<(u128, u128)>) -> impl Iterator<Item = u128> {
    let ranges = merged(ranges).into_iter();
    let borders = ranges.flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
    borders.flatten()
}

/// An IPv6 prefix never holds an IPv4 address, although `::/0` spans their place.
fn ranges_of(prefix: &Prefix) -> Vec<(u128, u128)> {
    let bits = u32::from(prefix.length()) + if prefix.is_v4() { 96 } else { 0 };
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    let first = u128::from_be_bytes(*prefix.address().octets()) & !host;
    let range = (first, first | host);
    if prefix.is_v4() {
        Vec::from([range])
    } else {
        without(Vec::from([range]), V4)
    }
}

fn without(ranges: Vec<(u128, u128)>, hole: (u128, u128)) -> Vec<(u128, u128)> {
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for (first, last) in ranges {
        if last < hole.0 || hole.1 < first {
            left.push((first, last));
            continue;
        }
        if first < hole.0 {
            left.push((first, hole.0 - 1));
        }
        if hole.1 < last {
            left.push((hole.1 + 1, last));
        }
    }
    left
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn address(text: &str) -> Address {
        text.parse::<core::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn exceptions_are_cut_out_of_their_own_prefix_only() {
        let one = (
            prefix("10.0.0.0/8"),
            vec![prefix("10.1.0.0/16"), prefix("10.3.0.0/16")],
        );
        let two = (prefix("10.1.2.0/24"), vec![prefix("10.1.2.128/25")]);
        let cidrs = [&one, &two];
        let set = Addresses::of(cidrs.into_iter().map(|(p, e)| (p, e.as_slice())));
        for (text, is) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.1.0.0", false),
            ("10.1.2.0", true),
            ("10.1.2.127", true),
            ("10.1.2.128", false),
            ("10.2.255.255", true),
            ("10.3.0.0", false),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("::a00:0", false),
        ] {
            assert_eq!(set.contains(address(text)), is, "{text}");
        }
    }

    #[test]
    fn the_whole_of_one_family_is_nothing_of_the_other() {
        let (four, six) = (prefix("0.0.0.0/0"), prefix("::/0"));
        let four = Addresses::of([(&four, [].as_slice())].into_iter());
        let six = Addresses::of([(&six, [].as_slice())].into_iter());
        for text in ["0.0.0.0", "10.0.0.1", "255.255.255.255"] {
            assert!(
                four.contains(address(text)) && !six.contains(address(text)),
                "{text}"
            );
        }
        for text in ["::", "::1", "::fffe:ffff:ffff", "::1:0:0:0", "fd00::1"] {
            assert!(
                six.contains(address(text)) && !four.contains(address(text)),
                "{text}"
            );
        }
    }

    #[test]
    fn ranges_reach_to_both_ends_of_a_family() {
        let prefixes = ["0.0.0.0/32", "255.255.255.254/31", "::/128", "ffff::/16"].map(prefix);
        let set = Addresses::of(prefixes.iter().map(|prefix| (prefix, [].as_slice())));
        for (text, is) in [
            ("0.0.0.0", true),
            ("0.0.0.1", false),
            ("255.255.255.253", false),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", false),
            ("fffe:ffff::", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ] {
            assert_eq!(set.contains(address(text)), is, "{text}");
        }
    }

    #[test]
    fn an_exception_of_everything_leaves_nothing() {
        let all = prefix("::/0");
        let set = Addresses::of([(&all, [all].as_slice())].into_iter());
        assert_eq!(set, Addresses::default());
        assert!(!set.contains(Address::UNSPECIFIED));
    }
}
