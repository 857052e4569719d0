//! The connection to the kernel's routing, and the bell that rings when others change it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{HostError, marks};

/// What may tell that a pod came, went or moved.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// The connection; its tasks end with it.
pub(super) struct Netlink {
    handle: Handle,
    changed: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Netlink {
    /// Opens it in the network namespace of the calling thread, within a tokio runtime.
    pub(super) fn open() -> Result<Netlink, HostError> {
        let opened = rtnetlink::new_multicast_connection(&GROUPS);
        let (connection, handle, mut events) = opened.map_err(|error| HostError::Netlink {
            what: String::from("a netlink socket"),
            error,
        })?;
        let changed = Arc::new(Notify::new());
        let bell = Arc::clone(&changed);
        // One task empties the queue of events, so that it never grows.
        let listening = async move {
            while let Some((message, _)) = events.next().await {
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && !is_ours(&message)
                {
                    bell.notify_one();
                }
            }
        };
        Ok(Netlink {
            handle,
            changed,
            tasks: [tokio::spawn(connection), tokio::spawn(listening)],
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

fn is_ours(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol == RouteProtocol::Other(marks::PROTOCOL)
        }
        _ => false,
    }
}
