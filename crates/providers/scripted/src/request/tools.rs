//! Tool definitions and `tool_choice`.

use serde_json::Value as Json;

use super::blocks::cache_control;
use super::object::{Checked, Object, is_wire_name, wrong};
use super::{Tool, ToolChoice};
use crate::error::ApiError;
use crate::place::Place;

const CUSTOM_FIELDS: &[&str] = &[
    "name",
    "input_schema",
    "description",
    "type",
    "strict",
    "eager_input_streaming",
    "cache_control",
    "defer_loading",
    "allowed_callers",
    "input_examples",
];

/// Tools with a schema of the vendor, by the beginning of their type. Their fields are not checked.
const BUILT_IN: &[&str] = &[
    "bash_",
    "text_editor_",
    "memory_",
    "computer_toolset_",
    "browser_toolset_",
    "web_search_",
    "web_fetch_",
    "code_execution_",
    "tool_search_tool_",
];

const NAME_LENGTH: usize = 128;

/// Reads one tool definition.
pub(super) fn read_tool<'a>(json: &'a Json, place: &Place<'_>) -> Checked<Tool<'a>> {
    let tool = Object::of(json, place)?;
    let kind = tool.optional_text("type")?.unwrap_or("custom");
    if kind != "custom" {
        if !BUILT_IN.iter().any(|prefix| kind.starts_with(prefix)) {
            return Err(wrong(
                place,
                &format!(
                    "Input tag '{kind}' found using 'type' does not match any of the expected tags"
                ),
            ));
        }
        return Ok(Tool {
            name: tool.optional_text("name")?.unwrap_or(""),
            json,
            cache: cache_control(&tool)?,
        });
    }
    let tagged = place.key("custom");
    let tool = Object {
        place: &tagged,
        ..tool
    };
    tool.only(CUSTOM_FIELDS)?;
    let name = tool.text("name")?;
    if !is_wire_name(name) || name.len() > NAME_LENGTH {
        return Err(wrong(
            &tagged.key("name"),
            "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ));
    }
    tool.optional_text("description")?;
    tool.optional_truth("strict")?;
    tool.optional_truth("eager_input_streaming")?;
    tool.optional_truth("defer_loading")?;
    let schema_place = tagged.key("input_schema");
    let schema = Object::of(tool.required("input_schema")?, &schema_place)?;
    match schema.required("type")? {
        Json::String(kind) if kind == "object" => {}
        _ => return Err(wrong(&schema_place.key("type"), "Input should be 'object'")),
    }
    Ok(Tool {
        name,
        json,
        cache: cache_control(&tool)?,
    })
}

/// Reads `tool_choice` and checks the names of the tools against each other and against it.
pub(super) fn read_tool_choice<'a>(
    object: &Object<'a, '_>,
    tools: &[Tool<'_>],
) -> Checked<ToolChoice<'a>> {
    let mut names = std::collections::HashSet::new();
    if !tools
        .iter()
        .filter(|tool| !tool.name.is_empty())
        .all(|tool| names.insert(tool.name))
    {
        return Err(ApiError::invalid("tools: Tool names must be unique."));
    }
    let Some(json) = object.optional("tool_choice") else {
        return Ok(if tools.is_empty() {
            ToolChoice::None
        } else {
            ToolChoice::Auto { parallel: true }
        });
    };
    let place = object.place.key("tool_choice");
    let choice = Object::of(json, &place)?;
    let kind = choice.text("type")?;
    let tagged = place.key(kind);
    let choice = Object {
        place: &tagged,
        ..choice
    };
    let parallel = !choice
        .optional_truth("disable_parallel_tool_use")?
        .unwrap_or(false);
    let (read, allowed): (_, &[&str]) = match kind {
        "auto" => (
            ToolChoice::Auto { parallel },
            &["type", "disable_parallel_tool_use"],
        ),
        "any" => (
            ToolChoice::Any { parallel },
            &["type", "disable_parallel_tool_use"],
        ),
        "tool" => (
            ToolChoice::Tool {
                name: choice.text("name")?,
                parallel,
            },
            &["type", "name", "disable_parallel_tool_use"],
        ),
        "none" => (ToolChoice::None, &["type"]),
        other => {
            return Err(wrong(
                &place,
                &format!(
                    "Input tag '{other}' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'"
                ),
            ));
        }
    };
    choice.only(allowed)?;
    if tools.is_empty() {
        return Err(ApiError::invalid(
            "tool_choice: tool_choice may only be specified while providing tools",
        ));
    }
    if let ToolChoice::Tool { name, .. } = read
        && !names.contains(name)
    {
        return Err(ApiError::invalid(format!(
            "Tool '{name}' not found in provided tools"
        )));
    }
    Ok(read)
}
