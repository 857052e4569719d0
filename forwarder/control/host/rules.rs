//! Which policy rules and routes are wanted, and how each is said in netlink's words. Pure: the
//! order of the rules is the order in which a packet meets them, and a test reads it.

use packet::{Address, Prefix};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};
use std::net::IpAddr;

use super::OnCrash;
use super::marks::{
    MARK_MASK, METRIC_BLACKHOLE, METRIC_DEVICE, PRIORITY_END, PRIORITY_MESH,
    PRIORITY_MESH_OF_WORKER, PRIORITY_WIRE, PRIORITY_WIRE_BACK, PRIORITY_WORKER, PRIORITY_WRITTEN,
    PROTOCOL, WIRE_MARK, mesh_table, worker_mark, worker_table,
};

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

pub(super) fn family(v4: bool) -> AddressFamily {
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
    pub(super) fn message(&self) -> RuleMessage {
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
pub(super) fn read_rule(message: &RuleMessage) -> Option<Rule> {
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
    pub(super) fn same_place(&self, other: &Route) -> bool {
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

    pub(super) fn message(&self) -> RouteMessage {
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
pub(super) fn read_route(message: &RouteMessage) -> Option<Route> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(
        tuns: &'a [(String, u32)],
        remote: &'a [Prefix],
        on_crash: OnCrash,
    ) -> Wanted<'a> {
        Wanted {
            tuns,
            remote,
            on_crash,
            wire: &[],
            source4: Some(Address::from_v4([192, 0, 2, 1])),
            source6: None,
        }
    }

    fn tuns() -> [(String, u32); 2] {
        [(String::from("farlane0"), 7), (String::from("farlane1"), 8)]
    }

    #[test]
    fn the_wire_is_let_by_then_clusters_then_what_we_wrote_then_what_is_marked() {
        let (tuns, wire) = (tuns(), [(Address::from_v4([192, 0, 2, 1]), 51871)]);
        let with_wire = Wanted {
            wire: &wire,
            ..wanted(&tuns, &[], OnCrash::Closed)
        };
        let mut order = rules(&with_wire, true);
        order.sort_by_key(|rule| rule.priority);
        let shown: Vec<_> = order
            .iter()
            .map(|rule| (rule.mark, rule.input.as_deref(), rule.table))
            .collect();
        assert_eq!(
            shown,
            [
                (Some(WIRE_MARK), None, None),
                (None, None, None),
                (Some(0x1002), None, Some(mesh_table(1))),
                (None, None, Some(mesh_table(0))),
                (None, Some("farlane0"), None),
                (None, Some("farlane1"), None),
                (Some(0x1001), None, Some(worker_table(0))),
                (Some(0x1002), None, Some(worker_table(1))),
                (None, None, None),
            ]
        );
        assert_eq!(order[1].udp_from, Some(wire[0]));
        assert_eq!(order[8].priority, PRIORITY_END);
    }

    #[test]
    fn closed_has_a_blackhole_behind_each_route_and_open_has_none() {
        let tuns = tuns();
        let remote = ["10.2.0.0/16", "fd10:2::/64"].map(|prefix| prefix.parse().unwrap());
        let closed = routes(&wanted(&tuns, &remote, OnCrash::Closed), true);
        assert_eq!(closed.len(), 8, "two tables a worker, one route in each");
        for route in closed.iter().filter(|route| route.device.is_some()) {
            let hidden = |other: &Route| other.device.is_none() && other.table == route.table;
            assert!(closed.iter().any(hidden), "{route}");
        }
        let open = routes(&wanted(&tuns, &remote, OnCrash::Open), false);
        assert_eq!(open.len(), 4);
        assert!(open.iter().all(|route| route.device.is_some()));
    }

    #[test]
    fn rules_and_routes_are_read_as_they_were_said() {
        let (tuns, wire) = (tuns(), [(Address::from_v4([192, 0, 2, 1]), 51871)]);
        let remote = ["10.2.0.0/16", "fd10:2::/64"].map(|prefix| prefix.parse().unwrap());
        let all = Wanted {
            wire: &wire,
            ..wanted(&tuns, &remote, OnCrash::Closed)
        };
        for v4 in [true, false] {
            for rule in rules(&all, v4) {
                assert_eq!(read_rule(&rule.message()), Some(rule));
            }
            for route in routes(&all, v4) {
                assert_eq!(read_route(&route.message()), Some(route));
            }
        }
    }
}
