//! How a service moves to the other cluster and back: an impatient client, while backends become
//! unready and while the other node is stopped.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{Demo, print_table, services};
use crate::lab::error::LabError;
use crate::lab::nodes;
use crate::lab::program;
use crate::lab::traffic::attempts::{Attempt, Attempts};

/// One thing that happens.
struct Case {
    name: &'static str,
    title: &'static str,
    /// Whose address the client asks for.
    address: String,
    seconds: u32,
    /// Who serves before and after, and who meanwhile.
    home: &'static str,
    abroad: &'static str,
    /// Attempts that may fail, and for how long.
    most_failed: usize,
    longest_ms: f64,
}

pub(super) fn show(demo: &mut Demo) -> Result<(), LabError> {
    let [near, far] = &services::SERVICES;
    let [near, far] = [near, far].map(|service| service.addresses("eu")[0].clone());
    let pods = nodes::read(&demo.world, "eu", "pods.yaml")?;
    let unready = without_ready_web(&pods);
    let us = demo.processes[1];
    let mut rows = Vec::new();
    let unready_case = Case {
        name: "unready",
        title: "local backends unready",
        address: near,
        seconds: 8,
        home: "eu-1/web",
        abroad: "us-1/web",
        most_failed: 0,
        longest_ms: 0.0,
    };
    rows.push(happen(demo, &unready_case, |demo, away| {
        let text = if away { &unready } else { &pods };
        nodes::apply(&demo.world, "eu", "pods.yaml", text)
    })?);
    let stopped_case = Case {
        name: "stopped",
        title: "other cluster stopped",
        address: far,
        seconds: 10,
        home: "us-1/web",
        abroad: "eu-1/web",
        most_failed: 60,
        longest_ms: 1_000.0,
    };
    rows.push(happen(demo, &stopped_case, |demo, away| {
        let signal = if away { "-STOP" } else { "-CONT" };
        let mut kill = Command::new("kill");
        kill.args([signal, &us.to_string()]);
        program::run(&mut kill, demo.world.interrupt(), Duration::from_secs(5)).map(|_| ())
    })?);
    println!("\nFail-over (a new connection every 20 ms, time-out 500 ms)");
    let heads = [
        "what happens",
        "attempts",
        "failed",
        "failing for",
        "moved after",
        "back after",
    ];
    print_table(&heads, &rows);
    Ok(())
}

/// Lets the client try all along, and something happen and end meanwhile; a row of the table.
fn happen(
    demo: &mut Demo,
    case: &Case,
    change: impl Fn(&Demo, bool) -> Result<(), LabError>,
) -> Result<Vec<String>, LabError> {
    let client = demo.pod("eu-1/client").place.clone();
    let farlane = demo.world.farlane.display().to_string();
    let to = format!("{}:80", case.address);
    let seconds = case.seconds.to_string();
    let program = demo.world.start(
        &client,
        &[&farlane, "lab", "attempts", &to, "--seconds", &seconds],
    )?;
    let interrupt = demo.world.interrupt().clone();
    interrupt.sleep(Duration::from_millis(1_500))?;
    change(demo, true)?;
    let gone = unix_ms();
    interrupt.sleep(Duration::from_secs(3))?;
    change(demo, false)?;
    let came = unix_ms();
    let within = Duration::from_secs(u64::from(case.seconds) + 30);
    let (_, text, _) = program.finish(&interrupt, within)?;
    let report: Attempts = serde_json::from_str(&text)
        .map_err(|error| LabError::step("farlane lab attempts", error))?;
    let attempts = &report.attempts;
    let failed: Vec<&Attempt> = attempts.iter().filter(|one| one.answer.is_none()).collect();
    let first = |who: &str, after: f64| {
        let mut all = attempts
            .iter()
            .map(|one| (one, one.start_ms + report.started_unix_ms));
        let found = all.find(|(one, at)| *at > after && one.answer.as_deref() == Some(who));
        found.map(|(_, at)| tenths(at - after))
    };
    let (moved, returned) = (first(case.abroad, gone), first(case.home, came));
    let ends = failed.first().zip(failed.last());
    let span = ends.map_or(0.0, |(first, last)| tenths(last.start_ms - first.start_ms));
    let at_home = attempts
        .first()
        .is_some_and(|one| one.answer.as_deref() == Some(case.home));
    let (title, count) = (case.title, failed.len());
    demo.judge(at_home, || {
        format!("{title}: {} does not serve at first", case.home)
    });
    demo.judge(moved.is_some(), || {
        format!("{title}: {} never served", case.abroad)
    });
    demo.judge(returned.is_some(), || {
        format!("{title}: {} did not serve again", case.home)
    });
    demo.judge(count <= case.most_failed, || {
        format!("{title}: {count} attempts failed")
    });
    demo.judge(span <= case.longest_ms, || {
        format!("{title}: attempts failed for {span} ms")
    });
    let entry = json!({
        "case": case.name, "attempts": attempts.len(), "failed": count, "failedSpanMs": span,
        "failOverMs": moved, "returnMs": returned,
    });
    let all = demo.seen.entry("failOver").or_insert_with(|| json!([]));
    all.as_array_mut().expect("made one line above").push(entry);
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0} ms"));
    Ok(vec![
        title.to_owned(),
        attempts.len().to_string(),
        count.to_string(),
        ms(Some(span)),
        ms(moved),
        ms(returned),
    ])
}

/// The same pods, but none of web's is ready.
fn without_ready_web(pods: &str) -> String {
    let documents = pods
        .split("---\n")
        .map(|pod| match pod.contains("{app: web,") {
            true => pod.replace("status: \"True\"", "status: \"False\""),
            false => pod.to_owned(),
        });
    documents.collect::<Vec<String>>().join("---\n")
}

fn unix_ms() -> f64 {
    driver::now().unix_ns as f64 / 1e6
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_of_web_lose_their_ready_condition() {
        let pod =
            |app: &str| format!("---\nlabels: {{app: {app}, node: eu-1}}\nstatus: \"True\"\n");
        let changed = without_ready_web(&(pod("client") + &pod("web")));
        assert_eq!(
            changed,
            pod("client") + &pod("web").replace("True", "False")
        );
    }
}
