//! Who reaches whom: every pod asks every other one and the world, over both families.

use serde_json::json;

use super::{Demo, FAMILIES, WEB_PORT, print_table, url};
use crate::lab::error::LabError;
use crate::lab::world::Pod;

const WORLD: &str = "world";
const WORLD_ADDRESSES: [&str; 2] = ["198.51.100.254", "2001:db8:99::254"];
/// Questions at a time: each waits more than it works.
const AT_A_TIME: usize = 4;

/// One question; without a target it is for the world.
struct Question {
    source: Pod,
    target: Option<Pod>,
    family: &'static str,
}

impl Question {
    fn label(&self) -> &str {
        self.target.as_ref().map_or(WORLD, |pod| &pod.label)
    }

    fn is_web(&self) -> bool {
        self.target.as_ref().is_some_and(|pod| pod.name == "web")
    }

    /// Whether policy lets it through.
    fn is_allowed(&self) -> bool {
        let stays = self
            .target
            .as_ref()
            .is_some_and(|pod| pod.cluster() == self.source.cluster());
        match self.source.name.as_str() {
            "guest" if !stays => false,
            name if self.is_web() => name == "client",
            _ => true,
        }
    }

    fn ask(&self, demo: &Demo) -> bool {
        let Some(target) = &self.target else {
            let address = WORLD_ADDRESSES[usize::from(self.family == "IPv6")];
            return pings(demo, &self.source, address);
        };
        let address = target.address(self.family);
        if !self.is_web() {
            return pings(demo, &self.source, address);
        }
        let page = url(address, WEB_PORT);
        let answer = demo
            .world
            .run(&self.source.place, &["curl", "-s", "-m", "1.5", &page]);
        answer.is_ok_and(|answer| answer.trim() == target.label)
    }
}

/// Whether an address answers two pings.
pub(super) fn pings(demo: &Demo, source: &Pod, address: &str) -> bool {
    let ping = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address];
    demo.world.run(&source.place, &ping).is_ok()
}

pub(super) fn show(demo: &mut Demo) -> Result<(), LabError> {
    let mut targets: Vec<Option<Pod>> = demo
        .pods
        .iter()
        .filter(|pod| pod.name != "guest")
        .cloned()
        .map(Some)
        .collect();
    targets.push(None);
    let mut questions = Vec::new();
    for source in &demo.pods {
        for target in targets
            .iter()
            .filter(|target| target.as_ref() != Some(source))
        {
            questions.extend(FAMILIES.map(|family| Question {
                source: source.clone(),
                target: target.clone(),
                family,
            }));
        }
    }
    let answers = ask_all(demo, &questions);
    demo.world.interrupt().check()?;
    let (mut entries, mut marks) = (Vec::new(), Vec::new());
    for (question, reached) in questions.iter().zip(answers) {
        let (source, label) = (&question.source.label, question.label());
        let (allowed, by) = (
            question.is_allowed(),
            if question.is_web() { "curl" } else { "ping" },
        );
        demo.judge(reached == allowed, || {
            let verb = if reached { "reaches" } else { "does not reach" };
            format!("{source} {verb} {label} over {}", question.family)
        });
        entries.push(json!({
            "from": source, "to": label, "family": question.family, "by": by,
            "allowed": allowed, "reached": reached,
        }));
        let mark = format!(
            "{}{}",
            if reached { "yes" } else { "no" },
            if reached == allowed { "" } else { "!" }
        );
        marks.push((source.clone(), label.to_owned(), mark));
    }
    demo.seen.insert("reachability".into(), entries.into());
    println!("\nWho reaches whom (IPv4 IPv6; yes and no are as policy says, a ! is not)");
    let names: Vec<&str> = targets
        .iter()
        .map(|target| target.as_ref().map_or(WORLD, |pod| &pod.label))
        .collect();
    let head = |name: &&str| {
        let how = if name.ends_with("/web") {
            "http"
        } else {
            "ping"
        };
        format!("{name} {how}").replace("-1/", " ")
    };
    let heads: Vec<String> = std::iter::once("from \\ to".to_owned())
        .chain(names.iter().map(head))
        .collect();
    let rows = demo.pods.iter().map(|pod| {
        let cell = |name: &&str| {
            let both = marks
                .iter()
                .filter(|(from, to, _)| *from == pod.label && to == name);
            let text = both
                .map(|(_, _, mark)| mark.as_str())
                .collect::<Vec<&str>>()
                .join(" ");
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        std::iter::once(pod.label.clone())
            .chain(names.iter().map(cell))
            .collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    print_table(
        &heads.iter().map(String::as_str).collect::<Vec<&str>>(),
        &rows,
    );
    Ok(())
}

fn ask_all(demo: &Demo, questions: &[Question]) -> Vec<bool> {
    let mut answers = vec![false; questions.len()];
    let share = questions.len().div_ceil(AT_A_TIME).max(1);
    std::thread::scope(|scope| {
        for (questions, answers) in questions.chunks(share).zip(answers.chunks_mut(share)) {
            scope.spawn(move || {
                for (question, answer) in questions.iter().zip(answers) {
                    *answer = question.ask(demo);
                }
            });
        }
    });
    answers
}
