//! A record with the names of its ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use balance::{Frontend, Service};
use datapath::{End, Event, Side};
use packet::{Address, Kind, icmp_type, protocol};
use policy::{Endpoint, Identity, RuleName};

use super::Told;
use super::names::Names;
use super::record::{Ended, FlowRecord, Party, ServiceName, Way};
use crate::dates;

/// What was told, and who it was, by the snapshot that judged it. It shares all names with that.
#[derive(Debug)]
pub(crate) struct Named {
    told: Told,
    source: Option<Arc<Endpoint>>,
    destination: Option<Arc<Endpoint>>,
    service: Option<Arc<Service>>,
    rule: Option<RuleName>,
}

impl Named {
    /// Finds the names.
    pub(super) fn new(told: Told, names: &Names) -> Named {
        let record = &told.record;
        let (source, destination) = match record.side {
            Side::Out => (record.subject, record.peer),
            Side::In => (record.peer, record.subject),
        };
        let frontend = Frontend {
            address: record.flow.destination,
            port: record.flow.destination_port,
            protocol: record.flow.protocol,
        };
        let snapshot = names.snapshot(record.epoch);
        let service = snapshot.and_then(|s| s.services.find(&frontend));
        let (backend, port) = record.destination;
        let translated = record.destination != (frontend.address, frontend.port);
        // The address may be another service's since. One that was denied has no backend, but it was
        // asked for all the same.
        let is_meant = |service: &&Arc<Service>| match record.event {
            Event::Denied(_) if !translated => snapshot.is_some_and(|s| s.epoch == record.epoch),
            _ => translated && service.backend(backend, port).is_some(),
        };
        let owner = |address, identity: Option<Identity>| {
            Some(names.owner(address, identity?, record.epoch))
        };
        Named {
            source: owner(record.flow.source, source),
            destination: owner(backend, destination),
            service: service.filter(is_meant).cloned(),
            rule: record.rule.and_then(|rule| names.rule(rule, record.epoch)),
            told,
        }
    }

    pub(super) fn describe(&self, node: &str, clusters: &BTreeMap<u8, String>) -> FlowRecord {
        let record = &self.told.record;
        let flow = &record.flow;
        let party = |address: Address, port, endpoint: &Option<Arc<Endpoint>>| {
            let cluster = endpoint.as_ref().and_then(|e| e.cluster);
            Party {
                name: endpoint
                    .as_ref()
                    .map_or("unknown", |e| e.called())
                    .to_owned(),
                cluster: cluster.and_then(|id| clusters.get(&id).cloned()),
                address: address.to_string(),
                port,
                identity: endpoint.as_ref().map(|e| e.identity.0),
            }
        };
        let has_ports = matches!(record.kind, Kind::Tcp | Kind::Udp | Kind::Sctp);
        let port = |port| has_ports.then_some(port);
        let (address, to_port) = record.destination;
        let (event, verdict, reason) = match record.event {
            Event::Began => ("start", "allow", None),
            Event::Audited(reason) => ("start", "audit", Some(reason)),
            Event::Denied(reason) => ("deny", "deny", Some(reason)),
            Event::Ended {
                why: End::Cut(reason),
                ..
            } => ("end", "deny", Some(reason)),
            Event::Ended { .. } => ("end", "allow", None),
        };
        FlowRecord {
            time: dates::milliseconds(self.told.unix_ns),
            node: node.to_owned(),
            event: event.to_owned(),
            verdict: verdict.to_owned(),
            direction: match record.side {
                Side::Out => "egress".to_owned(),
                Side::In => "ingress".to_owned(),
            },
            protocol: protocol_name(flow.protocol),
            icmp_type: icmp_type(flow.protocol, record.kind),
            from: party(flow.source, port(flow.source_port), &self.source),
            to: party(address, port(to_port), &self.destination),
            service: self.service.as_ref().map(|service| ServiceName {
                name: service.name.clone(),
                address: flow.destination.to_string(),
                port: flow.destination_port,
            }),
            reason: reason.map(|reason| reason.name().to_owned()),
            rule: self.rule.as_ref().map(RuleName::to_string),
            end: ended(&record.event),
        }
    }
}

fn ended(event: &Event) -> Option<Ended> {
    let Event::Ended {
        why,
        lasted,
        forward,
        reply,
    } = event
    else {
        return None;
    };
    let why = match why {
        End::Closed => "closed",
        End::Silent => "silent",
        End::Evicted => "evicted",
        End::Moved => "moved",
        End::Cut(_) => "cut",
    };
    let way = |traffic: &datapath::Traffic| Way {
        packets: traffic.packets,
        bytes: traffic.bytes,
    };
    Some(Ended {
        why: why.to_owned(),
        duration_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
        forward: way(forward),
        reply: way(reply),
    })
}

/// As Kubernetes calls it; by its number where that has no name for it.
fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        protocol::ICMP => "ICMP".to_owned(),
        protocol::ICMPV6 => "ICMPv6".to_owned(),
        other => other.to_string(),
    }
}
