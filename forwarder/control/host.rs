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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use packet::{Address, Prefix};
use rtnetlink::Handle;

mod error;
mod links;
mod marks;
mod netlink;
mod nft;
mod pods;
mod probe;
mod reconcile;
mod rules;
mod ruleset;
mod wire;

pub use error::HostError;
pub use marks::{MARK_MASK, WIRE_MARK, WORKERS_MAX};

use netlink::Netlink;
use rules::{Route, Rule};
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
    /// Where the wire listens, with every lane; an unspecified address stands for all of `own_addresses`.
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

/// The rules of a running node on its host. Dropping it changes nothing on the host.
pub struct Host {
    netlink: Netlink,
    plan: HostPlan,
    applied: Ruleset,
    warnings: Vec<String>,
    /// Those that are only looked for at the start and at a refresh.
    firewalls: Vec<String>,
    /// The rules and routes that stand, by family.
    routing: Vec<(Vec<Rule>, Vec<Route>)>,
    /// The last attempt at the plan failed.
    incomplete: bool,
}

/// Why the host is gone through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Nothing is known of what an earlier node left; a host with refusals stays as it was.
    Start,
    /// Another plan.
    Change,
    /// The host may have changed.
    Refresh,
}

impl Host {
    /// Sets the host up, in the network namespace of the calling thread, over whatever an earlier
    /// node left. Needs a tokio runtime; the TUNs must exist.
    pub async fn install(plan: HostPlan) -> Result<Host, HostError> {
        check(&plan)?;
        probe::forwarding(&plan)?;
        // Before anything is touched: without nft, or the right to use it, nothing would be whole.
        let stood = nft::table_exists()?;
        let applied = Ruleset::new(&plan, BTreeMap::new());
        let mut host = Host {
            netlink: Netlink::open()?,
            plan,
            applied,
            warnings: Vec::new(),
            firewalls: Vec::new(),
            routing: Vec::new(),
            incomplete: true,
        };
        let refusals = match host.apply(Occasion::Start).await {
            Ok(refusals) => refusals,
            Err(error) => {
                // What this start made goes with it; what a crash left stays closed.
                if !stood && let Err(second) = remove_all(host.netlink.handle()).await {
                    tracing::error!("{second}; `farlane clean` removes the rest");
                }
                return Err(error);
            }
        };
        host.incomplete = false;
        match refusals.into_iter().next() {
            Some(refusal) => Err(refusal),
            None => Ok(host),
        }
    }

    /// Brings the host to another plan, doing only what differs. What would have kept the node from
    /// starting is a warning here: the rest is done.
    pub async fn update(&mut self, plan: HostPlan) -> Result<(), HostError> {
        if plan == self.plan && !self.incomplete {
            return Ok(());
        }
        check(&plan)?;
        self.plan = plan;
        let occasion = match self.incomplete {
            true => Occasion::Refresh,
            false => Occasion::Change,
        };
        self.go_through(occasion).await
    }

    /// Looks again where the pods are, and repairs what somebody else removed.
    pub async fn refresh(&mut self) -> Result<(), HostError> {
        self.go_through(Occasion::Refresh).await
    }

    /// Returns when links, addresses or routes of the host changed since the last return, which is
    /// when [`Host::refresh`] may find more. Changes come in bursts: wait a little before it.
    pub async fn changed(&self) {
        self.netlink.changed().await;
    }

    /// As [`wire_mtu`], for the addresses that the plan listens on.
    ///
    /// # Errors
    /// [`HostError`] if the kernel does not tell.
    pub async fn wire_mtu(
        &self,
        endpoints: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Option<u32>, HostError> {
        wire::mtu(self.netlink.handle(), &self.plan.wire, endpoints).await
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
        remove_all(self.netlink.handle()).await.map(|_| ())
    }

    /// Leaves what a crash would leave: with [`OnCrash::Closed`], blackholes.
    pub fn leave_closed(self) {}

    async fn go_through(&mut self, occasion: Occasion) -> Result<(), HostError> {
        self.incomplete = true;
        let refusals = self.apply(occasion).await?;
        self.incomplete = false;
        let forwarding = probe::forwarding(&self.plan).err();
        let sentences = refusals.iter().chain(&forwarding).map(ToString::to_string);
        self.warnings.extend(sentences);
        Ok(())
    }

    async fn apply(&mut self, occasion: Occasion) -> Result<Vec<HostError>, HostError> {
        let handle = self.netlink.handle();
        let families = probe::families();
        let v6 = families.contains(&false);
        let mut tuns = Vec::new();
        for name in &self.plan.tuns {
            let index = links::set_up_tun(handle, name, self.plan.mtu, v6).await?;
            tuns.push((name.clone(), index));
        }
        let addresses = links::addresses(handle, None).await?;
        let mut survey = pods::survey(handle, &self.plan).await?;
        let bound = probe::bound_services(&self.plan, &addresses).err();
        survey.refusals.extend(bound);
        if occasion == Occasion::Start && !survey.refusals.is_empty() {
            return Ok(survey.refusals);
        }
        let source = |v4: bool| {
            let mut own = self.plan.own_addresses.iter().copied();
            own.find(|address| address.is_v4() == v4 && addresses.contains(address))
        };
        let strict = probe::strict_reverse_path(&self.plan);
        // IPv6 has no reverse-path check.
        let sockets = sockets(&self.plan).into_iter();
        let sockets: Vec<_> = sockets.filter(|(address, _)| address.is_v4()).collect();
        let wire: &[_] = if strict { &sockets } else { &[] };
        let wanted = rules::Wanted {
            tuns: &tuns,
            remote: &self.plan.remote_prefixes,
            on_crash: self.plan.on_crash,
            wire,
            source4: source(true),
            source6: source(false),
        };
        // Marks mean nothing before there are rules for them, so the table comes last.
        let routing: Vec<_> = families
            .iter()
            .map(|v4| (rules::rules(&wanted, *v4), rules::routes(&wanted, *v4)))
            .collect();
        // A host may have very many routes: they are listed only when there is a reason.
        if occasion != Occasion::Change || routing != self.routing {
            for (v4, (rules, routes)) in families.iter().zip(&routing) {
                reconcile::reconcile(handle, *v4, rules, routes).await?;
            }
            self.routing = routing;
        }
        self.warnings = survey.warnings;
        if strict {
            self.warnings
                .extend(probe::neighbours(handle, &self.plan).await?);
        }
        self.write_table(Ruleset::new(&self.plan, survey.places), occasion)?;
        if occasion != Occasion::Change {
            self.firewalls = probe::firewalls(&self.plan);
        }
        self.warnings.extend(self.firewalls.iter().cloned());
        Ok(survey.refusals)
    }

    fn write_table(&mut self, ruleset: Ruleset, occasion: Occasion) -> Result<(), HostError> {
        let known = match occasion {
            Occasion::Start => false,
            Occasion::Change => true,
            Occasion::Refresh => nft::table_exists()?,
        };
        let change = ruleset.script(known.then_some(&self.applied));
        match nft::run(&change) {
            // Somebody took the table away, or a part of it.
            Err(HostError::Nft(_)) if known => nft::run(&ruleset.script(None))?,
            other => other?,
        }
        self.applied = ruleset;
        Ok(())
    }
}

/// The smallest MTU, in bytes, of the links of the wire: those that have an address of `listen`, and
/// those that lead to `endpoints`; `None` where there is neither. Needs a tokio runtime.
///
/// # Errors
/// [`HostError`] if the kernel does not tell.
pub async fn wire_mtu(
    listen: &[SocketAddr],
    endpoints: impl IntoIterator<Item = IpAddr>,
) -> Result<Option<u32>, HostError> {
    wire::mtu(&netlink::asking()?, listen, endpoints).await
}

/// Removes what a node left on this host that no longer runs, and says what, one line each. `tuns`
/// are the devices that its configuration names; those that its rules name are found.
pub async fn clean(tuns: &[String]) -> Result<Vec<String>, HostError> {
    let netlink = Netlink::open()?;
    let handle = netlink.handle();
    let mut names = reconcile::devices_named(handle).await?;
    names.extend(
        tuns.iter()
            .filter(|name| !names.contains(name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    let mut removed = remove_all(handle).await?;
    for name in names {
        if links::remove_tun(handle, &name).await? {
            removed.push(format!("the device {name}"));
        }
    }
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
        let (rules, routes) = reconcile::remove(handle, v4).await?;
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

/// The wire's sockets, each with an address of its own.
fn sockets(plan: &HostPlan) -> BTreeSet<(Address, u16)> {
    let mut sockets = BTreeSet::new();
    for socket in &plan.wire {
        let any = socket.ip().is_unspecified();
        let own = plan.own_addresses.iter().copied().filter(|_| any);
        let named = (!any).then(|| Address::from(socket.ip()));
        sockets.extend(own.chain(named).map(|address| (address, socket.port())));
    }
    sockets
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
