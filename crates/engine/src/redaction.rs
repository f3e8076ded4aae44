//! Redaction where content enters: model blocks, tool results, tasks, deltas.
//!
//! What the machine, the journal, listeners and artifacts get has been redacted once, here; redaction is
//! deterministic and idempotent, so a replay matches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::message::{Block, BlockView, ToolCallBlock, ToolInput};
use otto_core::redact::{Redactor, StreamRedactor};

pub(crate) fn text(redactor: &Redactor, text: &Arc<str>) -> Arc<str> {
    match redactor.redact(text) {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(redacted) => Arc::from(redacted),
    }
}

/// Redacts a model's block. A block without a secret, which is nearly every block, stays byte for byte what
/// the provider sent.
pub(crate) fn block(redactor: &Redactor, block: Arc<Block>) -> Arc<Block> {
    let raw = match redactor.redact_json(&block.raw) {
        Cow::Borrowed(_) => return block,
        Cow::Owned(raw) => Arc::from(raw),
    };
    let view = match &block.view {
        BlockView::Text(shown) => BlockView::Text(text(redactor, shown)),
        BlockView::Thinking(shown) => BlockView::Thinking(text(redactor, shown)),
        BlockView::Opaque => BlockView::Opaque,
        BlockView::ToolCall(call) => BlockView::ToolCall(ToolCallBlock {
            id: call.id.clone(),
            tool: call.tool.clone(),
            input: match &call.input {
                ToolInput::Object(json) => ToolInput::Object(Arc::from(redactor.redact_json(json))),
                ToolInput::Invalid(raw) => ToolInput::Invalid(text(redactor, raw)),
            },
        }),
    };
    Arc::new(Block { raw, view })
}

/// Redacts the deltas of one reply, held back as far as a secret may still be growing.
pub(crate) struct DeltaRedactor {
    streams: Option<Streams>,
}

struct Streams {
    redactor: Arc<Redactor>,
    text: BTreeMap<u32, StreamRedactor>,
    thinking: BTreeMap<u32, StreamRedactor>,
}

impl DeltaRedactor {
    /// A redactor for a reply somebody watches; without a listener it does nothing.
    pub(crate) fn new(redactor: &Arc<Redactor>, is_watched: bool) -> Self {
        let streams = is_watched.then(|| Streams {
            redactor: redactor.clone(),
            text: BTreeMap::new(),
            thinking: BTreeMap::new(),
        });
        Self { streams }
    }

    pub(crate) fn text(&mut self, index: u32, delta: &str) -> Option<String> {
        let streams = self.streams.as_mut()?;
        push(&mut streams.text, &streams.redactor, index, delta)
    }

    pub(crate) fn thinking(&mut self, index: u32, delta: &str) -> Option<String> {
        let streams = self.streams.as_mut()?;
        push(&mut streams.thinking, &streams.redactor, index, delta)
    }

    /// What was held back of text and thinking; called when a block or the reply has ended.
    pub(crate) fn flush(&mut self) -> (Option<String>, Option<String>) {
        let Some(streams) = &mut self.streams else {
            return (None, None);
        };
        (finish(&mut streams.text), finish(&mut streams.thinking))
    }
}

fn push(
    streams: &mut BTreeMap<u32, StreamRedactor>,
    redactor: &Arc<Redactor>,
    index: u32,
    delta: &str,
) -> Option<String> {
    let stream = streams.entry(index).or_insert_with(|| redactor.stream());
    let shown = stream.push(delta);
    (!shown.is_empty()).then_some(shown)
}

fn finish(streams: &mut BTreeMap<u32, StreamRedactor>) -> Option<String> {
    let mut rest = String::new();
    for (_, stream) in std::mem::take(streams) {
        rest.push_str(&stream.finish());
    }
    (!rest.is_empty()).then_some(rest)
}
