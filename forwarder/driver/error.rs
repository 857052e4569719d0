//! What can go wrong when a device is set up, each in one sentence that says what to do.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a TUN could not be made or changed.
#[derive(Debug, Error)]
pub enum TunError {
    /// The module is missing, or the container was not given the device.
    #[error(
        "there is no /dev/net/tun: load the module with `modprobe tun`, or give the container the device"
    )]
    NoTun,
    /// Opening `/dev/net/tun` or making the interface was refused.
    #[error(
        "no right to make the interface {name}: run as root or with CAP_NET_ADMIN, and let the container use /dev/net/tun"
    )]
    NoRights {
        /// The interface that was asked for.
        name: String,
    },
    /// Another program has it, or it is no TUN.
    #[error(
        "the interface name {name} is taken: end the program that holds it, remove it with `ip link delete {name}`, or choose another name"
    )]
    NameTaken {
        /// The interface that was asked for.
        name: String,
    },
    /// The kernel takes 1 to 15 bytes without `/`, `:` and white space.
    #[error(
        "{name:?} cannot be the name of an interface: use 1 to 15 letters, digits, `-`, `_` or `.`"
    )]
    BadName {
        /// The interface that was asked for.
        name: String,
    },
    /// Outside of what a TUN can have.
    #[error("the MTU {mtu} is refused for {name}: use 1280 to 65535 ({error})")]
    BadMtu {
        /// The interface.
        name: String,
        /// The MTU that was asked for, in bytes.
        mtu: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("the interface {name} could not be set up: {step} failed ({error})")]
    Kernel {
        /// The interface.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Why a UDP socket could not be made or changed.
#[derive(Debug, Error)]
pub enum UdpError {
    /// Another program listens there.
    #[error(
        "UDP {address} is in use: end the program that listens there (`ss -lunp` shows it), or choose another port"
    )]
    InUse {
        /// Where it should have listened.
        address: SocketAddr,
    },
    /// No interface of this host has it.
    #[error(
        "UDP {address} cannot be listened on, because this host does not have the address: add it to an interface, or choose one of `ip address`"
    )]
    NotOurs {
        /// Where it should have listened.
        address: SocketAddr,
    },
    /// A low port, or a firewall mark, without the capability.
    #[error(
        "no right to {step} for UDP {address}: run as root or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"
    )]
    NoRights {
        /// Where it should have listened.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
    },
    /// Nothing to listen on is left.
    #[error("lane {lane} has no address to listen on: give at least one that this host can use")]
    NoAddress {
        /// The lane.
        lane: u16,
    },
    /// The engine was not given such a lane.
    #[error("this worker does not have lane {lane}")]
    NoLane {
        /// The lane.
        lane: u16,
    },
    /// Anything else that the kernel refused.
    #[error("UDP {address} could not be set up: {step} failed ({error})")]
    Kernel {
        /// Where it should have listened.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Why an engine cannot go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Somebody deleted the interface: the program ends, that is the contract of a WireGuard
    /// program.
    #[error("the interface {name} was deleted")]
    Deleted {
        /// The interface.
        name: String,
    },
    /// The kernel refused what it never should.
    #[error("{step} failed ({error})")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}
