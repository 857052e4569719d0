//! What is wrong with a file, in the one form that every reader of files uses.

use std::fmt;

/// A place in a file, as an editor counts: lines and characters from 1. Zero means "the file as a
/// whole".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Character within the line, from 1.
    pub column: u32,
}

/// One thing that is wrong in a file, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's path, as the reader was given it.
    pub file: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// Character within the line, from 1; 0 for the file as a whole.
    pub column: u32,
    /// What is wrong, a sentence without its full stop.
    pub message: String,
    /// What to write instead; empty when there is nothing to add.
    pub hint: String,
}

impl Problem {
    /// A problem at a place of a file.
    pub fn new(
        file: &str,
        at: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem {
            file: file.into(),
            line: at.line,
            column: at.column,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The problem with the line of `source` that it is about, and a caret under the place:
    ///
    /// ```text
    /// eu-1.yaml:3:1: unknown key `nodes`
    ///   3 | nodes: eu-1
    ///     | ^ write `node`
    /// ```
    pub fn render(&self, source: &str) -> String {
        let mut out = self.to_string();
        let line = (self.line as usize)
            .checked_sub(1)
            .and_then(|n| source.lines().nth(n));
        let Some(line) = line else {
            if !self.hint.is_empty() {
                out.push_str(&format!("\n    {}", self.hint));
            }
            return out;
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret lands below its character in any terminal.
        let indent: String = line
            .chars()
            .take((self.column as usize).saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        out.push_str(&format!("\n  {number} | {line}\n  {gutter} | {indent}^"));
        if !self.hint.is_empty() {
            out.push(' ');
            out.push_str(&self.hint);
        }
        out
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            let Problem {
                file, line, column, ..
            } = self;
            write!(f, "{file}:{line}:{column}: {}", self.message)
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_points_at_its_column() {
        let at = Place { line: 2, column: 7 };
        let problem = Problem::new("a.yaml", at, "unknown key `b`", "write `c`");
        assert_eq!(
            problem.render("first\n  a: {b: 1}\n"),
            "a.yaml:2:7: unknown key `b`\n  2 |   a: {b: 1}\n    |       ^ write `c`"
        );
    }

    #[test]
    fn a_problem_of_the_whole_file_has_no_line() {
        let problem = Problem::new("a.yaml", Place::default(), "no such file", "make it");
        assert_eq!(problem.render(""), "a.yaml: no such file\n    make it");
    }
}
