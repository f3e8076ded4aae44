//! What the tools `json` and `yaml` share: where a document comes from, and what is done with it.
//!
//! Both read into the same tree, so both can query, validate and print it; they differ in the notation they
//! read and generate.

use std::fmt::Write;
use std::io::Read;

use otto_sandbox::{ToolFailure, WorkerCtx};
use serde::Deserialize;

use crate::data::json_print::{Style, print};
use crate::data::path::Query;
use crate::data::{Node, json_text, schema, yaml_text};
use crate::files::failure;
use crate::fs_read::{io_failure, refuse_binary};
use crate::text::{count, quote, size};

// BOUND: a document; the same as a file of `fs.read`.
const DEFAULT_MAX_BYTES: u64 = 2 * 1024 * 1024;

// BOUND: the setting may not go above this.
const MOST_MAX_BYTES: u64 = 8 * 1024 * 1024;

// BOUND: the answer without its note; about 60,000 tokens.
pub(crate) const MAX_TEXT_BYTES: usize = 240 * 1024;

// BOUND: the whole answer.
pub(crate) const MAX_OUTPUT_BYTES: usize = 256 * 1024;

// BOUND: one of several results of a query, and the way to it.
const MAX_RESULT_BYTES: usize = 8 * 1024;
const MAX_WAY_BYTES: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    Json,
    Yaml,
}

impl Notation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        }
    }

    const fn tool(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) action: Action,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    value: Option<Box<serde_json::value::RawValue>>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    schema: Option<Box<serde_json::value::RawValue>>,
    #[serde(default)]
    schema_path: Option<String>,
    #[serde(default)]
    pub(crate) compact: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Parse,
    Query,
    Generate,
    Validate,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// A document, and what has to be said about it.
pub(crate) struct Document {
    pub(crate) node: Node,
    pub(crate) notes: Vec<String>,
}

/// Reads the document of a call. With `generate` a text is JSON unless the file's name says YAML, for both tools:
/// that is how one is converted into the other.
pub(crate) fn source(
    ctx: &WorkerCtx,
    input: &Input,
    settings: &Settings,
    notation: Notation,
) -> Result<Document, ToolFailure> {
    let given = [
        input.text.is_some(),
        input.path.is_some(),
        input.value.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(ToolFailure::for_model(
            "give exactly one of `text`, `path` and `value`",
        ));
    }
    if let Some(value) = &input.value {
        return read_text(value.get(), Notation::Json, "`value`");
    }
    if let Some(path) = &input.path {
        let text = read_file(ctx, path, settings)?;
        let is_yaml = [".yml", ".yaml"]
            .iter()
            .any(|end| path.to_ascii_lowercase().ends_with(end));
        let is_json = path.to_ascii_lowercase().ends_with(".json");
        let notation = match (input.action, is_yaml, is_json) {
            (Action::Generate, true, _) => Notation::Yaml,
            (Action::Generate, _, true) => Notation::Json,
            _ => notation,
        };
        return read_text(&text, notation, &quote(path));
    }
    let text = input.text.as_deref().unwrap_or_default();
    let max = settings.max_bytes.clamp(1, MOST_MAX_BYTES);
    if text.len() as u64 > max {
        let found = size(text.len() as u64);
        return Err(ToolFailure::for_model(format!(
            "`text` has {found}, more than the limit of {}",
            size(max)
        )));
    }
    let notation = if input.action == Action::Generate {
        Notation::Json
    } else {
        notation
    };
    read_text(text, notation, "`text`")
}

fn read_text(text: &str, notation: Notation, what: &str) -> Result<Document, ToolFailure> {
    let refused = |bad: crate::data::Bad| {
        ToolFailure::for_model(format!(
            "{what} is not valid {}: {}",
            notation.name(),
            bad.explain(text)
        ))
    };
    match notation {
        Notation::Json => json_text::parse(text)
            .map(|node| Document {
                node,
                notes: Vec::new(),
            })
            .map_err(refused),
        Notation::Yaml => {
            let mut stream = yaml_text::parse(text).map_err(refused)?;
            if stream.documents.len() == 1 {
                return Ok(Document {
                    node: stream.documents.remove(0),
                    notes: stream.notes,
                });
            }
            let documents = stream.documents.len();
            stream.notes.push(format!(
                "the text has {documents} documents, given as one array"
            ));
            Ok(Document {
                node: Node::List(stream.documents),
                notes: stream.notes,
            })
        }
    }
}

fn read_file(ctx: &WorkerCtx, path: &str, settings: &Settings) -> Result<String, ToolFailure> {
    let refuse = |error| failure(ctx, "read", path, error);
    let max = settings.max_bytes.clamp(1, MOST_MAX_BYTES);
    let place = ctx.place(path).map_err(refuse)?;
    let open = place.dir.open_file(place.path).map_err(refuse)?;
    let mut bytes = Vec::new();
    open.file
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_failure(ctx, path, &error))?;
    if bytes.len() as u64 > max {
        let found = size(open.stamp.size.max(bytes.len() as u64));
        let message = format!(
            "read {}: the file has {found}, more than the limit of {}",
            quote(path),
            size(max)
        );
        return Err(ToolFailure::for_model(message));
    }
    refuse_binary(path, &bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| ToolFailure::for_model(format!("read {}: the file is not UTF-8", quote(path))))
}

/// The document as JSON for people, with its notes.
pub(crate) fn as_json(document: &Document, style: Style, notation: Notation) -> String {
    let printed = print(&document.node, style, MAX_TEXT_BYTES);
    finish(printed.text, printed.cut, &document.notes, notation)
}

/// Adds the notes as a last line in brackets.
pub(crate) fn finish(mut text: String, cut: bool, notes: &[String], notation: Notation) -> String {
    let mut notes = notes.to_vec();
    if cut {
        notes.push(format!(
            "cut at {}; use a query for a part",
            size(MAX_TEXT_BYTES as u64)
        ));
    }
    if !notes.is_empty() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let _ = write!(text, "[{}: {}]", notation.tool(), notes.join("; "));
    }
    text
}

/// Runs the query of a call. One value of a pointer is printed as it is; results of a path one per line.
pub(crate) fn query(
    ctx: &WorkerCtx,
    input: &Input,
    document: Document,
    notation: Notation,
) -> Result<String, ToolFailure> {
    let Some(text) = &input.query else {
        return Err(ToolFailure::for_model(
            "the action `query` needs `query`, such as `/a/0` or `$.a[*]`",
        ));
    };
    let refused =
        |reason: String| ToolFailure::for_model(format!("query {}: {reason}", quote(text)));
    let query = Query::parse(text).map_err(refused)?;
    let found = query
        .run(&document.node, &|| ctx.check().is_ok())
        .map_err(|reason| {
            // When the time is up, that is what the model has to know.
            ctx.check().err().unwrap_or_else(|| refused(reason))
        })?;
    if matches!(query, Query::Pointer(_)) {
        let node = found
            .into_iter()
            .next()
            .map_or(Node::Null, |(_, node)| node.clone());
        return Ok(as_json(
            &Document {
                node,
                notes: document.notes,
            },
            Style::Pretty,
            notation,
        ));
    }
    let mut answer = String::new();
    let mut shown = 0;
    let mut shortened = 0;
    for (way, node) in &found {
        if answer.len() > MAX_TEXT_BYTES {
            break;
        }
        let printed = print(node, Style::Compact, MAX_RESULT_BYTES);
        shortened += usize::from(printed.cut);
        let _ = writeln!(
            answer,
            "{}: {}{}",
            way.show(MAX_WAY_BYTES),
            printed.text,
            if printed.cut { "…" } else { "" }
        );
        shown += 1;
    }
    let mut note = count(found.len(), "result", "results");
    if shown < found.len() {
        let _ = write!(note, ", the first {shown} are shown");
    }
    if shortened > 0 {
        let _ = write!(
            note,
            "; {} cut to {}",
            count(shortened, "value", "values"),
            size(MAX_RESULT_BYTES as u64)
        );
    }
    let notes: Vec<String> = std::iter::once(note).chain(document.notes).collect();
    Ok(finish(answer, false, &notes, notation))
}

/// Checks the document of a call against the schema of the call.
pub(crate) fn validate(
    ctx: &WorkerCtx,
    input: &Input,
    settings: &Settings,
    document: Document,
    notation: Notation,
) -> Result<String, ToolFailure> {
    let schema = match (&input.schema, &input.schema_path) {
        (Some(schema), None) => read_text(schema.get(), Notation::Json, "`schema`")?,
        (None, Some(path)) => {
            let text = read_file(ctx, path, settings)?;
            // Every JSON document is YAML as well, and schemas are written in both.
            let is_json = path.to_ascii_lowercase().ends_with(".json");
            read_text(
                &text,
                if is_json {
                    Notation::Json
                } else {
                    Notation::Yaml
                },
                &quote(path),
            )?
        }
        _ => {
            return Err(ToolFailure::for_model(
                "the action `validate` needs one of `schema` and `schema_path`",
            ));
        }
    };
    let report = schema::validate(&schema.node, &document.node).map_err(ToolFailure::for_model)?;
    if report.violations.is_empty() {
        return Ok(finish(
            "the document is valid".to_owned(),
            false,
            &document.notes,
            notation,
        ));
    }
    let mut answer = report.violations.join("\n");
    answer.push('\n');
    let more = if report.more { " and more" } else { "" };
    let note = format!(
        "not valid: {}{more}",
        count(report.violations.len(), "violation", "violations")
    );
    let notes: Vec<String> = std::iter::once(note).chain(document.notes).collect();
    answer = finish(answer, false, &notes, notation);
    Ok(answer)
}
