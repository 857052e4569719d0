//! Policies of every kind in the words of the room `policy`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use packet::{Address, Prefix};
use policy::{
    Direction, Entity as Kin, Entry, EntryVerdict, Identity, Isolates, Peer as PolicyPeer, Peers,
    Policy as Compiled, PolicyName, PortMatch, PortRule, Ports, Requirement as Label, Selector,
    Whose, key,
};

use crate::inventory::{Inventory, Key, Kind, Stand, Touched, labels_of};
use crate::object::{
    EndpointSlice, Entity, LabelSelector, Namespaces, Object, Operator, Part, Peer, Policy, Port,
    PortRange, Rule, Service, ServiceChoice,
};
use crate::status::{Report, Said, State};

/// The own cluster's policies, translated.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    all: BTreeMap<Key, Translated>,
    /// Those that speak of services.
    of_services: BTreeSet<Key>,
    /// This node's addresses when they were translated.
    host: Vec<Address>,
}

#[derive(Debug)]
struct Translated {
    parts: Vec<Arc<Compiled>>,
    /// The labels of [`key::CHURN`] that it selects by.
    churning: Vec<&'static str>,
}

impl Policies {
    /// Translates what was touched; returns whether anything is not what it was.
    pub(crate) fn update(&mut self, own: &Own<'_>, touched: &Touched, report: &mut Report) -> bool {
        let is_of_service = |key: &Key| {
            key.cluster == own.id && (key.kind == Service::NAME || key.kind == EndpointSlice::NAME)
        };
        let mut keys: BTreeSet<Key> = touched.moved.clone();
        if touched.changed.keys().any(is_of_service) {
            keys.extend(self.of_services.iter().cloned());
        }
        if self.host != own.host {
            self.host = own.host.to_vec();
            keys.extend(self.all.keys().cloned());
        }
        let mut differs = false;
        for key in keys {
            let stand = own.inventory.stands(&key).last();
            let policy = stand.and_then(|stand| match &*stand.located.object {
                Object::Policy(policy) => Some((stand, policy)),
                _ => None,
            });
            match policy {
                Some(_) if key.cluster != own.id => {
                    let mut said = Said::ENFORCED;
                    let reason =
                        "a policy governs the pods of its own cluster, and this is another's";
                    said.say(State::Ignored, reason);
                    report.set(&key, said);
                }
                Some((stand, policy)) => differs |= self.renew(own, key, stand, policy, report),
                None => {
                    differs |= self.all.remove(&key).is_some();
                    self.of_services.remove(&key);
                }
            }
        }
        differs
    }

    fn renew(
        &mut self,
        own: &Own<'_>,
        key: Key,
        stand: &Stand,
        policy: &Policy,
        report: &mut Report,
    ) -> bool {
        let (parts, said) = own.translate(stand, policy);
        report.set(&key, said);
        if speaks_of_services(policy) {
            self.of_services.insert(key.clone());
        } else {
            self.of_services.remove(&key);
        }
        let same = self.all.get(&key).is_some_and(|old| {
            let old = old.parts.iter().map(|part| &**part);
            old.eq(parts.iter())
        });
        if !same {
            let churning = churning(&parts);
            let parts = parts.into_iter().map(Arc::new).collect();
            self.all.insert(key, Translated { parts, churning });
        }
        !same
    }

    /// All of them, in their order.
    pub(crate) fn list(&self) -> Vec<Arc<Compiled>> {
        let parts = self.all.values().flat_map(|policy| &policy.parts);
        parts.cloned().collect()
    }

    /// The labels of [`key::CHURN`] that some policy selects by.
    pub(crate) fn churning(&self) -> BTreeSet<&'static str> {
        let keys = self.all.values().flat_map(|policy| &policy.churning);
        keys.copied().collect()
    }
}

/// The own cluster, for which policies are translated.
pub(crate) struct Own<'a> {
    pub(crate) id: u8,
    pub(crate) name: &'a str,
    pub(crate) inventory: &'a Inventory,
    /// The addresses of this node.
    pub(crate) host: &'a [Address],
    /// Whether all of its policies are in audit mode.
    pub(crate) audit: bool,
}

impl Own<'_> {
    fn translate(&self, stand: &Stand, policy: &Policy) -> (Vec<Compiled>, Said) {
        let mut said = Said::ENFORCED;
        let refused = policy.refused.as_ref().map(|why| {
            let reason = format!("line {}: {}", why.at.line, why.reason);
            said.say(State::Refused, reason.as_str());
            said.problems.clone_from(&why.problems);
            reason
        });
        let origin = format!("{}:{}", stand.located.file, stand.located.at.line);
        let parts = policy.parts.iter();
        let parts = parts.map(|part| self.part(policy, part, &origin, refused.clone()));
        let parts: Vec<Compiled> = parts.collect();
        let entries = parts.iter().flat_map(|part| &part.entries);
        for entry in entries.filter(|entry| self.denies_host(entry)) {
            said.say(State::Partly, not_intercepted(entry.direction));
        }
        (parts, said)
    }

    /// Whether an entry is to deny what passes between pods and this node itself.
    fn denies_host(&self, entry: &Entry) -> bool {
        let nothing = matches!(&entry.ports, Ports::Of(ports) if ports.is_empty());
        let is_meant = |peer: &PolicyPeer| match peer {
            PolicyPeer::Selector(_) => false,
            PolicyPeer::Cidr {
                prefix,
                except,
                whose,
            } => {
                let is_out = |host: &Address| except.iter().any(|hole| hole.contains(*host));
                let mut hosts = self.host.iter().filter(|host| prefix.contains(**host));
                *whose == Whose::Anybody && hosts.any(|host| !is_out(host))
            }
            PolicyPeer::Entity(kin) => match kin {
                Kin::All | Kin::Mesh => true,
                Kin::Cluster(cluster) => *cluster == self.id,
                Kin::One(identity) => *identity == Identity::HOST,
                Kin::World | Kin::WorldV4 | Kin::WorldV6 => false,
            },
        };
        entry.verdict == EntryVerdict::Deny
            && !nothing
            && match &entry.peers {
                Peers::Any => true,
                Peers::Of(peers) => peers.iter().any(is_meant),
            }
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
            audit: policy.audit || self.audit,
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
                let services = self.inventory.all::<Service>(self.id);
                let is_in = |key: &Key| namespace.as_ref().is_none_or(|n| **n == *key.namespace);
                services
                    .filter(|(key, service)| is_in(key) && is_chosen(service, which))
                    .flat_map(|(key, service)| self.backends(key, service))
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
            Entity::ApiServer => Kin::One(Identity::KUBE_APISERVER),
        };
        let mut peers = vec![PolicyPeer::Entity(kin)];
        if has_api_server(entity) {
            let key = Key::to::<Service>(self.id, &"default".into(), &"kubernetes".into());
            peers.extend(self.addresses(&key, Whose::Anybody));
        }
        peers
    }

    /// Whom a service means: the pods that it selects, ready or not, or else who is outside of the
    /// mesh at the addresses of its EndpointSlices (Cilium, `pkg/policy/k8s/service.go`).
    fn backends(&self, key: &Key, service: &Service) -> Vec<PolicyPeer> {
        if service.selector.is_empty() {
            return self.addresses(key, Whose::Outsider);
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
    fn addresses(&self, service: &Key, whose: Whose) -> Vec<PolicyPeer> {
        let slices = self.inventory.slices(service).unwrap_or_default();
        let endpoints = slices.into_iter().flat_map(|slice| &slice.endpoints);
        let addresses: BTreeSet<_> = endpoints.flat_map(|endpoint| &endpoint.addresses).collect();
        let host = |address: &Address| PolicyPeer::Cidr {
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

/// Why a denial of the host is not in force: kubelet's probes must get through.
fn not_intercepted(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => {
            "what a node sends to its own pods does not pass by us, so it is not denied"
        }
        Direction::Egress => {
            "what a pod sends to its own node does not pass by us, so it is not denied"
        }
    }
}

/// Whether what it means changes with services and their slices.
fn speaks_of_services(policy: &Policy) -> bool {
    let rules = policy.parts.iter().flat_map(|part| &part.rules);
    let mut peers = rules.flat_map(|rule| rule.peers.iter().flatten());
    peers.any(|peer| match peer {
        Peer::Services { .. } => true,
        Peer::Entity(entity) => has_api_server(*entity),
        Peer::Pods { .. } | Peer::Block { .. } => false,
    })
}

/// Whether an entity means the API server by name, wherever it answers: that may be outside of the
/// cluster that is its own.
fn has_api_server(entity: Entity) -> bool {
    matches!(entity, Entity::ApiServer | Entity::Cluster | Entity::Mesh)
}

/// The labels of [`key::CHURN`] that these select by.
fn churning(policies: &[Compiled]) -> Vec<&'static str> {
    let entries = policies.iter().flat_map(|policy| &policy.entries);
    let peers = entries.flat_map(|entry| match &entry.peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers.as_slice(),
    });
    let of_peers = peers.filter_map(|peer| match peer {
        PolicyPeer::Selector(selector) => Some(selector),
        PolicyPeer::Cidr { .. } | PolicyPeer::Entity(_) => None,
    });
    let subjects = policies.iter().map(|policy| &policy.subject);
    let selectors: Vec<&Selector> = subjects.chain(of_peers).collect();
    let is_named = |label: &&str| selectors.iter().any(|selector| selector.names(label));
    key::CHURN.into_iter().filter(is_named).collect()
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
