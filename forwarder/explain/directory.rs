//! Whose names and addresses are what: made once for a compiled world, so that a question costs
//! look-ups and no search.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use balance::{Frontend, Service};
use mesh::{Compiled, State};
use packet::Address;
use policy::{Endpoint, Identity, key};

use super::answer::Party;

/// The names of a compiled world.
#[derive(Debug)]
pub(super) struct Directory {
    own: u8,
    /// Addresses by `namespace/pod` for the own cluster's, by `cluster/namespace/pod` for all;
    /// IPv4 first.
    pods: HashMap<String, Vec<Address>>,
    /// Cluster IPs by `namespace/name`, IPv4 first.
    cluster_ips: HashMap<String, Vec<Address>>,
    /// What is served at a cluster IP.
    services: HashMap<Address, Vec<(Frontend, Arc<Service>)>>,
    /// `key=value`, by identity.
    labels: HashMap<Identity, Vec<String>>,
    clusters: HashMap<u8, String>,
    /// What was said of pods that are not wholly in force, each with whose and where it stands.
    of_pods: Vec<(String, String)>,
    /// The same of services, by `namespace/name` of the own cluster.
    of_services: HashMap<String, String>,
}

impl Directory {
    pub(super) fn of(compiled: &Compiled) -> Directory {
        let snapshot = &*compiled.snapshot;
        let mut directory = Directory {
            own: snapshot.own.cluster,
            pods: HashMap::new(),
            cluster_ips: HashMap::new(),
            services: HashMap::new(),
            labels: HashMap::new(),
            clusters: HashMap::new(),
            of_pods: Vec::new(),
            of_services: HashMap::new(),
        };
        for node in &snapshot.nodes {
            let name = node.cluster_name.clone();
            directory.clusters.insert(node.cluster, name);
        }
        for (identity, labels) in &compiled.identities {
            let cluster = identity.cluster().zip(labels.value(key::CLUSTER));
            directory
                .clusters
                .extend(cluster.map(|(id, name)| (id, name.to_owned())));
            let texts = labels.iter().map(|(key, value)| format!("{key}={value}"));
            directory.labels.insert(*identity, texts.collect());
        }
        directory.add_pods(compiled);
        directory.add_services(compiled);
        directory.add_statuses(compiled);
        directory
    }

    fn add_pods(&mut self, compiled: &Compiled) {
        for pod in &compiled.pods {
            let name = format!("{}/{}", pod.namespace, pod.name);
            let mut addresses = pod.addresses.clone();
            addresses.sort_by_key(|address| !address.is_v4());
            if let Some(cluster) = self.clusters.get(&pod.cluster) {
                let name = format!("{cluster}/{name}");
                self.pods.insert(name, addresses.clone());
            }
            if pod.cluster == self.own {
                self.pods.insert(name, addresses);
            }
        }
    }

    fn add_services(&mut self, compiled: &Compiled) {
        let mut addresses: HashMap<&str, BTreeSet<(bool, Address)>> = HashMap::new();
        for (frontend, service) in compiled.snapshot.services.iter() {
            let address = frontend.address;
            let of_name = addresses.entry(&service.name).or_default();
            of_name.insert((!address.is_v4(), address));
            let here = self.services.entry(address).or_default();
            here.push((*frontend, service.clone()));
        }
        self.cluster_ips = addresses
            .into_iter()
            .map(|(name, addresses)| {
                let addresses = addresses.into_iter().map(|(_, address)| address);
                (name.to_owned(), addresses.collect())
            })
            .collect();
    }

    fn add_statuses(&mut self, compiled: &Compiled) {
        let wanting = compiled.statuses.iter();
        for status in wanting.filter(|status| status.state != State::Enforced) {
            let name = format!("{}/{}", status.namespace, status.name);
            let place = format!("{}:{}", status.file, status.at.line);
            match status.kind {
                "Pod" => self.of_pods.extend(status.reasons.iter().map(|reason| {
                    let whose = format!("pod {name}, {place}");
                    (reason.clone(), whose)
                })),
                "Service" if status.cluster == self.own => {
                    let said = format!("{} ({place})", status.reasons.join("; "));
                    self.of_services.insert(name, said);
                }
                _ => {}
            }
        }
    }

    /// The addresses that `who` may mean, IPv4 first.
    ///
    /// # Errors
    /// One sentence: nobody is called that.
    pub(super) fn destinations(&self, who: &str) -> Result<Cow<'_, [Address]>, String> {
        let Some(service) = who.strip_prefix("svc:") else {
            return self.addresses(who);
        };
        if let Some(addresses) = self.cluster_ips.get(service) {
            return Ok(Cow::Borrowed(addresses));
        }
        let why = self.of_services.get(service);
        let why = why.map_or_else(String::new, |said| format!(": {said}"));
        Err(format!(
            "there is no service {service} with a cluster IP{why}; write svc:namespace/name"
        ))
    }

    /// The addresses of a pod, IPv4 first, or the one that `who` is.
    ///
    /// # Errors
    /// One sentence: nobody is called that.
    pub(super) fn addresses(&self, who: &str) -> Result<Cow<'_, [Address]>, String> {
        if let Some(addresses) = self.pods.get(who) {
            return match addresses.is_empty() {
                false => Ok(Cow::Borrowed(addresses)),
                true => Err(self.without_address(who)),
            };
        }
        if let Ok(address) = who.parse::<IpAddr>() {
            return Ok(Cow::Owned(vec![Address::from(address)]));
        }
        Err(format!(
            "nobody is called {who}; write namespace/pod, cluster/namespace/pod for another cluster, or an address"
        ))
    }

    fn without_address(&self, who: &str) -> String {
        let pod = match who.splitn(3, '/').collect::<Vec<_>>()[..] {
            [_, namespace, name] => format!("pod {namespace}/{name}, "),
            _ => format!("pod {who}, "),
        };
        let said = self.of_pods.iter();
        let said = said
            .filter(|(_, whose)| whose.starts_with(&pod))
            .map(|(reason, _)| reason.as_str());
        let why: Vec<&str> = said.collect();
        match why[..] {
            [] => format!("{who} has no address: it is not running yet, or not any more"),
            _ => format!("{who} has no address that counts: {}", why.join("; ")),
        }
    }

    /// One end's owner, with names.
    pub(super) fn party(&self, address: Address, endpoint: Option<&Arc<Endpoint>>) -> Party {
        let identity = endpoint.map(|endpoint| endpoint.identity);
        let labels = identity.and_then(|identity| self.labels.get(&identity));
        Party {
            address: address.to_string(),
            name: self.name(endpoint),
            identity: identity.map(|identity| identity.0),
            labels: labels.cloned().unwrap_or_default(),
        }
    }

    pub(super) fn name(&self, endpoint: Option<&Arc<Endpoint>>) -> String {
        String::from(endpoint.map_or("unknown", |endpoint| endpoint.called()))
    }

    /// What is served at a cluster IP.
    pub(super) fn services_at(&self, address: Address) -> &[(Frontend, Arc<Service>)] {
        self.services.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The name of a cluster.
    pub(super) fn cluster(&self, id: u8) -> String {
        let name = self.clusters.get(&id);
        name.map_or_else(|| format!("number {id}"), String::clone)
    }

    /// What was said of the pods that claim an address which is believed of none of them.
    pub(super) fn said_of(&self, address: Address) -> Option<String> {
        let text = address.to_string();
        let speaks_of = |reason: &str| reason.split([' ', ',']).any(|word| word == text);
        let said = self.of_pods.iter().find(|(reason, _)| speaks_of(reason));
        said.map(|(reason, whose)| format!("{reason} ({whose})"))
    }
}
