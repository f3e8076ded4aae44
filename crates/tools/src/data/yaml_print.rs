//! Writes YAML in block style, as a person would: plain words where they are safe, quotes where not, and
//! literal blocks for texts of several lines.
//!
//! A text stays without quotes only if readers of YAML 1.1 and 1.2 both take it for that text.

use std::fmt::Write;

use super::Node;
use super::json_print::quoted;

/// Prints one document in at most about `max` bytes; says whether it was cut.
pub(crate) fn print(node: &Node, max: usize) -> (String, bool) {
    let mut printer = Printer {
        text: String::new(),
        max,
    };
    match node {
        Node::List(items) if !items.is_empty() => printer.list(items, 0),
        Node::Map(entries) if !entries.is_empty() => printer.map(entries, 0, false),
        other => printer.scalar(other, 0),
    }
    let cut = printer.text.len() > max;
    if cut {
        printer
            .text
            .truncate(crate::text::floor(&printer.text, max));
    }
    (printer.text, cut)
}

struct Printer {
    text: String,
    max: usize,
}

impl Printer {
    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.text.push_str("  ");
        }
    }

    fn list(&mut self, items: &[Node], level: usize) {
        for item in items {
            if self.text.len() > self.max {
                return;
            }
            self.indent(level);
            self.text.push_str("- ");
            match item {
                Node::Map(entries) if !entries.is_empty() => self.map(entries, level + 1, true),
                Node::List(inner) if !inner.is_empty() => {
                    // The first item of an inner list stands on the line of the dash.
                    let start = self.text.len();
                    self.list(inner, level + 1);
                    let indented = (level + 1) * 2;
                    self.text.replace_range(start..start + indented, "");
                }
                other => self.scalar(other, level + 1),
            }
        }
    }

    fn map(&mut self, entries: &[(Box<str>, Node)], level: usize, first_in_line: bool) {
        for (i, (key, value)) in entries.iter().enumerate() {
            if self.text.len() > self.max {
                return;
            }
            if i > 0 || !first_in_line {
                self.indent(level);
            }
            let key = if is_plain(key) {
                key.to_string()
            } else {
                quoted(key)
            };
            let _ = write!(self.text, "{key}:");
            match value {
                Node::List(items) if !items.is_empty() => {
                    self.text.push('\n');
                    self.list(items, level + 1);
                }
                Node::Map(inner) if !inner.is_empty() => {
                    self.text.push('\n');
                    self.map(inner, level + 1, false);
                }
                other => {
                    self.text.push(' ');
                    self.scalar(other, level + 1);
                }
            }
        }
    }

    /// A value without children, with its line end. `level` is that of the lines of a block.
    fn scalar(&mut self, node: &Node, level: usize) {
        match node {
            Node::Null => self.text.push_str("null"),
            Node::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Node::Number(number) => self.text.push_str(&yaml_number(number)),
            Node::List(_) => self.text.push_str("[]"),
            Node::Map(_) => self.text.push_str("{}"),
            Node::Text(text) if is_plain(text) => self.text.push_str(text),
            Node::Text(text) if is_block(text) => return self.block(text, level.max(1)),
            Node::Text(text) => self.text.push_str(&quoted(text)),
        }
        self.text.push('\n');
    }

    fn block(&mut self, text: &str, level: usize) {
        self.text
            .push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
        for line in text.trim_end_matches('\n').split('\n') {
            if !line.is_empty() {
                self.indent(level);
                self.text.push_str(line);
            }
            self.text.push('\n');
        }
    }
}

/// A JSON number as readers of YAML 1.1 know it: they want a point and a sign in an exponent.
fn yaml_number(number: &str) -> String {
    let Some(at) = number.find(['e', 'E']) else {
        return number.to_owned();
    };
    let (mantissa, power) = (&number[..at], &number[at + 1..]);
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if power.starts_with(['+', '-']) {
        ""
    } else {
        "+"
    };
    format!("{mantissa}{point}e{sign}{power}")
}

/// Whether a text can stand as a literal block and come back the same.
fn is_block(text: &str) -> bool {
    let trimmed = text.strip_suffix('\n').unwrap_or(text);
    trimmed.contains('\n')
        && !trimmed.ends_with('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}'])
        && crate::text::reveal(text).1 == 0
        && trimmed.split('\n').all(|line| !line.ends_with([' ', '\t']))
}

/// Whether a text needs no quotes.
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let starts_well = chars
        .next()
        .is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '/' | '.'));
    let safe = |c: char| {
        c.is_alphanumeric()
            || matches!(
                c,
                ' ' | '_' | '-' | '.' | '/' | '+' | '@' | '(' | ')' | '=' | '~' | '$' | ';'
            )
    };
    starts_well
        && text.len() <= 200
        && text.chars().all(safe)
        && !text.ends_with(' ')
        && text != ".."
        && !text.starts_with("...")
        && !is_word(text)
        && !looks_like_number(text)
}

/// Words that some reader of YAML takes for something else.
fn is_word(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", ".nan",
    ];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn looks_like_number(text: &str) -> bool {
    let start = text.trim_start_matches(['.', '_']);
    start.starts_with(|c: char| c.is_ascii_digit()) || start.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::yaml_text;
    use super::*;

    fn back(node: &Node) -> Node {
        let (text, cut) = print(node, usize::MAX);
        assert!(!cut);
        let mut stream =
            yaml_text::parse(&text).unwrap_or_else(|bad| panic!("{}\n{text}", bad.explain(&text)));
        assert_eq!(stream.documents.len(), 1, "{text}");
        stream.documents.remove(0)
    }

    #[test]
    fn documents_look_as_a_person_would_write_them() {
        let json = r#"{"name":"x y","on":"no","version":"1.10","num":1.10,"e":1e3,"empty":[],"none":null,
            "list":[1,[2,3],{"a":1,"b":[]},"text"],"nested":{"deep":{"er":true}},"multi":"line 1\nline 2\n","odd":" x","key: odd":"-"}"#;
        let node = super::super::json_text::parse(json).unwrap();
        assert_eq!(
            print(&node, usize::MAX).0,
            "name: x y\n\"on\": \"no\"\nversion: \"1.10\"\nnum: 1.10\ne: 1.0e+3\nempty: []\nnone: null\nlist:\n  - 1\n  - - 2\n    - 3\n  - a: 1\n    b: []\n  - text\nnested:\n  deep:\n    er: true\nmulti: |\n  line 1\n  line 2\nodd: \" x\"\n\"key: odd\": \"-\"\n"
        );
    }

    fn nodes() -> impl Strategy<Value = Node> {
        let text = prop_oneof![
            "[ -~\n]{0,20}",
            "\\PC{0,8}",
            Just("---".to_owned()),
            Just("null".to_owned()),
            Just("- a: b".to_owned()),
            Just("\u{feff}x".to_owned()),
            Just("a\u{85}b\u{2028}c".to_owned()),
            Just("x\n\n".to_owned()),
            Just("a\n b\n\nc".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Node::Null),
            any::<bool>().prop_map(Node::Bool),
            any::<i64>().prop_map(|n| Node::Number(n.to_string().into())),
            text.clone().prop_map(|text| Node::Text(text.into())),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Node::List),
                proptest::collection::btree_map(text.clone(), inner, 0..5).prop_map(|map| {
                    Node::Map(map.into_iter().map(|(k, v)| (k.into(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_document_comes_back(node in nodes()) {
            prop_assert_eq!(back(&node), node);
        }
    }
}
