//! What `get=1` tells: gathered from the worker bit by bit, and written down on the connection's own
//! thread.

use std::fmt::Write;
use std::net::SocketAddr;

use tunnel::{PeerStatus, PrivateKey};
use zeroize::Zeroizing;

use super::interface::{EIO, Slice};
use super::request::hex;
use crate::mailbox::{Desk, MailError, Mailbox};

/// Room for the lines about the interface, about a peer without its allowed IPs, and for an allowed
/// IP: with enough of it from the beginning, growing leaves no copy of a key behind.
const INTERFACE_BYTES: usize = 256;
const PEER_BYTES: usize = 512;
const PREFIX_BYTES: usize = 64;

/// What is told of the interface itself.
struct Interface {
    private: Option<PrivateKey>,
    port: u16,
    mark: u32,
}

/// All that `get=1` tells, without its last lines; or an error number.
pub(super) fn describe(mailbox: &Mailbox) -> Result<Zeroizing<String>, i32> {
    let eio = |_: MailError| EIO;
    let interface = mailbox.ask(Interface::of).map_err(eio)?;
    let mut peers: Vec<PeerStatus> = Vec::new();
    let mut from = Some(0);
    while let Some(index) = from {
        let (more, next) = mailbox.ask(move |desk| some(desk, index)).map_err(eio)?;
        peers.extend(more);
        from = next;
    }
    let prefixes: usize = peers.iter().map(|peer| peer.allowed.len()).sum();
    let bytes = INTERFACE_BYTES + PEER_BYTES * peers.len() + PREFIX_BYTES * prefixes;
    let mut text = Zeroizing::new(String::with_capacity(bytes));
    // Writing to a string cannot fail.
    let _ = interface.write(&mut text);
    for peer in &peers {
        let _ = write_peer(peer, &mut text);
    }
    Ok(text)
}

/// As many peers as a slice allows, from a place on; and the place to go on from, if there are more.
fn some(desk: &mut Desk<'_>, from: usize) -> (Vec<PeerStatus>, Option<usize>) {
    let slice = Slice::begin();
    let mut peers = Vec::new();
    let Some(lane) = desk.forwarder.lane(0) else {
        return (peers, None);
    };
    for peer in lane.peers_from(from) {
        let next = peer.id.index() + 1;
        peers.push(peer);
        if slice.is_over() {
            return (peers, Some(next));
        }
    }
    (peers, None)
}

impl Interface {
    fn of(desk: &mut Desk<'_>) -> Interface {
        let lane = desk.forwarder.lane(0);
        let addresses = desk.engine.addresses(0);
        Interface {
            private: lane.and_then(|lane| lane.private_key().cloned()),
            port: addresses.first().map_or(0, SocketAddr::port),
            mark: desk.engine.mark(),
        }
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if let Some(key) = &self.private {
            writeln!(text, "private_key={}", *hex(key.as_bytes()))?;
        }
        writeln!(text, "listen_port={}", self.port)?;
        match self.mark {
            0 => Ok(()),
            mark => writeln!(text, "fwmark={mark}"),
        }
    }
}

fn write_peer(peer: &PeerStatus, text: &mut String) -> std::fmt::Result {
    writeln!(text, "public_key={}", *hex(peer.key.as_bytes()))?;
    let preshared = peer.preshared_key.as_ref();
    let preshared = preshared.map_or(&[0; 32], |key| key.as_bytes());
    writeln!(text, "preshared_key={}", *hex(preshared))?;
    writeln!(text, "protocol_version=1")?;
    if let Some(endpoint) = peer.endpoint {
        writeln!(text, "endpoint={endpoint}")?;
    }
    let last = peer.last_handshake_unix_ns.unwrap_or(0);
    writeln!(text, "last_handshake_time_sec={}", last / 1_000_000_000)?;
    writeln!(text, "last_handshake_time_nsec={}", last % 1_000_000_000)?;
    let (sent, received) = (peer.tx_bytes, peer.rx_bytes);
    writeln!(text, "tx_bytes={sent}\nrx_bytes={received}")?;
    writeln!(text, "persistent_keepalive_interval={}", peer.keepalive_s)?;
    for prefix in &peer.allowed {
        writeln!(text, "allowed_ip={prefix}")?;
    }
    Ok(())
}
