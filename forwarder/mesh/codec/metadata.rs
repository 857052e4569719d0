//! What all objects have in common, and Namespace, which has nothing else.

use std::collections::BTreeMap;

use config::tree::{Tree, Value};
use config::{Place, Reader};
use packet::protocol;

use crate::object::{Namespace, Object};

/// `metadata`, as far as we read it.
pub(super) struct Metadata {
    pub(super) name: String,
    /// As written, or `default`; kinds that have no namespace do not look at it.
    pub(super) namespace: String,
    /// Empty where nobody gave one.
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, (String, Place)>,
    pub(super) deleted: bool,
}

impl Metadata {
    pub(super) fn read(reader: &mut Reader<'_>, tree: &Tree, kind: &str) -> Option<Metadata> {
        let hint = "write `metadata: {name: ...}`";
        let top = reader.fields(tree, "a manifest")?;
        let fields = top.need(reader, "metadata", hint)?;
        let fields = reader.fields(fields, "`metadata`")?;
        let name = fields.need(reader, "name", &format!("every {kind} has a name"))?;
        let name = reader.text(name, "`metadata.name`")?;
        let namespace = match fields.get("namespace") {
            Some(tree) => reader.text(tree, "`metadata.namespace`")?,
            None => "default",
        };
        let uid = match fields.get("uid") {
            Some(tree) => reader.text(tree, "`metadata.uid`")?,
            None => "",
        };
        let labels = texts(reader, fields.get("labels"), "a label");
        let annotations = texts(reader, fields.get("annotations"), "an annotation");
        Some(Metadata {
            name: name.into(),
            namespace: if namespace.is_empty() {
                "default"
            } else {
                namespace
            }
            .into(),
            uid: uid.into(),
            labels: labels
                .into_iter()
                .map(|(key, (text, _))| (key, text))
                .collect(),
            annotations,
            deleted: fields.get("deletionTimestamp").is_some(),
        })
    }

    /// An annotation's text and place.
    pub(super) fn annotation(&self, key: &str) -> Option<(&str, Place)> {
        self.annotations
            .get(key)
            .map(|(text, at)| (text.as_str(), *at))
    }
}

/// A map of texts, each with its place.
pub(super) fn texts(
    reader: &mut Reader<'_>,
    tree: Option<&Tree>,
    what: &str,
) -> BTreeMap<String, (String, Place)> {
    let Some(fields) = tree.and_then(|tree| reader.fields(tree, &format!("the map of {what}")))
    else {
        return BTreeMap::new();
    };
    let mut texts = BTreeMap::new();
    for entry in fields.entries() {
        // An empty value is an empty text to Kubernetes.
        if entry.value.is_null() {
            texts.insert(entry.key.clone(), (String::new(), entry.value.at));
        } else if let Some(text) = reader.text(&entry.value, &format!("{what} `{}`", entry.key)) {
            texts.insert(entry.key.clone(), (text.into(), entry.value.at));
        }
    }
    texts
}

/// The number of a protocol's name; `None` for names that Kubernetes does not have today.
pub(super) fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "TCP" => Some(protocol::TCP),
        "UDP" => Some(protocol::UDP),
        "SCTP" => Some(protocol::SCTP),
        _ => None,
    }
}

/// The field `protocol` of a port, TCP when it is not said.
pub(super) fn protocol_of(reader: &mut Reader<'_>, tree: Option<&Tree>) -> Option<u8> {
    let Some(tree) = tree else {
        return Some(protocol::TCP);
    };
    let words = ["TCP", "UDP", "SCTP"].map(|name| (name, protocol_number(name)));
    reader.word(tree, "`protocol`", &words).flatten()
}

/// A list that may be missing: then it is empty.
pub(super) fn items<'t>(reader: &mut Reader<'_>, tree: Option<&'t Tree>, what: &str) -> &'t [Tree] {
    match tree {
        Some(tree) => reader.list(tree, what).unwrap_or_default(),
        None => &[],
    }
}

/// Whether a field is there and true; anything else than a boolean is complained of.
pub(super) fn flag(reader: &mut Reader<'_>, tree: Option<&Tree>, what: &str) -> bool {
    tree.and_then(|tree| reader.boolean(tree, what))
        .unwrap_or(false)
}

/// A part of an object that may be missing, as a tree without keys.
pub(super) fn part<'t>(tree: &'t Tree, key: &str) -> &'t Tree {
    static NOTHING: Tree = Tree {
        value: Value::Map(Vec::new()),
        at: Place { line: 0, column: 0 },
    };
    tree.get(key).unwrap_or(&NOTHING)
}

pub(super) fn namespace(_: &mut Reader<'_>, _: &Tree, metadata: Metadata) -> Option<Object> {
    let mut labels = metadata.labels;
    labels.insert("kubernetes.io/metadata.name".into(), metadata.name.clone());
    Some(Object::Namespace(Namespace {
        name: metadata.name,
        labels,
    }))
}
