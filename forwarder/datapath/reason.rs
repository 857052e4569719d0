//! Every way in which a packet can end other than by being delivered.

macro_rules! reasons {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal;)+) => {
        /// Why a packet was dropped. One line of this enum is all there is to add one: counters,
        /// `status` and the documentation follow.
        ///
        /// What is wrong with a packet by itself is named by [`packet::Malformed`], what the tunnel
        /// refuses by [`tunnel::Refused`]; a report shows all three as one list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $text])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Reason::ALL.len();

            /// The name that programs read, in camelCase.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)+
                }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Reason::$variant => concat!($($text),+),)+
                }
            }
        }
    };
}

reasons! {
    /// The node has not read everything yet; until then nothing passes.
    NotReady = "notReady";
    /// Neither end of the packet is ours to carry for.
    NotOurs = "notOurs";
    /// The source is not an address that this side may send from.
    ForgedSource = "forgedSource";
    /// A broadcast, multicast or IPv6 link-local address, between which no router sends anything on.
    NotRouted = "notRouted";
    /// Nobody is known to have the source address.
    UnknownSource = "unknownSource";
    /// Nobody is known to have the destination address.
    UnknownDestination = "unknownDestination";
    /// No policy allows the source to send this.
    EgressDenied = "egressDenied";
    /// No policy allows the destination to receive this.
    IngressDenied = "ingressDenied";
    /// A policy that cannot be enforced governs this end, so it is denied.
    PolicyRefused = "policyRefused";
    /// The service has no backend that may take a flow.
    NoBackend = "noBackend";
    /// The service has no such port.
    NoServicePort = "noServicePort";
    /// Only a new flow can be sent to a service, and this is the middle of an unknown one.
    NoFlowForService = "noFlowForService";
    /// The backend that the connection had through a service is known dead, and it was ended for that.
    BackendGone = "backendGone";
    /// An answer, or an error, to a flow that is not known.
    NoFlow = "noFlow";
    /// An ICMP error about a TCP segment that cannot be under way.
    WrongSequence = "wrongSequence";
    /// A packet-too-big message of less than 1,280 bytes, which every path of IPv6 carries.
    MtuTooSmall = "mtuTooSmall";
    /// UDP over IPv6 without a checksum, to or from a service: it cannot be translated.
    NoChecksum = "noChecksum";
    /// The flow table is full, and who began the flow has its share of it.
    FlowTableFull = "flowTableFull";
    /// Its answers could not be told from those of another living flow, or from itself.
    FlowClash = "flowClash";
    /// A redirect about a translated packet: the route of its backend is none of the service's.
    Redirect = "redirect";
    /// The time to live has run out.
    TimeExceeded = "timeExceeded";
    /// Larger than the tunnel can carry.
    PacketTooBig = "packetTooBig";
    /// No peer is known that reaches the destination.
    NoPeer = "noPeer";
    /// A packet without a port cannot be sent to a service, nor a fragment whose first has not come.
    ServiceFragment = "serviceFragment";
    /// A fragment that came twice, or that overlaps another one of its datagram.
    FragmentOverlap = "fragmentOverlap";
    /// A fragment of a datagram that has more gaps than are kept account of.
    FragmentGaps = "fragmentGaps";
    /// Every buffer is in use.
    NoBuffer = "noBuffer";
    /// The queue towards the pods is full.
    PodsFull = "podsFull";
    /// The ring to the worker whose packet it is was full.
    RingFull = "ringFull";
    /// Two workers did not agree whose packet it was: one of them had not read the last change yet.
    WrongWorker = "wrongWorker";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_a_sentence() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.text().ends_with('.'));
            let same = Reason::ALL
                .iter()
                .filter(|other| other.name() == reason.name())
                .count();
            assert_eq!(same, 1, "{}", reason.name());
        }
    }
}
