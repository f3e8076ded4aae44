//! Content blocks, entries of `messages`, and `system`.

use serde_json::Value as Json;

use super::object::{Checked, Object, is_wire_name, wrong};
use super::{Block, BlockKind, Entry, Role, SystemBlock, Ttl, Version};
use crate::error::ApiError;
use crate::limits;
use crate::place::Place;

/// Block types that belong to the assistant and are passed through unread.
const SERVER_BLOCKS: &[&str] = &[
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "fallback",
];
/// Block types of the user that are passed through unread.
const MEDIA_BLOCKS: &[&str] = &["image", "document", "search_result", "container_upload"];

/// Reads the cache marker of an object, if it has one.
pub(super) fn cache_control(object: &Object<'_, '_>) -> Checked<Option<Ttl>> {
    let Some(json) = object.optional("cache_control") else {
        return Ok(None);
    };
    let place = object.place.key("cache_control");
    let marker = Object::of(json, &place)?;
    if marker.text("type")? != "ephemeral" {
        return Err(wrong(&place.key("type"), "Input should be 'ephemeral'"));
    }
    let tagged = place.key("ephemeral");
    let marker = Object {
        place: &tagged,
        ..marker
    };
    marker.only(&["type", "ttl"])?;
    Ok(Some(match marker.optional_word("ttl", &["5m", "1h"])? {
        Some("1h") => Ttl::OneHour,
        _ => Ttl::FiveMinutes,
    }))
}

/// Reads `system`.
pub(super) fn read_system<'a>(object: &Object<'a, '_>) -> Checked<Vec<SystemBlock<'a>>> {
    let place = object.place.key("system");
    match object.optional("system") {
        None => Ok(Vec::new()),
        // An empty text is the same as none.
        Some(Json::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Json::String(text)) => Ok(vec![SystemBlock { text, cache: None }]),
        Some(Json::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(index, block)| read_system_block(block, &place.at(index)))
            .collect(),
        Some(_) => Err(wrong(&place, "Input should be a valid string or list")),
    }
}

fn read_system_block<'a>(json: &'a Json, place: &Place<'_>) -> Checked<SystemBlock<'a>> {
    let block = Object::of(json, place)?;
    if block.text("type")? != "text" {
        return Err(wrong(&place.key("type"), "Input should be 'text'"));
    }
    block.only(&["type", "text", "cache_control", "citations"])?;
    let text = block.text("text")?;
    let cache = cache_control(&block)?;
    check_text(text, cache, "system", place)?;
    Ok(SystemBlock { text, cache })
}

/// Reads one entry of `messages`.
pub(super) fn read_entry<'a>(
    json: &'a Json,
    place: &Place<'_>,
    last: bool,
    version: Version,
) -> Checked<Entry<'a>> {
    let entry = Object::of(json, place)?;
    let role = match entry.text("role")? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            return Err(wrong(
                &place.key("role"),
                "Input should be 'user', 'assistant' or 'system'",
            ));
        }
    };
    entry.only(&["role", "content"])?;
    let content = place.key("content");
    let blocks = match entry.required("content")? {
        Json::String(text) if text.is_empty() => Vec::new(),
        Json::String(text) => {
            check_text(text, None, "messages", &content)?;
            vec![Block {
                kind: BlockKind::Text(text),
                cache: None,
            }]
        }
        Json::Array(list) if list.len() > limits::MESSAGES => {
            return Err(wrong(
                &content,
                &format!(
                    "List should have at most {} items after validation",
                    limits::MESSAGES
                ),
            ));
        }
        Json::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, block)| read_block(block, role, &content.at(index), place, version))
            .collect::<Checked<_>>()?,
        _ => return Err(wrong(&content, "Input should be a valid string or list")),
    };
    if blocks.is_empty() && !(last && role == Role::Assistant) {
        return Err(wrong(
            place,
            "all messages must have non-empty content except for the optional final assistant message",
        ));
    }
    Ok(Entry { role, blocks })
}

fn read_block<'a>(
    json: &'a Json,
    role: Role,
    place: &Place<'_>,
    entry: &Place<'_>,
    version: Version,
) -> Checked<Block<'a>> {
    let block = Object::of(json, place)?;
    let name = block.text("type")?;
    check_role(name, role, place, entry, version)?;
    let tagged = place.key(name);
    let block = Object {
        place: &tagged,
        ..block
    };
    let kind = match name {
        "text" => return read_text(&block, role, version),
        "tool_use" => {
            block.only(&[
                "type",
                "id",
                "name",
                "input",
                "caller",
                "toolset_name",
                "cache_control",
            ])?;
            let id = block.text("id")?;
            check_id(id, &tagged.key("id"))?;
            let input = block.required("input")?;
            if !input.is_object() {
                return Err(wrong(&tagged.key("input"), "Input should be an object"));
            }
            BlockKind::ToolUse {
                id,
                name: block.text("name")?,
                input,
            }
        }
        "tool_result" => read_tool_result(&block)?,
        "thinking" => {
            block.only(&["type", "thinking", "signature"])?;
            BlockKind::Thinking {
                text: block.text("thinking")?,
                signature: block.text("signature")?,
            }
        }
        "redacted_thinking" => {
            block.only(&["type", "data"])?;
            BlockKind::RedactedThinking {
                data: block.text("data")?,
            }
        }
        name => BlockKind::Other { name, json },
    };
    Ok(Block {
        kind,
        cache: cache_control(&block)?,
    })
}

fn read_text<'a>(block: &Object<'a, '_>, role: Role, version: Version) -> Checked<Block<'a>> {
    block.only(&["type", "text", "cache_control", "citations"])?;
    if role != Role::Assistant && version == Version::New && block.optional("citations").is_some() {
        return Err(wrong(
            &block.place.key("citations"),
            "Extra inputs are not permitted",
        ));
    }
    let text = block.text("text")?;
    let cache = cache_control(block)?;
    check_text(text, cache, "messages", block.place)?;
    Ok(Block {
        kind: BlockKind::Text(text),
        cache,
    })
}

fn read_tool_result<'a>(block: &Object<'a, '_>) -> Checked<BlockKind<'a>> {
    block.only(&[
        "type",
        "tool_use_id",
        "content",
        "is_error",
        "toolset_name",
        "cache_control",
    ])?;
    let id = block.text("tool_use_id")?;
    check_id(id, &block.place.key("tool_use_id"))?;
    let content = block.optional("content");
    let place = block.place.key("content");
    match content {
        None | Some(Json::String(_)) => {}
        Some(Json::Array(list)) => {
            for (index, part) in list.iter().enumerate() {
                let part_place = place.at(index);
                let part = Object::of(part, &part_place)?;
                match part.text("type")? {
                    "text" => {
                        let tagged = part_place.key("text");
                        let part = Object {
                            place: &tagged,
                            ..part
                        };
                        part.only(&["type", "text", "cache_control", "citations"])?;
                        check_text(part.text("text")?, None, "messages", &tagged)?;
                    }
                    "image" | "document" | "search_result" | "tool_reference" | "browser_state" => {
                    }
                    other => {
                        return Err(wrong(
                            &part_place,
                            &unknown_tag(
                                other,
                                "'text', 'image', 'document', 'search_result', 'tool_reference', 'browser_state'",
                            ),
                        ));
                    }
                }
            }
        }
        Some(_) => return Err(wrong(&place, "Input should be a valid string or list")),
    }
    Ok(BlockKind::ToolResult {
        id,
        content,
        is_error: block.optional_truth("is_error")?.unwrap_or(false),
    })
}

/// Which blocks may stand in whose messages.
fn check_role(
    name: &str,
    role: Role,
    place: &Place<'_>,
    entry: &Place<'_>,
    version: Version,
) -> Checked<()> {
    let only_in = |whose: &str| {
        ApiError::invalid(format!(
            "{entry}: `{name}` blocks can only be in `{whose}` messages"
        ))
    };
    let allowed_in: &[Role] = match name {
        "text" => return Ok(()),
        "tool_use" | "thinking" | "redacted_thinking" => &[Role::Assistant],
        "tool_result" => &[Role::User],
        // The old version let documents stand in assistant messages.
        "document" if version == Version::Old => &[Role::User, Role::Assistant],
        name if MEDIA_BLOCKS.contains(&name) => &[Role::User],
        name if SERVER_BLOCKS.contains(&name) => &[Role::Assistant],
        other => {
            return Err(wrong(
                place,
                &unknown_tag(
                    other,
                    "'text', 'image', 'document', 'search_result', 'tool_use', 'tool_result', 'thinking', 'redacted_thinking', 'server_tool_use', 'web_search_tool_result', 'container_upload'",
                ),
            ));
        }
    };
    if allowed_in.contains(&role) {
        Ok(())
    } else {
        Err(only_in(
            allowed_in.first().map_or("user", |role| role.name()),
        ))
    }
}

fn unknown_tag(tag: &str, expected: &str) -> String {
    let tag: String = tag.chars().take(64).collect();
    format!(
        "Input tag '{tag}' found using 'type' does not match any of the expected tags: {expected}"
    )
}

fn check_id(id: &str, place: &Place<'_>) -> Checked<()> {
    if is_wire_name(id) {
        Ok(())
    } else {
        Err(wrong(
            place,
            "String should match pattern '^[a-zA-Z0-9_-]+$'",
        ))
    }
}

fn check_text(text: &str, cache: Option<Ttl>, field: &str, place: &Place<'_>) -> Checked<()> {
    if !text.trim().is_empty() {
        return Ok(());
    }
    if cache.is_some() {
        return Err(wrong(
            place,
            "cache_control cannot be set for empty text blocks",
        ));
    }
    Err(ApiError::invalid(format!(
        "{field}: text content blocks must be non-empty"
    )))
}
