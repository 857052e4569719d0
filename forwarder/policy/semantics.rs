//! What policies mean, case by case: the reference and the table must both say so.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use packet::protocol;

use crate::*;

mod audit;
mod matching;
mod order;

const CLIENT: Identity = Identity(0x1_0000);
const SERVER: Identity = Identity(0x1_0001);
const OTHER: Identity = Identity(0x1_0002);

fn identities() -> Vec<(Identity, Labels)> {
    [(CLIENT, "client"), (SERVER, "server"), (OTHER, "other")]
        .map(|(identity, app)| (identity, [("app", app)].into_iter().collect()))
        .into()
}

fn app(app: &str) -> Selector {
    Selector::everything().with("app", app)
}

/// Like a NetworkPolicy for the server that isolates ingress.
fn policy(entries: Vec<Entry>) -> Policy {
    Policy {
        name: PolicyName {
            kind: "NetworkPolicy".to_string(),
            namespace: "shop".to_string(),
            name: "server".to_string(),
        },
        origin: "shop.yaml:1".to_string(),
        subject: app("server"),
        entries,
        isolates: Isolates {
            ingress: true,
            egress: false,
        },
        refused: None,
        audit: false,
    }
}

fn allow(peers: Peers, ports: Ports) -> Entry {
    Entry {
        direction: Direction::Ingress,
        tier: Tier::Normal,
        priority: 0,
        verdict: EntryVerdict::Allow,
        peers,
        ports,
    }
}

fn at(tier: Tier, priority: u32, verdict: EntryVerdict) -> Entry {
    Entry {
        tier,
        priority,
        verdict,
        ..allow(Peers::Any, Ports::Any)
    }
}

/// A policy that only adds entries, as those of an administrator do.
fn adds(entries: Vec<Entry>) -> Policy {
    Policy {
        isolates: Isolates::default(),
        ..policy(entries)
    }
}

fn from(selector: Selector) -> Peers {
    Peers::Of(vec![Peer::Selector(selector)])
}

fn block(prefix: &str, except: &[&str]) -> Peers {
    Peers::Of(vec![Peer::Cidr {
        prefix: prefix.parse().unwrap(),
        except: except.iter().map(|e| e.parse().unwrap()).collect(),
        whose: Whose::Anybody,
    }])
}

fn port(protocol: u8, port: PortMatch) -> Ports {
    Ports::Of(vec![PortRule { protocol, port }])
}

/// A flow towards the server, or from it, on TCP port 80 unless said otherwise.
struct Ask {
    direction: Direction,
    peer: Identity,
    address: &'static str,
    protocol: u8,
    port: Option<u16>,
    subject_names: Vec<NamedPort>,
    peer_names: Vec<NamedPort>,
}

fn ask(peer: Identity) -> Ask {
    Ask {
        direction: Direction::Ingress,
        peer,
        address: "10.1.0.1",
        protocol: protocol::TCP,
        port: Some(80),
        subject_names: Vec::new(),
        peer_names: Vec::new(),
    }
}

impl Ask {
    fn at(address: &'static str) -> Ask {
        Ask {
            address,
            ..ask(Identity::WORLD)
        }
    }

    fn to(protocol: u8, port: impl Into<Option<u16>>) -> Ask {
        Ask {
            protocol,
            port: port.into(),
            ..ask(CLIENT)
        }
    }

    /// What both judges say, with the rules that matched.
    fn decide(&self, policies: &[Policy]) -> (Decision, Vec<String>) {
        let endpoint = |identity, names: &[NamedPort]| Endpoint {
            named_ports: names.into(),
            ..Endpoint::of(identity)
        };
        let (subject, peer) = (
            endpoint(SERVER, &self.subject_names),
            endpoint(self.peer, &self.peer_names),
        );
        let party = |address: &str, endpoint| Party {
            address: address.parse::<core::net::IpAddr>().unwrap().into(),
            endpoint,
        };
        let question = Question {
            direction: self.direction,
            subject: party("10.1.0.9", &subject),
            peer: party(self.address, &peer),
            protocol: self.protocol,
            port: self.port,
        };
        let identities = identities();
        let table = PolicyTable::compile(policies, &identities);
        let decision = table.decide(&question);
        assert_eq!(
            decision,
            reference::decide(policies, &identities, &question)
        );
        let rules = table.explain(&question);
        assert_eq!(rules, reference::explain(policies, &identities, &question));
        let names = rules.iter().map(|r| table.rule(*r).unwrap().to_string());
        (decision, names.collect())
    }

    fn is_allowed(&self, policies: &[Policy]) -> bool {
        self.decide(policies).0.is_allowed()
    }
}
