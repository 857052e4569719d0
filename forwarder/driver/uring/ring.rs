//! The ring itself (io_uring(7)): made, tried, slept on, and left without anything under way.
//!
//! It is made for one thread that submits and reaps (IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN,
//! Linux 6.1), and disabled until that thread is known, because a worker's devices are made on
//! another. Nobody polls the queue for us (SQPOLL would burn a core).

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use packet::{Arena, Batch, Packet};

use super::writes::{WRITES, Writes};
use crate::devices::{Devices, WAKER, Watch, failed, named};
use crate::engine::Outcome;
use crate::udp_receive::EMPTY_IOVEC;
use crate::{EngineError, Sent, Tun, Udp, Waker};

/// What a completion is of, in the upper half of its `user_data`; which one, in the lower.
const READABLE: u64 = 1 << 32;
const ROOM: u64 = 2 << 32;
const FRAME: u64 = 3 << 32;
/// Of something whose end tells nothing.
const NOTHING: u64 = 4 << 32;
const KIND: u64 = !0 << 32;

/// Submissions beside the frames and one for each descriptor that is watched.
const SPARE: usize = 64;
/// How long a trial, or the end of what is under way, may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A frame of no bytes.
const NO_BYTES: &[libc::iovec; 2] = &[EMPTY_IOVEC; 2];

/// What tells that one descriptor has something to read.
#[derive(Clone, Copy)]
struct Poll {
    token: usize,
    state: PollState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PollState {
    /// Not with the kernel.
    Unset,
    Set,
    /// With the kernel until its end is told.
    Ending,
}

/// The ring of one worker, and the frames that are under way by it.
pub(super) struct Ring {
    ring: IoUring,
    pub(super) writes: Writes,
    /// Whether the thread that it belongs to is known.
    enabled: bool,
    /// Whether a sleep is no waiting for a disk (IORING_ENTER_NO_IOWAIT, Linux 6.15); else an idle
    /// worker shows as such in `top`.
    no_iowait: bool,
    waker: RawFd,
    polls: Vec<Poll>,
    /// Whether something was told outside of [`Watch::ask`], which then must not sleep.
    news: bool,
}

impl Ring {
    /// A ring that can watch so many sockets.
    pub(super) fn new(sockets: usize) -> io::Result<Ring> {
        let entries = (WRITES + sockets + SPARE).next_power_of_two();
        let ring = build(entries as u32, true)?;
        Ok(Ring {
            no_iowait: ring.params().is_feature_no_iowait(),
            ring,
            writes: Writes::new(),
            enabled: false,
            waker: -1,
            polls: Vec::new(),
            news: false,
        })
    }

    /// Is told whenever the waker was called, from the next sleep on.
    pub(super) fn add_waker(&mut self, waker: &Waker) {
        self.waker = waker.fd().as_raw_fd();
        self.add(WAKER);
    }

    /// Is told whenever what `token` names has something to read, from the next sleep on.
    pub(super) fn add(&mut self, token: usize) {
        if !self.polls.iter().any(|poll| poll.token == token) {
            let state = PollState::Unset;
            self.polls.push(Poll { token, state });
        }
    }

    /// Sets a poll on what was read empty: it looks before it waits, so what came since is told too.
    /// Ends that of a device which had more than a turn takes: until all of it is read no poll is
    /// needed, and one that is set costs each packet that comes a wake-up, and each turn a call.
    fn adjust_polls(&mut self, devices: &mut Devices, busy: bool) -> io::Result<()> {
        for at in 0..self.polls.len() {
            let Poll { token, state } = self.polls[at];
            let (entry, next) = match (state, devices.is_readable(token)) {
                (PollState::Unset, false) => {
                    let fd = match token {
                        WAKER => Some(self.waker),
                        _ => devices.fd(token),
                    };
                    let Some(fd) = fd else { continue };
                    (readable(token, fd), PollState::Set)
                }
                (PollState::Set, true) if busy => {
                    let end = opcode::AsyncCancel::new(READABLE | token as u64).build();
                    (end.user_data(NOTHING), PollState::Ending)
                }
                _ => continue,
            };
            self.push(&entry)?;
            self.polls[at].state = next;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the entries that come here are polls and their ends, which name no memory.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enable()?;
            self.ring.submit()?;
        }
        Ok(())
    }

    /// From here on the ring is this thread's.
    fn enable(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        Ok(())
    }

    /// Submits what is queued, and sleeps until something is told or `timeout` has passed. For none
    /// at all nothing is asked of the kernel unless the ring's memory says that it has something.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enable()?;
        let (submitter, queue, completions) = self.ring.split();
        let news = self.news || !completions.is_empty();
        if news || timeout == Some(Duration::ZERO) {
            let waits = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
            drop((queue, completions));
            if waits {
                exchange(&mut self.ring)?;
            }
            return Ok(());
        }
        drop((queue, completions));
        let time;
        let mut args = SubmitArgs::new();
        if let Some(timeout) = timeout {
            time = Timespec::from(timeout);
            args = args.timespec(&time);
        }
        let flags = match self.no_iowait {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        submitter.submit_with_args_and_flags(1, &args, flags)?;
        Ok(())
    }

    /// Takes in all that the kernel has told; whether that was anything.
    fn reap(&mut self, devices: &mut Devices) -> bool {
        let mut any = false;
        for completion in self.ring.completion() {
            any = true;
            let name = completion.user_data();
            let (token, result) = ((name & !KIND) as usize, completion.result());
            match name & KIND {
                FRAME => self.writes.note(token, result),
                ROOM if result >= 0 => devices.note_room(token),
                READABLE => {
                    if result != -libc::ECANCELED {
                        devices.note_readable(token);
                    }
                    let over = !cqueue::more(completion.flags());
                    let mut polls = self.polls.iter_mut();
                    if over && let Some(poll) = polls.find(|poll| poll.token == token) {
                        poll.state = PollState::Unset;
                    }
                }
                _ => {}
            }
        }
        any
    }

    /// Writes what is queued for the pods, oldest first, until nothing is left, the device takes no
    /// more, or something is still under way, whose end the next sleep waits for.
    pub(super) fn write_frames(
        &mut self,
        devices: &mut Devices,
        pods: &mut Batch<Packet>,
        arena: &mut Arena,
        sent: &mut Sent,
    ) -> Result<Outcome, EngineError> {
        let fd = Fd(devices.tun.as_fd().as_raw_fd());
        self.enable().map_err(failed("io_uring_register"))?;
        loop {
            if self.writes.is_idle() {
                self.writes.fill(pods);
                self.submit_frames(fd)?;
                self.news |= self.reap(devices);
                // The rest of many refusals; what is done was told by the submission itself.
                while !self.writes.are_over() && self.ring.submission().taskrun() {
                    exchange(&mut self.ring).map_err(failed("io_uring_enter"))?;
                    self.news |= self.reap(devices);
                }
            }
            if !self.writes.are_over() {
                return Ok(Outcome::Drained);
            }
            let settled = self.writes.settle(pods, arena, sent);
            let outcome = settled.map_err(|_| devices.tun.deleted())?;
            if outcome == Outcome::Blocked || pods.is_empty() {
                return Ok(outcome);
            }
        }
    }

    fn submit_frames(&mut self, fd: Fd) -> Result<(), EngineError> {
        for (number, iovecs) in self.writes.waiting() {
            let entry = opcode::Writev::new(fd, iovecs, 2)
                // Done or refused before the submission returns, one after the other.
                .rw_flags(libc::RWF_NOWAIT)
                .build()
                .user_data(FRAME | number as u64);
            // SAFETY: the iovecs, and the header and packet that they point at, are owned by
            // `writes`, which neither changes nor gives them away until `note` was told of this
            // one's completion, and which is not freed before (`Drop` of `Ring`).
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.ring.submit().map_err(failed("io_uring_enter"))?;
            }
        }
        exchange(&mut self.ring).map_err(failed("io_uring_enter"))
    }

    /// Ends what is under way on `fd`, or on everything. The kernel lets go of the files before it
    /// returns to us: what is closed then is closed.
    fn cancel(&mut self, which: CancelBuilder) {
        if !self.enabled {
            return;
        }
        // What still waits to be submitted would hold a file again.
        let _ = self.ring.submit();
        // Nothing under way is no error of ours, and there is nothing to be done about another.
        let patience = Some(Timespec::from(PATIENCE));
        let _ = self.ring.submitter().register_sync_cancel(patience, which);
        // What goes on may be told meanwhile, without end: no more calls than there can be ends.
        let most = self.ring.params().sq_entries();
        for _ in 0..most {
            if exchange(&mut self.ring).is_err() || !self.ring.submission().taskrun() {
                break;
            }
        }
    }
}

impl Watch for Ring {
    fn ask(
        &mut self,
        timeout: Option<Duration>,
        devices: &mut Devices,
    ) -> Result<bool, EngineError> {
        self.adjust_polls(devices, timeout == Some(Duration::ZERO))
            .map_err(failed("io_uring_enter"))?;
        match self.enter(timeout) {
            Err(error) if !is_end_of_sleep(&error) => {
                return Err(failed("io_uring_enter")(error));
            }
            _ => {}
        }
        let news = std::mem::take(&mut self.news);
        Ok(self.reap(devices) || news)
    }

    fn watch(&mut self, fd: RawFd, token: usize, writable: bool) -> Result<(), EngineError> {
        let name = ROOM | token as u64;
        let entry = match writable {
            true => opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32)
                .build()
                .user_data(name),
            false => opcode::PollRemove::new(name).build().user_data(NOTHING),
        };
        self.push(&entry).map_err(failed("io_uring_enter"))
    }

    fn register(&mut self, place: usize, lane: &Udp) -> io::Result<()> {
        named(place, lane)?.for_each(|(token, _)| self.add(token));
        Ok(())
    }

    fn forget(&mut self, place: usize, lane: &Udp) {
        for (_, fd) in named(place, lane).into_iter().flatten() {
            // A poll holds its file: without this the port would stay taken.
            self.cancel(CancelBuilder::fd(Fd(fd)).all());
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.cancel(CancelBuilder::any());
        for completion in self.ring.completion() {
            if completion.user_data() & KIND == FRAME {
                let number = (completion.user_data() & !KIND) as usize;
                self.writes.note(number, completion.result());
            }
        }
        self.writes.forget();
    }
}

/// Whether nothing was told for as long as was to be waited, or a signal came.
fn is_end_of_sleep(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
}

/// Submits what is queued, and has the kernel do what it put off for us (IORING_SETUP_DEFER_TASKRUN):
/// it does that, and so tells of refusals, of ends and of what can be read, only within a call that
/// asks for events. In one call it does no more than a few dozen; IORING_SQ_TASKRUN then says that
/// there are more (Linux `io_uring/io_uring.c`, `io_run_local_work_continue`).
fn exchange(ring: &mut IoUring) -> io::Result<()> {
    loop {
        let queued = ring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is given that the kernel would read, and no entry is submitted but
        // those that were pushed, each with its promise that what it names is alive.
        let entered = unsafe {
            ring.submitter()
                .enter::<libc::sigset_t>(queued, 0, flags, None)
        };
        match entered {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| ()),
        }
    }
}

/// Tells each time that `fd` has something to read, until it is cancelled.
fn readable(token: usize, fd: RawFd) -> squeue::Entry {
    opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(READABLE | token as u64)
}

fn build(entries: u32, disabled: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    if disabled {
        builder.setup_r_disabled();
    }
    builder.dontfork();
    builder.build(entries)
}

/// Tries each thing that the engine does on a ring of its own: a poll that tells more than once, and
/// a frame that is refused at once, because it is too short to be one.
pub(super) fn try_on(tun: &Tun) -> Result<(), String> {
    let mut ring = build(8, false).map_err(|error| refusal(&error))?;
    let waker = Waker::new().map_err(|error| format!("no eventfd ({error})"))?;
    let poll = readable(WAKER, waker.fd().as_raw_fd());
    let write = opcode::Writev::new(Fd(tun.as_fd().as_raw_fd()), NO_BYTES.as_ptr(), 2)
        .rw_flags(libc::RWF_NOWAIT)
        .build()
        .user_data(FRAME);
    for entry in [&poll, &write] {
        // SAFETY: a poll names no memory, and the write two constant iovecs of nothing.
        let pushed = unsafe { ring.submission().push(entry) };
        pushed.map_err(|_| "the ring is too small".to_owned())?;
    }
    let submitted = waker.wake().and_then(|()| exchange(&mut ring));
    submitted.map_err(|error| refusal(&error))?;
    let at_once = ring.completion().any(|completion| {
        let refused = [-libc::EINVAL, -libc::EIO].contains(&completion.result());
        completion.user_data() == FRAME && refused
    });
    if !at_once {
        return Err("the TUN is not written at once by it (Linux before 6.4)".into());
    }
    waker.wake().map_err(|error| refusal(&error))?;
    let time = Timespec::from(PATIENCE);
    let wait = ring
        .submitter()
        .submit_with_args(1, &SubmitArgs::new().timespec(&time));
    wait.map_err(|error| refusal(&error))?;
    let mut told = ring.completion();
    if !told.any(|completion| completion.result() > 0 && cqueue::more(completion.flags())) {
        return Err("it does not poll (Linux before 5.13)".into());
    }
    drop(told);
    // Without it a socket would stay open behind our back.
    let end = CancelBuilder::any();
    let ended = ring.submitter().register_sync_cancel(Some(time), end);
    ended.map_err(|error| format!("what is under way cannot be ended ({error})"))
}

/// Why there is no ring, and what to do about it.
fn refusal(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring".into(),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here: by the container's seccomp profile, or by the sysctl \
             kernel.io_uring_disabled"
                .into()
        }
        Some(libc::EINVAL) => "this kernel's io_uring is too old (Linux before 6.1)".into(),
        _ => format!("the kernel refuses io_uring ({error})"),
    }
}
