//! What each cluster may say: which addresses it may give to its pods and nodes.
//!
//! A cluster's scope is given by who trusts it, in the node's file, never by itself. The own
//! cluster has none but what is left over by the others.

use std::fmt::Display;

use packet::{Address, Prefix, PrefixMap};

/// Another cluster and its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// All addresses that its pods and nodes may have.
    pub prefixes: Vec<Prefix>,
}

/// The scopes of all clusters.
#[derive(Debug)]
pub(crate) struct Scopes {
    own: u8,
    prefixes: PrefixMap<u8>,
    names: Vec<(u8, String)>,
}

impl Scopes {
    pub(crate) fn new(own: u8, own_name: &str, others: &[Scope]) -> Scopes {
        let mut names = vec![(own, own_name.to_string())];
        names.extend(others.iter().map(|scope| (scope.id, scope.name.clone())));
        let each = |scope: &Scope| -> Vec<(Prefix, u8)> {
            let prefixes = scope.prefixes.iter();
            prefixes.map(|prefix| (*prefix, scope.id)).collect()
        };
        Scopes {
            own,
            prefixes: others.iter().flat_map(each).collect(),
            names,
        }
    }

    /// All clusters that we were told of, the own one first; others do not count.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = u8> {
        self.names.iter().map(|(id, _)| *id)
    }

    /// The name of a cluster.
    pub(crate) fn name(&self, cluster: u8) -> &str {
        let found = self.names.iter().find(|(id, _)| *id == cluster);
        found.map_or("", |(_, name)| name)
    }

    /// Why a cluster may not give out this address, if it may not.
    pub(crate) fn refuses(&self, cluster: u8, address: Address) -> Option<String> {
        if !is_unicast(address) {
            return Some(format!("{address} is no address of one host"));
        }
        let owner = self.prefixes.lookup(address).map(|(_, id)| *id);
        self.verdict(cluster, owner, &address)
    }

    /// Why a cluster may not give out this prefix, if it may not.
    pub(crate) fn refuses_prefix(&self, cluster: u8, prefix: Prefix) -> Option<String> {
        // A scope that covers the prefix covers its first address; one that it covers is inside.
        let owner = match self.prefixes.lookup(prefix.address()) {
            Some((scope, id)) if scope.covers(&prefix) => Some(*id),
            Some(_) => return Some(format!("{prefix} reaches beyond its cluster's prefixes")),
            None => self
                .prefixes
                .iter()
                .find(|(scope, _)| prefix.covers(scope))
                .map(|(_, id)| *id),
        };
        match owner {
            Some(id) if id == cluster && self.prefixes.lookup(prefix.address()).is_none() => {
                Some(format!("{prefix} reaches beyond its cluster's prefixes"))
            }
            owner => self.verdict(cluster, owner, &prefix),
        }
    }

    fn verdict(&self, cluster: u8, owner: Option<u8>, what: &dyn Display) -> Option<String> {
        match owner {
            Some(owner) if owner == cluster => None,
            Some(owner) => Some(format!(
                "{what} lies in the prefixes of cluster {}",
                self.name(owner)
            )),
            None if cluster == self.own => None,
            None => Some(format!(
                "{what} is outside of the prefixes of cluster {}",
                self.name(cluster)
            )),
        }
    }
}

/// Whether an address can be a host's in a network (RFC 6890): not the unspecified one, loopback,
/// link-local, multicast or reserved.
fn is_unicast(address: Address) -> bool {
    match address.v4() {
        Some([169, 254, ..]) => false,
        Some([first, ..]) => first != 0 && first != 127 && first < 224,
        None => {
            let octets = address.octets();
            let link_local = octets[0] == 0xfe && octets[1] & 0xc0 == 0x80;
            let low = octets[..15] == [0; 15] && octets[15] <= 1;
            octets[0] != 0xff && !link_local && !low
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<std::net::IpAddr>().unwrap())
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn scopes() -> Scopes {
        let scope = |name: &str, id, texts: &[&str]| Scope {
            name: name.into(),
            id,
            prefixes: texts.iter().map(|text| prefix(text)).collect(),
        };
        let us = scope("us", 2, &["10.2.0.0/16", "192.0.2.2/32", "fd10:2::/64"]);
        Scopes::new(1, "eu", &[us, scope("asia", 3, &["10.3.0.0/16"])])
    }

    #[test]
    fn a_cluster_speaks_of_its_own_addresses_only() {
        let scopes = scopes();
        assert_eq!(scopes.refuses(2, address("10.2.3.4")), None);
        assert_eq!(scopes.refuses(2, address("fd10:2::9")), None);
        assert_eq!(scopes.refuses(1, address("10.1.0.1")), None);
        assert_eq!(
            scopes.refuses(2, address("10.1.0.1")).unwrap(),
            "10.1.0.1 is outside of the prefixes of cluster us"
        );
        assert_eq!(
            scopes.refuses(1, address("10.2.0.1")).unwrap(),
            "10.2.0.1 lies in the prefixes of cluster us"
        );
        assert_eq!(
            scopes.refuses(2, address("10.3.0.1")).unwrap(),
            "10.3.0.1 lies in the prefixes of cluster asia"
        );
    }

    #[test]
    fn a_prefix_must_lie_in_the_scope_as_a_whole() {
        let scopes = scopes();
        assert_eq!(scopes.refuses_prefix(2, prefix("10.2.7.0/24")), None);
        assert_eq!(scopes.refuses_prefix(1, prefix("10.1.0.0/16")), None);
        for (cluster, text) in [
            (1, "10.2.7.0/24"),
            (1, "10.0.0.0/8"),
            (1, "0.0.0.0/0"),
            (2, "10.2.0.0/15"),
            (2, "10.0.0.0/8"),
            (2, "10.3.0.0/24"),
            (2, "10.1.0.0/24"),
        ] {
            let refused = scopes.refuses_prefix(cluster, prefix(text));
            assert!(refused.is_some(), "{cluster} {text}");
        }
    }

    #[test]
    fn nobody_is_the_loopback_or_a_group() {
        let scopes = scopes();
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(scopes.refuses(1, address(text)).is_some(), "{text}");
        }
    }
}
