//! A case's cluster as both of its nodes know it, and the three who are asked: the naive
//! evaluator, the compiled table, and the data path's judge. Egress is asked of the source's node,
//! ingress of the destination's.

use std::sync::Arc;

use datapath::{Inquiry, Judgement, Route, Snapshot};
use mesh::{Compiled, Event, Settings, State, World, parse};
use packet::{Address, Flow, Kind, protocol};
use policy::{Decision, Direction, Party, Question, reference};
use tunnel::PublicKey;

use crate::case::{Manifests, Probe, Step};
use crate::table::{PODS, Table, addresses, name};

/// Who is asked, in the order of [`Engine::ask`].
pub(crate) const JUDGES: [&str; 3] = ["the reference", "the table", "the data path"];

const NODES: [&str; 2] = ["eu-1", "eu-2"];

/// One cluster of two nodes.
pub(crate) struct Engine {
    manifests: Manifests,
    views: [View; 2],
}

/// What one node knows.
struct View {
    world: World,
    compiled: Arc<Compiled>,
}

impl Engine {
    /// The cluster with its pods, and without a policy.
    pub(crate) fn new() -> Engine {
        let manifests = Manifests::new();
        let views = NODES.map(|node| View::new(node, &manifests));
        Engine { manifests, views }
    }

    /// Takes a step of a case.
    ///
    /// # Errors
    /// What is not wholly in force.
    pub(crate) fn take(&mut self, step: &Step) -> Result<(), String> {
        let changes = self.manifests.take(step);
        for view in &mut self.views {
            for (file, text) in &changes {
                view.change(file, text.as_deref());
            }
            view.compile()?;
        }
        Ok(())
    }

    /// The same cluster, built anew from the manifests as they are now.
    pub(crate) fn rebuilt(&self) -> Engine {
        let views = NODES.map(|node| View::new(node, &self.manifests));
        let manifests = self.manifests.clone();
        Engine { manifests, views }
    }

    /// Asks everybody about all pairs; the family is 0 for IPv4, 1 for IPv6.
    pub(crate) fn ask(&self, probe: &Probe, family: usize) -> [Table; JUDGES.len()] {
        let inquiry = |from, to| inquiry(probe, address(from, family), address(to, family));
        [
            Table::of(|from, to| {
                self.decides(&inquiry(from, to), from, to, |view, question| {
                    let identities = &view.compiled.identities;
                    reference::decide(&view.world.policies(), identities, question)
                })
            }),
            Table::of(|from, to| {
                self.decides(&inquiry(from, to), from, to, |view, question| {
                    view.compiled.snapshot.policy.decide(question)
                })
            }),
            Table::of(|from, to| {
                let [out, arriving] = self.judgements(&inquiry(from, to), from, to);
                let passes = out.verdict.is_ok() && arriving.verdict.is_ok();
                if from == to {
                    // Nobody asks the policies then, so there is nothing to compare.
                    let asked = out.asked.is_some() || arriving.asked.is_some();
                    assert!(passes && !asked, "{} to itself", name(from));
                    return probe.table.allows(from, to);
                }
                passes
            }),
        ]
    }

    /// What the data path says of one pair, for people.
    pub(crate) fn explain(&self, probe: &Probe, family: usize, from: usize, to: usize) -> String {
        let inquiry = inquiry(probe, address(from, family), address(to, family));
        let judgements = self.judgements(&inquiry, from, to);
        let ends = [from, to].into_iter().zip(judgements);
        let ends = ends.map(|(pod, judgement)| {
            let rule = judgement.asked.and_then(|(_, decision)| decision.rule);
            let rule = rule.and_then(|rule| self.view(pod).snapshot().policy.rule(rule));
            let rule = rule.map_or_else(|| "no rule".into(), ToString::to_string);
            format!("{}: {:?} by {rule}", PODS[pod].2, judgement.verdict)
        });
        ends.collect::<Vec<_>>().join("; ")
    }

    fn view(&self, pod: usize) -> &View {
        let node = NODES.iter().position(|node| *node == PODS[pod].2);
        &self.views[node.expect("a pod runs on one of the nodes")]
    }

    fn decides(
        &self,
        inquiry: &Inquiry,
        from: usize,
        to: usize,
        decide: impl Fn(&View, &Question<'_>) -> Decision,
    ) -> bool {
        let flow = &inquiry.flow;
        let ends = [
            (Direction::Egress, from, flow.source, flow.destination),
            (Direction::Ingress, to, flow.destination, flow.source),
        ];
        ends.into_iter().all(|(direction, pod, subject, peer)| {
            let view = self.view(pod);
            let party = |address| Party {
                address,
                endpoint: view.snapshot().endpoint(address).expect("a pod is known"),
            };
            let question = Question {
                direction,
                subject: party(subject),
                peer: party(peer),
                protocol: flow.protocol,
                port: Some(flow.destination_port),
            };
            decide(view, &question).is_allowed()
        })
    }

    /// At the source, and at the destination.
    fn judgements(&self, inquiry: &Inquiry, from: usize, to: usize) -> [Judgement<'_>; 2] {
        let out = self.view(from).snapshot().judge_out(inquiry);
        let there = match PODS[from].2 == PODS[to].2 {
            true => matches!(out.route, Route::Pod),
            false => matches!(out.route, Route::Node(_)),
        };
        assert!(there, "{} to {}: {:?}", name(from), name(to), out.route);
        let (destination, destination_port) = out.destination;
        let arriving = Inquiry {
            flow: Flow {
                destination,
                destination_port,
                ..inquiry.flow
            },
            ..*inquiry
        };
        [out, self.view(to).snapshot().judge_in(&arriving)]
    }
}

impl View {
    fn new(node: &str, manifests: &Manifests) -> View {
        let mut world = World::new(Settings {
            cluster: "eu".into(),
            id: 1,
            node: node.into(),
            clusters: Vec::new(),
            keys: vec![PublicKey::from_bytes([key_of(node); 32])],
            audit: false,
        });
        let compiled = world.compile();
        let mut view = View { world, compiled };
        view.change("nodes.yaml", Some(&nodes()));
        for (file, text) in manifests.files() {
            view.change(file, Some(text));
        }
        view.world.apply(Event::Loaded);
        view.compile().expect("the cluster without its policies");
        view
    }

    fn snapshot(&self) -> &Snapshot {
        &self.compiled.snapshot
    }

    fn change(&mut self, file: &str, text: Option<&str>) {
        let (cluster, file) = (1, file.to_owned());
        self.world.apply(match text {
            Some(text) => Event::File {
                cluster,
                parsed: parse(&file, text),
                file,
                hash: text.into(),
            },
            None => Event::FileGone { cluster, file },
        });
    }

    /// Whatever is not wholly in force would be another cluster than the case's.
    fn compile(&mut self) -> Result<(), String> {
        self.compiled = self.world.compile();
        let statuses = self.compiled.statuses.iter();
        let said = statuses.filter(|status| status.state != State::Enforced);
        let said = said.map(|status| format!("{}: {}", status.file, status.reasons.join("; ")));
        let sources = self.compiled.sources.iter();
        let problems = sources.flat_map(|s| s.problems.iter().map(ToString::to_string));
        let said: Vec<String> = said.chain(problems).collect();
        if said.is_empty() {
            Ok(())
        } else {
            Err(said.join("\n"))
        }
    }
}

/// The byte that a node's key is made of: its number.
fn key_of(node: &str) -> u8 {
    let number = node.trim_start_matches("eu-");
    number.parse().expect("a node has a number")
}

/// Node objects of both nodes, with the keys of [`key_of`].
fn nodes() -> String {
    let node = |(number, key): (u8, &str)| {
        format!(
            "apiVersion: v1\nkind: Node\n\
             metadata: {{name: eu-{number}, annotations: {{network.cilium.io/wg-pub-key: {key}=}}}}\n\
             spec: {{podCIDRs: [10.1.{number}.0/24, \"fd10:1::{number}:0/112\"]}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}]}}\n"
        )
    };
    // 32 bytes of one value, in base64.
    let keys = [
        (1, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
        (2, "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"),
    ];
    keys.map(node).join("---\n")
}

fn address(pod: usize, family: usize) -> Address {
    let text = &addresses(pod)[family];
    Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
}

fn inquiry(probe: &Probe, source: Address, destination: Address) -> Inquiry {
    let (protocol, kind) = match probe.protocol {
        "TCP" => (protocol::TCP, Kind::Tcp),
        "UDP" => (protocol::UDP, Kind::Udp),
        _ => (protocol::SCTP, Kind::Sctp),
    };
    Inquiry {
        flow: Flow {
            source,
            destination,
            source_port: 32_768,
            destination_port: probe.port,
            protocol,
        },
        kind,
        begins: true,
        pinned: None,
        preferred: None,
    }
}
