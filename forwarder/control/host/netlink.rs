//! The connection to the kernel's routing, and the bell that rings when others change it.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::RuleAttribute;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{HostError, marks};

/// What may tell that a pod came, went or moved, or that a rule of ours was taken away.
const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// `NFNLGRP_NFTABLES` (`linux/netfilter/nfnetlink.h`).
const NFTABLES_GROUP: u32 = 7;

/// `ENOBUFS` of `asm-generic/errno.h`.
const ENOBUFS: i32 = 105;

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_DELTABLE`.
const TABLE_DELETED: u16 = 10 << 8 | 2;

/// A connection that only asks, which needs no rights: who may not do the rest is told so where it
/// is tried. It ends with its handle.
pub(super) fn asking() -> Result<Handle, HostError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(refused)?;
    tokio::spawn(connection);
    Ok(handle)
}

fn refused(error: std::io::Error) -> HostError {
    HostError::Netlink {
        what: String::from("a netlink socket"),
        error,
    }
}

/// The connection; its tasks end with it.
pub(super) struct Netlink {
    handle: Handle,
    changed: Arc<Notify>,
    tasks: [JoinHandle<()>; 3],
}

impl Netlink {
    /// Opens it in the network namespace of the calling thread, within a tokio runtime.
    pub(super) fn open() -> Result<Netlink, HostError> {
        let (connection, handle, mut events) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(refused)?;
        let tables = tables_socket().map_err(refused)?;
        let changed = Arc::new(Notify::new());
        let bell = Arc::clone(&changed);
        // One task empties the queue of events, so that it never grows.
        let listening = async move {
            while let Some((message, _)) = events.next().await {
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && concerns_us(&message)
                {
                    bell.notify_one();
                }
            }
        };
        let tasks = [
            tokio::spawn(connection),
            tokio::spawn(listening),
            tokio::spawn(watch_tables(tables, Arc::clone(&changed))),
        ];
        Ok(Netlink {
            handle,
            changed,
            tasks,
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns when something changed since it last returned.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Whether to look again: at routes that are not ours, and at rules of ours that are gone.
fn concerns_us(message: &RouteNetlinkMessage) -> bool {
    let ours = RouteProtocol::Other(marks::PROTOCOL);
    match message {
        RouteNetlinkMessage::NewRoute(route) => route.header.protocol != ours,
        RouteNetlinkMessage::NewRule(_) => false,
        RouteNetlinkMessage::DelRule(rule) => {
            rule.attributes.contains(&RuleAttribute::Protocol(ours))
        }
        _ => true,
    }
}

fn tables_socket() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(NFTABLES_GROUP)?;
    Ok(socket)
}

/// Rings when our table is gone: `nft flush ruleset`, as a reload of the distribution's own
/// firewall does it, must not leave local traffic unjudged for long.
async fn watch_tables(socket: TokioSocket, bell: Arc<Notify>) {
    loop {
        match socket.recv_from_full().await {
            Ok((bytes, _)) if !names_our_table_as_deleted(&bytes) => {}
            Ok(_) => bell.notify_one(),
            // More came than the socket holds: who knows what.
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => bell.notify_one(),
            Err(_) => return,
        }
    }
}

/// Reads netlink messages as `linux/netlink.h` lays them out: a header of 16 bytes, netfilter's of
/// four, then attributes, of which the first kind is the table's name.
fn names_our_table_as_deleted(mut bytes: &[u8]) -> bool {
    while let Some((header, _)) = bytes.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 20) else {
            return false;
        };
        if kind == TABLE_DELETED && attribute(&message[20..], 1) == Some(b"farlane\0") {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((header, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, table: &str) -> Vec<u8> {
        let mut attributes = vec![0, 0, 2, 0, 10, 0, 0, 0];
        for (kind, value) in [(3u16, &b"\0\0\0\x07"[..]), (1, table.as_bytes())] {
            let length = 4 + value.len() as u16 + u16::from(kind == 1);
            attributes.extend(length.to_ne_bytes());
            attributes.extend(kind.to_ne_bytes());
            attributes.extend(value);
            attributes.resize(attributes.len() + usize::from(kind == 1), 0);
        }
        let attributes = &attributes[4..];
        let mut bytes = (16 + attributes.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(attributes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn only_the_end_of_our_own_table_is_heard() {
        let gone = message(TABLE_DELETED, "farlane");
        assert!(names_our_table_as_deleted(&gone));
        let others = [
            message(TABLE_DELETED, "kube-proxy"),
            message(10 << 8, "farlane"),
        ]
        .concat();
        assert!(!names_our_table_as_deleted(&others));
        assert!(names_our_table_as_deleted(&[others, gone.clone()].concat()));
        for cut in 0..gone.len() {
            names_our_table_as_deleted(&gone[..cut]);
        }
        assert!(
            !names_our_table_as_deleted(&[0; 64]),
            "a length of zero ends it"
        );
    }
}
