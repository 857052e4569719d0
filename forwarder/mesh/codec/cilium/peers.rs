//! With whom: `fromEndpoints`, `toCIDRSet` and the like. A rule without any of these is about
//! everybody, and one in which any list of peers is empty about nobody, whatever stands beside it
//! (Cilium, `mergeEndpointSelectors` in `pkg/policy`); only an empty `toServices` takes nothing from
//! the others. A rule with peers in two lists Cilium does not take.

use config::Fields;
use config::tree::Tree;
use policy::{Direction, EntryVerdict, Identity, Whose, key};

use crate::codec::metadata::items;
use crate::codec::policy::{Draft, block, holes, is_written};
use crate::codec::selector::selector;
use crate::object::{
    Entity, LabelSelector, Namespaces, Operator, Peer, Requirement, ServiceChoice,
};

/// Who reads an item of a field.
type ReadPeer<'f> = fn(&mut Draft<'f>, &Tree, &str) -> Option<Peer>;

/// The fields of a rule that name peers.
fn readers<'f>(direction: Direction) -> Vec<(&'static str, ReadPeer<'f>)> {
    match direction {
        Direction::Ingress => vec![
            ("fromEndpoints", Draft::endpoints),
            ("fromEntities", Draft::entity),
            ("fromCIDR", Draft::cidr),
            ("fromCIDRSet", Draft::cidr_set),
        ],
        Direction::Egress => vec![
            ("toEndpoints", Draft::endpoints),
            ("toEntities", Draft::entity),
            ("toCIDR", Draft::cidr),
            ("toCIDRSet", Draft::cidr_set),
            ("toServices", Draft::service),
        ],
    }
}

/// Their names.
pub(super) fn keys(direction: Direction) -> Vec<&'static str> {
    readers(direction).into_iter().map(|(key, _)| key).collect()
}

impl<'f> Draft<'f> {
    pub(super) fn peers(
        &mut self,
        fields: &Fields<'_>,
        direction: Direction,
        verdict: EntryVerdict,
    ) -> Option<Vec<Peer>> {
        let mut peers: Option<Vec<Peer>> = None;
        let mut first = None;
        let mut nobody = false;
        for (key, read) in readers::<'f>(direction) {
            let Some(tree) = fields.get(key) else {
                continue;
            };
            if !is_written(Some(tree)) {
                nobody |= key != "toServices";
            } else if let Some(other) = first.replace(key) {
                let reason = format!("`{key}` beside `{other}` is not enforced: make two rules");
                self.refusals.add(tree.at, reason);
            }
            if key == "toServices" && verdict == EntryVerdict::Deny {
                // A backend of another cluster would get through.
                let reason = "`toServices` is not enforced where it is to deny";
                self.refusals.add(tree.at, reason);
            }
            let peers = peers.get_or_insert_default();
            for tree in items(&mut self.reader, Some(tree), &format!("`{key}`")) {
                peers.extend(read(self, tree, &format!("an item of `{key}`")));
            }
        }
        if nobody {
            return Some(Vec::new());
        }
        peers
    }

    fn endpoints(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        let pods = self.labels(tree, what)?;
        if let Some(entity) = reserved_entity(&pods) {
            return Some(Peer::Entity(entity));
        }
        let is_reserved = |wanted: &&Requirement| wanted.key.starts_with(key::RESERVED_PREFIX);
        if let Some(wanted) = pods.requirements.iter().find(is_reserved) {
            let key = &wanted.key;
            let reason = format!("{what} selects by `{key}`: name it among the entities");
            self.refusals.add(tree.at, reason);
            return None;
        }
        Some(Peer::Pods {
            namespaces: if names_namespace(&pods) {
                Namespaces::ALL
            } else {
                self.namespaces()
            },
            pods,
        })
    }

    fn entity(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        let entity = self.reader.word(tree, what, &ENTITIES)?;
        Some(Peer::Entity(entity))
    }

    fn cidr(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        Some(Peer::Block {
            prefix: block(&mut self.reader, tree, what, true)?,
            except: Vec::new(),
            whose: Whose::Outsider,
        })
    }

    fn cidr_set(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        let fields = self.reader.fields(tree, what)?;
        if !self.refusals.only(&fields, what, &["cidr", "except"]) {
            // Such as a group of CIDRs in place of one.
            return None;
        }
        let cidr = fields.need(&mut self.reader, "cidr", "write a prefix")?;
        let prefix = block(&mut self.reader, cidr, "`cidr`", true)?;
        let except = items(&mut self.reader, fields.get("except"), "`except`");
        Some(Peer::Block {
            prefix,
            except: holes(&mut self.reader, except, prefix, true),
            whose: Whose::Outsider,
        })
    }

    /// By name or by labels; without a namespace in all of them (Cilium,
    /// `pkg/policy/k8s/service.go`).
    fn service(&mut self, tree: &Tree, what: &str) -> Option<Peer> {
        let fields = self.reader.fields(tree, what)?;
        self.refusals
            .only(&fields, what, &["k8sService", "k8sServiceSelector"]);
        let (which, fields) = match (fields.get("k8sService"), fields.get("k8sServiceSelector")) {
            (Some(tree), None) => {
                let fields = self.reader.fields(tree, "`k8sService`")?;
                self.refusals
                    .only(&fields, "`k8sService`", &["serviceName", "namespace"]);
                let hint = "write the service's name";
                let name = fields.need(&mut self.reader, "serviceName", hint)?;
                let name = self.reader.text(name, "`serviceName`")?;
                (ServiceChoice::Named(name.into()), fields)
            }
            (None, Some(tree)) => {
                let fields = self.reader.fields(tree, "`k8sServiceSelector`")?;
                self.refusals
                    .only(&fields, "`k8sServiceSelector`", &["selector", "namespace"]);
                let hint = "write the labels of services";
                let labels = fields.need(&mut self.reader, "selector", hint)?;
                let labels = selector(&mut self.reader, &mut self.refusals, labels, "`selector`")?;
                (ServiceChoice::Labelled(labels), fields)
            }
            _ => {
                let hint = "write `k8sService` or `k8sServiceSelector`";
                let message = format!("{what} names services in one way");
                self.reader.complain(tree.at, message, hint);
                return None;
            }
        };
        let namespace = match fields.get("namespace") {
            Some(tree) => Some(self.reader.text(tree, "`namespace`")?),
            None => None,
        };
        Some(Peer::Services {
            namespace: namespace.filter(|name| !name.is_empty()).map(Into::into),
            which,
        })
    }
}

/// Whether a selector says itself which namespaces it means.
fn names_namespace(pods: &LabelSelector) -> bool {
    pods.requirements.iter().any(|wanted| {
        wanted.key == key::NAMESPACE || wanted.key.starts_with(key::NAMESPACE_LABEL_PREFIX)
    })
}

/// The entity that a selector of nothing but one reserved label is, such as `reserved:host`. Those
/// that stand for several have no label.
fn reserved_entity(pods: &LabelSelector) -> Option<Entity> {
    let [wanted] = pods.requirements.as_slice() else {
        return None;
    };
    let name = wanted.key.strip_prefix(key::RESERVED_PREFIX)?;
    let is_there = match &wanted.operator {
        Operator::In(values) => *values == [""],
        Operator::Exists => true,
        Operator::NotIn(_) | Operator::DoesNotExist => false,
    };
    let several = |entity| matches!(entity, Entity::All | Entity::Cluster | Entity::Mesh);
    let (_, entity) = ENTITIES.iter().find(|(known, _)| *known == name)?;
    (is_there && !several(*entity)).then_some(*entity)
}

/// Cilium, `pkg/policy/api/entity.go`.
const ENTITIES: [(&str, Entity); 14] = [
    ("all", Entity::All),
    ("world", Entity::World),
    ("world-ipv4", Entity::WorldV4),
    ("world-ipv6", Entity::WorldV6),
    ("cluster", Entity::Cluster),
    ("cluster-mesh", Entity::Mesh),
    ("host", Entity::One(Identity::HOST)),
    ("remote-node", Entity::One(Identity::REMOTE_NODE)),
    ("kube-apiserver", Entity::ApiServer),
    ("init", Entity::One(Identity::INIT)),
    ("ingress", Entity::One(Identity::INGRESS)),
    ("unmanaged", Entity::One(Identity::UNMANAGED)),
    ("health", Entity::One(Identity::HEALTH)),
    ("none", Entity::None),
];
