//! ICMP by type: `icmps`. A type stands where other protocols have the port.

use config::tree::{Tree, Value};
use packet::{Kind, icmp_kind, protocol};
use policy::EntryVerdict;

use crate::codec::metadata::items;
use crate::codec::policy::Draft;
use crate::object::{Port, PortRange};

impl Draft<'_> {
    /// All types of all items.
    pub(super) fn icmps(&mut self, tree: &Tree, verdict: EntryVerdict) -> Vec<Port> {
        let what = "an item of `icmps`";
        let mut ports = Vec::new();
        for tree in items(&mut self.reader, Some(tree), "`icmps`") {
            let Some(fields) = self.reader.fields(tree, what) else {
                continue;
            };
            self.refusals.only(&fields, what, &["fields"]);
            let listed = items(&mut self.reader, fields.get("fields"), "`fields`");
            if listed.is_empty() {
                let hint = "list types, such as `{family: IPv4, type: EchoRequest}`";
                let message = format!("{what} has no `fields`");
                self.reader.complain(tree.at, message, hint);
            }
            for tree in listed {
                let Some((protocol, kind)) = self.icmp(tree) else {
                    continue;
                };
                if verdict == EntryVerdict::Deny && icmp_kind(protocol, kind) == Kind::IcmpError {
                    // Whatever a rule says, it passes with the flow that it quotes, or not at all.
                    let reason = "an error of ICMP cannot be denied apart from its flow";
                    self.refusals.add(tree.at, reason);
                }
                ports.push(Port {
                    protocol,
                    port: PortRange::Numbers(kind.into(), kind.into()),
                });
            }
        }
        ports
    }

    /// Protocol and type of one item.
    fn icmp(&mut self, tree: &Tree) -> Option<(u8, u8)> {
        let what = "an item of `fields`";
        let fields = self.reader.fields(tree, what)?;
        self.refusals.only(&fields, what, &["family", "type"]);
        let families = [("IPv4", protocol::ICMP), ("IPv6", protocol::ICMPV6)];
        let protocol = match fields.get("family") {
            None => protocol::ICMP,
            Some(tree) => self.reader.word(tree, "`family`", &families)?,
        };
        let hint = "write a number, or a name such as EchoRequest";
        let tree = fields.need(&mut self.reader, "type", hint)?;
        let number = match &tree.value {
            Value::Text(text) => text.parse().ok().or_else(|| type_number(protocol, text)),
            _ => Some(self.reader.integer(tree, "`type`", 0..=u8::MAX)?),
        };
        let Some(number) = number else {
            let message = format!("{} is no type of ICMP", tree.describe());
            self.reader.complain(tree.at, message, hint);
            return None;
        };
        Some((protocol, number))
    }
}

/// IANA's registries of ICMP types, named as Cilium does (`pkg/policy/api/icmp.go`).
fn type_number(protocol: u8, name: &str) -> Option<u8> {
    let names: &[(&str, u8)] = if protocol == protocol::ICMP {
        &TYPES_V4
    } else {
        &TYPES_V6
    };
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

const TYPES_V4: [(&str, u8); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

const TYPES_V6: [(&str, u8); 27] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];
