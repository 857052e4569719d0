//! `farlane flows`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use serde::Deserialize;

use super::{Failure, Socket, ask};
use crate::flows::{Ended, FlowRecord, Party, Way};

/// Show what happened to flows: which began, were denied, or ended, and why
///
/// The node remembers its last 4,096 records. A flow is told of where it leaves its source (egress)
/// and where it reaches its destination (ingress), by the nodes of those. What one address is denied
/// at one port of another is told once in 10 s; of a flow that a change has cut only that. What
/// belongs to no flow, such as a forged source or an answer that nobody asked for, is counted by
/// `farlane status` alone, and flows that live when the node ends are not told to end. For more than
/// the last records, `flows.log` in the node's file names a log.
#[derive(Debug, clap::Args)]
pub(super) struct Flows {
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// At most so many of those that are remembered
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Only from: namespace, namespace/pod, cluster/namespace/pod, world, or an address
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
    /// Only to: the same, or svc:namespace/name
    #[arg(long, value_name = "WHO")]
    to: Option<String>,
    /// Only those that may be, may not, or may only because policies are in audit mode
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "deny", "audit"])]
    verdict: Option<String>,
    /// Only what happened like this
    #[arg(long, value_name = "EVENT", value_parser = ["start", "deny", "end"])]
    event: Option<String>,
    /// Only this protocol, such as TCP
    #[arg(long, value_name = "PROTO")]
    protocol: Option<String>,
    /// Only this destination port, of the service or of its backend
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Print one JSON document; with --follow one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// A line of the node's answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Box<FlowRecord>),
    Missed { missed: u64 },
}

impl Flows {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match self.print(&mut std::io::stdout().lock()) {
            // Who reads has seen enough, such as `head`.
            Err(failure) if is_broken_pipe(&failure) => Ok(ExitCode::SUCCESS),
            other => other.map(|()| ExitCode::SUCCESS),
        }
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Failure> {
        let path = if self.follow {
            "/flows?follow=true"
        } else {
            "/flows"
        };
        let mut lines = ask::lines(&self.socket.socket, path, self.follow)?;
        // What is remembered ends with an empty line, or with the answer.
        let mut remembered = VecDeque::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let record: FlowRecord = serde_json::from_str(&line)?;
            if self.matches(&record) {
                remembered.push_back(record);
            }
            if remembered.len() > self.last.unwrap_or(usize::MAX) {
                remembered.pop_front();
            }
        }
        self.print_remembered(&remembered, out)?;
        for line in lines {
            let line = line?;
            match serde_json::from_str(&line)? {
                Line::Record(record) if !self.matches(&record) => continue,
                Line::Record(_) | Line::Missed { .. } if self.json => writeln!(out, "{line}")?,
                Line::Record(record) => out.write_all(render(&record).as_bytes())?,
                Line::Missed { missed } => {
                    writeln!(out, "{:12} {missed} records came too fast to be shown", "")?;
                }
            }
            out.flush()?;
        }
        match self.follow {
            // Nothing else ends that.
            true => Err("the node has ended".into()),
            false => Ok(()),
        }
    }

    fn print_remembered(
        &self,
        records: &VecDeque<FlowRecord>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        if self.json && !self.follow {
            writeln!(out, "{}", serde_json::to_string_pretty(records)?)?;
            return Ok(());
        }
        for record in records {
            match self.json {
                true => writeln!(out, "{}", serde_json::to_string(record)?)?,
                false => out.write_all(render(record).as_bytes())?,
            }
        }
        if records.is_empty() && !self.follow {
            eprintln!("no record of a flow like that is remembered; --follow waits for what comes");
        }
        Ok(out.flush()?)
    }

    fn matches(&self, record: &FlowRecord) -> bool {
        let same = |wanted: &Option<String>, is: &str| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(is))
        };
        let to = |who: &str| match who.strip_prefix("svc:") {
            Some(name) => record.service.as_ref().is_some_and(|s| s.name == name),
            None => is_party(who, &record.to),
        };
        let port = |port| {
            record.to.port == Some(port) || record.service.as_ref().is_some_and(|s| s.port == port)
        };
        self.from
            .as_deref()
            .is_none_or(|who| is_party(who, &record.from))
            && self.to.as_deref().is_none_or(to)
            && same(&self.verdict, &record.verdict)
            && same(&self.event, &record.event)
            && same(&self.protocol, &record.protocol)
            && self.port.is_none_or(port)
    }
}

fn is_broken_pipe(failure: &Failure) -> bool {
    let error = failure.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn is_party(who: &str, party: &Party) -> bool {
    let in_cluster = party.cluster.as_ref().and_then(|cluster| {
        let rest = who.strip_prefix(cluster.as_str())?;
        rest.strip_prefix('/')
    });
    let in_namespace = party.name.split_once('/').map(|(namespace, _)| namespace);
    who == party.name
        || in_cluster == Some(&party.name)
        || in_namespace == Some(who)
        || who.parse() == party.address.parse::<std::net::IpAddr>()
}

/// One record for people: a line, and where there is more to say a second one under it.
fn render(record: &FlowRecord) -> String {
    // The day is the reader's; --json has it.
    let time = record.time.get(11..23).unwrap_or(&record.time);
    let foreign = record.from.cluster.is_some()
        && record.to.cluster.is_some()
        && record.from.cluster != record.to.cluster;
    let mut text = format!(
        "{time} {:<5} {:<5} {:<7} {} {} > {}\n",
        record.event,
        record.verdict,
        record.direction,
        record.protocol,
        party(&record.from, foreign),
        party(&record.to, foreign)
    );
    let mut more = Vec::new();
    more.extend(record.icmp_type.map(|number| format!("type {number}")));
    let service = record.service.as_ref();
    more.extend(service.map(|service| format!("for service {}:{}", service.name, service.port)));
    more.extend(record.reason.clone());
    more.extend(record.rule.clone());
    more.extend(record.end.as_ref().map(ended));
    if !more.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:12} {}", "", more.join("; "));
    }
    text
}

fn party(party: &Party, with_cluster: bool) -> String {
    let named = party.name.contains('/');
    let who = match (&party.cluster, named) {
        (Some(cluster), true) if with_cluster => format!("{cluster}/{}", party.name),
        (_, true) => party.name.clone(),
        (_, false) => match (party.address.contains(':'), party.port) {
            (true, Some(_)) => format!("[{}]", party.address),
            _ => party.address.clone(),
        },
    };
    let who = match party.port {
        Some(port) => format!("{who}:{port}"),
        None => who,
    };
    match named {
        true => who,
        false => format!("{who} ({})", party.name),
    }
}

fn ended(end: &Ended) -> String {
    let way = |way: &Way| format!("{} packets ({})", way.packets, bytes(way.bytes));
    format!(
        "{} after {}, {} sent, {} answered",
        end.why,
        duration(end.duration_ms),
        way(&end.forward),
        way(&end.reply)
    )
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min", ms / 60_000),
    }
}

fn bytes(bytes: u64) -> String {
    let scaled = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", scaled(1_000)),
        10_000_000..10_000_000_000 => format!("{:.1} MB", scaled(1_000_000)),
        _ => format!("{:.1} GB", scaled(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> FlowRecord {
        let text = r#"{"time":"2026-11-29T02:03:04.567Z","node":"eu-1","event":"deny","verdict":"deny",
            "direction":"ingress","protocol":"TCP",
            "from":{"name":"shop/guest","cluster":"us","address":"10.2.1.7","port":40000,"identity":131073},
            "to":{"name":"shop/orders-0","cluster":"eu","address":"10.1.1.3","port":8080,"identity":65537},
            "reason":"ingressDenied","rule":"NetworkPolicy shop/orders ingress (policies.yaml:3)"}"#;
        serde_json::from_str(text).expect("a record")
    }

    fn flows(arguments: &[&str]) -> Flows {
        use clap::Parser;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            flows: Flows,
        }
        let all = std::iter::once("flows").chain(arguments.iter().copied());
        Line::try_parse_from(all).expect("right arguments").flows
    }

    #[test]
    fn a_denied_flow_is_one_line_and_its_reason() {
        assert_eq!(
            render(&denied()),
            "02:03:04.567 deny  deny  ingress TCP us/shop/guest:40000 > eu/shop/orders-0:8080\n             \
             ingressDenied; NetworkPolicy shop/orders ingress (policies.yaml:3)\n"
        );
    }

    #[test]
    fn an_end_says_what_was_carried_and_the_world_is_an_address() {
        let mut record = denied();
        record.event = "end".into();
        record.verdict = "allow".into();
        (record.reason, record.rule) = (None, None);
        record.to = Party {
            name: "world".into(),
            cluster: None,
            address: "2001:db8::1".into(),
            port: Some(443),
            identity: Some(2),
        };
        let way = |packets, bytes| Way { packets, bytes };
        record.end = Some(Ended {
            why: "closed".into(),
            duration_ms: 1_240,
            forward: way(12, 9_999),
            reply: way(900, 1_234_567),
        });
        assert_eq!(
            render(&record),
            "02:03:04.567 end   allow ingress TCP shop/guest:40000 > [2001:db8::1]:443 (world)\n             \
             closed after 1.2 s, 12 packets (9999 B) sent, 900 packets (1234.6 kB) answered\n"
        );
    }

    #[test]
    fn filters_know_names_namespaces_clusters_and_addresses() {
        for (arguments, matches) in [
            (&[][..], true),
            (&["--from", "shop"][..], true),
            (&["--from", "shop/guest", "--to", "shop/orders-0"][..], true),
            (&["--from", "us/shop/guest"][..], true),
            (&["--from", "eu/shop/guest"][..], false),
            (&["--from", "10.2.1.7"][..], true),
            (&["--to", "10.2.1.7"][..], false),
            (&["--to", "svc:shop/orders"][..], false),
            (&["--verdict", "deny", "--event", "deny"][..], true),
            (&["--verdict", "allow"][..], false),
            (&["--protocol", "tcp", "--port", "8080"][..], true),
            (&["--port", "80"][..], false),
        ] {
            assert_eq!(
                flows(arguments).matches(&denied()),
                matches,
                "{arguments:?}"
            );
        }
    }
}
