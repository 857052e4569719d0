//! What happens now, on standard error: which peer, which measure, how far, how much time is left.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Counts planned seconds, and corrects what is left by how long the steps so far really took.
#[derive(Debug)]
pub(crate) struct Progress {
    planned: f64,
    done: f64,
    /// Planned seconds of the running step.
    running: f64,
    begun: Instant,
    /// One line that is written over, instead of a line for each step.
    over: bool,
}

impl Progress {
    /// For so many planned seconds.
    pub(crate) fn new(planned: f64) -> Progress {
        Progress {
            planned,
            done: 0.0,
            running: 0.0,
            begun: Instant::now(),
            over: std::io::stderr().is_terminal(),
        }
    }

    /// Says that a step of so many planned seconds begins.
    pub(crate) fn step(&mut self, what: &str, planned: f64) {
        self.done += self.running;
        self.running = planned;
        let took = self.begun.elapsed().as_secs_f64();
        let line = line(what, self.done, self.planned, took);
        let mut out = std::io::stderr().lock();
        let _ = match self.over {
            true => write!(out, "\r\x1b[K{line}"),
            false => writeln!(out, "{line}"),
        };
        let _ = out.flush();
    }

    /// Says something that stays.
    pub(crate) fn say(&self, what: &str) {
        let clear = if self.over { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{what}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.over {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(what: &str, done: f64, planned: f64, took: f64) -> String {
    let part = (done / planned.max(1e-9)).min(1.0);
    // The first steps say little of the machine's pace: the plan counts as one tenth of the whole.
    let pace = (took + 0.1 * planned) / (done + 0.1 * planned).max(1e-9);
    let left = (planned - done).max(0.0) * pace;
    format!("[{:>2.0} %, {} left] {what}", part * 100.0, duration(left))
}

/// Seconds for people.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 90.0 => format!("{short:.0} s"),
        long => format!("{:.0} min", long / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_the_plan_and_then_the_machine() {
        assert_eq!(line("x", 0.0, 60.0, 0.0), "[ 0 %, 60 s left] x");
        // Twice as slow as planned.
        let text = line("x", 300.0, 600.0, 600.0);
        assert!(text.starts_with("[50 %, 9 min left]"), "{text}");
        assert!(line("x", 60.0, 60.0, 61.0).starts_with("[100 %, 0 s left]"));
    }
}
