//! `farlane explain`.

mod batch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, Socket, ask};
use crate::control::Control;
use crate::explain::{Answer, Explainer, Question};

/// Show the decision for a new flow, and each step to it
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Who begins the flow: namespace/pod, cluster/namespace/pod, or an address
    #[arg(long, value_name = "WHO", required_unless_present = "batch")]
    from: Option<String>,
    /// Whom it is for: the same, or svc:namespace/name
    #[arg(long, value_name = "WHO", required_unless_present = "batch")]
    to: Option<String>,
    /// Destination port and protocol, such as 80/TCP; ICMP has no port: ICMP
    #[arg(long, value_name = "N/PROTO", required_unless_present = "batch")]
    port: Option<String>,
    /// Ask the files of this node, without a running one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read questions from standard input, one JSON object a line, and answer each with one line
    #[arg(long, conflicts_with_all = ["from", "to", "port"])]
    batch: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Whom the questions go to.
enum Oracle {
    Files(Box<Explainer>),
    Node(PathBuf),
}

impl Explain {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let oracle = match &self.config {
            Some(file) => Oracle::Files(Box::new(read(file)?)),
            None => Oracle::Node(self.socket.socket.clone()),
        };
        if self.batch {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            batch::answer(&oracle, input, output)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (Some(from), Some(to), Some(port)) = (&self.from, &self.to, &self.port) else {
            return Err("name --from, --to and --port".into());
        };
        let (port, protocol) = parse_port(port)?;
        let question = Question {
            from: from.clone(),
            to: to.clone(),
            port,
            protocol,
        };
        let answer = oracle.ask(&question)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&answer)?);
        } else {
            print!("{}", answer.render());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Oracle {
    fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        match self {
            Oracle::Files(explainer) => Ok(explainer.answer(question)?),
            Oracle::Node(socket) => {
                let body = serde_json::to_string(question)?;
                Ok(serde_json::from_str(&ask::ask(
                    socket, "POST", "/explain", &body,
                )?)?)
            }
        }
    }
}

/// What the files of a node say, as `run` would read them.
fn read(file: &Path) -> Result<Explainer, Failure> {
    let compiled = Control::read_only(super::load(file)?)?;
    Ok(Explainer::new(compiled))
}

fn parse_port(text: &str) -> Result<(u16, String), Failure> {
    let wrong = || format!("--port {text}: write a port and a protocol, such as 80/TCP, or ICMP");
    match text.split_once('/') {
        Some((port, protocol)) => Ok((port.parse().map_err(|_| wrong())?, protocol.to_owned())),
        None if text.eq_ignore_ascii_case("icmp") => Ok((0, text.to_owned())),
        None => Err(wrong().into()),
    }
}
