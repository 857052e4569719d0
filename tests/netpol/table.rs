//! Who reaches whom: a truth table over nine pods, the few words that it is written in, and its
//! picture.

/// Namespace, name and node of every pod, in the order of a table's rows and columns.
pub(crate) const PODS: [(&str, &str, &str); 9] = [
    ("x", "a", "eu-1"),
    ("x", "b", "eu-2"),
    ("x", "c", "eu-1"),
    ("y", "a", "eu-2"),
    ("y", "b", "eu-1"),
    ("y", "c", "eu-2"),
    ("z", "a", "eu-1"),
    ("z", "b", "eu-2"),
    ("z", "c", "eu-1"),
];

/// `namespace/pod`.
pub(crate) fn name(pod: usize) -> String {
    format!("{}/{}", PODS[pod].0, PODS[pod].1)
}

/// Addresses of a pod, IPv4 first: numbered on its node from 10, as `scripts/topology` does.
pub(crate) fn addresses(pod: usize) -> [String; 2] {
    let node = PODS[pod].2;
    let number = 10 + PODS[..pod].iter().filter(|p| p.2 == node).count();
    let of = node.trim_start_matches("eu-");
    [
        format!("10.1.{of}.{number}"),
        format!("fd10:1::{of}:{number}"),
    ]
}

/// Every pair, a pod to itself too.
pub(crate) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..PODS.len()).flat_map(|from| (0..PODS.len()).map(move |to| (from, to)))
}

/// By source, then destination: whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) [[bool; PODS.len()]; PODS.len()]);

impl Table {
    /// A table of what a judge says.
    pub(crate) fn of(mut allowed: impl FnMut(usize, usize) -> bool) -> Table {
        let mut table = Table([[false; PODS.len()]; PODS.len()]);
        for (from, to) in pairs() {
            table.0[from][to] = allowed(from, to);
        }
        table
    }

    /// `default`, but for the exceptions, but for the exceptions to those.
    ///
    /// # Errors
    /// The first exception without which the table would be the same.
    pub(crate) fn written(
        default: bool,
        except: &[Pattern],
        but: &[Pattern],
    ) -> Result<Table, Pattern> {
        let matched = |patterns: &[Pattern], left_out: Option<usize>, from, to| {
            let mut others = patterns.iter().enumerate();
            others.any(|(n, pattern)| Some(n) != left_out && pattern.matches(from, to))
        };
        let without = |one: Option<usize>, two: Option<usize>| {
            Table::of(|from, to| {
                let is_exception = matched(except, one, from, to) && !matched(but, two, from, to);
                default != is_exception
            })
        };
        let table = without(None, None);
        let idle = (0..except.len()).find(|n| without(Some(*n), None) == table);
        if let Some(n) = idle {
            return Err(except[n].clone());
        }
        let idle = (0..but.len()).find(|n| without(None, Some(*n)) == table);
        if let Some(n) = idle {
            return Err(but[n].clone());
        }
        Ok(table)
    }

    /// Whether this pair is allowed.
    pub(crate) fn allows(&self, from: usize, to: usize) -> bool {
        self.0[from][to]
    }

    /// The table as a picture, with a mark of its own where somebody says otherwise.
    pub(crate) fn picture(&self, heard: &[Table]) -> String {
        let mut text = String::from("  from \\ to   x     y     z\n              ");
        let pods: Vec<&str> = PODS.iter().map(|(_, pod, _)| *pod).collect();
        text += &pods.join(" ");
        for (from, row) in self.0.iter().enumerate() {
            text += &format!("\n        {}  ", name(from));
            for (to, allowed) in row.iter().enumerate() {
                let agreed = heard.iter().all(|table| table.allows(from, to) == *allowed);
                text += match (*allowed, agreed) {
                    (true, true) => " .",
                    (false, true) => " X",
                    (true, false) => " -",
                    (false, false) => " +",
                };
            }
        }
        text + "\n  . allowed, X denied; - wrongly denied, + wrongly allowed by somebody\n"
    }
}

/// `FROM > TO`, each of them `*`, `x/*`, `*/a` or `x/a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    from: Side,
    to: Side,
}

/// A namespace and a pod; `None` is any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side(Option<String>, Option<String>);

impl Pattern {
    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn matches(&self, from: usize, to: usize) -> bool {
        self.from.matches(from) && self.to.matches(to)
    }
}

impl Side {
    fn matches(&self, pod: usize) -> bool {
        let is = |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|w| w == name);
        is(&self.0, PODS[pod].0) && is(&self.1, PODS[pod].1)
    }
}

impl std::str::FromStr for Pattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Pattern, ()> {
        let (from, to) = text.split_once(" > ").ok_or(())?;
        Ok(Pattern {
            text: text.into(),
            from: from.parse()?,
            to: to.parse()?,
        })
    }
}

impl std::str::FromStr for Side {
    type Err = ();

    fn from_str(text: &str) -> Result<Side, ()> {
        if text == "*" {
            return Ok(Side(None, None));
        }
        let (namespace, pod) = text.split_once('/').ok_or(())?;
        let choice = |name: &str| (name != "*").then(|| name.to_owned());
        let side = Side(choice(namespace), choice(pod));
        // `*/*` would be a second way to write `*`; what nobody is called is a mistake.
        let anybody = (0..PODS.len()).any(|pod| side.matches(pod));
        (anybody && side != Side(None, None))
            .then_some(side)
            .ok_or(())
    }
}
