//! `yaml`: parse, query, generate and validate YAML.
//!
//! Documents are read with the core schema of YAML 1.2 and answered as JSON; `generate` writes YAML.

use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::{ToolFailure, WorkerCtx};

use crate::base_tool::BaseTool;
use crate::data::json_print::Style;
use crate::data::yaml_print;
use crate::documents::{self, Action, Input, MAX_OUTPUT_BYTES, MAX_TEXT_BYTES, Notation, Settings};
use crate::input;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "yaml",
    description: "Work with a YAML document, given as `text`, `path` or `value`. `parse` checks it and returns it as \
                  JSON; `query` finds values by JSON Pointer (`/services/web/image`) or JSONPath \
                  (`$.services.*.image`); `generate` writes YAML from a value, from JSON text or from a .json file; \
                  `validate` checks it against a JSON Schema (2020-12) and lists each violation with its place.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "action": { "enum": ["parse", "query", "generate", "validate"], "description": "What to do." },
    "text": { "type": "string", "description": "The document as text (YAML; JSON for `generate`). At most 2 MiB by default." },
    "path": { "type": "string", "description": "A file with the document, relative to the working directory or `@name/...`." },
    "value": { "description": "The document itself, any JSON value." },
    "query": { "type": "string", "description": "For `query`: a JSON Pointer (begins with `/`) or a JSONPath (begins with `$`)." },
    "schema": { "type": ["object", "boolean"], "description": "For `validate`: the schema itself." },
    "schema_path": { "type": "string", "description": "For `validate`: a file with the schema, JSON or YAML." },
    "compact": { "type": "boolean", "description": "For `parse`: JSON in one line. Default false." }
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
    let notation = Notation::Yaml;
    let document = documents::source(ctx, &input, &settings, notation)?;
    match input.action {
        Action::Parse => {
            let style = if input.compact == Some(true) {
                Style::Compact
            } else {
                Style::Pretty
            };
            Ok(documents::as_json(&document, style, notation))
        }
        Action::Generate => {
            let (text, cut) = yaml_print::print(&document.node, MAX_TEXT_BYTES);
            Ok(documents::finish(text, cut, &document.notes, notation))
        }
        Action::Query => documents::query(ctx, &input, document, notation),
        Action::Validate => documents::validate(ctx, &input, &settings, document, notation),
    }
}
