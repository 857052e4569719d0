//! Why a new flow would pass, or would not: the same judgements that the data path asks, with names.

use std::fmt::Write;

use datapath::{Inquiry, Judgement, Reason, Route, Snapshot};
use mesh::Compiled;
use packet::{Address, Flow, Kind, protocol};
use policy::{Endpoint, Identity};
use serde::{Deserialize, Serialize};

/// The port that a client is taken to use: the first of those that kernels choose from.
const CLIENT_PORT: u16 = 32_768;

/// A new flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// `namespace/pod`, `cluster/namespace/pod` or an address.
    pub from: String,
    /// The same, or `svc:namespace/name`.
    pub to: String,
    /// Destination port.
    #[serde(default)]
    pub port: u16,
    /// TCP, UDP, SCTP or ICMP.
    #[serde(default = "tcp")]
    pub protocol: String,
}

fn tcp() -> String {
    String::from("TCP")
}

/// What would become of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `allow` unless an end that this cluster judges denies.
    pub verdict: String,
    /// `allow`, `deny`, or `remote` where another cluster judges the source.
    pub egress: String,
    /// `allow`, `deny`, or `remote` where another cluster judges the destination.
    pub ingress: String,
    /// Why it is denied, as the counters of drops call it.
    pub reason: Option<String>,
    /// The source.
    pub from: Party,
    /// The destination, after a service was translated.
    pub to: Party,
    /// The service that was asked for.
    pub service: Option<String>,
    /// The backend for this client, where a service was asked for: `address:port`.
    pub backend: Option<String>,
    /// All backends that take new flows.
    pub backends: Vec<String>,
    /// The policy rules that decided, with their files.
    pub rules: Vec<String>,
    /// `pod`, `host`, `node`, `world` or `nowhere`.
    pub route: String,
    /// The node that it goes to through the tunnel.
    pub peer: Option<String>,
}

/// One end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// Its address.
    pub address: String,
    /// Whose that is; `unknown` where nobody has it.
    pub name: String,
    /// The number of its identity.
    pub identity: Option<u32>,
    /// The labels that its identity is.
    pub labels: Vec<String>,
}

/// Answers a question from a snapshot and what belongs to it.
///
/// # Errors
/// One sentence: a party that is not there, or a protocol that is none.
pub fn explain(compiled: &Compiled, question: &Question) -> Result<Answer, String> {
    let (protocol, kind) = protocol_of(&question.protocol)?;
    let targets = destinations(compiled, &question.to)?;
    let sources = addresses(compiled, &question.from)?;
    let pair = sources.iter().find_map(|source| {
        let same = |target: &&Address| target.is_v4() == source.is_v4();
        targets.iter().find(same).map(|target| (*source, *target))
    });
    let (source, destination) = pair.ok_or_else(|| {
        format!(
            "{} and {} have no address of the same family",
            question.from, question.to
        )
    })?;
    let flow = Flow {
        source,
        destination,
        source_port: CLIENT_PORT,
        destination_port: question.port,
        protocol,
    };
    let inquiry = Inquiry {
        flow,
        kind,
        begins: true,
        pinned: None,
    };
    Ok(answer(compiled, &inquiry))
}

fn answer(compiled: &Compiled, inquiry: &Inquiry) -> Answer {
    let snapshot = &*compiled.snapshot;
    let out = snapshot.judge_out(inquiry);
    let (address, port) = out.destination;
    let translated = Flow {
        destination: address,
        destination_port: port,
        ..inquiry.flow
    };
    let arriving = Inquiry {
        flow: translated,
        ..*inquiry
    };
    let entering = snapshot.judge_in(&arriving);
    let judged_here = |endpoint: Option<&std::sync::Arc<Endpoint>>| {
        endpoint.is_none_or(|e| {
            e.identity
                .cluster()
                .is_none_or(|c| c == snapshot.own.cluster)
        })
    };
    // Without a translation that worked there is nothing to enter anywhere.
    let nowhere = out.service.is_some() && out.peer.is_none();
    let egress_here = judged_here(out.subject) || nowhere;
    let ingress_here = judged_here(entering.subject) && !nowhere;
    let egress = egress_here.then_some(out.verdict);
    let ingress = ingress_here.then(|| inbound(snapshot, &out, &entering));
    let denied = [egress, ingress]
        .into_iter()
        .flatten()
        .find_map(Result::err);
    let rules = [(egress_here, &out), (ingress_here, &entering)]
        .into_iter()
        .filter(|(here, _)| *here)
        .filter_map(|(_, judgement)| snapshot.policy.rule(judgement.rule?))
        .map(ToString::to_string)
        .collect();
    Answer {
        verdict: word(Some(denied.map_or(Ok(()), Err))),
        egress: word(egress),
        ingress: word(ingress),
        reason: denied.map(|reason: Reason| reason.name().to_owned()),
        from: party(compiled, inquiry.flow.source),
        to: party(compiled, address),
        service: out.service.map(|service| service.name.clone()),
        backend: (out.service.is_some() && !nowhere).then(|| socket(address, port)),
        backends: out.service.map_or_else(Vec::new, |service| {
            service
                .in_use()
                .map(|backend| socket(backend.address, backend.port))
                .collect()
        }),
        rules,
        route: route(out.route).to_owned(),
        peer: match out.route {
            Route::Node(node) => snapshot
                .nodes
                .get(node as usize)
                .map(|node| node.name.clone()),
            _ => None,
        },
    }
}

/// What comes in from outside of the mesh to outside of it is nobody's to judge.
fn inbound(
    snapshot: &Snapshot,
    out: &Judgement<'_>,
    entering: &Judgement<'_>,
) -> Result<(), Reason> {
    match snapshot.route(out.destination.0) {
        Route::World => Ok(()),
        _ => entering.verdict,
    }
}

fn word(verdict: Option<Result<(), Reason>>) -> String {
    String::from(match verdict {
        Some(Ok(())) => "allow",
        Some(Err(_)) => "deny",
        None => "remote",
    })
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

fn party(compiled: &Compiled, address: Address) -> Party {
    let endpoint = compiled.snapshot.endpoint(address);
    let identity = endpoint.map(|endpoint| endpoint.identity);
    let labels = compiled
        .identities
        .iter()
        .find(|(known, _)| Some(*known) == identity);
    Party {
        address: address.to_string(),
        name: endpoint.map_or_else(|| String::from("unknown"), |endpoint| name(endpoint)),
        identity: identity.map(|identity| identity.0),
        labels: labels.map_or_else(Vec::new, |(_, labels)| {
            labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        }),
    }
}

fn name(endpoint: &Endpoint) -> String {
    if endpoint.identity == Identity::WORLD {
        String::from("world")
    } else {
        endpoint.name.clone()
    }
}

/// The address and port as people write them.
pub(crate) fn socket(address: Address, port: u16) -> String {
    std::net::SocketAddr::new(address.to_ip(), port).to_string()
}

fn protocol_of(name: &str) -> Result<(u8, Kind), String> {
    match name.to_ascii_uppercase().as_str() {
        "TCP" => Ok((protocol::TCP, Kind::Tcp)),
        "UDP" => Ok((protocol::UDP, Kind::Udp)),
        "SCTP" => Ok((protocol::SCTP, Kind::Sctp)),
        "ICMP" => Ok((protocol::ICMP, Kind::EchoRequest)),
        _ => Err(format!(
            "{name} is no protocol; write TCP, UDP, SCTP or ICMP"
        )),
    }
}

fn destinations(compiled: &Compiled, who: &str) -> Result<Vec<Address>, String> {
    let Some(service) = who.strip_prefix("svc:") else {
        return addresses(compiled, who);
    };
    let mut found: Vec<Address> = compiled
        .snapshot
        .services
        .iter()
        .filter(|(_, candidate)| candidate.name == service)
        .map(|(frontend, _)| frontend.address)
        .collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(format!(
            "there is no service {service} with a cluster IP; write svc:namespace/name"
        ));
    }
    Ok(found)
}

/// The addresses of a pod, IPv4 first, or the one that `who` is.
fn addresses(compiled: &Compiled, who: &str) -> Result<Vec<Address>, String> {
    let snapshot = &*compiled.snapshot;
    if let Ok(address) = who.parse::<std::net::IpAddr>() {
        return Ok(vec![Address::from(address)]);
    }
    let (cluster, pod) = match who.splitn(3, '/').collect::<Vec<_>>()[..] {
        [cluster, namespace, pod] => (Some(cluster), format!("{namespace}/{pod}")),
        _ => (None, who.to_owned()),
    };
    let wanted = |endpoint: &Endpoint| {
        let of = endpoint.identity.cluster();
        endpoint.name == pod
            && match cluster {
                None => of == Some(snapshot.own.cluster),
                Some(name) => compiled.identities.iter().any(|(identity, labels)| {
                    *identity == endpoint.identity
                        && labels.value(policy::key::CLUSTER) == Some(name)
                }),
            }
    };
    let mut found: Vec<Address> = snapshot
        .endpoints
        .iter()
        .filter(|(_, endpoint)| wanted(endpoint))
        .map(|(prefix, _)| prefix.address())
        .collect();
    found.sort_by_key(|address| !address.is_v4());
    if found.is_empty() {
        return Err(format!(
            "nobody is called {who}; write namespace/pod, cluster/namespace/pod for another cluster, or an address"
        ));
    }
    Ok(found)
}

impl Answer {
    /// For people: one step a line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.render_to(&mut text);
        text
    }

    fn render_to(&self, text: &mut String) -> std::fmt::Result {
        let identity = |party: &Party| {
            party
                .identity
                .map_or_else(String::new, |i| format!(", identity {i}"))
        };
        writeln!(
            text,
            "{}{}",
            self.verdict.to_uppercase(),
            self.reason
                .as_ref()
                .map_or_else(String::new, |r| format!(": {r}"))
        )?;
        writeln!(
            text,
            "  from     {} ({}{})",
            self.from.name,
            self.from.address,
            identity(&self.from)
        )?;
        if let Some(service) = &self.service {
            writeln!(
                text,
                "  service  {service}, backends in use: {}",
                self.backends.join(", ")
            )?;
        }
        if let Some(backend) = &self.backend {
            writeln!(text, "  backend  {backend}")?;
        }
        writeln!(
            text,
            "  to       {} ({}{})",
            self.to.name,
            self.to.address,
            identity(&self.to)
        )?;
        writeln!(text, "  egress   {}", self.egress)?;
        writeln!(text, "  ingress  {}", self.ingress)?;
        for rule in &self.rules {
            writeln!(text, "  rule     {rule}")?;
        }
        let peer = self
            .peer
            .as_ref()
            .map_or_else(String::new, |peer| format!(" {peer}"));
        writeln!(text, "  route    {}{peer}", self.route)
    }
}
