//! The Kubernetes objects that we understand, reduced to what we read of them.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use balance::Affinity;
use config::{Place, Problem};
use packet::{Address, Prefix};
use policy::{Direction, EntryVerdict, Identity, Tier, Whose};

/// Something with the place that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The file, as the reader was given it.
    pub file: Arc<str>,
    /// Where it begins.
    pub at: Place,
    /// What was read.
    pub object: T,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1` Node.
    Node(Node),
    /// `v1` Namespace.
    Namespace(Namespace),
    /// `v1` Pod.
    Pod(Pod),
    /// `v1` Service.
    Service(Service),
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A policy of any kind that we know, enforceable or not.
    Policy(Policy),
}

impl Object {
    /// The kind as Kubernetes calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Node(_) => "Node",
            Object::Namespace(_) => "Namespace",
            Object::Pod(_) => "Pod",
            Object::Service(_) => "Service",
            Object::EndpointSlice(_) => "EndpointSlice",
            Object::Policy(policy) => policy.kind,
        }
    }

    /// The namespace; empty for cluster-wide objects.
    pub fn namespace(&self) -> &str {
        match self {
            Object::Node(_) | Object::Namespace(_) => "",
            Object::Pod(pod) => &pod.namespace,
            Object::Service(service) => &service.namespace,
            Object::EndpointSlice(slice) => &slice.namespace,
            Object::Policy(policy) => &policy.namespace,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Object::Node(node) => &node.name,
            Object::Namespace(namespace) => &namespace.name,
            Object::Pod(pod) => &pod.name,
            Object::Service(service) => &service.name,
            Object::EndpointSlice(slice) => &slice.name,
            Object::Policy(policy) => &policy.name,
        }
    }
}

/// A node of any cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `status.addresses` of type InternalIP.
    pub addresses: Vec<Address>,
    /// `spec.podCIDRs`.
    pub pod_prefixes: Vec<Prefix>,
    /// What its annotations publish, lane 0 first; empty when there is no key. Without an endpoint
    /// it is the first InternalIP, IPv4 before IPv6, with port 51871.
    pub lanes: Vec<Lane>,
    /// Whether it has the annotation for lanes, with however many: who knows of lanes knows ours.
    pub knows_lanes: bool,
}

/// One lane that a node publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its static public key.
    pub key: [u8; 32],
    /// Where it listens, if that was said.
    pub endpoint: Option<SocketAddr>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`, with `kubernetes.io/metadata.name` whether it is written or not.
    pub labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: another one for each pod, whatever its name; empty in what people write.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.nodeName`; empty while it is not scheduled.
    pub node: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `status.podIPs`; none in phase Succeeded or Failed.
    pub addresses: Vec<Address>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Container ports that have a name.
    pub ports: Vec<ContainerPort>,
    /// Its condition Ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A container port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Its name.
    pub name: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.clusterIPs`; none of a headless one.
    pub cluster_ips: Vec<Address>,
    /// `spec.selector`; empty where somebody else writes the EndpointSlices.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `service.cilium.io/global`.
    pub global: bool,
    /// `service.cilium.io/shared`: whether others may use the backends, if it is global.
    pub shared: bool,
    /// `service.cilium.io/affinity`.
    pub affinity: Affinity,
    /// `spec.sessionAffinity: ClientIP` with its `timeoutSeconds`: how long after its last new flow a
    /// client stays with its backend.
    pub client_stays: Option<Duration>,
    /// `spec.internalTrafficPolicy: Local`.
    pub own_node_only: bool,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Why nothing of it can be served.
    pub skipped: Option<String>,
    /// What it asks for and does not get.
    pub missing: Vec<String>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Its name; empty where there is only one.
    pub name: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The port at the service's address.
    pub port: u16,
    /// The port at a pod.
    pub target: Target,
}

/// A port of a pod, as services name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The port itself.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

/// Some backends of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Label `kubernetes.io/service-name`.
    pub service: String,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports`; one without a number is left out.
    pub ports: Vec<ContainerPort>,
}

/// One backend of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// `addresses`.
    pub addresses: Vec<Address>,
    /// `nodeName`; empty when it is not said.
    pub node: String,
    /// `conditions.ready`; true when it is not said.
    pub ready: bool,
    /// `conditions.serving`; as ready when it is not said.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
}

/// A policy of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The kind as Kubernetes calls it.
    pub kind: &'static str,
    /// `metadata.namespace`; empty for cluster-wide ones.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// What it says, of each choice of pods by itself.
    pub parts: Vec<Part>,
    /// Why it cannot be enforced, if it cannot.
    pub refused: Option<Refused>,
    /// Annotation `policy.cilium.io/audit-mode`: what it denies passes, and is marked.
    pub audit: bool,
}

/// Why a policy cannot be enforced: its pods are then denied in the directions that it governs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, and how many reasons more there are.
    pub reason: String,
    /// The first thing that is in the way.
    pub at: Place,
    /// All that is in the way, in the order of the file; of very many the first.
    pub problems: Vec<Problem>,
}

/// Pods, and what a policy says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which pods of them.
    pub pods: LabelSelector,
    /// Whether what comes to them is denied where no rule allows it; where the policy is refused,
    /// whether it governs that at all.
    pub ingress: bool,
    /// The same of what they send.
    pub egress: bool,
    /// The rules, in the order of the file; none where the policy is refused.
    pub rules: Vec<Rule>,
}

/// Which namespaces a selector of pods speaks of.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    /// The policy's own.
    Own,
    /// Those with such labels.
    Labelled(LabelSelector),
}

impl Namespaces {
    /// All of them.
    pub const ALL: Namespaces = Namespaces::Labelled(LabelSelector {
        requirements: Vec::new(),
    });
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where it stands.
    pub at: Place,
    /// Which way the traffic goes.
    pub direction: Direction,
    /// When it is asked, and within the tier, lower first.
    pub order: (Tier, u32),
    /// What becomes of what it matches.
    pub verdict: EntryVerdict,
    /// With whom; `None` is anybody, an empty list nobody.
    pub peers: Option<Vec<Peer>>,
    /// To which destination ports; `None` is all traffic, an empty list none.
    pub ports: Option<Vec<Port>>,
}

/// One peer of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    /// Pods by their namespaces' and their own labels.
    Pods {
        /// In which namespaces.
        namespaces: Namespaces,
        /// Which pods of them.
        pods: LabelSelector,
    },
    /// Addresses.
    Block {
        /// `cidr`.
        prefix: Prefix,
        /// `except`, all within the prefix.
        except: Vec<Prefix>,
        /// Whom these addresses mean.
        whose: Whose,
    },
    /// By what it is.
    Entity(Entity),
    /// The backends of services of the own cluster.
    Services {
        /// In this namespace, or in all.
        namespace: Option<String>,
        /// Which of them.
        which: ServiceChoice,
    },
}

/// A choice of services.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceChoice {
    /// By name.
    Named(String),
    /// By their own labels.
    Labelled(LabelSelector),
}

/// Peers that go by what they are, as CiliumNetworkPolicy names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// `all`.
    All,
    /// `world`.
    World,
    /// `world-ipv4`.
    WorldV4,
    /// `world-ipv6`.
    WorldV6,
    /// `cluster`: the own one's pods and nodes, and its API server.
    Cluster,
    /// `cluster-mesh`: the pods and nodes of all clusters, and the own one's API server.
    Mesh,
    /// `kube-apiserver`: wherever the own cluster's service `kubernetes` is answered.
    ApiServer,
    /// Any other one: who has this reserved identity.
    One(Identity),
    /// `none`.
    None,
}

/// One item of a rule's ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// IP protocol number.
    pub protocol: u8,
    /// Which ports of it.
    pub port: PortRange,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRange {
    /// All.
    Any,
    /// From the first to the second, both included.
    Numbers(u16, u16),
    /// The container port of that name, of each pod its own.
    Name(String),
}

/// `metav1.LabelSelector`: all requirements must hold; without one it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Key by key.
    pub requirements: Vec<Requirement>,
}

/// What is required of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
}

/// How a label is compared (`metav1.LabelSelectorOperator`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is not there, or with none of these values.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}
