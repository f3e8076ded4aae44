//! The JSON Schema of the agent file, made from the table of its fields, for editors.
//!
//! It checks form, not meaning: whether a tool, a model or a directory exists only the loader knows.

use serde_json::{Value, json};

use crate::decode::Field;
use crate::load::{AGENT_FIELDS, BUDGET_FIELDS, BUDGETS};

/// The schema (JSON Schema 2020-12) of an agent file.
#[must_use]
pub fn agent_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Otto agent",
        "description": "An agent of Otto: model, prompt, tools, limits. Stands in .otto/agents/*.yml.",
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "model"],
        "properties": properties(AGENT_FIELDS),
        "not": {"required": ["system_prompt", "system_prompt_file"]},
    })
}

fn properties(fields: &[Field]) -> Value {
    fields
        .iter()
        .map(|field| {
            let form = if field.name == BUDGETS.name {
                json!({"type": "object", "additionalProperties": false, "properties": properties(BUDGET_FIELDS)})
            } else {
                own_schema(field)
            };
            (field.name.to_owned(), described(field, form))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The field's schema. A single value may also be a text that inserts a variable.
fn own_schema(field: &Field) -> Value {
    let schema: Value = serde_json::from_str(field.schema)
        .expect("the tables of fields hold JSON; a test reads them all");
    let is_single = !matches!(schema["type"].as_str(), Some("object" | "array"));
    if is_single {
        json!({"anyOf": [schema, {"type": "string", "pattern": "\\$\\{"}]})
    } else {
        schema
    }
}

fn described(field: &Field, mut schema: Value) -> Value {
    let text = format!(
        "{} Expected: {}. Default: {}.",
        field.meaning, field.form, field.default
    );
    if let Value::Object(entries) = &mut schema {
        entries.insert("description".to_owned(), text.into());
    }
    // A key without a value counts as absent.
    schema
}
