//! The comparison: packet by packet the same, or a difference that is listed with its reason.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::forge::{self, Packet};
use crate::kernel::Kernel;
use crate::ours::Ours;
use crate::talk::Family;
use crate::{Came, Side};

/// Packets one after the other, each as it comes in by one side.
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) from: Side,
    pub(crate) bytes: Vec<u8>,
}

/// A packet of the client's.
pub(crate) fn client(packet: Packet) -> Step {
    Step {
        from: Side::Client,
        bytes: packet.bytes(),
    }
}

/// A packet from beyond the node: the backend's, or a router's.
pub(crate) fn backend(packet: Packet) -> Step {
    Step {
        from: Side::Backend,
        bytes: packet.bytes(),
    }
}

/// How the outcome of one step, or of a whole script, differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// We let something pass that the kernel drops.
    KernelDrops,
    /// The kernel lets something pass that we drop.
    WeDrop,
    /// The kernel answers the sender with an ICMP error of its own, and we do not.
    KernelAnswers,
    /// We answer with an ICMP error or a reset, and the kernel does not.
    WeAnswer,
    /// The same packets, but the source of one is another.
    Source,
    /// As many packets, but their contents differ.
    Contents,
    /// Another number of packets, or by another side.
    Number,
    /// The script as a whole lets the same packets pass, but not at the same steps.
    Moment,
}

/// A difference that is known. It covers the scripts whose names are like one of `scripts`, where `*` stands for
/// anything; each of them must show it, and each name must be one's.
pub(crate) struct Difference {
    pub(crate) scripts: &'static [&'static str],
    /// Both where it is `None`.
    pub(crate) family: Option<Family>,
    pub(crate) ways: &'static [Way],
    /// Why both are as they are.
    pub(crate) why: &'static str,
}

impl Difference {
    /// The name that covers a script.
    fn covers(&self, script: &Script) -> Option<&'static str> {
        let mut names = self.scripts.iter().copied();
        let name = names.find(|name| is_like(&script.name, name));
        name.filter(|_| self.family.is_none_or(|family| family == script.family))
    }
}

fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().expect("split gives one part at least");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut ends_open = false;
    for part in parts {
        let Some(at) = rest
            .rfind(part)
            .filter(|_| !part.is_empty())
            .or(part.is_empty().then_some(0))
        else {
            return false;
        };
        ends_open = part.is_empty();
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || ends_open
}

/// How much was compared.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) scripts: usize,
    pub(crate) packets: usize,
    /// Packets that passed both alike.
    pub(crate) passed: usize,
}

/// Sends every script through both.
///
/// # Panics
/// If there is a difference that is not listed, or one that is listed no longer occurs.
pub(crate) fn compare(scripts: &[Script], differences: &[Difference]) -> Tally {
    let (mut kernel, mut ours) = (Kernel::start(), Ours::start());
    let mut tally = Tally::default();
    let mut wrong = String::new();
    let mut covering = BTreeSet::new();
    for script in scripts {
        let (found, story) = play(script, &mut kernel, &mut ours, &mut tally);
        let mut listed = BTreeSet::new();
        for (number, difference) in differences.iter().enumerate() {
            if let Some(name) = difference.covers(script) {
                listed.extend(difference.ways);
                covering.insert((number, name));
            }
        }
        if found != listed {
            let (name, family) = (&script.name, script.family.name());
            let _ = writeln!(
                wrong,
                "{family} {name}: listed {listed:?}, found {found:?}\n{story}"
            );
        }
    }
    for (number, difference) in differences.iter().enumerate() {
        for name in difference.scripts {
            if !covering.contains(&(number, name)) {
                let _ = writeln!(wrong, "covers nothing: {name}: {}", difference.why);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}our drops: {:?}", ours.drops());
    eprintln!(
        "compared: {tally:?}, {} differences listed",
        differences.len()
    );
    tally
}

fn play(
    script: &Script,
    kernel: &mut Kernel,
    ours: &mut Ours,
    tally: &mut Tally,
) -> (BTreeSet<Way>, String) {
    let mut ways = BTreeSet::new();
    let mut story = String::new();
    let (mut all_kernels, mut all_ours) = (Vec::new(), Vec::new());
    for (number, step) in script.steps.iter().enumerate() {
        let theirs = kernel.send(step.from, &step.bytes);
        let mine = ours.send(&step.bytes);
        let way = difference(step, &theirs, &mine);
        tally.packets += 1;
        match way {
            None => tally.passed += mine.len(),
            Some(way) => {
                let _ = writeln!(
                    story,
                    "  {number} {way:?}: {}\n    kernel {}\n    ours   {}",
                    hex(&step.bytes),
                    text(&theirs),
                    text(&mine)
                );
                ways.insert(way);
            }
        }
        all_kernels.extend(theirs.into_iter().map(|came| normal(step, came)));
        all_ours.extend(mine.into_iter().map(|came| normal(step, came)));
    }
    tally.scripts += 1;
    all_kernels.sort();
    all_ours.sort();
    if !ways.is_empty() && all_kernels == all_ours {
        ways = BTreeSet::from([Way::Moment]);
    }
    (ways, story)
}

fn difference(step: &Step, kernels: &[Came], ours: &[Came]) -> Option<Way> {
    let normalise =
        |all: &[Came]| -> Vec<Came> { all.iter().map(|came| normal(step, came.clone())).collect() };
    let (kernels, ours) = (normalise(kernels), normalise(ours));
    if kernels == ours {
        return None;
    }
    let answered = |all: &[Came]| all.iter().any(|came| came.side == step.from);
    Some(match (kernels.is_empty(), ours.is_empty()) {
        (true, false) if answered(&ours) => Way::WeAnswer,
        (true, false) => Way::KernelDrops,
        (false, true) if answered(&kernels) => Way::KernelAnswers,
        (false, true) => Way::WeDrop,
        _ if kernels.len() != ours.len() => Way::Number,
        _ if kernels.iter().zip(&ours).any(|(a, b)| a.side != b.side) => Way::Number,
        _ if without_sources(&kernels) == without_sources(&ours) => Way::Source,
        _ => Way::Contents,
    })
}

/// What may differ in every packet, taken out of it:
///
/// - An ICMP error that a router has made itself: over IPv4 the kernel numbers it and lets it be fragmented; ours is an
///   atomic datagram (RFC 6864 §4.1) without a number.
/// - The identification of IPv6 fragments: the kernel makes the datagram whole and cuts it again, under a number of
///   its own (Linux `ip6_fragment`, `ipv6_select_ident`).
fn normal(step: &Step, mut came: Came) -> Came {
    let bytes = &mut came.bytes;
    if bytes[0] >> 4 == 4 {
        if came.side == step.from && bytes[9] == forge::ICMP {
            let header = usize::from(bytes[0] & 15) * 4;
            bytes[4..8].fill(0);
            forge::finish_v4_header(&mut bytes[..header]);
        }
        return came;
    }
    let (mut number, mut at) = (bytes[6], 40);
    while matches!(number, 0 | 43 | 60) && at + 8 <= bytes.len() {
        (number, at) = (bytes[at], at + (usize::from(bytes[at + 1]) + 1) * 8);
    }
    if number == 44 && at + 8 <= bytes.len() {
        bytes[at + 4..at + 8].fill(0);
    }
    came
}

/// The same without the outer sources, and without the checksums that follow from them.
fn without_sources(all: &[Came]) -> Vec<Vec<u8>> {
    let blank = |came: &Came| {
        let mut bytes = came.bytes.clone();
        if bytes[0] >> 4 == 4 {
            bytes[10..16].fill(0);
        } else {
            bytes[8..24].fill(0);
            if bytes[6] == forge::ICMPV6 {
                bytes[42..44].fill(0);
            }
        }
        bytes
    };
    all.iter().map(blank).collect()
}

fn text(all: &[Came]) -> String {
    let each = all
        .iter()
        .map(|came| format!("{} {}", came.side.name(), hex(&came.bytes)));
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        String::from("nothing")
    } else {
        each.join("\n           ")
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(200)];
    let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits} ({})", bytes.len())
}
