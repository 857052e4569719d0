//! A stand-in for a node's workers: it reads the TUNs and writes each packet back unchanged, which
//! is what Farlane does with local and world traffic that it allows. Packets to other clusters it
//! keeps; services it translates by address, as far as these tests need.
#![allow(dead_code)] // each test file uses its own part

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use driver::{Tun, TunOffloads, TunSettings};
use farlane::control::host::{Counters, Host, HostPlan};
use packet::{Address, Arena, Offload, Packet};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `work` in a network namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        enter(namespace);
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Moves this thread, and those that it starts, into a network namespace.
fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    // SAFETY: the descriptor is open for the call, and a namespace is all that the call changes.
    let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(answer, 0, "setns {namespace}");
}

/// What `farlane clean` does, in a namespace.
pub(crate) fn clean(namespace: &str) -> Vec<String> {
    inside(namespace, || {
        let names = [String::from("farlane0"), String::from("farlane1")];
        runtime()
            .block_on(farlane::control::host::clean(&names))
            .unwrap()
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

enum Order {
    Update(Box<HostPlan>),
    Refresh,
    AwaitChange,
    Counters,
    Remove,
}

/// What came of an order, and the warnings after it.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) counters: Counters,
    pub(crate) warnings: Vec<String>,
    /// Whether the host changed within a second, when that was the question.
    pub(crate) changed: bool,
}

/// A node that stands in for a real one; dropped, it is as if it was killed.
pub(crate) struct StandIn {
    orders: mpsc::Sender<Order>,
    answers: mpsc::Receiver<Answer>,
    seen: Arc<Mutex<HashMap<(usize, IpAddr, IpAddr), u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What the start said.
    pub(crate) warnings: Vec<String>,
}

impl StandIn {
    /// Makes the plan's TUNs in a namespace, installs the plan, and reflects. `services` are
    /// addresses and what they are translated to. An error is the sentence that a user reads.
    pub(crate) fn start(
        namespace: &str,
        plan: HostPlan,
        services: &[(Address, Address)],
    ) -> Result<StandIn, String> {
        let (orders, order_book) = mpsc::channel();
        let (answering, answers) = mpsc::channel();
        let (starting, started) = mpsc::channel();
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (at, halt, services) = (Arc::clone(&seen), Arc::clone(&stop), services.to_vec());
        let namespace = namespace.to_owned();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let mut reflectors = Vec::new();
            for (worker, name) in plan.tuns.iter().enumerate() {
                let settings = TunSettings {
                    name: name.clone(),
                    mtu: None,
                    up: false,
                    offloads: TunOffloads::None,
                };
                let tun = Tun::create(&settings).unwrap();
                let mut reflector = Reflector {
                    worker,
                    tun: File::from(tun.as_fd().try_clone_to_owned().unwrap()),
                    remote: plan.remote_prefixes.clone(),
                    services: services.clone(),
                    translated: HashMap::new(),
                    arena: Arena::new(0, 2),
                    seen: Arc::clone(&at),
                };
                let halt = Arc::clone(&halt);
                reflectors.push(std::thread::spawn(move || {
                    let _tun = tun;
                    while !halt.load(Ordering::Relaxed) {
                        reflector.turn();
                    }
                }));
            }
            let runtime = runtime();
            match runtime.block_on(Host::install(plan)) {
                Ok(host) => {
                    starting.send(Ok(host.warnings().to_vec())).unwrap();
                    serve(&runtime, host, &order_book, &answering);
                }
                Err(error) => starting.send(Err(error.to_string())).unwrap(),
            }
            halt.store(true, Ordering::Relaxed);
            for reflector in reflectors {
                reflector.join().unwrap();
            }
        });
        let warnings = match started.recv().unwrap() {
            Ok(warnings) => warnings,
            Err(sentence) => {
                thread.join().unwrap();
                return Err(sentence);
            }
        };
        Ok(StandIn {
            orders,
            answers,
            seen,
            stop,
            thread: Some(thread),
            warnings,
        })
    }

    pub(crate) fn update(&self, plan: HostPlan) -> Answer {
        self.ask(Order::Update(Box::new(plan)))
    }

    pub(crate) fn refresh(&self) -> Answer {
        self.ask(Order::Refresh)
    }

    /// Whether the host says that it changed, within a second.
    pub(crate) fn changed(&self) -> bool {
        self.ask(Order::AwaitChange).changed
    }

    pub(crate) fn counters(&self) -> Counters {
        self.ask(Order::Counters).counters
    }

    /// How many packets a worker's TUN gave, between two addresses.
    pub(crate) fn seen(&self, worker: usize, from: &str, to: &str) -> u64 {
        let key = (worker, from.parse().unwrap(), to.parse().unwrap());
        self.seen.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    /// The same when a connection is over: its last packets may still be on their way when its client
    /// is done.
    pub(crate) fn settled(&self, worker: usize, from: &str, to: &str) -> u64 {
        let mut count = self.seen(worker, from, to);
        for _ in 0..25 {
            std::thread::sleep(Duration::from_millis(200));
            let before = count;
            count = self.seen(worker, from, to);
            if count == before {
                break;
            }
        }
        count
    }

    /// A clean end: the rules go, then the TUNs.
    pub(crate) fn end(self) {
        self.ask(Order::Remove);
    }

    /// The kernel's view of a SIGKILL: the TUNs go, nothing else is done.
    pub(crate) fn crash(self) {}

    fn ask(&self, order: Order) -> Answer {
        self.orders.send(order).unwrap();
        self.answers.recv().unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (closed, _) = mpsc::channel();
        self.orders = closed;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                std::thread::panicking() || ended.is_ok(),
                "the stand-in failed"
            );
        }
    }
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    mut host: Host,
    orders: &mpsc::Receiver<Order>,
    answers: &mpsc::Sender<Answer>,
) {
    while let Ok(order) = orders.recv() {
        let mut changed = false;
        match order {
            Order::Update(plan) => runtime.block_on(host.update(*plan)).unwrap(),
            Order::Refresh => runtime.block_on(host.refresh()).unwrap(),
            Order::AwaitChange => {
                let waiting = async { tokio::time::timeout(SECOND, host.changed()).await };
                changed = runtime.block_on(waiting).is_ok();
            }
            Order::Counters => {}
            Order::Remove => {
                runtime.block_on(host.remove()).unwrap();
                let _ = answers.send(Answer::default());
                return;
            }
        }
        // The table may just have been taken away.
        let counters = host.counters().unwrap_or_default();
        let _ = answers.send(Answer {
            counters,
            warnings: host.warnings().to_vec(),
            changed,
        });
    }
}

struct Reflector {
    worker: usize,
    tun: File,
    remote: Vec<packet::Prefix>,
    services: Vec<(Address, Address)>,
    /// (client, backend) → service.
    translated: HashMap<(Address, Address), Address>,
    arena: Arena,
    seen: Arc<Mutex<HashMap<(usize, IpAddr, IpAddr), u64>>>,
}

impl Reflector {
    /// Waits 50 ms at most for one packet.
    fn turn(&mut self) {
        let mut poll = libc::pollfd {
            fd: self.tun.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, which lives through the call.
        if unsafe { libc::poll(&raw mut poll, 1, 50) } < 1 {
            return;
        }
        let mut bytes = [0; 2000];
        let Ok(length) = self.tun.read(&mut bytes) else {
            return;
        };
        let mut buf = self.arena.take().unwrap();
        buf.extend(&bytes[..length]);
        match Packet::parse(buf, Offload::default()) {
            Ok(packet) => self.reflect(packet),
            Err((buf, _)) => self.arena.put(buf),
        }
    }

    fn reflect(&mut self, mut packet: Packet) {
        let flow = packet.header().flow;
        let (from, to) = (flow.source, flow.destination);
        let key = (self.worker, from.to_ip(), to.to_ip());
        *self.seen.lock().unwrap().entry(key).or_default() += 1;
        if !self.remote.iter().any(|prefix| prefix.contains(to)) {
            if let Some((service, backend)) =
                self.services.iter().find(|(service, _)| *service == to)
            {
                self.translated.insert((from, *backend), *service);
                packet.set_destination(*backend, flow.destination_port);
            } else if let Some(service) = self.translated.get(&(to, from)) {
                packet.set_source(*service, flow.source_port);
            }
            // A device that just went takes nothing any more.
            let _ = self.tun.write(packet.bytes());
        }
        self.arena.put(packet.into_buf());
    }
}
