//! Writes JSON, compact or for people, up to a limit.
//!
//! Strings hold no control or hidden character of the document: they are written as `\u` escapes, so the text
//! is still the same document.

use std::fmt::Write;

use super::Node;

/// How a document is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// One line, no spaces.
    Compact,
    /// Two spaces per level.
    Pretty,
}

/// A printed document.
pub(crate) struct Printed {
    pub(crate) text: String,
    /// Whether it was longer than allowed; the text then ends somewhere within it.
    pub(crate) cut: bool,
}

/// Prints `node` in at most about `max` bytes: printing stops after the value that passes the limit.
pub(crate) fn print(node: &Node, style: Style, max: usize) -> Printed {
    let mut printer = Printer {
        text: String::new(),
        pretty: style == Style::Pretty,
        max,
    };
    printer.value(node, 0);
    let cut = printer.text.len() > max;
    if cut {
        printer
            .text
            .truncate(crate::text::floor(&printer.text, max));
    }
    Printed {
        text: printer.text,
        cut,
    }
}

/// One string with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut printer = Printer {
        text: String::new(),
        pretty: false,
        max: usize::MAX,
    };
    printer.string(text);
    printer.text
}

struct Printer {
    text: String,
    pretty: bool,
    max: usize,
}

impl Printer {
    fn value(&mut self, node: &Node, level: usize) {
        if self.text.len() > self.max {
            return;
        }
        match node {
            Node::Null => self.text.push_str("null"),
            Node::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Node::Number(text) => self.text.push_str(text),
            Node::Text(text) => self.string(text),
            Node::List(items) if items.is_empty() => self.text.push_str("[]"),
            Node::Map(entries) if entries.is_empty() => self.text.push_str("{}"),
            Node::List(items) => {
                self.text.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.separate(i, level + 1);
                    self.value(item, level + 1);
                }
                self.close(']', level);
            }
            Node::Map(entries) => {
                self.text.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    self.separate(i, level + 1);
                    self.string(key);
                    self.text.push_str(if self.pretty { ": " } else { ":" });
                    self.value(value, level + 1);
                }
                self.close('}', level);
            }
        }
    }

    fn separate(&mut self, index: usize, level: usize) {
        if index > 0 {
            self.text.push(',');
        }
        self.line(level);
    }

    fn close(&mut self, bracket: char, level: usize) {
        self.line(level);
        self.text.push(bracket);
    }

    fn line(&mut self, level: usize) {
        if self.pretty && self.text.len() <= self.max {
            self.text.push('\n');
            for _ in 0..level {
                self.text.push_str("  ");
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        let shown = crate::text::reveal(text).1 > 0;
        for c in text.chars() {
            if self.text.len() > self.max {
                return;
            }
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                c if c < ' ' || shown && otto_sandbox::is_hidden(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}
