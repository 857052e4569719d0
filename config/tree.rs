//! YAML and JSON as a tree in which everything knows its place.
//!
//! Typed readers stop at the first mistake, and lose places as soon as a document is read twice
//! (its `kind` first, then the rest). A tree is read once, and what walks it can say everything
//! that is wrong.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The value.
    pub value: Value,
    /// Its first character.
    pub at: Place,
}

/// What YAML knows, by the core schema of YAML 1.2 (§10.3).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Everything else that is a scalar.
    Text(String),
    /// A sequence.
    List(Vec<Tree>),
    /// A mapping, in the order of the file. No key occurs twice.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's first character.
    pub at: Place,
    /// The value.
    pub value: Tree,
}

impl Tree {
    /// What a person would call this value.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Integer(n) => format!("the number {n}"),
            Value::Float(n) => format!("the number {n}"),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    /// Whether it is `null` or left empty: Kubernetes takes both for absent.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value of `key`, where this is a map that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|e| e.key == key)?;
        (!entry.value.is_null()).then_some(&entry.value)
    }

    /// The text, where this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads all documents of a text; empty ones are left out. JSON is YAML.
///
/// # Errors
/// The first place at which the text is no YAML, has a key twice, or is beyond the limits on depth
/// (64) and size (4 million values), which also bound what aliases may expand to.
pub fn documents(file: &str, text: &str) -> Result<Vec<Tree>, Problem> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // Only true and false: a namespace may be called `y` or `no`, as YAML 1.2 has it.
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_events: 16_000_000,
            max_nodes: 4_000_000,
            max_documents: 100_000,
        },
    };
    serde_saphyr::from_multiple_with_options::<Spanned<Value>>(text, options)
        .map(|documents| documents.into_iter().map(Tree::from).collect())
        .map_err(|error| problem(file, text, &error))
}

fn problem(file: &str, text: &str, error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or_else(Place::default, place);
    let mut message = error.without_snippet().to_string();
    // The library's own words for the place: ours stand in front already.
    if let Some(cut) = message.find(" at line ").or(message.find(" (line ")) {
        message.truncate(cut);
    }
    let tab = (at.line as usize)
        .checked_sub(1)
        .and_then(|n| text.lines().nth(n))
        .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
    let hint = if tab {
        "indent with spaces: YAML allows no tabs there"
    } else {
        ""
    };
    Problem::new(file, at, format!("does not parse: {message}"), hint)
}

fn place(location: Location) -> Place {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: number(location.line()),
        column: number(location.column()),
    }
}

impl From<Spanned<Value>> for Tree {
    fn from(spanned: Spanned<Value>) -> Tree {
        Tree {
            at: place(spanned.referenced),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value: Spanned<Value> = entries.next_value()?;
            map.push(Entry {
                at: place(key.referenced),
                key: key.value,
                value: value.into(),
            });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Tree {
        let mut all = documents("t.yaml", text).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn every_value_and_key_knows_its_place() {
        let tree = one("a: 1\nb:\n  - x: yes please\n  - \"7\"\n");
        assert_eq!(tree.get("a").unwrap().value, Value::Integer(1));
        let Value::Map(entries) = &tree.value else {
            panic!()
        };
        assert_eq!(entries[1].at, Place { line: 2, column: 1 });
        let Value::List(items) = &tree.get("b").unwrap().value else {
            panic!()
        };
        let x = items[0].get("x").unwrap();
        assert_eq!(x.text(), Some("yes please"));
        assert_eq!(x.at, Place { line: 3, column: 8 });
        assert_eq!(items[1].text(), Some("7"));
        assert_eq!(items[1].at, Place { line: 4, column: 5 });
    }

    #[test]
    fn only_true_and_false_are_booleans() {
        let tree = one("[y, n, yes, off, On, true, false]");
        let Value::List(items) = &tree.value else {
            panic!()
        };
        assert!(
            items[..5].iter().all(|item| item.text().is_some()),
            "{items:?}"
        );
        assert_eq!(items[5].value, Value::Bool(true));
        assert_eq!(items[6].value, Value::Bool(false));
    }

    #[test]
    fn json_is_read_with_places_too() {
        let tree = one("{\n\t\"a\": [true, null, 1.5, \"\\u00e9\\/\"],\n\t\"b\": {}\n}\n");
        let Value::List(items) = &tree.get("a").unwrap().value else {
            panic!()
        };
        assert_eq!(items[0].value, Value::Bool(true));
        assert_eq!(items[0].at, Place { line: 2, column: 8 });
        assert_eq!(items[1].value, Value::Null);
        assert_eq!(items[2].value, Value::Float(1.5));
        assert_eq!(items[3].text(), Some("é/"));
    }

    #[test]
    fn documents_are_separate_and_empty_ones_are_left_out() {
        let all = documents("t.yaml", "---\n# nothing\n---\na: 1\n---\nb: 2\n...\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].get("b").unwrap().at, Place { line: 6, column: 4 });
    }

    #[test]
    fn a_key_that_occurs_twice_is_an_error_at_its_second_place() {
        let problem = documents("t.yaml", "a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!((problem.line, problem.column), (3, 1), "{problem}");
    }

    #[test]
    fn a_broken_text_is_an_error_with_a_place() {
        let problem = documents("t.yaml", "a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(problem.line >= 2, "{problem}");
        let problem = documents("t.yaml", "a:\n\tb: 1\n").unwrap_err();
        assert_eq!(problem.line, 2, "{problem}");
        assert!(problem.hint.contains("spaces"), "{problem}");
    }

    #[test]
    fn aliases_cannot_blow_up_the_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let m = n - 1;
            text += &format!("a{n}: &a{n} [{}]\n", format!("*a{m}, ").repeat(9));
        }
        assert!(documents("t.yaml", &text).is_err());
        assert!(documents("t.yaml", &"[".repeat(100_000)).is_err());
    }
}
