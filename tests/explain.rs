//! `farlane explain` as people and programs call it, over the files of `config/examples`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

const FRONT: &str = r#"{"from":"shop/front","to":"svc:shop/orders","port":80}"#;
const GUEST: &str = r#"{"from":"shop/guest","to":"shop/orders-0","port":8080,"protocol":"tcp"}"#;

fn explain(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farlane"));
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/eu-1.yaml");
    command.args(["explain", "--config", config]);
    command.args(arguments);
    command
}

fn batch(lines: &str) -> Output {
    let mut child = explain(&["--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    // Who ends at a bad line does not read the rest.
    let _ = writer.join();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn a_denied_flow_is_shown_with_the_rule_that_decided_and_its_file() {
    let output = explain(&["--from", "shop/guest", "--to", "shop/orders-0"])
        .args(["--port", "8080/TCP"])
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let text = text(&output.stdout);
    assert!(text.starts_with("DENY   shop/guest to shop/orders-0, 8080/TCP\n"));
    assert!(text.contains("-> isolates  NetworkPolicy shop/orders ingress"));
    assert!(text.contains("policies.yaml:3)"), "{text}");
    let long = |line: &&str| line.chars().count() > 80;
    // Only the file's name may be longer, and then it has a line of its own.
    let is_name = |line: &str| line.trim().split(' ').count() == 1;
    assert!(text.lines().filter(long).all(is_name), "{text}");
}

#[test]
fn the_fields_that_programs_read_are_there() {
    let output = explain(&["--from", "shop/front", "--to", "svc:shop/orders"])
        .args(["--port", "80/TCP", "--json"])
        .output()
        .expect("it runs");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (field, value) in [
        ("verdict", "allow"),
        ("egress", "allow"),
        ("ingress", "allow"),
        ("service", "shop/orders"),
        ("route", "pod"),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    assert!(answer["reason"].is_null());
    assert_eq!(answer["backends"].as_array().map(Vec::len), Some(2));
    let rules = answer["rules"].as_array().expect("a list");
    assert!(
        rules[0]
            .as_str()
            .is_some_and(|rule| rule.contains("ingress[0]"))
    );
    assert_eq!(answer["ends"]["ingress"]["rules"][0]["decides"], true);
}

#[test]
fn a_batch_prints_what_it_has_answered_before_the_line_that_is_wrong() {
    let lines = format!("{FRONT}\n\n{GUEST}\nnonsense\n{FRONT}\n");
    let output = batch(&lines);
    assert_eq!(output.status.code(), Some(1));
    let answers = text(&output.stdout);
    let verdicts: Vec<String> = answers
        .lines()
        .map(|line| {
            let answer: serde_json::Value = serde_json::from_str(line).expect("JSON");
            answer["verdict"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(verdicts, ["allow", "deny"]);
    let said = text(&output.stderr);
    assert!(
        said.starts_with("farlane: line 4: expected ident"),
        "{said}"
    );
}

#[test]
fn a_batch_of_many_lines_is_answered_line_by_line() {
    let lines = format!("{FRONT}\n{GUEST}\n").repeat(3_000);
    // The last line may lack its end.
    let output = batch(lines.trim_end());
    assert!(output.status.success());
    let answers = text(&output.stdout);
    assert_eq!(answers.lines().count(), 6_000);
    let mut lines = answers.lines();
    let (front, guest) = (lines.next(), lines.next());
    assert!(front != guest && lines.all(|line| Some(line) == front || Some(line) == guest));
    let wrong = batch(&format!("{}x\n", format!("{FRONT}\n").repeat(5_000)));
    assert_eq!(text(&wrong.stdout).lines().count(), 5_000);
    assert!(text(&wrong.stderr).starts_with("farlane: line 5001: "));
    let long = batch(&format!("{FRONT}\n{}", " ".repeat(100_000)));
    assert_eq!(text(&long.stdout).lines().count(), 1);
    assert!(text(&long.stderr).starts_with("farlane: line 2: longer than"));
}

#[test]
fn who_waits_for_an_answer_gets_it_before_the_input_ends() {
    let mut child = explain(&["--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    for _ in 0..3 {
        writeln!(input, "{GUEST}").expect("it reads");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("it answers");
        assert!(answer.starts_with("{\"verdict\":\"deny\""), "{answer}");
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}
