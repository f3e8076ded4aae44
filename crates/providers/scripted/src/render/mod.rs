//! How a reply looks on the wire: as a stream of events, or as one JSON message.
//!
//! Source: protocol reference, sections 4 and 6 (2026-11-22).

mod faulted;
mod message;
mod stream;

use std::time::Duration;

use bytes::Bytes;
use otto_core::model::Usage;
use serde_json::Value as Json;

pub(crate) use faulted::apply as apply_faults;
pub(crate) use message::message;
pub(crate) use stream::{raw_stream, stream};

use crate::script::WireUsage;

/// What the head of every reply says.
pub(crate) struct Envelope<'e> {
    pub(crate) message_id: &'e str,
    pub(crate) model: &'e str,
    pub(crate) usage: Usage,
    pub(crate) geo: &'e str,
    pub(crate) fast: bool,
    pub(crate) wire_usage: &'e WireUsage,
    /// How many `message_delta` events carry the end.
    pub(crate) message_deltas: usize,
}

/// Events as bytes, with the times between them.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<EventMark>,
}

/// One event of a [`Wire`].
#[derive(Debug, Clone)]
pub(crate) struct EventMark {
    pub(crate) name: &'static str,
    pub(crate) end: usize,
    /// Wait before the event.
    pub(crate) wait: Duration,
    /// Output tokens produced when the event is out.
    pub(crate) tokens: u64,
}

/// Bytes to be sent, when, and how the sending ends.
#[derive(Debug, Clone)]
pub(crate) struct Playback {
    pub(crate) bytes: Bytes,
    pub(crate) steps: Vec<PlayStep>,
    pub(crate) ending: Ending,
}

/// One write of a [`Playback`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlayStep {
    pub(crate) end: usize,
    pub(crate) wait: Duration,
    pub(crate) tokens: u64,
    /// Whether the write must leave on its own, before the next one.
    pub(crate) alone: bool,
}

/// How a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Whole,
    /// With a proper end of the body, though something is missing in it.
    Clean,
    /// The connection closes in the middle of the body.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more comes.
    Stall,
}

impl Playback {
    /// Everything at once.
    pub(crate) fn at_once(bytes: Vec<u8>, tokens: u64) -> Self {
        let step = PlayStep {
            end: bytes.len(),
            wait: Duration::ZERO,
            tokens,
            alone: false,
        };
        Self {
            bytes: bytes.into(),
            steps: vec![step],
            ending: Ending::Whole,
        }
    }

    /// A wire as it was written: events without a wait between them leave together.
    pub(crate) fn of(wire: Wire) -> Self {
        let mut steps: Vec<PlayStep> = Vec::new();
        for event in &wire.events {
            match steps.last_mut() {
                Some(step) if event.wait.is_zero() => {
                    step.end = event.end;
                    step.tokens = event.tokens;
                }
                _ => steps.push(PlayStep {
                    end: event.end,
                    wait: event.wait,
                    tokens: event.tokens,
                    alone: false,
                }),
            }
        }
        Self {
            bytes: wire.bytes.into(),
            steps,
            ending: Ending::Whole,
        }
    }

    /// Cuts every write into pieces of `size` bytes, `every` apart, that leave one by one.
    pub(crate) fn in_packets(mut self, size: usize, every: Duration) -> Self {
        let mut pieces = Vec::with_capacity(self.bytes.len() / size + self.steps.len());
        let mut start = 0;
        for step in &self.steps {
            let first = pieces.len();
            while start < step.end {
                let end = (start + size).min(step.end);
                let wait = if pieces.len() == first {
                    step.wait.max(every)
                } else {
                    every
                };
                pieces.push(PlayStep {
                    end,
                    wait,
                    alone: true,
                    ..*step
                });
                start = end;
            }
        }
        self.steps = pieces;
        self
    }

    /// Ends after `at` bytes.
    pub(crate) fn cut(mut self, at: usize, ending: Ending) -> Self {
        if at >= self.bytes.len() {
            self.ending = ending;
            return self;
        }
        self.bytes.truncate(at);
        if let Some(last) = self.steps.iter().position(|step| step.end >= at) {
            self.steps.truncate(last + 1);
            self.steps[last].end = at;
        }
        self.ending = ending;
        self
    }
}

/// Appends a text as a JSON string.
fn json_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing to a vector cannot fail");
}

/// Appends a JSON value.
fn json_value(value: &Json, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing to a vector cannot fail");
}

/// Appends a text or `null`.
fn json_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => json_text(text, out),
        None => out.extend_from_slice(b"null"),
    }
}
