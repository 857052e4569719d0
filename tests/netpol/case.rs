//! The files of this folder, as `README.md` describes them.
#![allow(dead_code)] // each test uses its own part

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::tree::{Tree, Value, documents};
use config::{Problem, Reader};

use crate::table::{PODS, Pattern, Table, addresses, name};

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The file's name.
    pub(crate) file: String,
    /// Where the case comes from.
    pub(crate) source: String,
    /// What is done, and what holds then.
    pub(crate) steps: Vec<Step>,
}

/// One change, and what holds after it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What it shows.
    pub(crate) say: String,
    apply: Vec<(ObjectName, String)>,
    delete: Vec<ObjectName>,
    labels: Vec<Labelling>,
    /// The tables.
    pub(crate) expect: Vec<Probe>,
}

/// One port, and who reaches whom on it.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Such as `80/TCP`.
    pub(crate) on: String,
    /// The destination port.
    pub(crate) port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: &'static str,
    /// What holds.
    pub(crate) table: Table,
}

/// `KIND NAMESPACE/NAME`, or `KIND NAME` of a cluster-wide object.
type ObjectName = String;

/// A namespace or `namespace/pod`, a label, and its value; `None` removes it.
type Labelling = (String, String, Option<String>);

/// All cases of a folder, by file name.
///
/// # Errors
/// Everything that is wrong with its files.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.ends_with(".yaml"))
        .collect();
    files.sort();
    let (mut cases, mut wrong) = (Vec::new(), String::new());
    for file in files {
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        match Case::read(&file, &text) {
            Ok(case) => cases.push(case),
            Err(problems) => {
                for problem in problems {
                    wrong += &format!("{}\n", problem.render(&text));
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(cases)
    } else {
        Err(wrong)
    }
}

impl Case {
    /// Reads one file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn read(file: &str, text: &str) -> Result<Case, Vec<Problem>> {
        let trees = documents(file, text).map_err(|problem| vec![problem])?;
        let mut reader = Reader::new(file);
        let case = match trees.as_slice() {
            [tree] => case(&mut reader, file, tree),
            _ => {
                let message = format!("{} documents", trees.len());
                reader.complain(Default::default(), message, "one file is one case");
                None
            }
        };
        let problems = reader.finish();
        case.filter(|_| problems.is_empty()).ok_or(problems)
    }
}

impl Step {
    /// The same expectations, and no change.
    pub(crate) fn idle(&self) -> Step {
        Step {
            say: self.say.clone(),
            apply: Vec::new(),
            delete: Vec::new(),
            labels: Vec::new(),
            expect: self.expect.clone(),
        }
    }
}

fn case(reader: &mut Reader<'_>, file: &str, tree: &Tree) -> Option<Case> {
    let fields = reader.fields(tree, "a case")?;
    fields.only(reader, &["source", "steps"]);
    let source = fields.need(reader, "source", "say where the case comes from");
    let source = source.and_then(|tree| reader.text(tree, "`source`"));
    let steps = fields.need(reader, "steps", "a case has one step or more")?;
    let mut applied = BTreeMap::new();
    let steps: Vec<Step> = some(reader, steps, "`steps`")
        .iter()
        .filter_map(|tree| step(reader, file, tree, &mut applied))
        .collect();
    Some(Case {
        file: file.into(),
        source: source?.into(),
        steps,
    })
}

/// A list that must not be empty.
fn some<'t>(reader: &mut Reader<'_>, tree: &'t Tree, what: &str) -> &'t [Tree] {
    let items = reader.list(tree, what);
    if items == Some(&[]) {
        reader.complain(tree.at, format!("{what} is empty"), "leave it out");
    }
    items.unwrap_or_default()
}

fn step(
    reader: &mut Reader<'_>,
    file: &str,
    tree: &Tree,
    applied: &mut BTreeMap<ObjectName, String>,
) -> Option<Step> {
    let fields = reader.fields(tree, "a step")?;
    fields.only(reader, &["say", "apply", "delete", "labels", "expect"]);
    let say = fields.need(reader, "say", "say what the step shows");
    let say = say.and_then(|tree| reader.text(tree, "`say`"));
    let mut apply = Vec::new();
    if let Some(tree) = fields.get("apply") {
        apply = manifests(reader, file, tree);
        for (object, text) in &apply {
            if applied.insert(object.clone(), text.clone()).as_ref() == Some(text) {
                let message = format!("{object} is like that already");
                reader.complain(tree.at, message, "");
            }
        }
    }
    let mut delete = Vec::new();
    if let Some(tree) = fields.get("delete") {
        for tree in some(reader, tree, "`delete`") {
            let Some(object) = reader.text(tree, "what is deleted") else {
                continue;
            };
            if applied.remove(object).is_none() {
                let message = format!("there is no {object:?}");
                reader.complain(tree.at, message, "write KIND NAMESPACE/NAME");
            }
            delete.push(object.into());
        }
    }
    let labels = fields.get("labels");
    let labels = labels.map_or_else(Vec::new, |tree| labels_of(reader, tree));
    let probes = fields.need(reader, "expect", "say who reaches whom")?;
    let expect: Vec<Probe> = some(reader, probes, "`expect`")
        .iter()
        .filter_map(|tree| probe(reader, tree))
        .collect();
    let ports: BTreeSet<&str> = expect.iter().map(|probe| probe.on.as_str()).collect();
    if ports.len() < expect.len() {
        reader.complain(probes.at, "a port is probed twice", "one table a port");
    }
    Some(Step {
        say: say?.into(),
        apply,
        delete,
        labels,
        expect,
    })
}

/// The documents of a text, each with what it is called.
fn manifests(reader: &mut Reader<'_>, file: &str, tree: &Tree) -> Vec<(ObjectName, String)> {
    let mut all: Vec<(ObjectName, String)> = Vec::new();
    let text = reader.text(tree, "`apply`").unwrap_or_default();
    for text in text.split("---\n") {
        let parsed = mesh::parse(file, text);
        for problem in &parsed.problems {
            reader.complain(tree.at, format!("a manifest: {problem}"), &problem.hint);
        }
        let [located] = parsed.objects.as_slice() else {
            if parsed.problems.is_empty() {
                reader.complain(tree.at, "not one object of a kind that we know", "");
            }
            continue;
        };
        let object = &located.object;
        if ["Node", "Namespace", "Pod"].contains(&object.kind()) {
            let message = format!("a {} is given already", object.kind());
            reader.complain(tree.at, message, "change it by `labels`");
        }
        let called = match object.namespace() {
            "" => format!("{} {}", object.kind(), object.name()),
            namespace => format!("{} {namespace}/{}", object.kind(), object.name()),
        };
        if all.iter().any(|(other, _)| *other == called) {
            reader.complain(tree.at, format!("{called} is applied twice"), "");
        }
        all.push((called, text.into()));
    }
    all
}

fn labels_of(reader: &mut Reader<'_>, tree: &Tree) -> Vec<Labelling> {
    let mut all = Vec::new();
    let Some(fields) = reader.fields(tree, "`labels`") else {
        return all;
    };
    for entry in fields.entries() {
        let is_known =
            (0..PODS.len()).any(|pod| PODS[pod].0 == entry.key || name(pod) == entry.key);
        if !is_known {
            let message = format!("nobody is called {:?}", entry.key);
            reader.complain(entry.at, message, "write a namespace or namespace/pod");
        }
        let Some(labels) = reader.fields(&entry.value, "labels") else {
            continue;
        };
        for label in labels.entries() {
            let value = match label.value.value {
                Value::Null => None,
                _ => reader.text(&label.value, "a label").map(String::from),
            };
            all.push((entry.key.clone(), label.key.clone(), value));
        }
    }
    all
}

fn probe(reader: &mut Reader<'_>, tree: &Tree) -> Option<Probe> {
    let fields = reader.fields(tree, "a probe")?;
    fields.only(reader, &["on", "default", "allow", "deny"]);
    let on = fields.need(reader, "on", "write a port, such as 80/TCP");
    let default = fields.need(reader, "default", "write allow or deny");
    let (on, default) = (on?, default?);
    let default = reader.word(default, "`default`", &[("allow", true), ("deny", false)])?;
    let mut patterns = |key| -> Vec<Pattern> {
        let list = fields.get(key);
        let list = list.map_or(&[][..], |tree| some(reader, tree, key));
        let expected = "FROM > TO, each of them *, x/*, */a or x/a";
        let read = list.iter().map(|tree| reader.parse(tree, key, expected));
        read.collect::<Option<_>>().unwrap_or_default()
    };
    let (allow, deny) = (patterns("allow"), patterns("deny"));
    let (except, but) = if default {
        (deny, allow)
    } else {
        (allow, deny)
    };
    let text = reader.text(on, "`on`")?;
    let port = text.split_once('/').and_then(|(port, protocol)| {
        let protocols = ["TCP", "UDP", "SCTP"];
        let protocol = protocols.into_iter().find(|known| *known == protocol)?;
        Some((port.parse::<u16>().ok()?, protocol))
    });
    let Some((port, protocol)) = port else {
        reader.complain(
            on.at,
            format!("{text:?} is no port"),
            "write such as 80/TCP",
        );
        return None;
    };
    match Table::written(default, &except, &but) {
        Ok(table) => Some(Probe {
            on: text.into(),
            port,
            protocol,
            table,
        }),
        Err(idle) => {
            let message = format!("{:?} changes nothing", idle.text());
            reader.complain(
                tree.at,
                message,
                "leave it out, or say what it is to change",
            );
            None
        }
    }
}

/// The manifests that are in force, one file an object, as far as a case has come.
#[derive(Clone, Debug)]
pub(crate) struct Manifests {
    labels: BTreeMap<String, BTreeMap<String, String>>,
    files: BTreeMap<String, String>,
}

impl Manifests {
    /// Namespaces and pods, and no policy.
    pub(crate) fn new() -> Manifests {
        let mut labels = BTreeMap::new();
        for (pod, (namespace, short, _)) in PODS.iter().enumerate() {
            let label = |key: &str, value: &str| BTreeMap::from([(key.into(), value.into())]);
            labels.insert((*namespace).into(), label("ns", namespace));
            labels.insert(name(pod), label("pod", short));
        }
        let mut manifests = Manifests {
            labels,
            files: BTreeMap::new(),
        };
        manifests.write_labelled();
        manifests
    }

    /// All files by name.
    pub(crate) fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    /// Takes a step, and says which files have changed: a new text, or `None` for one that is gone.
    pub(crate) fn take(&mut self, step: &Step) -> Vec<(String, Option<String>)> {
        let before = self.files.clone();
        for (object, text) in &step.apply {
            self.files.insert(file_of(object), text.clone());
        }
        for object in &step.delete {
            self.files.remove(&file_of(object));
        }
        for (who, key, value) in &step.labels {
            let labels = self.labels.entry(who.clone()).or_default();
            match value {
                Some(value) => labels.insert(key.clone(), value.clone()),
                None => labels.remove(key),
            };
        }
        self.write_labelled();
        let names: BTreeSet<&String> = before.keys().chain(self.files.keys()).collect();
        names
            .into_iter()
            .filter(|file| before.get(*file) != self.files.get(*file))
            .map(|file| (file.clone(), self.files.get(file).cloned()))
            .collect()
    }

    fn write_labelled(&mut self) {
        for (pod, (namespace, short, node)) in PODS.iter().enumerate() {
            let text = format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {}}}\n",
                in_braces(&self.labels[*namespace])
            );
            self.files
                .insert(format!("namespace-{namespace}.yaml"), text);
            let [v4, v6] = addresses(pod);
            let labels = in_braces(&self.labels[&name(pod)]);
            let ports = [
                (80, "TCP"),
                (81, "TCP"),
                (80, "UDP"),
                (81, "UDP"),
                (80, "SCTP"),
                (81, "SCTP"),
            ];
            let ports = ports.map(|(port, protocol)| {
                let name = format!("serve-{port}-{}", protocol.to_lowercase());
                format!("{{name: {name}, containerPort: {port}, protocol: {protocol}}}")
            });
            let text = format!(
                "apiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {short}, namespace: {namespace}, labels: {labels}}}\n\
                 spec:\n  nodeName: {node}\n  containers:\n    - {{name: main, ports: [{}]}}\n\
                 status:\n  phase: Running\n  podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]\n\
                 \x20 conditions: [{{type: Ready, status: \"True\"}}]\n",
                ports.join(", ")
            );
            self.files
                .insert(format!("pod-{namespace}-{short}.yaml"), text);
        }
    }
}

fn file_of(object: &str) -> String {
    format!("{}.yaml", object.to_lowercase().replace([' ', '/'], "-"))
}

fn in_braces(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels
        .iter()
        .map(|(k, v)| format!("{k}: \"{v}\""))
        .collect();
    format!("{{{}}}", labels.join(", "))
}
