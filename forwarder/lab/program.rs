//! A program that the lab started: in a namespace or beside, ended by its own id, its output read
//! while it runs.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::LabError;
use super::interrupt::Interrupt;

/// So long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a program's output goes.
pub(crate) enum Output<'a> {
    /// To a file, standard error too.
    File(&'a Path),
    /// To this process, which reads it all along, so that no pipe gets full.
    Read,
}

/// A running program; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: String,
    out: Reader,
    error: Reader,
    /// Where its output goes instead.
    log: Option<PathBuf>,
}

impl Program {
    /// Starts it in a process group of its own: Ctrl-C in a terminal is for the lab, which ends its
    /// programs in order.
    ///
    /// # Errors
    /// [`LabError::Step`] where it cannot be started.
    pub(crate) fn start(command: &mut Command, output: Output<'_>) -> Result<Program, LabError> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let name = shorten(words.map(|word| word.to_string_lossy()));
        let failed = |error: std::io::Error| LabError::step(name.clone(), error);
        command.stdin(Stdio::null()).process_group(0);
        let log = match output {
            Output::File(path) => {
                let file = File::create(path).map_err(|error| LabError::file(path, error))?;
                command.stdout(file.try_clone().map_err(failed)?);
                command.stderr(file);
                Some(path.to_owned())
            }
            Output::Read => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
        };
        let mut child = command.spawn().map_err(failed)?;
        let out = Reader::of(child.stdout.take());
        let error = Reader::of(child.stderr.take());
        Ok(Program {
            child,
            name,
            out,
            error,
            log,
        })
    }

    /// Its process id: `ip netns exec` becomes the program.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs still.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it has printed this so far.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.out.text().contains(text)
    }

    /// Waits for its end, and returns its standard output, whatever its exit code.
    ///
    /// # Errors
    /// [`LabError::Step`] when its time is up; [`LabError::Interrupted`].
    pub(crate) fn finish(
        mut self,
        interrupt: &Interrupt,
        within: Duration,
    ) -> Result<(ExitStatus, String, String), LabError> {
        let mut ended = None;
        interrupt.eventually(within, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        })?;
        let Some(status) = ended else {
            let seconds = within.as_secs();
            let said = format!("not done after {seconds} s");
            return Err(LabError::step(self.name.clone(), said));
        };
        Ok((status, self.out.join(), self.error.join()))
    }

    /// What it has said so far, or the end of its log: for an error.
    pub(crate) fn last_words(&self) -> String {
        let text = match &self.log {
            Some(path) => std::fs::read_to_string(path).unwrap_or_default(),
            None => self.out.text() + &self.error.text(),
        };
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Ends it: SIGTERM, and after three seconds SIGKILL.
    pub(crate) fn stop(&mut self) {
        if !self.runs() {
            return;
        }
        // Not waited for yet, so that the id is still its own.
        let _ = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .stderr(Stdio::null())
            .status();
        // Not to be interrupted.
        let ended = Interrupt::default().eventually(PATIENCE, || !self.runs());
        if !matches!(ended, Ok(true)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Lets it go on when this process ends.
    pub(crate) fn let_go(self) {
        std::mem::forget(self);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// [`LabError::Step`] with what it said, where it fails or its time is up;
/// [`LabError::Interrupted`].
pub(crate) fn run(
    command: &mut Command,
    interrupt: &Interrupt,
    within: Duration,
) -> Result<String, LabError> {
    let program = Program::start(command, Output::Read)?;
    let name = program.name.clone();
    let (status, out, error) = program.finish(interrupt, within)?;
    match status.success() {
        true => Ok(out),
        false => Err(LabError::step(
            name,
            if error.is_empty() { out } else { error },
        )),
    }
}

/// A command's words as an error names it: without the way into the namespace, and not too long.
fn shorten<'a>(words: impl Iterator<Item = std::borrow::Cow<'a, str>>) -> String {
    let words: Vec<String> = words.map(|word| word.into_owned()).collect();
    let words = match words.as_slice() {
        [ip, netns, exec, _, rest @ ..] if ip == "ip" && netns == "netns" && exec == "exec" => rest,
        all => all,
    };
    let text = words.join(" ");
    match text.char_indices().nth(60) {
        Some((at, _)) => text[..at].split('\n').next().unwrap_or("").to_owned() + "...",
        None => text,
    }
}

/// Reads one end of a pipe in a thread of its own.
#[derive(Debug, Default)]
struct Reader {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Reader {
        let Some(mut pipe) = pipe else {
            return Reader::default();
        };
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut chunk = [0; 16_384];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                if let Ok(mut text) = into.lock() {
                    text.extend_from_slice(&chunk[..length]);
                }
            }
        });
        Reader {
            text,
            thread: Some(thread),
        }
    }

    fn text(&self) -> String {
        let text = self.text.lock();
        text.map_or(String::new(), |text| {
            String::from_utf8_lossy(&text).into_owned()
        })
    }

    /// All of it, once the other end is closed.
    fn join(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_pipe_holds_is_read_while_the_program_runs() {
        let mut command = Command::new("head");
        command.args(["-c", "1000000", "/dev/zero"]);
        let text = run(&mut command, &Interrupt::default(), Duration::from_secs(20)).unwrap();
        assert_eq!(text.len(), 1_000_000);
    }

    #[test]
    fn a_program_that_fails_is_named_with_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = run(&mut command, &Interrupt::default(), Duration::from_secs(20));
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("no such thing"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let mut command = Command::new("sleep");
        let program = Program::start(command.arg("1000"), Output::Read).unwrap();
        let pid = program.pid();
        let late = program.finish(&Interrupt::default(), Duration::from_millis(50));
        assert!(late.unwrap_err().to_string().contains("not done"));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
