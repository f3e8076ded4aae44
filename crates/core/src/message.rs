//! What is said between people, models and tools.
//!
//! Assistant blocks are kept twice: the raw JSON exactly as the provider sent it, which is what goes back
//! in the next request, and a typed view that Otto reads. Recent models bind their thinking blocks to the
//! exact prefix, so the raw form is never rebuilt from the view.
//!
//! This module does not know any vendor's wire format; a provider makes the raw form and reads it back.
//!
//! Invariant: a message, once made, is never changed. History only grows.

use std::sync::Arc;

use crate::{ToolCallId, ToolName};

/// One entry of an invocation's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// From the person, or the results of tools. Results come first.
    User(Vec<UserBlock>),
    /// From the model.
    Assistant(AssistantMessage),
}

/// One part of a user message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserBlock {
    /// The answer to one tool call.
    ToolResult(ToolResultBlock),
    /// Text; never empty.
    Text(Arc<str>),
}

/// The answer to one tool call, as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResultBlock {
    /// The call that is answered.
    pub call: ToolCallId,
    /// What the model reads; may be empty.
    pub content: Arc<str>,
    /// Whether the call failed, was refused or was not run.
    pub is_error: bool,
}

/// What the model said in one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssistantMessage {
    /// The blocks in order; never empty in a history.
    pub blocks: Vec<Arc<Block>>,
    /// Upper bound of the output tokens billed for this message, as far as known.
    pub output_tokens_bound: u64,
}

/// One part of an assistant message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The provider's JSON of the block, resent byte for byte.
    pub raw: Arc<str>,
    /// What Otto understands of it.
    pub view: BlockView,
}

/// The typed view of an assistant block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockView {
    /// Text for the reader.
    Text(Arc<str>),
    /// A call of one of Otto's tools.
    ToolCall(ToolCallBlock),
    /// The model's thinking; the text may be empty.
    Thinking(Arc<str>),
    /// A block that Otto keeps and resends without reading it.
    Opaque,
}

/// A model's request to run a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCallBlock {
    /// The provider's id of the call, unique within its turn.
    pub id: ToolCallId,
    /// The tool, by the name Otto knows it. An unknown name stays as the model wrote it.
    pub tool: ToolCallName,
    /// The input: a JSON object as text, or what arrived instead.
    pub input: ToolInput,
}

/// The name in a tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolCallName {
    /// A tool that was offered in the request.
    Known(ToolName),
    /// A name that was not offered; kept to tell the model.
    Unknown(Arc<str>),
}

impl ToolCallName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name.as_str(),
            Self::Unknown(text) => text,
        }
    }
}

/// The input of a tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolInput {
    /// A complete JSON object, as text.
    Object(Arc<str>),
    /// Bytes that are not a JSON object: the call cannot run.
    Invalid(Arc<str>),
}

impl Message {
    /// A user message of one text.
    #[must_use]
    pub fn user_text(text: &str) -> Self {
        Self::User(vec![UserBlock::Text(Arc::from(text))])
    }

    /// The tool calls of an assistant message, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCallBlock> {
        let blocks = match self {
            Self::Assistant(message) => message.blocks.as_slice(),
            Self::User(_) => &[],
        };
        blocks.iter().filter_map(|block| match &block.view {
            BlockView::ToolCall(call) => Some(call),
            BlockView::Text(_) | BlockView::Thinking(_) | BlockView::Opaque => None,
        })
    }
}
