//! The conversation so far, as scripts see it: task, texts, calls with their results.
//!
//! The server keeps no conversation of its own. Where a conversation stands is read from the request, so a
//! client may be killed, may retry, may branch, and a thousand clients may talk at once.
//!
//! Invariant: a view of a request; two equal requests give equal histories.

use std::borrow::Cow;
use std::collections::HashMap;

use otto_core::compaction::{asks_for_summary, replaced_replies, stands_for_more};
use serde_json::Value as Json;

use crate::ids::CallCode;
use crate::request::{BlockKind, Entry, Request, Role};

/// What was said before the turn that is now to be played.
pub(crate) struct History<'a> {
    pub(crate) model: &'a str,
    /// The blocks of `system`, joined.
    pub(crate) system: String,
    /// How many assistant messages there were, those that compaction has replaced included: the number of the turn
    /// to play, from 0.
    pub(crate) assistant_messages: usize,
    /// How many of them the first user message stands for.
    replaced: usize,
    /// The request asks for a summary of itself.
    pub(crate) asks_for_summary: bool,
    /// All calls in order.
    pub(crate) calls: Vec<PastCall<'a>>,
    entries: &'a [Entry<'a>],
}

/// A call of an earlier turn.
pub(crate) struct PastCall<'a> {
    /// The number of the assistant message it is in, from 0.
    pub(crate) turn: usize,
    pub(crate) name: &'a str,
    pub(crate) input: &'a Json,
    /// What the id says, if this server made it.
    pub(crate) code: Option<CallCode>,
    pub(crate) result: Option<PastResult<'a>>,
}

/// The answer to a call.
pub(crate) struct PastResult<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) is_error: bool,
}

impl<'a> History<'a> {
    /// The history of a request.
    pub(crate) fn of(request: &'a Request<'a>) -> Self {
        let mut results: HashMap<&str, PastResult<'a>> = HashMap::new();
        for block in request.entries.iter().flat_map(|entry| &entry.blocks) {
            if let BlockKind::ToolResult {
                id,
                content,
                is_error,
            } = block.kind
            {
                results.insert(
                    id,
                    PastResult {
                        text: result_text(content),
                        is_error,
                    },
                );
            }
        }
        let replaced = request.entries.first().map_or(0, replaced);
        let assistant = request
            .entries
            .iter()
            .filter(|entry| entry.role == Role::Assistant);
        let mut calls = Vec::with_capacity(results.len());
        for (turn, entry) in assistant.clone().enumerate() {
            for block in &entry.blocks {
                if let BlockKind::ToolUse { id, name, input } = block.kind {
                    calls.push(PastCall {
                        turn: replaced + turn,
                        name,
                        input,
                        code: CallCode::read(id),
                        result: results.remove(id),
                    });
                }
            }
        }
        Self {
            model: request.model,
            system: request
                .system
                .iter()
                .map(|block| block.text)
                .collect::<Vec<_>>()
                .join("\n\n"),
            assistant_messages: replaced + assistant.count(),
            replaced,
            asks_for_summary: request
                .entries
                .last()
                .is_some_and(|entry| texts_of(entry).last().is_some_and(asks_for_summary)),
            calls,
            entries: &request.entries,
        }
    }

    /// The text of the first user turn.
    pub(crate) fn task(&self) -> Cow<'a, str> {
        texts(
            self.entries
                .iter()
                .take_while(|entry| entry.role != Role::Assistant)
                .filter(|entry| entry.role == Role::User),
        )
    }

    /// The text of the user turn before turn number `turn`; empty if it held only results.
    pub(crate) fn user_text(&self, turn: usize) -> String {
        let mut before = self.replaced;
        let mut start = 0;
        let mut end = self.entries.len();
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.role == Role::Assistant {
                if before == turn {
                    end = index;
                    break;
                }
                before += 1;
                start = index + 1;
            }
        }
        texts(
            self.entries[start..end]
                .iter()
                .filter(|entry| entry.role == Role::User),
        )
        .into_owned()
    }
}

/// How many replies the summary in an entry stands for.
fn replaced(entry: &Entry<'_>) -> usize {
    let count = texts_of(entry).find_map(replaced_replies);
    count.map_or(0, |count| count as usize)
}

fn texts_of<'a>(entry: &'a Entry<'a>) -> impl DoubleEndedIterator<Item = &'a str> {
    entry.blocks.iter().filter_map(|block| match block.kind {
        BlockKind::Text(text) => Some(text),
        _ => None,
    })
}

/// The texts of entries, but for what stands for messages that are not there any more.
fn texts<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> Cow<'a, str> {
    let mut texts = entries
        .flat_map(texts_of)
        .filter(|text| !stands_for_more(text));
    let first = texts.next().unwrap_or_default();
    texts.fold(Cow::Borrowed(first), |all, text| {
        Cow::Owned(format!("{all}\n{text}"))
    })
}

/// The text of a tool result: a string as it is, the text blocks of a list one per line.
fn result_text(content: Option<&Json>) -> Cow<'_, str> {
    match content {
        Some(Json::String(text)) => Cow::Borrowed(text),
        Some(Json::Array(blocks)) => {
            let mut texts = blocks
                .iter()
                .filter_map(|block| block.get("text")?.as_str());
            match (texts.next(), texts.next()) {
                (None, _) => Cow::Borrowed(""),
                (Some(only), None) => Cow::Borrowed(only),
                (Some(first), Some(second)) => {
                    let rest: Vec<&str> = [first, second].into_iter().chain(texts).collect();
                    Cow::Owned(rest.join("\n"))
                }
            }
        }
        _ => Cow::Borrowed(""),
    }
}
