//! The host's side of interception: what brings packets from its pods to the TUNs and back.
//!
//! A pod's packet comes in by the pod's own interface; the nftables table `farlane` marks it for
//! the worker that owns the pod; a policy rule leads the mark to the worker's routing table, and
//! that to the worker's TUN. What Farlane writes back the host routes as it always would. Other
//! clusters' prefixes lead to a TUN whoever sends there, the host included. Behind each route to a
//! TUN stands a blackhole: when the process dies its TUNs go, and nothing leaves in the clear.
//!
//! Nothing here is tied to the process. [`Host::remove`] takes everything away at a clean end,
//! [`clean`] does after a crash, and [`Host::install`] over leftovers only does what differs.
//!
//! Not touched, because it is the host's: forwarding, firewalls, other tables, other devices. What
//! stands in the way there is an error or a warning that says what to do. The traffic between the
//! host and its own pods goes as ever.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use packet::{Address, Prefix};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

mod links;
mod marks;
mod nft;
mod pods;
mod probe;
mod rules;
mod ruleset;

pub use marks::{MARK_MASK, WIRE_MARK, WORKERS_MAX};

use ruleset::Ruleset;

/// What passes through Farlane (`pods.tun.intercept`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intercept {
    /// Everything that local pods send and receive, except to and from the host itself.
    All,
    /// The other clusters' prefixes and the global services' cluster addresses.
    Mesh,
}

/// What happens to packets that belong to Farlane when it is gone (`pods.tun.onCrash`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrash {
    /// They are dropped until it is back, or [`clean`] was called.
    Closed,
    /// The host routes them as if Farlane had never been there.
    Open,
}

/// All that the host's rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// The name of each worker's TUN; the devices are there already. At most [`WORKERS_MAX`].
    pub tuns: Vec<String>,
    /// The TUNs' MTU, in bytes of IP packet.
    pub mtu: u32,
    /// What passes through.
    pub intercept: Intercept,
    /// What a crash leaves.
    pub on_crash: OnCrash,
    /// Each local pod's addresses, with the worker that owns it (an index into `tuns`).
    pub local_pods: Vec<(Address, u16)>,
    /// The other clusters' pods and nodes.
    pub remote_prefixes: Vec<Prefix>,
    /// Cluster addresses of global services.
    pub global_frontends: Vec<Address>,
    /// Cluster addresses of all services.
    pub service_frontends: Vec<Address>,
    /// This node's InternalIPs: the source of what the host itself sends to other clusters.
    pub own_addresses: Vec<Address>,
    /// Where the wire listens; an unspecified address stands for all of `own_addresses`.
    pub wire: Vec<SocketAddr>,
}

/// Packets that the table dropped, each kind since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// With a local pod's source, but not from that pod's interface.
    pub spoofed: u64,
    /// From a pod's interface, but with a source that is not the pod's.
    pub foreign: u64,
    /// From or to another cluster, outside the tunnel.
    pub clear: u64,
}

/// Why the host cannot be set up; each a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no program `nft`.
    #[error("the program nft was not found: install the package nftables")]
    NoNft,
    /// The process may not change the host's network.
    #[error(
        "no right to change this host's network: run as root, or with CAP_NET_ADMIN and a writable /proc/sys"
    )]
    Rights,
    /// `nft` refused a script of ours.
    #[error(
        "nft refused the table farlane ({0}): Farlane needs nftables 0.9.3 and Linux 5.2 or newer"
    )]
    Nft(String),
    /// The kernel refused a request.
    #[error("the kernel refused {what}: {error}")]
    Netlink {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A TUN of the plan is not there.
    #[error("the device {0} does not exist: it must be made before the host's rules")]
    NoDevice(String),
    /// A device's name that cannot be written to nftables.
    #[error("the interface name {0:?} cannot be used in nftables: rename the interface")]
    Name(String),
    /// More workers than marks.
    #[error("{0} workers are more than {WORKERS_MAX}: set `workers` to less")]
    Workers(usize),
    /// A setting of a TUN could not be written.
    #[error("{key} could not be set to {value} ({error}): make /proc/sys writable for Farlane")]
    Sysctl {
        /// Name as sysctl(8) writes it, below `net`.
        key: String,
        /// The value wanted.
        value: String,
        /// The answer.
        error: io::Error,
    },
    /// The host does not forward.
    #[error(
        "this host forwards no packets: set net.{0} to 1 (sysctl -w net.{0}=1, and a file in /etc/sysctl.d to keep it)"
    )]
    Forwarding(String),
    /// Pods that reach each other without the host's routing.
    #[error(
        "the pods on {interface} ({}) meet each other there and never the host's routing, so Farlane would not see it: set `pods.tun.intercept: mesh`, or use a network plug-in that gives each pod an interface of its own",
        pair(.pods)
    )]
    Shared {
        /// The bridge, or the interface with several pods behind it.
        interface: String,
        /// Two pods behind it, or twice the only one.
        pods: [Address; 2],
    },
    /// A service address on the host itself.
    #[error(
        "the service address {0} is bound to this host, as kube-proxy does in its mode ipvs, so pods' packets to it never reach Farlane: run kube-proxy in mode iptables or nftables"
    )]
    BoundService(Address),
}

/// The rules of a running node on its host. Dropping it changes nothing on the host.
pub struct Host {
    handle: Handle,
    plan: HostPlan,
    applied: Ruleset,
    warnings: Vec<String>,
    changed: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Host {
    /// Sets the host up, in the network namespace of the calling thread, over whatever an earlier
    /// node left. Needs a tokio runtime; the TUNs must exist.
    pub async fn install(plan: HostPlan) -> Result<Host, HostError> {
        check(&plan)?;
        probe::forwarding(&plan)?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, mut events) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|error| HostError::Netlink {
                what: "a netlink socket".to_owned(),
                error,
            })?;
        let connection = tokio::spawn(connection);
        let changed = Arc::new(Notify::new());
        let bell = Arc::clone(&changed);
        let listener = tokio::spawn(async move {
            while let Some((message, _)) = events.next().await {
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && !is_ours(&message)
                {
                    bell.notify_one();
                }
            }
        });
        let tasks = [connection, listener];
        let applied = Ruleset::new(&plan, Default::default());
        let mut host = Host {
            handle,
            plan,
            applied,
            warnings: Vec::new(),
            changed,
            tasks,
        };
        let refusals = host.apply(None, true).await?;
        match refusals.into_iter().next() {
            Some(refusal) => Err(refusal),
            None => Ok(host),
        }
    }

    /// Brings the host to another plan, doing only what differs. What would have kept the node from
    /// starting is a warning here: the rest is done.
    pub async fn update(&mut self, plan: HostPlan) -> Result<(), HostError> {
        check(&plan)?;
        let before = self.applied.clone();
        self.plan = plan;
        let there = nft::table_exists()?;
        let refusals = self.apply(there.then_some(&before), false).await?;
        let forwarding = probe::forwarding(&self.plan).err();
        self.warnings
            .extend(refusals.iter().chain(&forwarding).map(ToString::to_string));
        Ok(())
    }

    /// Looks again where the pods are, and repairs what somebody else removed.
    pub async fn refresh(&mut self) -> Result<(), HostError> {
        self.update(self.plan.clone()).await
    }

    /// Returns when links, addresses or routes of the host changed since the last return, which is
    /// when [`Host::refresh`] may find more. Changes come in bursts: wait a little before it.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is not as it should be, one sentence each, as of the last change.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the table dropped so far.
    pub fn counters(&self) -> Result<Counters, HostError> {
        nft::counters()
    }

    /// Takes everything away, as if Farlane had never been there.
    pub async fn remove(self) -> Result<(), HostError> {
        remove_all(&self.handle).await.map(|_| ())
    }

    /// Leaves what a crash would leave: with [`OnCrash::Closed`], blackholes.
    pub fn leave_closed(self) {}

    /// Does the plan; `before` is what the table says, if that is known. At the start, a host with
    /// refusals stays as it was.
    async fn apply(
        &mut self,
        before: Option<&Ruleset>,
        starting: bool,
    ) -> Result<Vec<HostError>, HostError> {
        let families = probe::families();
        let v6 = families.contains(&false);
        let mut tuns = Vec::new();
        for name in &self.plan.tuns {
            let index = links::set_up_tun(&self.handle, name, self.plan.mtu, v6).await?;
            tuns.push((name.clone(), index));
        }
        let addresses = links::addresses(&self.handle).await?;
        probe::bound_services(&self.plan, &addresses)?;
        let survey = pods::survey(&self.handle, &self.plan).await?;
        self.warnings = survey.warnings;
        if starting && !survey.refusals.is_empty() {
            return Ok(survey.refusals);
        }
        let source = |v4: bool| {
            let mut own = self.plan.own_addresses.iter().copied();
            own.find(|address| address.is_v4() == v4 && addresses.contains(address))
        };
        let strict = probe::strict_reverse_path(&self.plan);
        let wire = if strict {
            sockets(&self.plan)
        } else {
            Vec::new()
        };
        let wanted = rules::Wanted {
            tuns: &tuns,
            remote: &self.plan.remote_prefixes,
            on_crash: self.plan.on_crash,
            wire: &wire,
            source4: source(true),
            source6: source(false),
        };
        for v4 in families {
            let (rules, routes) = (rules::rules(&wanted, v4), rules::routes(&wanted, v4));
            rules::reconcile(&self.handle, v4, &rules, &routes).await?;
        }
        let ruleset = Ruleset::new(&self.plan, survey.places);
        nft::run(&ruleset.script(before))?;
        self.applied = ruleset;
        self.warnings.extend(probe::firewalls(&self.plan));
        if strict {
            self.warnings
                .extend(probe::neighbours(&self.handle, &self.plan).await?);
        }
        Ok(survey.refusals)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Removes what a node left on this host that no longer runs, and says what, one line each. `tuns`
/// are the devices that its configuration names; those that its rules name are found.
pub async fn clean(tuns: &[String]) -> Result<Vec<String>, HostError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| HostError::Netlink {
            what: "a netlink socket".to_owned(),
            error,
        })?;
    let connection = tokio::spawn(connection);
    let mut names = rules::devices_named(&handle).await?;
    names.extend(
        tuns.iter()
            .filter(|name| !names.contains(name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    let mut removed = remove_all(&handle).await?;
    for name in names {
        if links::remove_tun(&handle, &name).await? {
            removed.push(format!("the device {name}"));
        }
    }
    connection.abort();
    Ok(removed)
}

/// The table goes first: without marks the host routes its pods' packets as ever, and other
/// clusters' prefixes stay closed until the last step.
async fn remove_all(handle: &Handle) -> Result<Vec<String>, HostError> {
    let mut removed = Vec::new();
    if nft::table_exists()? {
        nft::run("delete table inet farlane\n")?;
        removed.push("the nftables table inet farlane".to_owned());
    }
    for v4 in probe::families() {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let (rules, routes) = rules::remove(handle, v4).await?;
        for (count, what) in [(rules, "policy rule"), (routes, "route")] {
            let plural = if count == 1 { "" } else { "s" };
            if count > 0 {
                removed.push(format!("{count} {family} {what}{plural}"));
            }
        }
    }
    Ok(removed)
}

fn check(plan: &HostPlan) -> Result<(), HostError> {
    if plan.tuns.len() > WORKERS_MAX {
        return Err(HostError::Workers(plan.tuns.len()));
    }
    match plan.tuns.iter().find(|name| !pods::speakable(name)) {
        Some(name) => Err(HostError::Name(name.clone())),
        None => Ok(()),
    }
}

/// The wire's sockets, each with an address of its own. IPv6 has no reverse-path check.
fn sockets(plan: &HostPlan) -> Vec<(Address, u16)> {
    let mut sockets = Vec::new();
    for socket in &plan.wire {
        let any = socket.ip().is_unspecified();
        let own = plan.own_addresses.iter().copied().filter(|_| any);
        let named = (!any).then(|| Address::from(socket.ip()));
        sockets.extend(
            own.chain(named)
                .filter(Address::is_v4)
                .map(|address| (address, socket.port())),
        );
    }
    sockets.sort();
    sockets.dedup();
    sockets
}

fn is_ours(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol == RouteProtocol::Other(marks::PROTOCOL)
        }
        _ => false,
    }
}

fn pair([one, other]: &[Address; 2]) -> String {
    if one == other {
        one.to_string()
    } else {
        format!("{one} and {other}")
    }
}

impl HostError {
    fn netlink(what: impl Into<String>, error: &rtnetlink::Error) -> HostError {
        match error {
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -1 => {
                HostError::Rights
            }
            rtnetlink::Error::NetlinkError(message) => HostError::Netlink {
                what: what.into(),
                error: io::Error::from_raw_os_error(-message.raw_code()),
            },
            other => HostError::Netlink {
                what: what.into(),
                error: io::Error::other(other.to_string()),
            },
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
