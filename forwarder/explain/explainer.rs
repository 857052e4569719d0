//! From a question to its answer.

use std::sync::Arc;

use balance::{Backend, Frontend, Service, State};
use datapath::{Inquiry, Judgement, Reason, Route};
use mesh::Compiled;
use packet::{Address, Flow, Kind, protocol};
use policy::{Decision, RuleId, RuleName, Verdict};

use super::answer::{Answer, End, Ends, Match};
use super::directory::Directory;
use super::way::{Judged, Nodes, Way};
use super::{Question, socket};

/// The port that a client is taken to use: the first of those that kernels choose from.
const CLIENT_PORT: u16 = 32_768;

/// What is to be known of a verdict about a pod and its own node.
const AT_HOME: &str =
    "traffic between a pod and its own node does not pass by us, so no policy stops it";

/// Answers questions about one compiled world. To make it costs a look at everything in that world,
/// to ask it does not.
#[derive(Debug)]
pub struct Explainer {
    compiled: Arc<Compiled>,
    directory: Directory,
    nodes: Nodes,
}

impl Explainer {
    /// One for this world.
    pub fn new(compiled: Arc<Compiled>) -> Explainer {
        Explainer {
            directory: Directory::of(&compiled),
            nodes: Nodes::of(&compiled),
            compiled,
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// One sentence: a party that is not there, or a protocol that is none.
    pub fn answer(&self, question: &Question) -> Result<Answer, String> {
        let transport = Transport::of(&question.protocol)?;
        let (source, destination) = self.addresses(question)?;
        let inquiry = Inquiry {
            flow: Flow {
                source,
                destination,
                source_port: CLIENT_PORT,
                destination_port: question.port,
                protocol: transport.number(destination.is_v4()),
            },
            kind: transport.kind,
            begins: true,
            pinned: None,
            preferred: None,
        };
        let theirs = self.service_elsewhere(&inquiry.flow);
        let way = Way::of(
            &self.compiled.snapshot,
            &self.nodes,
            &inquiry,
            theirs.as_ref(),
        );
        Ok(self.describe(&inquiry, &way, transport.name))
    }

    /// The service that a flow asks for as the client's node has it, where that is not this one and the
    /// service has only a node's own backends: outside this cluster there are none.
    fn service_elsewhere(&self, flow: &Flow) -> Option<Arc<Service>> {
        let snapshot = &*self.compiled.snapshot;
        let node = match snapshot.route(flow.source) {
            Route::Pod | Route::Own => return None,
            // To a node without a key nothing leads; nor to nobody's address among this node's pods.
            Route::Nowhere => Some(self.nodes.at(flow.source)?.named()),
            Route::Node(number) => {
                let node = snapshot.nodes.get(number as usize);
                node.map(|node| (node.cluster, node.name.as_str()))
            }
            Route::World => None,
        };
        let (own, here) = (snapshot.own.cluster, snapshot.own.node.as_str());
        if node == Some((own, here)) {
            return None;
        }
        // Of a pod that is on no node nobody is a neighbour.
        let node = node.filter(|(cluster, name)| *cluster == own && !name.is_empty());
        let frontend = Frontend {
            address: flow.destination,
            port: flow.destination_port,
            protocol: flow.protocol,
        };
        let service = snapshot.services.find(&frontend)?;
        if !service.own_node_only {
            return None;
        }
        let all = self.compiled.elsewhere.get(&frontend);
        let theirs = all.into_iter().flat_map(|all| all.iter());
        let is_theirs = |name: &str| node.is_some_and(|(_, node)| node == name);
        let theirs = theirs.filter(|elsewhere| is_theirs(&elsewhere.node));
        // A node always reaches its own.
        let is_known =
            |address| snapshot.route(address) != Route::Nowhere || self.nodes.at(address).is_some();
        let backends = theirs.map(|elsewhere| Backend {
            healthy: is_known(elsewhere.backend.address),
            ..elsewhere.backend.clone()
        });
        Some(service.renewed(backends.collect()))
    }

    /// The first pair of addresses of one family, IPv4 if there is one.
    fn addresses(&self, question: &Question) -> Result<(Address, Address), String> {
        let targets = self.directory.destinations(&question.to)?;
        let sources = self.directory.addresses(&question.from)?;
        let pair = sources.iter().find_map(|source| {
            let same = |target: &&Address| target.is_v4() == source.is_v4();
            targets.iter().find(same).map(|target| (*source, *target))
        });
        pair.ok_or_else(|| {
            format!(
                "{} and {} have no address of the same family",
                question.from, question.to
            )
        })
    }

    fn describe(&self, inquiry: &Inquiry, way: &Way<'_>, protocol: &str) -> Answer {
        let snapshot = &*self.compiled.snapshot;
        let (address, port) = way.out.destination;
        let denied = way.egress.denied().or(way.ingress.denied());
        let ends = Ends {
            egress: self.end(inquiry, way.egress, &way.out, inquiry.flow.source),
            ingress: self.end(inquiry, way.ingress, &way.entering, address),
        };
        // What is outside at both ends is nobody's; its address may be a service's all the same.
        let at = self.directory.services_at(inquiry.flow.destination);
        let named = way.out.service.or(at.first().map(|(_, service)| service));
        let translated = way
            .out
            .service
            .filter(|_| way.ingress != Judged::NotReached);
        let rules = ends.egress.rules.iter().chain(&ends.ingress.rules);
        Answer {
            verdict: String::from(if denied.is_some() { "deny" } else { "allow" }),
            egress: word(way.egress).to_owned(),
            ingress: word(way.ingress).to_owned(),
            reason: denied.map(|reason| reason.name().to_owned()),
            note: way.at_home.then(|| AT_HOME.to_owned()),
            from: self
                .directory
                .party(inquiry.flow.source, snapshot.endpoint(inquiry.flow.source)),
            to: self.directory.party(address, snapshot.endpoint(address)),
            service: named.map(|service| service.name.clone()),
            backend: translated.map(|_| socket(address, port)),
            backends: way.out.service.map_or_else(Vec::new, |service| {
                let in_use = service.in_use();
                in_use.map(|b| socket(b.address, b.port)).collect()
            }),
            session_affinity_seconds: named
                .and_then(|service| service.client_stays)
                .map(|time| time.as_secs()),
            internal_traffic_policy: named
                .map(|service| service.internal_traffic_policy().to_owned()),
            rules: rules.map(|matched| matched.rule.clone()).collect(),
            route: route(way.out.route).to_owned(),
            peer: match way.out.route {
                Route::Node(node) => {
                    let node = snapshot.nodes.get(node as usize);
                    node.map(|node| node.name.clone())
                }
                _ => None,
            },
            port: inquiry.flow.destination_port,
            protocol: protocol.to_owned(),
            frontend: named.map(|_| {
                let flow = &inquiry.flow;
                socket(flow.destination, flow.destination_port)
            }),
            ends,
        }
    }

    /// How one end was judged, which is at `address`.
    fn end(
        &self,
        inquiry: &Inquiry,
        judged: Judged,
        judgement: &Judgement<'_>,
        address: Address,
    ) -> End {
        let asked = match judged {
            Judged::Here(_) => judgement.asked,
            Judged::Free | Judged::Remote(_) | Judged::NotReached => None,
        };
        let verdict = match judged {
            Judged::NotReached => "notReached",
            _ => word(judged),
        };
        End {
            verdict: verdict.to_owned(),
            why: match (judged, &asked) {
                (Judged::Here(_), Some((_, decision))) => self.of_policies(judgement, decision),
                (Judged::Here(Err(reason)), None) => {
                    self.of_reason(reason, inquiry, judgement, address)
                }
                (Judged::Here(Ok(())), None) if judgement.destination.0 == inquiry.flow.source => {
                    let who = self.directory.name(judgement.subject);
                    format!("no policy can keep {who} from itself")
                }
                (Judged::Here(Ok(())), None) => {
                    String::from("a node may always reach its own pods")
                }
                (Judged::Free, _) => String::from("outside of the mesh nobody judges"),
                (Judged::Remote(id), _) => {
                    format!("cluster {} judges this end", self.directory.cluster(id))
                }
                (Judged::NotReached, _) => String::from("nothing gets there"),
            },
            isolated: asked.map(|(_, decision)| decision.isolated),
            rules: asked.map_or_else(Vec::new, |(question, decision)| {
                let policy = &self.compiled.snapshot.policy;
                let matched = policy.explain(&question);
                let named = matched.into_iter().filter_map(|id| {
                    let name = policy.rule(id)?;
                    Some(matching(name, decision.rule == Some(id)))
                });
                named.collect()
            }),
        }
    }

    /// Why policies say what they say.
    fn of_policies(&self, judgement: &Judgement<'_>, decision: &Decision) -> String {
        let who = self.directory.name(judgement.subject);
        if decision.unknown {
            let identities = judgement.identities();
            let numbers = identities.map(|(subject, peer)| format!("{subject} or {peer}"));
            let numbers = numbers.unwrap_or_default();
            return format!("nobody knows the labels of identity {numbers}");
        }
        if decision.audited {
            let denied = Decision {
                verdict: Verdict::Deny,
                audited: false,
                ..*decision
            };
            let why = self.of_policies(judgement, &denied);
            return format!("it would be denied, but audit mode lets it pass: {why}");
        }
        if decision.refused {
            return format!("a policy that governs {who} cannot be enforced, so nothing passes");
        }
        let by_entry = decision.rule.is_some_and(|id| self.is_entry(id));
        let isolated = match decision.isolated {
            true => format!("{who} is isolated"),
            false => format!("{who} is not isolated"),
        };
        match (decision.is_allowed(), by_entry, decision.isolated) {
            (true, true, _) => format!("a rule allows it; {isolated}"),
            (true, false, _) => format!("{isolated}, and no rule denies it"),
            (false, true, _) => format!("a rule denies it; {isolated}"),
            (false, false, _) => format!("{isolated}, and no rule allows it"),
        }
    }

    fn is_entry(&self, id: RuleId) -> bool {
        let rule = self.compiled.snapshot.policy.rule(id);
        rule.is_some_and(|name| name.index.is_some())
    }

    /// Why it is denied before any policy is asked.
    fn of_reason(
        &self,
        reason: Reason,
        inquiry: &Inquiry,
        judgement: &Judgement<'_>,
        address: Address,
    ) -> String {
        match reason {
            Reason::UnknownSource | Reason::UnknownDestination => {
                let nobodys = match judgement.subject {
                    None => address,
                    // The other end: going out its address is the destination, coming in the source.
                    Some(_) if inquiry.flow.source == address => judgement.destination.0,
                    Some(_) => inquiry.flow.source,
                };
                self.of_nobody(nobodys)
            }
            Reason::NoBackend => self.of_backends(judgement),
            Reason::NoServicePort => self.of_ports(inquiry.flow.destination),
            Reason::NotOurs => {
                String::from("neither end is in the mesh; services are for its pods")
            }
            other => sentence(other.text()),
        }
    }

    /// What is known of an address that nobody has.
    fn of_nobody(&self, address: Address) -> String {
        let routes = &self.compiled.snapshot.routes;
        let place = routes
            .lookup(address)
            .map_or_else(String::new, |(prefix, _)| {
                format!("{address} is in {prefix} of the mesh; ")
            });
        let said = self.directory.said_of(address);
        let said = said.unwrap_or_else(|| format!("no pod or node is known to have {address}"));
        format!("{place}{said}")
    }

    fn of_backends(&self, judgement: &Judgement<'_>) -> String {
        let Some(service) = judgement.service else {
            return sentence(Reason::NoBackend.text());
        };
        if service.backends.is_empty() && service.own_node_only {
            return String::from(
                "no ready pod is behind it on the client's node, and internalTrafficPolicy: Local \
                 takes no other node's",
            );
        }
        if service.backends.is_empty() {
            return String::from("no ready pod is behind it, in no cluster that shares it");
        }
        let idle = service.backends.iter().take(SHOWN).map(|backend| {
            let why = match (backend.healthy, backend.state) {
                (false, _) => "its node does not answer",
                (true, State::Terminating) => "terminating",
                (true, _) => "not taken",
            };
            format!("{} ({why})", socket(backend.address, backend.port))
        });
        let idle: Vec<String> = idle.collect();
        format!("no backend takes new flows: {}", idle.join(", "))
    }

    fn of_ports(&self, address: Address) -> String {
        let at = self.directory.services_at(address);
        let ports = at.iter().map(|(frontend, service)| {
            let protocol = Transport::name_of(frontend.protocol);
            let name = match service.port_name.as_str() {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            format!("{}/{protocol}{name}", frontend.port)
        });
        let ports: Vec<String> = ports.collect();
        format!(
            "the service's address has no such port, only {}",
            ports.join(", ")
        )
    }
}

/// So many of a long list are shown to people.
pub(super) const SHOWN: usize = 8;

fn matching(name: &RuleName, decides: bool) -> Match {
    Match {
        rule: name.to_string(),
        verdict: name.says().to_owned(),
        decides,
    }
}

fn word(judged: Judged) -> &'static str {
    match judged {
        Judged::Here(Ok(())) | Judged::Free => "allow",
        Judged::Here(Err(_)) => "deny",
        Judged::Remote(_) | Judged::NotReached => "remote",
    }
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Pod => "pod",
        Route::Own => "host",
        Route::Node(_) => "node",
        Route::World => "world",
        Route::Nowhere => "nowhere",
    }
}

/// A reason's sentence, to stand behind a colon.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// What a flow is carried by.
struct Transport {
    name: &'static str,
    kind: Kind,
}

impl Transport {
    const ALL: [Transport; 4] = [
        Transport {
            name: "TCP",
            kind: Kind::Tcp,
        },
        Transport {
            name: "UDP",
            kind: Kind::Udp,
        },
        Transport {
            name: "SCTP",
            kind: Kind::Sctp,
        },
        Transport {
            name: "ICMP",
            kind: Kind::EchoRequest,
        },
    ];

    fn of(name: &str) -> Result<&'static Transport, String> {
        const ALL: &[Transport] = &Transport::ALL;
        let found = ALL
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("{name} is no protocol; write TCP, UDP, SCTP or ICMP"))
    }

    /// Its number in the IP header of either family.
    fn number(&self, v4: bool) -> u8 {
        match (self.kind, v4) {
            (Kind::Tcp, _) => protocol::TCP,
            (Kind::Udp, _) => protocol::UDP,
            (Kind::Sctp, _) => protocol::SCTP,
            (_, true) => protocol::ICMP,
            (_, false) => protocol::ICMPV6,
        }
    }

    fn name_of(number: u8) -> &'static str {
        let found = Transport::ALL
            .iter()
            .position(|known| known.number(true) == number);
        found.map_or("?", |place| Transport::ALL[place].name)
    }
}
