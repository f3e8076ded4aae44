//! What a provider accepts as a history, checked as the protocol says it, without a word of Otto's own code.

use std::collections::BTreeSet;
use std::sync::Arc;

use otto_core::ToolCallId;
use otto_core::message::{BlockView, Message, UserBlock};

use crate::rule::{Held, Rule, require};

/// Checks a whole history; `paused` are the blocks of replies that it may end with.
pub(crate) fn check(history: &[Arc<Message>], paused: &BTreeSet<Arc<str>>) -> Held {
    let valid = |holds: bool, what: &str, n: usize| {
        require(holds, Rule::ValidHistory, || format!("message {n}: {what}"))
    };
    let mut ids = BTreeSet::new();
    let mut open: BTreeSet<&ToolCallId> = BTreeSet::new();
    for (n, message) in history.iter().enumerate() {
        match &**message {
            Message::User(blocks) => {
                valid(!blocks.is_empty(), "it is empty", n)?;
                let mut only_results_so_far = true;
                for block in blocks {
                    match block {
                        UserBlock::Text(text) => {
                            valid(!text.trim().is_empty(), "a text is empty", n)?;
                            only_results_so_far = false;
                        }
                        UserBlock::ToolResult(result) => {
                            valid(only_results_so_far, "a result stands behind a text", n)?;
                            valid(
                                open.remove(&result.call),
                                "a result answers no call, or answers it again",
                                n,
                            )?;
                        }
                    }
                }
                valid(open.is_empty(), "a call has no result", n)?;
            }
            Message::Assistant(reply) => {
                valid(n > 0, "the first message is the model's", n)?;
                valid(open.is_empty(), "a call has no result", n)?;
                valid(!reply.blocks.is_empty(), "it is empty", n)?;
                for block in &reply.blocks {
                    match &block.view {
                        BlockView::ToolCall(call) => {
                            valid(ids.insert(&call.id), "the id of a call comes twice", n)?;
                            open.insert(&call.id);
                        }
                        BlockView::Text(text) => {
                            valid(!text.trim().is_empty(), "a text is empty", n)?
                        }
                        BlockView::Thinking(_) | BlockView::Opaque => {}
                    }
                }
            }
        }
    }
    valid(
        open.is_empty(),
        "the last calls have no results",
        history.len(),
    )?;
    let ends_well = history.last().is_some_and(|last| match &**last {
        Message::User(_) => true,
        Message::Assistant(reply) => reply.blocks.iter().all(|block| paused.contains(&block.raw)),
    });
    valid(
        ends_well,
        "it ends with a reply that was not paused",
        history.len(),
    )
}
