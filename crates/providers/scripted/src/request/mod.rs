//! A request, checked and typed: what the vendor would refuse is refused here with the vendor's texts.
//!
//! Reading goes in three passes: the shape of every field ([`read`]), the order of messages and the pairing
//! of tool calls and results ([`order`]), and what the model in question accepts ([`model_rules`]).
//!
//! Invariant: a [`Request`] has at least one entry, every block in it is of a known type, and every tool
//! call before the last user turn has exactly one result.

mod blocks;
mod model_rules;
mod object;
mod order;
mod read;
mod tools;

use serde_json::Value as Json;

pub(crate) use model_rules::check as check_model;
pub(crate) use read::{Endpoint, read};

/// The protocol version a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `2023-06-01`.
    Old,
    /// `2026-10-21`.
    New,
}

/// A checked request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    /// Zero in a count request and in a request that only warms the cache.
    pub(crate) max_tokens: u64,
    pub(crate) stream: bool,
    pub(crate) system: Vec<SystemBlock<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: ToolChoice<'a>,
    pub(crate) entries: Vec<Entry<'a>>,
    pub(crate) thinking: ThinkingMode,
    /// Whether `display` asks for or refuses the text of thinking.
    pub(crate) display: Option<Display>,
    pub(crate) effort: Option<&'a str>,
    pub(crate) output_format: bool,
    pub(crate) stop_sequences: Vec<&'a str>,
    pub(crate) sampling: bool,
    pub(crate) fast: bool,
    pub(crate) geo: Option<&'a str>,
    pub(crate) user_id: Option<&'a str>,
    /// A cache marker at the top level: applies to the last cacheable block.
    pub(crate) automatic_cache: Option<Ttl>,
}

/// A text block of `system`.
#[derive(Debug)]
pub(crate) struct SystemBlock<'a> {
    pub(crate) text: &'a str,
    pub(crate) cache: Option<Ttl>,
}

/// A tool definition.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    pub(crate) name: &'a str,
    /// The whole definition.
    pub(crate) json: &'a Json,
    pub(crate) cache: Option<Ttl>,
}

/// Whether and which tool must be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolChoice<'a> {
    Auto { parallel: bool },
    Any { parallel: bool },
    Tool { name: &'a str, parallel: bool },
    None,
}

impl ToolChoice<'_> {
    /// Whether the model must call a tool.
    pub(crate) const fn is_forced(&self) -> bool {
        matches!(self, Self::Any { .. } | Self::Tool { .. })
    }

    /// The most calls the model may make in one turn.
    pub(crate) const fn most_calls(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Auto { parallel } | Self::Any { parallel } | Self::Tool { parallel, .. } => {
                if *parallel {
                    usize::MAX
                } else {
                    1
                }
            }
        }
    }
}

/// One entry of `messages`.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) role: Role,
    pub(crate) blocks: Vec<Block<'a>>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
    System,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// One content block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: BlockKind<'a>,
    pub(crate) cache: Option<Ttl>,
}

/// What a content block holds.
#[derive(Debug)]
pub(crate) enum BlockKind<'a> {
    Text(&'a str),
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Json,
    },
    ToolResult {
        id: &'a str,
        content: Option<&'a Json>,
        is_error: bool,
    },
    Thinking {
        text: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    /// Image, document, server tool and whatever else is passed through.
    Other {
        name: &'a str,
        json: &'a Json,
    },
}

impl BlockKind<'_> {
    /// The wire name of the block's type.
    pub(crate) const fn name(&self) -> &str {
        match self {
            Self::Text(_) => "text",
            Self::ToolUse { .. } => "tool_use",
            Self::ToolResult { .. } => "tool_result",
            Self::Thinking { .. } => "thinking",
            Self::RedactedThinking { .. } => "redacted_thinking",
            Self::Other { name, .. } => name,
        }
    }
}

/// How long a cache entry lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ttl {
    FiveMinutes,
    OneHour,
}

/// The `thinking` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkingMode {
    /// The field is absent.
    Unsaid,
    Adaptive,
    Enabled {
        budget: u64,
    },
    Disabled,
    BetweenTools,
}

/// The `thinking.display` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Display {
    Summarized,
    Omitted,
}

#[cfg(test)]
mod tests;
