//! What is true: namespaces, pods, policies and services in the simulator's own words. The product
//! reads them as manifests, the reference reads them here, so a mistake of the codec shows as well.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Nodes, two for each cluster.
pub const NODES: usize = 4;
/// Clusters.
pub const CLUSTERS: usize = 2;
/// Their names.
pub const CLUSTER_NAMES: [&str; CLUSTERS] = ["eu", "us"];
/// The label that speaks of clusters.
pub const CLUSTER_LABEL: &str = "io.cilium.k8s.policy.cluster";
/// The label that each namespace has.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// TCP ports that every pod serves.
pub const TCP_PORTS: [u16; 2] = [80, 81];
/// The UDP port that every pod serves.
pub const UDP_PORT: u16 = 53;
/// The world host, outside of the mesh.
pub const WORLD: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7)),
];

/// The cluster of a node, 0 or 1.
pub const fn cluster_of(node: usize) -> usize {
    node / 2
}

/// The name of a node.
pub fn node_name(node: usize) -> String {
    format!("{}-{}", CLUSTER_NAMES[cluster_of(node)], node % 2 + 1)
}

/// The InternalIP of a node, which is also where its WireGuard listens.
pub fn node_v4(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 11 + node as u8).into()
}

/// Its InternalIP of the other family.
pub fn node_v6(node: usize) -> IpAddr {
    Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 11 + node as u16).into()
}

/// The address of the pod number `pod` of a node.
pub fn pod_v4(node: usize, pod: u8) -> IpAddr {
    Ipv4Addr::new(10, cluster_of(node) as u8 + 1, node as u8, pod).into()
}

/// Its address of the other family.
pub fn pod_v6(node: usize, pod: u8) -> IpAddr {
    let cluster = cluster_of(node) as u16 + 1;
    Ipv6Addr::new(0xfd10, cluster, node as u16, 0, 0, 0, 0, pod.into()).into()
}

/// A prefix, as it is written in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first address.
    pub address: IpAddr,
    /// How many bits count.
    pub length: u8,
}

impl Block {
    /// Whether an address lies in it: bit by bit.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        };
        let differing = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4()
            && differing.leading_zeros() >= u32::from(self.length)
    }
}

/// Transports that policies tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which no pod speaks, but policies do.
    Sctp,
    /// ICMP of either family.
    Icmp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            Protocol::Icmp => "ICMP",
        }
    }
}

/// Whether a pod takes new flows of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not.
    Unready,
    /// Only if nobody else does.
    Terminating,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name, unique in all clusters.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<&'static str, &'static str>,
    /// Its node.
    pub node: usize,
    /// IPv4, IPv6 or both.
    pub addresses: Vec<IpAddr>,
    /// TCP port that it calls `http`.
    pub http: Option<u16>,
    /// Whether it calls UDP port 53 `dns`.
    pub dns: bool,
    /// Whether it takes flows of services.
    pub readiness: Readiness,
}

/// Namespaces and pods of a cluster: one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Labels of namespaces by name; a namespace that is not here is known from its pods only.
    pub namespaces: BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>,
    /// The pods.
    pub pods: Vec<Pod>,
}

/// What a selector asks of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// The label.
    pub key: &'static str,
    /// What is asked.
    pub operator: Operator,
}

/// How a label is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// `matchLabels`.
    Is(&'static str),
    /// `In`.
    In(Vec<&'static str>),
    /// `NotIn`.
    NotIn(Vec<&'static str>),
    /// `Exists`.
    Exists,
    /// `DoesNotExist`.
    DoesNotExist,
}

/// A label selector; without requirements it selects everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(pub Vec<Requirement>);

/// One peer of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    /// Pods.
    Pods {
        /// `namespaceSelector`.
        namespaces: Option<Selector>,
        /// `podSelector`.
        pods: Option<Selector>,
    },
    /// `ipBlock`.
    Addresses {
        /// `cidr`.
        block: Block,
        /// `except`.
        except: Vec<Block>,
    },
}

/// One item of a rule's ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Which.
    pub range: PortRange,
}

/// Which ports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PortRange {
    /// All.
    Any,
    /// One.
    One(u16),
    /// `port` to `endPort`.
    To(u16, u16),
    /// By name.
    Named(&'static str),
}

/// One rule: one of the peers and one of the ports, none of them meaning any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `from` or `to`.
    pub peers: Vec<Peer>,
    /// `ports`.
    pub ports: Vec<Port>,
}

/// A NetworkPolicy. `None` for a direction: it does not govern it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: String,
    /// Whom it governs.
    pub subject: Selector,
    /// What they may receive.
    pub ingress: Option<Vec<Rule>>,
    /// What they may send.
    pub egress: Option<Vec<Rule>>,
    /// Whether it has a field that nobody knows: then it denies.
    pub unenforceable: bool,
}

/// Which clusters' backends a service prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// None.
    None,
    /// Its own.
    Local,
    /// The others'.
    Remote,
}

/// A service of type ClusterIP.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name, the same in all clusters.
    pub name: &'static str,
    /// `clusterIPs`.
    pub addresses: Vec<IpAddr>,
    /// Label `app` of its pods.
    pub app: &'static str,
    /// The annotation `global`.
    pub global: bool,
    /// The annotation `shared`.
    pub shared: bool,
    /// The annotation `affinity`.
    pub affinity: Affinity,
    /// `sessionAffinity: ClientIP`.
    pub client_stays: bool,
    /// `internalTrafficPolicy: Local`.
    pub own_node_only: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether its backends are written down in an EndpointSlice; else they are the pods'.
    pub slice: Option<Vec<SliceEndpoint>>,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServicePort {
    /// By which clusters' ports are matched.
    pub name: &'static str,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// At the service's address.
    pub port: u16,
    /// At a pod.
    pub target: PortRange,
}

/// A backend in an EndpointSlice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// `nodeName`: the node that the pod ran on when it was written.
    pub node: usize,
    /// Whether it is ready.
    pub readiness: Readiness,
}

/// What a cluster's manifests say.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces and pods.
    pub inventory: Arc<Inventory>,
    /// Policies.
    pub policies: Arc<Vec<Policy>>,
    /// Services.
    pub services: Arc<Vec<Service>>,
}

/// What somebody holds to be true of all clusters: the truth itself, or what one node has read.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The clusters.
    pub clusters: [Cluster; CLUSTERS],
}

/// A manifest file of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// Namespaces and pods.
    Inventory,
    /// Policies.
    Policies,
    /// Services.
    Services,
}

/// All files.
pub const FILES: [File; 3] = [File::Inventory, File::Policies, File::Services];

impl View {
    /// Takes one file from somebody who knows better.
    pub fn read(&mut self, cluster: usize, file: File, from: &Cluster) {
        let mine = &mut self.clusters[cluster];
        match file {
            File::Inventory => mine.inventory = from.inventory.clone(),
            File::Policies => mine.policies = from.policies.clone(),
            File::Services => mine.services = from.services.clone(),
        }
    }

    /// All pods, with their clusters.
    pub fn pods(&self) -> impl Iterator<Item = (usize, &Pod)> {
        self.clusters
            .iter()
            .enumerate()
            .flat_map(|(number, cluster)| cluster.inventory.pods.iter().map(move |p| (number, p)))
    }
}
