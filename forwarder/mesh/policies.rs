//! Policies of every kind in the words of the room `policy`.

use std::collections::BTreeSet;

use packet::Prefix;
use policy::{
    Entity as Kin, Entry, Identity, Isolates, Peer as PolicyPeer, Peers, Policy as Compiled,
    PolicyName, PortMatch, PortRule, Ports, Requirement as Label, Selector, Whose, key,
};

use crate::inventory::{ClusterObjects, Held, labels_of};
use crate::object::{
    Entity, LabelSelector, Namespaces, Operator, Part, Peer, Policy, Port, PortRange, Rule,
    Service, ServiceChoice,
};
use crate::status::{Report, State};

/// The own cluster, for which policies are translated.
pub(crate) struct Own<'a, 'w> {
    pub(crate) id: u8,
    pub(crate) name: &'a str,
    pub(crate) objects: &'a ClusterObjects<'w>,
}

impl Own<'_, '_> {
    /// Its policies, translated.
    pub(crate) fn translate(&self, report: &mut Report) -> Vec<Compiled> {
        let mut all = Vec::new();
        for held in &self.objects.policies {
            report.enforced(self.id, held.located);
            let refused = held.object.refused.as_ref().map(|why| {
                let reason = format!("line {}: {}", why.at.line, why.reason);
                report.say(self.id, held.located, State::Refused, reason.as_str());
                report.explain(self.id, held.located, &why.problems);
                reason
            });
            let origin = format!("{}:{}", held.located.file, held.located.at.line);
            for part in &held.object.parts {
                all.push(self.part(held.object, part, &origin, refused.clone()));
            }
        }
        all
    }

    fn part(
        &self,
        policy: &Policy,
        part: &Part,
        origin: &str,
        refused: Option<String>,
    ) -> Compiled {
        let rules = part.rules.iter();
        Compiled {
            name: PolicyName {
                kind: policy.kind.into(),
                namespace: policy.namespace.clone(),
                name: policy.name.clone(),
            },
            origin: origin.into(),
            // The cluster comes on top of what is written, so nobody else's pods are ever governed.
            subject: selector(self.name, &policy.namespace, &part.namespaces, &part.pods)
                .with(key::CLUSTER, self.name),
            entries: rules.map(|rule| self.entry(policy, rule)).collect(),
            isolates: Isolates {
                ingress: part.ingress,
                egress: part.egress,
            },
            refused,
        }
    }

    fn entry(&self, policy: &Policy, rule: &Rule) -> Entry {
        let (tier, priority) = rule.order;
        let peers = rule.peers.as_ref();
        let ports = rule.ports.as_ref();
        Entry {
            direction: rule.direction,
            tier,
            priority,
            verdict: rule.verdict,
            peers: peers.map_or(Peers::Any, |peers| {
                let peers = peers.iter();
                Peers::Of(peers.flat_map(|peer| self.peer(policy, peer)).collect())
            }),
            ports: ports.map_or(Ports::Any, |ports| {
                Ports::Of(ports.iter().map(port).collect())
            }),
        }
    }

    fn peer(&self, policy: &Policy, peer: &Peer) -> Vec<PolicyPeer> {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let selector = selector(self.name, &policy.namespace, namespaces, pods);
                vec![PolicyPeer::Selector(selector)]
            }
            Peer::Block {
                prefix,
                except,
                whose,
            } => vec![PolicyPeer::Cidr {
                prefix: *prefix,
                except: except.clone(),
                whose: *whose,
            }],
            Peer::Entity(entity) => self.entity(*entity),
            Peer::Services { namespace, which } => {
                let services = self.objects.services.values().map(|held| held.object);
                services
                    .filter(|service| namespace.as_ref().is_none_or(|n| *n == service.namespace))
                    .filter(|service| is_chosen(service, which))
                    .flat_map(|service| self.backends(service))
                    .collect()
            }
        }
    }

    fn entity(&self, entity: Entity) -> Vec<PolicyPeer> {
        let kin = match entity {
            Entity::All => Kin::All,
            Entity::World => Kin::World,
            Entity::WorldV4 => Kin::WorldV4,
            Entity::WorldV6 => Kin::WorldV6,
            Entity::Cluster => Kin::Cluster(self.id),
            Entity::Mesh => Kin::Mesh,
            Entity::One(identity) => Kin::One(identity),
            Entity::None => return Vec::new(),
            Entity::ApiServer => {
                let mut peers = self.addresses("default", "kubernetes", Whose::Anybody);
                peers.push(PolicyPeer::Entity(Kin::One(Identity::KUBE_APISERVER)));
                return peers;
            }
        };
        vec![PolicyPeer::Entity(kin)]
    }

    /// Whom a service means: the pods that it selects, ready or not, or else who is outside of the
    /// mesh at the addresses of its EndpointSlices (Cilium, `pkg/policy/k8s/service.go`).
    fn backends(&self, service: &Service) -> Vec<PolicyPeer> {
        if service.selector.is_empty() {
            return self.addresses(&service.namespace, &service.name, Whose::Outsider);
        }
        let pods = Selector::everything()
            .with(key::NAMESPACE, &service.namespace)
            .with(key::CLUSTER, self.name);
        let labels = service.selector.iter();
        vec![PolicyPeer::Selector(
            labels.fold(pods, |pods, (key, value)| pods.with(key, value)),
        )]
    }

    /// Every address in a service's EndpointSlices.
    fn addresses(&self, namespace: &str, name: &str, whose: Whose) -> Vec<PolicyPeer> {
        let slices = self.objects.slices.get(&(namespace, name));
        let endpoints = slices.into_iter().flatten();
        let endpoints = endpoints.flat_map(|held| &held.object.endpoints);
        let addresses: BTreeSet<_> = endpoints.flat_map(|endpoint| &endpoint.addresses).collect();
        let host = |address: &packet::Address| PolicyPeer::Cidr {
            prefix: Prefix::host(*address),
            except: Vec::new(),
            whose,
        };
        addresses.into_iter().map(host).collect()
    }
}

fn is_chosen(service: &Service, which: &ServiceChoice) -> bool {
    match which {
        ServiceChoice::Named(name) => *name == service.name,
        ServiceChoice::Labelled(labels) => {
            let wanted = labels.requirements.iter();
            let wanted = wanted.map(|wanted| label(wanted.key.clone(), &wanted.operator));
            let selector = wanted.fold(Selector::everything(), Selector::and);
            selector.matches(&labels_of(&service.labels))
        }
    }
}

/// The policies of other clusters: each cluster enforces its own.
pub(crate) fn ignore(cluster: u8, policies: &[Held<'_, Policy>], report: &mut Report) {
    for held in policies {
        let reason = "a policy governs the pods of its own cluster, and this is another's";
        report.say(cluster, held.located, State::Ignored, reason);
    }
}

/// The labels that some policy selects by.
pub(crate) fn selected(policies: &[Compiled]) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for policy in policies {
        keys.extend(policy.subject.requirements.iter().map(Label::key));
        for entry in &policy.entries {
            let peers = match &entry.peers {
                Peers::Any => &[],
                Peers::Of(peers) => peers.as_slice(),
            };
            for peer in peers {
                if let PolicyPeer::Selector(selector) = peer {
                    keys.extend(selector.requirements.iter().map(Label::key));
                }
            }
        }
    }
    keys
}

fn port(port: &Port) -> PortRule {
    PortRule {
        protocol: port.protocol,
        port: match &port.port {
            PortRange::Any => PortMatch::Any,
            PortRange::Numbers(first, last) => PortMatch::Range(*first, *last),
            PortRange::Name(name) => PortMatch::Named(name.clone()),
        },
    }
}

/// Pods by their own and their namespaces' labels, of the own cluster unless the label of the
/// cluster is spoken of: Cilium's default since 1.19.
fn selector(
    cluster: &str,
    namespace: &str,
    namespaces: &Namespaces,
    pods: &LabelSelector,
) -> Selector {
    let mut selector = Selector::everything();
    for requirement in &pods.requirements {
        selector = selector.and(label(requirement.key.clone(), &requirement.operator));
    }
    match namespaces {
        Namespaces::Own => selector = selector.with(key::NAMESPACE, namespace),
        Namespaces::Labelled(labels) => {
            for requirement in &labels.requirements {
                let key = namespace_key(&requirement.key);
                selector = selector.and(label(key, &requirement.operator));
            }
            selector = selector.and(Label::Exists(key::NAMESPACE.into()));
        }
    }
    if selector.names(key::CLUSTER) {
        selector
    } else {
        selector.with(key::CLUSTER, cluster)
    }
}

/// A namespace's label as its pods carry it. The cluster is no label of namespaces, and may be
/// named in their selector all the same.
fn namespace_key(label: &str) -> String {
    if label == key::CLUSTER {
        label.into()
    } else {
        format!("{}{label}", key::NAMESPACE_LABEL_PREFIX)
    }
}

fn label(key: String, operator: &Operator) -> Label {
    match operator {
        Operator::In(values) => Label::In(key, values.clone()),
        Operator::NotIn(values) => Label::NotIn(key, values.clone()),
        Operator::Exists => Label::Exists(key),
        Operator::DoesNotExist => Label::DoesNotExist(key),
    }
}
