//! Bytes in, objects out: manifests as `kubectl get -o yaml` prints them.
//!
//! A document's `apiVersion` and `kind` are read first, then the document by its kind's own reader.
//! Fields that we do not need are not looked at, but for the `spec` of policies: a field that we do
//! not know there is something that we would not enforce.

mod cilium;
mod cluster_network_policy;
mod foreign;
mod metadata;
mod network_policy;
mod node;
mod pod;
mod policy;
mod selector;
mod service;

use std::sync::Arc;

use config::tree::{Tree, documents};
use config::{Place, Problem, Reader};

use crate::object::{Located, Object};
use metadata::Metadata;

/// What a file of manifests says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its objects, in the order of the file. With problems these are only those that could be
    /// read, and the file as a whole is not to be used.
    pub objects: Vec<Located<Object>>,
    /// Why the file does not parse.
    pub problems: Vec<Problem>,
    /// Documents of kinds that we do not know.
    pub skipped: Vec<Skipped>,
}

/// A document of a kind that we do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// The file.
    pub file: Arc<str>,
    /// Where it begins.
    pub at: Place,
}

/// Reads the text of a file of manifests: YAML or JSON, several documents, lists of any kind.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut codec = Codec {
        file: file.into(),
        reader: Reader::new(file),
        objects: Vec::new(),
        skipped: Vec::new(),
    };
    match documents(file, text) {
        Ok(trees) => {
            for tree in &trees {
                codec.document(tree, None);
            }
        }
        Err(problem) => {
            return Parsed {
                problems: vec![problem],
                ..Parsed::default()
            };
        }
    }
    Parsed {
        objects: codec.objects,
        problems: codec.reader.finish(),
        skipped: codec.skipped,
    }
}

struct Codec<'f> {
    file: Arc<str>,
    reader: Reader<'f>,
    objects: Vec<Located<Object>>,
    skipped: Vec<Skipped>,
}

/// What a list says of items that do not say it themselves.
#[derive(Clone, Copy)]
struct ListOf<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl Codec<'_> {
    /// One document, or one item of a list.
    fn document(&mut self, tree: &Tree, list: Option<ListOf<'_>>) {
        let Some(fields) = self.reader.fields(tree, "a manifest") else {
            return;
        };
        let (version, kind) = match (list, fields.get("kind")) {
            (Some(list), None) if !list.kind.is_empty() => {
                (Some(list.api_version), Some(list.kind))
            }
            _ => {
                let version = fields.need(&mut self.reader, "apiVersion", "write `apiVersion: v1`");
                let kind = fields.need(
                    &mut self.reader,
                    "kind",
                    "write what it is, such as `kind: Pod`",
                );
                (
                    version.and_then(|tree| self.reader.text(tree, "`apiVersion`")),
                    kind.and_then(|tree| self.reader.text(tree, "`kind`")),
                )
            }
        };
        let (Some(version), Some(kind)) = (version, kind) else {
            return;
        };
        match (kind.strip_suffix("List"), fields.get("items")) {
            (Some(item), Some(items)) => {
                for tree in self.reader.list(items, "`items`").unwrap_or_default() {
                    let list = ListOf {
                        api_version: version,
                        kind: item,
                    };
                    self.document(tree, Some(list));
                }
            }
            (Some(_), None) if kind == "List" => {}
            _ => self.object(tree, version, kind),
        }
    }

    fn object(&mut self, tree: &Tree, version: &str, kind: &str) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let Some(kind_reader) = reader_of(group, kind) else {
            self.skipped.push(Skipped {
                api_version: version.into(),
                kind: kind.into(),
                file: self.file.clone(),
                at: tree.at,
            });
            return;
        };
        let metadata = Metadata::read(&mut self.reader, tree, kind);
        let object = metadata.and_then(|metadata| match kind_reader {
            KindReader::Object(read) => read(&mut self.reader, tree, metadata),
            KindReader::Policy(kind) => Some(policy::read(kind, &self.file, tree, metadata)),
        });
        if let Some(object) = object {
            self.objects.push(Located {
                file: self.file.clone(),
                at: tree.at,
                object,
            });
        }
    }
}

/// Who reads the objects of a kind.
enum KindReader {
    /// What is wrong with one is wrong with its file.
    Object(fn(&mut Reader<'_>, &Tree, Metadata) -> Option<Object>),
    /// What is wrong with one refuses it alone.
    Policy(policy::Kind),
}

/// The group counts: there are other projects' kinds of the same names.
fn reader_of(group: &str, kind: &str) -> Option<KindReader> {
    use KindReader::{Object, Policy};
    Some(match (group, kind) {
        ("", "Node") => Object(node::read),
        ("", "Namespace") => Object(metadata::namespace),
        ("", "Pod") => Object(pod::read),
        ("", "Service") => Object(service::read),
        ("discovery.k8s.io", "EndpointSlice") => Object(service::read_slice),
        ("networking.k8s.io", "NetworkPolicy") => Policy(network_policy::KIND),
        ("cilium.io", "CiliumNetworkPolicy") => Policy(cilium::KIND),
        ("cilium.io", "CiliumClusterwideNetworkPolicy") => Policy(cilium::KIND_CLUSTERWIDE),
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => {
            Policy(cluster_network_policy::KIND)
        }
        ("policy.networking.k8s.io", "AdminNetworkPolicy") => Policy(foreign::ADMIN),
        ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => Policy(foreign::BASELINE),
        _ => return None,
    })
}
