//! What can go wrong on the host, in sentences.

use std::io;

use packet::Address;

use super::WORKERS_MAX;

/// Why the host cannot be set up; each a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no program `nft`.
    #[error("the program nft was not found: install the package nftables")]
    NoNft,
    /// The process may not change the host's network.
    #[error(
        "no right to change this host's network: run as root, or with CAP_NET_ADMIN and a writable /proc/sys"
    )]
    Rights,
    /// `nft` refused a script of ours.
    #[error(
        "nft refused the table farlane ({0}): Farlane needs nftables 0.9.3 and Linux 5.2 or newer"
    )]
    Nft(String),
    /// The kernel refused a request.
    #[error("the kernel refused {what}: {error}")]
    Netlink {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A TUN of the plan is not there.
    #[error("the device {0} does not exist: it must be made before the host's rules")]
    NoDevice(String),
    /// A device's name that cannot be written to nftables.
    #[error("the interface name {0:?} cannot be used in nftables: rename the interface")]
    Name(String),
    /// More workers than marks.
    #[error("{0} workers are more than {WORKERS_MAX}: set `workers` to less")]
    Workers(usize),
    /// A setting of a TUN could not be written.
    #[error("{key} could not be set to {value} ({error}): make /proc/sys writable for Farlane")]
    Sysctl {
        /// Name as sysctl(8) writes it, below `net`.
        key: String,
        /// The value wanted.
        value: String,
        /// The answer.
        error: io::Error,
    },
    /// The host does not forward.
    #[error(
        "this host forwards no packets: set net.{0} to 1 (sysctl -w net.{0}=1, and a file in /etc/sysctl.d to keep it)"
    )]
    Forwarding(String),
    /// Pods that reach each other without the host's routing.
    #[error(
        "the pods on {interface} ({}) meet each other there and never the host's routing, so Farlane would not see it: set `pods.tun.intercept: mesh`, or use a network plug-in that gives each pod an interface of its own",
        pair(.pods)
    )]
    Shared {
        /// The bridge, or the interface with several pods behind it.
        interface: String,
        /// Two pods behind it, or twice the only one.
        pods: [Address; 2],
    },
    /// A service address on the host itself.
    #[error(
        "the service address {0} is bound to this host, as kube-proxy does in its mode ipvs, so pods' packets to it never reach Farlane: run kube-proxy in mode iptables or nftables"
    )]
    BoundService(Address),
}

impl HostError {
    pub(super) fn netlink(what: impl Into<String>, error: &rtnetlink::Error) -> HostError {
        match error {
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -1 => {
                HostError::Rights
            }
            rtnetlink::Error::NetlinkError(message) => HostError::Netlink {
                what: what.into(),
                error: io::Error::from_raw_os_error(-message.raw_code()),
            },
            other => HostError::Netlink {
                what: what.into(),
                error: io::Error::other(other.to_string()),
            },
        }
    }
}

fn pair([one, other]: &[Address; 2]) -> String {
    if one == other {
        one.to_string()
    } else {
        format!("{one} and {other}")
    }
}
