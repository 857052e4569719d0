//! A flow's way through the data path's own judgements, from its source to its destination, as far
//! as they are this cluster's.

use std::collections::HashMap;
use std::sync::Arc;

use balance::Service;
use datapath::{Inquiry, Judgement, Reason, Route, Snapshot};
use mesh::Compiled;
use packet::{Address, Flow};
use policy::{Endpoint, Identity};

/// What becomes of a flow, and how far.
pub(super) struct Way<'a> {
    /// Where it leaves its source.
    pub(super) out: Judgement<'a>,
    /// Where it reaches its destination.
    pub(super) entering: Judgement<'a>,
    pub(super) egress: Judged,
    pub(super) ingress: Judged,
    /// Whether the flow is between a pod of this cluster and its own node. It is judged as any
    /// other, but the host's rules let it by.
    pub(super) at_home: bool,
}

/// Who judges one end, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// This cluster asks its policies, and whose the addresses are.
    Here(Result<(), Reason>),
    /// It is outside of the mesh, and nobody judges it.
    Free,
    /// Another cluster, by its id.
    Remote(u8),
    /// Nobody: nothing gets there.
    NotReached,
}

impl Judged {
    pub(super) fn denied(self) -> Option<Reason> {
        match self {
            Judged::Here(verdict) => verdict.err(),
            Judged::Free | Judged::Remote(_) | Judged::NotReached => None,
        }
    }
}

impl<'a> Way<'a> {
    /// The way of a flow; `theirs` is the service that it asks for, where the client's node has
    /// another one than we.
    pub(super) fn of(
        snapshot: &'a Snapshot,
        nodes: &'a Nodes,
        inquiry: &Inquiry,
        theirs: Option<&'a Arc<Service>>,
    ) -> Way<'a> {
        let flow = &inquiry.flow;
        let seen_from = |end| move |address| nodes.whose(snapshot, end, address);
        let served = |own| theirs.unwrap_or(own);
        let mut out = snapshot.judge_out_where(inquiry, seen_from(flow.source), served);
        let is_outside = |address| snapshot.route(address) == Route::World;
        let outside = is_outside(flow.source) && is_outside(flow.destination);
        if outside {
            // A node drops what is neither from nor for the mesh, before it looks at services: they
            // are for those within.
            out.destination = (flow.destination, flow.destination_port);
            out.peer = snapshot.endpoint(flow.destination);
        }
        let (destination, destination_port) = out.destination;
        let arriving = Inquiry {
            flow: Flow {
                destination,
                destination_port,
                ..*flow
            },
            ..*inquiry
        };
        let entering = snapshot.judge_in_where(&arriving, seen_from(destination));
        let remote = |endpoint: Option<&Arc<Endpoint>>| {
            let cluster = endpoint.and_then(|endpoint| endpoint.identity.cluster());
            cluster.filter(|cluster| *cluster != snapshot.own.cluster)
        };
        // Without a translation that worked there is nothing to enter anywhere.
        let reached = out.service.is_none() || out.peer.is_some();
        let egress = match remote(out.subject) {
            _ if outside => Judged::Here(Err(Reason::NotOurs)),
            Some(cluster) if reached => Judged::Remote(cluster),
            _ => Judged::Here(out.verdict),
        };
        let ingress = match remote(entering.subject) {
            _ if outside || !reached => Judged::NotReached,
            Some(cluster) => Judged::Remote(cluster),
            None if is_outside(destination) => Judged::Free,
            None => Judged::Here(entering.verdict),
        };
        // What a service's address was translated to has passed by us.
        let home = nodes.home(flow.source, flow.destination);
        let at_home = out.service.is_none() && home == Some(snapshot.own.cluster);
        Way {
            out,
            entering,
            egress,
            ingress,
            at_home,
        }
    }
}

/// Who nodes are to each other: to itself each is the host, to all others a remote node.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The node of each pod, by the pod's own addresses.
    of_pods: HashMap<Address, Node>,
    /// The nodes' own addresses.
    addresses: HashMap<Address, Faces>,
}

/// A node by its cluster and name. It need not be one that we reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    cluster: u8,
    name: String,
}

impl Node {
    /// Its cluster and name.
    pub(super) fn named(&self) -> (u8, &str) {
        (self.cluster, &self.name)
    }
}

/// What a node's address belongs to.
#[derive(Debug)]
struct Faces {
    node: Node,
    to_itself: Arc<Endpoint>,
    to_others: Arc<Endpoint>,
}

impl Nodes {
    pub(super) fn of(compiled: &Compiled) -> Nodes {
        let endpoints = compiled.snapshot.endpoints.iter();
        let addresses: HashMap<Address, Faces> = endpoints
            .filter_map(|(prefix, endpoint)| Some((prefix.address(), Faces::of(endpoint)?)))
            .collect();
        let pods = compiled.pods.iter().flat_map(|pod| {
            let of_pod = move |address: &Address| {
                let (cluster, name) = (pod.cluster, pod.node.clone());
                (*address, Node { cluster, name })
            };
            pod.addresses.iter().map(of_pod)
        });
        Nodes {
            // A pod in its node's network has its node's addresses.
            of_pods: pods
                .filter(|(address, _)| !addresses.contains_key(address))
                .collect(),
            addresses,
        }
    }

    /// Whose an address is to the node that judges the flow's end at `end`.
    fn whose<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        end: Address,
        address: Address,
    ) -> Option<&'a Arc<Endpoint>> {
        let Some(faces) = self.addresses.get(&address) else {
            return snapshot.endpoint(address);
        };
        Some(match self.at(end) == Some(&faces.node) {
            true => &faces.to_itself,
            false => &faces.to_others,
        })
    }

    /// The cluster in which one of these is a pod, and the other one its own node.
    fn home(&self, one: Address, other: Address) -> Option<u8> {
        let meet = |pod: Address, node: Address| {
            let home = self.of_pods.get(&pod)?;
            let node = &self.addresses.get(&node)?.node;
            (home == node).then_some(home.cluster)
        };
        meet(one, other).or(meet(other, one))
    }

    /// Where an address is.
    pub(super) fn at(&self, address: Address) -> Option<&Node> {
        let own = self.addresses.get(&address).map(|faces| &faces.node);
        own.or_else(|| self.of_pods.get(&address))
    }
}

impl Faces {
    /// None of what is no node.
    fn of(endpoint: &Endpoint) -> Option<Faces> {
        if !matches!(endpoint.identity, Identity::HOST | Identity::REMOTE_NODE) {
            return None;
        }
        let seen_as = |identity| {
            Arc::new(Endpoint {
                identity,
                ..endpoint.clone()
            })
        };
        Some(Faces {
            node: Node {
                cluster: endpoint.cluster?,
                name: endpoint.name.clone(),
            },
            to_itself: seen_as(Identity::HOST),
            to_others: seen_as(Identity::REMOTE_NODE),
        })
    }
}
