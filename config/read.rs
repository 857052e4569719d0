//! How the node's file is read: field by field, in the order in which people write it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use packet::Prefix;

use crate::tree::{Tree, Value};
use crate::{
    Cluster, Config, Engine, Fields, FlowLog, Mtu, OnCrash, Place, Probe, Reader, Remote, Tun,
    TunIntercept, WORKERS_MAX, Wire, Workers, shape,
};

const ADDRESS: &str = "an address with a port, such as \"192.0.2.1:51871\"";
const PREFIX: &str =
    "a prefix, such as 10.2.0.0/16 or \"fd10:2::/64\", with zeros behind its length";

/// The keys of the file.
const KEYS: [&str; 14] = [
    "cluster",
    "node",
    "stateDir",
    "socket",
    "manifests",
    "clusters",
    "pods",
    "wire",
    "workers",
    "engine",
    "lanes",
    "flows",
    "probe",
    "policy",
];

/// All of the file. Everything is read before anything that is missing ends it, so that all
/// problems come at once.
pub(crate) fn config(reader: &mut Reader<'_>, tree: &Tree, at: &Path) -> Option<Config> {
    let base = at.parent().unwrap_or(Path::new("/"));
    let top = reader.fields(tree, "the file")?;
    top.only(reader, &KEYS);
    let own = top
        .need(reader, "cluster", "write `cluster: {name: eu, id: 1}`")
        .and_then(|tree| own_cluster(reader, tree));
    let node = top
        .need(reader, "node", "write the name of this node's Node object")
        .and_then(|tree| named(reader, tree, "`node`", shape::node_name));
    let manifests = top
        .need(
            reader,
            "manifests",
            "write the directory of this cluster's objects",
        )
        .and_then(|tree| path(reader, tree, "`manifests`", base));
    let state_dir = path_or(reader, &top, "stateDir", base, "/var/lib/farlane");
    let socket = path_or(reader, &top, "socket", base, "/run/farlane/farlane.sock");
    let clusters = match top.get("clusters") {
        Some(tree) => remotes(reader, tree, base, own.as_ref()),
        None => Vec::new(),
    };
    let lanes = top
        .get("lanes")
        .map_or(Some(4), |tree| reader.integer(tree, "`lanes`", 1..=256u16));
    let workers = match top.get("workers") {
        Some(tree) => workers(reader, tree, lanes.unwrap_or(u16::MAX)),
        None => Some(Workers::Auto),
    };
    let engine = engine(reader, top.get("engine"));
    let tun = tun(reader, top.get("pods"), workers, lanes.unwrap_or(1));
    let wire = top
        .need(
            reader,
            "wire",
            "write `wire: {listen: \"192.0.2.1:51871\"}`",
        )
        .and_then(|tree| wire(reader, tree, lanes.unwrap_or(1)));
    let flows = flows(reader, top.get("flows"), base);
    let probe = probe(reader, top.get("probe"));
    let audit = policy(reader, top.get("policy"));
    let (flows_max, flow_log) = flows?;
    Some(Config {
        file: at.to_path_buf(),
        cluster: own?,
        node: node?,
        state_dir: state_dir?,
        socket: socket?,
        manifests: manifests?,
        clusters,
        tun: tun?,
        wire: wire?,
        workers: workers?,
        engine: engine?,
        lanes: lanes?,
        flows_max,
        flow_log,
        probe: probe?,
        audit: audit?,
    })
}

fn own_cluster(reader: &mut Reader<'_>, tree: &Tree) -> Option<Cluster> {
    let fields = reader.fields(tree, "`cluster`")?;
    fields.only(reader, &["name", "id"]);
    cluster(reader, &fields)
}

fn cluster(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Cluster> {
    let name = fields
        .need(reader, "name", "write the cluster's name, such as `eu`")
        .and_then(|tree| named(reader, tree, "a cluster's `name`", shape::cluster_name));
    let id = fields
        .need(
            reader,
            "id",
            "write a number that no other cluster of the mesh has, 1 to 255",
        )
        .and_then(|tree| reader.integer(tree, "a cluster's `id`", 1..=255u8));
    Some(Cluster {
        name: name?,
        id: id?,
    })
}

fn remotes(
    reader: &mut Reader<'_>,
    tree: &Tree,
    base: &Path,
    own: Option<&Cluster>,
) -> Vec<Remote> {
    let mut known: Vec<Cluster> = own.cloned().into_iter().collect();
    // Every prefix so far, with whose it is and where that was said.
    let mut prefixes: Vec<(Prefix, String, Place)> = Vec::new();
    let mut all = Vec::new();
    for item in reader.list(tree, "`clusters`").unwrap_or_default() {
        let Some(fields) = reader.fields(item, "an item of `clusters`") else {
            continue;
        };
        fields.only(reader, &["name", "id", "manifests", "prefixes"]);
        let cluster = cluster(reader, &fields);
        if let Some(cluster) = &cluster {
            distinct(reader, &fields, cluster, &known);
            known.push(cluster.clone());
        }
        let manifests = fields
            .need(
                reader,
                "manifests",
                "write the directory of that cluster's objects",
            )
            .and_then(|tree| path(reader, tree, "a cluster's `manifests`", base));
        let hint = "write the prefixes of that cluster's pods and nodes";
        let name = cluster.as_ref().map_or("?", |c| &c.name);
        let scope = fields
            .need(reader, "prefixes", hint)
            .and_then(|tree| scope(reader, tree, name, &mut prefixes));
        if let (Some(cluster), Some(manifests), Some(prefixes)) = (cluster, manifests, scope) {
            all.push(Remote {
                cluster,
                manifests,
                prefixes,
            });
        }
    }
    all
}

/// Names and numbers tell clusters apart, in labels and in identities.
fn distinct(reader: &mut Reader<'_>, fields: &Fields<'_>, cluster: &Cluster, known: &[Cluster]) {
    let at = |key: &str| fields.get(key).map_or(fields.at(), |tree| tree.at);
    if known.iter().any(|k| k.name == cluster.name) {
        let message = format!("two clusters have the name `{}`", cluster.name);
        reader.complain(at("name"), message, "give each its own");
    }
    if let Some(other) = known.iter().find(|k| k.id == cluster.id) {
        let message = format!(
            "the clusters `{}` and `{}` have the same id",
            other.name, cluster.name
        );
        reader.complain(at("id"), message, "give each its own");
    }
}

fn scope(
    reader: &mut Reader<'_>,
    tree: &Tree,
    cluster: &str,
    all: &mut Vec<(Prefix, String, Place)>,
) -> Option<Vec<Prefix>> {
    let mut prefixes = Vec::new();
    let items = reader.list(tree, "a cluster's `prefixes`")?;
    if items.is_empty() {
        reader.complain(
            tree.at,
            "a cluster without prefixes can have no pods",
            "write at least one",
        );
    }
    for item in items {
        let Some(prefix) = reader.parse::<Prefix>(item, "a cluster's `prefixes`", PREFIX) else {
            continue;
        };
        let clash = all
            .iter()
            .find(|(other, whose, _)| whose != cluster && other.overlaps(&prefix));
        if let Some((other, whose, at)) = clash {
            let message = format!(
                "the prefix {prefix} of cluster `{cluster}` overlaps {other} of cluster `{whose}` (line {})",
                at.line
            );
            reader.complain(
                item.at,
                message,
                "clusters that share addresses cannot be joined yet",
            );
        }
        all.push((prefix, cluster.into(), item.at));
        prefixes.push(prefix);
    }
    Some(prefixes)
}

fn tun(
    reader: &mut Reader<'_>,
    pods: Option<&Tree>,
    workers: Option<Workers>,
    lanes: u16,
) -> Option<Tun> {
    let mut tun = Tun {
        name: "farlane0".into(),
        mtu: Mtu::Auto,
        intercept: TunIntercept::All,
        on_crash: OnCrash::Closed,
    };
    let Some(pods) = pods else {
        return Some(tun);
    };
    let pods = reader.fields(pods, "`pods`")?;
    pods.only(reader, &["tun"]);
    let Some(tree) = pods.get("tun") else {
        return Some(tun);
    };
    let fields = reader.fields(tree, "`pods.tun`")?;
    fields.only(reader, &["name", "mtu", "intercept", "onCrash"]);
    if let Some(tree) = fields.get("name") {
        tun.name = named(reader, tree, "`pods.tun.name`", shape::device_name)?;
        let last = match workers {
            Some(Workers::Count(count)) => count - 1,
            _ => lanes.min(WORKERS_MAX) - 1,
        };
        let name = tun.device(last);
        if shape::device_name(&name).is_err() {
            let message =
                format!("`pods.tun.name` makes {name} of worker {last}'s, which is too long");
            reader.complain(tree.at, message, "a device's name has 1 to 15 characters");
        }
    }
    if let Some(tree) = fields.get("mtu") {
        // No less than IPv6 wants of every link, RFC 8200 §5.
        tun.mtu =
            auto_or(reader, tree, "`pods.tun.mtu`", 1280..=65_535)?.map_or(Mtu::Auto, Mtu::Bytes);
    }
    if let Some(tree) = fields.get("intercept") {
        let words = [("all", TunIntercept::All), ("mesh", TunIntercept::Mesh)];
        tun.intercept = reader.word(tree, "`pods.tun.intercept`", &words)?;
    }
    if let Some(tree) = fields.get("onCrash") {
        let words = [("closed", OnCrash::Closed), ("open", OnCrash::Open)];
        tun.on_crash = reader.word(tree, "`pods.tun.onCrash`", &words)?;
    }
    Some(tun)
}

fn workers(reader: &mut Reader<'_>, tree: &Tree, lanes: u16) -> Option<Workers> {
    let Some(count) = auto_or(reader, tree, "`workers`", 1..=WORKERS_MAX)? else {
        return Some(Workers::Auto);
    };
    if count > lanes {
        let message = format!("{count} workers cannot share out {lanes} lanes");
        let hint = "each worker needs a lane: take fewer workers, or more `lanes`";
        reader.complain(tree.at, message, hint);
    }
    Some(Workers::Count(count))
}

fn engine(reader: &mut Reader<'_>, tree: Option<&Tree>) -> Option<Engine> {
    let words = [
        ("auto", Engine::Auto),
        ("epoll", Engine::Epoll),
        ("uring", Engine::Uring),
    ];
    tree.map_or(Some(Engine::Auto), |tree| {
        reader.word(tree, "`engine`", &words)
    })
}

fn wire(reader: &mut Reader<'_>, tree: &Tree, lanes: u16) -> Option<Wire> {
    let fields = reader.fields(tree, "`wire`")?;
    fields.only(reader, &["listen"]);
    let tree = fields.need(reader, "listen", "write `listen: \"192.0.2.1:51871\"`")?;
    let items = match &tree.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(tree),
    };
    if items.is_empty() {
        reader.complain(tree.at, "`wire.listen` names no address", "write one");
    }
    let mut listen: Vec<SocketAddr> = Vec::new();
    for item in items {
        let Some(address) = reader.parse::<SocketAddr>(item, "`wire.listen`", ADDRESS) else {
            continue;
        };
        let last = u32::from(address.port()) + u32::from(lanes) - 1;
        if address.port() == 0 {
            reader.complain(
                item.at,
                "`wire.listen` wants a port that others can know",
                "write 51871",
            );
        } else if last > u32::from(u16::MAX) {
            let message = format!(
                "{lanes} lanes from port {} on end beyond 65535",
                address.port()
            );
            reader.complain(item.at, message, "take a lower port");
        } else if listen.contains(&address) {
            reader.complain(
                item.at,
                format!("{address} stands there twice"),
                "remove one",
            );
        }
        listen.push(address);
    }
    Some(Wire { listen })
}

/// How many flows are remembered, and the log of what happens to them.
fn flows(
    reader: &mut Reader<'_>,
    tree: Option<&Tree>,
    base: &Path,
) -> Option<(u32, Option<FlowLog>)> {
    const DEFAULT: u32 = 262_144;
    let Some(tree) = tree else {
        return Some((DEFAULT, None));
    };
    let fields = reader.fields(tree, "`flows`")?;
    fields.only(reader, &["max", "log"]);
    let max = fields.get("max").map_or(Some(DEFAULT), |tree| {
        reader.integer(tree, "`flows.max`", 1024..=67_108_864u32)
    });
    let log = match fields.get("log") {
        Some(tree) => Some(flow_log(reader, tree, base)?),
        None => None,
    };
    Some((max?, log))
}

fn flow_log(reader: &mut Reader<'_>, tree: &Tree, base: &Path) -> Option<FlowLog> {
    let fields = reader.fields(tree, "`flows.log`")?;
    fields.only(reader, &["file", "maxMiB", "files"]);
    let file = fields.need(reader, "file", "write the path of the log");
    let file = file.and_then(|tree| path(reader, tree, "`flows.log.file`", base));
    let max_mib = fields.get("maxMiB").map_or(Some(64), |tree| {
        reader.integer(tree, "`flows.log.maxMiB`", 1..=65_536u32)
    });
    let files = fields.get("files").map_or(Some(4), |tree| {
        reader.integer(tree, "`flows.log.files`", 1..=1_000u32)
    });
    Some(FlowLog {
        file: file?,
        max_mib: max_mib?,
        files: files?,
    })
}

/// Whether policies are in audit mode.
fn policy(reader: &mut Reader<'_>, tree: Option<&Tree>) -> Option<bool> {
    let Some(tree) = tree else { return Some(false) };
    let fields = reader.fields(tree, "`policy`")?;
    fields.only(reader, &["audit"]);
    fields
        .get("audit")
        .map_or(Some(false), |tree| reader.boolean(tree, "`policy.audit`"))
}

fn probe(reader: &mut Reader<'_>, tree: Option<&Tree>) -> Option<Probe> {
    let mut probe = Probe {
        interval_ms: 200,
        count: 3,
    };
    let Some(tree) = tree else {
        return Some(probe);
    };
    let fields = reader.fields(tree, "`probe`")?;
    fields.only(reader, &["intervalMs", "count"]);
    if let Some(tree) = fields.get("intervalMs") {
        probe.interval_ms = reader.integer(tree, "`probe.intervalMs`", 10..=60_000u32)?;
    }
    if let Some(tree) = fields.get("count") {
        probe.count = reader.integer(tree, "`probe.count`", 1..=100u8)?;
    }
    Some(probe)
}

/// `auto`, or a number within a range.
fn auto_or(
    reader: &mut Reader<'_>,
    tree: &Tree,
    what: &str,
    range: std::ops::RangeInclusive<u16>,
) -> Option<Option<u16>> {
    if tree.text() == Some("auto") {
        return Some(None);
    }
    if let Some(text) = tree.text() {
        let message = format!("{what} must be `auto` or a number, not {text:?}");
        reader.complain(tree.at, message, "");
        return None;
    }
    reader.integer(tree, what, range).map(Some)
}

fn named(
    reader: &mut Reader<'_>,
    tree: &Tree,
    what: &str,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Option<String> {
    let name = reader.text(tree, what)?;
    match rule(name) {
        Ok(()) => Some(name.into()),
        Err(why) => {
            reader.complain(tree.at, format!("{what} cannot be {name:?}"), why);
            None
        }
    }
}

fn path(reader: &mut Reader<'_>, tree: &Tree, what: &str, base: &Path) -> Option<PathBuf> {
    let text = reader.text(tree, what)?;
    if text.is_empty() {
        reader.complain(tree.at, format!("{what} is empty"), "write a path");
        return None;
    }
    Some(base.join(text))
}

fn path_or(
    reader: &mut Reader<'_>,
    top: &Fields<'_>,
    key: &str,
    base: &Path,
    default: &str,
) -> Option<PathBuf> {
    match top.get(key) {
        Some(tree) => path(reader, tree, &format!("`{key}`"), base),
        None => Some(default.into()),
    }
}
