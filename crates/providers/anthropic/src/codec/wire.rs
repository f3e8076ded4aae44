//! The JSON shapes of the stream, as borrowed structs.
//!
//! One event is parsed once, flat, without an intermediate tree: the fields that all event types use
//! together are few, and text without escapes is borrowed from the network's bytes. Fields that are read
//! rarely, or that must not fail the event when they are strange, stay raw and are parsed on their own.
//!
//! Invariant: nothing here recurses on the depth of its input.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string, borrowed unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Any event of the stream.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(default)]
    pub index: Option<u32>,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

/// The `delta` of `content_block_delta` and of `message_delta`.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub partial_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub stop_details: Option<&'a RawValue>,
}

/// What an event says of its type, read when [`Event`] did not fit: an unknown type may use known names for
/// other things.
#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub delta: Option<&'a RawValue>,
}

/// The `message` of `message_start`.
#[derive(Debug, Deserialize)]
pub(super) struct MessageStart<'a> {
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

/// The `content_block` of `content_block_start`.
#[derive(Debug, Deserialize)]
pub(super) struct BlockStart<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub citations: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

/// The `stop_details` of a refusal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StopDetails<'a> {
    #[serde(borrow, default)]
    pub category: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub explanation: Option<Text<'a>>,
}

/// A token counter. Whatever is not a whole number of tokens is as good as missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Count {
    /// Not there, or null.
    #[default]
    Absent,
    /// A number of tokens.
    Tokens(u64),
    /// Negative, a fraction, above 2^64, a text, a list, an object.
    Nonsense,
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens")
            }

            fn visit_u64<E>(self, tokens: u64) -> Result<Count, E> {
                Ok(Count::Tokens(tokens))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count::Absent)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count::Nonsense)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
                Ok(Count::Nonsense)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count::Nonsense)
            }

            fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                Ok(Count::Nonsense)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Count, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count::Nonsense)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Count, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count::Nonsense)
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

/// A usage record.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireUsage<'a> {
    #[serde(default)]
    pub input_tokens: Count,
    #[serde(default)]
    pub output_tokens: Count,
    #[serde(default)]
    pub cache_creation_input_tokens: Count,
    #[serde(default)]
    pub cache_read_input_tokens: Count,
    #[serde(borrow, default)]
    pub cache_creation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub server_tool_use: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub inference_geo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub speed: Option<&'a RawValue>,
}

/// How cache writes divide by lifetime.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CacheCreation {
    #[serde(default)]
    pub ephemeral_5m_input_tokens: Count,
    #[serde(default)]
    pub ephemeral_1h_input_tokens: Count,
}

/// What output was made of.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OutputDetails {
    #[serde(default)]
    pub thinking_tokens: Count,
}

/// What server tools did; searches are billed apart from tokens.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ServerToolUse {
    #[serde(default)]
    pub web_search_requests: Count,
}

/// An error as the vendor writes it: the body of a failed request, and the data of an `error` event.
///
/// Every field is optional, since gateways leave some out; a body of another shape is no `ErrorBody`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.message`.
    pub message: Option<String>,
    /// `error.details.error_code`.
    pub code: Option<String>,
    /// `request_id`.
    pub request_id: Option<String>,
}

impl ErrorBody {
    /// Reads a body that has an `error` object; `None` for anything else.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            error: &'a RawValue,
            #[serde(borrow, default)]
            request_id: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Inner<'a> {
            #[serde(borrow, default, rename = "type")]
            kind: Option<&'a RawValue>,
            #[serde(borrow, default)]
            message: Option<&'a RawValue>,
            #[serde(borrow, default)]
            details: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Details<'a> {
            #[serde(borrow, default)]
            error_code: Option<&'a RawValue>,
        }
        let outer: Outer<'_> = serde_json::from_slice(json).ok()?;
        let inner: Inner<'_> = serde_json::from_str(outer.error.get()).ok()?;
        let details: Option<Details<'_>> = inner
            .details
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        Some(Self {
            kind: inner.kind.and_then(string),
            message: inner.message.and_then(string),
            code: details
                .and_then(|details| details.error_code)
                .and_then(string),
            request_id: outer.request_id.and_then(string),
        })
    }
}

/// The value as a string, if it is one.
pub(super) fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The raw value as `T`, if it has that shape.
pub(super) fn lenient<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// The fields of an object in order, each key once.
pub(super) struct Fields<'a>(pub Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                // BOUND: blocks have about five fields; a thousand is nobody's block.
                const MAX_FIELDS: usize = 1_000;
                let mut fields: Vec<(Text<'de>, &'de RawValue)> = Vec::new();
                while let Some(key) = entries.next_key::<Text<'de>>()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(de::Error::custom("too many fields"));
                    }
                    if fields.iter().any(|(known, _)| *known == key) {
                        return Err(de::Error::custom("doubled field"));
                    }
                    fields.push((key, entries.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}
