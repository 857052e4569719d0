//! From the tree to typed values, without stopping at the first mistake.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::tree::{Entry, Tree, Value};
use crate::{Place, Problem};

/// Reads one file's values and keeps what is wrong with them. Every method that expects something
/// says so where it does not find it, and gives `None`.
#[derive(Debug)]
pub struct Reader<'f> {
    file: &'f str,
    problems: Vec<Problem>,
    found: usize,
}

/// So many problems of one file are kept; of the rest only their number.
const PROBLEMS_MAX: usize = 100;

impl<'f> Reader<'f> {
    /// A reader of values that stand in `file`.
    pub fn new(file: &'f str) -> Reader<'f> {
        Reader {
            file,
            problems: Vec::new(),
            found: 0,
        }
    }

    /// Adds a problem.
    pub fn complain(&mut self, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.found += 1;
        if self.found <= PROBLEMS_MAX {
            self.problems
                .push(Problem::new(self.file, at, message, hint));
        }
    }

    /// A map's fields; `what` names the map for people, such as `` `wire` ``.
    pub fn fields<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<Fields<'t>> {
        match &tree.value {
            Value::Map(entries) => Some(Fields {
                entries,
                at: tree.at,
                what: what.into(),
            }),
            _ => self.wrong(tree, what, "a map"),
        }
    }

    /// A list's items.
    pub fn list<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<&'t [Tree]> {
        match &tree.value {
            Value::List(items) => Some(items),
            _ => self.wrong(tree, what, "a list"),
        }
    }

    /// A text. Numbers and booleans are not texts, as Kubernetes has it: they want quotes.
    pub fn text<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<&'t str> {
        match &tree.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                let message = format!("{what} must be text, not {}", tree.describe());
                self.complain(tree.at, message, "put it in quotes");
                None
            }
            _ => self.wrong(tree, what, "text"),
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, tree: &Tree, what: &str) -> Option<bool> {
        match tree.value {
            Value::Bool(value) => Some(value),
            _ => self.wrong(tree, what, "true or false"),
        }
    }

    /// A whole number within a range.
    pub fn integer<N>(&mut self, tree: &Tree, what: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: Copy + Into<i128> + TryFrom<i128> + std::fmt::Display,
    {
        let (low, high) = (*range.start(), *range.end());
        let expected = format!("a whole number from {low} to {high}");
        let Value::Integer(number) = tree.value else {
            return self.wrong(tree, what, &expected);
        };
        match N::try_from(number) {
            Ok(n) if (low.into()..=high.into()).contains(&number) => Some(n),
            _ => self.wrong(tree, what, &expected),
        }
    }

    /// A text that stands for something else; `expected` describes it with an example.
    pub fn parse<T: FromStr>(&mut self, tree: &Tree, what: &str, expected: &str) -> Option<T> {
        let text = self.text(tree, what)?;
        text.parse()
            .map_err(|_| {
                let message = format!("{what}: {text:?} is not {expected}");
                self.complain(tree.at, message, "");
            })
            .ok()
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, tree: &Tree, what: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| tree.text() == Some(word));
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{what} cannot be {}", tree.describe());
            self.complain(
                tree.at,
                message,
                format!("write one of: {}", names.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// How many problems there are by now.
    pub fn count(&self) -> usize {
        self.found
    }

    /// All that was wrong, in the order of the file.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| (p.line, p.column));
        if self.found > PROBLEMS_MAX {
            let message = format!("{} more problems", self.found - PROBLEMS_MAX);
            let hint = "mend these first";
            self.problems
                .push(Problem::new(self.file, Place::default(), message, hint));
        }
        self.problems
    }

    fn wrong<T>(&mut self, tree: &Tree, what: &str, expected: &str) -> Option<T> {
        let message = format!("{what} must be {expected}, not {}", tree.describe());
        self.complain(tree.at, message, "");
        None
    }
}

/// The fields of one map.
#[derive(Clone, Debug)]
pub struct Fields<'t> {
    entries: &'t [Entry],
    at: Place,
    what: String,
}

impl<'t> Fields<'t> {
    /// A field that may be missing; null is missing.
    pub fn get(&self, key: &str) -> Option<&'t Tree> {
        let entry = self.entries.iter().find(|e| e.key == key)?;
        (!entry.value.is_null()).then_some(&entry.value)
    }

    /// A field that must be there.
    pub fn need(&self, reader: &mut Reader<'_>, key: &str, hint: &str) -> Option<&'t Tree> {
        let value = self.get(key);
        if value.is_none() {
            reader.complain(self.at, format!("{} has no `{key}`", self.what), hint);
        }
        value
    }

    /// Complains of every key that is none of `known`.
    pub fn only(&self, reader: &mut Reader<'_>, known: &[&str]) {
        for entry in self.unknown(known) {
            let hint = match nearest(&entry.key, known) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let message = format!("{} has no key `{}`", self.what, entry.key);
            reader.complain(entry.at, message, hint);
        }
    }

    /// The entries whose keys are none of `known`, null or not.
    pub fn unknown(&self, known: &[&str]) -> impl Iterator<Item = &'t Entry> {
        self.entries
            .iter()
            .filter(|e| !known.contains(&e.key.as_str()))
    }

    /// All entries, in the order of the file.
    pub fn entries(&self) -> &'t [Entry] {
        self.entries
    }

    /// Where the map begins.
    pub fn at(&self) -> Place {
        self.at
    }
}

/// The known key that was probably meant: at most two letters apart, or other capitals.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // Bounds the work for keys that are no keys at all.
    if key.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|k| (distance(&key.to_lowercase(), &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= 2 && *d < k.chars().count())
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::documents;

    #[test]
    fn every_mistake_of_a_map_is_found_at_once() {
        let trees = documents("t.yaml", "nmae: x\nport: 70000\nflag: maybe\n").unwrap();
        let mut reader = Reader::new("t.yaml");
        let fields = reader.fields(&trees[0], "the file").unwrap();
        fields.only(&mut reader, &["name", "port", "flag"]);
        assert!(fields.need(&mut reader, "name", "").is_none());
        let port = fields.get("port").unwrap();
        assert_eq!(reader.integer(port, "`port`", 1u16..=u16::MAX), None);
        assert_eq!(reader.boolean(fields.get("flag").unwrap(), "`flag`"), None);
        let said: Vec<String> = reader
            .finish()
            .iter()
            .map(|p| format!("{p}|{}", p.hint))
            .collect();
        assert_eq!(
            said,
            [
                "t.yaml:1:1: the file has no key `nmae`|did you mean `name`?",
                "t.yaml:1:1: the file has no `name`|",
                "t.yaml:2:7: `port` must be a whole number from 1 to 65535, not the number 70000|",
                "t.yaml:3:7: `flag` must be true or false, not \"maybe\"|",
            ]
        );
    }

    #[test]
    fn the_number_of_problems_that_are_kept_is_bounded() {
        let trees = documents("t.yaml", &"- 1\n".repeat(1000)).unwrap();
        let mut reader = Reader::new("t.yaml");
        for item in reader.list(&trees[0], "the file").unwrap() {
            reader.text(item, "an item");
        }
        let problems = reader.finish();
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(problems[PROBLEMS_MAX].message, "900 more problems");
    }

    #[test]
    fn a_number_where_text_belongs_wants_quotes() {
        let trees = documents("t.yaml", "1.20").unwrap();
        let mut reader = Reader::new("t.yaml");
        assert_eq!(reader.text(&trees[0], "a label"), None);
        assert_eq!(reader.finish()[0].hint, "put it in quotes");
    }
}
