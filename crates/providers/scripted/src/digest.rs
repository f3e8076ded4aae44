//! What a prompt's prefix *is*: a chain of hashes over its blocks.
//!
//! Two prefixes are the same when their blocks are, whatever their cache markers, the order of keys in JSON
//! objects, absent against `null` fields, and a text written as a string or as one block. The chain is used
//! for the prompt cache, for signatures of thinking, and to recognise a repeated request.
//!
//! Invariant: equal digests mean equal prefixes (up to the strength of a 128-bit hash).

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::request::{BlockKind, Role, Tool};

/// The hash of everything up to a block.
pub(crate) type Digest = [u8; 16];

/// A chain of digests, one per block.
pub(crate) struct Chain {
    digest: Digest,
    scratch: Vec<u8>,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self {
            digest: [0; 16],
            scratch: Vec::new(),
        }
    }

    /// The digest of all blocks so far.
    pub(crate) const fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn tool(&mut self, tool: &Tool<'_>) {
        self.link(|out| {
            out.push(b'T');
            let Json::Object(map) = tool.json else { return };
            write_object(map, out, |key| key != "cache_control", write_exact);
        });
    }

    pub(crate) fn system(&mut self, text: &str) {
        self.link(|out| {
            out.push(b'S');
            write_text(text, out);
        });
    }

    pub(crate) fn block(&mut self, role: Role, kind: &BlockKind<'_>) {
        self.link(|out| {
            out.push(match role {
                Role::User => b'u',
                Role::Assistant => b'a',
                Role::System => b's',
            });
            write_block(kind, out);
        });
    }

    /// A block of the turn that is being written now.
    pub(crate) fn written_text(&mut self, text: &str) {
        self.block(Role::Assistant, &BlockKind::Text(text));
    }

    fn link(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.digest);
        write(&mut self.scratch);
        self.digest = short_hash(&self.scratch);
    }
}

/// The first half of a SHA-256.
pub(crate) fn short_hash(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    digest
}

/// A number from a hash of `bytes`.
pub(crate) fn hash_number(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = short_hash(bytes);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn write_block(kind: &BlockKind<'_>, out: &mut Vec<u8>) {
    match kind {
        BlockKind::Text(text) => {
            out.push(b't');
            write_text(text, out);
        }
        BlockKind::ToolUse { id, name, input } => {
            out.push(b'c');
            write_text(id, out);
            write_text(name, out);
            write_exact(input, out);
        }
        BlockKind::ToolResult {
            id,
            content,
            is_error,
        } => {
            out.push(b'r');
            out.push(u8::from(*is_error));
            write_text(id, out);
            match content {
                None => {}
                // A string and one text block are the same.
                Some(Json::String(text)) if text.is_empty() => {}
                Some(Json::String(text)) => write_text_part(text, out),
                Some(Json::Array(parts)) => {
                    for part in parts {
                        match (
                            part.get("type").and_then(Json::as_str),
                            part.get("text").and_then(Json::as_str),
                        ) {
                            (Some("text"), Some(text)) => write_text_part(text, out),
                            _ => write_loose(part, out),
                        }
                    }
                }
                Some(other) => write_loose(other, out),
            }
        }
        BlockKind::Thinking { text, signature } => {
            out.push(b'k');
            write_text(text, out);
            write_text(signature, out);
        }
        BlockKind::RedactedThinking { data } => {
            out.push(b'x');
            write_text(data, out);
        }
        BlockKind::Other { json, .. } => {
            out.push(b'o');
            write_loose(json, out);
        }
    }
}

fn write_text_part(text: &str, out: &mut Vec<u8>) {
    out.push(b'p');
    write_text(text, out);
}

/// A text with its length, so that two texts cannot be taken for two others with the same concatenation.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A value as it is, but for the order of keys.
fn write_exact(value: &Json, out: &mut Vec<u8>) {
    write_value(value, out, |_| true);
}

/// A value without cache markers and empty fields.
fn write_loose(value: &Json, out: &mut Vec<u8>) {
    write_value(value, out, |key| key != "cache_control");
}

fn write_value(value: &Json, out: &mut Vec<u8>, keep: fn(&str) -> bool) {
    match value {
        Json::Null => out.push(b'n'),
        Json::Bool(value) => out.push(if *value { b'1' } else { b'0' }),
        Json::Number(number) => {
            out.push(b'#');
            write_text(&number.to_string(), out);
        }
        Json::String(text) => {
            out.push(b'"');
            write_text(text, out);
        }
        Json::Array(list) => {
            out.push(b'[');
            for entry in list {
                write_value(entry, out, keep);
            }
            out.push(b']');
        }
        // JSON from a body is at most 128 levels deep, so this recursion is bounded.
        Json::Object(map) => {
            write_object(map, out, keep, |value, out| write_value(value, out, keep))
        }
    }
}

fn write_object(
    map: &serde_json::Map<String, Json>,
    out: &mut Vec<u8>,
    keep: impl Fn(&str) -> bool,
    write: impl Fn(&Json, &mut Vec<u8>),
) {
    out.push(b'{');
    // Sorted here and not by trusting the map: whether it sorts is a feature any crate of the build may flip.
    let mut entries: Vec<(&String, &Json)> = map
        .iter()
        .filter(|(key, value)| keep(key) && !value.is_null())
        .collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in entries {
        write_text(key, out);
        write(value, out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &Json) -> Digest {
        let mut chain = Chain::new();
        chain.block(
            Role::User,
            &BlockKind::Other {
                name: "image",
                json,
            },
        );
        chain.digest()
    }

    #[test]
    fn markers_null_fields_and_key_order_do_not_count() {
        let plain: Json =
            serde_json::from_str(r#"{"type":"image","source":{"a":1,"b":2}}"#).unwrap();
        let marked: Json =
            serde_json::from_str(r#"{"source":{"b":2,"a":1},"x":null,"type":"image","cache_control":{"type":"ephemeral"}}"#).unwrap();
        let other: Json =
            serde_json::from_str(r#"{"type":"image","source":{"a":1,"b":3}}"#).unwrap();
        assert_eq!(digest(&plain), digest(&marked));
        assert_ne!(digest(&plain), digest(&other));
    }

    #[test]
    fn a_string_result_equals_one_text_block() {
        let of = |content: Json| {
            let mut chain = Chain::new();
            chain.block(
                Role::User,
                &BlockKind::ToolResult {
                    id: "a",
                    content: Some(&content),
                    is_error: false,
                },
            );
            chain.digest()
        };
        assert_eq!(
            of("hi".into()),
            of(serde_json::json!([{"type": "text", "text": "hi"}]))
        );
        assert_ne!(
            of("hi".into()),
            of(serde_json::json!([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]))
        );
    }

    #[test]
    fn order_matters() {
        let chain = |texts: [&str; 2]| {
            let mut chain = Chain::new();
            texts
                .iter()
                .for_each(|text| chain.block(Role::User, &BlockKind::Text(text)));
            chain.digest()
        };
        assert_ne!(chain(["a", "b"]), chain(["b", "a"]));
        assert_ne!(chain(["ab", ""]), chain(["a", "b"]));
    }
}
