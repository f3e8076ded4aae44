//! JSON and YAML as one tree, with everything that can grow bounded.
//!
//! Numbers stay as they were written and mappings keep their order, so converting a document changes nothing
//! but its notation. The parsers are our own because the tool's promises are theirs: an exact place for each
//! error, duplicate keys refused, depth and size counted while reading and not afterwards.
//!
//! Invariant: a [`Node`] that exists is at most [`MAX_DEPTH`] deep and has at most [`MAX_NODES`] nodes.

pub(crate) mod json_print;
pub(crate) mod json_text;
pub(crate) mod path;
pub(crate) mod schema;
pub(crate) mod yaml_print;
pub(crate) mod yaml_text;

use std::collections::HashSet;

// BOUND: lists and mappings inside each other; every walk over a tree is as deep.
pub(crate) const MAX_DEPTH: usize = 100;

// BOUND: values of one document, aliases counted in full; about 40 MB of memory at most.
pub(crate) const MAX_NODES: usize = 1_000_000;

// BOUND: digits of a number; longer ones serve only to make somebody count.
pub(crate) const MAX_NUMBER_BYTES: usize = 1_000;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// A number as it was written, in the notation of JSON.
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Node>),
    /// Keys are unique, in the order of the document.
    Map(Vec<(Box<str>, Node)>),
}

impl Node {
    /// The name of its type in JSON Schema.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key of a mapping with its value.
    pub(crate) fn entry(&self, key: &str) -> Option<(&str, &Self)> {
        let Self::Map(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(name, value)| (&**name, value))
    }

    /// As the JSON library sees it. Numbers beyond its range become the nearest it can hold.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => number_value(text),
            Self::Text(text) => Value::String(text.to_string()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.to_string(), value.to_value()))
                    .collect(),
            ),
        }
    }
}

fn number_value(text: &str) -> serde_json::Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    let nearest = text.parse::<f64>().unwrap_or(0.0).clamp(f64::MIN, f64::MAX);
    serde_json::Number::from_f64(nearest).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// Why a text is not a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Line and column, counted from 1 in characters.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl Bad {
    /// With the line it is about, so that nobody has to count.
    pub(crate) fn explain(&self, text: &str) -> String {
        let line = text
            .split('\n')
            .nth(self.line.saturating_sub(1))
            .unwrap_or("");
        let from = self
            .column
            .saturating_sub(1)
            .saturating_sub(EXCERPT_CHARS / 2);
        let excerpt: String = line.chars().skip(from).take(EXCERPT_CHARS).collect();
        let excerpt = crate::text::one_line(excerpt.trim_end());
        format!(
            "line {}, column {}: {}, at `{excerpt}`",
            self.line, self.column, self.message
        )
    }
}

// BOUND: the part of a line that an error shows.
const EXCERPT_CHARS: usize = 60;

/// Notices a key that a mapping has already. Small mappings are searched, large ones hashed.
#[derive(Default)]
pub(crate) struct Keys(HashSet<Box<str>>);

impl Keys {
    const SMALL: usize = 16;

    /// Whether `key` is new among `entries`.
    pub(crate) fn is_new(&mut self, entries: &[(Box<str>, Node)], key: &str) -> bool {
        if entries.len() < Self::SMALL {
            return entries.iter().all(|(known, _)| &**known != key);
        }
        if self.0.is_empty() {
            self.0
                .extend(entries.iter().map(|(known, _)| known.clone()));
        }
        self.0.insert(Box::from(key))
    }
}
