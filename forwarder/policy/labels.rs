//! Labels, and selectors over them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The keys that a pod's labels have besides its own, as Cilium names them
/// (`pkg/k8s/apis/cilium.io/const.go`), so that one selector can speak of everything.
pub mod key {
    /// The pod's namespace.
    pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// In front of the key of each label of the pod's namespace.
    pub const NAMESPACE_LABEL_PREFIX: &str = "io.cilium.k8s.namespace.labels.";
    /// The pod's service account.
    pub const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
    /// The name of the cluster that the pod runs in.
    pub const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
    /// In front of the name of what is no pod, such as `reserved:host`.
    pub const RESERVED_PREFIX: &str = "reserved:";

    /// Labels that change with each pod or roll-out and would make an identity of each, so that
    /// none of them is part of one (Cilium's default filter, `pkg/labelsfilter/filter.go`). A
    /// policy that selects by one of them cannot be enforced.
    pub const CHURN: [&str; 8] = [
        "pod-template-hash",
        "pod-template-generation",
        "controller-revision-hash",
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    ];

    /// Whether a key says something that a pod must not say of itself: only we may give it.
    pub fn is_ours(key: &str) -> bool {
        key == NAMESPACE || key.starts_with("io.cilium.") || key.starts_with(RESERVED_PREFIX)
    }
}

/// A set of labels, sorted by key. A copy is the same allocation until one of them changes, so that
/// copies of one set are cheap to make and to compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Labels {
    /// No labels.
    pub fn new() -> Labels {
        Labels::default()
    }

    /// The security labels of a pod: its own without those that churn ([`key::CHURN`]) and without
    /// those that only we may give ([`key::is_ours`]), the labels of its namespace under
    /// [`key::NAMESPACE_LABEL_PREFIX`], its namespace, service account and cluster.
    pub fn of_pod(
        cluster: &str,
        namespace: &str,
        service_account: &str,
        namespace_labels: &Labels,
        pod_labels: &Labels,
    ) -> Labels {
        let mut labels: Labels = pod_labels
            .iter()
            .filter(|(k, _)| !key::is_ours(k) && !key::CHURN.contains(k))
            .collect();
        for (k, v) in namespace_labels.iter() {
            let mut prefixed = String::from(key::NAMESPACE_LABEL_PREFIX);
            prefixed.push_str(k);
            labels.insert(prefixed, v);
        }
        labels.insert(key::NAMESPACE, namespace);
        labels.insert(key::SERVICE_ACCOUNT, service_account);
        labels.insert(key::CLUSTER, cluster);
        labels
    }

    /// Sets a label, in place of one with the same key.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        Arc::make_mut(&mut self.0).insert(key.into(), value.into());
    }

    /// The value of a label.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All labels by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Labels {
        let labels = labels.into_iter();
        Labels(Arc::new(
            labels.map(|(k, v)| (k.into(), v.into())).collect(),
        ))
    }
}

/// One condition over labels, as a `matchExpressions` item of Kubernetes' LabelSelector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement {
    /// The label is there and has one of these values.
    In(String, Vec<String>),
    /// The label is not there, or has another value.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

impl Requirement {
    /// The label that it speaks of.
    pub fn key(&self) -> &str {
        match self {
            Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::DoesNotExist(key) => key,
        }
    }

    /// Whether labels fulfil it (apimachinery `labels/selector.go`, `Requirement.Matches`).
    pub fn matches(&self, labels: &Labels) -> bool {
        let is_one_of = |key: &str, values: &[String]| {
            labels
                .value(key)
                .is_some_and(|value| values.iter().any(|v| v == value))
        };
        match self {
            Requirement::In(key, values) => is_one_of(key, values),
            Requirement::NotIn(key, values) => !is_one_of(key, values),
            Requirement::Exists(key) => labels.value(key).is_some(),
            Requirement::DoesNotExist(key) => labels.value(key).is_none(),
        }
    }
}

/// A choice of labelled things: those that fulfil every requirement, so all if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// What must hold, all of it.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// Selects everything that has labels at all.
    pub const fn everything() -> Selector {
        Selector {
            requirements: Vec::new(),
        }
    }

    /// The same selector, and the label must have this value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Selector {
        let values = Vec::from([value.into()]);
        self.requirements.push(Requirement::In(key.into(), values));
        self
    }

    /// The same selector with one more requirement.
    #[must_use]
    pub fn and(mut self, requirement: Requirement) -> Selector {
        self.requirements.push(requirement);
        self
    }

    /// Whether any requirement speaks of this label.
    pub fn names(&self, key: &str) -> bool {
        self.requirements.iter().any(|r| r.key() == key)
    }

    /// Whether it selects a thing with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[String]| {
            for (i, value) in values.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { "," })?;
                f.write_str(value)?;
            }
            f.write_str(")")
        };
        match self {
            Requirement::In(key, values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Requirement::In(key, values) => {
                write!(f, "{key} in (")?;
                list(f, values)
            }
            Requirement::NotIn(key, values) => {
                write!(f, "{key} notin (")?;
                list(f, values)
            }
            Requirement::Exists(key) => f.write_str(key),
            Requirement::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

impl fmt::Display for Selector {
    /// As `kubectl --selector` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|v| v.to_string()).collect()
    }

    #[test]
    fn requirements_hold_as_kubernetes_says() {
        let with: Labels = [("app", "web")].into_iter().collect();
        let other: Labels = [("app", "db")].into_iter().collect();
        let without: Labels = [("tier", "web")].into_iter().collect();
        let app = || "app".to_string();
        for (requirement, [web, db, none]) in [
            (
                Requirement::In(app(), values(&["web"])),
                [true, false, false],
            ),
            (
                Requirement::In(app(), values(&["web", "db"])),
                [true, true, false],
            ),
            (Requirement::In(app(), values(&[])), [false, false, false]),
            (
                Requirement::NotIn(app(), values(&["web"])),
                [false, true, true],
            ),
            (
                Requirement::NotIn(app(), values(&["web", "db"])),
                [false, false, true],
            ),
            (Requirement::Exists(app()), [true, true, false]),
            (Requirement::DoesNotExist(app()), [false, false, true]),
        ] {
            assert_eq!(requirement.matches(&with), web, "{requirement}");
            assert_eq!(requirement.matches(&other), db, "{requirement}");
            assert_eq!(requirement.matches(&without), none, "{requirement}");
        }
    }

    #[test]
    fn a_selector_is_the_and_of_its_requirements_and_an_empty_one_selects_all() {
        let labels: Labels = [("app", "web"), ("tier", "front")].into_iter().collect();
        assert!(Selector::everything().matches(&labels));
        assert!(Selector::everything().matches(&Labels::new()));
        let both = Selector::everything()
            .with("app", "web")
            .with("tier", "front");
        assert!(both.matches(&labels));
        let one_fails = Selector::everything()
            .with("app", "web")
            .with("tier", "back");
        assert!(!one_fails.matches(&labels));
    }

    #[test]
    fn selectors_are_written_as_kubectl_takes_them() {
        let selector = Selector::everything()
            .with("app", "web")
            .and(Requirement::In("t".into(), values(&["a", "b"])))
            .and(Requirement::NotIn("u".into(), values(&["c"])))
            .and(Requirement::Exists("v".into()))
            .and(Requirement::DoesNotExist("w".into()));
        assert_eq!(selector.to_string(), "app=web,t in (a,b),u notin (c),v,!w");
        assert!(selector.names("w") && !selector.names("x"));
    }

    #[test]
    fn a_pod_cannot_give_itself_a_namespace_or_a_cluster_or_call_itself_a_host() {
        let pod: Labels = [
            ("app", "web"),
            (key::NAMESPACE, "kube-system"),
            (key::CLUSTER, "us"),
            ("io.cilium.k8s.namespace.labels.team", "root"),
            ("reserved:host", ""),
            ("pod-template-hash", "5d4f"),
        ]
        .into_iter()
        .collect();
        let namespace: Labels = [("team", "shop")].into_iter().collect();
        let labels = Labels::of_pod("eu", "shop", "default", &namespace, &pod);
        let expected = vec![
            ("app", "web"),
            ("io.cilium.k8s.namespace.labels.team", "shop"),
            ("io.cilium.k8s.policy.cluster", "eu"),
            ("io.cilium.k8s.policy.serviceaccount", "default"),
            ("io.kubernetes.pod.namespace", "shop"),
        ];
        assert_eq!(labels.iter().collect::<Vec<_>>(), expected);
    }
}
