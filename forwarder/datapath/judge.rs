//! The decision about a new flow, at either of its ends. The data path and `explain` ask here
//! alike, so they cannot disagree.

use alloc::sync::Arc;

use balance::{Backend, Frontend, Service};
use packet::{Address, Flow, Kind, icmp_type};
use policy::{Decision, Direction, Endpoint, Identity, Owner, Party, Question, Verdict};

use crate::{Reason, Route, Side, Snapshot};

/// What is asked about a packet that begins a flow, or continues one that must be judged again.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry {
    /// As the packet carries it.
    pub flow: Flow,
    /// What it is: TCP, UDP and SCTP have a port that a rule can name, and ICMP has the type of the
    /// message. (The identifier of an echo is none, or it could be chosen to pass.)
    pub kind: Kind,
    /// Whether the packet may begin a flow through a service: a TCP segment that is no SYN may not.
    pub begins: bool,
    /// The backend that the flow has, if it has one that is to stay.
    pub pinned: Option<(Address, u16)>,
    /// The backend that the client of a new flow was given lately, where it stays with its own: it is
    /// given again if it still takes new flows.
    pub preferred: Option<(Address, u16)>,
}

impl Inquiry {
    /// What a rule can ask for of a packet to this port.
    fn named(&self, port: u16) -> Option<u16> {
        match self.kind {
            Kind::Tcp | Kind::Udp | Kind::Sctp => Some(port),
            // An error is judged by the flow that it quotes.
            kind => icmp_type(self.flow.protocol, kind).map(u16::from),
        }
    }
}

/// The answer, with every step to it as far as it went.
#[derive(Clone, Debug)]
pub struct Judgement<'a> {
    /// Whose the governed end is: the source going out, the destination coming in.
    pub subject: Option<&'a Arc<Endpoint>>,
    /// Whose the other end is.
    pub peer: Option<&'a Arc<Endpoint>>,
    /// The service that was asked for.
    pub service: Option<&'a Arc<Service>>,
    /// Where the packet really goes: the backend, or the destination as it stands.
    pub destination: (Address, u16),
    /// What the policies were asked about this end, and what they said; `None` where nobody asked.
    pub asked: Option<(Question<'a>, Decision)>,
    /// Where the destination is (going out), or where answers go (coming in).
    pub route: Route,
    /// Allowed, or the reason why not.
    pub verdict: Result<(), Reason>,
}

impl Judgement<'_> {
    /// Why it would be denied, where it passes only because policies are in audit mode.
    pub fn audited(&self) -> Option<Reason> {
        let (question, decision) = self.asked.as_ref()?;
        let reason = || reason(question.direction, decision);
        decision.audited.then(reason)
    }

    /// Who subject and peer are, whatever their labels.
    pub(crate) fn owners(&self) -> Option<(Owner, Owner)> {
        Some((self.subject?.owner, self.peer?.owner))
    }

    /// The identities of subject and peer; both are known when the verdict is to allow.
    pub fn identities(&self) -> Option<(Identity, Identity)> {
        Some((self.subject?.identity, self.peer?.identity))
    }
}

impl Snapshot {
    /// Judges a flow at one of its ends.
    pub(crate) fn judge(&self, side: Side, inquiry: &Inquiry) -> Judgement<'_> {
        match side {
            Side::Out => self.judge_out(inquiry),
            Side::In => self.judge_in(inquiry),
        }
    }

    /// Judges a flow where it leaves its source: service, egress policy, route.
    pub fn judge_out(&self, inquiry: &Inquiry) -> Judgement<'_> {
        self.judge_out_where(inquiry, |address| self.endpoint(address), |own| own)
    }

    /// The same where addresses belong to whom `whose` says: to another node its own address is the
    /// host's, and ours a remote node's; and where `served` says what is in the place of a service of
    /// ours: another node has its own backends where only those may serve.
    pub fn judge_out_where<'a>(
        &'a self,
        inquiry: &Inquiry,
        whose: impl Fn(Address) -> Option<&'a Arc<Endpoint>>,
        served: impl Fn(&'a Arc<Service>) -> &'a Arc<Service>,
    ) -> Judgement<'a> {
        let flow = &inquiry.flow;
        let mut judgement = Judgement {
            subject: whose(flow.source),
            peer: None,
            service: None,
            destination: (flow.destination, flow.destination_port),
            asked: None,
            route: Route::Nowhere,
            verdict: Ok(()),
        };
        let translated = self.translate(inquiry, served, &mut judgement);
        judgement.verdict = translated.and_then(|()| {
            let (destination, port) = judgement.destination;
            judgement.peer = whose(destination);
            judgement.route = self.route(destination);
            let subject = judgement.subject.ok_or(Reason::UnknownSource)?;
            let peer = judgement.peer.ok_or(Reason::UnknownDestination)?;
            self.ask(
                &mut judgement.asked,
                &Question {
                    direction: Direction::Egress,
                    subject: Party {
                        address: flow.source,
                        endpoint: subject,
                    },
                    peer: Party {
                        address: destination,
                        endpoint: peer,
                    },
                    protocol: flow.protocol,
                    port: inquiry.named(port),
                },
            )
        });
        judgement
    }

    /// Judges a flow where it reaches its destination: ingress policy, and the way of its answers.
    pub fn judge_in(&self, inquiry: &Inquiry) -> Judgement<'_> {
        self.judge_in_where(inquiry, |address| self.endpoint(address))
    }

    /// The same where addresses belong to whom `whose` says.
    pub fn judge_in_where<'a>(
        &'a self,
        inquiry: &Inquiry,
        whose: impl Fn(Address) -> Option<&'a Arc<Endpoint>>,
    ) -> Judgement<'a> {
        let flow = &inquiry.flow;
        let mut judgement = Judgement {
            subject: whose(flow.destination),
            peer: whose(flow.source),
            service: None,
            destination: (flow.destination, flow.destination_port),
            asked: None,
            route: self.route(flow.source),
            verdict: Ok(()),
        };
        judgement.verdict = (|| {
            let subject = judgement.subject.ok_or(Reason::UnknownDestination)?;
            let peer = judgement.peer.ok_or(Reason::UnknownSource)?;
            if peer.identity == Identity::HOST {
                // A host may always reach its own pods (kubelet's probes).
                return Ok(());
            }
            self.ask(
                &mut judgement.asked,
                &Question {
                    direction: Direction::Ingress,
                    subject: Party {
                        address: flow.destination,
                        endpoint: subject,
                    },
                    peer: Party {
                        address: flow.source,
                        endpoint: peer,
                    },
                    protocol: flow.protocol,
                    port: inquiry.named(flow.destination_port),
                },
            )
        })();
        judgement
    }

    /// Finds the service and chooses its backend, or keeps the one that the flow has.
    fn translate<'a>(
        &'a self,
        inquiry: &Inquiry,
        served: impl Fn(&'a Arc<Service>) -> &'a Arc<Service>,
        judgement: &mut Judgement<'a>,
    ) -> Result<(), Reason> {
        let flow = &inquiry.flow;
        if !self.services.is_frontend(flow.destination) {
            return Ok(());
        }
        if inquiry.kind == Kind::Unreadable {
            return Err(Reason::ServiceFragment);
        }
        let frontend = Frontend {
            address: flow.destination,
            port: flow.destination_port,
            protocol: flow.protocol,
        };
        let service = self.services.find(&frontend).ok_or(Reason::NoServicePort)?;
        let service = served(service);
        judgement.service = Some(service);
        if let Some((address, port)) = inquiry.pinned {
            judgement.destination = (address, port);
            return Ok(());
        }
        if !inquiry.begins {
            return Err(Reason::NoFlowForService);
        }
        let lately = inquiry.preferred.filter(|_| service.client_stays.is_some());
        let backend = match lately.and_then(|(address, port)| service.taking(address, port)) {
            Some(backend) => backend,
            None => pick(service, flow).ok_or(Reason::NoBackend)?,
        };
        judgement.destination = (backend.address, backend.port);
        Ok(())
    }

    /// Asks the policies, unless both ends are one: "a Pod cannot block access to itself"
    /// (<https://kubernetes.io/docs/concepts/services-networking/network-policies/>). Whatever a policy
    /// says that cannot be enforced, it cannot say that either, and so it denies nothing here.
    fn ask<'a>(
        &self,
        asked: &mut Option<(Question<'a>, Decision)>,
        question: &Question<'a>,
    ) -> Result<(), Reason> {
        if question.subject.address == question.peer.address {
            return Ok(());
        }
        let decision = self.policy.decide(question);
        *asked = Some((*question, decision));
        match decision.verdict {
            Verdict::Allow => Ok(()),
            Verdict::Deny => Err(reason(question.direction, &decision)),
        }
    }
}

/// Why policies deny, or would if they were not in audit mode.
fn reason(direction: Direction, decision: &Decision) -> Reason {
    match direction {
        _ if decision.refused => Reason::PolicyRefused,
        Direction::Egress => Reason::EgressDenied,
        Direction::Ingress => Reason::IngressDenied,
    }
}

/// The backend for a new flow: by its client where that is to stay with one.
fn pick<'a>(service: &'a Service, flow: &Flow) -> Option<&'a Backend> {
    service.pick(match service.client_stays {
        Some(_) => balance::client_hash(flow.source),
        None => crate::key::hash(flow),
    })
}
