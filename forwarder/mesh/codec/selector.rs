//! Label selectors, and the collection of what stands in the way of enforcing a policy.

use config::tree::{Entry, Tree, Value};
use config::{Fields, Place, Reader};

use super::metadata::{items, texts};
use crate::object::{LabelSelector, Operator, Requirement, Rules};

/// What a policy asks for and we would not do: not a mistake in the file, but a reason to refuse
/// the policy.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<(Place, String)>);

impl Refusals {
    pub(super) fn add(&mut self, at: Place, reason: impl Into<String>) {
        self.0.push((at, reason.into()));
    }

    /// Refuses every field that is none of `known`. Null is absent to Kubernetes.
    pub(super) fn only(&mut self, fields: &Fields<'_>, what: &str, known: &[&str]) {
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
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The policy's rules as refused, if there is a reason: the first, and how many more.
    pub(super) fn into_rules(mut self) -> Option<Rules> {
        self.0.sort_by_key(|(at, _)| *at);
        let more = self.0.len().checked_sub(1)?;
        let (at, mut reason) = self.0.swap_remove(0);
        if more > 0 {
            reason.push_str(&format!(" (and {more} more)"));
        }
        Some(Rules::Refused { reason, at })
    }
}

/// A label selector; `None` if it cannot be read, whether that is a problem or a refusal.
pub(super) fn selector(
    reader: &mut Reader<'_>,
    refusals: &mut Refusals,
    tree: &Tree,
    what: &str,
) -> Option<LabelSelector> {
    let before = (reader.count(), refusals.0.len());
    let fields = reader.fields(tree, what)?;
    refusals.only(&fields, what, &["matchLabels", "matchExpressions"]);
    let mut requirements = Vec::new();
    for (key, (value, _)) in texts(reader, fields.get("matchLabels"), "a label") {
        requirements.push(Requirement {
            key,
            operator: Operator::In(vec![value]),
        });
    }
    for item in items(reader, fields.get("matchExpressions"), "`matchExpressions`") {
        requirements.extend(expression(reader, refusals, item));
    }
    (before == (reader.count(), refusals.0.len())).then_some(LabelSelector { requirements })
}

fn expression(
    reader: &mut Reader<'_>,
    refusals: &mut Refusals,
    tree: &Tree,
) -> Option<Requirement> {
    let what = "an item of `matchExpressions`";
    let fields = reader.fields(tree, what)?;
    refusals.only(&fields, what, &["key", "operator", "values"]);
    let key = fields.need(reader, "key", "write the label's key");
    let key = key.and_then(|tree| reader.text(tree, "`key`"));
    let values: Vec<String> = items(reader, fields.get("values"), "`values`")
        .iter()
        .filter_map(|tree| reader.text(tree, "a value").map(String::from))
        .collect();
    let hint = "write In, NotIn, Exists or DoesNotExist";
    let tree = fields.need(reader, "operator", hint)?;
    let operator = match reader.text(tree, "`operator`")? {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            refusals.add(tree.at, format!("the operator {other:?} is not enforced"));
            return None;
        }
    };
    match &operator {
        Operator::In(values) | Operator::NotIn(values) if values.is_empty() => {
            reader.complain(
                tree.at,
                "this operator compares with nothing",
                "write `values`",
            );
        }
        Operator::Exists | Operator::DoesNotExist if has_values(&fields) => {
            reader.complain(tree.at, "this operator has no values", "remove `values`");
        }
        _ => {}
    }
    Some(Requirement {
        key: key?.into(),
        operator,
    })
}

fn has_values(fields: &Fields<'_>) -> bool {
    matches!(fields.get("values").map(|tree| &tree.value), Some(Value::List(items)) if !items.is_empty())
}
