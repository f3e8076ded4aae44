//! Finished spans of work, as an exporter gets them.
//!
//! Ids are derived, not drawn: a trace is a workflow (or a task that belongs to none), so that all invocations
//! under one budget share it, and what is resumed after a crash goes on in the same trace.
//!
//! Invariant: no content of a conversation is in a span.

use std::borrow::Cow;
use std::sync::Arc;

use otto_core::Timestamp;

use crate::Ids;

/// Takes finished spans. Must return at once: it is called on the path of an invocation.
pub trait SpanSink: Send + Sync {
    /// Takes one.
    fn take(&self, span: FinishedSpan);
}

/// A piece of work with a beginning and an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSpan {
    /// The workflow, or the task if there is none.
    pub trace_id: [u8; 16],
    /// Its own id.
    pub span_id: [u8; 8],
    /// The span it belongs to.
    pub parent: Option<[u8; 8]>,
    /// Its name, by the conventions: `chat claude-haiku-4-5`.
    pub name: String,
    /// Whether it waits for somebody else.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is known of it; names from `names.rs`.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// What went wrong, in a word, if anything did.
    pub error: Option<Cow<'static, str>>,
}

/// Whether a span waits for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Otto's own work.
    Internal,
    /// A call to another service.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text.
    Text(Arc<str>),
    /// A whole number.
    Number(u64),
    /// A list of texts.
    Texts(Vec<Arc<str>>),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// The trace an invocation belongs to.
pub(crate) fn trace_of(ids: &Ids) -> [u8; 16] {
    match &ids.workflow {
        Some(workflow) => *workflow.as_bytes(),
        None => *ids.task.as_bytes(),
    }
}

/// The span of an invocation: the random half of its id.
pub(crate) fn span_of(ids: &Ids) -> [u8; 8] {
    let bytes = ids.invocation.as_bytes();
    let mut span = [0; 8];
    span.copy_from_slice(&bytes[8..]);
    span
}

/// The span of an effect of an invocation, mixed so that neighbors differ in every byte (SplitMix64).
pub(crate) fn span_of_effect(ids: &Ids, effect: u64) -> [u8; 8] {
    let mut z = u64::from_be_bytes(span_of(ids))
        .wrapping_add(effect.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    // An id of zeros means "none" on the wire.
    (z ^ (z >> 31)).max(1).to_be_bytes()
}
