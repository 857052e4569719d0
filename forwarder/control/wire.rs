//! The TUNs follow the wire: their MTU is what its links take, less what the tunnel adds.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use config::Mtu;
use datapath::Snapshot;

use super::host::{self, HostError};
use super::{Control, ControlError};

/// What a tunnel over IPv6 adds: IPv6 40, UDP 8, WireGuard 32 (facts: 80 bytes, padding aside).
const OVERHEAD: u32 = 80;
/// The wire where nothing else is known: Ethernet.
const WIRE_MTU: u32 = 1_500;
/// Under this the kernel ends IPv6 on a device (RFC 8200 §5; Linux `net/ipv6/addrconf.c`,
/// `addrconf_notify`). What does not fit is told then, or announced by TCP.
const LEAST: u32 = 1_280;
/// Longer than this no packet is (RFC 791 §3.1).
const MOST: u32 = 65_535;

impl Control {
    /// The MTU of the TUNs, in bytes, as the node's file says it or the wire's links have it.
    ///
    /// # Errors
    /// [`ControlError::Host`] if the kernel does not tell about its links.
    pub async fn tun_mtu(&self) -> Result<u32, ControlError> {
        let wire = match self.config.tun.mtu {
            Mtu::Bytes(mtu) => return Ok(u32::from(mtu)),
            Mtu::Auto => {
                let listen = &self.config.wire.listen;
                host::wire_mtu(listen, endpoints(&self.compiled.snapshot)).await?
            }
        };
        Ok(inside(wire.unwrap_or(WIRE_MTU)))
    }

    /// Looks at the wire's links again, and brings TUNs and workers to another MTU if they have
    /// changed.
    pub(super) async fn follow_wire(&mut self) {
        let (Mtu::Auto, Some(host)) = (self.config.tun.mtu, &self.host) else {
            return;
        };
        let found = host.wire_mtu(endpoints(&self.compiled.snapshot)).await;
        if let Ok(Some(wire)) = self.noted(found) {
            self.resize(inside(wire)).await;
        }
    }

    async fn resize(&mut self, mtu: u32) {
        if self.mtu.swap(mtu, Ordering::Relaxed) == mtu {
            return;
        }
        tracing::info!(
            mtu,
            "the links of the wire have another MTU, so the TUNs have"
        );
        for member in self.crew.members() {
            // One that does not take it has ended, and is made anew with it.
            let _ = member
                .mailbox
                .put(move |desk| desk.forwarder.set_mtu(desk.now, mtu as usize));
        }
        let plan = self.plan();
        if let Some(host) = &mut self.host {
            let outcome = host.update(plan).await;
            self.note_host(outcome);
        }
    }

    fn noted(&mut self, found: Result<Option<u32>, HostError>) -> Result<Option<u32>, ()> {
        found.map_err(|error| self.note_host(Err(error)))
    }
}

/// Where the other nodes are, as their objects say.
fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = IpAddr> + '_ {
    let lanes = snapshot.nodes.iter().flat_map(|node| &node.lanes);
    lanes.map(|lane| lane.endpoint.ip())
}

fn inside(wire: u32) -> u32 {
    wire.saturating_sub(OVERHEAD).clamp(LEAST, MOST)
}
