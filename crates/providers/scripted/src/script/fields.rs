//! Reading a tree of nodes: typed access that collects errors instead of stopping at the first.
//!
//! Invariant: every method either returns a value or has recorded exactly one error.

use std::time::Duration;

use super::errors::{ScriptError, shown};
use super::node::{Node, Value};
use crate::limits;
use crate::place::Place;

/// Collects what is wrong with a script.
#[derive(Default)]
pub(crate) struct Problems {
    list: Vec<ScriptError>,
}

impl Problems {
    /// Records a problem of `node`.
    pub(crate) fn add(&mut self, node: &Node, place: &Place<'_>, problem: impl Into<String>) {
        self.add_at(node.line, node.column, place, problem);
    }

    /// Records a problem at a line and column.
    pub(crate) fn add_at(
        &mut self,
        line: u64,
        column: u64,
        place: &Place<'_>,
        problem: impl Into<String>,
    ) {
        // BOUND: the rest is dropped when the list is made into an error.
        if self.list.len() <= limits::SCRIPT_ERRORS {
            self.list.push(ScriptError::new(
                line,
                column,
                place.to_string(),
                problem.into(),
            ));
        }
    }

    /// Records a value of the wrong kind.
    pub(crate) fn wrong(&mut self, node: &Node, place: &Place<'_>, expected: &str) {
        let given = match &node.value {
            Value::Text(text) => format!("`{}`", shown(text)),
            Value::Number(number) => format!("`{number}`"),
            Value::Bool(value) => format!("`{value}`"),
            Value::Null | Value::List(_) | Value::Map(_) => node.value.kind().to_owned(),
        };
        self.add(node, place, format!("expected {expected}, found {given}"));
    }

    pub(crate) fn into_list(self) -> Vec<ScriptError> {
        self.list
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The entries of a mapping whose keys are all in `known`. Unknown keys are reported and left out.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        place: &Place<'_>,
        known: &'static [&'static str],
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            self.wrong(
                node,
                place,
                &format!("a mapping with the keys {}", listed(known)),
            );
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.name.as_str()) {
                let hint = match nearest(&key.name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected one of {}", listed(known)),
                };
                self.add_at(
                    key.line,
                    key.column,
                    place,
                    format!("unknown key `{}`: {hint}", shown(&key.name)),
                );
            }
        }
        Some(Fields {
            node,
            known,
            entries: entries
                .iter()
                .map(|(key, value)| (key.name.as_str(), value))
                .collect(),
        })
    }

    /// The entries of a list of at most `most`.
    pub(crate) fn list<'n>(
        &mut self,
        node: &'n Node,
        place: &Place<'_>,
        most: usize,
        of: &str,
    ) -> &'n [Node] {
        match &node.value {
            Value::List(list) if list.len() <= most => list,
            Value::List(list) => {
                self.add(
                    node,
                    place,
                    format!("a list of {} {of}: expected at most {most}", list.len()),
                );
                &[]
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
                self.wrong(node, place, &format!("a list of {of}"));
                &[]
            }
        }
    }

    /// A text. A number or a truth value is refused: whether `1.0` means a text is for the author to say.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, place: &Place<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                let quotes = matches!(node.value, Value::Number(_) | Value::Bool(_));
                self.wrong(
                    node,
                    place,
                    if quotes {
                        "text (write it in quotes)"
                    } else {
                        "text"
                    },
                );
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn truth(&mut self, node: &Node, place: &Place<'_>) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        self.wrong(node, place, "`true` or `false`");
        None
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let number = match &node.value {
            Value::Number(number) => number.as_u64().filter(|n| (least..=most).contains(n)),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if number.is_none() {
            self.wrong(
                node,
                place,
                &format!("a whole number from {least} to {most}"),
            );
        }
        number
    }

    /// A number of things that are counted in `usize`.
    pub(crate) fn count(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        least: usize,
        most: usize,
    ) -> Option<usize> {
        self.number(node, place, least as u64, most as u64)
            .and_then(|n| usize::try_from(n).ok())
    }

    /// A duration such as `300ms`, `2s` or `1m`.
    pub(crate) fn duration(&mut self, node: &Node, place: &Place<'_>) -> Option<Duration> {
        let parsed = match &node.value {
            Value::Text(text) => parse_duration(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        };
        if parsed.is_none() {
            self.wrong(
                node,
                place,
                "a duration such as `300ms`, `2s` or `1m`, at most one hour",
            );
        }
        parsed
    }

    /// One word of a closed set.
    pub(crate) fn word<T: Copy>(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let found = match &node.value {
            Value::Text(text) => words
                .iter()
                .find(|(word, _)| word == text)
                .map(|(_, meaning)| *meaning),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        };
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(node, place, &format!("one of {}", listed(&names)));
        }
        found
    }
}

/// The entries of a mapping.
pub(crate) struct Fields<'n> {
    pub(crate) node: &'n Node,
    known: &'static [&'static str],
    entries: Vec<(&'n str, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The value of `key`, unless it is absent or empty (`key:` alone).
    pub(crate) fn optional(&self, key: &'static str) -> Option<&'n Node> {
        debug_assert!(
            self.known.contains(&key),
            "{key} is not among the known keys"
        );
        let (_, node) = self.entries.iter().find(|(name, _)| *name == key)?;
        if matches!(node.value, Value::Null) {
            None
        } else {
            Some(node)
        }
    }

    /// Which of `keys` are present.
    pub(crate) fn present(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter()
            .copied()
            .filter(|key| self.optional(key).is_some())
            .collect()
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let duration = match text.get(digits..)? {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (duration <= limits::WAIT).then_some(duration)
}

/// Names in a message: `a`, `b` or `c`.
pub(crate) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", most.join(", "))
        }
    }
}

/// The known name that a mistyped one probably meant.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // BOUND: the distance is quadratic in the length; nobody mistypes a name this long.
    if given.len() > 40 {
        return None;
    }
    known
        .map(|name| (distance(given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, remove, replace, swap two neighbors) from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (row[j] + usize::from(x != y))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_find_their_meaning() {
        let known = ["text", "tool", "tools", "thinking", "for_each"];
        for (given, meant) in [
            ("txt", "text"),
            ("tols", "tools"),
            ("foreach", "for_each"),
            ("thinkin", "thinking"),
            ("txet", "text"),
        ] {
            assert_eq!(nearest(given, known.into_iter()), Some(meant), "{given}");
        }
        assert_eq!(nearest("banana", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(5_000), known.into_iter()), None);
    }

    #[test]
    fn durations_need_a_unit_and_have_a_bound() {
        assert_eq!(parse_duration("300ms"), Some(Duration::from_millis(300)));
        assert_eq!(parse_duration("1m"), Some(Duration::from_secs(60)));
        for wrong in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "61m",
            "99999999999999999999s",
            "5 parsecs",
            "٣s",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }
}
