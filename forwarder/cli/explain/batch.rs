//! Questions from a stream: those that are there are answered before more is waited for, so that
//! a file goes by in large pieces, and who asks one and waits for its answer gets it.

use std::io::{ErrorKind, Read, Write};

use super::Oracle;
use crate::cli::{Failure, ask};
use crate::explain::{BATCH_BYTES, Unanswered};

/// Answers all of `input`, or until a line has no answer.
pub(super) fn answer(
    oracle: &Oracle,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<(), Failure> {
    let mut waiting = Waiting::default();
    while waiting.fill(&mut input)? {
        let mut answers = Vec::new();
        while !waiting.whole().is_empty() {
            answers.clear();
            let outcome = oracle.answer_lines(waiting.whole(), &mut answers);
            // Whatever comes of this line, what was answered before it is not lost.
            output.write_all(&answers)?;
            output.flush()?;
            match outcome? {
                Ok(read) => waiting.take(read),
                Err(Unanswered { line, error }) => {
                    return Err(format!("line {}: {error}", waiting.lines + line).into());
                }
            }
        }
        if waiting.is_full() {
            let line = waiting.lines + 1;
            return Err(format!("line {line}: longer than {BATCH_BYTES} bytes").into());
        }
    }
    Ok(())
}

impl Oracle {
    /// How many bytes of these lines were answered, or the first that has no answer.
    fn answer_lines(
        &self,
        lines: &[u8],
        answers: &mut Vec<u8>,
    ) -> Result<Result<usize, Unanswered>, Failure> {
        match self {
            Oracle::Files(explainer) => Ok(explainer.answer_lines(lines, answers)),
            Oracle::Node(socket) => {
                // What is not UTF-8 is replaced, and is nobody's name.
                let body = String::from_utf8_lossy(lines);
                let said = ask::ask(socket, "POST", "/explain/batch", &body)?;
                said_of(lines, said.as_bytes(), answers)
            }
        }
    }
}

/// Reads a node's body: its answers, and what it says of the line that has none.
fn said_of(
    lines: &[u8],
    body: &[u8],
    answers: &mut Vec<u8>,
) -> Result<Result<usize, Unanswered>, Failure> {
    let mut count = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if let Some(unanswered) = Unanswered::read(line) {
            return Ok(Err(unanswered));
        }
        answers.extend_from_slice(line);
        count += 1;
    }
    let mut read = 0;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if !line.trim_ascii().is_empty() {
            if count == 0 {
                break;
            }
            count -= 1;
        }
        read += line.len();
    }
    match read {
        0 => Err("the node answers nothing".into()),
        _ => Ok(Ok(read)),
    }
}

/// What has come and is not answered yet.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of `bytes` are whole lines, from the first on.
    whole: usize,
    /// How many lines were taken.
    lines: usize,
}

impl Waiting {
    /// Waits for more, and takes what has come; false when there is no more.
    fn fill(&mut self, input: &mut impl Read) -> std::io::Result<bool> {
        let before = self.bytes.len();
        self.bytes.resize(BATCH_BYTES, 0);
        let came = loop {
            match input.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.bytes.truncate(before + came);
        if came == 0 {
            // The last line may have no end.
            self.whole = self.bytes.len();
            return Ok(self.whole > 0);
        }
        let last = self.bytes.iter().rposition(|byte| *byte == b'\n');
        self.whole = last.map_or(0, |end| end + 1);
        Ok(true)
    }

    fn whole(&self) -> &[u8] {
        &self.bytes[..self.whole]
    }

    /// Takes lines away from the front.
    fn take(&mut self, read: usize) {
        let lines = self.bytes[..read].split_inclusive(|byte| *byte == b'\n');
        self.lines += lines.count();
        self.bytes.drain(..read);
        self.whole -= read;
    }

    fn is_full(&self) -> bool {
        self.bytes.len() == BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::control::{AskedOfControl, Control, Socket};
    use crate::explain::Explainer;
    use crate::flows::Board;

    const GOOD: &str = r#"{"from":"shop/front","to":"shop/orders-0","port":8080}"#;

    fn example() -> Explainer {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/eu-1.yaml");
        let config = config::Config::load(&file).expect("the example is right");
        Explainer::new(Control::read_only(config).expect("its manifests are right"))
    }

    /// A node's socket, with a control that knows the example only.
    fn serve(path: PathBuf, until: tokio::sync::oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let (requests, mut requested) = mpsc::channel(1);
            let board = Arc::new(Board::new("eu-1", BTreeMap::new(), 0));
            let socket = Socket::listen(&path, requests, board).expect("a socket");
            let explainer = Arc::new(example());
            let control = async {
                while let Some(request) = requested.recv().await {
                    if let AskedOfControl::Explain(answer) = request {
                        let _ = answer.send(Arc::clone(&explainer));
                    }
                }
            };
            tokio::select! {
                () = control => {}
                _ = until => {}
            }
            drop(socket);
        });
    }

    fn outcome(oracle: &Oracle, lines: &str) -> (Vec<u8>, Option<String>) {
        let mut output = Vec::new();
        let outcome = answer(oracle, lines.as_bytes(), &mut output);
        (output, outcome.err().map(|failure| failure.to_string()))
    }

    #[test]
    fn a_node_answers_a_batch_as_its_files_do() {
        let path = std::env::temp_dir().join(format!("farlane-batch-{}", std::process::id()));
        let (end, until) = tokio::sync::oneshot::channel();
        let node = {
            let path = path.clone();
            std::thread::spawn(move || serve(path, until))
        };
        for _ in 0..500 {
            if path.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let (files, node_socket) = (Oracle::Files(Box::new(example())), Oracle::Node(path));
        // More lines than one request holds; more answers than one body holds; bad ones.
        let many = format!("{GOOD}\n\n").repeat(5_000);
        let bad = format!("{many}{}\n{GOOD}\n", GOOD.replace("front", "nobody"));
        for lines in ["", "\n\n", GOOD, &many, &bad, "nonsense"] {
            let (of_files, of_node) = (outcome(&files, lines), outcome(&node_socket, lines));
            assert!(of_files == of_node, "{:?} {:?}", of_files.1, of_node.1);
        }
        let (answers, error) = outcome(&node_socket, &bad);
        assert_eq!(answers.iter().filter(|byte| **byte == b'\n').count(), 5_000);
        assert!(error.is_some_and(|error| error.starts_with("line 10001: nobody is called")));
        end.send(()).expect("it runs still");
        node.join().expect("it ends");
    }
}
