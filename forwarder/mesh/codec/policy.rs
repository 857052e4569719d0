//! What the readers of policies have in common.
//!
//! A policy that is read by halves may allow what it was to forbid. So whatever is wrong in one, a
//! mistake or something that we would not do, refuses that policy as a whole, and no other object
//! of its file.

use config::tree::{Entry, Tree, Value};
use config::{Fields, Place, Problem, Reader};
use packet::{Address, Prefix};

use super::metadata::Metadata;
use crate::object::{LabelSelector, Namespaces, Object, Part, Policy, Refused};

/// A kind of policy.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// As Kubernetes calls it.
    pub(super) name: &'static str,
    /// Whether its objects have no namespace.
    pub(super) clusterwide: bool,
    /// Reads what one says.
    pub(super) read: fn(&mut Draft<'_>, &Tree),
}

/// A policy on its way.
pub(super) struct Draft<'f> {
    pub(super) reader: Reader<'f>,
    pub(super) refusals: Refusals,
    pub(super) clusterwide: bool,
    /// `metadata.namespace`; of no meaning for a cluster-wide one.
    pub(super) namespace: String,
    parts: Vec<Written>,
}

/// A part, with the directions in which it would be denied everything.
struct Written {
    part: Part,
    governs: [bool; 2],
}

impl Draft<'_> {
    /// Adds a part; `governs` says for ingress and egress whether it speaks of that at all.
    pub(super) fn add(&mut self, part: Part, governs: [bool; 2]) {
        self.parts.push(Written { part, governs });
    }

    /// The namespaces of a selector that names none: all of them, if the policy has none.
    pub(super) fn namespaces(&self) -> Namespaces {
        if self.clusterwide {
            Namespaces::ALL
        } else {
            Namespaces::Own
        }
    }
}

/// Reads a policy, whatever there is to say against it.
pub(super) fn read(kind: Kind, file: &str, tree: &Tree, metadata: Metadata) -> Object {
    let mut reader = Reader::new(file);
    let audit = audit(&mut reader, metadata.annotation(AUDIT));
    let mut draft = Draft {
        reader,
        refusals: Refusals::default(),
        clusterwide: kind.clusterwide,
        namespace: metadata.namespace,
        parts: Vec::new(),
    };
    (kind.read)(&mut draft, tree);
    draft.refusals.take(draft.reader.finish());
    let refused = draft.refusals.into_refused(file);
    let parts = draft.parts.into_iter();
    Object::Policy(Policy {
        kind: kind.name,
        namespace: if kind.clusterwide {
            String::new()
        } else {
            draft.namespace
        },
        name: metadata.name,
        parts: parts
            .map(|written| match refused {
                None => written.part,
                Some(_) => denied(written),
            })
            .collect(),
        refused,
        audit,
    })
}

/// The annotation by which a policy is on trial. (Cilium has that mode for whole nodes and for
/// endpoints; there the option is called `policy-audit-mode`.)
const AUDIT: &str = "policy.cilium.io/audit-mode";

fn audit(reader: &mut Reader<'_>, annotation: Option<(&str, Place)>) -> bool {
    match annotation {
        None | Some(("false" | "", _)) => false,
        Some(("true", _)) => true,
        Some((other, at)) => {
            let message = format!("`{AUDIT}` cannot be {other:?}");
            reader.complain(at, message, "write \"true\" or \"false\"");
            false
        }
    }
}

/// A part of a refused policy. One from which no direction can be read governs both.
fn denied(Written { part, governs }: Written) -> Part {
    let neither = governs == [false, false];
    Part {
        ingress: governs[0] || neither,
        egress: governs[1] || neither,
        rules: Vec::new(),
        ..part
    }
}

/// All pods of some namespaces, and nothing said of them yet.
pub(super) fn everybody(namespaces: Namespaces) -> Part {
    Part {
        namespaces,
        pods: LabelSelector::default(),
        ingress: false,
        egress: false,
        rules: Vec::new(),
    }
}

/// What a policy asks for and we would not do, and what no policy may say.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

#[derive(Debug)]
struct Refusal {
    at: Place,
    message: String,
    hint: String,
}

/// So many are kept of one policy; of the rest only their number.
const REFUSALS_MAX: usize = 100;

impl Refusals {
    pub(super) fn add(&mut self, at: Place, reason: impl Into<String>) {
        self.0.push(Refusal {
            at,
            message: reason.into(),
            hint: String::new(),
        });
    }

    /// Refuses every field that is none of `known`, and says whether there was none. Null is absent
    /// to Kubernetes.
    pub(super) fn only(&mut self, fields: &Fields<'_>, what: &str, known: &[&str]) -> bool {
        let before = self.count();
        let present = |entry: &&Entry| !entry.value.is_null();
        for entry in fields.unknown(known).filter(present) {
            self.add(
                entry.at,
                format!(
                    "{what} has the field `{}`, which is not enforced",
                    entry.key
                ),
            );
        }
        self.count() == before
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Mistakes in a policy are reasons to refuse it.
    fn take(&mut self, problems: Vec<Problem>) {
        // How many more there are than the reader keeps has no place.
        for problem in problems.into_iter().filter(|problem| problem.line > 0) {
            let at = Place {
                line: problem.line,
                column: problem.column,
            };
            self.0.push(Refusal {
                at,
                message: problem.message,
                hint: problem.hint,
            });
        }
    }

    /// All of it; the first is the reason.
    fn into_refused(mut self, file: &str) -> Option<Refused> {
        self.0.sort_by_key(|refusal| refusal.at);
        let more = self.0.len().checked_sub(1)?;
        let first = self.0.first()?;
        let mut reason = first.message.clone();
        if !first.hint.is_empty() {
            reason.push_str(": ");
            reason.push_str(&first.hint);
        }
        if more > 0 {
            reason.push_str(&format!(" (and {more} more)"));
        }
        let at = first.at;
        let count = self.0.len();
        let kept = self.0.into_iter().take(REFUSALS_MAX);
        let problems = kept.map(|each| Problem::new(file, each.at, each.message, each.hint));
        let mut problems: Vec<Problem> = problems.collect();
        if let Some(rest) = count.checked_sub(REFUSALS_MAX).filter(|rest| *rest > 0) {
            let message = format!("there are {rest} mistakes more in it");
            problems.push(Problem::new(file, at, message, ""));
        }
        Some(Refused {
            reason,
            at,
            problems,
        })
    }
}

/// A block of addresses. Bits behind the length count for nothing, as for Kubernetes; with
/// `single`, an address alone is a block too, as for Cilium.
pub(super) fn block(
    reader: &mut Reader<'_>,
    tree: &Tree,
    what: &str,
    single: bool,
) -> Option<Prefix> {
    let text = reader.text(tree, what)?;
    let prefix = match text.split_once('/') {
        None if single => address(text).map(Prefix::host),
        None => None,
        Some((first, length)) => {
            let decimal = length.bytes().all(|c| c.is_ascii_digit());
            let length = length.parse().ok().filter(|_| decimal);
            address(first)
                .zip(length)
                .and_then(|(first, length)| Prefix::masked(first, length))
        }
    };
    if prefix.is_none() {
        let message = format!("{what}: {text:?} is not a prefix, such as 10.2.0.0/16");
        reader.complain(tree.at, message, "");
    }
    prefix
}

/// An IPv4 address in disguise is none: what it matches would not be clear.
fn address(text: &str) -> Option<Address> {
    let address = text.parse::<std::net::IpAddr>().ok()?;
    let address = Address::from(address);
    (address.is_v4() != text.contains(':')).then_some(address)
}

/// Exceptions lie within their block.
pub(super) fn holes(
    reader: &mut Reader<'_>,
    trees: &[Tree],
    prefix: Prefix,
    single: bool,
) -> Vec<Prefix> {
    let mut holes = Vec::new();
    for tree in trees {
        let Some(hole) = block(reader, tree, "`except`", single) else {
            continue;
        };
        if !prefix.covers(&hole) {
            let message = format!("{hole} is not a part of {prefix}");
            reader.complain(tree.at, message, "an exception lies within its block");
        }
        holes.push(hole);
    }
    holes
}

/// Whether this can be the name of a port (Kubernetes `IsValidPortName`, an IANA service name):
/// what cannot would never match.
pub(super) fn is_port_name(name: &str) -> bool {
    let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let dashes = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    (1..=15).contains(&name.len())
        && name.bytes().all(known)
        && name.bytes().any(|c| c.is_ascii_lowercase())
        && !dashes
}

/// Whether a field that nobody knows may have been meant for a direction, such as `egressdeny`.
pub(super) fn is_astray(fields: &Fields<'_>, known: &[&str]) -> bool {
    let speaks = |entry: &Entry| entry.key.to_ascii_lowercase().contains("gres");
    fields.unknown(known).any(speaks)
}

/// Whether a field is there and says anything: an empty list is as good as none.
pub(super) fn is_written(tree: Option<&Tree>) -> bool {
    tree.is_some_and(|tree| !matches!(&tree.value, Value::List(items) if items.is_empty()))
}
