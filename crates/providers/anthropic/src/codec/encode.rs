//! The request body, written straight to bytes.
//!
//! Assistant blocks go back exactly as they came, so that prompt caches hit and thinking blocks stay bound to
//! their prefix; tool definitions are copied from [`WireTools`]. Nothing depends on the time or on earlier
//! requests: the same conversation and history give the same bytes, but for the place of the cache markers,
//! which do not count as content.
//!
//! What is not sent: sampling fields (refused by the newest version of the API on every model), effort and
//! the thinking mode (the model's defaults are what its price and quality are known for), forced tool choice
//! (refused by half of the models).
//!
//! Invariant: a message sequence that was valid stays valid: results come first, nothing is empty, and at
//! most three cache markers are sent of the four allowed.

use bytes::Bytes;
use otto_core::ToolName;
use otto_core::invocation::ModelRequest;
use otto_core::message::{AssistantMessage, Block, BlockView, Message, UserBlock};
use otto_core::model::CacheUse;
use otto_core::port::llm_client::Conversation;

use crate::codec::WireTools;
use crate::codec::json_text::{push_key, push_string};
use crate::config::{DataResidency, ThinkingDisplay};
use crate::prices::{ThinkingDefault, facts};

/// Largest request body.
///
/// Source: the vendor's error documentation (32 MB for messages, refused by the network in front of the API).
pub const MAX_REQUEST_BYTES: usize = 32 * 1000 * 1000;

/// How far back the provider looks from a cache marker for what it has cached, in blocks.
const CACHE_LOOKBACK_BLOCKS: usize = 19;

/// Longest opaque user id.
const MAX_USER_ID_CHARS: usize = 64;

/// Choices of the operator that are part of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Where the model may run.
    pub residency: DataResidency,
    /// Whether thinking is shown.
    pub thinking_display: ThinkingDisplay,
}

/// Why a request was not made. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Two tools would have one name on the wire.
    #[error(
        "tools `{first}` and `{second}` would both be called `{wire}` by the model: rename one of them"
    )]
    ToolNameClash {
        /// One tool.
        first: ToolName,
        /// The other.
        second: ToolName,
        /// Their common name.
        wire: Box<str>,
    },
    /// A tool's input schema is not a JSON object.
    #[error("the input schema of tool `{tool}` is not a JSON object")]
    InvalidSchema {
        /// The tool.
        tool: ToolName,
    },
    /// The opaque user id is too long.
    #[error(
        "the user id for the provider has {chars} characters: at most {MAX_USER_ID_CHARS} are allowed"
    )]
    UserIdTooLong {
        /// Its length.
        chars: usize,
    },
    /// There is nothing to send.
    #[error("the history has no message with content")]
    EmptyHistory,
    /// No output would be allowed.
    #[error("the call allows no output tokens")]
    NoOutputTokens,
    /// The body exceeds what the provider takes.
    #[error(
        "the request has {bytes} bytes: the provider takes at most {MAX_REQUEST_BYTES}; shorten the history"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Encodes one model call.
///
/// `tools` must be the encoding of the conversation's tools.
///
/// # Errors
/// When the request could not be valid; see [`EncodeError`].
pub fn encode(
    conversation: &Conversation,
    request: &ModelRequest,
    tools: &WireTools,
    options: EncodeOptions,
) -> Result<Bytes, EncodeError> {
    debug_assert!(
        tools.is_for(&conversation.tools),
        "tools of another conversation"
    );
    let model = &conversation.model;
    let max_tokens = request.max_output_tokens.min(model.max_output_tokens);
    if max_tokens == 0 {
        return Err(EncodeError::NoOutputTokens);
    }
    let mut out = String::with_capacity(expected_bytes(conversation, request, tools));
    out.push('{');
    push_key(&mut out, "model");
    push_string(&mut out, model.id.as_str());
    push_key(&mut out, "max_tokens");
    out.push_str(&max_tokens.to_string());
    push_key(&mut out, "stream");
    out.push_str("true");
    push_model_options(&mut out, conversation, options);
    push_user_id(&mut out, conversation)?;
    push_instructions(&mut out, conversation, tools);
    push_messages(&mut out, &request.history, conversation.cache)?;
    out.push('}');
    if out.len() > MAX_REQUEST_BYTES {
        return Err(EncodeError::TooLarge { bytes: out.len() });
    }
    Ok(Bytes::from(out))
}

/// What only some models accept.
fn push_model_options(out: &mut String, conversation: &Conversation, options: EncodeOptions) {
    let Some(facts) = facts(&conversation.model.id) else {
        return;
    };
    if facts.accepts_inference_geo
        && let Some(geo) = options.residency.wire_name()
    {
        push_key(out, "inference_geo");
        push_string(out, geo);
    }
    // Asking for the default mode by name changes nothing but lets the display be chosen.
    if options.thinking_display == ThinkingDisplay::Summarized
        && facts.thinking == ThinkingDefault::Adaptive
    {
        push_key(out, "thinking");
        out.push_str(r#"{"type":"adaptive","display":"summarized"}"#);
    }
}

fn push_user_id(out: &mut String, conversation: &Conversation) -> Result<(), EncodeError> {
    let Some(user_id) = conversation.user_id.as_deref() else {
        return Ok(());
    };
    let chars = user_id.chars().count();
    if chars > MAX_USER_ID_CHARS {
        return Err(EncodeError::UserIdTooLong { chars });
    }
    push_key(out, "metadata");
    out.push_str("{\"user_id\":");
    push_string(out, user_id);
    out.push('}');
    Ok(())
}

/// Tools and system prompt, with one cache marker after the last of them.
fn push_instructions(out: &mut String, conversation: &Conversation, tools: &WireTools) {
    let system = &*conversation.system_prompt;
    let marker = marker(conversation.cache);
    let definitions = tools.definitions();
    if !definitions.is_empty() {
        push_key(out, "tools");
        out.push('[');
        match definitions.strip_suffix('}') {
            Some(open) if system.is_empty() => {
                out.push_str(open);
                out.push_str(marker);
                out.push('}');
            }
            _ => out.push_str(definitions),
        }
        out.push(']');
    }
    if !system.is_empty() {
        push_key(out, "system");
        out.push_str("[{\"type\":\"text\",\"text\":");
        push_string(out, system);
        out.push_str(marker);
        out.push_str("}]");
    }
}

fn push_messages(
    out: &mut String,
    history: &[std::sync::Arc<Message>],
    cache: CacheUse,
) -> Result<(), EncodeError> {
    let marked = marked_messages(history, cache);
    push_key(out, "messages");
    out.push('[');
    let start = out.len();
    for (position, message) in history.iter().enumerate() {
        if sent_blocks(message) == 0 {
            continue;
        }
        if out.len() > start {
            out.push(',');
        }
        match &**message {
            Message::User(blocks) => {
                let marker = if marked.contains(&Some(position)) {
                    marker(cache)
                } else {
                    ""
                };
                push_user(out, blocks, marker);
            }
            Message::Assistant(message) => push_assistant(out, message),
        }
    }
    if out.len() == start {
        return Err(EncodeError::EmptyHistory);
    }
    out.push(']');
    Ok(())
}

/// The user messages whose last block gets a cache marker: the newest one and, if so much was added since
/// the one before that the provider would not look back that far, that one too.
fn marked_messages(history: &[std::sync::Arc<Message>], cache: CacheUse) -> [Option<usize>; 2] {
    if cache == CacheUse::None {
        return [None, None];
    }
    let is_marked =
        |message: &Message| matches!(message, Message::User(_)) && sent_blocks(message) > 0;
    let Some(newest) = history.iter().rposition(|message| is_marked(message)) else {
        return [None, None];
    };
    let previous = history[..newest]
        .iter()
        .rposition(|message| is_marked(message));
    let added = |from: usize| {
        history[from + 1..=newest]
            .iter()
            .map(|message| sent_blocks(message))
            .sum::<usize>()
    };
    [
        Some(newest),
        previous.filter(|from| added(*from) > CACHE_LOOKBACK_BLOCKS),
    ]
}

fn push_user(out: &mut String, blocks: &[UserBlock], marker: &str) {
    out.push_str("{\"role\":\"user\",\"content\":[");
    let start = out.len();
    let results = blocks
        .iter()
        .filter(|block| matches!(block, UserBlock::ToolResult(_)));
    let texts = blocks
        .iter()
        .filter(|block| matches!(block, UserBlock::Text(text) if !text.is_empty()));
    for block in results.chain(texts) {
        if out.len() > start {
            out.push_str("},");
        }
        match block {
            UserBlock::Text(text) => {
                out.push_str("{\"type\":\"text\",\"text\":");
                push_string(out, text);
            }
            UserBlock::ToolResult(result) => {
                out.push_str("{\"type\":\"tool_result\",\"tool_use_id\":");
                push_string(out, &result.call.0);
                if !result.content.is_empty() {
                    out.push_str(",\"content\":");
                    push_string(out, &result.content);
                }
                if result.is_error {
                    out.push_str(",\"is_error\":true");
                }
            }
        }
    }
    out.push_str(marker);
    out.push_str("}]}");
}

fn push_assistant(out: &mut String, message: &AssistantMessage) {
    out.push_str("{\"role\":\"assistant\",\"content\":[");
    let start = out.len();
    for block in message.blocks.iter().filter(|block| is_sent(block)) {
        if out.len() > start {
            out.push(',');
        }
        out.push_str(&block.raw);
    }
    out.push_str("]}");
}

/// How many blocks of a message are sent.
fn sent_blocks(message: &Message) -> usize {
    match message {
        Message::User(blocks) => blocks
            .iter()
            .filter(|block| !matches!(block, UserBlock::Text(text) if text.is_empty()))
            .count(),
        Message::Assistant(message) => message.blocks.iter().filter(|block| is_sent(block)).count(),
    }
}

/// A text block without a visible character is refused when it is sent back, although models write such
/// blocks; it carries nothing, and no thinking can be bound to a prefix that was never accepted.
fn is_sent(block: &Block) -> bool {
    !matches!(&block.view, BlockView::Text(text) if text.trim().is_empty())
}

/// A cache marker as a last field, or nothing.
const fn marker(cache: CacheUse) -> &'static str {
    match cache {
        CacheUse::None => "",
        CacheUse::FiveMinutes => r#","cache_control":{"type":"ephemeral"}"#,
        CacheUse::OneHour => r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#,
    }
}

/// A little more than the size of the body if few characters need escapes.
fn expected_bytes(conversation: &Conversation, request: &ModelRequest, tools: &WireTools) -> usize {
    const PER_BLOCK: usize = 128;
    let history: usize = request
        .history
        .iter()
        .map(|message| match &**message {
            Message::User(blocks) => blocks
                .iter()
                .map(|block| match block {
                    UserBlock::Text(text) => text.len() + PER_BLOCK,
                    UserBlock::ToolResult(result) => result.content.len() + PER_BLOCK,
                })
                .sum::<usize>(),
            Message::Assistant(message) => {
                message.blocks.iter().map(|block| block.raw.len() + 1).sum()
            }
        })
        .sum();
    let content = history + conversation.system_prompt.len() + tools.definitions().len();
    content + content / 16 + 1_024
}
