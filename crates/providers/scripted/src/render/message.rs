//! A reply as one JSON message, for requests that do not stream.

use std::io::Write as _;

use serde_json::Value as Json;

use super::stream::{start_usage, stop_fields, tool_use};
use super::{Envelope, json_text};
use crate::compose::{Reply, ReplyKind};

/// Writes the message.
pub(crate) fn message(reply: &Reply<'_>, envelope: &Envelope<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    write!(
        out,
        r#"{{"id":"{}","type":"message","role":"assistant","model":"#,
        envelope.message_id
    )
    .expect("writing to a vector cannot fail");
    json_text(envelope.model, &mut out);
    out.extend_from_slice(br#","content":["#);
    for (index, block) in reply.blocks.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_block(&block.kind, &mut out);
    }
    out.extend_from_slice(b"],");
    stop_fields(&reply.stop, &mut out);
    start_usage(&envelope.usage, envelope, &mut out);
    out.push(b'}');
    out
}

fn write_block(kind: &ReplyKind, out: &mut Vec<u8>) {
    let mut field = |before: &str, text: &str| {
        out.extend_from_slice(before.as_bytes());
        json_text(text, out);
    };
    match kind {
        ReplyKind::Text(text) => field(r#"{"type":"text","text":"#, text),
        ReplyKind::Thinking { text, signature } => {
            field(r#"{"type":"thinking","thinking":"#, text);
            field(r#","signature":"#, signature);
        }
        ReplyKind::RedactedThinking { data } => {
            field(r#"{"type":"redacted_thinking","data":"#, data)
        }
        ReplyKind::ToolUse { id, name, input } => {
            // An input that was cut or is not JSON cannot stand in a JSON message.
            let whole = serde_json::from_str::<Json>(input).is_ok_and(|value| value.is_object());
            return tool_use(id, name, if whole { input } else { "{}" }, out);
        }
        ReplyKind::Raw(json) => return out.extend_from_slice(json.as_bytes()),
    }
    out.push(b'}');
}
