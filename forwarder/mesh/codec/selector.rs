//! Label selectors.

use config::Fields;
use config::Reader;
use config::tree::{Tree, Value};

use super::metadata::{items, texts};
use super::policy::Refusals;
use crate::object::{LabelSelector, Operator, Requirement};

/// A label selector; `None` if it cannot be read, whether that is a problem or a refusal.
pub(super) fn selector(
    reader: &mut Reader<'_>,
    refusals: &mut Refusals,
    tree: &Tree,
    what: &str,
) -> Option<LabelSelector> {
    let before = (reader.count(), refusals.count());
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
    (before == (reader.count(), refusals.count())).then_some(LabelSelector { requirements })
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
