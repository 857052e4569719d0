//! The interface as `wg` sees it: requests carried out on the worker's lane, between two batches,
//! and a large one bit by bit, so that no traffic waits for the end of it.

use std::iter::Flatten;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::vec::IntoIter;

use driver::{UdpError, UdpSettings};
use tunnel::{Lane, PeerId, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::request::{Malformed, Request, Step, Steps};
use super::status::describe;
use crate::mailbox::{Desk, Mailbox};

/// Linux `include/uapi/asm-generic/errno-base.h` and `errno.h`; the interface speaks in these.
const EPERM: i32 = 1;
pub(super) const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EPROTO: i32 = 71;
const EADDRINUSE: i32 = 98;

/// How long a request may hold up the worker at once, give or take one step.
const SLICE: Duration = Duration::from_millis(1);

/// How long a slice has lasted.
pub(super) struct Slice(Instant);

impl Slice {
    pub(super) fn begin() -> Slice {
        Slice(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() >= SLICE
    }
}

/// Answers one request: the whole reply, ready to be sent. `setting` is held by whoever sets: two
/// that set at once do so one after the other.
pub(crate) fn answer(
    mailbox: &Mailbox,
    setting: &Mutex<()>,
    request: Request,
) -> Zeroizing<String> {
    let told = match request {
        Request::Get => describe(mailbox),
        Request::Set(steps) => {
            // Nothing is behind the lock but the turn itself.
            let _turn = setting.lock().unwrap_or_else(PoisonError::into_inner);
            set(mailbox, steps).map(|()| Zeroizing::default())
        }
        Request::Empty | Request::Unknown => Err(EPROTO),
    };
    let (mut text, errno) = match told {
        Ok(text) => (text, 0),
        Err(errno) => (Zeroizing::default(), errno),
    };
    text.push_str(&format!("errno={errno}\n\n"));
    text
}

/// Carries out a `set` request; what stood before the first error stays done.
fn set(mailbox: &Mailbox, Steps { steps, error, .. }: Steps) -> Result<(), i32> {
    let mut work = Work {
        steps: steps.into_iter().flatten(),
        subject: Subject::Device,
        leaving: Vec::new(),
        whole: error.is_none(),
    };
    loop {
        let (rest, outcome) = mailbox
            .ask(move |desk| {
                let outcome = work.slice(desk);
                (work, outcome)
            })
            .map_err(|_| EIO)?;
        if outcome? == Progress::Done {
            return match error {
                None => Ok(()),
                Some(Malformed::Line) => Err(EPROTO),
                Some(Malformed::Word(_)) => Err(EINVAL),
            };
        }
        work = rest;
    }
}

/// What is left to do of a `set` request.
struct Work {
    steps: Flatten<IntoIter<Vec<Step>>>,
    subject: Subject,
    /// Peers that are to be removed before the next step.
    leaving: Vec<PeerId>,
    /// Whether an error does not follow the last step.
    whole: bool,
}

#[derive(PartialEq, Eq)]
enum Progress {
    Done,
    More,
}

impl Work {
    /// Goes on for a while.
    fn slice(&mut self, desk: &mut Desk<'_>) -> Result<Progress, i32> {
        let slice = Slice::begin();
        loop {
            while let Some(peer) = self.leaving.pop() {
                let lane = desk.forwarder.lane_mut(0).ok_or(EIO)?;
                lane.remove_peer(peer, &mut desk.out.tunnel);
                if slice.is_over() {
                    return Ok(Progress::More);
                }
            }
            let Some(step) = self.steps.next() else {
                if self.whole {
                    self.subject.settle(desk)?;
                }
                return Ok(Progress::Done);
            };
            match step {
                Step::ReplacePeers => self.leaving = lane(desk)?.peer_ids().collect(),
                Step::PrivateKey(_) | Step::ListenPort(_) | Step::Mark(_) => device(desk, step)?,
                Step::Peer(key) => {
                    self.subject.settle(desk)?;
                    self.subject = Subject::begin(desk, key)?;
                }
                step => self.subject.carry_out(desk, step)?,
            }
            // The next word decides whether a new peer is made at all.
            let undecided = matches!(self.subject, Subject::NewPeer(_));
            if !undecided && slice.is_over() {
                return Ok(Progress::More);
            }
        }
    }
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
            lane(desk)?.forget_locals();
        }
        Step::Mark(mark) => {
            desk.engine.set_mark(mark).map_err(|error| match error {
                UdpError::NoRights { .. } => EPERM,
                _ => EINVAL,
            })?;
            lane(desk)?.forget_locals();
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
            Step::Disallow(prefix) => lane.disallow(peer, prefix),
            _ => {}
        }
        Ok(())
    }
}
