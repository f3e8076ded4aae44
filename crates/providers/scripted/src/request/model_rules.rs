//! Third pass: what the model in question accepts.

use otto_core::model::ModelSpec;

use super::object::Checked;
use super::{BlockKind, Request, Role, ThinkingMode, Version};
use crate::error::ApiError;
use crate::models::{Fast, Traits};

/// Checks a request against the model it names.
///
/// # Errors
/// The 400 the vendor would answer with.
pub(crate) fn check(
    request: &Request<'_>,
    spec: &ModelSpec,
    traits: &Traits,
    version: Version,
) -> Checked<()> {
    if request.max_tokens > spec.max_output_tokens {
        return Err(ApiError::invalid(format!(
            "max_tokens: {} > {}, which is the maximum allowed number of output tokens for {}",
            request.max_tokens, spec.max_output_tokens, request.model
        )));
    }
    check_thinking(request, traits)?;
    check_settings(request, traits, version)?;
    check_entries(request, traits)
}

fn check_thinking(request: &Request<'_>, traits: &Traits) -> Checked<()> {
    let modes = &traits.thinking;
    match request.thinking {
        ThinkingMode::Unsaid => {}
        ThinkingMode::Adaptive if !modes.adaptive => {
            return Err(ApiError::invalid(
                "adaptive thinking is not supported on this model",
            ));
        }
        ThinkingMode::Enabled { .. } if !modes.enabled => {
            return Err(ApiError::invalid(
                "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                 \"output_config.effort\" to control thinking behavior.",
            ));
        }
        ThinkingMode::Disabled if !modes.disabled => {
            return Err(ApiError::invalid(
                "\"thinking.type.disabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                 \"output_config.effort\" to control thinking behavior.",
            ));
        }
        ThinkingMode::BetweenTools if !modes.between_tools => {
            return Err(ApiError::invalid(
                "\"thinking.type.between_tools\" is not supported for this model.",
            ));
        }
        ThinkingMode::Enabled { budget }
            if budget >= request.max_tokens && request.max_tokens > 0 =>
        {
            return Err(ApiError::invalid(
                "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at \
                 docs.claude.com for the limits of extended thinking.",
            ));
        }
        ThinkingMode::Adaptive
        | ThinkingMode::Enabled { .. }
        | ThinkingMode::Disabled
        | ThinkingMode::BetweenTools => {}
    }
    if matches!(request.thinking, ThinkingMode::Enabled { .. }) {
        if request.tool_choice.is_forced() {
            return Err(ApiError::invalid(
                "Thinking may not be enabled when tool_choice forces tool use.",
            ));
        }
        check_manual_start(request)?;
    }
    Ok(())
}

/// With manual thinking, the assistant turn whose calls are being answered starts with thinking.
fn check_manual_start(request: &Request<'_>) -> Checked<()> {
    let in_tool_loop = request.entries.last().is_some_and(|entry| {
        entry
            .blocks
            .iter()
            .any(|block| matches!(block.kind, BlockKind::ToolResult { .. }))
    });
    let assistant = request
        .entries
        .iter()
        .enumerate()
        .rfind(|(_, entry)| entry.role == Role::Assistant);
    let (Some((index, entry)), true) = (assistant, in_tool_loop) else {
        return Ok(());
    };
    match entry.blocks.first().map(|block| &block.kind) {
        None | Some(BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. }) => Ok(()),
        Some(other) => Err(ApiError::invalid(format!(
            "messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{}`. When `thinking` is \
             enabled, a final `assistant` message must start with a thinking block.",
            other.name()
        ))),
    }
}

fn check_settings(request: &Request<'_>, traits: &Traits, version: Version) -> Checked<()> {
    if request.sampling && version == Version::Old && !traits.sampling {
        return Err(ApiError::invalid(
            "`temperature`, `top_p` and `top_k` are not supported for this model.",
        ));
    }
    if let Some(effort) = request.effort
        && !traits.efforts.contains(&effort)
    {
        return Err(ApiError::invalid(format!(
            "output_config.effort: '{effort}' is not supported for this model"
        )));
    }
    if request.tool_choice.is_forced() && !traits.forced_tool_choice {
        return Err(ApiError::invalid(
            "tool_choice: types `any` and `tool` are not supported for this model.",
        ));
    }
    if request.fast && traits.fast == Fast::Refused {
        return Err(ApiError::invalid(
            "speed: 'fast' is not supported for this model",
        ));
    }
    if request.geo.is_some() && !traits.geo {
        return Err(ApiError::invalid(
            "inference_geo: not supported for this model",
        ));
    }
    Ok(())
}

fn check_entries(request: &Request<'_>, traits: &Traits) -> Checked<()> {
    if !traits.system_entries
        && let Some(index) = request
            .entries
            .iter()
            .position(|entry| entry.role == Role::System)
    {
        return Err(ApiError::invalid(format!(
            "messages.{index}: role `system` is not supported for this model"
        )));
    }
    let Some(last) = request
        .entries
        .last()
        .filter(|entry| entry.role == Role::Assistant)
    else {
        return Ok(());
    };
    // A turn that the server paused is sent back as it is.
    let paused = last.blocks.iter().any(|block| {
        matches!(
            block.kind,
            BlockKind::Other {
                name: "server_tool_use",
                ..
            }
        )
    });
    if paused {
        return Ok(());
    }
    if !traits.prefill {
        return Err(ApiError::invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    if matches!(
        request.thinking,
        ThinkingMode::Adaptive | ThinkingMode::Enabled { .. }
    ) {
        return Err(ApiError::invalid(
            "Prefilling assistant messages is not supported when thinking is enabled.",
        ));
    }
    match last.blocks.last().map(|block| &block.kind) {
        Some(BlockKind::Text(text)) if text.ends_with(char::is_whitespace) => {
            Err(ApiError::invalid(
                "messages: final assistant content cannot end with trailing whitespace",
            ))
        }
        _ => Ok(()),
    }
}
