//! Many questions at once: JSON lines in, JSON lines out.

use serde::{Deserialize, Serialize};

use super::Explainer;

/// The longest batch that a node takes in one request, in bytes. So long is a line at most.
pub const BATCH_BYTES: usize = 64 << 10;

/// A batch gets no further answer when its answers are this long, in bytes: one of a service with
/// many backends is long, and nobody is to hold thousands of them.
const ANSWERS_BYTES: usize = 1 << 20;

/// Why a line of a batch has no answer, and so none of those behind it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Unanswered {
    /// Its number within the batch, from 1; empty lines count.
    pub line: usize,
    /// One sentence.
    pub error: String,
}

impl Explainer {
    /// Answers questions, one JSON object a line, each by one line behind what is in `answers`.
    /// Lines with nothing on them are passed over. Returns how many bytes of `lines` were answered:
    /// not all, if the answers are long; at least a line's.
    ///
    /// # Errors
    /// The first line that has no answer; those before it have theirs.
    pub fn answer_lines(&self, lines: &[u8], answers: &mut Vec<u8>) -> Result<usize, Unanswered> {
        let (begin, mut read) = (answers.len(), 0);
        for (number, line) in (1..).zip(lines.split_inclusive(|byte| *byte == b'\n')) {
            if answers.len() - begin >= ANSWERS_BYTES {
                break;
            }
            read += line.len();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let unanswered = |error| Unanswered {
                line: number,
                error,
            };
            let question = serde_json::from_slice(line).map_err(|e| unanswered(misread(&e)))?;
            let answer = self.answer(&question).map_err(unanswered)?;
            write_line(&answer, answers);
        }
        Ok(read)
    }

    /// The same as one body: behind the answers, the line that has none as JSON.
    pub(crate) fn answer_body(&self, lines: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        if let Err(unanswered) = self.answer_lines(lines, &mut answers) {
            write_line(&unanswered, &mut answers);
        }
        answers
    }
}

impl Unanswered {
    /// What a line of a body says, if it is no answer.
    pub(crate) fn read(line: &[u8]) -> Option<Unanswered> {
        let is_answer = line.starts_with(b"{\"verdict\":");
        (!is_answer).then(|| serde_json::from_slice(line).ok())?
    }
}

fn write_line(value: &impl Serialize, to: &mut Vec<u8>) {
    // Strings and numbers only, into memory: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut *to, value);
    to.push(b'\n');
}

/// What is wrong with a line. Each is parsed by itself, so that its number there is always 1.
fn misread(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what}, at column {}", error.column()),
        None => text,
    }
}
