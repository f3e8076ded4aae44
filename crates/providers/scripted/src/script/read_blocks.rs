//! Reading the blocks of a turn.

use std::time::Duration;

use super::fields::{Fields, listed};
use super::node::{Node, Value};
use super::read::{NAME_RULE, Reader, is_name, read_chunk};
use super::{Block, BlockKind, Chunk, ToolCall, ToolInput};
use crate::expr::JsonTemplate;
use crate::limits;
use crate::place::Place;

const BLOCK_KEYS: &[&str] = &["text", "thinking", "tool", "raw", "delay", "pace", "chunk"];
const KINDS: &[&str] = &["text", "thinking", "tool", "raw"];
const TOOL_KEYS: &[&str] = &[
    "name",
    "input",
    "input_text",
    "as",
    "for_each",
    "limit",
    "ascii",
    "delay",
    "pace",
    "chunk",
];
const THINKING_KEYS: &[&str] = &["text", "tokens", "redacted"];

impl Chunk {
    /// What a turn gets that does not say: pieces about as long as the vendor's.
    pub(super) const DEFAULT: Self = Self::Characters(48);
}

/// Timing and cutting of a block, as its turn sets them.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) delay: Duration,
    pub(super) pace: Duration,
    pub(super) chunk: Chunk,
}

impl Shape {
    /// The shape with what these fields say of it.
    fn with(self, fields: &Fields<'_>, place: &Place<'_>, reader: &mut Reader<'_>) -> Self {
        let mut duration = |key| {
            fields
                .optional(key)
                .and_then(|node| reader.problems.duration(node, &place.key(key)))
        };
        let (delay, pace) = (duration("delay"), duration("pace"));
        let chunk = fields
            .optional("chunk")
            .and_then(|node| read_chunk(node, &place.key("chunk"), reader.problems));
        Self {
            delay: delay.unwrap_or(self.delay),
            pace: pace.unwrap_or(self.pace),
            chunk: chunk.unwrap_or(self.chunk),
        }
    }

    fn block(self, kind: BlockKind) -> Block {
        Block {
            kind,
            delay: self.delay,
            pace: self.pace,
            chunk: self.chunk,
        }
    }
}

/// The blocks of a turn: `blocks`, or the short form `thinking`, `text`, `tool` or `tools`, in this order.
pub(super) fn read_blocks(
    fields: &Fields<'_>,
    place: &Place<'_>,
    shape: Shape,
    reader: &mut Reader<'_>,
) -> Vec<Block> {
    let short = fields.present(&["thinking", "text", "tool", "tools"]);
    if let Some(list) = fields.optional("blocks") {
        if let Some(key) = short.first() {
            reader.problems.add(
                list,
                place,
                format!("`blocks` is the long form: move `{key}` into it"),
            );
        }
        let place = place.key("blocks");
        let list = reader.problems.list(list, &place, limits::BLOCKS, "blocks");
        return list
            .iter()
            .enumerate()
            .filter_map(|(index, node)| read_block(node, &place.at(index), shape, reader))
            .collect();
    }
    let mut blocks = Vec::new();
    for key in short {
        let Some(node) = fields.optional(key) else {
            continue;
        };
        let place = place.key(key);
        match key {
            "thinking" => {
                blocks.extend(read_thinking(node, &place, reader).map(|kind| shape.block(kind)))
            }
            "text" => blocks.extend(
                reader
                    .template(node, &place, false)
                    .map(|text| shape.block(BlockKind::Text(text))),
            ),
            "tool" => blocks.extend(read_tool(node, &place, shape, reader)),
            _ => {
                let list = reader
                    .problems
                    .list(node, &place, limits::BLOCKS, "tool calls");
                blocks.extend(
                    list.iter().enumerate().filter_map(|(index, node)| {
                        read_tool(node, &place.at(index), shape, reader)
                    }),
                );
            }
        }
    }
    blocks
}

fn read_block(
    node: &Node,
    place: &Place<'_>,
    shape: Shape,
    reader: &mut Reader<'_>,
) -> Option<Block> {
    let fields = reader.problems.fields(node, place, BLOCK_KEYS)?;
    let shape = shape.with(&fields, place, reader);
    let present = fields.present(KINDS);
    let [kind] = present.as_slice() else {
        reader.problems.add(
            node,
            place,
            format!(
                "expected exactly one of {}, found {}",
                listed(KINDS),
                match present.as_slice() {
                    [] => "none".to_owned(),
                    several => listed(several).replace(" or ", " and "),
                }
            ),
        );
        return None;
    };
    let value = fields.optional(kind)?;
    let place = place.key(kind);
    match *kind {
        "text" => Some(shape.block(BlockKind::Text(reader.template(value, &place, false)?))),
        "thinking" => Some(shape.block(read_thinking(value, &place, reader)?)),
        "tool" => read_tool(value, &place, shape, reader),
        _ => read_raw(value, &place, reader).map(|kind| shape.block(kind)),
    }
}

/// `thinking: text`, or a mapping with `text`, `tokens` and `redacted`.
fn read_thinking(node: &Node, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<BlockKind> {
    if matches!(node.value, Value::Text(_)) {
        return Some(BlockKind::Thinking {
            text: reader.template(node, place, false)?,
            tokens: None,
            redacted: false,
        });
    }
    let fields = reader.problems.fields(node, place, THINKING_KEYS)?;
    let Some(text) = fields.optional("text") else {
        reader.problems.add(node, place, "`thinking` needs `text`");
        return None;
    };
    let text = reader.template(text, &place.key("text"), false);
    let tokens = fields.optional("tokens").and_then(|node| {
        reader
            .problems
            .number(node, &place.key("tokens"), 0, 1_000_000)
    });
    let redacted = fields
        .optional("redacted")
        .and_then(|node| reader.problems.truth(node, &place.key("redacted")));
    Some(BlockKind::Thinking {
        text: text?,
        tokens,
        redacted: redacted.unwrap_or(false),
    })
}

fn read_raw(node: &Node, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<BlockKind> {
    let has_type = matches!(&node.value, Value::Map(entries) if entries.iter().any(|(key, _)| key.name == "type"));
    if !has_type {
        reader
            .problems
            .wrong(node, place, "a content block: a mapping with `type`");
        return None;
    }
    reader.json(node, place, false).map(BlockKind::Raw)
}

fn read_tool(
    node: &Node,
    place: &Place<'_>,
    shape: Shape,
    reader: &mut Reader<'_>,
) -> Option<Block> {
    let fields = reader.problems.fields(node, place, TOOL_KEYS)?;
    let shape = shape.with(&fields, place, reader);
    let name = match fields.optional("name") {
        Some(name) => reader.problems.text(name, &place.key("name")),
        None => {
            reader.problems.add(node, place, "a tool call needs `name`");
            None
        }
    };
    let for_each = fields.optional("for_each");
    let expr = for_each.and_then(|node| reader.expr(node, &place.key("for_each")));
    let limit = fields.optional("limit").map(|node| {
        if for_each.is_none() {
            reader
                .problems
                .add(node, place, "`limit` bounds a `for_each`, which is missing");
        }
        reader
            .problems
            .count(node, &place.key("limit"), 1, limits::FOR_EACH)
            .unwrap_or(limits::FOR_EACH)
    });
    let input = read_input(&fields, place, for_each.is_some(), reader);
    let ascii = fields
        .optional("ascii")
        .and_then(|node| reader.problems.truth(node, &place.key("ascii")));
    let label = fields.optional("as").map(|node| {
        let label = reader
            .problems
            .text(node, &place.key("as"))
            .unwrap_or_default();
        if !label.is_empty() && !is_name(label) {
            reader.problems.add(node, &place.key("as"), NAME_RULE);
        }
        label.to_owned()
    });
    let name = crate::wire_name(name?).into_owned();
    if for_each.is_some() && expr.is_none() {
        return None;
    }
    Some(shape.block(BlockKind::Tool(ToolCall {
        label: label.unwrap_or_else(|| name.clone()),
        name,
        input: input?,
        ascii: ascii.unwrap_or(false),
        for_each: expr,
        limit: limit.unwrap_or(limits::FOR_EACH),
    })))
}

fn read_input(
    fields: &Fields<'_>,
    place: &Place<'_>,
    in_for_each: bool,
    reader: &mut Reader<'_>,
) -> Option<ToolInput> {
    match (fields.optional("input"), fields.optional("input_text")) {
        (None, None) => Some(ToolInput::Json(JsonTemplate::Fixed("{}".to_owned()))),
        (
            Some(
                node @ Node {
                    value: Value::Map(_),
                    ..
                },
            ),
            None,
        ) => reader
            .json(node, &place.key("input"), in_for_each)
            .map(ToolInput::Json),
        (Some(node), None) => {
            reader.problems.wrong(
                node,
                &place.key("input"),
                "a mapping (for anything else use `input_text`)",
            );
            None
        }
        (None, Some(node)) => reader
            .template(node, &place.key("input_text"), in_for_each)
            .map(ToolInput::Text),
        (Some(node), Some(_)) => {
            reader.problems.add(
                node,
                place,
                "expected either `input` or `input_text`, found both",
            );
            None
        }
    }
}
