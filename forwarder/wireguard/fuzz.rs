//! The harness of `scripts/fuzz` for the cross-platform interface: any lines as requests, to a lane
//! that has no devices. `cargo test` replays `__fuzz__/request/corpus` and what once failed, and
//! then tries some random input. In an input, `@7` stands for the key of 32 bytes 7.

use std::sync::Mutex;

use bolero::check;
use datapath::{Forwarder, Outbox};
use driver::{Sent, Waker};
use packet::Now;
use tunnel::Lane;

use super::SETTINGS;
use super::interface::answer;
use super::request::hex;
use super::socket::read_request;
use crate::mailbox::{Desk, Mailbox};
use crate::no_devices::NoDevices;

/// Lines of one request: each is tried as the first that is wrong.
const LINES_MAX: usize = 16;

/// Has a fresh interface answer requests, one after the other.
fn converse(requests: &[Vec<String>]) -> Vec<String> {
    let waker = Waker::new().expect("an eventfd");
    let turn = Mutex::new(());
    let mailbox = Mailbox::new(waker.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| work(&mailbox, waker));
        let answers = requests.iter().map(|lines| {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let request = read_request(&mut format!("{text}\n").as_bytes());
            answer(&mailbox, &turn, request.expect("a whole one")).to_string()
        });
        let answers = answers.collect();
        mailbox.stop();
        answers
    })
}

/// A worker that only answers.
fn work(mailbox: &Mailbox, waker: Waker) {
    let mut engine = NoDevices::new(waker);
    let mut forwarder = Forwarder::plain(SETTINGS, Lane::unkeyed(0, [1; 32]));
    let mut out = Outbox::new(tunnel::Outbox::new(0, 64, 64), 64);
    while !mailbox.stopping() {
        let Some(question) = mailbox.take_question() else {
            std::thread::yield_now();
            continue;
        };
        question(&mut Desk {
            forwarder: &mut forwarder,
            out: &mut out,
            engine: &mut engine,
            sent: &Sent::default(),
            helpers: 0,
            sealing: 0,
            now: Now::default(),
        });
        while let Some(train) = out.tunnel.wire.pop() {
            out.tunnel.arena.put(train.buf);
        }
    }
}

/// The lines of an input, with its keys written out.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| match line.split_once('@') {
        Some((word, number)) => {
            let key = number
                .bytes()
                .fold(0_u8, |n, b| n.wrapping_mul(10).wrapping_add(b & 15));
            format!("{word}{}", &*hex(&[key; 32]))
        }
        None => line.to_owned(),
    };
    text.lines()
        .filter(|l| !l.is_empty())
        .take(LINES_MAX)
        .map(line)
        .collect()
}

fn set(lines: &[String]) -> Vec<String> {
    [&["set=1".to_owned()], lines].concat()
}

/// What an interface tells of itself after a request, and whether that was right.
fn after(lines: &[String]) -> (String, bool) {
    let get = vec!["get=1".to_owned()];
    let answers = converse(&[set(lines), get]);
    assert!(answers[0].starts_with("errno="), "{answers:?}");
    assert!(answers[1].ends_with("errno=0\n\n"), "{answers:?}");
    (answers[1].clone(), answers[0] == "errno=0\n\n")
}

#[test]
fn a_request_does_what_stands_before_its_first_error_and_what_is_told_can_be_set_again() {
    check!(name = "request")
        .with_iterations(20)
        .for_each(|bytes| {
            let lines = lines(bytes);
            let whole = converse(std::slice::from_ref(&lines));
            assert!(whole[0].ends_with("\n\n") && whole[0].contains("errno="));
            let (state, right) = after(&lines);
            if !right {
                let wrong = (1..=lines.len()).find(|end| !after(&lines[..*end]).1);
                let before = &lines[..wrong.expect("a line that is wrong") - 1];
                // A peer that was only named is made by the end of a request, which an error is not.
                if !before
                    .last()
                    .is_some_and(|line| line.starts_with("public_key"))
                {
                    assert_eq!(after(before).0, state);
                }
            }
            // What counts or happened is told and cannot be set.
            let only_told = ["errno", "rx_bytes", "tx_bytes", "last_handshake_time"];
            let told = state.lines().filter(|line| !line.is_empty());
            let told = told.filter(|line| !only_told.iter().any(|word| line.starts_with(word)));
            let told: Vec<String> = told.map(str::to_owned).collect();
            let (again, right) = after(&told);
            assert!(right, "{told:?}");
            let what_is = |state: &str| {
                let lines = state.lines().filter(|line| !line.starts_with("tx_bytes"));
                lines.collect::<Vec<_>>().join("\n")
            };
            assert_eq!(what_is(&again), what_is(&state));
        });
}
