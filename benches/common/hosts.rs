//! A prefix table with many host routes.

use packet::{Address, Prefix, PrefixMap};

/// Host `number`'s address.
pub(crate) fn host(number: u32) -> Address {
    let [_, b, c, d] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
    Address::from_v4([10, b, c, d])
}

/// So many host routes, two networks and a default route.
pub(crate) fn hosts(number: u32) -> PrefixMap<u32> {
    let networks = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/12"];
    let networks = networks.map(|text| text.parse().expect("a prefix"));
    let hosts = (0..number).map(|number| Prefix::host(host(number)));
    hosts.chain(networks).zip(0..).collect()
}
