//! First pass: the shape of every field.

use serde_json::Value as Json;

use super::blocks::{cache_control, read_entry, read_system};
use super::object::{Checked, Object, wrong};
use super::tools::{read_tool, read_tool_choice};
use super::{Display, Request, ThinkingMode, Version, order};
use crate::error::ApiError;
use crate::limits;
use crate::place::Place;

/// What the request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
}

const MESSAGE_FIELDS: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "stop_sequences",
    "stream",
    "metadata",
    "service_tier",
    "cache_control",
    "inference_geo",
    "speed",
    "container",
    "diagnostics",
    "temperature",
    "top_p",
    "top_k",
];
const COUNT_FIELDS: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
];
const SAMPLING: [&str; 3] = ["temperature", "top_p", "top_k"];

/// Reads and checks a request body.
///
/// # Errors
/// The 400 the vendor would answer with.
pub(crate) fn read<'a>(
    body: &'a Json,
    endpoint: Endpoint,
    version: Version,
) -> Result<Request<'a>, ApiError> {
    let root = Place::Root;
    let Json::Object(map) = body else {
        return Err(ApiError::invalid(
            "Input should be a valid dictionary or object to extract fields from",
        ));
    };
    let object = Object { map, place: &root };
    object.only(match endpoint {
        Endpoint::Messages => MESSAGE_FIELDS,
        Endpoint::CountTokens => COUNT_FIELDS,
    })?;
    let model = object.text("model")?;
    let sampling = read_sampling(&object, version)?;
    let stream = object.optional_truth("stream")?.unwrap_or(false);
    let max_tokens = match endpoint {
        Endpoint::CountTokens => 0,
        Endpoint::Messages => read_max_tokens(&object)?,
    };
    let entries = read_messages(&object, version)?;
    let tools = object.optional_list("tools", limits::MESSAGES)?;
    let tools_place = root.key("tools");
    let tools: Vec<_> = tools
        .iter()
        .enumerate()
        .map(|(index, tool)| read_tool(tool, &tools_place.at(index)))
        .collect::<Checked<_>>()?;
    let (thinking, display) = read_thinking(&object)?;
    object.optional_word("service_tier", &["auto", "standard_only"])?;
    let (effort, output_format) = read_output_config(&object)?;
    let request = Request {
        model,
        max_tokens,
        stream,
        system: read_system(&object)?,
        tool_choice: read_tool_choice(&object, &tools)?,
        tools,
        entries,
        thinking,
        display,
        effort,
        output_format,
        stop_sequences: read_stop_sequences(&object)?,
        sampling,
        fast: object.optional_word("speed", &["standard", "fast"])? == Some("fast"),
        geo: object.optional_word("inference_geo", &["us", "global"])?,
        user_id: read_user_id(&object)?,
        automatic_cache: cache_control(&object)?,
    };
    check_warming(&request, endpoint)?;
    order::check(&request)?;
    Ok(request)
}

fn read_sampling(object: &Object<'_, '_>, version: Version) -> Checked<bool> {
    let Some(name) = SAMPLING
        .into_iter()
        .find(|name| object.optional(name).is_some())
    else {
        return Ok(false);
    };
    if version == Version::New {
        return Err(wrong(
            &object.place.key(name),
            "Extra inputs are not permitted",
        ));
    }
    let is_number = object.optional(name).is_some_and(Json::is_number);
    if is_number {
        Ok(true)
    } else {
        Err(wrong(
            &object.place.key(name),
            "Input should be a valid number",
        ))
    }
}

fn read_max_tokens(object: &Object<'_, '_>) -> Checked<u64> {
    let place = object.place.key("max_tokens");
    match object.required("max_tokens")? {
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(tokens), _) => Ok(tokens),
            (None, Some(_)) => Err(wrong(&place, "Input should be greater than or equal to 0")),
            (None, None) => Err(wrong(&place, "Input should be a valid integer")),
        },
        _ => Err(wrong(&place, "Input should be a valid integer")),
    }
}

fn read_messages<'a>(object: &Object<'a, '_>, version: Version) -> Checked<Vec<super::Entry<'a>>> {
    object.required("messages")?;
    let place = object.place.key("messages");
    let list = object.optional_list("messages", limits::MESSAGES)?;
    if list.is_empty() {
        return Err(wrong(&place, "at least one message is required"));
    }
    let last = list.len() - 1;
    list.iter()
        .enumerate()
        .map(|(index, entry)| read_entry(entry, &place.at(index), index == last, version))
        .collect()
}

fn read_thinking(object: &Object<'_, '_>) -> Checked<(ThinkingMode, Option<Display>)> {
    let Some(json) = object.optional("thinking") else {
        return Ok((ThinkingMode::Unsaid, None));
    };
    let place = object.place.key("thinking");
    let thinking = Object::of(json, &place)?;
    let kind = thinking.text("type")?;
    let tagged = place.key(kind);
    let fields = Object {
        place: &tagged,
        ..thinking
    };
    let (mode, allowed): (_, &[&str]) = match kind {
        "adaptive" => (ThinkingMode::Adaptive, &["type", "display"]),
        "enabled" => {
            let budget = fields.required("budget_tokens")?;
            let budget_place = tagged.key("budget_tokens");
            let budget = budget
                .as_u64()
                .ok_or_else(|| wrong(&budget_place, "Input should be a valid integer"))?;
            if budget < 1_024 {
                return Err(wrong(
                    &budget_place,
                    "Input should be greater than or equal to 1024",
                ));
            }
            (
                ThinkingMode::Enabled { budget },
                &["type", "budget_tokens", "display"],
            )
        }
        "disabled" => (ThinkingMode::Disabled, &["type"]),
        "between_tools" => (ThinkingMode::BetweenTools, &["type", "display"]),
        other => {
            return Err(wrong(
                &place,
                &format!(
                    "Input tag '{other}' found using 'type' does not match any of the expected tags: 'adaptive', 'between_tools', 'disabled', 'enabled'"
                ),
            ));
        }
    };
    fields.only(allowed)?;
    let display = match fields.optional_word("display", &["summarized", "omitted"])? {
        None => None,
        Some("summarized") => Some(Display::Summarized),
        Some(_) => Some(Display::Omitted),
    };
    Ok((mode, display))
}

fn read_output_config<'a>(object: &Object<'a, '_>) -> Checked<(Option<&'a str>, bool)> {
    let Some(json) = object.optional("output_config") else {
        return Ok((None, false));
    };
    let place = object.place.key("output_config");
    let config = Object::of(json, &place)?;
    config.only(&["effort", "format"])?;
    let effort = config.optional_word("effort", &["low", "medium", "high", "xhigh", "max"])?;
    let format = config.optional("format");
    if let Some(json) = format {
        let place = place.key("format");
        let format = Object::of(json, &place)?;
        format.only(&["type", "schema"])?;
        if format.text("type")? != "json_schema" {
            return Err(wrong(&place.key("type"), "Input should be 'json_schema'"));
        }
        Object::of(format.required("schema")?, &place.key("schema"))?;
    }
    Ok((effort, format.is_some()))
}

fn read_stop_sequences<'a>(object: &Object<'a, '_>) -> Checked<Vec<&'a str>> {
    let place = object.place.key("stop_sequences");
    object
        .optional_list("stop_sequences", limits::MESSAGES)?
        .iter()
        .enumerate()
        .map(|(index, entry)| match entry {
            Json::String(text) if text.trim().is_empty() => Err(ApiError::invalid(
                "stop_sequences: each stop sequence must contain non-whitespace",
            )),
            Json::String(text) => Ok(text.as_str()),
            _ => Err(wrong(&place.at(index), "Input should be a valid string")),
        })
        .collect()
}

fn read_user_id<'a>(object: &Object<'a, '_>) -> Checked<Option<&'a str>> {
    let Some(json) = object.optional("metadata") else {
        return Ok(None);
    };
    let place = object.place.key("metadata");
    let metadata = Object::of(json, &place)?;
    metadata.only(&["user_id"])?;
    metadata.optional_text("user_id")
}

/// `max_tokens: 0` only fills the cache, and goes with few other settings.
fn check_warming(request: &Request<'_>, endpoint: Endpoint) -> Checked<()> {
    if endpoint == Endpoint::CountTokens || request.max_tokens > 0 {
        return Ok(());
    }
    let refused = request.stream
        || matches!(request.thinking, ThinkingMode::Enabled { .. })
        || request.output_format
        || request.tool_choice.is_forced();
    if refused {
        return Err(ApiError::invalid(
            "max_tokens: Input should be greater than or equal to 1",
        ));
    }
    Ok(())
}
