//! Thousands of meshes, each from its seed: `SIM_SEED=7 cargo test -p sim one_seed -- --nocapture`
//! runs one again, and with `SIM_TRACE=1` shows every packet.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use sim::fault::ALL;
use sim::script::{Report, run};

/// Seeds of one test: there are eight of them, so that they can run side by side.
const SEEDS: u64 = 256;

/// Runs seeds, all of them even if some fail, and adds up what came of them.
fn run_all(seeds: std::ops::Range<u64>) -> Report {
    let mut sum = Report::default();
    let mut failed = Vec::new();
    for seed in seeds {
        match catch_unwind(|| run(seed)) {
            Ok(report) => {
                assert!(
                    report.seconds >= 60,
                    "seed {seed} lived {} s",
                    report.seconds
                );
                assert!(!report.faults.is_empty(), "nothing happened to seed {seed}");
                sum.add(&report);
            }
            Err(_) => {
                eprintln!(
                    "seed {seed} failed; again: SIM_SEED={seed} cargo test -p sim one_seed -- --nocapture"
                );
                failed.push(seed);
            }
        }
    }
    println!("{sum:#?}");
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
    sum
}

/// Runs one eighth of the suite, and sees that it has shown something.
fn eighth(number: u64) {
    let sum = run_all(number * SEEDS..(number + 1) * SEEDS);
    for fault in ALL {
        assert!(sum.faults.contains_key(fault.name()), "no {fault:?}");
    }
    let counts = [
        ("answered", sum.answered),
        ("unanswered", sum.unanswered),
        ("served", sum.served),
        ("arrived", sum.arrived),
        ("denied", sum.denied),
        ("attacked", sum.attacked),
        ("in order", sum.in_order),
        ("crossed", sum.crossed),
    ];
    for (name, count) in counts {
        assert!(count > 10 * SEEDS, "{name}: {count}");
    }
    assert!(sum.swallowed > SEEDS / 4, "swallowed: {}", sum.swallowed);
    assert!(sum.resets > SEEDS / 32, "resets: {}", sum.resets);
    assert!(sum.fell_back > SEEDS, "fell back: {}", sum.fell_back);
    assert!(sum.came_back > SEEDS, "came back: {}", sum.came_back);
    for reason in [
        "egressDenied",
        "ingressDenied",
        "policyRefused",
        "noBackend",
        "noServicePort",
        "replayed",
        "dataForged",
        "initiationReplayed",
        "ringFull",
    ] {
        assert!(
            sum.drops.get(reason) > Some(&10),
            "{reason}: {:?}",
            sum.drops
        );
    }
}

#[test]
fn one_seed() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let seed = number("SIM_SEED").unwrap_or(u64::MAX / 2);
    run_all(seed..seed + number("SIM_COUNT").unwrap_or(1));
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let reports: Vec<BTreeMap<&str, u64>> = (0..2).map(|_| run(12).drops).collect();
    assert_eq!(reports[0], reports[1]);
}

macro_rules! eighths {
    ($($name:ident = $number:literal;)+) => {
        $(
            #[test]
            fn $name() {
                eighth($number);
            }
        )+
    };
}

eighths! {
    what_is_reached_is_what_may_be_reached_in_eighth_0 = 0;
    what_is_reached_is_what_may_be_reached_in_eighth_1 = 1;
    what_is_reached_is_what_may_be_reached_in_eighth_2 = 2;
    what_is_reached_is_what_may_be_reached_in_eighth_3 = 3;
    what_is_reached_is_what_may_be_reached_in_eighth_4 = 4;
    what_is_reached_is_what_may_be_reached_in_eighth_5 = 5;
    what_is_reached_is_what_may_be_reached_in_eighth_6 = 6;
    what_is_reached_is_what_may_be_reached_in_eighth_7 = 7;
}
