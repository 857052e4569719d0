//! The kernel's half: a network namespace with nftables, and the program in it that gives it packets.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::bounded;
use crate::{Came, Side};

/// The namespace with its program; dropped, both are gone.
pub(crate) struct Kernel {
    _namespace: Namespace,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = bounded(Duration::from_secs(10), Command::new("ip").args(arguments));
    output.ok
}

impl Kernel {
    /// Makes the namespace and waits until it forwards.
    pub(crate) fn start() -> Kernel {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fo{:x}x{number}", std::process::id());
        assert!(ip(&["netns", "add", &name]), "a network namespace");
        let namespace = Namespace(name);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nat_oracle/");
        // `timeout`, so that the program ends even if the test is killed; it ends with its input, too.
        let mut child = Command::new("timeout")
            .args(["--kill-after", "2", "300"])
            .args(["ip", "netns", "exec", &namespace.0, "python3"])
            .args([format!("{folder}kernel.py"), format!("{folder}rules.nft")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("timeout of coreutils starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut kernel = Kernel {
            _namespace: namespace,
            child,
            stdin,
            stdout,
        };
        assert_eq!(kernel.line(), "ready");
        kernel
    }

    /// Gives it a packet by one side; what leaves it, and by which side.
    pub(crate) fn send(&mut self, side: Side, packet: &[u8]) -> Vec<Came> {
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        let stdin = self.stdin.as_mut().expect("it runs");
        writeln!(stdin, "{} {hex}", side.name()).expect("it reads");
        let mut came = Vec::new();
        loop {
            let line = self.line();
            let Some((side, hex)) = line.split_once(' ') else {
                assert_eq!(line, ".", "the end of an answer");
                return came;
            };
            let digits = hex.as_bytes().chunks(2);
            let bytes = digits.map(|pair| {
                let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
                u8::from_str_radix(pair, 16).expect("hexadecimal digits")
            });
            came.push(Came {
                side: Side::of_name(side),
                bytes: bytes.collect(),
            });
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes text");
        assert!(
            line.ends_with('\n'),
            "the program in the namespace has ended: {line}"
        );
        line.trim_end().to_owned()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // It ends with its input, and the namespace is free.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
