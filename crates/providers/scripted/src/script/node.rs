//! YAML as a tree in which every value knows its line.
//!
//! A derived deserializer stops at the first error; reading the tree by hand reports all of them at once.
//!
//! Invariant: nothing here recurses deeper than [`limits::SCRIPT_DEPTH`] or makes more than
//! [`limits::SCRIPT_NODES`] nodes, aliases included.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::errors::ScriptError;
use crate::limits;

/// A YAML value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// The key of a map entry and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl Value {
    /// The kind of value, with its article, for messages.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Parses one YAML document within the budget of a script.
pub(super) fn parse(yaml: &str) -> Result<Node, ScriptError> {
    if yaml.len() > limits::SCRIPT_BYTES {
        return Err(ScriptError::new(
            1,
            1,
            String::new(),
            format!(
                "the script is {} bytes long: expected at most {}",
                yaml.len(),
                limits::SCRIPT_BYTES
            ),
        ));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: limits::SCRIPT_NODES,
            max_depth: limits::SCRIPT_DEPTH,
            max_aliases: 100,
            max_documents: 1,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
    };
    let spanned: Spanned<Value> =
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let (line, column) = error
                .location()
                .map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
            let text = error.without_snippet().to_string();
            // The first line says what is wrong; the rest repeats the source.
            let problem = text.lines().next().unwrap_or("not YAML");
            ScriptError::new(
                line,
                column,
                String::new(),
                format!("not valid YAML: {problem}"),
            )
        })?;
    Ok(Node::from_spanned(spanned))
}

impl Node {
    fn from_spanned(spanned: Spanned<Value>) -> Self {
        Self {
            line: spanned.referenced.line().max(1),
            column: spanned.referenced.column().max(1),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| {
                E::custom("`.nan` and `.inf` have no JSON form: expected a finite number")
            })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element::<Spanned<Value>>()? {
            list.push(Node::from_spanned(entry));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value::<Spanned<Value>>()?;
            let key = Key {
                line: key.referenced.line().max(1),
                column: key.referenced.column().max(1),
                name: key.value,
            };
            map.push((key, Node::from_spanned(value)));
        }
        Ok(Value::Map(map))
    }
}
