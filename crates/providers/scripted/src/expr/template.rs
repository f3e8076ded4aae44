//! Text with expressions in it: `{{ task }} has {{ result.find | line_count }} lines`.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{Expr, Failure, Names, Scope};
use crate::limits;

/// A text whose parts between `{{` and `}}` are expressions.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expr(Expr),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A text that says what is wrong with the first bad expression.
    pub(crate) fn parse(text: &str, names: Names<'_>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let (before, inside) = (&rest[..open], &rest[open + 2..]);
            let close = closing(inside).ok_or(
                "`{{` has no closing `}}`; write `{{ \"{{\" }}` for the two braces themselves",
            )?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Expr(Expr::parse(&inside[..close], names)?));
            rest = &inside[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The text for this request.
    pub(crate) fn render(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        if let [Part::Text(text)] = self.parts.as_slice() {
            return Ok(text.clone());
        }
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Expr(expr) => rendered.push_str(&expr.text(scope)?),
            }
            if rendered.len() > limits::VALUE_BYTES {
                return Err(Failure(format!(
                    "a text of this turn is longer than {} bytes",
                    limits::VALUE_BYTES
                )));
            }
        }
        scope.work.spend(rendered.len())?;
        Ok(rendered)
    }

    /// The expressions in it.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expr(expr) => Some(expr),
        })
    }

    /// The value, if the template is one expression and nothing else.
    fn alone(&self) -> Option<&Expr> {
        match self.parts.as_slice() {
            [Part::Expr(expr)] => Some(expr),
            _ => None,
        }
    }
}

/// Where the `}}` of an expression is: not inside a quoted text.
fn closing(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A JSON value whose texts are templates. A text that is one expression alone keeps the type of its value.
#[derive(Debug, Clone)]
pub(crate) enum JsonTemplate {
    /// Without expressions: already written.
    Fixed(String),
    Text(Template),
    List(Vec<JsonTemplate>),
    /// In the order of the script.
    Map(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// A list; already written if all of its entries are.
    pub(crate) fn list(entries: Vec<Self>) -> Self {
        match fixed(entries.iter()) {
            Some(texts) => Self::Fixed(format!("[{}]", texts.join(", "))),
            None => Self::List(entries),
        }
    }

    /// A mapping; already written if all of its values are.
    pub(crate) fn map(entries: Vec<(String, Self)>) -> Self {
        match fixed(entries.iter().map(|(_, entry)| entry)) {
            Some(texts) => {
                let texts: Vec<String> = entries
                    .iter()
                    .zip(texts)
                    .map(|((key, _), text)| format!("{}: {text}", Json::from(key.as_str())))
                    .collect();
                Self::Fixed(format!("{{{}}}", texts.join(", ")))
            }
            None => Self::Map(entries),
        }
    }

    /// Appends the value as JSON text, spaced as the vendor spaces tool inputs.
    pub(crate) fn write(&self, scope: &Scope<'_>, out: &mut String) -> Result<(), Failure> {
        match self {
            Self::Fixed(text) => out.push_str(text),
            Self::Text(template) => match template.alone() {
                Some(expr) => {
                    let value = expr.value(scope)?;
                    // An absent value is refused here as in a text: a tool must not get `null` by accident.
                    if value.is_null() {
                        expr.text(scope)?;
                    }
                    write_json(&value, out);
                }
                None => write_json(&Json::String(template.render(scope)?), out),
            },
            Self::List(entries) => {
                out.push('[');
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    entry.write(scope, out)?;
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (index, (key, entry)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    write_json(&Json::String(key.clone()), out);
                    out.push_str(": ");
                    entry.write(scope, out)?;
                }
                out.push('}');
            }
        }
        if out.len() > limits::VALUE_BYTES {
            return Err(Failure(format!(
                "an input of this turn is longer than {} bytes",
                limits::VALUE_BYTES
            )));
        }
        Ok(())
    }
}

/// The texts of entries that hold no expression.
fn fixed<'a>(entries: impl Iterator<Item = &'a JsonTemplate>) -> Option<Vec<&'a str>> {
    entries
        .map(|entry| match entry {
            JsonTemplate::Fixed(text) => Some(text.as_str()),
            JsonTemplate::Text(_) | JsonTemplate::List(_) | JsonTemplate::Map(_) => None,
        })
        .collect()
}

fn write_json(value: &Json, out: &mut String) {
    write!(out, "{value}").expect("writing to a String cannot fail");
}
