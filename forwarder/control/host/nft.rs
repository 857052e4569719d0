//! The program `nft`: scripts in, counters out.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::{Counters, HostError};

/// Where distributions put it, for those whose `PATH` lacks the system's directories.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Runs a script as one transaction.
pub(super) fn run(script: &str) -> Result<(), HostError> {
    if script.is_empty() {
        return Ok(());
    }
    call(&["-f", "-"], script).map(|_| ())
}

/// Whether the table is there.
pub(super) fn table_exists() -> Result<bool, HostError> {
    match call(&["list", "counters", "table", "inet", "farlane"], "") {
        Ok(_) => Ok(true),
        Err(HostError::Nft(text)) if text.contains("No such file") => Ok(false),
        Err(error) => Err(error),
    }
}

/// The counters of the table.
pub(super) fn counters() -> Result<Counters, HostError> {
    let text = call(&["-j", "list", "counters", "table", "inet", "farlane"], "")?;
    Ok(read_counters(&text))
}

/// The answer of `nft ARGUMENTS`.
pub(super) fn call(arguments: &[&str], input: &str) -> Result<String, HostError> {
    let output = spawn(&PROGRAMS, arguments, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") {
        return Err(HostError::Rights);
    }
    let first = said.lines().next().unwrap_or("no reason given");
    Err(HostError::Nft(first.trim().to_owned()))
}

fn spawn(programs: &[&str], arguments: &[&str], input: &str) -> Result<Output, HostError> {
    for program in programs {
        let child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(HostError::Nft(error.to_string())),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // nft that gives up early closes the pipe, and says why on standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        return child
            .wait_with_output()
            .map_err(|error| HostError::Nft(error.to_string()));
    }
    Err(HostError::NoNft)
}

fn read_counters(json: &str) -> Counters {
    let mut counters = Counters::default();
    let Ok(document) = serde_json::from_str::<serde_json::Value>(json) else {
        return counters;
    };
    for object in document["nftables"].as_array().into_iter().flatten() {
        let packets = object["counter"]["packets"].as_u64().unwrap_or(0);
        match object["counter"]["name"].as_str() {
            Some("spoofed") => counters.spoofed = packets,
            Some("foreign") => counters.foreign = packets,
            Some("clear") => counters.clear = packets,
            _ => {}
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_nft_is_told_what_to_install() {
        let error = spawn(&["/nowhere/nft", "/nowhere/else/nft"], &[], "").unwrap_err();
        assert!(
            error.to_string().contains("install the package nftables"),
            "{error}"
        );
    }

    #[test]
    fn counters_are_read_from_what_nft_prints() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "spoofed", "table": "farlane", "packets": 3, "bytes": 252}},
            {"counter": {"family": "inet", "name": "clear", "table": "farlane", "packets": 1, "bytes": 84}}]}"#;
        assert_eq!(
            read_counters(json),
            Counters {
                spoofed: 3,
                foreign: 0,
                clear: 1
            }
        );
        assert_eq!(read_counters("not json"), Counters::default());
    }
}
