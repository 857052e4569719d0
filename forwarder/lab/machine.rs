//! What figures depend on: this machine, its clock, and what /proc says of a process.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::dates;

/// What a report says of the machine it was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// As /proc/cpuinfo names it.
    pub(crate) processor: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
}

impl Machine {
    pub(crate) fn read() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned());
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: field_kib(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) / 1_024,
        }
    }

    /// In one line.
    pub(crate) fn describe(&self) -> String {
        let Machine {
            cores,
            processor,
            kernel,
            memory_mib,
        } = self;
        format!("{cores} cores of {processor}, {memory_mib} MiB, Linux {kernel}")
    }
}

/// CPU seconds of a process so far, user and system time of all its threads (proc_pid_stat(5)).
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat_field(&stat, 14)? + stat_field(&stat, 15)?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// CPU seconds of a process by the scheduler's own account, in nanoseconds and not in ticks: for
/// what hardly works at all. Threads that have ended are not in it.
pub(crate) fn scheduled_seconds(pid: u32) -> Option<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(nanoseconds.sum::<u64>() as f64 / 1e9)
}

/// Resident memory of a process in MiB: now, and at most so far.
pub(crate) fn memory_mib(pid: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mib = |name| field_kib(&status, name).map(|kib| kib as f64 / 1_024.0);
    Some((mib("VmRSS:")?, mib("VmHWM:")?))
}

/// When a process was started, in clock ticks after boot; nothing where there is none.
pub(crate) fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_field(&stat, 22)
}

/// The time in RFC 3339, UTC.
pub(crate) fn now() -> String {
    dates::seconds(driver::now().unix_ns / 1_000_000_000)
}

/// USER_HZ, which is 100 on every architecture that Rust's standard library runs on (Linux
/// `include/asm-generic/param.h`; Alpha and IA-64 differ).
const TICKS_PER_SECOND: f64 = 100.0;

/// One field of /proc/PID/stat by its number in the manual page. The second is a name in
/// parentheses that may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 777 0";
        assert_eq!(stat_field(stat, 14), Some(50));
        assert_eq!(stat_field(stat, 15), Some(60));
        assert_eq!(stat_field(stat, 22), Some(777));
    }

    #[test]
    fn this_process_has_memory_and_a_start() {
        let own = std::process::id();
        let (now, most) = memory_mib(own).unwrap();
        assert!(now > 0.1 && most >= now);
        assert!(started_ticks(own).is_some() && started_ticks(u32::MAX).is_none());
        assert!(scheduled_seconds(own).unwrap() > 0.0);
    }
}
