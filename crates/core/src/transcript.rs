//! The transcript: what was said, bounded, for people and for the checkpoint.
//!
//! It is a view. What the model sees is the history; the transcript keeps the last messages of what was said, also
//! of what compaction has replaced in the history, and renders them as JSON Lines (for programs) and as Markdown (for people).
//!
//! Invariant: a transcript never begins between a call and its result, and no text in it can leave the place it
//! is quoted in or reach a terminal as a control sequence.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::InvocationId;
use crate::invocation::{EARLIER_MESSAGES, Invocation};
use crate::message::{BlockView, Message, ToolInput, UserBlock};

/// BOUND: messages a transcript keeps where nothing else is said; the dropped ones are counted.
pub const DEFAULT_MESSAGES: usize = 200;
/// BOUND: the most messages that can be asked for; so many are remembered of what compaction replaces.
pub const MAX_MESSAGES: usize = EARLIER_MESSAGES;

/// The last messages of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    invocation: InvocationId,
    messages: Vec<Arc<Message>>,
    dropped: usize,
}

impl Transcript {
    /// The last messages that were said in an invocation, as many as its spec says; fewer where the first of them
    /// would answer a call that is not among them.
    #[must_use]
    pub fn of(invocation: &InvocationId, machine: &Invocation) -> Self {
        let bound = machine
            .spec()
            .map_or(DEFAULT_MESSAGES, |spec| spec.transcript_messages);
        Self::last(invocation, machine, bound)
    }

    /// The last `bound` messages, at most [`MAX_MESSAGES`]; fewer for the same reason.
    #[must_use]
    pub fn last(invocation: &InvocationId, machine: &Invocation, bound: usize) -> Self {
        let start = machine.said_count().saturating_sub(bound.min(MAX_MESSAGES));
        let mut dropped = machine.said_count();
        let mut messages = Vec::new();
        for (number, message) in machine.said(start) {
            if messages.is_empty() {
                if answers_a_call(message) {
                    continue;
                }
                dropped = number;
            }
            messages.push(message.clone());
        }
        Self {
            invocation: *invocation,
            messages,
            dropped,
        }
    }

    /// These messages, all that was said.
    #[must_use]
    pub const fn whole(invocation: &InvocationId, messages: Vec<Arc<Message>>) -> Self {
        Self {
            invocation: *invocation,
            messages,
            dropped: 0,
        }
    }

    /// How many messages came before those that were kept.
    #[must_use]
    pub const fn dropped(&self) -> usize {
        self.dropped
    }

    /// The messages that were kept.
    #[must_use]
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    /// One JSON object per line: a header, then one line per part of each message.
    ///
    /// The header is `{"type":"transcript","version":1,"invocation":...,"dropped_messages":...}`. Parts have
    /// `message` (its number, from 0), `role`, and `type`: `text`, `thinking`, `tool_call` (with
    /// `call`, `tool`, `input`), `tool_result` (with `call`, `content`, `is_error`), `opaque`.
    #[must_use]
    pub fn to_jsonl(&self) -> String {
        let mut out = String::new();
        push_line(
            &mut out,
            &Header {
                r#type: "transcript",
                version: 1,
                invocation: self.invocation.to_string(),
                dropped_messages: self.dropped,
            },
        );
        for (message, index) in self.messages.iter().zip(self.dropped..) {
            match &**message {
                Message::User(blocks) => {
                    for block in blocks {
                        let part = match block {
                            UserBlock::Text(text) => Part::Text { text },
                            UserBlock::ToolResult(result) => Part::ToolResult {
                                call: &result.call.0,
                                content: &result.content,
                                is_error: result.is_error,
                            },
                        };
                        push_line(
                            &mut out,
                            &Line {
                                message: index,
                                role: "user",
                                part,
                            },
                        );
                    }
                }
                Message::Assistant(reply) => {
                    for block in &reply.blocks {
                        let part = match &block.view {
                            BlockView::Text(text) => Part::Text { text },
                            BlockView::Thinking(text) => Part::Thinking { text },
                            BlockView::ToolCall(call) => Part::ToolCall {
                                call: &call.id.0,
                                tool: call.tool.as_str(),
                                input: match &call.input {
                                    ToolInput::Object(text) | ToolInput::Invalid(text) => text,
                                },
                            },
                            BlockView::Opaque => Part::Opaque,
                        };
                        push_line(
                            &mut out,
                            &Line {
                                message: index,
                                role: "assistant",
                                part,
                            },
                        );
                    }
                }
            }
        }
        out
    }

    /// The transcript as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# Transcript of invocation {}\n", self.invocation);
        if self.dropped > 0 {
            let _ = write!(out, "\n{} earlier messages are not shown.\n", self.dropped);
        }
        for message in &self.messages {
            match &**message {
                Message::User(blocks) => {
                    for block in blocks {
                        match block {
                            UserBlock::Text(text) => section(&mut out, "User", text),
                            UserBlock::ToolResult(result) => {
                                let kind = if result.is_error { "error" } else { "result" };
                                let title = format!("Tool {kind} `{}`", one_line(&result.call.0));
                                section(&mut out, &title, &result.content);
                            }
                        }
                    }
                }
                Message::Assistant(reply) => {
                    for block in &reply.blocks {
                        match &block.view {
                            BlockView::Text(text) => section(&mut out, "Assistant", text),
                            BlockView::Thinking(text) if text.is_empty() => {}
                            BlockView::Thinking(text) => {
                                section(&mut out, "Assistant, thinking", text)
                            }
                            BlockView::ToolCall(call) => {
                                let (tool, id) =
                                    (one_line(call.tool.as_str()), one_line(&call.id.0));
                                let (ToolInput::Object(input) | ToolInput::Invalid(input)) =
                                    &call.input;
                                section(&mut out, &format!("Tool call `{id}`: `{tool}`"), input);
                            }
                            BlockView::Opaque => {
                                section(&mut out, "Assistant, block of another kind", "")
                            }
                        }
                    }
                }
            }
        }
        out
    }
}

#[derive(Serialize)]
struct Header {
    r#type: &'static str,
    version: u32,
    invocation: String,
    dropped_messages: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    message: usize,
    role: &'static str,
    #[serde(flatten)]
    part: Part<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text {
        text: &'a str,
    },
    Thinking {
        text: &'a str,
    },
    ToolCall {
        call: &'a str,
        tool: &'a str,
        input: &'a str,
    },
    ToolResult {
        call: &'a str,
        content: &'a str,
        is_error: bool,
    },
    Opaque,
}

fn push_line(out: &mut String, line: &impl Serialize) {
    // Strings, numbers and booleans only: there is nothing in it that could fail to serialize.
    out.push_str(&serde_json::to_string(line).unwrap_or_default());
    out.push('\n');
}

fn answers_a_call(message: &Message) -> bool {
    match message {
        Message::User(blocks) => blocks
            .iter()
            .any(|block| matches!(block, UserBlock::ToolResult(_))),
        Message::Assistant(_) => false,
    }
}

/// A titled block of quoted text, in a fence that the text cannot close.
fn section(out: &mut String, title: &str, text: &str) {
    let _ = write!(out, "\n## {title}\n");
    if text.is_empty() {
        return;
    }
    let shown = visible(text);
    let fence = "`".repeat(longest_run_of_backticks(&shown).max(2) + 1);
    let end = if shown.ends_with('\n') { "" } else { "\n" };
    let _ = write!(out, "\n{fence}\n{shown}{end}{fence}\n");
}

/// Of a text that is to be fenced.
pub(crate) fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A short text for a title: visible, on one line, without what Markdown would read.
fn one_line(text: &str) -> String {
    visible(text)
        .chars()
        .map(|c| if matches!(c, '\n' | '`') { '_' } else { c })
        .take(100)
        .collect()
}

/// The text with everything invisible or steering written out as `\u{...}`. Line feeds and tabs stay.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Zero-width non-joiner and joiner stay: Persian and emoji need them.
        '\u{200c}' | '\u{200d}' => false,
        _ => {
            c.is_control()
                || matches!(c,
                    '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolCallId;
    use crate::message::{AssistantMessage, Block, ToolCallBlock, ToolCallName, ToolResultBlock};

    fn id() -> InvocationId {
        InvocationId::from_bytes([1; 16])
    }

    fn call(name: &str) -> Arc<Message> {
        let view = BlockView::ToolCall(ToolCallBlock {
            id: ToolCallId(Arc::from(name)),
            tool: ToolCallName::Unknown(Arc::from("look")),
            input: ToolInput::Object(Arc::from("{}")),
        });
        let block = Arc::new(Block {
            raw: Arc::from("{}"),
            view,
        });
        Arc::new(Message::Assistant(AssistantMessage {
            blocks: vec![block],
            output_tokens_bound: 0,
        }))
    }

    fn result(name: &str, content: &str) -> Arc<Message> {
        Arc::new(Message::User(vec![UserBlock::ToolResult(
            ToolResultBlock {
                call: ToolCallId(Arc::from(name)),
                content: Arc::from(content),
                is_error: false,
            },
        )]))
    }

    fn whole(messages: &[Arc<Message>]) -> Transcript {
        Transcript::whole(&id(), messages.to_vec())
    }

    #[test]
    fn quoted_text_stays_in_its_quotes() {
        let hostile = "```\n# Not a heading\n````\n\u{1b}[2Jgone\u{202e}";
        let text = whole(&[call("a`\n# x"), result("a`\n# x", hostile)]).to_markdown();
        assert!(text.contains("\n`````\n```\n"), "{text}");
        assert!(
            text.contains("\\u{1b}[2J") && text.contains("\\u{202e}"),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}') && text.contains("`a__# x`"),
            "{text}"
        );
        let headings = text.lines().filter(|line| line.starts_with("## ")).count();
        assert_eq!(headings, 2, "{text}");
    }

    #[test]
    fn every_line_is_json() {
        let history = [
            Arc::new(Message::user_text("a\nb")),
            call("a"),
            result("a", "\u{1b}"),
        ];
        let text = whole(&history).to_jsonl();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["version"], 1);
        assert_eq!(lines[1]["text"], "a\nb");
        assert_eq!(lines[2]["tool"], "look");
        assert_eq!(lines[3]["content"], "\u{1b}");
    }

    #[test]
    fn ordinary_text_of_all_scripts_is_unchanged() {
        for text in ["plain", "می\u{200c}خواهم", "👩\u{200d}💻", "tab\tand\nline"] {
            assert_eq!(visible(text), text);
        }
    }
}
