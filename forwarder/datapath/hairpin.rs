//! A pod that reaches itself through its own service. A host refuses what comes to it from its own
//! address, so the service stands for the other end, whichever end looks at it:
//!
//! ```text
//!             as it is sent                     as it arrives
//! the flow    pod:client  → service:frontend    service:client   → pod:backend
//! its answer  pod:backend → service:client      service:frontend → pod:client
//! ```
//!
//! Both ends are one pod, which nothing keeps from itself, so nothing is judged in: one conversation
//! knows both directions as they leave the pod, and what is translated goes straight back to it.

use packet::{Address, Packet};

use crate::conversation::{Conversation, Role};

/// Both names of the two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hairpin {
    pod: Address,
    client_port: u16,
    backend_port: u16,
    frontend: (Address, u16),
}

impl Conversation {
    /// Whether the backend is the client itself: only then both directions leave one pod.
    #[inline]
    pub(crate) fn is_hairpin(&self) -> bool {
        self.forward.side == self.reply.side
    }

    /// What there is to know where the backend is the client itself.
    #[cold]
    pub(crate) fn hairpin(&self) -> Option<Hairpin> {
        let frontend = self.frontend?;
        let client = &self.forward.flow;
        let (pod, backend_port) = self.destination;
        (pod == client.source).then_some(Hairpin {
            pod,
            client_port: client.source_port,
            backend_port,
            frontend,
        })
    }
}

impl Hairpin {
    /// Translates the end of a packet that a flow to anybody else would keep: the other one is that of
    /// every flow through a service.
    pub(crate) fn turn(&self, packet: &mut Packet, role: Role) {
        match role {
            Role::Forward => packet.set_source(self.frontend.0, self.client_port),
            Role::Reply => packet.set_destination(self.pod, self.client_port),
        }
    }

    /// Translates an ICMP error, found by the reverse of what it quotes, which is `role`: what it
    /// quotes becomes what was sent, at both of its ends, and the error goes to its sender. Whatever
    /// the pod says itself comes from the service; what a router says comes from that router.
    pub(crate) fn turn_error(&self, error: &mut Packet, role: Role) {
        let service = self.frontend.0;
        match role {
            // The flow's packet.
            Role::Reply => {
                error.set_embedded_source(self.pod, self.client_port);
                error.set_embedded_destination(service, self.frontend.1);
            }
            // An answer.
            Role::Forward => {
                error.set_embedded_source(self.pod, self.backend_port);
                error.set_embedded_destination(service, self.client_port);
            }
        }
        if error.header().flow.source == self.pod {
            error.set_source(service, 0);
        }
        error.set_destination(self.pod, 0);
    }
}
