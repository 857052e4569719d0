//! The truth tables of `tests/netpol`, Kubernetes' own end-to-end cases among them: what a file
//! says of all 81 pairs is what the naive evaluator, the compiled table and the data path's judge
//! say, after every step, in both families.
//!
//! ```text
//!   eu-1: x/a x/c y/b z/a z/c ══ eu-2: x/b y/a y/c z/b
//! ```

#[expect(
    clippy::disallowed_methods,
    reason = "the room is pure, its test reads files"
)]
#[path = "../../../../tests/netpol/case.rs"]
mod case;
mod engine;
#[path = "../../../../tests/netpol/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use case::{Case, Probe};
use engine::{Engine, JUDGES};
use table::{Table, name, pairs};

/// The numbers of upstream's cases by the context that they stand in.
const UPSTREAM: [(std::ops::RangeInclusive<usize>, &str); 3] = [
    (1..=42, "NetworkPolicy between server and client: "),
    (
        43..=45,
        "NetworkPolicy between server and client using UDP: ",
    ),
    (
        46..=48,
        "NetworkPolicy between server and client using SCTP: ",
    ),
];

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/netpol");
    case::read_all(&folder).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Runs a case; everything that is not as its file says, and how many answers were compared.
fn run(case: &Case) -> Result<usize, String> {
    let mut engine = Engine::new();
    let (mut answers, mut wrong) = (0, String::new());
    for (number, step) in case.steps.iter().enumerate() {
        let place = format!("{}, step {}: {}", case.file, number + 1, step.say);
        if let Err(said) = engine.take(step) {
            return Err(format!("{wrong}{place}\n{said}\n"));
        }
        let rebuilt = engine.rebuilt();
        for probe in &step.expect {
            for (family, called) in ["IPv4", "IPv6"].into_iter().enumerate() {
                let place = format!("{place}\n{} over {called}", probe.on);
                let heard = engine.ask(probe, family);
                answers += heard.len() * pairs().count();
                wrong += &complaint(&place, &engine, probe, family, &heard);
                // What steps have led to is what the manifests say without their history.
                let anew = rebuilt.ask(probe, family);
                if anew != heard {
                    wrong +=
                        &complaint(&format!("{place}, rebuilt"), &rebuilt, probe, family, &anew);
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(answers)
    } else {
        Err(wrong)
    }
}

/// The picture of a probe and who said what, where somebody says otherwise than the file.
fn complaint(
    place: &str,
    engine: &Engine,
    probe: &Probe,
    family: usize,
    heard: &[Table; JUDGES.len()],
) -> String {
    if heard.iter().all(|table| *table == probe.table) {
        return String::new();
    }
    let word = |allowed| if allowed { "allow" } else { "deny" };
    let mut text = format!("{place}\n{}", probe.table.picture(heard));
    for (from, to) in pairs() {
        let file = probe.table.allows(from, to);
        if heard.iter().all(|table| table.allows(from, to) == file) {
            continue;
        }
        text += &format!("  {} > {}: the file {}", name(from), name(to), word(file));
        for (who, table) in JUDGES.iter().zip(heard) {
            text += &format!(", {who} {}", word(table.allows(from, to)));
        }
        text += &format!(" ({})\n", engine.explain(probe, family, from, to));
    }
    text
}

#[test]
fn every_truth_table_holds_for_the_reference_the_table_and_the_data_path() {
    let (mut answers, mut probes, mut wrong) = (0, 0, Vec::new());
    let cases = cases();
    for case in &cases {
        probes += case.steps.iter().map(|s| s.expect.len()).sum::<usize>();
        match run(case) {
            Ok(number) => answers += number,
            Err(text) => wrong.push(text),
        }
    }
    println!("{} cases, {probes} tables, {answers} answers", cases.len());
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn upstreams_forty_eight_cases_are_all_here() {
    let mut numbered: BTreeMap<usize, Vec<Case>> = BTreeMap::new();
    for case in cases() {
        let number = case.file.split('-').next().and_then(|n| n.parse().ok());
        if let Some(number) = number {
            numbered.entry(number).or_default().push(case);
        }
    }
    let mut sources = BTreeSet::new();
    for (numbers, context) in UPSTREAM {
        for number in numbers {
            let found = numbered.remove(&number).unwrap_or_default();
            let [case] = found.as_slice() else {
                panic!("{} files of number {number:02}", found.len());
            };
            assert!(case.source.starts_with(context), "{}", case.file);
            assert!(sources.insert(case.source.clone()), "{} again", case.file);
        }
    }
    assert_eq!(sources.len(), 48);
}

#[test]
fn every_cell_that_is_flipped_in_a_table_is_noticed() {
    let all = cases();
    let case = all.iter().find(|case| case.file.starts_with("28-"));
    let case = case.expect("the case of client and server");
    for (from, to) in pairs() {
        let mut planted = case.clone();
        let cell = &mut planted.steps[0].expect[0].table.0[from][to];
        *cell = !*cell;
        let file = if *cell { "allow" } else { "deny" };
        let said = run(&planted).expect_err("a flipped cell");
        let line = format!("  {} > {}: the file {file}, ", name(from), name(to));
        // Once for each family.
        assert_eq!(said.matches(&line).count(), 2, "{said}");
        assert_eq!(said.matches(": the file ").count(), 2, "{said}");
    }
}

#[test]
fn a_judge_that_is_alone_with_its_answer_is_named() {
    let all = cases();
    let case = &all[0];
    let mut engine = Engine::new();
    engine.take(&case.steps[0]).unwrap();
    let probe = &case.steps[0].expect[0];
    let heard = engine.ask(probe, 0);
    assert_eq!(complaint("here", &engine, probe, 0, &heard), "");
    for (alone, who) in JUDGES.iter().enumerate() {
        let mut heard = heard;
        let cell = &mut heard[alone].0[3][0];
        *cell = !*cell;
        let said = complaint("here", &engine, probe, 0, &heard);
        assert!(said.contains("y/a > x/a: the file deny, "), "{said}");
        assert!(said.contains(&format!(", {who} allow")), "{said}");
        let line = said.lines().last().unwrap_or_default();
        assert_eq!(line.matches(" allow").count(), 1, "{said}");
    }
}

#[test]
fn a_step_that_does_nothing_is_noticed() {
    let mut unnoticed = Vec::new();
    for case in cases() {
        for number in 0..case.steps.len() {
            let mut planted = case.clone();
            planted.steps[number] = case.steps[number].idle();
            if run(&planted).is_ok() {
                unnoticed.push(format!("{} {}", case.file, number + 1));
            }
        }
    }
    let number = |place: &String| place.starts_with(|first: char| first.is_ascii_digit());
    unnoticed.retain(number);
    // What they allow was allowed before, and they close nothing: upstream has them to see that.
    assert_eq!(
        unnoticed,
        [
            "05-all-namespaces.yaml 1",
            "16-allow-all.yaml 1",
            "20-updated-policy.yaml 1",
            "37-directions-are-independent.yaml 1",
        ]
    );
}

#[test]
fn a_mismatch_is_shown_as_a_picture_with_who_said_what() {
    let text = "source: planted\nsteps:\n  - say: no policy\n    expect:\n      \
                - {on: 80/TCP, default: allow, deny: [\"x/a > */c\"], allow: [\"x/a > z/c\"]}\n";
    let said = run(&Case::read("planted.yaml", text).unwrap()).unwrap_err();
    let expected = "\
planted.yaml, step 1: no policy
80/TCP over IPv4
  from \\ to   x     y     z
              a b c a b c a b c
        x/a   . . + . . + . . .
        x/b   . . . . . . . . .
        x/c   . . . . . . . . .
        y/a   . . . . . . . . .
        y/b   . . . . . . . . .
        y/c   . . . . . . . . .
        z/a   . . . . . . . . .
        z/b   . . . . . . . . .
        z/c   . . . . . . . . .
  . allowed, X denied; - wrongly denied, + wrongly allowed by somebody
  x/a > x/c: the file deny, the reference allow, the table allow, the data path allow (eu-1: Ok(()) by no rule; eu-1: Ok(()) by no rule)
  x/a > y/c: the file deny, the reference allow, the table allow, the data path allow (eu-1: Ok(()) by no rule; eu-2: Ok(()) by no rule)
";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_file_that_cannot_be_meant_is_refused() {
    let probe = |text: &str| format!("source: s\nsteps: [{{say: t, expect: [{text}]}}]\n");
    let policy = "apiVersion: networking.k8s.io/v1\\nkind: NetworkPolicy\\nmetadata: {name: p, namespace: x}\\nspec: {podSelector: {}}\\n";
    let steps = |change: &str| {
        format!(
            "source: s\nsteps: [{{say: t, {change}, expect: [{{on: 80/TCP, default: allow}}]}}]\n"
        )
    };
    for (text, reason) in [
        (
            probe("{on: 80/TCP, default: allow, deny: [\"* > x/a\", \"y/* > x/a\"]}"),
            "\"y/* > x/a\" changes nothing",
        ),
        (
            probe("{on: 80/TCP, default: allow, allow: [\"* > x/a\"]}"),
            "\"* > x/a\" changes nothing",
        ),
        (
            probe("{on: 80/TCP, default: deny, deny: [\"* > x/a\"]}"),
            "changes nothing",
        ),
        (
            probe("{on: 80/TCP, default: allow, deny: [\"y/b > x/a\"], allow: [\"y/b > x/a\"]}"),
            "changes nothing",
        ),
        (
            probe("{on: 80/TCP, default: allow, deny: [\"* > x/d\"]}"),
            "is not FROM > TO",
        ),
        (
            probe("{on: 80/TCP, default: allow, deny: [\"*/* > x/a\"]}"),
            "is not FROM > TO",
        ),
        (
            probe("{on: 80/TCP, default: allow, deny: [\"x/a\"]}"),
            "is not FROM > TO",
        ),
        (probe("{on: 80/TCP, default: allow, deny: []}"), "is empty"),
        (probe("{on: 80/TCP}"), "has no `default`"),
        (probe("{on: 80/ICMP, default: allow}"), "is no port"),
        (
            probe("{on: 80/TCP, default: allow, denied: [\"* > x/a\"]}"),
            "has no key `denied`",
        ),
        (
            probe("{on: 80/TCP, default: allow}, {on: 80/TCP, default: deny}"),
            "probed twice",
        ),
        (steps("delete: [NetworkPolicy x/p]"), "there is no"),
        (steps("labels: {w: {a: b}}"), "nobody is called"),
        (steps("apply: \"kind: Nothing\\n\""), "a manifest"),
        (
            steps("apply: \"apiVersion: v1\\nkind: Pod\\nmetadata: {name: p}\\n\""),
            "is given already",
        ),
        (
            steps(&format!("apply: \"{policy}---\\n{policy}\"")),
            "applied twice",
        ),
        ("source: s\nsteps: []\n".into(), "is empty"),
        (
            "source: s\nsteps: [{say: t, expect: []}]\n".into(),
            "is empty",
        ),
        ("steps: [\n".into(), "does not parse"),
    ] {
        let problems = Case::read("bad.yaml", &text).expect_err(&text);
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|s| s.contains(reason)), "{text}: {said:?}");
    }
    let unenforced = steps(&format!(
        "apply: \"{}\"",
        policy.replace("podSelector", "podSelektor")
    ));
    let case = Case::read("unenforced.yaml", &unenforced).unwrap();
    assert!(run(&case).unwrap_err().contains("podSelektor"));
}
