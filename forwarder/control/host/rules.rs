//! Policy rules and routes: what is wanted is a list, what the host has is a list, and only the
//! difference is done, additions first, so that a node that starts over the leftovers of a killed
//! one never has fewer rules than before.

use futures_util::TryStreamExt as _;
use packet::{Address, Prefix};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};
use rtnetlink::{Handle, IpVersion};
use std::net::IpAddr;

use super::marks::{
    MARK_MASK, METRIC_BLACKHOLE, METRIC_DEVICE, PRIORITY_END, PRIORITY_FIRST, PRIORITY_MESH,
    PRIORITY_MESH_OF_WORKER, PRIORITY_WIRE, PRIORITY_WIRE_BACK, PRIORITY_WORKER, PRIORITY_WRITTEN,
    PROTOCOL, WIRE_MARK, mesh_table, worker_mark, worker_table,
};
use super::{HostError, OnCrash};

/// One policy rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) v4: bool,
    pub(super) priority: u32,
    /// Matched under [`MARK_MASK`].
    pub(super) mark: Option<u32>,
    pub(super) input: Option<String>,
    /// UDP from this address and port.
    pub(super) udp_from: Option<(Address, u16)>,
    /// The table to look into; `None`: on to the host's own rules.
    pub(super) table: Option<u32>,
}

/// One route of a table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) v4: bool,
    pub(super) destination: Address,
    pub(super) length: u8,
    /// The device's index; `None`: a blackhole.
    pub(super) device: Option<u32>,
    pub(super) source: Option<Address>,
}

/// What the lists are made from.
pub(super) struct Wanted<'a> {
    /// Name and index of each worker's device.
    pub(super) tuns: &'a [(String, u32)],
    pub(super) remote: &'a [Prefix],
    pub(super) on_crash: OnCrash,
    /// Sockets of the wire whose packets need a way back that strict `rp_filter` accepts.
    pub(super) wire: &'a [(Address, u16)],
    /// The source of the host's own packets, by family.
    pub(super) source4: Option<Address>,
    pub(super) source6: Option<Address>,
}

/// The rules of one family, in the order of their priorities:
/// the wire's datagrams go as ever; other clusters' prefixes to M (of the pod's worker, else the
/// first); what Farlane wrote as the host would route it; what is marked to its worker's table.
pub(super) fn rules(wanted: &Wanted<'_>, v4: bool) -> Vec<Rule> {
    let rule = |priority| Rule {
        v4,
        priority,
        mark: None,
        input: None,
        udp_from: None,
        table: None,
    };
    let mut rules = vec![
        rule(PRIORITY_END),
        Rule {
            mark: Some(WIRE_MARK),
            ..rule(PRIORITY_WIRE)
        },
    ];
    // The reverse-path check of a datagram from a node inside `remote` asks for the way to it
    // without our mark (fib_validate_source, src_valid_mark off), but with addresses and ports
    // turned round. Pods cannot use this way, because they do not get through with the host's
    // source. With `iif lo` beside the ports the rule was never met (Linux 6.18).
    for &udp_from in wanted
        .wire
        .iter()
        .filter(|(address, _)| address.is_v4() == v4)
    {
        rules.push(Rule {
            udp_from: Some(udp_from),
            ..rule(PRIORITY_WIRE_BACK)
        });
    }
    for (worker, (name, _)) in wanted.tuns.iter().enumerate() {
        let mark = Some(worker_mark(worker));
        if worker > 0 {
            let table = Some(mesh_table(worker));
            rules.push(Rule {
                mark,
                table,
                ..rule(PRIORITY_MESH_OF_WORKER)
            });
        }
        rules.push(Rule {
            input: Some(name.clone()),
            ..rule(PRIORITY_WRITTEN)
        });
        rules.push(Rule {
            mark,
            table: Some(worker_table(worker)),
            ..rule(PRIORITY_WORKER)
        });
    }
    rules.push(Rule {
        table: Some(mesh_table(0)),
        ..rule(PRIORITY_MESH)
    });
    rules
}

/// The routes of one family: in each table the device, and behind it the blackhole that stays when
/// the device goes with the process.
pub(super) fn routes(wanted: &Wanted<'_>, v4: bool) -> Vec<Route> {
    let source = if v4 { wanted.source4 } else { wanted.source6 };
    let any = if v4 {
        Address::from_v4([0; 4])
    } else {
        Address::UNSPECIFIED
    };
    let mut routes = Vec::new();
    for (worker, (_, device)) in wanted.tuns.iter().enumerate() {
        let prefixes = wanted
            .remote
            .iter()
            .filter(|prefix| prefix.is_v4() == v4)
            .map(|prefix| (mesh_table(worker), prefix.address(), prefix.length()))
            .chain([(worker_table(worker), any, 0)]);
        for (table, destination, length) in prefixes {
            let blackhole = Route {
                table,
                v4,
                destination,
                length,
                device: None,
                source: None,
            };
            routes.push(Route {
                device: Some(*device),
                source,
                ..blackhole.clone()
            });
            if wanted.on_crash == OnCrash::Closed {
                routes.push(blackhole);
            }
        }
    }
    routes
}

/// Makes the host's rules and routes those of `rules` and `routes`.
pub(super) async fn reconcile(
    handle: &Handle,
    v4: bool,
    rules: &[Rule],
    routes: &[Route],
) -> Result<(), HostError> {
    let present = own_routes(handle, v4).await?;
    let known: Vec<Option<Route>> = present.iter().map(read_route).collect();
    // Blackholes first: from the moment that a rule leads into a table, it is closed.
    let (blackholes, devices): (Vec<&Route>, Vec<&Route>) = routes
        .iter()
        .filter(|route| !known.contains(&Some((*route).clone())))
        .partition(|route| route.device.is_none());
    for route in blackholes.into_iter().chain(devices) {
        let adding = handle
            .route()
            .add(route.message())
            .replace()
            .execute()
            .await;
        adding.map_err(|error| HostError::netlink(format!("the route {route}"), &error))?;
    }
    let rules_present = own_rules(handle, v4).await?;
    let rules_known: Vec<Option<Rule>> = rules_present.iter().map(read_rule).collect();
    for rule in rules {
        if !rules_known.contains(&Some(rule.clone())) {
            add_rule(handle, rule).await?;
        }
    }
    for (message, rule) in rules_present.into_iter().zip(rules_known) {
        if !rule.is_some_and(|rule| rules.contains(&rule)) {
            delete_rule(handle, message).await?;
        }
    }
    for (message, route) in present.into_iter().zip(known) {
        let replaced = |route: &Route| routes.iter().any(|wanted| wanted.same_place(route));
        if !route.is_some_and(|route| replaced(&route)) {
            delete_route(handle, message).await?;
        }
    }
    Ok(())
}

/// Removes all rules, then all routes, and says how many there were of each.
pub(super) async fn remove(handle: &Handle, v4: bool) -> Result<(usize, usize), HostError> {
    let rules = own_rules(handle, v4).await?;
    let routes = own_routes(handle, v4).await?;
    let counts = (rules.len(), routes.len());
    for rule in rules {
        delete_rule(handle, rule).await?;
    }
    for route in routes {
        delete_route(handle, route).await?;
    }
    Ok(counts)
}

/// The devices that our rules on the host name.
pub(super) async fn devices_named(handle: &Handle) -> Result<Vec<String>, HostError> {
    let mut names = Vec::new();
    for message in own_rules(handle, true).await? {
        let named = read_rule(&message).and_then(|rule| rule.input);
        names.extend(named.filter(|name| name != "lo" && !names.contains(name)));
    }
    Ok(names)
}

async fn own_rules(handle: &Handle, v4: bool) -> Result<Vec<RuleMessage>, HostError> {
    let version = if v4 { IpVersion::V4 } else { IpVersion::V6 };
    let all: Vec<RuleMessage> = handle
        .rule()
        .get(version)
        .execute()
        .try_collect()
        .await
        .map_err(|error| HostError::netlink("the list of rules", &error))?;
    let ours = |message: &RuleMessage| {
        message.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
            && message.attributes.iter().any(|attribute| {
                matches!(attribute, RuleAttribute::Priority(p) if (PRIORITY_FIRST..=PRIORITY_END).contains(p))
            })
    };
    Ok(all.into_iter().filter(ours).collect())
}

async fn own_routes(handle: &Handle, v4: bool) -> Result<Vec<RouteMessage>, HostError> {
    let mut query = RouteMessage::default();
    query.header.address_family = family(v4);
    let all: Vec<RouteMessage> = handle
        .route()
        .get(query)
        .execute()
        .try_collect()
        .await
        .map_err(|error| HostError::netlink("the list of routes", &error))?;
    let ours = |message: &RouteMessage| {
        message.header.protocol == RouteProtocol::Other(PROTOCOL)
            && message.header.address_family == family(v4)
    };
    Ok(all.into_iter().filter(ours).collect())
}

async fn add_rule(handle: &Handle, rule: &Rule) -> Result<(), HostError> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule.message();
    request
        .execute()
        .await
        .map_err(|error| HostError::netlink("a policy rule", &error))
}

async fn delete_rule(handle: &Handle, message: RuleMessage) -> Result<(), HostError> {
    let deleting = handle.rule().del(message).execute().await;
    deleting.map_err(|error| HostError::netlink("the removal of a policy rule", &error))
}

async fn delete_route(handle: &Handle, message: RouteMessage) -> Result<(), HostError> {
    match handle.route().del(message).execute().await {
        // It went with its device while we looked.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -3 => Ok(()),
        other => other.map_err(|error| HostError::netlink("the removal of a route", &error)),
    }
}

fn family(v4: bool) -> AddressFamily {
    if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// As a route attribute.
pub(super) fn route_address(address: Address) -> RouteAddress {
    match address.to_ip() {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

fn read_address(address: &RouteAddress) -> Option<Address> {
    match address {
        RouteAddress::Inet(v4) => Some(Address::from(IpAddr::V4(*v4))),
        RouteAddress::Inet6(v6) => Some(Address::from(IpAddr::V6(*v6))),
        _ => None,
    }
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family(self.v4);
        let attributes = &mut message.attributes;
        attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        attributes.push(RuleAttribute::Priority(self.priority));
        if let Some(mark) = self.mark {
            attributes.push(RuleAttribute::FwMark(mark));
            attributes.push(RuleAttribute::FwMask(MARK_MASK));
        }
        if let Some(input) = &self.input {
            attributes.push(RuleAttribute::Iifname(input.clone()));
        }
        if let Some((address, port)) = self.udp_from {
            message.header.src_len = if self.v4 { 32 } else { 128 };
            attributes.push(RuleAttribute::Source(address.to_ip()));
            attributes.push(RuleAttribute::IpProtocol(IpProtocol::Udp));
            attributes.push(RuleAttribute::SourcePortRange(RulePortRange {
                start: port,
                end: port,
            }));
        }
        message.header.action = match self.table {
            Some(table) => {
                attributes.push(RuleAttribute::Table(table));
                RuleAction::ToTable
            }
            None if self.priority == PRIORITY_END => RuleAction::Nop,
            None => {
                attributes.push(RuleAttribute::Goto(PRIORITY_END));
                RuleAction::Goto
            }
        };
        message
    }
}

/// `None` for a rule that we would not make: it is replaced.
fn read_rule(message: &RuleMessage) -> Option<Rule> {
    let mut rule = Rule {
        v4: message.header.family == AddressFamily::Inet,
        priority: 0,
        mark: None,
        input: None,
        udp_from: None,
        table: None,
    };
    let (mut source, mut port) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::FwMask(mask) if *mask != MARK_MASK => return None,
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Source(from) => source = Some(Address::from(*from)),
            RuleAttribute::SourcePortRange(range) => port = Some(range.start),
            RuleAttribute::Table(table) => rule.table = Some(*table),
            RuleAttribute::Destination(_) => return None,
            _ => {}
        }
    }
    rule.udp_from = source.zip(port);
    if message.header.action != RuleAction::ToTable {
        rule.table = None;
    }
    Some(rule)
}

impl Route {
    fn metric(&self) -> u32 {
        if self.device.is_some() {
            METRIC_DEVICE
        } else {
            METRIC_BLACKHOLE
        }
    }

    /// Whether adding the one replaces the other.
    fn same_place(&self, other: &Route) -> bool {
        (
            self.table,
            self.v4,
            self.destination,
            self.length,
            self.metric(),
        ) == (
            other.table,
            other.v4,
            other.destination,
            other.length,
            other.metric(),
        )
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.v4);
        message.header.destination_prefix_length = self.length;
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.header.protocol = RouteProtocol::Other(PROTOCOL);
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        attributes.push(RouteAttribute::Priority(self.metric()));
        if self.length > 0 {
            attributes.push(RouteAttribute::Destination(route_address(self.destination)));
        }
        match self.device {
            Some(device) => {
                message.header.kind = RouteType::Unicast;
                message.header.scope = if self.v4 {
                    RouteScope::Link
                } else {
                    RouteScope::Universe
                };
                attributes.push(RouteAttribute::Oif(device));
            }
            None => {
                message.header.kind = RouteType::BlackHole;
                message.header.scope = RouteScope::Universe;
            }
        }
        if let Some(source) = self.source {
            attributes.push(RouteAttribute::PrefSource(route_address(source)));
        }
        message
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{} in table {}",
            self.destination, self.length, self.table
        )
    }
}

/// `None` for a route that we would not make: it is removed.
fn read_route(message: &RouteMessage) -> Option<Route> {
    let v4 = message.header.address_family == AddressFamily::Inet;
    let mut metric = 0;
    let mut route = Route {
        table: u32::from(message.header.table),
        v4,
        destination: if v4 {
            Address::from_v4([0; 4])
        } else {
            Address::UNSPECIFIED
        },
        length: message.header.destination_prefix_length,
        device: None,
        source: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => route.destination = read_address(address)?,
            RouteAttribute::PrefSource(address) => route.source = read_address(address),
            RouteAttribute::Oif(index) => route.device = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::MultiPath(_) => return None,
            _ => {}
        }
    }
    match message.header.kind {
        RouteType::Unicast => {}
        // IPv6 puts blackholes on `lo`.
        RouteType::BlackHole => route.device = None,
        _ => return None,
    }
    (metric == route.metric()).then_some(route)
}
