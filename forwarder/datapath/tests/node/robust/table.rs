//! A row of the table: packets in their order, and what comes of each.

use policy::{Direction, EntryVerdict, Policy, PortMatch, PortRule, Ports};

use crate::judged::only;
use crate::robust::bytes::{Ip, later_by, naive_checksum};
use crate::robust::stage::{End, Ends, Seen, Stage, WAYS, Way, destination};

/// What comes of a packet.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It arrives as it was, but for its time to live and what sums that up.
    Forwarded,
    /// This arrives in its stead.
    Becomes(Vec<u8>),
    /// Nothing arrives anywhere, and one drop is counted under this name.
    Dropped(&'static str),
    /// The same, but its sender is told why.
    Answered(Answer),
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) counter: &'static str,
    /// Type and code, of ICMP and of ICMPv6.
    pub(crate) v4: [u8; 2],
    pub(crate) v6: [u8; 2],
    /// Whether the far end's node makes it, one hop later.
    pub(crate) by_far_node: bool,
}

/// RFC 792 and RFC 4443 §3.3.
pub(crate) const TIME_EXCEEDED: Answer = Answer {
    counter: "timeExceeded",
    v4: [11, 0],
    v6: [3, 0],
    by_far_node: false,
};

/// One line of the list, or a part of one.
pub(crate) struct Row {
    /// What it shows.
    pub(crate) says: &'static str,
    pub(crate) policies: Vec<Policy>,
    pub(crate) steps: Vec<(End, Vec<u8>, Outcome)>,
}

impl Row {
    pub(crate) fn new(says: &'static str) -> Row {
        Row {
            says,
            policies: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The far end, or whoever, is governed by this policy.
    pub(crate) fn under(mut self, policy: Policy) -> Row {
        self.policies.push(policy);
        self
    }

    /// The near end sends.
    pub(crate) fn near(mut self, bytes: Vec<u8>, outcome: Outcome) -> Row {
        self.steps.push((End::Near, bytes, outcome));
        self
    }

    /// The far end sends.
    pub(crate) fn far(mut self, bytes: Vec<u8>, outcome: Outcome) -> Row {
        self.steps.push((End::Far, bytes, outcome));
        self
    }

    /// The near end sends what arrives.
    pub(crate) fn passes(self, ip: &Ip) -> Row {
        self.near(ip.bytes(), Outcome::Forwarded)
    }

    /// The near end sends what does not.
    pub(crate) fn drops(self, bytes: Vec<u8>, counter: &'static str) -> Row {
        self.near(bytes, Outcome::Dropped(counter))
    }
}

/// Every row that a list has for one way and family.
pub(crate) type List = fn(&Ends) -> Vec<Row>;

/// Every combination of way and family.
pub(crate) fn all_ends() -> impl Iterator<Item = Ends> {
    let families = |way| [false, true].map(|v6| Ends::new(way, v6));
    WAYS.into_iter().flat_map(families)
}

/// Sends every packet of every row, and compares what comes of it.
pub(crate) fn check(list: List) {
    for ends in all_ends() {
        for row in list(&ends) {
            let mut stage = Stage::new(&ends, row.policies);
            for (number, (from, bytes, outcome)) in row.steps.iter().enumerate() {
                let family = if ends.v6 { "IPv6" } else { "IPv4" };
                let what = format!("{}, {family}, {:?}, step {number}", row.says, ends.way);
                let seen = stage.send(*from, bytes);
                compare(&ends, *from, bytes, outcome, &seen, &what);
            }
        }
    }
}

fn compare(ends: &Ends, from: End, bytes: &[u8], outcome: &Outcome, seen: &Seen, what: &str) {
    let (arrived, drops) = match outcome {
        Outcome::Forwarded => (vec![later_by(bytes, ends.hops())], None),
        Outcome::Becomes(other) => (vec![other.clone()], None),
        Outcome::Dropped(counter) => (Vec::new(), Some(*counter)),
        Outcome::Answered(answer) => (Vec::new(), Some(answer.counter)),
    };
    let counted: Vec<_> = seen
        .drops
        .iter()
        .map(|(name, count)| (*name, *count))
        .collect();
    let expected: Vec<_> = drops.map(|name| (name, 1)).into_iter().collect();
    assert_eq!(counted, expected, "what is counted: {what}");
    assert_eq!(seen.arrived, arrived, "what arrives: {what}");
    match outcome {
        Outcome::Answered(answer) => {
            assert_eq!(seen.came_back.len(), 1, "one error comes back: {what}");
            compare_answer(ends, from, bytes, answer, &seen.came_back[0], what);
        }
        _ => assert!(seen.came_back.is_empty(), "nothing comes back: {what}"),
    }
}

/// RFC 1812 §4.3.2.3, RFC 4443 §2.4: by the node, to the sender, and quoting as much as fits.
fn compare_answer(ends: &Ends, from: End, bytes: &[u8], answer: &Answer, error: &[u8], what: &str) {
    let (limit, header) = if ends.v6 { (1_280, 40) } else { (576, 20) };
    let sender = match from {
        End::Near => &ends.near,
        End::Far => &ends.far,
    };
    assert_eq!(
        destination(error),
        sender.as_slice(),
        "to the sender: {what}"
    );
    let node = if answer.by_far_node { 2 } else { 1 };
    let by: Vec<u8> = match ends.v6 {
        true => [&[0xfd][..], &[0; 14], &[node]].concat(),
        false => vec![192, 0, 2, node],
    };
    let source = if ends.v6 {
        &error[8..24]
    } else {
        &error[12..16]
    };
    assert_eq!(source, by, "by the node: {what}");
    let kind = if ends.v6 { answer.v6 } else { answer.v4 };
    assert_eq!(error[header..header + 2], kind, "{what}");
    assert_eq!(error.len(), limit.min(header + 8 + bytes.len()), "{what}");
    let quoted = later_by(bytes, u8::from(answer.by_far_node));
    assert_eq!(
        error[header + 8..],
        quoted[..error.len() - header - 8],
        "{what}"
    );
    let mut summed = match ends.v6 {
        true => [
            &error[8..40],
            &((error.len() - 40) as u32).to_be_bytes()[..],
            &[0, 0, 0, 58],
        ]
        .concat(),
        false => Vec::new(),
    };
    summed.extend(&error[header..]);
    assert_eq!(naive_checksum(&summed), 0, "its checksum: {what}");
    assert!(ends.v6 || naive_checksum(&error[..20]) == 0, "{what}");
}

/// Only `peer` may reach `subject`, and only these ports of a protocol.
pub(crate) fn only_port(subject: &str, peer: &str, protocol: u8, ports: (u16, u16)) -> Policy {
    let mut policy = only(subject, peer, Direction::Ingress);
    policy.entries[0].ports = Ports::Of(vec![PortRule {
        protocol,
        port: PortMatch::Range(ports.0, ports.1),
    }]);
    policy
}

/// The near end may reach the far one by UDP port 53 and TCP port 80, and nobody may otherwise.
pub(crate) fn only_dns_and_web(ends: &Ends) -> Policy {
    let mut policy = only_port(ends.far_name, ends.near_name, 17, (53, 53));
    let mut web = policy.entries[0].clone();
    web.ports = Ports::Of(vec![PortRule {
        protocol: 6,
        port: PortMatch::Range(80, 80),
    }]);
    policy.entries.push(web);
    policy
}

/// The near end may not send UDP to port 53 of the far one; everything else passes.
pub(crate) fn no_dns(ends: &Ends) -> Policy {
    let mut policy = only_port(ends.far_name, ends.near_name, 17, (53, 53));
    policy.entries[0].verdict = EntryVerdict::Deny;
    policy.isolates.ingress = false;
    policy
}

/// The way's name for what the rows of one family have in common.
pub(crate) fn is_across(ends: &Ends) -> bool {
    ends.way == Way::Across
}
