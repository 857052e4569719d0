//! What of the host's own settings would keep Farlane from working. They are read, never changed.

use std::fs;
use std::process::Command;

use packet::Address;
use rtnetlink::Handle;

use super::links::{self, sysctl};
use super::{HostError, HostPlan, nft, pods};

/// Why this host passes no packets on, if so.
pub(super) fn forwarding(plan: &HostPlan) -> Result<(), HostError> {
    let speaks = |v4: bool| {
        plan.local_pods.iter().any(|(pod, _)| pod.is_v4() == v4)
            || plan
                .remote_prefixes
                .iter()
                .any(|prefix| prefix.is_v4() == v4)
    };
    for (v4, key) in [
        (true, "ipv4/ip_forward"),
        (false, "ipv6/conf/all/forwarding"),
    ] {
        if speaks(v4) && sysctl(key) == Some(0) {
            return Err(HostError::Forwarding(key.replace('/', ".")));
        }
    }
    Ok(())
}

/// IPVS binds service addresses to the host, where the kernel finds them before any rule of ours.
pub(super) fn bound_services(plan: &HostPlan, host: &[Address]) -> Result<(), HostError> {
    let mut frontends = plan.global_frontends.iter().chain(&plan.service_frontends);
    match frontends.find(|frontend| host.contains(frontend)) {
        Some(bound) => Err(HostError::BoundService(*bound)),
        None => Ok(()),
    }
}

/// Whether a device that may be the wire's checks the way back strictly.
pub(super) fn strict_reverse_path(plan: &HostPlan) -> bool {
    let Ok(entries) = fs::read_dir("/proc/sys/net/ipv4/conf") else {
        return false;
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let not_the_wire = |name: &String| {
        plan.tuns.contains(name) || ["all", "default", "lo"].contains(&name.as_str())
    };
    names
        .filter(|name| !not_the_wire(name))
        .any(|name| is_strict(&name))
}

fn is_strict(device: &str) -> bool {
    let value = |name| sysctl(&format!("ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    value("all").max(value(device)) == 1
}

/// Where the way back is checked strictly, a node of another cluster on the same link gets no
/// answer to its ARP requests: the way to it is through us, and ARP has no ports to tell it by.
pub(super) async fn neighbours(handle: &Handle, plan: &HostPlan) -> Result<Vec<String>, HostError> {
    let nodes = plan
        .remote_prefixes
        .iter()
        .filter(|prefix| prefix.is_v4() && prefix.length() == 32);
    let mut found = Vec::new();
    for node in nodes.map(|prefix| prefix.address()) {
        let device = pods::on_link(handle, node).await?;
        found.extend(device.filter(|device| is_strict(device)).map(|device| format!(
            "{node}, of another cluster, is on the link of {device} and gets no answer to its ARP requests there, because rp_filter is strict: set net.ipv4.conf.{device}.rp_filter to 2"
        )));
    }
    Ok(found)
}

/// A firewall that drops what it does not know would drop what we write: a sentence for each chain
/// whose policy is to drop and that does not name our devices.
pub(super) fn firewalls(plan: &HostPlan) -> Vec<String> {
    let Some(tun) = plan.tuns.first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let list = nft::call(&["-j", "list", "chains"], "").unwrap_or_default();
    for (family, table, chain) in dropping_chains(&list) {
        let text = nft::call(&["list", "chain", &family, &table, &chain], "").unwrap_or_default();
        if text.contains(&common_start(&plan.tuns)) {
            continue;
        }
        let hint = if chain == "FORWARD" && family != "inet" {
            let program = if family == "ip6" {
                "ip6tables"
            } else {
                "iptables"
            };
            iptables_hint(program, tun)
        } else {
            format!(
                "nft insert rule {family} {table} {chain} iifname \"{tun}\" accept; nft insert rule {family} {table} {chain} oifname \"{tun}\" accept"
            )
        };
        found.push(sentence(&format!("{family} {table}"), &chain, tun, &hint));
    }
    for (program, names) in [
        ("iptables", "ip_tables_names"),
        ("ip6tables", "ip6_tables_names"),
    ] {
        let legacy = fs::read_to_string(format!("/proc/thread-self/net/{names}"));
        if !legacy.is_ok_and(|tables| tables.lines().any(|table| table == "filter")) {
            continue;
        }
        let Ok(output) = Command::new(format!("{program}-legacy"))
            .args(["-S", "FORWARD"])
            .output()
        else {
            continue;
        };
        let rules = String::from_utf8_lossy(&output.stdout);
        if rules.contains("-P FORWARD DROP") && !rules.contains(&common_start(&plan.tuns)) {
            found.push(sentence(
                "filter",
                "FORWARD",
                tun,
                &iptables_hint(&format!("{program}-legacy"), tun),
            ));
        }
    }
    found
}

fn sentence(table: &str, chain: &str, tun: &str, hint: &str) -> String {
    format!(
        "the chain {chain} of table {table} drops what it does not know and has no rule for {tun}: if pods lose traffic, let ours through ({hint})"
    )
}

fn iptables_hint(program: &str, tun: &str) -> String {
    let all = format!("{}+", tun.trim_end_matches(|c: char| c.is_ascii_digit()));
    format!("{program} -I FORWARD -i {all} -j ACCEPT; {program} -I FORWARD -o {all} -j ACCEPT")
}

/// `farlane` of `farlane0`: rules may name the devices one by one or by a wildcard.
fn common_start(tuns: &[String]) -> String {
    let first = tuns.first().map_or("", String::as_str);
    first
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .to_owned()
}

fn dropping_chains(json: &str) -> Vec<(String, String, String)> {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(json) else {
        return Vec::new();
    };
    let chains = document["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|object| &object["chain"]);
    chains
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter_map(|chain| {
            let text = |key: &str| chain[key].as_str().map(str::to_owned);
            Some((text("family")?, text("table")?, text("name")?))
        })
        .filter(|(family, _, _)| ["ip", "ip6", "inet"].contains(&family.as_str()))
        .collect()
}

/// Whether to build the IPv6 half at all.
pub(super) fn families() -> Vec<bool> {
    if links::has_v6() {
        vec![true, false]
    } else {
        vec![true]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_chain_that_drops_is_found_and_others_are_not() {
        let json = r#"{"nftables": [
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "bridge", "table": "b", "name": "f", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "t", "name": "f", "hook": "forward", "policy": "accept"}},
            {"chain": {"family": "inet", "table": "t", "name": "side"}}]}"#;
        let found = dropping_chains(json);
        assert_eq!(
            found,
            [("ip".to_owned(), "filter".to_owned(), "FORWARD".to_owned())]
        );
    }
}
