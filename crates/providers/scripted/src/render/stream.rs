//! A reply as server-sent events, in the exact order of the protocol.

use std::io::Write as _;
use std::time::Duration;

use serde_json::Value as Json;

use super::{Envelope, EventMark, Wire, json_optional, json_text, json_value};
use crate::compose::{Reply, ReplyBlock, ReplyKind};
use crate::script::{Chunk, Stop, WireUsage};
use otto_core::model::Usage;

/// Writes the events of a reply.
pub(crate) fn stream(reply: &Reply<'_>, envelope: &Envelope<'_>) -> Wire {
    let mut writer = StreamWriter {
        wire: Wire::default(),
        tokens: 0,
    };
    writer.wire.bytes.reserve(2_048);
    writer.message_start(envelope);
    for (index, block) in reply.blocks.iter().enumerate() {
        writer.block(index, block);
    }
    writer.message_end(reply, envelope);
    writer.wire
}

struct StreamWriter {
    wire: Wire,
    /// Output tokens so far.
    tokens: u64,
}

macro_rules! put {
    ($out:expr, $($text:tt)*) => {
        write!($out, $($text)*).expect("writing to a vector cannot fail")
    };
}

impl StreamWriter {
    fn event(&mut self, name: &'static str, wait: Duration, data: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.wire.bytes;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        data(out);
        out.extend_from_slice(b"\n\n");
        self.wire.events.push(EventMark {
            name,
            end: out.len(),
            wait,
            tokens: self.tokens,
        });
    }

    fn message_start(&mut self, envelope: &Envelope<'_>) {
        self.event("message_start", Duration::ZERO, |out| {
            put!(out, r#"{{"type":"message_start","message":{{"id":"{}","type":"message","role":"assistant","model":"#, envelope.message_id);
            json_text(envelope.model, out);
            out.extend_from_slice(br#","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null"#);
            // The count of what is still to be written is not known yet: the vendor sends a small placeholder.
            let first = Usage { output_tokens: envelope.usage.output_tokens.min(1), ..envelope.usage };
            start_usage(&first, envelope, out);
            out.extend_from_slice(b"}}");
        });
    }

    fn block(&mut self, index: usize, block: &ReplyBlock<'_>) {
        let before = self.tokens;
        let shape = block.shape;
        self.event("content_block_start", shape.delay, |out| {
            put!(
                out,
                r#"{{"type":"content_block_start","index":{index},"content_block":"#
            );
            start_block(&block.kind, out);
            out.push(b'}');
        });
        if index == 0 {
            // With a blank, as the vendor writes it.
            self.event("ping", Duration::ZERO, |out| {
                out.extend_from_slice(br#"{"type": "ping"}"#)
            });
        }
        match &block.kind {
            ReplyKind::Text(text) => self.deltas(index, block, "text_delta", "text", text),
            ReplyKind::Thinking { text, signature } => {
                self.deltas(index, block, "thinking_delta", "thinking", text);
                self.tokens = before + block.tokens;
                self.delta(
                    index,
                    Duration::ZERO,
                    "signature_delta",
                    "signature",
                    signature,
                );
            }
            ReplyKind::ToolUse { input, .. } => {
                self.delta(
                    index,
                    Duration::ZERO,
                    "input_json_delta",
                    "partial_json",
                    "",
                );
                // A call without arguments sends nothing but the empty fragment.
                if input != "{}" {
                    self.deltas(index, block, "input_json_delta", "partial_json", input);
                }
            }
            ReplyKind::RedactedThinking { .. } | ReplyKind::Raw(_) => {}
        }
        self.tokens = before + block.tokens;
        self.event("content_block_stop", Duration::ZERO, |out| {
            put!(out, r#"{{"type":"content_block_stop","index":{index}}}"#);
        });
    }

    fn deltas(
        &mut self,
        index: usize,
        block: &ReplyBlock<'_>,
        kind: &str,
        field: &str,
        text: &str,
    ) {
        let before = self.tokens;
        let mut sent = 0;
        let pieces = Pieces {
            rest: text,
            chunk: block.shape.chunk,
        };
        for (position, piece) in pieces.enumerate() {
            sent += piece.len();
            let share = u128::from(block.tokens) * sent as u128 / text.len().max(1) as u128;
            self.tokens = before + u64::try_from(share).unwrap_or(block.tokens);
            let wait = if position == 0 {
                Duration::ZERO
            } else {
                block.shape.pace
            };
            self.delta(index, wait, kind, field, piece);
        }
    }

    fn delta(&mut self, index: usize, wait: Duration, kind: &str, field: &str, text: &str) {
        self.event("content_block_delta", wait, |out| {
            put!(out, r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":"#);
            json_text(text, out);
            out.extend_from_slice(b"}}");
        });
    }

    fn message_end(&mut self, reply: &Reply<'_>, envelope: &Envelope<'_>) {
        let last = envelope.message_deltas.max(1);
        for number in 1..=last {
            self.tokens = envelope.usage.output_tokens;
            self.event("message_delta", Duration::ZERO, |out| {
                out.extend_from_slice(br#"{"type":"message_delta","delta":{"#);
                if number == last {
                    stop_fields(&reply.stop, out);
                }
                out.push(b'}');
                // Counts are cumulative: an earlier delta has a part of what the last one has.
                let output = envelope.usage.output_tokens * number as u64 / last as u64;
                end_usage(
                    &Usage {
                        output_tokens: output,
                        ..envelope.usage
                    },
                    reply.thinking_tokens,
                    envelope.wire_usage,
                    out,
                );
                out.push(b'}');
            });
        }
        self.event("message_stop", Duration::ZERO, |out| {
            out.extend_from_slice(br#"{"type":"message_stop"}"#)
        });
    }
}

/// The block as it is before any delta.
fn start_block(kind: &ReplyKind, out: &mut Vec<u8>) {
    match kind {
        ReplyKind::Text(_) => out.extend_from_slice(br#"{"type":"text","text":""}"#),
        ReplyKind::Thinking { .. } => {
            out.extend_from_slice(br#"{"type":"thinking","thinking":"","signature":""}"#)
        }
        ReplyKind::RedactedThinking { data } => {
            out.extend_from_slice(br#"{"type":"redacted_thinking","data":"#);
            json_text(data, out);
            out.push(b'}');
        }
        ReplyKind::ToolUse { id, name, .. } => tool_use(id, name, "{}", out),
        ReplyKind::Raw(json) => out.extend_from_slice(json.as_bytes()),
    }
}

/// A `tool_use` block with this input.
pub(super) fn tool_use(id: &str, name: &str, input: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"tool_use","id":"#);
    json_text(id, out);
    out.extend_from_slice(br#","name":"#);
    json_text(name, out);
    put!(out, r#","input":{input},"caller":{{"type":"direct"}}}}"#);
}

/// The stop reason and what belongs to it.
pub(super) fn stop_fields(stop: &Stop, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""stop_reason":"#);
    json_text(&stop.reason, out);
    out.extend_from_slice(br#","stop_sequence":"#);
    json_optional(stop.sequence.as_deref(), out);
    out.extend_from_slice(br#","stop_details":"#);
    if stop.reason == "refusal" {
        out.extend_from_slice(br#"{"type":"refusal","category":"#);
        json_optional(stop.category.as_deref(), out);
        out.extend_from_slice(br#","explanation":"#);
        json_optional(stop.explanation.as_deref(), out);
        out.push(b'}');
    } else {
        out.extend_from_slice(b"null");
    }
}

/// The usage of `message_start` and of a whole message: with the split of cache writes.
pub(super) fn start_usage(usage: &Usage, envelope: &Envelope<'_>, out: &mut Vec<u8>) {
    wire_usage(envelope.wire_usage, out, |out| {
        let written = usage
            .cache_write_5m_tokens
            .saturating_add(usage.cache_write_1h_tokens);
        put!(
            out,
            r#""input_tokens":{},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":{}}},"output_tokens":{},"service_tier":"standard","inference_geo":"{}""#,
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.output_tokens,
            envelope.geo,
        );
        if envelope.fast {
            out.extend_from_slice(br#","speed":"fast""#);
        }
    });
}

/// The cumulative usage of a `message_delta`.
fn end_usage(usage: &Usage, thinking: u64, change: &WireUsage, out: &mut Vec<u8>) {
    wire_usage(change, out, |out| {
        let written = usage
            .cache_write_5m_tokens
            .saturating_add(usage.cache_write_1h_tokens);
        put!(
            out,
            r#""input_tokens":{},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{},"output_tokens":{},"output_tokens_details":{{"thinking_tokens":{}}}"#,
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.output_tokens,
            thinking.min(usage.output_tokens),
        );
    });
}

/// Appends `,"usage":{...}` as the script wants it to look.
fn wire_usage(change: &WireUsage, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    match change {
        WireUsage::Missing => {}
        WireUsage::True => {
            out.extend_from_slice(br#","usage":{"#);
            fields(out);
            out.push(b'}');
        }
        WireUsage::Changed(changes) => {
            let mut text = vec![b'{'];
            fields(&mut text);
            text.push(b'}');
            let mut usage: Json = serde_json::from_slice(&text).expect("written here as JSON");
            if let Json::Object(map) = &mut usage {
                map.extend(changes.iter().cloned());
            }
            out.extend_from_slice(br#","usage":"#);
            json_value(&usage, out);
        }
    }
}

/// The pieces of a text, each a delta.
struct Pieces<'t> {
    rest: &'t str,
    chunk: Chunk,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = match self.chunk {
            Chunk::Whole => self.rest.len(),
            // A text of fewer bytes has fewer characters.
            Chunk::Characters(count) if self.rest.len() <= count => self.rest.len(),
            Chunk::Characters(count) => self
                .rest
                .char_indices()
                .nth(count)
                .map_or(self.rest.len(), |(at, _)| at),
            Chunk::Words => {
                let word = self
                    .rest
                    .find(char::is_whitespace)
                    .unwrap_or(self.rest.len());
                self.rest[word..]
                    .find(|c: char| !c.is_whitespace())
                    .map_or(self.rest.len(), |blanks| word + blanks)
            }
        };
        // A text that begins with blanks has no word before them.
        let end = if end == 0 {
            self.rest.chars().next().map_or(0, char::len_utf8)
        } else {
            end
        };
        let (piece, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(piece)
    }
}

/// A stream that a script holds byte by byte, with the usage it reports.
pub(crate) fn raw_stream(text: &str) -> (Wire, Option<Usage>) {
    let mut wire = Wire {
        bytes: text.as_bytes().to_vec(),
        events: Vec::new(),
    };
    let mut usage: Option<Usage> = None;
    let mut end = 0;
    for event in text.split_inclusive("\n\n") {
        end += event.len();
        let data = event
            .lines()
            .find_map(|line| line.strip_prefix("data:"))
            .and_then(|data| serde_json::from_str::<Json>(data).ok());
        let kind = data.as_ref().and_then(|data| data.get("type")?.as_str());
        let name = match kind {
            Some("message_start") => "message_start",
            Some("content_block_start") => "content_block_start",
            Some("content_block_delta") => "content_block_delta",
            Some("content_block_stop") => "content_block_stop",
            Some("message_delta") => "message_delta",
            Some("message_stop") => "message_stop",
            Some("ping") => "ping",
            _ => "other",
        };
        if let Some(reported) = data
            .as_ref()
            .and_then(|data| data.pointer("/message/usage").or_else(|| data.get("usage")))
        {
            merge(usage.get_or_insert_default(), reported);
        }
        wire.events.push(EventMark {
            name,
            end,
            wait: Duration::ZERO,
            tokens: usage.map_or(0, |usage| usage.output_tokens),
        });
    }
    (wire, usage)
}

/// Overwrites what a usage object of the wire says.
fn merge(usage: &mut Usage, reported: &Json) {
    let tokens = |pointer: &str| reported.pointer(pointer).and_then(Json::as_u64);
    let set = |field: &mut u64, pointer: &str| *field = tokens(pointer).unwrap_or(*field);
    set(&mut usage.input_tokens, "/input_tokens");
    set(&mut usage.output_tokens, "/output_tokens");
    set(&mut usage.cache_read_tokens, "/cache_read_input_tokens");
    set(
        &mut usage.cache_write_5m_tokens,
        "/cache_creation/ephemeral_5m_input_tokens",
    );
    set(
        &mut usage.cache_write_1h_tokens,
        "/cache_creation/ephemeral_1h_input_tokens",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_text() {
        let text = "  Two words, ünïcödé 🦦 and\nlines ";
        for chunk in [
            Chunk::Whole,
            Chunk::Words,
            Chunk::Characters(1),
            Chunk::Characters(7),
            Chunk::Characters(1_000),
        ] {
            let pieces: Vec<&str> = Pieces { rest: text, chunk }.collect();
            assert_eq!(pieces.concat(), text, "{chunk:?}");
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
        let words: Vec<&str> = Pieces {
            rest: "a bc  d",
            chunk: Chunk::Words,
        }
        .collect();
        assert_eq!(words, ["a ", "bc  ", "d"]);
    }
}
