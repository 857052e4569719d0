//! `farlane lab`: what it makes it removes, whatever happens to it, and what it measures can be read.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{FARLANE, Output, Program, bounded, eventually, may_run};
use serde_json::Value;

/// Runs `farlane lab` to its end.
fn lab(words: &[&str]) -> Output {
    bounded(
        Duration::from_secs(180),
        Command::new(FARLANE).arg("lab").args(words),
    )
}

/// All that a run leaves on the machine while it is there: namespaces, record, files.
fn traces(run: &str) -> Vec<PathBuf> {
    let number = run.trim_start_matches("flab");
    let socket = |cluster| PathBuf::from(format!("/var/run/wireguard/fl{number}{cluster}.sock"));
    let sockets = ["eu", "us"]
        .map(socket)
        .into_iter()
        .filter(|path| path.exists());
    let folders = [
        Path::new("/run/netns"),
        Path::new("/run/farlane-lab"),
        Path::new("/run/farlane-topology"),
        &std::env::temp_dir(),
    ]
    .map(Path::to_path_buf);
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let own = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = name.trim_start_matches("farlane-");
        // `flab1f`, `flab1f.json`, `flab1f-eu-1`, but not `flab1f0`.
        name.strip_prefix(run)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_hexdigit()))
    };
    paths.filter(own).chain(sockets).collect()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lab-test-{}-{name}", std::process::id()))
}

/// A bench that goes on for minutes, once its world stands; and the name of its run.
fn start_bench() -> (Program, String) {
    let mut command = Command::new(FARLANE);
    command.args([
        "lab",
        "bench",
        "--peers",
        "farlane wg",
        "--only",
        "tcp",
        "--seconds",
        "60",
    ]);
    let program = Program::start(&mut command, &temporary("bench.log"));
    let run = format!("flab{:x}", program.pid());
    let server = format!("/run/farlane-topology/{run}");
    let stands = || Path::new(&server).exists() && traces(&run).len() >= 7;
    assert!(
        eventually(Duration::from_secs(20), stands),
        "{:?}",
        traces(&run)
    );
    (program, run)
}

#[test]
fn two_nodes_stand_after_up_carry_and_are_gone_after_down() {
    if !may_run("two_nodes_stand_after_up_carry_and_are_gone_after_down") {
        return;
    }
    let up = lab(&["up"]);
    assert!(up.ok, "{}", up.text);
    let run = up.out.split_whitespace().nth(1).expect("`run NAME stands`");
    let client = format!("{run}-eu-1-client");
    let ask = [
        "netns",
        "exec",
        &client,
        FARLANE,
        "lab",
        "ask",
        "10.101.0.52:7002",
    ];
    let asked = bounded(Duration::from_secs(20), Command::new("ip").args(ask));
    let socket = up
        .out
        .split_once("--socket ")
        .expect("where a node answers");
    let flows = ["flows", "--socket", socket.1.lines().next().unwrap()];
    let flows = bounded(Duration::from_secs(20), Command::new(FARLANE).args(flows));
    let down = lab(&["down", run]);
    assert!(asked.out.contains("\"lost\":0"), "{}", asked.text);
    assert!(flows.ok && flows.out.contains("7002"), "{}", flows.text);
    assert!(down.ok && down.out.contains(run), "{}", down.text);
    assert_eq!(traces(run), Vec::<PathBuf>::new());
    let again = lab(&["down", run]);
    assert!(
        !again.ok && again.text.contains("there is no run"),
        "{}",
        again.text
    );
}

#[test]
fn a_quick_bench_writes_every_sample_and_a_page_and_compares_with_itself() {
    if !may_run("a_quick_bench_writes_every_sample_and_a_page_and_compares_with_itself") {
        return;
    }
    let (json, html) = (temporary("bench.json"), temporary("bench.html"));
    let (json, html) = (json.to_str().unwrap(), html.to_str().unwrap());
    let words = "bench --quick --only tcp,local,latency,connections,memory --peers ours,plain --against plain";
    let words: Vec<&str> = words
        .split(' ')
        .chain(["--json", json, "--html", html])
        .collect();
    let bench = lab(&words);
    assert!(bench.ok, "{}", bench.text);
    for part in [
        "farlane run",
        "farlane wg",
        "plain",
        "TCP one flow",
        "left] round 1 of 1",
    ] {
        assert!(bench.text.contains(part), "{part} in\n{}", bench.text);
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for field in ["date", "machine", "rounds", "peers", "roundTrips"] {
        assert!(!report[field].is_null(), "{field}");
    }
    assert_eq!(report["problems"], serde_json::json!([]));
    let measures = report["measures"].as_array().unwrap();
    for name in [
        "tcpOneFlowGbitPerSecond",
        "localTcpGbitPerSecond",
        "idleRoundTripP50Us",
        "newConnectionsPerSecond",
    ] {
        let measure = measures.iter().find(|one| one["name"] == name).expect(name);
        for peer in measure["peers"].as_array().unwrap() {
            let samples = peer["samples"].as_array().unwrap();
            assert!(
                samples.len() == 1 && samples[0].as_f64() > Some(0.0),
                "{name}: {peer}"
            );
        }
    }
    assert!(fs::read_to_string(html).unwrap().contains("</html>"));
    let same = lab(&["compare", json, json, "--all"]);
    assert!(
        same.ok && same.out.contains("too few rounds"),
        "{}",
        same.text
    );
    for file in [json, html] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn an_interrupted_bench_removes_all_it_made() {
    if !may_run("an_interrupted_bench_removes_all_it_made") {
        return;
    }
    for signal in ["INT", "TERM"] {
        let (mut bench, run) = start_bench();
        bench.signal(signal);
        assert_eq!(bench.wait(Duration::from_secs(30)), Some(1), "SIG{signal}");
        assert_eq!(traces(&run), Vec::<PathBuf>::new(), "after SIG{signal}");
        let said = fs::read_to_string(temporary("bench.log")).unwrap();
        assert!(said.contains("interrupted"), "{said}");
    }
}

#[test]
fn what_a_killed_bench_left_is_named_and_down_removes_it() {
    if !may_run("what_a_killed_bench_left_is_named_and_down_removes_it") {
        return;
    }
    let (mut bench, run) = start_bench();
    let held = lab(&["down", &run]);
    assert!(
        !held.ok && held.text.contains("in use by run"),
        "{}",
        held.text
    );
    bench.signal("KILL");
    bench.wait(Duration::from_secs(10));
    let next = lab(&[
        "bench",
        "--quick",
        "--only",
        "memory",
        "--peers",
        "farlane wg",
    ]);
    let named = format!(
        "left by run {run} (`farlane lab bench`, process {}",
        bench.pid()
    );
    assert!(next.text.contains(&named), "{}", next.text);
    assert!(next.text.contains("started at 20"), "{}", next.text);
    assert!(
        next.text.contains("`farlane lab down` removes it"),
        "{}",
        next.text
    );
    let down = lab(&["down", &run]);
    assert!(down.ok && down.out.contains(&run), "{}", down.text);
    assert_eq!(traces(&run), Vec::<PathBuf>::new());
}

#[test]
fn a_bad_link_delays_every_round_trip_and_one_that_makes_no_sense_is_refused() {
    if !may_run("a_bad_link_delays_every_round_trip_and_one_that_makes_no_sense_is_refused") {
        return;
    }
    let json = temporary("link.json");
    let json = json.to_str().unwrap();
    let words = "bench --quick --only latency --link delay=4ms,loss=1% --json";
    let words: Vec<&str> = words
        .split(' ')
        .chain([json, "--peers", "farlane wg"])
        .collect();
    let bench = lab(&words);
    assert!(
        bench.ok && bench.text.contains("over a link with"),
        "{}",
        bench.text
    );
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    fs::remove_file(json).unwrap();
    let trips = report["roundTrips"].as_array().unwrap();
    let all = trips
        .iter()
        .flat_map(|trips| trips["microseconds"].as_array().unwrap());
    // There and back.
    assert!(all.map(|us| us.as_f64().unwrap()).all(|us| us >= 8_000.0));
    let lost: u64 = trips
        .iter()
        .map(|trips| trips["lost"].as_u64().unwrap())
        .sum();
    assert!(lost > 0, "of hundreds of datagrams some are lost");
    let refused = lab(&["bench", "--link", "delay=4"]);
    let says_why = refused.text.contains("write such as delay=20ms");
    assert!(!refused.ok && says_why, "{}", refused.text);
}

#[test]
fn reports_that_cannot_be_read_are_named_with_the_reason() {
    let file = temporary("bad.json");
    fs::write(&file, "{\"format\": 1,\n \"farlane\": 7}").unwrap();
    let file = file.to_str().unwrap();
    let bad = lab(&["compare", file, file]);
    assert!(
        !bad.ok && bad.text.contains(file) && bad.text.contains("line 2"),
        "{}",
        bad.text
    );
    let missing = lab(&["compare", "/no/such.json", file]);
    assert!(
        !missing.ok && missing.text.contains("/no/such.json: "),
        "{}",
        missing.text
    );
    fs::remove_file(file).unwrap();
}
