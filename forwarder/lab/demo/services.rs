//! Through which backend: each client asks each service, over both families.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Demo, FAMILIES, print_table, url};
use crate::lab::error::LabError;

/// Requests of each.
const REQUESTS: usize = 20;

/// A global service of both clusters' web.
pub(super) struct Service {
    pub(super) name: &'static str,
    /// Last part of its cluster IPs.
    number: u8,
    /// `local` or `remote`: whose backends it prefers.
    pub(super) affinity: &'static str,
}

pub(super) const SERVICES: [Service; 2] = [
    Service {
        name: "web",
        number: 80,
        affinity: "local",
    },
    Service {
        name: "web-far",
        number: 81,
        affinity: "remote",
    },
];

impl Service {
    /// Its cluster IPs in a cluster, of both families.
    pub(super) fn addresses(&self, cluster: &str) -> [String; 2] {
        let (id, number) = (if cluster == "eu" { 1 } else { 2 }, self.number);
        [
            format!("10.10{id}.0.{number}"),
            format!("fd10:10{id}::{number}"),
        ]
    }

    /// The cluster that must serve a client of one.
    fn server(&self, cluster: &str) -> &'static str {
        match (self.affinity, cluster) {
            ("local", "eu") | ("remote", "us") => "eu",
            _ => "us",
        }
    }
}

pub(super) fn show(demo: &mut Demo) -> Result<(), LabError> {
    let (mut entries, mut rows) = (Vec::new(), Vec::new());
    for cluster in ["eu", "us"] {
        let client = demo.pod(&format!("{cluster}-1/client")).clone();
        for service in &SERVICES {
            let wanted = format!("{}-1/web", service.server(cluster));
            for (family, address) in FAMILIES.iter().zip(service.addresses(cluster)) {
                let page = url(&address, 80);
                let mut curl = vec!["curl", "-s", "--connect-timeout", "1"];
                curl.extend([page.as_str()].repeat(REQUESTS));
                let answer = demo.world.run(&client.place, &curl);
                demo.world.interrupt().check()?;
                let answered = answer.is_ok();
                let mut served: BTreeMap<String, usize> = BTreeMap::new();
                for name in answer.unwrap_or_default().split_whitespace() {
                    *served.entry(name.to_owned()).or_default() += 1;
                }
                let right = served.len() == 1 && served.get(&wanted) == Some(&REQUESTS);
                let (label, name) = (&client.label, service.name);
                demo.judge(answered && right, || {
                    format!(
                        "{label} at {name} over {family}: served by {served:?}, not by {wanted}"
                    )
                });
                let all = served.iter().map(|(name, count)| format!("{name} {count}"));
                let all = all.collect::<Vec<String>>().join(", ");
                let by = if all.is_empty() {
                    "nobody".to_owned()
                } else {
                    all
                };
                rows.push(vec![
                    label.clone(),
                    name.into(),
                    service.affinity.into(),
                    address.clone(),
                    by,
                ]);
                entries.push(json!({
                    "from": label, "service": name, "affinity": service.affinity, "family": family,
                    "address": address, "servedBy": served,
                }));
            }
        }
    }
    demo.seen.insert("services".into(), entries.into());
    println!("\nThrough which backend ({REQUESTS} requests each)");
    print_table(&["from", "service", "affinity", "at", "served by"], &rows);
    Ok(())
}
