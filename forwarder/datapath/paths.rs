//! What the paths to the other nodes carry: the probes that go through the tunnel to find it, and
//! the limits that packets are held to.
//!
//! A probe is an ICMP echo request to the node's InternalIP, sealed without padding, so that the
//! datagram on the wire has exactly the size in question. Any node that answers echoes with as many
//! bytes takes part, a foreign WireGuard's host too.
//!
//! Each worker finds out for itself, by a pair of lanes that is its own: workers share nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::IpAddr;
use core::time::Duration;

use packet::{Address, Now, Packet, Time, padded_echo_request};
use siphasher::sip::SipHasher24;

use crate::answers::originate;
use crate::cut::{LEAST_V6, may_be_cut};
use crate::lanes::{Lanes, Via};
use crate::path_size::{BASE, PathSize, PathState};
use crate::{Outbox, Snapshot};

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(250);
/// How often it is begun to speak with a node of which nothing is known; WireGuard repeats each of
/// these for 90 s.
const GREET: Duration = Duration::from_secs(120);
/// The shortest sleep between two looks, however many paths have something due.
const GRAIN: Duration = Duration::from_millis(10);
/// Probes of one worker that may be under way: the bound on what many nodes at once can cost.
const PROBES_MAX: usize = 128;
/// The most that a tunnel adds: IPv6 40, UDP 8, WireGuard 32 bytes. Over IPv4 it is 20 less.
const OVERHEAD_V6: u16 = 80;
const OVERHEAD_V4: u16 = 60;
const WORDS: &[u8; 12] = b"farlane size";

/// What `status` shows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// What is known.
    pub state: PathState,
    /// The longest datagram that is sent, from the outer IP header on, in bytes.
    pub size: u16,
    /// The longest packet that is sent in the tunnel, in bytes.
    pub inner: u16,
    /// Whether packets of 1,280 bytes pass in the tunnel, as IPv6 must be able to send them. If
    /// not, only TCP with a smaller segment size gets over IPv6.
    pub carries_v6: bool,
}

/// The paths to all other nodes.
#[derive(Debug)]
pub(crate) struct Paths {
    /// The largest packet that the TUN gives, in bytes.
    mtu: u16,
    identifier: u16,
    secret: (u64, u64),
    /// By node; beside `paths`, because every packet looks here.
    limits: Vec<Limit>,
    paths: Vec<Path>,
    /// Where the next look begins, so that each gets its turn.
    hand: usize,
    next: Option<Time>,
}

/// What a packet to one node is held to.
#[derive(Clone, Copy, Debug)]
struct Limit {
    v4: u16,
    v6: u16,
    /// The longest packet since the last probes; 0 if there was none.
    used: u16,
}

#[derive(Debug)]
struct Path {
    cluster: u8,
    node: String,
    foreign: bool,
    /// The addresses that are probed with; unspecified where the node has none that we could use.
    from: Address,
    to: Address,
    size: PathSize,
    overhead: u16,
    endpoint: Option<IpAddr>,
    /// When it is tried again to speak with a node of which nothing is known.
    greet_at: Time,
}

impl Paths {
    /// No paths yet. `secret` is what outsiders must not guess; `mtu` is the TUN's.
    pub(crate) fn new(mtu: usize, identifier: u16, secret: (u64, u64)) -> Paths {
        Paths {
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            identifier,
            secret,
            limits: Vec::new(),
            paths: Vec::new(),
            hand: 0,
            next: None,
        }
    }

    /// Follows the nodes of `snapshot`; what is known of those that stay is kept.
    pub(crate) fn adopt(&mut self, now: Now, snapshot: &Snapshot, lanes: &mut Lanes) {
        let mut before = core::mem::take(&mut self.paths);
        for node in &snapshot.nodes {
            let (from, to) = snapshot.echo_pair(node);
            let same = before.iter().position(|path| {
                let own = (path.cluster, &path.node, path.from, path.to, path.foreign);
                own == (node.cluster, &node.name, from, to, !node.knows_lanes)
            });
            self.paths.push(match same {
                Some(place) => before.swap_remove(place),
                None => Path {
                    cluster: node.cluster,
                    node: node.name.clone(),
                    foreign: !node.knows_lanes,
                    from,
                    to,
                    size: PathSize::new(link(self.mtu), !node.knows_lanes),
                    overhead: OVERHEAD_V6,
                    endpoint: None,
                    greet_at: now.time,
                },
            });
        }
        self.limits.clear();
        for number in 0..self.paths.len() {
            self.limits.push(Limit {
                v4: 0,
                v6: 0,
                used: 0,
            });
            self.settle(number, lanes);
        }
        self.hand = 0;
        self.next = (!self.paths.is_empty()).then_some(now.time);
    }

    /// The TUN gives packets of another length from now on.
    pub(crate) fn set_mtu(&mut self, now: Now, mtu: usize, lanes: &mut Lanes) {
        self.mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        for number in 0..self.paths.len() {
            self.paths[number].size.set_link(link(self.mtu));
            self.settle(number, lanes);
        }
        self.next = self.next.map(|_| now.time);
    }

    /// Whether a packet may be sent to `node`: whole, or cut to pieces of so many bytes.
    ///
    /// # Errors
    /// It may not; the length that may be.
    #[inline]
    pub(crate) fn admit(&mut self, node: u32, packet: &Packet) -> Result<Option<u16>, u16> {
        let Some(limit) = self.limits.get_mut(node as usize) else {
            return Ok(None);
        };
        let most = match packet.header().is_v4() {
            true => limit.v4,
            false => limit.v6,
        };
        let length = packet.segment_length();
        if length <= usize::from(most) {
            limit.used = limit.used.max(length as u16);
            return Ok(None);
        }
        if may_be_cut(packet, most) {
            limit.used = limit.used.max(most);
            return Ok(Some(most));
        }
        Err(most)
    }

    /// The longest packet that surely reaches `node`, in bytes.
    pub(crate) fn inner(&self, node: u32) -> u16 {
        self.limits
            .get(node as usize)
            .map_or(self.mtu, |limit| limit.v4)
    }

    /// The own host has refused to send a datagram of `bytes` bytes of UDP payload to `remote`.
    pub(crate) fn refused(&mut self, now: Now, remote: IpAddr, bytes: usize, lanes: &mut Lanes) {
        let outer = bytes + if remote.is_ipv4() { 28 } else { 48 };
        let Ok(outer) = u16::try_from(outer) else {
            return;
        };
        for number in 0..self.paths.len() {
            let path = &mut self.paths[number];
            if path.endpoint != Some(remote) {
                continue;
            }
            if path.size.refused(outer) {
                self.next = Some(now.time);
            }
            self.settle(number, lanes);
        }
    }

    /// Takes an echo reply with our identifier, if it answers a probe of ours: from the address
    /// that was probed, with the words and the length of that probe.
    pub(crate) fn answer(&mut self, now: Now, via: Via, reply: &Packet, lanes: &mut Lanes) {
        let Some(node) = lanes.node(via) else { return };
        let header = reply.header();
        let number = self.number(node, reply);
        let Some(path) = self.paths.get_mut(node as usize) else {
            return;
        };
        if let Some(number) = number.filter(|_| header.flow.source == path.to) {
            let size = header.length.saturating_add(u32::from(path.overhead));
            if let Ok(size) = u16::try_from(size) {
                if path.size.answer(now.time, number, size) {
                    self.next = Some(now.time);
                }
                self.settle(node as usize, lanes);
            }
        }
    }

    /// Whether an echo's identifier is that of these probes.
    pub(crate) fn has_identifier(&self, identifier: u16) -> bool {
        identifier == self.identifier
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now, lanes: &mut Lanes, out: &mut Outbox) {
        if self.next.is_none_or(|next| next > now.time) {
            return;
        }
        let mut room = PROBES_MAX;
        for number in 0..self.paths.len() {
            let live = self.follow(now, number, lanes).is_some();
            let path = &mut self.paths[number];
            let is_new = !live && path.size.is_guessed();
            if is_new && path.greet_at <= now.time && out.takes() > 0 {
                path.greet_at = now.time + GREET;
                lanes.greet(now, number as u32, out);
            }
            let used = match self.limits[number].used {
                0 => 0,
                used => used.saturating_add(path.overhead),
            };
            path.size.handle_timeout(now.time, live, used);
            room = room.saturating_sub(path.size.under_way());
        }
        let count = self.paths.len();
        let mut next = now.time + TICK;
        for turn in 0..count {
            let number = (self.hand + turn) % count;
            self.settle(number, lanes);
            self.probe(now, number, &mut room, lanes, out);
            next = next.min(self.paths[number].size.deadline().unwrap_or(next));
        }
        self.hand = (self.hand + 1) % count.max(1);
        self.next = (count > 0).then_some(next.max(now.time + GRAIN));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    pub(crate) fn status(&self, node: usize) -> Option<PathStatus> {
        let path = self.paths.get(node)?;
        let inner = self.limits.get(node)?.v4;
        Some(PathStatus {
            state: path.size.state(),
            size: path.size.size(),
            inner,
            carries_v6: inner >= LEAST_V6,
        })
    }

    /// Sends the probes of one node that are to be sent.
    fn probe(
        &mut self,
        now: Now,
        number: usize,
        room: &mut usize,
        lanes: &mut Lanes,
        out: &mut Outbox,
    ) {
        let node = number as u32;
        let path = &mut self.paths[number];
        let Some(via) = lanes.live(now, node) else {
            return;
        };
        if path.to == Address::UNSPECIFIED {
            return;
        }
        // A volley that found no buffers would look like a path that swallows it.
        let Some(volley) = path.size.volley(now.time, out.takes().min(*room)) else {
            return;
        };
        *room -= volley.sizes().len();
        self.limits[number].used = 0;
        let (from, to, overhead) = (path.from, path.to, path.overhead);
        let mut payload = [0; 20];
        payload[..12].copy_from_slice(WORDS);
        for size in volley.sizes() {
            let length = size - overhead;
            let token = self.token(node, volley.number, length);
            payload[12..].copy_from_slice(&token.to_be_bytes());
            let Some(mut buf) = out.tunnel.arena.take() else {
                return;
            };
            padded_echo_request(
                (from, to),
                [self.identifier, volley.number],
                &payload,
                usize::from(length),
                &mut buf,
            );
            if let Some(packet) = originate(buf, out) {
                lanes.seal_by(now, via, packet, out);
            }
        }
    }

    /// The number of the round that `reply` answers, if it is one of ours.
    fn number(&self, node: u32, reply: &Packet) -> Option<u16> {
        let at = usize::from(reply.header().transport) + 6;
        let length = u16::try_from(reply.header().length).ok()?;
        let (number, payload) = reply.bytes().get(at..)?.split_first_chunk()?;
        let number = u16::from_be_bytes(*number);
        let token = self.token(node, number, length).to_be_bytes();
        let token_came = payload.strip_prefix(WORDS)?.first_chunk::<8>()?;
        (*token_came == token).then_some(number)
    }

    /// What only this worker can have written into a probe.
    fn token(&self, node: u32, number: u16, length: u16) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(&node.to_be_bytes());
        hasher.write(&number.to_be_bytes());
        hasher.write(&length.to_be_bytes());
        hasher.finish()
    }

    /// The way to a node, if there is one now, and where that leads: another address may be another
    /// path.
    fn follow(&mut self, now: Now, number: usize, lanes: &Lanes) -> Option<Via> {
        let via = lanes.live(now, number as u32)?;
        let endpoint = lanes.endpoint(via)?.ip();
        let path = &mut self.paths[number];
        if path.endpoint != Some(endpoint) {
            path.endpoint = Some(endpoint);
            path.overhead = if endpoint.is_ipv4() {
                OVERHEAD_V4
            } else {
                OVERHEAD_V6
            };
            path.size.moved();
        }
        Some(via)
    }

    /// Brings the limits of a node to what is known of its path.
    fn settle(&mut self, number: usize, lanes: &mut Lanes) {
        let path = &self.paths[number];
        let limit = &mut self.limits[number];
        let carried = path.size.size().saturating_sub(path.overhead);
        let v4 = carried.min(self.mtu);
        // What is not proven is tried with what IPv6 cannot do without.
        let v6 = match path.size.is_guessed() {
            true => v4.max(LEAST_V6).min(self.mtu),
            false => v4,
        };
        if (v4, v6) != (limit.v4, limit.v6) {
            (limit.v4, limit.v6) = (v4, v6);
            lanes.set_peer_mtu(number as u32, usize::from(carried));
        }
    }
}

/// What the own link carries where the TUN has this MTU: the overhead was taken off it. One byte
/// more can still be said.
fn link(mtu: u16) -> u16 {
    mtu.saturating_add(OVERHEAD_V6).clamp(BASE, u16::MAX - 1)
}
