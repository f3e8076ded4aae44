//! `json`: parse, query, generate and validate JSON.
//!
//! The parser is strict and names the usual mistakes; numbers and the order of keys stay as they were.

use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::{ToolFailure, WorkerCtx};

use crate::base_tool::BaseTool;
use crate::data::json_print::Style;
use crate::documents::{self, Action, Input, MAX_OUTPUT_BYTES, Notation, Settings};
use crate::input;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "json",
    description: "Work with a JSON document, given as `text`, `path` or `value`. `parse` checks it and returns it \
                  indented; `query` finds values by JSON Pointer (`/users/0/name`) or JSONPath (`$.users[?@.age > \
                  30].name`); `generate` writes JSON from a value, from JSON text or from a .yaml file; `validate` \
                  checks it against a JSON Schema (2020-12) and lists each violation with its place.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "action": { "enum": ["parse", "query", "generate", "validate"], "description": "What to do." },
    "text": { "type": "string", "description": "The document as text. At most 2 MiB by default." },
    "path": { "type": "string", "description": "A file with the document, relative to the working directory or `@name/...`." },
    "value": { "description": "The document itself, any JSON value." },
    "query": { "type": "string", "description": "For `query`: a JSON Pointer (begins with `/`) or a JSONPath (begins with `$`)." },
    "schema": { "type": ["object", "boolean"], "description": "For `validate`: the schema itself." },
    "schema_path": { "type": "string", "description": "For `validate`: a file with the schema, JSON or YAML." },
    "compact": { "type": "boolean", "description": "For `generate`: one line without spaces. Default false." }
  },
  "required": ["action"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read]),
    side_effects: SideEffects::None,
    repeatability: Repeatability::Repeatable,
    timeout: Duration::from_secs(30),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: input::check::<Input>,
    check_settings: input::check_settings::<Settings>,
    run: |ctx, request| input::run(ctx, request, run),
};

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    let notation = Notation::Json;
    let document = documents::source(ctx, &input, &settings, notation)?;
    match input.action {
        Action::Parse => Ok(documents::as_json(&document, Style::Pretty, notation)),
        Action::Generate => {
            let style = if input.compact == Some(true) {
                Style::Compact
            } else {
                Style::Pretty
            };
            Ok(documents::as_json(&document, style, notation))
        }
        Action::Query => documents::query(ctx, &input, document, notation),
        Action::Validate => documents::validate(ctx, &input, &settings, document, notation),
    }
}
