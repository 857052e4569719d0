//! A flow's way through the data path's own judgements, from its source to its destination, as far
//! as they are this cluster's.

use std::sync::Arc;

use balance::Service;
use datapath::{Inquiry, Judgement, Reason, Route, Snapshot};
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
        let seen_from = |place| move |address| nodes.whose(snapshot, place, address);
        let source = snapshot.route(flow.source);
        let served = |own| theirs.unwrap_or(own);
        let mut out = snapshot.judge_out_where(inquiry, seen_from(source), served);
        let is_outside = |address| snapshot.route(address) == Route::World;
        let outside = source == Route::World && is_outside(flow.destination);
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
        let entering = snapshot.judge_in_where(&arriving, seen_from(snapshot.route(destination)));
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
        Way {
            out,
            entering,
            egress,
            ingress,
        }
    }
}

/// Who nodes are to each other: to itself each is the host, to all others a remote node.
#[derive(Debug)]
pub(super) struct Nodes {
    /// This one as the others see it; none where it has no address.
    own: Option<Arc<Endpoint>>,
    /// Each of [`Snapshot::nodes`] as it sees itself.
    others: Vec<Option<Arc<Endpoint>>>,
}

impl Nodes {
    pub(super) fn of(snapshot: &Snapshot) -> Nodes {
        let seen_as = |addresses: &[Address], identity| {
            let endpoint = snapshot.endpoint(*addresses.first()?)?;
            Some(Arc::new(Endpoint {
                identity,
                ..Endpoint::clone(endpoint)
            }))
        };
        let others = snapshot.nodes.iter();
        Nodes {
            own: seen_as(&snapshot.own.addresses, Identity::REMOTE_NODE),
            others: others
                .map(|node| seen_as(&node.addresses, Identity::HOST))
                .collect(),
        }
    }

    /// Whose an address is to the node that carries for `place`.
    fn whose<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        place: Route,
        address: Address,
    ) -> Option<&'a Arc<Endpoint>> {
        let here = snapshot.endpoint(address)?;
        let Route::Node(number) = place else {
            return Some(here);
        };
        let node = snapshot.nodes.get(number as usize)?;
        let there = match here.identity {
            Identity::HOST => self.own.as_ref(),
            Identity::REMOTE_NODE if node.addresses.contains(&address) => {
                self.others.get(number as usize)?.as_ref()
            }
            _ => None,
        };
        there.or(Some(here))
    }
}
