//! All objects that are in force, by cluster and kind: of two with one name, the later file's. And
//! which of them have been touched, so that a change costs what it touches.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::Labels;

use crate::object::{EndpointSlice, Located, Namespace, Node, Object, Pod, Service};

/// What an object is called among all of all clusters; in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) cluster: u8,
    pub(crate) kind: &'static str,
    /// Empty for cluster-wide objects.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Key {
    /// Of an object of this kind.
    pub(crate) fn to<T: Kind>(cluster: u8, namespace: &Arc<str>, name: &Arc<str>) -> Key {
        Key {
            cluster,
            kind: T::NAME,
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.cluster
            .cmp(&other.cluster)
            .then_with(|| order(self.kind, other.kind))
            .then_with(|| order(&self.namespace, &other.namespace))
            .then_with(|| order(&self.name, &other.name))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of two texts. Most keys that are compared share some, which is cheaper to see than to
/// read.
fn order(one: &str, other: &str) -> Ordering {
    if std::ptr::eq(one, other) {
        return Ordering::Equal;
    }
    one.cmp(other)
}

/// A kind by which objects are asked for.
pub(crate) trait Kind: 'static {
    const NAME: &'static str;

    /// The object, if it is of this kind.
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! kinds {
    ($($kind:ident)*) => {$(
        impl Kind for $kind {
            const NAME: &'static str = stringify!($kind);

            fn of(object: &Object) -> Option<&$kind> {
                match object {
                    Object::$kind(object) => Some(object),
                    _ => None,
                }
            }
        }
    )*};
}

kinds!(Node Namespace Pod Service EndpointSlice);

/// An object where it stands, in one of the files that have one of its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stand {
    /// What its file is called among the cluster's files.
    pub(crate) source: Arc<str>,
    pub(crate) located: Located<Arc<Object>>,
}

/// The objects of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// All that have one name: the last one counts.
    objects: BTreeMap<Key, Vec<Stand>>,
    /// What stands in each file.
    files: BTreeMap<(u8, Arc<str>), BTreeSet<Key>>,
    /// The slices of each service.
    slices: BTreeMap<Key, BTreeSet<Key>>,
    touched: Touched,
}

/// What has happened to objects.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Objects that are not what they were, with what they were.
    pub(crate) changed: BTreeMap<Key, Option<Arc<Object>>>,
    /// Objects that stand elsewhere, or not alone.
    pub(crate) moved: BTreeSet<Key>,
}

impl Touched {
    /// Objects of one kind that are not what they were, with what they were.
    pub(crate) fn changed<T: Kind>(&self) -> impl Iterator<Item = (&Key, Option<&Arc<Object>>)> {
        let changed = self.changed.iter().filter(|(key, _)| key.kind == T::NAME);
        changed.map(|(key, before)| (key, before.as_ref()))
    }
}

impl Inventory {
    /// Puts these objects in place of all that stood in a file.
    pub(crate) fn replace(&mut self, cluster: u8, file: &str, objects: Vec<Located<Object>>) {
        let source: Arc<str> = file.into();
        let mut new: BTreeMap<Key, Vec<Located<Object>>> = BTreeMap::new();
        let mut namespaces = BTreeSet::new();
        for located in objects {
            let key = Key {
                cluster,
                kind: located.object.kind(),
                namespace: shared(&mut namespaces, located.object.namespace()),
                name: located.object.name().into(),
            };
            new.entry(key).or_default().push(located);
        }
        let keys: BTreeSet<Key> = new.keys().cloned().collect();
        let file = (cluster, source.clone());
        let old = if keys.is_empty() {
            self.files.remove(&file)
        } else {
            self.files.insert(file, keys)
        };
        for key in old.unwrap_or_default() {
            new.entry(key).or_default();
        }
        for (key, located) in new {
            self.put(key, &source, located);
        }
    }

    /// Puts objects of one name in place of those that a file had.
    fn put(&mut self, key: Key, source: &Arc<str>, objects: Vec<Located<Object>>) {
        let stands = self.objects.entry(key.clone()).or_default();
        let before = stands.last().map(|stand| stand.located.object.clone());
        let first = stands.partition_point(|stand| stand.source < *source);
        let end = stands.partition_point(|stand| stand.source <= *source);
        let mut old = stands[first..end].iter().map(|stand| &stand.located.object);
        let new: Vec<Stand> = objects
            .into_iter()
            .map(|located| Stand {
                source: source.clone(),
                located: Located {
                    // What says the same stays the same allocation.
                    object: match old.next() {
                        Some(old) if **old == located.object => old.clone(),
                        _ => Arc::new(located.object),
                    },
                    file: located.file,
                    at: located.at,
                },
            })
            .collect();
        if stands[first..end] == new[..] {
            return;
        }
        stands.splice(first..end, new);
        let after = stands.last().map(|stand| stand.located.object.clone());
        if after.is_none() {
            self.objects.remove(&key);
        }
        if before != after {
            self.index(&key, before.as_deref(), after.as_deref());
            self.touched.changed.entry(key.clone()).or_insert(before);
        }
        self.touched.moved.insert(key);
    }

    /// Keeps the slices of each service.
    fn index(&mut self, key: &Key, before: Option<&Object>, after: Option<&Object>) {
        if let Some(slice) = before.and_then(EndpointSlice::of) {
            let service = service_of(key, slice);
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
        }
        if let Some(slice) = after.and_then(EndpointSlice::of) {
            let slices = self.slices.entry(service_of(key, slice)).or_default();
            slices.insert(key.clone());
        }
    }

    /// What has happened since this was asked last.
    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// All that have a name, the one that counts last.
    pub(crate) fn stands(&self, key: &Key) -> &[Stand] {
        self.objects.get(key).map_or(&[], Vec::as_slice)
    }

    /// The object that has a name.
    pub(crate) fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        let stand = self.objects.get(key)?.last()?;
        Some(&stand.located.object)
    }

    /// The object of this kind that has a name.
    pub(crate) fn get<T: Kind>(&self, key: &Key) -> Option<&T> {
        T::of(self.object(key)?)
    }

    /// All objects of a kind in a cluster.
    pub(crate) fn all<T: Kind>(&self, cluster: u8) -> impl Iterator<Item = (&Key, &T)> {
        let first = Key::to::<T>(cluster, &Arc::default(), &Arc::default());
        self.from(first)
            .take_while(move |(key, _)| key.cluster == cluster && key.kind == T::NAME)
            .filter_map(|(key, object)| Some((key, T::of(object)?)))
    }

    /// All objects of a kind in a namespace of a cluster.
    pub(crate) fn within<T: Kind>(
        &self,
        cluster: u8,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = (&Key, &T)> {
        let first = Key::to::<T>(cluster, namespace, &Arc::default());
        let like = first.clone();
        self.from(first)
            .take_while(move |(key, _)| {
                key.cluster == like.cluster
                    && key.kind == like.kind
                    && key.namespace == like.namespace
            })
            .filter_map(|(key, object)| Some((key, T::of(object)?)))
    }

    /// The slices of a service, if it has any.
    pub(crate) fn slices(&self, service: &Key) -> Option<Vec<&EndpointSlice>> {
        let slices = self.slices.get(service)?.iter();
        Some(slices.filter_map(|key| self.get(key)).collect())
    }

    /// The labels of a namespace. One that only pods name has its name.
    pub(crate) fn labels_of_namespace(&self, cluster: u8, namespace: &Arc<str>) -> Labels {
        let key = Key::to::<Namespace>(cluster, &Arc::default(), namespace);
        match self.get::<Namespace>(&key) {
            Some(namespace) => labels_of(&namespace.labels),
            None => Labels::from_iter([("kubernetes.io/metadata.name", &**namespace)]),
        }
    }

    fn from(&self, first: Key) -> impl Iterator<Item = (&Key, &Object)> {
        let rest = self.objects.range(first..);
        rest.filter_map(|(key, stands)| Some((key, &*stands.last()?.located.object)))
    }
}

/// A text as the allocation that it has already, if it has one.
fn shared(texts: &mut BTreeSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(shared) = texts.get(text) {
        return shared.clone();
    }
    let new: Arc<str> = text.into();
    texts.insert(new.clone());
    new
}

/// The service that a slice serves.
pub(crate) fn service_of(slice: &Key, object: &EndpointSlice) -> Key {
    Key::to::<Service>(
        slice.cluster,
        &slice.namespace,
        &object.service.as_str().into(),
    )
}

/// Labels as policies read them.
pub(crate) fn labels_of(map: &BTreeMap<String, String>) -> Labels {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}
