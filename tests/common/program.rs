//! Programs that a test runs: to their end within a bound, or beside it until dropped.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code 0 within the bound.
    pub(crate) ok: bool,
    /// The exit code; nothing when a signal ended it, 124 when its time was up.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

/// Runs a command to its end; after the bound it is ended, and its code is 124.
pub(crate) fn bounded(bound: Duration, command: &mut Command) -> Output {
    let mut timed = Command::new("timeout");
    timed
        .args(["--kill-after", "2", &bound.as_secs_f64().to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let output = timed.output().expect("timeout of coreutils starts");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = out.clone() + &String::from_utf8_lossy(&output.stderr);
    Output {
        ok: output.status.success(),
        code: output.status.code(),
        out,
        text,
    }
}

/// Runs a client of an iperf3 server, again while that is not done with the one before: it listens anew
/// after each, and until then refuses or resets the next, or says that it is busy.
pub(crate) fn served(client: impl Fn() -> Output) -> Output {
    let mut output = client();
    super::eventually(Duration::from_secs(10), || {
        let said = ["Connection refused", "Connection reset", "server is busy"];
        let refused = said.iter().any(|said| output.text.contains(said));
        if refused {
            output = client();
        }
        !refused
    });
    output
}

/// A running program; dropped, it is ended.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts a command with all its output going to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Program {
        let file = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Program { child }
    }

    /// Its process id: `ip netns exec` becomes the program.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `STOP`, `CONT`, `HUP`, `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Whether it runs still.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; its exit code, or nothing after a signal. Panics when the time is up.
    pub(crate) fn wait(&mut self, bound: Duration) -> Option<i32> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the program ends in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end (SIGTERM), and waits 10 s for its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
