//! One content block while it arrives.
//!
//! A block is kept as its start object plus what its deltas added. When it stops, the raw JSON that will be
//! sent back is the start object, field by field, with the grown fields replaced: text, thinking, signature
//! and the exact bytes of a tool input. Fields and block types that Otto does not know stay as they came.
//!
//! Invariant: a finished block's raw form is one JSON object, and its view says nothing the raw form does not.

use std::sync::Arc;

use otto_core::ToolCallId;
use otto_core::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use otto_core::port::llm_client::ModelEvent;
use serde_json::value::RawValue;

use crate::codec::WireTools;
use crate::codec::json_text::{is_object, push_key, push_string};
use crate::codec::reply::Broken;
use crate::codec::tool_input::check_tool_input;
use crate::codec::wire::{BlockStart, Delta, Fields, lenient, string};

/// Longest tool input that is kept; a longer one is invalid.
// BOUND: eight times the largest output of any model at four bytes per token.
pub const MAX_TOOL_INPUT_BYTES: usize = 4 * 1024 * 1024;

/// How much of an invalid tool input is kept to show the model.
const MAX_INVALID_INPUT_BYTES: usize = 64 * 1024;

/// A block between its start and its stop.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub index: u32,
    kind: BlockKind,
    /// The start object as it came.
    start: Box<str>,
    /// Text, thinking or the raw tool input, grown by deltas.
    grown: String,
    signature: Option<String>,
    citations: Vec<Box<str>>,
    /// The tool input went beyond [`MAX_TOOL_INPUT_BYTES`] and the rest was dropped.
    is_overlong: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BlockKind {
    Text,
    Thinking,
    ToolCall {
        id: ToolCallId,
        tool: ToolCallName,
    },
    ServerToolCall,
    /// Complete at its start; deltas, if any, are not understood.
    Whole(BlockView),
    /// Whole, and the mark where another model took over.
    Fallback,
}

/// What a delta did.
#[derive(Debug, Default)]
pub(super) struct Grown {
    /// For listeners.
    pub event: Option<ModelEvent>,
    /// Bytes of the model's output in it.
    pub output_bytes: usize,
    /// Bytes that are kept until the reply ends.
    pub kept_bytes: usize,
}

impl OpenBlock {
    /// Opens a block from its start object.
    pub(super) fn open(index: u32, raw: &RawValue, tools: &WireTools) -> Result<Self, Broken> {
        let start: BlockStart<'_> = serde_json::from_str(raw.get()).map_err(|error| {
            Broken::protocol(format!("block {index} does not begin as a block: {error}"))
        })?;
        let text_of = |field: Option<&RawValue>, name: &str| match field {
            None => Ok(String::new()),
            Some(value) => string(value).ok_or_else(|| {
                Broken::protocol(format!(
                    "block {index} begins with a `{name}` that is no text"
                ))
            }),
        };
        let (kind, grown, signature) = match start.kind.as_str() {
            "text" => (BlockKind::Text, text_of(start.text, "text")?, None),
            "thinking" => {
                let signature = text_of(start.signature, "signature")?;
                let signature = (!signature.is_empty()).then_some(signature);
                (
                    BlockKind::Thinking,
                    text_of(start.thinking, "thinking")?,
                    signature,
                )
            }
            "tool_use" => {
                let (Some(id), Some(name)) =
                    (start.id.and_then(string), start.name.and_then(string))
                else {
                    return Err(Broken::protocol(format!(
                        "the tool call in block {index} has no id or no name"
                    )));
                };
                let tool = match tools.find(&name) {
                    Some(known) => ToolCallName::Known(known.clone()),
                    None => ToolCallName::Unknown(name.into()),
                };
                (
                    BlockKind::ToolCall {
                        id: ToolCallId(id.into()),
                        tool,
                    },
                    String::new(),
                    None,
                )
            }
            "server_tool_use" => (BlockKind::ServerToolCall, String::new(), None),
            // Its text is hidden, but it is thinking: whoever drops thinking must drop it too.
            "redacted_thinking" => (
                BlockKind::Whole(BlockView::Thinking("".into())),
                String::new(),
                None,
            ),
            "fallback" => (BlockKind::Fallback, String::new(), None),
            _ => (BlockKind::Whole(BlockView::Opaque), String::new(), None),
        };
        let start = raw.get().into();
        Ok(Self {
            index,
            kind,
            start,
            grown,
            signature,
            citations: Vec::new(),
            is_overlong: false,
        })
    }

    /// The tool call that has begun with this block, if it is one.
    pub(super) fn tool_call(&self) -> Option<(&ToolCallId, &ToolCallName)> {
        match &self.kind {
            BlockKind::ToolCall { id, tool } => Some((id, tool)),
            _ => None,
        }
    }

    /// Whether another model takes over at this block.
    pub(super) fn is_fallback(&self) -> bool {
        self.kind == BlockKind::Fallback
    }

    /// Whether the model is thinking in this block.
    pub(super) fn is_thinking(&self) -> bool {
        self.kind == BlockKind::Thinking
    }

    /// Bytes of the model's output that came with the start object.
    pub(super) fn initial_output_bytes(&self) -> usize {
        self.grown.len()
    }

    /// Applies a delta. Delta types that are not known are skipped, as are all deltas of whole blocks.
    pub(super) fn grow(&mut self, delta: Delta<'_>) -> Result<Grown, Broken> {
        let index = self.index;
        let kind = delta.kind.as_ref().map_or("", |kind| kind.as_str());
        if matches!(self.kind, BlockKind::Whole(_) | BlockKind::Fallback) {
            return Ok(Grown::default());
        }
        let missing = || Broken::protocol(format!("a delta of block {index} lacks its content"));
        let text_of = |field: Option<super::wire::Text<'_>>| {
            field.map(|text| text.0.into_owned()).ok_or_else(missing)
        };
        match (kind, &self.kind) {
            ("text_delta", BlockKind::Text) => {
                let text = text_of(delta.text)?;
                self.grown.push_str(&text);
                let bytes = text.len();
                Ok(Grown::output(
                    bytes,
                    (bytes > 0).then_some(ModelEvent::TextDelta { index, text }),
                ))
            }
            ("thinking_delta", BlockKind::Thinking) => {
                let text = text_of(delta.thinking)?;
                self.grown.push_str(&text);
                let bytes = text.len();
                Ok(Grown::output(
                    bytes,
                    (bytes > 0).then_some(ModelEvent::ThinkingDelta { index, text }),
                ))
            }
            ("input_json_delta", BlockKind::ToolCall { .. } | BlockKind::ServerToolCall) => {
                let fragment = delta.partial_json.ok_or_else(missing)?;
                let fragment = fragment.as_str();
                if self.grown.len() + fragment.len() > MAX_TOOL_INPUT_BYTES {
                    self.is_overlong = true;
                } else {
                    self.grown.push_str(fragment);
                }
                Ok(Grown::output(fragment.len(), None))
            }
            ("signature_delta", BlockKind::Thinking) => {
                let signature = text_of(delta.signature)?;
                let kept_bytes = signature.len();
                self.signature = Some(signature);
                Ok(Grown {
                    kept_bytes,
                    ..Grown::default()
                })
            }
            ("citations_delta", BlockKind::Text) => {
                let citation = delta.citation.ok_or_else(missing)?.get();
                self.citations.push(citation.into());
                Ok(Grown {
                    kept_bytes: citation.len(),
                    ..Grown::default()
                })
            }
            (
                "text_delta" | "thinking_delta" | "input_json_delta" | "signature_delta"
                | "citations_delta",
                _,
            ) => Err(Broken::protocol(format!(
                "block {index} got a `{kind}` that belongs to another kind of block"
            ))),
            _ => Ok(Grown::default()),
        }
    }

    /// Closes the block.
    pub(super) fn finish(self) -> Result<Block, Broken> {
        let raw =
            |replaced: &[(&str, Replacement<'_>)]| rebuild(&self.start, replaced).map(Arc::from);
        let wrap = |error: serde_json::Error| {
            Broken::protocol(format!(
                "block {} cannot be sent back as it came: {error}",
                self.index
            ))
        };
        match &self.kind {
            BlockKind::Whole(view) => Ok(Block {
                raw: self.start.into(),
                view: view.clone(),
            }),
            BlockKind::Fallback => Ok(Block {
                raw: self.start.into(),
                view: BlockView::Opaque,
            }),
            BlockKind::Text => {
                let citations = self.all_citations();
                let mut replaced = vec![("text", Replacement::Text(&self.grown))];
                replaced.extend(
                    citations
                        .as_deref()
                        .map(|list| ("citations", Replacement::Raw(list))),
                );
                let raw = raw(&replaced).map_err(wrap)?;
                Ok(Block {
                    raw,
                    view: BlockView::Text(self.grown.into()),
                })
            }
            BlockKind::Thinking => {
                let mut replaced = vec![("thinking", Replacement::Text(&self.grown))];
                replaced.extend(
                    self.signature
                        .as_deref()
                        .map(|text| ("signature", Replacement::Text(text))),
                );
                let raw = raw(&replaced).map_err(wrap)?;
                Ok(Block {
                    raw,
                    view: BlockView::Thinking(self.grown.into()),
                })
            }
            BlockKind::ServerToolCall => {
                let input = if is_object(&self.grown) {
                    &self.grown
                } else {
                    EMPTY_OBJECT
                };
                let replaced = [("input", Replacement::Raw(input))];
                let kept: &[_] = if self.grown.is_empty() {
                    &[]
                } else {
                    &replaced
                };
                Ok(Block {
                    raw: raw(kept).map_err(wrap)?,
                    view: BlockView::Opaque,
                })
            }
            BlockKind::ToolCall { id, tool } => {
                let input = self.tool_input();
                // The wire takes nothing but an object; what was wrong with the input is told in the result.
                let sent = match &input {
                    ToolInput::Object(text) => text,
                    ToolInput::Invalid(_) => EMPTY_OBJECT,
                };
                let raw = raw(&[("input", Replacement::Raw(sent))]).map_err(wrap)?;
                let call = ToolCallBlock {
                    id: id.clone(),
                    tool: tool.clone(),
                    input,
                };
                Ok(Block {
                    raw,
                    view: BlockView::ToolCall(call),
                })
            }
        }
    }

    /// The input: what the deltas spelled or, without any, what the start object held.
    fn tool_input(&self) -> ToolInput {
        let placeholder: Option<BlockStart<'_>> = serde_json::from_str(&self.start).ok();
        let text = if self.grown.is_empty() {
            placeholder
                .and_then(|start| start.input)
                .map_or(EMPTY_OBJECT, RawValue::get)
        } else {
            &self.grown
        };
        if !self.is_overlong && check_tool_input(text).is_ok() {
            ToolInput::Object(text.into())
        } else {
            ToolInput::Invalid(text[..text.floor_char_boundary(MAX_INVALID_INPUT_BYTES)].into())
        }
    }

    /// The citations of the start object and those that came after it; `None` if none came.
    fn all_citations(&self) -> Option<String> {
        if self.citations.is_empty() {
            return None;
        }
        let start: Option<BlockStart<'_>> = serde_json::from_str(&self.start).ok();
        let first: Vec<&RawValue> = start
            .and_then(|start| lenient(start.citations))
            .unwrap_or_default();
        let all = first
            .into_iter()
            .map(RawValue::get)
            .chain(self.citations.iter().map(|citation| &**citation));
        Some(format!("[{}]", all.collect::<Vec<_>>().join(",")))
    }
}

impl Grown {
    fn output(bytes: usize, event: Option<ModelEvent>) -> Self {
        Self {
            event,
            output_bytes: bytes,
            kept_bytes: bytes,
        }
    }
}

const EMPTY_OBJECT: &str = "{}";

/// A new value of a field.
enum Replacement<'a> {
    Text(&'a str),
    Raw(&'a str),
}

/// The object with some fields replaced, or added at its end if it did not have them.
fn rebuild(
    object: &str,
    replaced: &[(&str, Replacement<'_>)],
) -> Result<String, serde_json::Error> {
    let Fields(fields) = serde_json::from_str(object)?;
    let grown = replaced.iter().map(|(_, value)| match value {
        Replacement::Text(text) | Replacement::Raw(text) => text.len() + 16,
    });
    let mut out = String::with_capacity(object.len() + grown.sum::<usize>());
    let push = |out: &mut String, name: &str, value: &Replacement<'_>| {
        push_key(out, name);
        match value {
            Replacement::Text(text) => push_string(out, text),
            Replacement::Raw(text) => out.push_str(text),
        }
    };
    out.push('{');
    for (key, value) in &fields {
        match replaced.iter().find(|(name, _)| *name == key.as_str()) {
            Some((name, value)) => push(&mut out, name, value),
            None => push(&mut out, key.as_str(), &Replacement::Raw(value.get())),
        }
    }
    for (name, value) in replaced {
        if !fields.iter().any(|(key, _)| key.as_str() == *name) {
            push(&mut out, name, value);
        }
    }
    out.push('}');
    Ok(out)
}
