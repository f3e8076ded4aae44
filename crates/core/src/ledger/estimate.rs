//! Upper bounds for what a request can use, before it is sent.
//!
//! No tokenizer of a current model is published, so the bound counts bytes: a byte-level tokenizer never
//! makes more tokens than the bytes it gets. The published predecessor normalises with NFKC first, which
//! can lengthen text, hence the maximum of both lengths. Overheads are those of the protocol reference,
//! section 11.2 (2026-11-22).
//!
//! Invariant: every bound is at least the tokens that the provider bills for the same content.

use unicode_normalization::UnicodeNormalization;

use crate::Money;
use crate::message::{BlockView, Message, ToolInput, UserBlock};

/// What a model call asks the ledger for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Upper bound of the prompt's tokens.
    pub prompt_tokens: u64,
    /// Upper bound of the prompt's cost.
    pub prompt_cost: Money,
    /// Cost of each output token.
    pub output_price: Money,
    /// Output tokens the call would like to be allowed.
    pub output_wanted: u64,
    /// Below this many output tokens the call is not worth making.
    pub output_floor: u64,
}

/// An upper bound, in tokens.
pub type TokenBound = u64;

/// Base of every request: envelope and whatever the provider adds unseen is counted apart.
const PER_BLOCK: u64 = 16;
const PER_MESSAGE: u64 = 16;
const PER_TOOL: u64 = 64;
const PER_TOOL_RESULT: u64 = 32;

/// Bound of a plain text: the larger of its bytes and the bytes of its NFKC form.
#[must_use]
pub fn text_bound(text: &str) -> TokenBound {
    let bytes = text.len() as u64;
    if text.is_ascii() {
        return bytes;
    }
    let normalised: u64 = text.nfkc().map(|c| c.len_utf8() as u64).sum();
    bytes.max(normalised)
}

/// Bound of a JSON value that the provider renders in a way of its own: twice its escaped bytes.
fn json_bound(json: &str) -> TokenBound {
    // An ASCII-escaped form spends at most 12 bytes on what UTF-8 spends 4 on, and at least doubles no ASCII.
    let escaped: u64 = if json.is_ascii() {
        json.len() as u64
    } else {
        json.chars()
            .map(|c| {
                if c.is_ascii() {
                    1
                } else {
                    6 * c.len_utf16() as u64
                }
            })
            .sum()
    };
    escaped.saturating_mul(2)
}

/// Bound of one tool definition: name, description and schema as JSON text.
#[must_use]
pub fn tool_definition_bound(name: &str, description: &str, schema: &str) -> TokenBound {
    PER_TOOL
        .saturating_add(json_bound(name))
        .saturating_add(json_bound(description))
        .saturating_add(json_bound(schema))
}

/// Bound of one message of the history.
#[must_use]
pub fn message_bound(message: &Message) -> TokenBound {
    match message {
        Message::User(blocks) => blocks.iter().fold(PER_MESSAGE, |sum, block| {
            sum.saturating_add(match block {
                UserBlock::Text(text) => PER_BLOCK.saturating_add(text_bound(text)),
                UserBlock::ToolResult(result) => {
                    PER_TOOL_RESULT.saturating_add(text_bound(&result.content))
                }
            })
        }),
        Message::Assistant(message) => {
            let blocks = message.blocks.iter().fold(PER_MESSAGE, |sum, block| {
                sum.saturating_add(PER_BLOCK)
                    .saturating_add(match &block.view {
                        BlockView::Text(text) | BlockView::Thinking(text) => text_bound(text),
                        BlockView::ToolCall(call) => {
                            let input = match &call.input {
                                ToolInput::Object(text) | ToolInput::Invalid(text) => {
                                    json_bound(text)
                                }
                            };
                            text_bound(call.tool.as_str()).saturating_add(input)
                        }
                        BlockView::Opaque => json_bound(&block.raw),
                    })
            });
            blocks.max(message.output_tokens_bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_that_lengthens_is_counted() {
        assert_eq!(text_bound("abc"), 3);
        assert_eq!(text_bound("\u{FDFA}"), 33);
    }

    #[test]
    fn omitted_thinking_is_bounded_by_what_was_billed() {
        use crate::message::{AssistantMessage, Block};
        use std::sync::Arc;
        let block = Block {
            raw: Arc::from("{}"),
            view: BlockView::Thinking(Arc::from("")),
        };
        let message = Message::Assistant(AssistantMessage {
            blocks: vec![Arc::new(block)],
            output_tokens_bound: 5_000,
        });
        assert_eq!(message_bound(&message), 5_000);
    }
}
