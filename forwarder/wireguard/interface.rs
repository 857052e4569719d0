//! The interface as `wg` sees it: requests carried out on the worker's lane, between two batches.

use std::fmt::Write;
use std::net::SocketAddr;

use driver::UdpSettings;
use tunnel::{Lane, PeerId, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::request::{Invalid, Step, hex, step};
use crate::mailbox::{Desk, MailError, Mailbox};

/// Linux `include/uapi/asm-generic/errno-base.h` and `errno.h`; the interface speaks in these.
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EPROTO: i32 = 71;
const EADDRINUSE: i32 = 98;

/// Answers one request, which `lines` are without its empty last line: the whole reply, ready to be
/// sent.
pub(crate) fn answer(mailbox: &Mailbox, lines: Vec<Zeroizing<String>>) -> Zeroizing<String> {
    let (text, errno) = match lines.first().map(|line| line.as_str()) {
        Some("get=1") if lines.len() == 1 => match mailbox.ask(describe) {
            Ok(text) => (text, 0),
            Err(MailError::Full | MailError::NoAnswer) => (Zeroizing::default(), EIO),
        },
        Some("set=1") => {
            let outcome = mailbox.ask(move |desk| set(desk, &lines[1..]));
            (
                Zeroizing::default(),
                outcome.unwrap_or(Err(EIO)).err().unwrap_or(0),
            )
        }
        _ => (Zeroizing::default(), EPROTO),
    };
    Zeroizing::new(format!("{}errno={errno}\n\n", *text))
}

/// All that `get=1` tells.
fn describe(desk: &mut Desk<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    // Writing to a string cannot fail.
    let _ = describe_to(desk, &mut text);
    text
}

fn describe_to(desk: &mut Desk<'_>, text: &mut String) -> std::fmt::Result {
    let Some(lane) = desk.forwarder.lane(0) else {
        return Ok(());
    };
    if let Some(key) = lane.private_key() {
        writeln!(text, "private_key={}", hex(key.as_bytes()))?;
    }
    let port = desk.engine.addresses(0).first().map_or(0, SocketAddr::port);
    writeln!(text, "listen_port={port}")?;
    match desk.engine.mark() {
        0 => {}
        mark => writeln!(text, "fwmark={mark}")?,
    }
    for peer in lane.peers() {
        writeln!(text, "public_key={}", hex(peer.key.as_bytes()))?;
        let preshared = peer
            .preshared_key
            .as_ref()
            .map_or([0; 32], |key| *key.as_bytes());
        writeln!(text, "preshared_key={}", hex(&preshared))?;
        writeln!(text, "protocol_version=1")?;
        if let Some(endpoint) = peer.endpoint {
            writeln!(text, "endpoint={endpoint}")?;
        }
        let last = peer.last_handshake_unix_ns.unwrap_or(0);
        writeln!(text, "last_handshake_time_sec={}", last / 1_000_000_000)?;
        writeln!(text, "last_handshake_time_nsec={}", last % 1_000_000_000)?;
        writeln!(
            text,
            "tx_bytes={}\nrx_bytes={}",
            peer.tx_bytes, peer.rx_bytes
        )?;
        writeln!(text, "persistent_keepalive_interval={}", peer.keepalive_s)?;
        for prefix in &peer.allowed {
            writeln!(text, "allowed_ip={prefix}")?;
        }
    }
    Ok(())
}

/// Carries out a `set` request line by line; what stood before the first error stays done.
fn set(desk: &mut Desk<'_>, lines: &[Zeroizing<String>]) -> Result<(), i32> {
    let mut subject = Subject::Device;
    for line in lines {
        let step = step(line, !matches!(subject, Subject::Device)).map_err(|Invalid| EINVAL)?;
        match step {
            Step::PrivateKey(_) | Step::ListenPort(_) | Step::Mark(_) | Step::ReplacePeers => {
                device(desk, step)?;
            }
            Step::Peer(key) => {
                subject.settle(desk)?;
                subject = Subject::begin(desk, key)?;
            }
            step => subject.carry_out(desk, step)?,
        }
    }
    subject.settle(desk)
}

fn lane<'a>(desk: &'a mut Desk<'_>) -> Result<&'a mut Lane, i32> {
    desk.forwarder.lane_mut(0).ok_or(EIO)
}

fn device(desk: &mut Desk<'_>, step: Step) -> Result<(), i32> {
    let now = desk.now;
    match step {
        Step::PrivateKey(key) => {
            let lane = desk.forwarder.lane_mut(0).ok_or(EIO)?;
            let own = key.as_ref().map(PrivateKey::public);
            // As others do it: nobody is a peer of itself (wireguard-go `device.go`, SetPrivateKey).
            if let Some(peer) = own.and_then(|own| lane.peer(&own)) {
                lane.remove_peer(peer, &mut desk.out.tunnel);
            }
            lane.set_private_key(now, key);
        }
        Step::ListenPort(port) => {
            let any = UdpSettings::any(port).listen;
            desk.engine.listen(0, &any).map_err(|_| EADDRINUSE)?;
        }
        Step::Mark(mark) => desk.engine.set_mark(mark).map_err(|_| EINVAL)?,
        Step::ReplacePeers => {
            let Some(lane) = desk.forwarder.lane_mut(0) else {
                return Err(EIO);
            };
            let all: Vec<PeerId> = lane.peers().map(|peer| peer.id).collect();
            for peer in all {
                lane.remove_peer(peer, &mut desk.out.tunnel);
            }
        }
        _ => {}
    }
    Ok(())
}

/// What the lines at hand are about.
enum Subject {
    /// The interface itself.
    Device,
    /// A peer that exists.
    Peer(PeerId),
    /// A peer to be made by the next word, unless that is `update_only` or `remove`.
    NewPeer(PublicKey),
    /// A peer that must not be made, or is gone: its words do nothing.
    Nobody,
}

impl Subject {
    fn begin(desk: &mut Desk<'_>, key: PublicKey) -> Result<Subject, i32> {
        let lane = lane(desk)?;
        if lane.public_key() == Some(key) {
            // As others do it: a peer with our own key is passed over in silence.
            return Ok(Subject::Nobody);
        }
        Ok(lane.peer(&key).map_or(Subject::NewPeer(key), Subject::Peer))
    }

    /// Ends the words about one peer: one that was only named is made now.
    fn settle(&mut self, desk: &mut Desk<'_>) -> Result<(), i32> {
        if let Subject::NewPeer(key) = *self {
            let now = desk.now;
            *self = Subject::Peer(lane(desk)?.add_peer(now, key).map_err(|_| EINVAL)?);
        }
        Ok(())
    }

    fn carry_out(&mut self, desk: &mut Desk<'_>, step: Step) -> Result<(), i32> {
        match (&self, &step) {
            (Subject::NewPeer(_), Step::UpdateOnly | Step::Remove) => {
                *self = Subject::Nobody;
                return Ok(());
            }
            (Subject::NewPeer(_), _) => self.settle(desk)?,
            _ => {}
        }
        let Subject::Peer(peer) = *self else {
            return Ok(());
        };
        let (now, out) = (desk.now, &mut desk.out.tunnel);
        let Some(lane) = desk.forwarder.lane_mut(0) else {
            return Err(EIO);
        };
        match step {
            Step::Remove => {
                lane.remove_peer(peer, out);
                *self = Subject::Nobody;
            }
            Step::PresharedKey(key) => lane.set_preshared_key(peer, key),
            Step::Endpoint(endpoint) => lane.set_endpoint(peer, endpoint),
            Step::Keepalive(seconds) => lane.set_keepalive(now, peer, seconds, out),
            Step::ReplaceAllowed => lane.disallow_all(peer),
            Step::Allow(prefix) => lane.allow(peer, prefix),
            _ => {}
        }
        Ok(())
    }
}
