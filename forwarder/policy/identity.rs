//! Numbers that stand for sets of labels.

use core::fmt;

/// The number of an identity, in Cilium's ranges (`pkg/identity/numericidentity.go`): 24 bits on
/// the wire, `cluster << 16 | n`; under 256 reserved; bit 24 marks numbers that mean something on
/// one node only. The labels are the identity, this is an index: two clusters' numbers never mean
/// the same labels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

impl Identity {
    /// Not known. Such a party is always denied.
    pub const UNKNOWN: Identity = Identity(0);
    /// This node itself.
    pub const HOST: Identity = Identity(1);
    /// Everything outside the mesh.
    pub const WORLD: Identity = Identity(2);
    /// A pod that no policy engine looks after.
    pub const UNMANAGED: Identity = Identity(3);
    /// Cilium's health endpoint.
    pub const HEALTH: Identity = Identity(4);
    /// A pod whose labels are not known yet.
    pub const INIT: Identity = Identity(5);
    /// Any other node of the mesh.
    pub const REMOTE_NODE: Identity = Identity(6);
    /// Where the Kubernetes API is served.
    pub const KUBE_APISERVER: Identity = Identity(7);
    /// Cilium's ingress proxy.
    pub const INGRESS: Identity = Identity(8);
    /// The IPv4 half of [`Identity::WORLD`], where the two are told apart.
    pub const WORLD_V4: Identity = Identity(9);
    /// The IPv6 half of [`Identity::WORLD`].
    pub const WORLD_V6: Identity = Identity(10);

    /// The first number that is not reserved.
    pub const RESERVED_END: u32 = 256;

    /// The `n`th identity of a cluster. Cluster 0 is one that is in no mesh; its first 256 numbers
    /// are the reserved ones, so there is none for those.
    pub const fn of_cluster(cluster: u8, n: u16) -> Option<Identity> {
        let number = (cluster as u32) << 16 | n as u32;
        if number < Identity::RESERVED_END {
            None
        } else {
            Some(Identity(number))
        }
    }

    /// Whether this is one of the fixed identities, [`Identity::UNKNOWN`] included. They have no
    /// labels that a pod selector could match.
    #[inline]
    pub const fn is_reserved(self) -> bool {
        self.0 < Identity::RESERVED_END
    }

    /// Whether this is something outside of the mesh.
    #[inline]
    pub const fn is_world(self) -> bool {
        matches!(
            self,
            Identity::WORLD | Identity::WORLD_V4 | Identity::WORLD_V6
        )
    }

    /// The cluster whose labels this number stands for; `None` for reserved numbers and for those
    /// that mean something on one node only.
    pub const fn cluster(self) -> Option<u8> {
        if self.is_reserved() || self.0 >> 24 != 0 {
            None
        } else {
            Some((self.0 >> 16) as u8)
        }
    }

    /// Whether a cluster with this id may give this number a meaning. What it says of any other
    /// number, the reserved ones first of all, must not be believed.
    pub fn is_within(self, cluster: u8) -> bool {
        self.cluster() == Some(cluster)
    }

    /// The name of a reserved identity, as Cilium writes it behind `reserved:`.
    pub const fn reserved_name(self) -> Option<&'static str> {
        Some(match self {
            Identity::UNKNOWN => "unknown",
            Identity::HOST => "host",
            Identity::WORLD => "world",
            Identity::UNMANAGED => "unmanaged",
            Identity::HEALTH => "health",
            Identity::INIT => "init",
            Identity::REMOTE_NODE => "remote-node",
            Identity::KUBE_APISERVER => "kube-apiserver",
            Identity::INGRESS => "ingress",
            Identity::WORLD_V4 => "world-ipv4",
            Identity::WORLD_V6 => "world-ipv6",
            _ => return None,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_clusters_range_is_its_id_and_sixteen_bits() {
        assert_eq!(Identity::of_cluster(3, 0), Some(Identity(0x03_0000)));
        assert_eq!(Identity::of_cluster(3, 0xffff), Some(Identity(0x03_ffff)));
        assert_eq!(Identity::of_cluster(255, 7), Some(Identity(0xff_0007)));
        assert_eq!(Identity::of_cluster(0, 255), None);
        assert_eq!(Identity::of_cluster(0, 256), Some(Identity(256)));
    }

    #[test]
    fn no_cluster_may_speak_of_numbers_outside_its_range() {
        for (number, owner) in [
            (0, None),
            (2, None),
            (255, None),
            (256, Some(0)),
            (0x00_ffff, Some(0)),
            (0x01_0000, Some(1)),
            (0xff_ffff, Some(255)),
            (0x0100_0000, None),
            (0x0101_0005, None),
            (u32::MAX, None),
        ] {
            assert_eq!(Identity(number).cluster(), owner, "{number:#x}");
            for cluster in 0..=255 {
                let within = Identity(number).is_within(cluster);
                assert_eq!(within, owner == Some(cluster), "{number:#x} in {cluster}");
            }
        }
    }

    #[test]
    fn reserved_identities_are_written_by_name() {
        assert_eq!(Identity::WORLD.to_string(), "world");
        assert_eq!(Identity(10).to_string(), "world-ipv6");
        assert_eq!(Identity(11).to_string(), "11");
        assert_eq!(Identity(0x01_0000).to_string(), "65536");
    }
}
