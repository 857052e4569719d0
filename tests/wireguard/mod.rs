//! WireGuard programs under the real `wg`, each in a network of its own.
#![allow(dead_code)] // each test file uses its own part

pub(crate) mod end;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{FARLANE, Output, Program, bounded, engine, eventually};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has: `fw`, the process, a number, and what it is for.
fn unique(what: &str) -> String {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("fw{:x}{what}{number}", std::process::id())
}

/// A network namespace; dropped, it is gone with everything that runs in it.
pub(crate) struct Network {
    pub(crate) name: String,
}

impl Network {
    /// An empty one.
    pub(crate) fn new() -> Network {
        let network = Network { name: unique("n") };
        let made = bounded(
            Duration::from_secs(10),
            Command::new("ip").args(["netns", "add", &network.name]),
        );
        assert!(made.ok, "{}", made.text);
        network.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=0 \
             net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0; \
             ip link set lo up");
        network
    }

    /// Runs a program to its end, 20 s at most.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.run_for(Duration::from_secs(20), command)
    }

    /// Runs a program to its end, bounded.
    pub(crate) fn run_for(&self, bound: Duration, command: &[&str]) -> Output {
        bounded(bound, &mut self.command(command))
    }

    /// Runs a line of shell that must succeed; its standard output.
    pub(crate) fn sh(&self, line: &str) -> String {
        let output = self.run(&["sh", "-ec", line]);
        assert!(output.ok, "{line}: {}", output.text);
        output.out
    }

    /// Starts a program, with its output going to `log`.
    pub(crate) fn spawn(&self, log: &Path, command: &[&str]) -> Program {
        Program::start(&mut self.command(command), log)
    }

    /// The network by its index, as `ip link set netns` takes it.
    fn command(&self, command: &[&str]) -> Command {
        let mut program = Command::new("ip");
        program.args(["netns", "exec", &self.name]).args(command);
        program
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What detached from the test is ended by its pid, found by this network of ours.
        let pids = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).lines() {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

/// An interface's name, and where its files lie; dropped, they are gone.
pub(crate) struct Interface {
    pub(crate) name: String,
    dir: PathBuf,
}

impl Interface {
    /// A name that nobody has.
    pub(crate) fn new() -> Interface {
        let name = unique("i");
        assert!(name.len() <= 15, "IFNAMSIZ: {name}");
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        Interface { name, dir }
    }

    /// The socket that `wg` speaks to.
    pub(crate) fn socket(&self) -> PathBuf {
        Path::new("/var/run/wireguard").join(format!("{}.sock", self.name))
    }

    /// A file of this interface's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file of this interface's; its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.file(name);
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path.display().to_string()
    }

    /// Starts `farlane wireguard` in the foreground, and waits until it answers.
    pub(crate) fn serve(&self, network: &Network) -> Program {
        let (name, engine) = (&self.name, engine());
        let command = [
            FARLANE,
            "wireguard",
            "--engine",
            &engine,
            "--foreground",
            name,
        ];
        self.serve_by(network, &command)
    }

    /// Starts a program that stays in the foreground, and waits until it answers.
    pub(crate) fn serve_by(&self, network: &Network, command: &[&str]) -> Program {
        let log = self.file("log");
        let mut program = network.spawn(&log, command);
        let up = eventually(Duration::from_secs(10), || {
            // `wg` deletes a socket that is bound and does not listen yet, so it is asked later.
            !program.runs()
                || UnixStream::connect(self.socket()).is_ok()
                    && network.run(&["wg", "show", &self.name]).ok
        });
        assert!(up && program.runs(), "{command:?}: {}", self.log());
        program
    }

    /// What the program said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Sends a request as it stands; the whole reply without its last, empty line.
    pub(crate) fn request(&self, text: &str) -> Vec<String> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.take_while(|line| !line.is_empty()).collect()
    }

    /// `wg show NAME WORD`, without the line's end.
    pub(crate) fn shows(&self, network: &Network, word: &str) -> String {
        let line = format!("wg show {} {word}", self.name);
        network.sh(&line).trim_end().to_owned()
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        // A program that was killed leaves its socket.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A key pair, in base64 as `wg` writes it.
pub(crate) struct Keys {
    pub(crate) private: String,
    pub(crate) public: String,
}

impl Keys {
    /// A new pair, made by `wg`.
    pub(crate) fn new() -> Keys {
        let private = shell("wg genkey");
        let public = shell(&format!("echo {private} | wg pubkey"));
        Keys { private, public }
    }
}

/// A pre-shared key, made by `wg`.
pub(crate) fn preshared_key() -> String {
    shell("wg genpsk")
}

fn shell(line: &str) -> String {
    let output = bounded(
        Duration::from_secs(10),
        Command::new("sh").args(["-ec", line]),
    );
    assert!(output.ok, "{}", output.text);
    output.out.trim_end().to_owned()
}
