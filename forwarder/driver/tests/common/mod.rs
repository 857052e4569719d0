//! An empty network of its own for each test, and a worker's side of an engine in it.
#![allow(dead_code)] // each test file uses its own part

pub(crate) mod build;

use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver::{
    Budget, Dropped, Engine, EngineChoice, EngineError, Sent, Tun, TunOffloads, TunSettings, Udp,
    UdpSettings, Uring, Waker,
};
use packet::{Arena, Batch, Datagrams, Frame, Local, Offload, Packet, Path};

thread_local! {
    /// The engine that this thread's test is about.
    static ENGINE: Cell<EngineChoice> = const { Cell::new(EngineChoice::Epoll) };
}

/// Runs the test with each engine, in a network namespace that lives as long as its thread. Without
/// root, or without the engine, it says that it is skipped, where `scripts/test` counts too.
pub(crate) fn in_empty_network(name: &str, test: impl Fn() + Clone + Send + 'static) {
    // SAFETY: geteuid always succeeds and touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        return skip(name, "network namespaces need root");
    }
    for choice in [EngineChoice::Epoll, EngineChoice::Uring] {
        let (test, name) = (test.clone(), format!("{name} ({choice:?})"));
        let thread = std::thread::spawn(move || {
            // SAFETY: unshare of the network namespace moves this thread alone, and touches no
            // memory.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            ip("link set lo up");
            ENGINE.set(choice);
            match has(choice) {
                Ok(()) => test(),
                Err(why) => skip(&name, &why),
            }
        });
        if let Err(panic) = thread.join() {
            eprintln!("with the engine {choice:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Keeps this thread, and what the kernel does for it, on one processor: the queue of a link is
/// emptied by whoever comes by, two processors at once have put datagrams of one socket into another
/// order (seen once in some hundred runs), and that is not what is asked here.
pub(crate) fn stay_on_one_processor() {
    // SAFETY: a set of processors is plain bits, of which all may be zero; the calls read and write
    // nothing but it, and 0 names this thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        let result = libc::sched_setaffinity(0, size_of_val(&set), &set);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Whether this machine has the engine.
fn has(choice: EngineChoice) -> Result<(), String> {
    match choice {
        EngineChoice::Uring => Uring::try_on(&tun("try%d", TunOffloads::Udp)),
        _ => Ok(()),
    }
}

/// Says that a test is skipped, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(list) = std::env::var_os("FARLANE_SKIPS") {
        let mut list = std::fs::File::options().append(true).open(list).unwrap();
        writeln!(list, "{test}: {reason}").unwrap();
    }
}

/// Runs `ip` in the test's network.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a program in the test's network.
pub(crate) fn run(program: &str, arguments: &str) {
    let children = no_new_child();
    let child = Command::new(program).args(arguments.split(' ')).spawn();
    drop(children);
    let status = child.unwrap().wait();
    assert!(status.unwrap().success(), "{program} {arguments}");
}

/// While this is held no test makes a child. Until a child is another program, it has every file of
/// every test too, and what one of them closes is not closed.
pub(crate) fn no_new_child() -> MutexGuard<'static, ()> {
    static CHILDREN: Mutex<()> = Mutex::new(());
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets a value below `/proc/sys/net`, which shows each thread its own network.
pub(crate) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// A TUN that is up, without an MTU of its own.
pub(crate) fn tun(name: &str, offloads: TunOffloads) -> Tun {
    Tun::create(&TunSettings {
        name: name.into(),
        mtu: None,
        up: true,
        offloads,
    })
    .unwrap()
}

/// A worker without a core.
pub(crate) struct Worker {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) arena: Arena,
    pub(crate) frames: Batch<Frame>,
    pub(crate) datagrams: Batch<Datagrams>,
    pub(crate) pods: Batch<Packet>,
    pub(crate) wire: Batch<Datagrams>,
    pub(crate) sent: Sent,
}

impl Worker {
    pub(crate) fn new(tun: Tun, lanes: Vec<Udp>) -> Worker {
        Worker::with_budget(tun, lanes, Budget::default())
    }

    pub(crate) fn with_budget(tun: Tun, lanes: Vec<Udp>, budget: Budget) -> Worker {
        let choice = ENGINE.get();
        let engine = choice.open(Waker::new().unwrap(), tun, lanes, budget);
        let worker = Worker {
            engine: engine.unwrap(),
            arena: Arena::new(0, 512),
            frames: Batch::with_limit(256),
            datagrams: Batch::with_limit(256),
            pods: Batch::with_limit(256),
            wire: Batch::with_limit(256),
            sent: Sent::default(),
        };
        assert_eq!(worker.is_on("engine.uring"), choice == EngineChoice::Uring);
        worker
    }

    /// One turn that waits for at most `timeout_ms`.
    pub(crate) fn turn(&mut self, timeout_ms: u64) -> Result<(), EngineError> {
        self.engine.turn(
            Some(Duration::from_millis(timeout_ms)),
            &mut self.arena,
            &mut self.frames,
            &mut self.datagrams,
        )
    }

    pub(crate) fn transmit(&mut self) -> Result<(), EngineError> {
        self.engine.transmit(
            &mut self.pods,
            &mut self.wire,
            &mut self.arena,
            &mut self.sent,
        )
    }

    /// Queues a train of frames of `stride` bytes.
    pub(crate) fn queue(
        &mut self,
        lane: u16,
        path: impl Into<Path>,
        ecn: u8,
        stride: usize,
        b: &[u8],
    ) {
        let mut buf = self.arena.take().unwrap();
        buf.extend(b);
        if stride < b.len() {
            buf.set_stride(stride);
        }
        self.wire
            .push(Datagrams {
                lane,
                path: path.into(),
                ecn,
                buf,
            })
            .unwrap();
    }

    /// Queues a packet towards the pods.
    pub(crate) fn queue_packet(&mut self, bytes: &[u8], offload: Offload) {
        let packet = self.packet(bytes, offload);
        self.pods.push(packet).unwrap();
    }

    /// A packet in a buffer of this worker's.
    pub(crate) fn packet(&mut self, bytes: &[u8], offload: Offload) -> Packet {
        let mut buf = self.arena.take().unwrap();
        buf.extend(bytes);
        Packet::parse(buf, offload).unwrap()
    }

    /// Sends and receives until `datagrams` single datagrams have come, and gives them in order,
    /// with the frames of a train apart; fewer when nothing comes any more.
    pub(crate) fn exchange(&mut self, datagrams: usize) -> Vec<Came> {
        let mut came = Vec::new();
        for _ in 0..200 {
            self.transmit().unwrap();
            self.turn(if came.len() < datagrams { 100 } else { 0 })
                .unwrap();
            self.forget_frames();
            while let Some(mut item) = self.datagrams.pop() {
                let in_train = item.buf.frames();
                for frame in item.buf.frames_mut() {
                    came.push(Came {
                        lane: item.lane,
                        remote: item.path.remote,
                        local: item.path.local,
                        ecn: item.ecn,
                        in_train,
                        bytes: frame.to_vec(),
                    });
                }
                self.arena.put(item.buf);
            }
            if came.len() >= datagrams && self.wire.is_empty() {
                break;
            }
        }
        came
    }

    /// Lets go of what the host's own stack says on a new interface.
    pub(crate) fn forget_frames(&mut self) {
        while let Some(frame) = self.frames.pop() {
            self.arena.put(frame.buf);
        }
    }

    /// Lets go of what came from the wire; how many trains that were.
    pub(crate) fn forget_datagrams(&mut self) -> usize {
        let count = self.datagrams.len();
        while let Some(item) = self.datagrams.pop() {
            self.arena.put(item.buf);
        }
        count
    }

    /// Receives frames until `frames` of those that `wanted` names have come.
    pub(crate) fn receive(
        &mut self,
        frames: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Vec<u8>, Offload)> {
        let mut came = Vec::new();
        for _ in 0..50 {
            self.turn(100).unwrap();
            while let Some(frame) = self.frames.pop() {
                if wanted(frame.buf.as_slice()) {
                    came.push((frame.buf.as_slice().to_vec(), frame.offload));
                }
                self.arena.put(frame.buf);
            }
            if came.len() >= frames {
                break;
            }
        }
        came
    }

    /// All that was sent and dropped, and no buffer missing.
    pub(crate) fn assert_settled(&self, pods: u64, wire: u64, dropped: &[(Dropped, u64)]) {
        let mut expected = Sent {
            pods,
            wire,
            too_big: self.sent.too_big,
            ..Sent::default()
        };
        for (cause, segments) in dropped {
            expected.dropped[*cause as usize] = *segments;
        }
        assert_eq!(self.sent, expected);
        assert_eq!(self.arena.lent(), 0, "a buffer did not come home");
    }

    pub(crate) fn is_on(&self, feature: &str) -> bool {
        let features = self.engine.features();
        features
            .iter()
            .find(|have| have.name == feature)
            .unwrap_or_else(|| panic!("no feature {feature} in {features:?}"))
            .on
    }
}

/// One datagram that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) lane: u16,
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<Local>,
    pub(crate) ecn: u8,
    /// How many came together with it, itself included.
    pub(crate) in_train: usize,
    pub(crate) bytes: Vec<u8>,
}

/// A lane on loopback, of one family.
pub(crate) fn lane(lane: u16, address: &str, change: impl FnOnce(&mut UdpSettings)) -> Udp {
    let mut settings = UdpSettings::on(vec![address.parse().unwrap()]);
    change(&mut settings);
    Udp::bind(lane, settings).unwrap()
}

/// So many bytes, of which no two neighbouring datagrams are alike.
pub(crate) fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(31) + at / 251 + salt * 7) as u8)
        .collect()
}
