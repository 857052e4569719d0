//! The text of the table `inet farlane`: pure, so that it can be read in a test.
//!
//! A packet meets `arrive` (before connection tracking: whose is it, who tracks it), `settle`
//! (behind the host's DNAT: which worker is it for), and `leave` (behind everything: nothing for
//! other clusters leaves in the clear); the host's own packets meet `own` and `leave`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use packet::{Address, Prefix};

use super::marks::{MARK_MASK, WIRE_MARK, worker_mark};
use super::{HostPlan, Intercept, OnCrash};

/// Where a local pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) worker: usize,
    /// Its own interface on the host, when the host has a route to it.
    pub(super) interface: Option<String>,
    /// Whether nothing but this pod is behind that interface.
    pub(super) alone: bool,
}

/// All that the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) tuns: Vec<String>,
    pub(super) intercept: Intercept,
    pub(super) on_crash: OnCrash,
    pub(super) pods: BTreeMap<Address, Place>,
    pub(super) remote: Vec<Prefix>,
    pub(super) global: BTreeSet<Address>,
    /// The wire's sockets, each with an address of its own.
    pub(super) wire: BTreeSet<(Address, u16)>,
}

/// Elements as nft writes them: set → key → a map's value, or nothing.
#[derive(Default)]
struct Elements(BTreeMap<&'static str, BTreeMap<String, String>>);

/// The sets whose elements are intervals: nft merges and splits these, so they are written anew.
const INTERVALS: [&str; 2] = ["remote4", "remote6"];

impl Ruleset {
    /// The table for a plan whose pods are at `pods`.
    pub(super) fn new(plan: &HostPlan, pods: BTreeMap<Address, Place>) -> Ruleset {
        debug_assert!(pods.values().all(|place| place.worker < plan.tuns.len()));
        Ruleset {
            tuns: plan.tuns.clone(),
            intercept: plan.intercept,
            on_crash: plan.on_crash,
            pods,
            remote: plan.remote_prefixes.clone(),
            global: plan.global_frontends.iter().copied().collect(),
            wire: super::sockets(plan),
        }
    }

    /// The script that brings the host from `before` (`None`: unknown, or nothing) to `self` in one
    /// transaction; empty when nothing is to do.
    pub(super) fn script(&self, before: Option<&Ruleset>) -> String {
        let elements = self.elements();
        let frame = self.frame();
        match before {
            Some(before) if before.frame() == frame => difference(&before.elements(), &elements),
            _ => {
                // `add` first: deleting a table that is not there is an error.
                let mut text =
                    format!("add table inet farlane\ndelete table inet farlane\n{frame}");
                text += &difference(&Elements::default(), &elements);
                text
            }
        }
    }

    /// Every element of every set and map.
    fn elements(&self) -> Elements {
        let mut all = Elements::default();
        let mut put = |set: &'static str, key: String, value: String| {
            all.0.entry(set).or_default().insert(key, value);
        };
        for tun in &self.tuns {
            put("tuns", format!("\"{tun}\""), String::new());
        }
        for (address, place) in &self.pods {
            let of = |four, six| if address.is_v4() { four } else { six };
            let worker = place.worker;
            put(of("pods4", "pods6"), address.to_string(), String::new());
            put(
                of("to4", "to6"),
                address.to_string(),
                format!("goto mark{worker}"),
            );
            let Some(interface) = &place.interface else {
                continue;
            };
            let key = format!("\"{interface}\" . {address}");
            put(of("from4", "from6"), key, format!("goto from{worker}"));
            if place.alone {
                put("links", format!("\"{interface}\""), String::new());
            }
        }
        for prefix in outermost(&self.remote) {
            let set = if prefix.is_v4() { "remote4" } else { "remote6" };
            put(set, prefix.to_string(), String::new());
        }
        for address in &self.global {
            let set = if address.is_v4() {
                "global4"
            } else {
                "global6"
            };
            put(set, address.to_string(), String::new());
        }
        for (address, port) in &self.wire {
            let set = if address.is_v4() { "wire4" } else { "wire6" };
            put(set, format!("{address} . {port}"), String::new());
        }
        all
    }

    /// The table without its elements; it changes only when the node starts with other settings.
    fn frame(&self) -> String {
        let mut text = String::from("table inet farlane {\n");
        text += SETS;
        for (worker, tun) in self.tuns.iter().enumerate() {
            text += &self.worker_chains(worker, tun);
        }
        text += &self.arrive();
        text += &self.settle();
        text += &self.own();
        if self.on_crash == OnCrash::Closed {
            text += &leave();
        }
        text + "}\n"
    }

    fn worker_chains(&self, worker: usize, tun: &str) -> String {
        let set = format!("and {:#x} or {:#x}", !MARK_MASK, worker_mark(worker));
        // Open: when the device is gone, the host must track its pods' flows as if we never were.
        let untrack = match self.on_crash {
            OnCrash::Closed => String::from("notrack"),
            OnCrash::Open => format!("fib daddr . mark oifname \"{tun}\" notrack"),
        };
        let wanted = match self.intercept {
            // What stays on the link or ends on this host is between the host and its pods.
            Intercept::All => format!(
                "    fib daddr type {{ local, broadcast, anycast, multicast }} return\n    \
                 ip6 daddr fe80::/10 return\n    goto take{worker}\n"
            ),
            Intercept::Mesh => [
                "ip daddr @remote4",
                "ip6 daddr @remote6",
                "ip daddr @global4",
                "ip6 daddr @global6",
            ]
            .map(|wanted| format!("    {wanted} goto take{worker}\n"))
            .concat(),
        };
        format!(
            "  chain mark{worker} {{\n    meta mark set meta mark {set}\n  }}\n  \
             chain keep{worker} {{\n    ct mark set ct mark {set}\n  }}\n  \
             chain take{worker} {{\n    meta mark set meta mark {set}\n    {untrack}\n  }}\n  \
             chain from{worker} {{\n{wanted}  }}\n"
        )
    }

    /// Before connection tracking (-200), so that each flow is tracked once, by whoever sees it as
    /// it is on the far side: what a pod sends is not tracked on its way to us, and what we write
    /// for a pod is not tracked again. The wire's datagrams pass first: each that was not received in
    /// a train comes here by itself, and all sets together cost it 1 µs. Of pods not even these may have
    /// another's source.
    fn arrive(&self) -> String {
        let written = match self.intercept {
            Intercept::All => "    ip daddr @pods4 notrack\n    ip6 daddr @pods6 notrack\n",
            // Flows to a local backend are tracked: their replies are known by the connection.
            Intercept::Mesh => {
                "    ip daddr @pods4 ip saddr @remote4 notrack\n    \
                     ip daddr @pods4 ip saddr @global4 notrack\n    \
                     ip6 daddr @pods6 ip6 saddr @remote6 notrack\n    \
                     ip6 daddr @pods6 ip6 saddr @global6 notrack\n"
            }
        };
        let foreign = match self.intercept {
            // A pod sends only from its own addresses (BCP 38); neighbour discovery may.
            Intercept::All => {
                "    iifname @links ip saddr != 0.0.0.0 counter name foreign drop\n    \
                     iifname @links ip6 saddr != { ::, fe80::/10 } counter name foreign drop\n"
            }
            Intercept::Mesh => {
                "    iifname @links ip daddr @remote4 counter name foreign drop\n    \
                     iifname @links ip daddr @global4 counter name foreign drop\n    \
                     iifname @links ip6 daddr @remote6 counter name foreign drop\n    \
                     iifname @links ip6 daddr @global6 counter name foreign drop\n"
            }
        };
        format!(
            "  chain written {{\n{written}  }}\n  \
             chain arrive {{\n    type filter hook prerouting priority -310; policy accept;\n    \
             ip daddr . udp dport @wire4 iifname != @links accept\n    \
             ip6 daddr . udp dport @wire6 iifname != @links accept\n    \
             iifname @tuns goto written\n    \
             iifname \"lo\" accept\n    \
             iifname . ip saddr vmap @from4\n    \
             iifname . ip6 saddr vmap @from6\n    \
             ip saddr @pods4 counter name spoofed drop\n    \
             ip6 saddr @pods6 counter name spoofed drop\n\
             {foreign}    \
             ip saddr @remote4 fib daddr type unicast counter name clear drop\n    \
             ip6 saddr @remote6 fib daddr type unicast counter name clear drop\n  }}\n"
        )
    }

    /// Behind the host's DNAT and its undoing of masquerading (-100), where addresses are true.
    fn settle(&self) -> String {
        let keepers = self.per_worker(|worker, tun| format!("\"{tun}\" : goto keep{worker}"));
        let marked = self.per_worker(|worker, _| format!("{:#x} : accept", worker_mark(worker)));
        let towards = match self.intercept {
            Intercept::All => String::from("    ip daddr vmap @to4\n    ip6 daddr vmap @to6\n"),
            Intercept::Mesh => self.replies(),
        };
        format!(
            "  chain remember {{\n    \
             ip saddr @remote4 accept\n    \
             ip6 saddr @remote6 accept\n    \
             fib daddr type local iifname vmap {{ {keepers} }}\n    \
             ip daddr @pods4 iifname vmap {{ {keepers} }}\n    \
             ip6 daddr @pods6 iifname vmap {{ {keepers} }}\n  }}\n  \
             chain settle {{\n    type filter hook prerouting priority -90; policy accept;\n    \
             ip daddr . udp dport @wire4 accept\n    \
             ip6 daddr . udp dport @wire6 accept\n    \
             iifname @tuns goto remember\n    \
             meta mark and {MARK_MASK:#x} vmap {{ {marked} }}\n\
             {towards}  }}\n"
        )
    }

    /// What the host itself sends: its replies to a service's flow (a backend with the host's
    /// address) go back the way the flow came; nobody else may use our marks.
    fn own(&self) -> String {
        let strays =
            self.per_worker(|worker, _| format!("{:#x} : goto unmark", worker_mark(worker)));
        format!(
            "  chain unmark {{\n    meta mark set meta mark and {:#x}\n  }}\n  \
             chain own {{\n    type route hook output priority -149; policy accept;\n\
             {}    meta mark and {MARK_MASK:#x} vmap {{ {strays} }}\n  }}\n",
            !MARK_MASK,
            self.replies()
        )
    }

    /// Replies of flows that we wrote go to the worker that wrote them.
    fn replies(&self) -> String {
        let kept =
            self.per_worker(|worker, _| format!("{:#x} : goto mark{worker}", worker_mark(worker)));
        format!("    ct direction reply ct mark and {MARK_MASK:#x} vmap {{ {kept} }}\n")
    }

    fn per_worker(&self, line: impl Fn(usize, &str) -> String) -> String {
        let lines: Vec<String> = self
            .tuns
            .iter()
            .enumerate()
            .map(|(worker, tun)| line(worker, tun))
            .collect();
        lines.join(", ")
    }
}

const SETS: &str = "  counter spoofed {\n  }\n  counter foreign {\n  }\n  counter clear {\n  }\n  \
     set tuns { type ifname; }\n  \
     set links { type ifname; }\n  \
     set pods4 { type ipv4_addr; }\n  set pods6 { type ipv6_addr; }\n  \
     set remote4 { type ipv4_addr; flags interval; }\n  \
     set remote6 { type ipv6_addr; flags interval; }\n  \
     set global4 { type ipv4_addr; }\n  set global6 { type ipv6_addr; }\n  \
     set wire4 { type ipv4_addr . inet_service; }\n  \
     set wire6 { type ipv6_addr . inet_service; }\n  \
     map from4 { type ifname . ipv4_addr : verdict; }\n  \
     map from6 { type ifname . ipv6_addr : verdict; }\n  \
     map to4 { type ipv4_addr : verdict; }\n  map to6 { type ipv6_addr : verdict; }\n";

/// Routing sends other clusters' packets to a device of ours or nowhere, but a socket bound to a
/// device asks IPv6 for that device's routes alone, and the host's own rules may stand first.
/// Neighbours that are nodes of other clusters still need to be found.
fn leave() -> String {
    format!(
        "  chain leave {{\n    type filter hook postrouting priority 300; policy accept;\n    \
         meta mark and {MARK_MASK:#x} == {WIRE_MARK:#x} accept\n    \
         oifname @tuns accept\n    \
         oifname \"lo\" accept\n    \
         icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n    \
         ip daddr @remote4 counter name clear drop\n    \
         ip6 daddr @remote6 counter name clear drop\n  }}\n"
    )
}

/// Prefixes that no other one holds: nft refuses intervals that overlap.
fn outermost(prefixes: &[Prefix]) -> Vec<Prefix> {
    let mut sorted = prefixes.to_vec();
    sorted.sort_by_key(|prefix| prefix.length());
    let mut kept: Vec<Prefix> = Vec::new();
    for prefix in sorted {
        if !kept.iter().any(|outer| outer.overlaps(&prefix)) {
            kept.push(prefix);
        }
    }
    kept
}

fn difference(before: &Elements, after: &Elements) -> String {
    let (before, after) = (&before.0, &after.0);
    let none = BTreeMap::new();
    let names: BTreeSet<&'static str> = before.keys().chain(after.keys()).copied().collect();
    let mut gone = String::new();
    let mut new = String::new();
    for name in names {
        let before = before.get(name).unwrap_or(&none);
        let after = after.get(name).unwrap_or(&none);
        if before == after {
            continue;
        }
        if INTERVALS.contains(&name) {
            let _ = writeln!(gone, "flush set inet farlane {name}");
            command(&mut new, "add", name, after.iter(), true);
            continue;
        }
        let changed = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
            a.iter()
                .filter(|(key, value)| b.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        command(
            &mut gone,
            "delete",
            name,
            changed(before, after).iter().map(|(k, v)| (k, v)),
            false,
        );
        command(
            &mut new,
            "add",
            name,
            changed(after, before).iter().map(|(k, v)| (k, v)),
            true,
        );
    }
    gone + &new
}

fn command<'a>(
    text: &mut String,
    verb: &str,
    set: &str,
    elements: impl Iterator<Item = (&'a String, &'a String)>,
    with_values: bool,
) {
    let elements: Vec<String> = elements
        .map(|(key, value)| match value.as_str() {
            value if with_values && !value.is_empty() => format!("{key} : {value}"),
            _ => key.clone(),
        })
        .collect();
    if !elements.is_empty() {
        let _ = writeln!(
            text,
            "{verb} element inet farlane {set} {{ {} }}",
            elements.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Address {
        Address::from(text.parse::<std::net::IpAddr>().unwrap())
    }

    fn ruleset(intercept: Intercept) -> Ruleset {
        let place = |worker, interface: &str| Place {
            worker,
            interface: Some(interface.to_owned()),
            alone: true,
        };
        let pods = [
            (ip("10.1.0.2"), place(0, "pod-a")),
            (ip("fd10:1::2"), place(1, "pod-b")),
        ];
        Ruleset {
            tuns: vec!["farlane0".to_owned(), "farlane1".to_owned()],
            intercept,
            on_crash: OnCrash::Closed,
            pods: pods.into_iter().collect(),
            remote: vec!["10.2.0.0/16".parse().unwrap()],
            global: BTreeSet::from([ip("10.101.0.80")]),
            wire: BTreeSet::from([(ip("192.0.2.1"), 51_871), (ip("2001:db8::1"), 51_871)]),
        }
    }

    #[test]
    fn the_first_script_writes_the_whole_table_anew_in_one_transaction() {
        let script = ruleset(Intercept::All).script(None);
        let start = "add table inet farlane\ndelete table inet farlane\ntable inet farlane {\n";
        assert!(script.starts_with(start), "{script}");
        for line in [
            "add element inet farlane from4 { \"pod-a\" . 10.1.0.2 : goto from0 }\n",
            "add element inet farlane from6 { \"pod-b\" . fd10:1::2 : goto from1 }\n",
            "add element inet farlane to6 { fd10:1::2 : goto mark1 }\n",
            "add element inet farlane remote4 { 10.2.0.0/16 }\n",
            "add element inet farlane wire4 { 192.0.2.1 . 51871 }\n",
            "add element inet farlane wire6 { 2001:db8::1 . 51871 }\n",
            "add element inet farlane tuns { \"farlane0\", \"farlane1\" }\n",
            "    meta mark set meta mark and 0xffffef80 or 0x1002\n    notrack\n",
        ] {
            assert!(script.contains(line), "{line} is not in\n{script}");
        }
    }

    #[test]
    fn what_did_not_change_is_not_said_again() {
        let before = ruleset(Intercept::Mesh);
        assert_eq!(before.script(Some(&before)), "");
        let mut after = before.clone();
        after.pods.get_mut(&ip("10.1.0.2")).unwrap().worker = 1;
        assert_eq!(
            after.script(Some(&before)),
            "delete element inet farlane from4 { \"pod-a\" . 10.1.0.2 }\n\
             delete element inet farlane to4 { 10.1.0.2 }\n\
             add element inet farlane from4 { \"pod-a\" . 10.1.0.2 : goto from1 }\n\
             add element inet farlane to4 { 10.1.0.2 : goto mark1 }\n"
        );
        after = before.clone();
        after.remote.clear();
        after.pods.remove(&ip("fd10:1::2"));
        assert_eq!(
            after.script(Some(&before)),
            "delete element inet farlane from6 { \"pod-b\" . fd10:1::2 }\n\
             delete element inet farlane links { \"pod-b\" }\n\
             delete element inet farlane pods6 { fd10:1::2 }\n\
             flush set inet farlane remote4\n\
             delete element inet farlane to6 { fd10:1::2 }\n"
        );
    }

    #[test]
    fn other_settings_write_the_whole_table_anew() {
        let all = ruleset(Intercept::All);
        let mesh = ruleset(Intercept::Mesh);
        assert_eq!(mesh.script(Some(&all)), mesh.script(None));
        let open = Ruleset {
            on_crash: OnCrash::Open,
            ..all.clone()
        };
        assert_eq!(open.script(Some(&all)), open.script(None));
        assert!(open.script(None).contains("oifname \"farlane0\" notrack"));
        assert!(!open.script(None).contains("chain leave"));
    }

    #[test]
    fn a_prefix_inside_another_is_left_out() {
        let text = ["10.2.3.0/24", "10.2.0.0/16", "192.0.2.2/32", "10.2.0.0/16"];
        let prefixes = text.map(|prefix| prefix.parse().unwrap());
        let kept: Vec<String> = outermost(&prefixes).iter().map(Prefix::to_string).collect();
        assert_eq!(kept, ["10.2.0.0/16", "192.0.2.2/32"]);
    }
}
