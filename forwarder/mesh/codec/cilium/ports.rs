//! To which ports: `toPorts`.

use config::tree::Tree;
use packet::protocol;

use crate::codec::metadata::{items, protocol_number};
use crate::codec::policy::{Draft, is_port_name};
use crate::object::{Port, PortRange};

/// What `ANY` stands for: ICMP has no ports, and is left out.
const ANY: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

impl Draft<'_> {
    /// All ports of all items. What an item says of L7, such as `rules`, refuses the policy.
    pub(super) fn port_lists(&mut self, tree: &Tree) -> Vec<Port> {
        let what = "an item of `toPorts`";
        let mut ports = Vec::new();
        for tree in items(&mut self.reader, Some(tree), "`toPorts`") {
            let Some(fields) = self.reader.fields(tree, what) else {
                continue;
            };
            self.refusals.only(&fields, what, &["ports"]);
            let listed = items(&mut self.reader, fields.get("ports"), "`ports`");
            if listed.is_empty() {
                let hint = "list some, or leave `toPorts` out for all traffic";
                let message = format!("{what} has no `ports`");
                self.reader.complain(tree.at, message, hint);
            }
            for tree in listed {
                ports.extend(self.ports_of_item(tree).unwrap_or_default());
            }
        }
        ports
    }

    fn ports_of_item(&mut self, tree: &Tree) -> Option<Vec<Port>> {
        let what = "an item of `ports`";
        let fields = self.reader.fields(tree, what)?;
        self.refusals
            .only(&fields, what, &["port", "endPort", "protocol"]);
        let protocols = match fields.get("protocol") {
            None => ANY.to_vec(),
            Some(tree) => match self.reader.text(tree, "`protocol`")? {
                "ANY" => ANY.to_vec(),
                name => match protocol_number(name) {
                    Some(protocol) => vec![protocol],
                    None => {
                        let reason = format!("the protocol {name:?} is not enforced");
                        self.refusals.add(tree.at, reason);
                        return None;
                    }
                },
            },
        };
        let hint = "write a number in quotes, `\"0\"` for all, or a name";
        let port = fields.need(&mut self.reader, "port", hint)?;
        let port = self.port_or_name(port)?;
        let end = match fields.get("endPort") {
            None => None,
            Some(tree) => match self.reader.integer(tree, "`endPort`", 0..=u16::MAX)? {
                // As if it was not there.
                0 => None,
                last => Some((last, tree)),
            },
        };
        let port = match (port, end) {
            (port, None) => port,
            (PortRange::Numbers(first, _), Some((last, tree))) if last < first => {
                let message = format!("`endPort` {last} lies before `port` {first}");
                self.reader.complain(tree.at, message, "");
                return None;
            }
            (PortRange::Numbers(first, _), Some((last, _))) => PortRange::Numbers(first, last),
            (PortRange::Any | PortRange::Name(_), Some((_, tree))) => {
                let message = "`endPort` without a number as `port`";
                let hint = "write the first port of the range";
                self.reader.complain(tree.at, message, hint);
                return None;
            }
        };
        let of = |protocol| Port {
            protocol,
            // A name with `ANY` is that of a port of whichever protocol the container says.
            port: port.clone(),
        };
        Some(protocols.into_iter().map(of).collect())
    }

    /// A number in quotes, of which 0 is all ports, or the name of a container's port.
    fn port_or_name(&mut self, tree: &Tree) -> Option<PortRange> {
        let text = self.reader.text(tree, "`port`")?;
        match text.parse::<u16>() {
            Ok(0) => Some(PortRange::Any),
            Ok(port) => Some(PortRange::Numbers(port, port)),
            Err(_) if is_port_name(&text.to_ascii_lowercase()) => {
                Some(PortRange::Name(text.to_ascii_lowercase()))
            }
            Err(_) => {
                let message = format!("`port`: {text:?} is no port, and no name of one");
                self.reader.complain(tree.at, message, "");
                None
            }
        }
    }
}
