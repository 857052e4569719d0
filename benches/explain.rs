//! How many questions `farlane explain --batch --config` answers in a second:
//! `cargo bench --bench explain`.
//!
//! A cluster of 1,000 pods on 20 nodes, 200 policies and 50 services, written as files, and the
//! program itself with its questions on standard input: reading, judging at both ends, every rule
//! that matched by name, and an answer of about a kilobyte in JSON. What it takes to read the files
//! is timed by itself, with a single question, and not counted.

#[path = "common/shops.rs"]
mod shops;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use farlane::control::Control;
use farlane::explain::{Explainer, Question};

const QUESTIONS: usize = 300_000;
const RUNS: usize = 5;

fn main() {
    let dir = std::env::temp_dir().join(format!("farlane-shops-{}", std::process::id()));
    let file = shops::write(&dir);
    within(&file);
    let questions: String = shops::questions(QUESTIONS).collect();
    let one = questions.split_inclusive('\n').next().unwrap_or_default();
    let (mut answering, mut bytes) = (Duration::MAX, 0);
    let mut starting = Duration::MAX;
    for _ in 0..RUNS {
        starting = starting.min(run(&file, one).0);
        let (took, length) = run(&file, &questions);
        (answering, bytes) = (answering.min(took), length);
    }
    std::fs::remove_dir_all(&dir).expect("the files were ours");
    let each = answering.saturating_sub(starting).as_secs_f64() / QUESTIONS as f64;
    let length = bytes / QUESTIONS;
    println!("the program, read the files             {starting:.2?}");
    println!(
        "the program, one question                {:.2} us",
        each * 1e6
    );
    println!(
        "the program, answers a second            {:.0}, of {length} bytes each",
        1.0 / each
    );
}

/// The same without lines, pipes and JSON.
fn within(file: &Path) {
    let config = config::Config::load(file).expect("a right file");
    let explainer = Explainer::new(Control::read_only(config).expect("right manifests"));
    let questions: Vec<Question> = shops::questions(10_000)
        .map(|line| serde_json::from_str(&line).expect("a question"))
        .collect();
    let mut best = Duration::MAX;
    let mut allowed = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let answers = questions.iter().map(|question| explainer.answer(question));
        allowed = answers
            .filter(|answer| {
                answer
                    .as_ref()
                    .is_ok_and(|answer| answer.verdict == "allow")
            })
            .count();
        best = best.min(begun.elapsed());
    }
    let each = best.as_secs_f64() / questions.len() as f64;
    println!(
        "no lines, one question                   {:.2} us",
        each * 1e6
    );
    println!(
        "allowed                                  {allowed} of {}",
        questions.len()
    );
}

/// How long the program takes for these questions, and how many bytes it answers.
fn run(file: &Path, questions: &str) -> (Duration, usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farlane"));
    command.args(["explain", "--batch", "--config"]).arg(file);
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = child.stdout.take().expect("a pipe");
    let length = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(questions.as_bytes()).expect("it reads all"));
        std::io::copy(&mut output, &mut std::io::sink()).expect("it writes")
    });
    assert!(child.wait().expect("it ends").success());
    (begun.elapsed(), length as usize)
}
