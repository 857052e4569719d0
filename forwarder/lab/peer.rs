//! Whose tunnel is measured: ours, each program of others that is found, and the kernel's plain
//! forwarding, which is what two cores can carry at most.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::LabError;
use super::interrupt::Interrupt;
use super::program;

/// What ratios are against where nothing else is asked for.
pub(crate) const REFERENCE: &str = "wireguard-go";
/// The kernel's forwarding.
pub(crate) const PLAIN: &str = "plain";
/// `farlane run`.
pub(crate) const NODE: &str = "farlane run";
/// `farlane wireguard`.
pub(crate) const DEVICE: &str = "farlane wg";

/// So long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a peer is started and given its keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Not at all: both nodes only forward.
    Plain,
    /// `farlane run`, with identities, a policy, and a service that the client asks.
    Node,
    /// A program that makes a WireGuard interface and stays in the foreground, with these words
    /// before the interface's name; wg(8) does the rest.
    Wireguard(&'static [&'static str]),
    /// nebula, with certificates.
    Nebula,
}

/// One of those that are measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    /// What it is called in the report.
    pub(crate) name: String,
    /// How it is started.
    pub(crate) kind: Kind,
    /// The program; of plain forwarding there is none.
    pub(crate) program: PathBuf,
}

/// Programs that the lab knows: by which names they come, and how each is called in a report.
const KNOWN: [(&str, &[&str], Kind); 5] = [
    ("wireguard-go", &["wireguard-go"], Kind::Wireguard(&["-f"])),
    (
        "boringtun",
        &["boringtun-cli", "boringtun"],
        Kind::Wireguard(&["-f", "--disable-drop-privileges"]),
    ),
    (
        "gotatun",
        &["gotatun", "gotatun-cli"],
        Kind::Wireguard(&["-f", "--disable-drop-privileges"]),
    ),
    ("nebula", &["nebula"], Kind::Nebula),
    ("farlane", &["farlane"], OWN_DEVICE),
];

const OWN_DEVICE: Kind = Kind::Wireguard(&["wireguard", "--foreground"]);

impl Peer {
    /// Those to measure, in the order of a round: ours, the given ones, what is on the PATH, plain
    /// forwarding. A given one takes the place of one that is found by the same name.
    ///
    /// # Errors
    /// [`LabError::Asked`] where a given one is not a program.
    pub(crate) fn all(farlane: &Path, given: &[String]) -> Result<Vec<Peer>, LabError> {
        let ours = |name: &str, kind| Peer {
            name: name.into(),
            kind,
            program: farlane.to_owned(),
        };
        let mut peers = vec![ours(NODE, Kind::Node), ours(DEVICE, OWN_DEVICE)];
        for text in given {
            let peer = Peer::parse(text)?;
            if peers.iter().any(|known| known.name == peer.name) || peer.name == PLAIN {
                return Err(LabError::Asked(format!(
                    "--peer {text}: there is a {} already",
                    peer.name
                )));
            }
            peers.push(peer);
        }
        for (name, programs, kind) in &KNOWN[..KNOWN.len() - 1] {
            let found = programs.iter().find_map(|program| on_path(program));
            if let Some(program) = found.filter(|_| peers.iter().all(|peer| peer.name != *name)) {
                peers.push(Peer {
                    name: (*name).into(),
                    kind: *kind,
                    program,
                });
            }
        }
        peers.push(Peer {
            name: PLAIN.into(),
            kind: Kind::Plain,
            program: PathBuf::new(),
        });
        Ok(peers)
    }

    /// `NAME=PATH`. How it is started follows from the program's own name, else from NAME; one of
    /// which neither is known is called as `PATH IFNAME`.
    fn parse(text: &str) -> Result<Peer, LabError> {
        let wrong = |why: &str| {
            LabError::Asked(format!(
                "--peer {text}: {why}; write NAME=PATH, such as wireguard-go=/opt/wireguard-go"
            ))
        };
        let (name, path) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
        if name.is_empty() || name.chars().count() > 12 || name.chars().any(char::is_control) {
            return Err(wrong("a name has 1 to 12 characters"));
        }
        let program = PathBuf::from(path);
        let program = program
            .canonicalize()
            .map_err(|error| wrong(&format!("{path}: {error}")))?;
        if !is_program(&program) {
            return Err(wrong(&format!("{path} is not a program")));
        }
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        let kind = kind_of(&file).or_else(|| kind_of(name));
        Ok(Peer {
            name: name.to_owned(),
            kind: kind.unwrap_or(Kind::Wireguard(&[])),
            program,
        })
    }

    /// Bytes that a pod's link may carry, so that what the peer adds fits the underlay's 1,500.
    pub(crate) fn pod_mtu(&self) -> u16 {
        match self.kind {
            Kind::Plain => 1_500,
            Kind::Node | Kind::Wireguard(_) => 1_420,
            Kind::Nebula => 1_300,
        }
    }

    /// Bytes of the largest UDP payload that is measured: the 1,372, or what fits.
    pub(crate) fn large_datagram(&self) -> usize {
        match self.kind {
            Kind::Nebula => 1_250,
            _ => 1_372,
        }
    }

    /// What the program says of its version, in one line.
    ///
    /// # Errors
    /// [`LabError::Interrupted`].
    pub(crate) fn version(&self, interrupt: &Interrupt) -> Result<String, LabError> {
        let flag = match self.kind {
            Kind::Plain => return Ok(super::machine::Machine::read().kernel),
            // One that is called as PATH IFNAME might make an interface of that name.
            Kind::Wireguard(&[]) => return Ok("unknown".into()),
            Kind::Nebula => "-version",
            Kind::Node | Kind::Wireguard(_) => "--version",
        };
        let mut command = Command::new(&self.program);
        let text = match program::run(command.arg(flag), interrupt, PATIENCE) {
            Err(LabError::Interrupted) => return Err(LabError::Interrupted),
            said => said.unwrap_or_default(),
        };
        let line = text.lines().find(|line| !line.trim().is_empty());
        Ok(line.map_or("unknown".into(), |line| {
            line.trim().chars().take(80).collect()
        }))
    }
}

fn kind_of(name: &str) -> Option<Kind> {
    let known = KNOWN.iter();
    let mut known =
        known.filter(|(_, programs, _)| programs.iter().any(|one| name.starts_with(one)));
    known.next().map(|(_, _, kind)| *kind)
}

/// The first program of this name on the PATH, or where administration programs are.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&path).chain(more);
    all.find_map(|folder| Some(folder.join(name)).filter(|path| is_program(path)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let metadata = path.metadata();
    metadata.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_given_by_name_and_path_and_known_by_its_program_or_its_name() {
        let peer = Peer::parse("mine=/bin/sh").unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.kind),
            ("mine", Kind::Wireguard(&[]))
        );
        let peer = Peer::parse("wireguard-go=/bin/sh").unwrap();
        assert_eq!(peer.kind, Kind::Wireguard(&["-f"]));
        assert_eq!(kind_of("farlane-old"), Some(OWN_DEVICE));
        assert_eq!(kind_of("nebula"), Some(Kind::Nebula));
    }

    #[test]
    fn a_peer_that_is_no_program_is_refused_with_what_to_write() {
        for text in [
            "wireguard-go",
            "=/bin/sh",
            "x=/no/such/file",
            "x=/etc/passwd",
            "x=/tmp",
        ] {
            let error = Peer::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("write NAME=PATH"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_given_peer_takes_the_place_of_the_one_that_is_found() {
        let given = ["wireguard-go=/bin/sh".to_owned()];
        let peers = Peer::all(Path::new("/bin/true"), &given).unwrap();
        let go: Vec<&Peer> = peers.iter().filter(|peer| peer.name == REFERENCE).collect();
        assert_eq!(go.len(), 1);
        assert_eq!(go[0].program, Path::new("/bin/sh").canonicalize().unwrap());
        assert_eq!(
            (peers[0].kind, peers[peers.len() - 1].kind),
            (Kind::Node, Kind::Plain)
        );
        let twice = ["plain=/bin/sh".to_owned()];
        assert!(Peer::all(Path::new("/bin/true"), &twice).is_err());
    }
}
