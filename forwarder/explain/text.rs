//! An answer for people: one step a line, for a terminal of 80 columns.
//!
//! ```text
//! DENY   shop/guest to shop/orders, 80/TCP
//!        ingressDenied: no policy allows the destination to receive this
//!
//!   from     shop/guest (10.1.0.13), identity 65912: app=guest; namespace shop
//!   service  shop/orders (10.101.0.10:80), to one of 10.1.0.11:8080,
//!            10.1.0.12:8080
//!   to       shop/orders-0 (10.1.0.11:8080), identity 98021: app=orders;
//!            namespace shop
//!   egress   allow: shop/guest is not isolated, and no rule denies it
//!   ingress  deny: shop/orders-0 is isolated, and no rule allows it
//!         -> isolates  NetworkPolicy shop/orders ingress (eu/policies.yaml:3)
//!   route    a pod of this node
//! ```

use datapath::Reason;
use policy::{Identity, key};

use super::answer::{Answer, End, Party};
use super::explainer::{SHOWN, sentence};

/// Columns of a terminal.
const WIDTH: usize = 80;
/// The label of a namespace's name, which stands elsewhere already.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

impl Answer {
    /// For people: one step a line.
    pub fn render(&self) -> String {
        let mut sheet = Sheet::default();
        let asked = self.service.as_ref().unwrap_or(&self.to.name);
        let port = match self.protocol.as_str() {
            "ICMP" => String::from("ICMP"),
            protocol => format!("{}/{protocol}", self.port),
        };
        let verdict = format!("{:<7}", self.verdict.to_uppercase());
        sheet.paragraph(&verdict, &format!("{} to {asked}, {port}", self.from.name));
        if let Some(reason) = &self.reason {
            let known = Reason::ALL.iter().find(|known| known.name() == reason);
            let why = known.map_or_else(String::new, |known| sentence(known.text()));
            sheet.paragraph("       ", &format!("{reason}: {why}"));
        }
        if let Some(note) = &self.note {
            sheet.paragraph("       ", &format!("note: {note}"));
        }
        sheet.text.push('\n');
        sheet.step("from", &party(&self.from, &self.from.address));
        if let Some(service) = &self.service {
            let frontend = self.frontend.as_deref().unwrap_or_default();
            let words = format!("{service} ({frontend}){}", self.choice());
            sheet.step("service", &words);
        }
        let to = self.backend.as_ref().unwrap_or(&self.to.address);
        sheet.step("to", &party(&self.to, to));
        sheet.end("egress", &self.ends.egress);
        sheet.end("ingress", &self.ends.ingress);
        sheet.step("route", &self.way());
        sheet.text
    }

    fn choice(&self) -> String {
        match self.backends.len() {
            0 => String::new(),
            count => {
                let shown = self.backends.iter().take(SHOWN).cloned();
                let shown: Vec<String> = shown.collect();
                let rest = match count.saturating_sub(SHOWN) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(", to one of {}{rest}{}", shown.join(", "), self.manner())
            }
        }
    }

    /// What the choice goes by, where it is not by each flow among all backends alike.
    fn manner(&self) -> String {
        let mut words = String::new();
        if self.internal_traffic_policy.as_deref() == Some("local") {
            words += ", no other node's than the client's own";
        }
        if let Some(seconds) = self.session_affinity_seconds {
            words +=
                "; all flows of a client go to the same one, and a client that came in the last ";
            words += &format!("{seconds} s stays where it was");
        }
        words
    }

    fn way(&self) -> String {
        if self.from.address == self.to.address {
            return String::from(match self.backend {
                Some(_) => "back to itself, which sees the service's address at the other end",
                None => "none, for it does not leave its sender",
            });
        }
        match (self.route.as_str(), &self.peer) {
            ("pod", _) => String::from("a pod of this node"),
            ("host", _) => String::from("this node itself"),
            ("node", Some(peer)) => format!("through the tunnel to node {peer}"),
            ("world", _) => String::from("out of the mesh, by the host's own routing"),
            _ => String::from("nowhere: no node is known to have it"),
        }
    }
}

/// Who it is, with what policies know of it.
fn party(party: &Party, address: &str) -> String {
    let who = format!("{} ({address})", party.name);
    let Some(number) = party.identity else {
        return format!("{who}, without identity");
    };
    match Identity(number).reserved_name() {
        Some(reserved) if reserved == party.name => who,
        Some(reserved) => format!("{who}, identity {reserved}"),
        None if party.labels.is_empty() => format!("{who}, identity {number}"),
        None => format!("{who}, identity {number}: {}", facts(&party.labels)),
    }
}

/// Labels in few words: the pod's own, then its account, namespace and cluster.
fn facts(labels: &[String]) -> String {
    let (mut own, mut of_namespace) = (Vec::new(), Vec::new());
    let (mut account, mut namespace, mut cluster) = (None, "", None);
    for label in labels {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        match name {
            key::NAMESPACE => namespace = value,
            key::SERVICE_ACCOUNT => account = Some(value),
            key::CLUSTER => cluster = Some(value),
            _ => match label.strip_prefix(key::NAMESPACE_LABEL_PREFIX) {
                Some(label) if label.starts_with(NAMESPACE_NAME) => {}
                Some(label) => of_namespace.push(label),
                None => own.push(label.as_str()),
            },
        }
    }
    let mut facts = Vec::new();
    if !own.is_empty() {
        facts.push(own.join(", "));
    }
    facts.extend(account.map(|account| format!("service account {account}")));
    facts.push(match of_namespace.is_empty() {
        true => format!("namespace {namespace}"),
        false => format!("namespace {namespace} with {}", of_namespace.join(", ")),
    });
    facts.extend(cluster.map(|cluster| format!("cluster {cluster}")));
    facts.join("; ")
}

#[derive(Default)]
struct Sheet {
    text: String,
}

impl Sheet {
    fn step(&mut self, name: &str, words: &str) {
        self.paragraph(&format!("  {name:<9}"), words);
    }

    fn end(&mut self, name: &str, end: &End) {
        let words = match end.verdict.as_str() {
            // Of an older node.
            "" => return,
            "notReached" => end.why.clone(),
            verdict => format!("{verdict}: {}", end.why),
        };
        self.step(name, &words);
        for matched in &end.rules {
            let mark = if matched.decides { "->" } else { "" };
            let head = format!("{mark:>10} {:<9} ", matched.verdict);
            self.paragraph(&head, &matched.rule);
        }
    }

    /// Words behind `head`, and below each other where they need more than one line.
    fn paragraph(&mut self, head: &str, words: &str) {
        self.text.push_str(head);
        let mut column = head.len();
        for (number, word) in words.split(' ').enumerate() {
            let length = word.chars().count();
            if number > 0 && column + 1 + length > WIDTH {
                self.text.push('\n');
                self.text.extend(std::iter::repeat_n(' ', head.len()));
                column = head.len();
            } else if number > 0 {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += length;
        }
        self.text.push('\n');
    }
}
